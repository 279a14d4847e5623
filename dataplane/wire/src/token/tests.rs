//! Tokens as the libraries of others make them, and what is refused.

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
