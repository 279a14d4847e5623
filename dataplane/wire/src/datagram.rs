//! QUIC datagrams (RFC 9221): one whole SEND each, behind the lane whose session it is of and the number under which it is answered.
//!
//! They come in any order, or never. So their signature counts no frames: it covers the number instead.

use crate::frame::{Frame, SignatureKind, split};
use crate::send::Send;
use crate::signature::{DATAGRAM_CONTEXT, MacKey};

/// The highest number that a variable-length integer of QUIC holds (RFC 9000, section 16).
pub const VARINT_MAX: u64 = (1 << 62) - 1;

/// A datagram, taken apart; its frame was not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The lane, as a quarter of its stream's ID.
    pub lane: u64,
    /// What the answer calls it; 0 asks for none.
    pub number: u64,
    /// The frame.
    pub frame: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Take a datagram apart; `None` when it ends within its two numbers.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (lane, rest) = take_varint(bytes)?;
        let (number, frame) = take_varint(rest)?;
        Some(Self {
            lane,
            number,
            frame,
        })
    }
}

/// Write what comes before the frame.
///
/// # Panics
/// When a number is above [`VARINT_MAX`].
pub fn begin(out: &mut Vec<u8>, lane: u64, number: u64) {
    put_varint(out, lane);
    put_varint(out, number);
}

/// The SEND that a datagram holds, if it holds one whole frame, that is one, and nothing else.
pub fn whole(bytes: &[u8]) -> Option<Frame<'_>> {
    match split(bytes) {
        Ok(Some((frame, []))) if frame.kind() == crate::frame::FrameKind::Send => Some(frame),
        _ => None,
    }
}

/// Whether a SEND is signed with this key of its session for a datagram of this number. Allocates nothing.
pub fn verify(key: &MacKey, number: u64, send: &Send<'_>) -> bool {
    let frame = send.frame();
    let number = number.to_le_bytes();
    let signed: [&[u8]; 3] = [DATAGRAM_CONTEXT, &number, frame.signed()];
    frame.signature_kind() == SignatureKind::Session && key.verify(&signed, frame.signature())
}

/// A variable-length integer: the two highest bits of the first byte say how many follow it.
fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let count = 1 << (first >> 6);
    let (number, rest) = bytes.split_at_checked(count)?;
    let number = number[1..]
        .iter()
        .fold(u64::from(first & 0x3F), |number, byte| {
            number << 8 | u64::from(*byte)
        });
    Some((number, rest))
}

fn put_varint(out: &mut Vec<u8>, number: u64) {
    assert!(number <= VARINT_MAX, "{number} is beyond 62 bits");
    let exponent = match number {
        0..0x40 => 0,
        0x40..0x4000 => 1,
        0x4000..0x4000_0000 => 2,
        _ => 3,
    };
    let bytes = (number | exponent << (8 * (1 << exponent) - 2)).to_be_bytes();
    out.extend_from_slice(&bytes[8 - (1 << exponent)..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ChannelId, EndpointId, Sequence, UnixNanos};
    use crate::send::SendBuilder;
    use crate::signature::Signer;

    /// RFC 9000, appendix A.1, and the edges.
    #[test]
    fn numbers_are_those_of_quic() {
        for (number, bytes) in [
            (0, &[0][..]),
            (37, &[0x25]),
            (63, &[0x3F]),
            (64, &[0x40, 0x40]),
            (15_293, &[0x7b, 0xbd]),
            (16_383, &[0x7f, 0xff]),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (
                151_288_809_941_952_652,
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
            ),
            (VARINT_MAX, &[0xff; 8]),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            assert_eq!(out, bytes, "{number}");
            for cut in 0..bytes.len() {
                assert_eq!(take_varint(&bytes[..cut]), None, "{number} cut at {cut}");
            }
            assert_eq!(
                take_varint(&[bytes, &[7]].concat()),
                Some((number, &[7][..]))
            );
        }
    }

    fn send(number: u64, key: &MacKey) -> Vec<u8> {
        let mut frame = Vec::new();
        let mut builder = SendBuilder::begin(&mut frame, EndpointId(7), ChannelId(8), Sequence(9));
        builder
            .message(UnixNanos(0), &[], b"21.5")
            .expect("a short message");
        builder
            .finish(Signer::Datagram { key, number })
            .expect("a short frame");
        frame
    }

    #[test]
    fn a_signature_is_good_for_its_number_and_for_no_place_on_a_lane() {
        let key = MacKey::new(&[1; 32]);
        let bytes = send(5, &key);
        let frame = whole(&bytes).expect("a whole SEND");
        let parsed = Send::parse(frame).expect("a good SEND");
        assert!(verify(&key, 5, &parsed));
        assert!(!verify(&key, 6, &parsed), "another number");
        assert!(!verify(&MacKey::new(&[2; 32]), 5, &parsed), "another key");
        for index in 0..10 {
            assert!(!crate::signature::verify_session(&key, index, &frame));
        }
    }

    #[test]
    fn a_datagram_holds_one_whole_send_and_nothing_else() {
        let key = MacKey::new(&[1; 32]);
        let bytes = send(0, &key);
        assert!(whole(&bytes).is_some());
        assert!(whole(&bytes[..bytes.len() - 1]).is_none(), "cut short");
        assert!(
            whole(&[&bytes[..], &[0]].concat()).is_none(),
            "one byte more"
        );
        assert!(whole(&[]).is_none(), "nothing");
        let mut ping = Vec::new();
        crate::link::encode_ping(
            &mut ping,
            Sequence(1),
            Signer::Datagram {
                key: &key,
                number: 0,
            },
        );
        assert!(whole(&ping).is_none(), "another kind");
    }
}
