//! The limits of protocol version 1. Every one of them is checked before memory is spent on it.

/// A whole frame: header, body and signature.
pub const FRAME_BYTES_MAX: usize = 524_288;
/// The body of one message: 256 KiB.
pub const BODY_BYTES_MAX: usize = 262_144;
/// All header pairs of one message, with their length fields.
pub const HEADERS_BYTES_MAX: usize = 8_192;
/// Header pairs of one message.
pub const HEADERS_MAX: usize = 64;
/// Messages in one SEND.
pub const MESSAGES_MAX: usize = 4_096;
/// A full name: `account/environment/endpoint` or `account/environment/channel`.
pub const NAME_BYTES_MAX: usize = 255;
/// The text of a `SharedAccessSignature` token.
pub const TOKEN_BYTES_MAX: usize = 2_048;
/// Entries in one WELCOME.
pub const CHANNELS_MAX: usize = 1_024;
/// Groups in one DELIVER. A group is at least 48 bytes and one message of 16, so that a frame cannot hold more.
pub const GROUPS_MAX: usize = 8_191;
/// Protocol versions that this code speaks, lowest and highest.
pub const VERSIONS: (u8, u8) = (1, 1);
/// How far the clock in a HELLO may be from the server's, in seconds.
pub const CLOCK_SKEW_SECONDS_MAX: u64 = 300;
/// How long a peer may take from connecting to the end of its HELLO, in seconds.
pub const HANDSHAKE_SECONDS_MAX: u64 = 10;
/// Bad signatures on one connection before it is closed.
pub const BAD_SIGNATURES_MAX: u32 = 16;
/// Sequence numbers below an endpoint's highest that an envelope may still fill.
pub const REPLAY_WINDOW: u64 = 64;

const _: () = assert!(16 + 16 + 16 + HEADERS_BYTES_MAX + BODY_BYTES_MAX + 64 <= FRAME_BYTES_MAX);
const _: () = assert!(MESSAGES_MAX <= u16::MAX as usize);
const _: () = assert!(GROUPS_MAX <= u16::MAX as usize);
const _: () = assert!(HEADERS_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(TOKEN_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(112 + CHANNELS_MAX * (20 + NAME_BYTES_MAX) + 32 <= FRAME_BYTES_MAX);
const _: () = assert!(GROUPS_MAX * (48 + 16) <= FRAME_BYTES_MAX);
