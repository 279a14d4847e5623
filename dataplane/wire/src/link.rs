//! The frames that keep a connection and end it: PING, PONG, BYE, GOAWAY.

use crate::frame::{self, Frame, FrameKind, ParseError};
use crate::home::Home;
use crate::ids::Sequence;
use crate::reason::{Notice, NoticeFixed};
use crate::signature::Signer;
use zerocopy::IntoBytes;

/// Append a PING whose `sequence` the PONG will carry back. It has no body.
pub fn encode_ping(out: &mut Vec<u8>, sequence: Sequence, signer: Signer<'_>) {
    let start = frame::begin(out, FrameKind::Ping, 0, sequence);
    frame::seal(out, start, signer);
}

/// Append the PONG to a PING. It has no body.
pub fn encode_pong(out: &mut Vec<u8>, sequence: Sequence, signer: Signer<'_>) {
    let start = frame::begin(out, FrameKind::Pong, 0, sequence);
    frame::seal(out, start, signer);
}

/// Read a PING.
///
/// # Errors
/// When it is none, or has a body.
pub fn parse_ping(frame: Frame<'_>) -> Result<Sequence, ParseError> {
    frame
        .fixed::<[u8; 0]>(FrameKind::Ping)
        .map(|_| frame.sequence())
}

/// Read a PONG.
///
/// # Errors
/// When it is none, or has a body.
pub fn parse_pong(frame: Frame<'_>) -> Result<Sequence, ParseError> {
    frame
        .fixed::<[u8; 0]>(FrameKind::Pong)
        .map(|_| frame.sequence())
}

/// Append a BYE: the client leaves. Its body is a notice.
pub fn encode_bye(out: &mut Vec<u8>, notice: Notice, signer: Signer<'_>) {
    encode_notice(out, FrameKind::Bye, notice, None, signer);
}

/// Append a GOAWAY: the server ends the connection. Its body is a notice, and where the endpoint is at home if that is the matter;
/// unsigned before a session.
pub fn encode_goaway(
    out: &mut Vec<u8>,
    notice: Notice,
    home: Option<Home<'_>>,
    signer: Signer<'_>,
) {
    encode_notice(out, FrameKind::Goaway, notice, home, signer);
}

/// Read a BYE.
///
/// # Errors
/// When it is none, or its notice is not whole.
pub fn parse_bye(frame: Frame<'_>) -> Result<Notice, ParseError> {
    parse_notice(frame, FrameKind::Bye)
}

/// Read a GOAWAY; what it tells of a home is read by [`Home::told`].
///
/// # Errors
/// When it is none, or its notice is not whole.
pub fn parse_goaway(frame: Frame<'_>) -> Result<Notice, ParseError> {
    parse_notice(frame, FrameKind::Goaway)
}

pub(crate) fn encode_notice(
    out: &mut Vec<u8>,
    kind: FrameKind,
    notice: Notice,
    home: Option<Home<'_>>,
    signer: Signer<'_>,
) {
    let start = frame::begin(out, kind, 0, Sequence(0));
    out.extend_from_slice(notice.to_fixed().as_bytes());
    if let Some(home) = home.filter(|_| Home::belongs_to(notice.reason)) {
        home.put(out);
    }
    frame::seal(out, start, signer);
}

pub(crate) fn parse_notice(frame: Frame<'_>, kind: FrameKind) -> Result<Notice, ParseError> {
    let (fixed, rest) = frame.prefix::<NoticeFixed>(kind)?;
    let notice = Notice::from_fixed(fixed, kind, 16)?;
    if kind != FrameKind::Bye && Home::belongs_to(notice.reason) {
        Home::parse(rest, kind)?;
        return Ok(notice);
    }
    frame.fixed::<NoticeFixed>(kind).map(|_| notice)
}
