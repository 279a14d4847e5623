//! Envelopes: a SEND that its endpoint signed with its own key, carried by somebody else.

use ed25519_dalek::{Signature, VerifyingKey, verify_batch};

use super::{KeyRef, RELAY_CONTEXT, VerifyJob};
use crate::frame::SignatureKind;
use crate::send::Send;

/// Signatures checked together at most: beyond this a batch gains nothing and only holds memory.
const BATCH_MAX: usize = 64;

/// Whether an inner SEND is signed with this key of its endpoint. A signature kind that does not fit the
/// kind of key is refused, and so is a public key that is none. With a symmetric key this allocates nothing.
pub fn verify_envelope<'k>(key: impl Into<KeyRef<'k>>, send: &Send<'_>) -> bool {
    let (key, frame) = (key.into(), send.frame());
    match (key, frame.signature_kind()) {
        (KeyRef::Ed25519(key), SignatureKind::Ed25519) => {
            key.point().is_some_and(|key| verify_ed25519(key, send))
        }
        _ => VerifyJob::envelope(key, send).is_some_and(|job| job.verify()),
    }
}

/// Whether an inner SEND carries a good Ed25519 signature (RFC 8032, section 5.1.7) by the strict rule:
/// no small-order key or commitment, no cofactor. Allocates: context and frame are hashed as one.
pub fn verify_ed25519(key: &VerifyingKey, send: &Send<'_>) -> bool {
    let frame = send.frame();
    let Some(signature) = signature_of(send) else {
        return false;
    };
    let message = [RELAY_CONTEXT, frame.signed()].concat();
    key.verify_strict(&message, &signature).is_ok()
}

/// Check many envelopes at once: `good[i]` tells whether item `i` passed.
///
/// The strict rule of [`verify_ed25519`] decides. Signatures that it refuses by their looks (small order,
/// an encoding that is not the shortest, a signature kind other than Ed25519) never enter a batch; a batch
/// that fails is checked again one by one. A batch cannot tell a commitment with a torsion component from
/// one without; only the owner of the key can make such a one, over bytes of their own choice, so nobody
/// else gains from it. Allocates per call (the library's own tables, and one copy of the frames).
pub fn verify_ed25519_batch(items: &[(&VerifyingKey, &Send<'_>)], good: &mut Vec<bool>) {
    good.clear();
    let mut scratch = Vec::new();
    for batch in items.chunks(BATCH_MAX) {
        verify_some(batch, &mut scratch, good);
    }
}

fn verify_some(items: &[(&VerifyingKey, &Send<'_>)], scratch: &mut Vec<u8>, good: &mut Vec<bool>) {
    let start = good.len();
    let (mut keys, mut signatures, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    scratch.clear();
    for (key, send) in items {
        let signature =
            signature_of(send).filter(|signature| plausible(signature) && !key.is_weak());
        good.push(signature.is_some());
        let Some(signature) = signature else { continue };
        keys.push(**key);
        signatures.push(signature);
        scratch.extend_from_slice(RELAY_CONTEXT);
        scratch.extend_from_slice(send.frame().signed());
        ends.push(scratch.len());
    }
    let begins = std::iter::once(0).chain(ends.iter().copied());
    let messages: Vec<&[u8]> = begins
        .zip(&ends)
        .map(|(begin, end)| &scratch[begin..*end])
        .collect();
    if verify_batch(&messages, &signatures, &keys).is_ok() {
        return;
    }
    for (good, (key, send)) in good[start..].iter_mut().zip(items) {
        *good = *good && verify_ed25519(key, send);
    }
}

fn signature_of(send: &Send<'_>) -> Option<Signature> {
    let frame = send.frame();
    if frame.signature_kind() != SignatureKind::Ed25519 {
        return None;
    }
    Signature::from_slice(frame.signature()).ok()
}

/// Whether the commitment R is encoded in the shortest way and is none of the points of small order.
fn plausible(signature: &Signature) -> bool {
    let mut y = *signature.r_bytes();
    y[31] &= 0x7F;
    let canonical = y[31] != 0x7F || y[1..31].iter().any(|byte| *byte != 0xFF) || y[0] < 0xED;
    canonical && !SMALL_ORDER_Y.contains(&y)
}

/// The y coordinates of the eight points of small order: 0, 1, -1 and the two of order eight.
const SMALL_ORDER_Y: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = [0xFF; 32];
        minus_one[0] = 0xEC;
        minus_one[31] = 0x7F;
        minus_one
    },
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
];
