//! What a client proves its endpoint with: a key, or a token that somebody made with a key.

use crate::diagnosis::ClientError;
use wire::handshake::Auth;
use wire::ids::KeyId;
use wire::limits::TOKEN_BYTES_MAX;
use wire::token::Token;
use zeroize::Zeroizing;

/// An endpoint's name and the proof that one speaks for it. `Debug` never shows the secret.
#[derive(Clone)]
pub struct Credentials {
    endpoint: String,
    proof: Proof,
}

#[derive(Clone)]
enum Proof {
    Key {
        id: KeyId,
        secret: Zeroizing<Vec<u8>>,
    },
    Token {
        text: String,
        secret: Zeroizing<Vec<u8>>,
    },
}

impl Credentials {
    /// A symmetric key of the endpoint: its id and its text of 44 characters, as `forebay keys new` prints them.
    ///
    /// # Errors
    /// `FB-5106` when the name or the key cannot be one.
    pub fn key(endpoint: &str, id: u32, key: &str) -> Result<Self, ClientError> {
        let key = key.trim();
        let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
        if key.len() != 44 || !key.bytes().all(base64) {
            return Err(ClientError::Credential {
                what: "key text",
                seen: format!("{} characters", key.len()),
                needed: "44 characters of base64",
            });
        }
        let secret = Zeroizing::new(key.as_bytes().to_vec());
        Self::new(
            endpoint,
            Proof::Key {
                id: KeyId(id),
                secret,
            },
        )
    }

    /// A `SharedAccessSignature` token. Its signature stays here: it signs the handshake and is not sent.
    ///
    /// # Errors
    /// `FB-5106` when the name or the token cannot be one, or the token carries no signature.
    pub fn token(endpoint: &str, token: &str) -> Result<Self, ClientError> {
        let refuse = |seen: String| ClientError::Credential {
            what: "token",
            seen,
            needed: "SharedAccessSignature sr=...&sig=...&se=...&skn=...",
        };
        let token = token.trim();
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refuse(format!(
                "{} bytes, at most {TOKEN_BYTES_MAX} allowed",
                token.len()
            )));
        }
        let parsed = Token::parse(token).map_err(|error| refuse(error.to_string()))?;
        let signature = parsed
            .signature()
            .ok_or_else(|| refuse("no sig".to_owned()))?;
        let secret = Zeroizing::new(signature.to_vec());
        Self::new(
            endpoint,
            Proof::Token {
                text: without_signature(token),
                secret,
            },
        )
    }

    fn new(endpoint: &str, proof: Proof) -> Result<Self, ClientError> {
        let parts: Vec<&str> = endpoint.split('/').collect();
        if parts.len() != 3
            || parts.iter().any(|part| part.is_empty())
            || endpoint.len() > wire::limits::NAME_BYTES_MAX
        {
            return Err(ClientError::Credential {
                what: "endpoint name",
                seen: format!("\"{endpoint}\""),
                needed: "account/environment/endpoint, at most 255 bytes",
            });
        }
        Ok(Self {
            endpoint: endpoint.to_owned(),
            proof,
        })
    }

    /// The endpoint's full name.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// How HELLO names this credential.
    pub fn auth(&self) -> Auth<'_> {
        match &self.proof {
            Proof::Key { id, .. } => Auth::Key(*id),
            Proof::Token { text, .. } => Auth::Token(text),
        }
    }

    /// The secret that signs HELLO and from which the session's keys are derived.
    pub fn secret(&self) -> &[u8] {
        match &self.proof {
            Proof::Key { secret, .. } | Proof::Token { secret, .. } => secret,
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.proof {
            Proof::Key { id, .. } => format!("key {id}"),
            Proof::Token { .. } => "token".to_owned(),
        };
        write!(out, "Credentials({}, {kind})", self.endpoint)
    }
}

fn without_signature(token: &str) -> String {
    let (scheme, fields) = token.split_once(' ').unwrap_or(("", token));
    let kept: Vec<&str> = fields
        .split('&')
        .filter(|field| !field.trim_start().starts_with("sig="))
        .collect();
    format!("{scheme} {}", kept.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    #[test]
    fn names_and_keys_that_cannot_be_right_are_refused_before_a_connection_is_made() {
        for (why, endpoint, key, good) in [
            ("as printed", "a/e/s", KEY, true),
            (
                "with a line end",
                "a/e/s",
                concat!("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "\n"),
                true,
            ),
            ("one character short", "a/e/s", &KEY[1..], false),
            (
                "not base64",
                "a/e/s",
                "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZW!=",
                false,
            ),
            ("two parts", "a/e", KEY, false),
            ("an empty part", "a//s", KEY, false),
            ("four parts", "a/e/s/t", KEY, false),
        ] {
            assert_eq!(Credentials::key(endpoint, 1, key).is_ok(), good, "{why}");
        }
    }

    #[test]
    fn a_token_keeps_its_signature_to_itself() {
        let text = "SharedAccessSignature sr=a%2Fe%2Fs&sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D&se=4102444800&skn=main";
        let credentials = Credentials::token("a/e/s", text).expect("a well formed token");
        assert_eq!(
            credentials.auth(),
            Auth::Token("SharedAccessSignature sr=a%2Fe%2Fs&se=4102444800&skn=main")
        );
        assert_eq!(credentials.secret(), [0; 32]);
        assert!(
            Credentials::token("a/e/s", "SharedAccessSignature sr=a&se=1&skn=k").is_err(),
            "no signature"
        );
        assert!(
            Credentials::token("a/e/s", "Bearer x").is_err(),
            "another scheme"
        );
    }

    #[test]
    fn secrets_do_not_show() {
        let credentials = Credentials::key("a/e/s", 7, KEY).expect("valid");
        assert_eq!(format!("{credentials:?}"), "Credentials(a/e/s, key 7)");
    }
}
