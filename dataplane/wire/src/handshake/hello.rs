//! HELLO: who the client is, which credential proves it, and its half of the session's salt.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::frame::{self, Frame, FrameKind, ParseError};
use crate::ids::{KeyId, Sequence, SessionId};
use crate::limits::{NAME_BYTES_MAX, TOKEN_BYTES_MAX};
use crate::signature::{MacKey, Signer};

/// The fixed part of a HELLO, always of signature kind 2.
///
/// | offset | bytes | field          | meaning                                                         |
/// |-------:|------:|----------------|-----------------------------------------------------------------|
/// |     16 |     1 | `auth`         | 1 key, 2 token, 3 resume                                        |
/// |     17 |     1 | `name_bytes`   | length of the endpoint's name, at least 1                       |
/// |     18 |     2 | `token_bytes`  | length of the token, 1 to `TOKEN_BYTES_MAX` for auth 2; else zero |
/// |     20 |     4 | `key_id`       | the key, for auth 1; else zero                                  |
/// |     24 |    32 | `client_nonce` | random, new for every HELLO                                     |
/// |     56 |     8 | `unix_seconds` | the client's clock; zero if it has none                         |
/// |     64 |    16 | `session_id`   | the session to resume, for auth 3; else zero                    |
/// |     80 |       |                | name (UTF-8), token (ASCII), then the signature                 |
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HelloFixed {
    auth: u8,
    name_bytes: u8,
    token_bytes: U16,
    key_id: U32,
    client_nonce: [u8; 32],
    unix_seconds: U64,
    session_id: [u8; 16],
}
const _: () = assert!(size_of::<HelloFixed>() == 64);

/// The longest HELLO: 80 bytes of fields, a name, a token, a signature.
pub const HELLO_BYTES_MAX: usize = 80 + NAME_BYTES_MAX + TOKEN_BYTES_MAX + 32;

/// The credential that a HELLO offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth<'a> {
    /// A symmetric key of the endpoint. Secret: the key's text.
    Key(KeyId),
    /// A `SharedAccessSignature` token, whose `sig` may be left out. Secret: the token's 32 raw `sig` bytes.
    Token(&'a str),
    /// A session that has lost its connection. Secret: its resume secret.
    Resume(SessionId),
}

/// What a HELLO says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloFields<'a> {
    /// The credential.
    pub auth: Auth<'a>,
    /// The endpoint's full name.
    pub name: &'a str,
    /// The client's half of the salt.
    pub client_nonce: [u8; 32],
    /// The client's clock in unix seconds; 0 if it has none.
    pub unix_seconds: u64,
}

/// A HELLO whose fields have been checked; its signature has not been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello<'a> {
    /// What it says.
    pub fields: HelloFields<'a>,
    frame: Frame<'a>,
}

impl<'a> Hello<'a> {
    /// Check the body of a HELLO.
    ///
    /// # Errors
    /// The first fault.
    pub fn parse(frame: Frame<'a>) -> Result<Self, ParseError> {
        let (fixed, texts) = frame.prefix::<HelloFixed>(FrameKind::Hello)?;
        let (name_bytes, token_bytes) = (
            usize::from(fixed.name_bytes),
            usize::from(fixed.token_bytes.get()),
        );
        let need = (name_bytes + token_bytes) as u64;
        let (name, token) = texts
            .split_at_checked(name_bytes)
            .filter(|(_, token)| token.len() == token_bytes)
            .ok_or(ParseError::Handshake {
                at: 80,
                got: texts.len() as u64,
                need,
            })?;
        let fields = HelloFields {
            auth: auth(fixed, token)?,
            name: full_name(name)?,
            client_nonce: fixed.client_nonce,
            unix_seconds: fixed.unix_seconds.get(),
        };
        Ok(Self { fields, frame })
    }

    /// The whole frame, to check its signature.
    pub fn frame(&self) -> Frame<'a> {
        self.frame
    }
}

fn auth<'a>(fixed: &HelloFixed, token: &'a [u8]) -> Result<Auth<'a>, ParseError> {
    let fault = |at, got, need| ParseError::Handshake { at, got, need };
    let auth = match fixed.auth {
        1 => Auth::Key(KeyId(fixed.key_id.get())),
        2 => {
            let text = std::str::from_utf8(token)
                .ok()
                .filter(|text| text.is_ascii());
            let text = text.ok_or(fault(80 + u64::from(fixed.name_bytes) as usize, 0, 0))?;
            Auth::Token(text)
        }
        3 => Auth::Resume(SessionId(fixed.session_id)),
        other => return Err(fault(16, u64::from(other), 1)),
    };
    let length = token.len() as u64;
    match auth {
        Auth::Token(_) if length == 0 || token.len() > TOKEN_BYTES_MAX => {
            return Err(fault(18, length, TOKEN_BYTES_MAX as u64));
        }
        Auth::Token(_) => {}
        _ if length != 0 => {
            return Err(ParseError::Reserved {
                at: 18,
                value: length,
            });
        }
        _ => {}
    }
    if fixed.auth != 1 {
        frame::zero(20, fixed.key_id.as_bytes())?;
    }
    if fixed.auth != 3 {
        frame::zero(64, &fixed.session_id)?;
    }
    Ok(auth)
}

/// A name has three parts, none empty; what else a name may hold is decided where names are made.
fn full_name(bytes: &[u8]) -> Result<&str, ParseError> {
    let fault = ParseError::Handshake {
        at: 17,
        got: bytes.len() as u64,
        need: 5,
    };
    let name = std::str::from_utf8(bytes).map_err(|_| fault)?;
    let mut parts = name.split('/');
    let whole = (0..3).all(|_| parts.next().is_some_and(|part| !part.is_empty()));
    if whole && parts.next().is_none() {
        Ok(name)
    } else {
        Err(fault)
    }
}

/// Append a HELLO, signed with the credential's secret for the tunnel that has this exporter value; it is empty on a plain
/// connection.
///
/// # Errors
/// When the name or the token is empty, too long or not what [`Hello::parse`] accepts; `out` then is as before.
pub fn encode_hello(
    out: &mut Vec<u8>,
    fields: &HelloFields<'_>,
    secret: &[u8],
    exporter: &[u8],
) -> Result<(), ParseError> {
    let (auth, key_id, token, session_id) = match fields.auth {
        Auth::Key(id) => (1, id.0, "", SessionId::default()),
        Auth::Token(token) => (2, 0, token, SessionId::default()),
        Auth::Resume(session) => (3, 0, "", session),
    };
    full_name(fields.name.as_bytes())?;
    let fault = |at, got: usize, need: usize| ParseError::Handshake {
        at,
        got: got as u64,
        need: need as u64,
    };
    if fields.name.len() > NAME_BYTES_MAX {
        return Err(fault(17, fields.name.len(), NAME_BYTES_MAX));
    }
    if token.len() > TOKEN_BYTES_MAX || !token.is_ascii() || (token.is_empty() && auth == 2) {
        return Err(fault(18, token.len(), TOKEN_BYTES_MAX));
    }
    let start = frame::begin(out, FrameKind::Hello, 0, Sequence(0));
    let fixed = HelloFixed {
        auth,
        name_bytes: fields.name.len() as u8,
        token_bytes: U16::new(token.len() as u16),
        key_id: U32::new(key_id),
        client_nonce: fields.client_nonce,
        unix_seconds: U64::new(fields.unix_seconds),
        session_id: session_id.0,
    };
    out.extend_from_slice(fixed.as_bytes());
    out.extend_from_slice(fields.name.as_bytes());
    out.extend_from_slice(token.as_bytes());
    frame::seal(
        out,
        start,
        Signer::Hello {
            key: &MacKey::new(secret),
            exporter,
        },
    );
    Ok(())
}
