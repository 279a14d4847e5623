//! A public key as people write it, and whether it is known to be one.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wire::signature::{KeyError, PublicKey};

/// The text of a public key. To look whether it is a point of the curve, and no weak one, takes some microseconds: who looked once, as
/// it came in, does not look again whenever all is compiled. A node looks for itself before it takes a signature. Two are equal when
/// their texts are.
#[derive(Debug, Clone)]
pub struct Public {
    text: String,
    /// Whether somebody looked, and it is one.
    known: bool,
}

impl Public {
    /// A text that nobody looked at.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            known: false,
        }
    }

    /// The text itself.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The key.
    ///
    /// # Errors
    /// When it is none: looks, unless that is known.
    pub fn key(&self) -> Result<PublicKey, KeyError> {
        let key = PublicKey::from_base64(&self.text)?;
        // Of a copy: a table of many keys keeps no points that nobody asked for.
        match self.known || key.clone().point().is_some() {
            true => Ok(key),
            false => Err(KeyError::Curve),
        }
    }

    /// Look whether it is a key. One that is none stays what nobody looked at.
    pub fn look(&mut self) {
        self.known = self.key().is_ok();
    }

    /// Somebody looked before it was put where this comes from, and nobody else can have put anything there.
    pub(crate) const fn trust(&mut self) {
        self.known = true;
    }
}

impl PartialEq for Public {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Public {}

impl Serialize for Public {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Public {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 32 bytes that are no point of the curve.
    const NO_POINT: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

    #[test]
    fn what_is_no_key_becomes_none_by_being_looked_at() {
        // The point of RFC 8032, section 7.1, test 1; the identity; 31 bytes.
        let point = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        let identity = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let short = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";
        for (text, good) in [
            (point, true),
            (NO_POINT, false),
            (identity, false),
            (short, false),
        ] {
            let mut public = Public::new(text);
            assert_eq!(public.key().is_ok(), good, "{text}");
            public.look();
            assert_eq!((public.known, public.key().is_ok()), (good, good), "{text}");
        }
    }

    #[test]
    fn what_is_trusted_is_not_looked_at_and_a_text_that_is_read_is_not_trusted() {
        let mut trusted = Public::new(NO_POINT);
        trusted.trust();
        let key = trusted.key().expect("nobody looks");
        assert_eq!(key.point(), None, "who takes signatures does");
        let read = serde_json::to_string(&trusted).expect("a text");
        let read: Public = serde_json::from_str(&read).expect("a text");
        assert_eq!(read, trusted);
        assert_eq!(read.key(), Err(KeyError::Curve));
    }
}
