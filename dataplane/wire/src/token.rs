//! `SharedAccessSignature` tokens, as Azure clients make them:
//! `SharedAccessSignature sr=<encoded uri>&sig=<encoded base64>&se=<unix seconds>&skn=<key name>`.
//!
//! What is signed is the **raw text** of `sr` as it stands in the token, a line feed, and the text of `se`.
//! Nothing is decoded and encoded again, since no two client libraries encode alike. The key is the UTF-8
//! bytes of the key's base64 text, not the bytes it stands for.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use crate::ids::UnixNanos;
use crate::limits::TOKEN_BYTES_MAX;
use crate::reason::Reason;
use crate::signature::MacKey;

const SCHEME: &str = "SharedAccessSignature ";

/// A token, taken apart but not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token<'a> {
    resource: &'a str,
    signature: Option<[u8; 32]>,
    expiry: &'a str,
    expiry_seconds: u64,
    key_name: Cow<'a, str>,
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("the token cannot be read: {0}")]
    Malformed(&'static str),
    /// Its signature is not made with this key.
    #[error("the token is not signed with this key")]
    Signature,
    /// Its time is over.
    #[error("the token expired at {expiry}, it is {now} (unix seconds)")]
    Expired {
        /// Its expiry, unix seconds.
        expiry: u64,
        /// The time it was checked, unix seconds.
        now: u64,
    },
    /// Its `sr` does not cover what it is used for.
    #[error("the token's sr does not cover this resource")]
    Scope,
}

impl TokenError {
    /// The reason that the peer is told.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Malformed(_) => Reason::TokenMalformed,
            Self::Signature => Reason::BadCredential,
            Self::Expired { .. } => Reason::TokenExpired,
            Self::Scope => Reason::TokenScope,
        }
    }
}

impl<'a> Token<'a> {
    /// Take a token apart. Parameters may come in any order, each once, unknown ones are refused; `sig` may
    /// be left out. Allocates only when `skn` holds encoded characters.
    ///
    /// # Errors
    /// `Malformed`, with the part that is.
    pub fn parse(text: &'a str) -> Result<Self, TokenError> {
        let fault = TokenError::Malformed;
        if text.len() > TOKEN_BYTES_MAX {
            return Err(fault("longer than 2048 bytes"));
        }
        let scheme = text
            .get(..SCHEME.len())
            .filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
        scheme.ok_or(fault("it does not begin with SharedAccessSignature"))?;
        let (mut sr, mut sig, mut se, mut skn) = (None, None, None, None);
        for parameter in text[SCHEME.len()..].trim().split('&') {
            let (name, value) = parameter
                .split_once('=')
                .ok_or(fault("a parameter without ="))?;
            let slot = match name {
                "sr" => &mut sr,
                "sig" => &mut sig,
                "se" => &mut se,
                "skn" => &mut skn,
                _ => return Err(fault("a parameter other than sr, sig, se, skn")),
            };
            if slot.replace(value).is_some() {
                return Err(fault("a parameter comes twice"));
            }
        }
        let expiry = se.ok_or(fault("no se"))?;
        let digits = !expiry.is_empty() && expiry.bytes().all(|byte| byte.is_ascii_digit());
        let expiry_seconds = expiry
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or(fault("se is no number of seconds"))?;
        let key_name = percent_decode(skn.filter(|name| !name.is_empty()).ok_or(fault("no skn"))?);
        Ok(Self {
            resource: sr
                .filter(|resource| !resource.is_empty())
                .ok_or(fault("no sr"))?,
            signature: sig
                .map(|sig| decode_signature(sig).ok_or(fault("sig is not base64 of 32 bytes")))
                .transpose()?,
            expiry,
            expiry_seconds,
            key_name: key_name.ok_or(fault("skn is not encoded UTF-8"))?,
        })
    }

    /// The raw, still encoded text of `sr`.
    pub fn resource(&self) -> &'a str {
        self.resource
    }

    /// The name of the key it claims to be signed with.
    pub fn key_name(&self) -> &str {
        &self.key_name
    }

    /// Its expiry, unix seconds.
    pub fn expiry_seconds(&self) -> u64 {
        self.expiry_seconds
    }

    /// The signature it carries, if it does.
    pub fn signature(&self) -> Option<&[u8; 32]> {
        self.signature.as_ref()
    }

    /// What is signed.
    pub fn string_to_sign(&self) -> String {
        format!("{}\n{}", self.resource, self.expiry)
    }

    /// The signature it must carry under this key; in a HELLO it is also the credential's secret.
    /// Allocates nothing.
    pub fn expected_signature(&self, key: &MacKey) -> [u8; 32] {
        key.sign(&[self.resource.as_bytes(), b"\n", self.expiry.as_bytes()])
    }

    /// Whether the token covers `path` at `now`, and is signed with `key` where it carries a signature.
    /// Returns the expected signature. A token without one proves nothing by itself: whoever uses it must
    /// show that they know the signature, as the HELLO does.
    ///
    /// # Errors
    /// `Signature` first, so that nobody without the key learns what the token says about time and scope.
    pub fn check(&self, key: &MacKey, now: UnixNanos, path: &str) -> Result<[u8; 32], TokenError> {
        let expected = self.expected_signature(key);
        if let Some(signature) = &self.signature
            && !bool::from(signature.ct_eq(&expected))
        {
            return Err(TokenError::Signature);
        }
        self.check_terms(now, path)?;
        Ok(expected)
    }

    /// Whether the token covers `path` at `now`.
    ///
    /// # Errors
    /// `Expired` or `Scope`.
    pub fn check_terms(&self, now: UnixNanos, path: &str) -> Result<(), TokenError> {
        if now.seconds() >= self.expiry_seconds {
            return Err(TokenError::Expired {
                expiry: self.expiry_seconds,
                now: now.seconds(),
            });
        }
        if self.covers(path) {
            Ok(())
        } else {
            Err(TokenError::Scope)
        }
    }

    /// Whether `sr`, decoded, without scheme and host and in lower case, is `path` or a parent of it.
    /// A bare host covers everything. Slashes at either end of `path` do not matter, nor does its case.
    pub fn covers(&self, path: &str) -> bool {
        let Some(decoded) = percent_decode(self.resource) else {
            return false;
        };
        let decoded = decoded.to_lowercase();
        // Only what looks like a scheme is one: `://` further on is part of a path or of a query.
        let scheme = decoded
            .split_once("://")
            .filter(|(scheme, _)| !scheme.is_empty() && !scheme.contains(['/', '?', '#']));
        let local = match scheme {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, local)| local),
            None => &decoded,
        };
        let local = local
            .split(['?', '#'])
            .next()
            .unwrap_or_default()
            .trim_matches('/');
        let path = path.to_lowercase();
        let path = path.trim_matches('/');
        local.is_empty() && scheme.is_some()
            || !local.is_empty()
                && path
                    .strip_prefix(local)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Sign a token for `uri`, good until `expiry_seconds`, with the key of this name.
pub fn mint(key: &MacKey, uri: &str, expiry_seconds: u64, key_name: &str) -> String {
    let resource = percent_encode(uri);
    let expiry = expiry_seconds.to_string();
    let signature = key.sign(&[resource.as_bytes(), b"\n", expiry.as_bytes()]);
    let signature = percent_encode(&STANDARD.encode(signature));
    format!(
        "{SCHEME}sr={resource}&sig={signature}&se={expiry}&skn={}",
        percent_encode(key_name)
    )
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Decode `%XX`, either case, and `+` as a blank (quote_plus); `None` when that makes no UTF-8.
fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let (digits, after) = rest.split_first_chunk::<2>()?;
                decoded.push(hex(digits[0])? << 4 | hex(digits[1])?);
                rest = after;
            }
            b'+' => decoded.push(b' '),
            other => decoded.push(*other),
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// `sig` is base64, percent-encoded or not; a bare `+` is a plus here.
fn decode_signature(text: &str) -> Option<[u8; 32]> {
    let mut base64 = [0u8; 44];
    let (mut filled, mut rest) = (0, text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let byte = if *first == b'%' {
            let (digits, after) = rest.split_first_chunk::<2>()?;
            rest = after;
            hex(digits[0])? << 4 | hex(digits[1])?
        } else {
            *first
        };
        *base64.get_mut(filled)? = byte;
        filled += 1;
    }
    let mut signature = [0u8; 33];
    let decoded = STANDARD
        .decode_slice(&base64[..filled], &mut signature)
        .ok()?;
    (decoded == 32).then(|| *signature.first_chunk::<32>().expect("33 bytes hold 32"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::SecretKey;

    const NOW: UnixNanos = UnixNanos::from_seconds(1_000);

    fn key() -> SecretKey {
        SecretKey::from_random([7; 32])
    }

    /// A token as one of the client libraries makes it: `resource` as that library encodes it.
    fn token(resource: &str, signature: impl Fn(&str) -> String) -> String {
        let sig = STANDARD.encode(key().mac().sign(&[resource.as_bytes(), b"\n2000"]));
        format!(
            "SharedAccessSignature sr={resource}&sig={}&se=2000&skn=primary",
            signature(&sig)
        )
    }

    #[test]
    fn tokens_of_every_library_pass_as_they_are_encoded() {
        let upper = |sig: &str| percent_encode(sig);
        let lower = |sig: &str| {
            percent_encode(sig)
                .replace("%2B", "%2b")
                .replace("%2F", "%2f")
                .replace("%3D", "%3d")
        };
        let bare = |sig: &str| sig.to_owned();
        for (why, text) in [
            (
                "python, quote_plus",
                token("sb%3A%2F%2Fhost.example%2FAcme%2Fprod+x%2Fpump", upper),
            ),
            (
                "javascript",
                token("sb%3A%2F%2Fhost.example%2FAcme%2Fprod%20x%2Fpump", upper),
            ),
            (
                ".net, lower-case hex",
                token("sb%3a%2f%2fhost.example%2fAcme%2fprod%20x%2fpump", lower),
            ),
            (
                "php, all lower case",
                token("sb%3a%2f%2fhost.example%2facme%2fprod%20x%2fpump", lower),
            ),
            (
                "sig not encoded",
                token("https://host.example:443/acme/prod%20x/pump/", bare),
            ),
            ("a path alone", token("acme/prod%20x/pump", upper)),
        ] {
            let parsed = Token::parse(&text).expect(why);
            assert_eq!(parsed.key_name(), "primary", "{why}");
            let expected = parsed.expected_signature(key().mac());
            assert_eq!(
                parsed.check(key().mac(), NOW, "acme/prod x/pump"),
                Ok(expected),
                "{why}"
            );
        }
    }

    #[test]
    fn parameters_come_in_any_order() {
        let minted = mint(key().mac(), "sb://h/a/b", 2_000, "primary");
        let body = minted.strip_prefix(SCHEME).expect("mint begins with it");
        let parts: Vec<&str> = body.split('&').collect();
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let text = format!(
                "sharedaccesssignature {}",
                order.map(|at| parts[at]).join("&")
            );
            let token = Token::parse(&text).expect("any order");
            assert!(token.check(key().mac(), NOW, "a/b/c").is_ok(), "{order:?}");
        }
    }

    #[test]
    fn tokens_that_cannot_be_read_are_refused() {
        let long = format!("SharedAccessSignature sr={}&se=1&skn=k", "x".repeat(2_048));
        for (why, text) in [
            ("nothing", ""),
            ("another scheme", "Bearer sr=a&se=1&skn=k"),
            ("no sr", "SharedAccessSignature se=1&skn=k"),
            ("empty sr", "SharedAccessSignature sr=&se=1&skn=k"),
            ("no se", "SharedAccessSignature sr=a&skn=k"),
            ("se with a sign", "SharedAccessSignature sr=a&se=+1&skn=k"),
            (
                "se beyond 64 bits",
                "SharedAccessSignature sr=a&se=99999999999999999999&skn=k",
            ),
            ("no skn", "SharedAccessSignature sr=a&se=1"),
            (
                "skn cut in its encoding",
                "SharedAccessSignature sr=a&se=1&skn=%4",
            ),
            (
                "twice the same",
                "SharedAccessSignature sr=a&sr=b&se=1&skn=k",
            ),
            (
                "unknown parameter",
                "SharedAccessSignature sr=a&se=1&skn=k&x=y",
            ),
            ("no equals sign", "SharedAccessSignature sr=a&se=1&skn"),
            (
                "sig of 31 bytes",
                "SharedAccessSignature sr=a&se=1&skn=k&sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",
            ),
            (
                "sig that is no base64",
                "SharedAccessSignature sr=a&se=1&skn=k&sig=*",
            ),
            ("too long", &long),
        ] {
            let error = Token::parse(text).expect_err(why);
            assert!(matches!(error, TokenError::Malformed(_)), "{why}: {error}");
        }
    }

    #[test]
    fn a_token_is_good_for_its_key_time_and_scope_only() {
        let text = mint(key().mac(), "sb://host.example/acme/prod", 1_001, "primary");
        let token = Token::parse(&text).expect("just minted");
        let other = SecretKey::from_random([8; 32]);
        let expired = TokenError::Expired {
            expiry: 1_001,
            now: 1_001,
        };
        for (why, key, now, path, want) in [
            ("good", &key(), NOW, "acme/prod/pump", Ok(())),
            ("the very path", &key(), NOW, "/Acme/Prod/", Ok(())),
            (
                "another key",
                &other,
                NOW,
                "acme/prod/pump",
                Err(TokenError::Signature),
            ),
            (
                "another key, expired too",
                &other,
                UnixNanos::from_seconds(9_999),
                "x",
                Err(TokenError::Signature),
            ),
            (
                "the second it expires",
                &key(),
                UnixNanos::from_seconds(1_001),
                "acme/prod/pump",
                Err(expired),
            ),
            (
                "half a name",
                &key(),
                NOW,
                "acme/production/pump",
                Err(TokenError::Scope),
            ),
            ("a parent", &key(), NOW, "acme", Err(TokenError::Scope)),
            (
                "elsewhere",
                &key(),
                NOW,
                "other/prod/pump",
                Err(TokenError::Scope),
            ),
        ] {
            assert_eq!(token.check(key.mac(), now, path).map(|_| ()), want, "{why}");
        }
    }

    #[test]
    fn scope_is_compared_at_slashes_after_decoding() {
        for (resource, path, want) in [
            ("sb%3A%2F%2Fhost", "a/b/c", true),
            ("sb%3A%2F%2Fhost%2F", "a/b/c", true),
            ("%2F", "a/b/c", false),
            ("a%2Fb", "a/b/c", true),
            ("a/b/c/d", "a/b/c", false),
            ("http://h/a/b?x=y", "a/b/c", true),
            ("%FF", "a/b/c", false),
            ("a%2", "a/b/c", false),
            ("a/x?next=https://h", "a/b/c", false),
            ("a?next=https://h", "a/b/c", true),
            ("://h", "a/b/c", false),
        ] {
            let text = format!("SharedAccessSignature sr={resource}&se=2000&skn=k");
            let token = Token::parse(&text).expect(resource);
            assert_eq!(token.covers(path), want, "{resource}");
        }
    }

    #[test]
    fn a_token_without_its_signature_gives_the_secret_but_proves_nothing() {
        let whole = mint(key().mac(), "sb://h/a/b/c", 2_000, "primary");
        let sig = whole
            .split('&')
            .find(|part| part.starts_with("sig="))
            .expect("mint signs");
        let bare = whole.replace(&format!("&{sig}"), "");
        let (whole, bare) = (
            Token::parse(&whole).expect("whole"),
            Token::parse(&bare).expect("bare"),
        );
        assert_eq!(bare.signature(), None);
        assert_eq!(
            whole.signature(),
            Some(&bare.expected_signature(key().mac()))
        );
        assert_eq!(bare.string_to_sign(), "sb%3A%2F%2Fh%2Fa%2Fb%2Fc\n2000");
    }
}
