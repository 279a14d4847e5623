//! Shared by the targets: mends a frame's length, so that the fuzzer gets past it into the body.

use wire::{Frame, split};

/// Run `check` on the frame as it is, and on the frame with its length mended.
pub fn framed(data: &[u8], check: impl Fn(Frame<'_>)) {
    if let Ok(Some((frame, rest))) = split(data) {
        assert_eq!(frame.bytes().len() + rest.len(), data.len());
        assert_eq!(
            frame.signed().len() + frame.signature().len(),
            frame.bytes().len()
        );
        check(frame);
    }
    let mut mended = data.to_vec();
    if let Some(length) = mended.first_chunk_mut::<4>() {
        *length = (data.len() as u32).to_le_bytes();
    }
    if let Ok(Some((frame, _))) = split(&mended) {
        check(frame);
    }
}

/// Whether an encoder gives back what a parser took: everything but the signature.
pub fn same(frame: Frame<'_>, encode: impl FnOnce(&mut Vec<u8>, wire::signature::Signer<'_>)) {
    let key = wire::signature::MacKey::new(b"fuzz");
    let mut out = Vec::new();
    encode(
        &mut out,
        wire::signature::Signer::Session {
            key: &key,
            frame_index: 0,
        },
    );
    assert_eq!(&out[..out.len() - 32], frame.signed());
}
