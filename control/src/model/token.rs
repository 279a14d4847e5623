//! What opens the API: a bearer token with a role, for one account or for all of them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Moment;
use crate::seal::digest_text;

/// What a token begins with, so that one that leaked is recognised.
pub const TOKEN_PREFIX: &str = "fbt_";

/// What the bearer may do. Each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything; never at secrets.
    Viewer,
    /// Revoke, restore and rotate keys, switch endpoints on and off.
    Operator,
    /// Create, change and delete environments, hubs, channels and endpoints.
    Admin,
    /// Accounts and tokens, too.
    Owner,
}

impl Role {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

/// A token as it is kept: without the text that opens anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// In which account; in all of them unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// SHA-256 of the text, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
    /// From this moment on it opens nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Moment>,
}

impl Token {
    /// Give it a new text, which is returned and not kept.
    #[must_use]
    pub fn renew(&mut self) -> Zeroizing<String> {
        let random = Zeroizing::new(crate::keys::random());
        let text = format!(
            "{TOKEN_PREFIX}{}",
            URL_SAFE_NO_PAD.encode(random.as_slice())
        );
        self.hash = Self::hash_of(&text);
        Zeroizing::new(text)
    }

    /// What is kept of a text.
    #[must_use]
    pub fn hash_of(text: &str) -> String {
        digest_text(text.as_bytes())
    }

    /// Whether it has expired by this second since 1970. A malformed expiry has passed.
    #[must_use]
    pub fn is_expired(&self, now_seconds: u64) -> bool {
        let ends = self.expires.as_ref();
        ends.is_some_and(|moment| moment.seconds().is_none_or(|end| end <= now_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_kept_by_its_hash_and_expires() {
        let mut token = Token {
            name: "ops".into(),
            role: Role::Operator,
            account: None,
            hash: String::new(),
            expires: Some(Moment::from_seconds(100)),
        };
        let text = token.renew();
        assert!(text.starts_with(TOKEN_PREFIX) && text.len() > 40);
        assert_eq!(Token::hash_of(&text), token.hash);
        assert!(
            !serde_json::to_string(&token)
                .expect("JSON")
                .contains(&**text)
        );
        assert!(!token.is_expired(99) && token.is_expired(100));
        token.expires = Some(Moment::new("never"));
        assert!(token.is_expired(0));
        assert!(Role::Viewer < Role::Operator && Role::Admin < Role::Owner);
    }
}
