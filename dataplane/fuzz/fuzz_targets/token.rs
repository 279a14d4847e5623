//! Tokens: any text is taken or refused, and what is minted is taken.
#![no_main]

use framed::bounded;
use libfuzzer_sys::fuzz_target;
use wire::UnixNanos;
use wire::signature::MacKey;
use wire::token::{Token, mint};

fuzz_target!(|data: &[u8]| bounded(|| check(data)));

fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let key = MacKey::new(b"fuzz");
    if let Ok(token) = Token::parse(text) {
        let covers = token.covers("account/environment/endpoint");
        let good = token
            .check_terms(UnixNanos(0), "account/environment/endpoint")
            .is_ok();
        assert!(!good || covers);
        assert!(text.contains(token.resource()));
    }
    let minted = mint(&key, text, 10, "name");
    if let Ok(token) = Token::parse(&minted) {
        assert_eq!(token.signature(), Some(&token.expected_signature(&key)));
    } else {
        assert!(text.is_empty() || minted.len() > wire::limits::TOKEN_BYTES_MAX);
    }
}
