//! A date and time, as written.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use toml::value::Datetime;

use crate::quantity::{show_moment, unix_seconds};

/// A date and time with an offset, such as `2027-01-31T00:00:00Z`. Kept as it was written, so that a malformed one can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment(String);

impl Moment {
    /// The moment with this text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The moment so many seconds after 1970 began.
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Self {
        Self(show_moment(seconds))
    }

    /// Seconds since 1970; `None` without an offset, before 1970, or when it is no date and time.
    #[must_use]
    pub fn seconds(&self) -> Option<u64> {
        unix_seconds(&self.0.parse().ok()?)
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// Reads text, or the date and time that TOML has of its own.
struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = Moment;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a date and time such as 2027-01-31T00:00:00Z")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Moment, E> {
        Ok(Moment::new(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Moment, A::Error> {
        let moment = Datetime::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Moment(moment.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Line {
        expires: Moment,
    }

    #[test]
    fn a_moment_is_read_from_toml_and_from_text_alike() {
        for text in [
            "expires = 2027-01-31T00:00:00Z",
            "expires = \"2027-01-31T00:00:00Z\"",
        ] {
            let line: Line = toml::from_str(text).expect(text);
            assert_eq!(line.expires.seconds(), Some(1_801_353_600), "{text}");
        }
        let line: Line =
            serde_json::from_str("{\"expires\": \"2027-01-31T00:00:00Z\"}").expect("JSON");
        assert_eq!(line.expires, Moment::from_seconds(1_801_353_600));
        assert!(toml::from_str::<Line>("expires = true").is_err());
        assert_eq!(Moment::new("next week").seconds(), None);
    }
}
