//! Shared by the targets: what one input may cost, and a frame's length mended, so that the fuzzer gets past it
//! into the body.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wire::{Frame, split};

/// What one input may hold at a time.
pub const INPUT_BYTES_MAX: u64 = 64 << 20;
/// The processor time that one input may take, of its own thread: neighbours cannot make it fail. The build
/// that measures is slowed down by coverage and AddressSanitizer, so the bound is a strict one.
pub const INPUT_TIME_MAX: Duration = Duration::from_millis(100);

/// Run one input's work and fail if it takes more memory or more time than an input may.
pub fn bounded(work: impl FnOnce()) {
    let start = thread_time();
    let held = allocation_counter::measure(work).bytes_max;
    let took = thread_time() - start;
    assert!(held <= INPUT_BYTES_MAX, "{held} bytes held at a time");
    assert!(took <= INPUT_TIME_MAX, "{took:?} of processor time");
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

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
