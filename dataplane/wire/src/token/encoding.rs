//! How the parts of a token are written: percent-encoding and base64. Knows nothing of what they mean.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Encode everything but letters, digits and `-_.~`.
pub(super) fn percent_encode(text: &str) -> String {
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
pub(super) fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
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
pub(super) fn decode_signature(text: &str) -> Option<[u8; 32]> {
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
