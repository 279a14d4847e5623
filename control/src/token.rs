//! Mints `SharedAccessSignature` tokens: a party that holds one can open sessions until it expires, without
//! ever holding the key that signed it. The clock is the caller's.

use wire::diagnosis::Diagnosis;
use wire::signature::SecretKey;
use wire::token;

use crate::diagnosis::{TOKEN_EXPIRY, TOKEN_KEY};

/// A token for `endpoint` (its full name), signed with the key `key_name` whose text is `secret`.
///
/// # Errors
/// When the secret is none, or the token would have expired already.
pub fn mint(
    endpoint: &str,
    key_name: &str,
    secret: &str,
    expiry_seconds: u64,
    now_seconds: u64,
) -> Result<String, Diagnosis> {
    let key = SecretKey::from_base64(secret).map_err(|error| {
        let needed = "44 characters, the base64 of 32 bytes";
        Diagnosis::new(
            TOKEN_KEY,
            format!("key `{key_name}` cannot sign a token"),
            error.to_string(),
            needed,
            "use an hmac-sha256 key",
        )
    })?;
    if expiry_seconds <= now_seconds {
        let needed = format!("later than {now_seconds}");
        return Err(Diagnosis::new(
            TOKEN_EXPIRY,
            "the token would have expired",
            expiry_seconds.to_string(),
            needed,
            "use --valid 1h",
        ));
    }
    Ok(token::mint(
        key.mac(),
        &format!("sb://forebay/{endpoint}"),
        expiry_seconds,
        key_name,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::new_secret;
    use wire::ids::UnixNanos;
    use wire::token::Token;

    #[test]
    fn a_minted_token_passes_the_check_of_its_key_until_it_expires() {
        let secret = new_secret();
        let text =
            mint("a/e/pump", "ingress-primary", secret.text(), 2_000, 1_000).expect("a good token");
        let token = Token::parse(&text).expect("well formed");
        assert!(
            token
                .check(secret.mac(), UnixNanos::from_seconds(1_500), "a/e/pump")
                .is_ok()
        );
        assert!(
            token
                .check(
                    new_secret().mac(),
                    UnixNanos::from_seconds(1_500),
                    "a/e/pump"
                )
                .is_err()
        );
        assert!(
            token
                .check(secret.mac(), UnixNanos::from_seconds(1_500), "a/e/pumped")
                .is_err()
        );
        assert_eq!(token.key_name(), "ingress-primary");
    }

    #[test]
    fn a_token_that_would_be_useless_is_refused() {
        let secret = new_secret();
        for (why, secret, expiry, want) in [
            ("expired now", secret.text(), 1_000, TOKEN_EXPIRY),
            ("no key", "not a key", 2_000, TOKEN_KEY),
        ] {
            assert_eq!(
                mint("a/e/x", "k", secret, expiry, 1_000)
                    .expect_err(why)
                    .code,
                want,
                "{why}"
            );
        }
    }
}
