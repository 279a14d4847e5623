//! `SharedAccessSignature` tokens, as Azure clients make them:
//! `SharedAccessSignature sr=<encoded uri>&sig=<encoded base64>&se=<unix seconds>&skn=<key name>`.
//!
//! What is signed is the **raw text** of `sr` as it stands in the token, a line feed, and the text of `se`.
//! Nothing is decoded and encoded again, since no two client libraries encode alike. The key is the UTF-8
//! bytes of the key's base64 text, not the bytes it stands for.

mod encoding;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use crate::ids::UnixNanos;
use crate::limits::TOKEN_BYTES_MAX;
use crate::reason::Reason;
use crate::signature::MacKey;
use encoding::{decode_signature, percent_decode, percent_encode};

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
        let expected = self.check_signature(key)?;
        self.check_terms(now, path)?;
        Ok(expected)
    }

    /// Whether the token is signed with `key` where it carries a signature. Returns the expected signature.
    ///
    /// # Errors
    /// `Signature`.
    pub fn check_signature(&self, key: &MacKey) -> Result<[u8; 32], TokenError> {
        let expected = self.expected_signature(key);
        match &self.signature {
            Some(signature) if !bool::from(signature.ct_eq(&expected)) => {
                Err(TokenError::Signature)
            }
            _ => Ok(expected),
        }
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

#[cfg(test)]
mod tests;
