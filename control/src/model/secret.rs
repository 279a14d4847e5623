//! A secret on its way in: shown to nobody, wiped when dropped.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// The text of a shared secret. It can be read by those who ask for it by name, and is never written by accident.
#[derive(Clone)]
pub struct Secret {
    text: Zeroizing<String>,
    /// Whether it is written where it stands.
    exposed: bool,
}

impl Secret {
    /// The secret with this text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: Zeroizing::new(text.into()),
            exposed: false,
        }
    }

    /// The same one, to be written where it stands: for an export that asks for it.
    #[must_use]
    pub fn exposed(mut self) -> Self {
        self.exposed = true;
        self
    }

    /// Whether there is nothing to write.
    pub(super) fn is_hidden(secret: &Option<Self>) -> bool {
        secret.as_ref().is_none_or(|secret| !secret.exposed)
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Secret {}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        debug_assert!(self.exposed, "a hidden secret is skipped");
        let text = if self.exposed { self.reveal() } else { "" };
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}
