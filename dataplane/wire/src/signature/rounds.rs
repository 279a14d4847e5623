//! HMAC-SHA256 on the processor's own SHA instructions, for one message or for two side by side.
//!
//! `sha256rnds2` takes four cycles and another may begin every two, so one message alone leaves half of
//! the unit idle: each round waits for the one before. Two independent messages fill the gaps, which nearly
//! halves the time of each. This file knows the rounds and nothing else: what is signed, and which two
//! messages make a pair, is decided in [`super::pair`].
//!
//! The only unsafe expression of this crate is here: the call of a function that needs instructions, after
//! they have been found. Everything is loaded and stored through integers, never through a pointer.

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_cvtsi128_si64, _mm_extract_epi64,
    _mm_set_epi32, _mm_set_epi64x, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32,
    _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
};

use super::mac::{MacKey, TAG_BYTES};
use super::padded::{Block, Padded};

/// The tags of as many messages as there are lanes; `None` where the processor lacks an instruction.
///
/// Time depends on the messages' numbers of blocks alone: every block takes the same instructions, and
/// neither a branch nor an address is made of a key's or a message's bytes.
#[inline]
pub(super) fn tags<const LANES: usize>(
    keys: [&MacKey; LANES],
    messages: [&Padded<'_>; LANES],
) -> Option<[[u8; TAG_BYTES]; LANES]> {
    if !available() {
        return None;
    }
    // SAFETY: `run` is safe but for the instructions it needs, and `available` has found each of them.
    Some(unsafe { run(keys, messages) })
}

/// Whether the processor has what [`run`] is compiled for; std asks it once and keeps the answer.
fn available() -> bool {
    is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("sse2")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1")
}

/// A state as the instructions want it: words a, b, e, f in one register and c, d, g, h in the other.
#[derive(Clone, Copy)]
struct State {
    abef: __m128i,
    cdgh: __m128i,
}

/// The blocks that all messages have are taken side by side, those that only the longer one has alone, and
/// the last compression, of the inner digests, side by side again. One loop, so that the rounds stand in it
/// once and the states stay in registers from block to block.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
fn run<const LANES: usize>(
    keys: [&MacKey; LANES],
    messages: [&Padded<'_>; LANES],
) -> [[u8; TAG_BYTES]; LANES] {
    let zero = _mm_set_epi32(0, 0, 0, 0);
    let mut states = [State {
        abef: zero,
        cdgh: zero,
    }; LANES];
    let mut common = usize::MAX;
    for lane in 0..LANES {
        states[lane] = State::from_words(&keys[lane].inner);
        common = common.min(messages[lane].blocks());
    }
    for at in 0..=common {
        let mut words = [[zero; 4]; LANES];
        for lane in 0..LANES {
            if at < common {
                words[lane] = load(messages[lane].block(at));
                continue;
            }
            if LANES > 1 && common < messages[lane].blocks() {
                rest(&mut states[lane], messages[lane], common);
            }
            words[lane] = outer_words(states[lane]);
            states[lane] = State::from_words(&keys[lane].outer);
        }
        compress(&mut states, words);
    }
    let mut tags = [[0; TAG_BYTES]; LANES];
    for lane in 0..LANES {
        let (tag, words) = (&mut tags[lane], states[lane].to_words());
        tag[..16].copy_from_slice(&store(swap(words[0])));
        tag[16..].copy_from_slice(&store(swap(words[1])));
    }
    tags
}

/// What a longer message has beyond its neighbour's end.
#[inline(never)]
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
fn rest(state: &mut State, message: &Padded<'_>, from: usize) {
    let mut alone = [*state];
    for at in from..message.blocks() {
        compress(&mut alone, [load(message.block(at))]);
    }
    *state = alone[0];
}

/// The block of an outer hash: a digest is its first half as it stands, the padding its second.
#[inline]
#[target_feature(enable = "sse2,ssse3,sse4.1")]
fn outer_words(inner: State) -> [__m128i; 4] {
    let [first, second] = inner.to_words();
    [
        first,
        second,
        _mm_set_epi32(0, 0, 0, i32::MIN),
        _mm_set_epi32((64 + TAG_BYTES as i32) * 8, 0, 0, 0),
    ]
}

impl State {
    #[inline]
    #[target_feature(enable = "sse2,ssse3,sse4.1")]
    fn from_words(words: &[u32; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = words.map(u32::cast_signed);
        let cdab = _mm_shuffle_epi32::<0xB1>(_mm_set_epi32(d, c, b, a));
        let efgh = _mm_shuffle_epi32::<0x1B>(_mm_set_epi32(h, g, f, e));
        Self {
            abef: _mm_alignr_epi8::<8>(cdab, efgh),
            cdgh: _mm_blend_epi16::<0xF0>(efgh, cdab),
        }
    }

    /// Words a to d and e to h, the first of each in the lowest place.
    #[inline]
    #[target_feature(enable = "sse2,ssse3,sse4.1")]
    fn to_words(self) -> [__m128i; 2] {
        let feba = _mm_shuffle_epi32::<0x1B>(self.abef);
        let dchg = _mm_shuffle_epi32::<0xB1>(self.cdgh);
        [
            _mm_blend_epi16::<0xF0>(feba, dchg),
            _mm_alignr_epi8::<8>(dchg, feba),
        ]
    }
}

/// Big-endian words to the processor's own, or back.
#[inline]
#[target_feature(enable = "sse2,ssse3")]
fn swap(words: __m128i) -> __m128i {
    let order = _mm_set_epi64x(0x0C0D_0E0F_0809_0A0B, 0x0405_0607_0001_0203);
    _mm_shuffle_epi8(words, order)
}

#[inline]
#[target_feature(enable = "sse2,sse4.1")]
fn store(words: __m128i) -> [u8; 16] {
    let (low, high) = (_mm_cvtsi128_si64(words), _mm_extract_epi64::<1>(words));
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&low.to_le_bytes());
    bytes[8..].copy_from_slice(&high.to_le_bytes());
    bytes
}

#[inline]
#[target_feature(enable = "sse2,ssse3")]
fn load(block: Block<'_>) -> [__m128i; 4] {
    match block {
        Block::First([first, second], begin) => {
            let (eights, _) = begin.as_chunks();
            [
                sixteen(first.to_le_bytes(), second.to_le_bytes()),
                sixteen(eights[0], eights[1]),
                sixteen(eights[2], eights[3]),
                sixteen(eights[4], eights[5]),
            ]
        }
        Block::Whole(block) => {
            let (eights, _) = block.as_chunks();
            [
                sixteen(eights[0], eights[1]),
                sixteen(eights[2], eights[3]),
                sixteen(eights[4], eights[5]),
                sixteen(eights[6], eights[7]),
            ]
        }
    }
}

#[inline]
#[target_feature(enable = "sse2,ssse3")]
fn sixteen(low: [u8; 8], high: [u8; 8]) -> __m128i {
    swap(_mm_set_epi64x(
        i64::from_le_bytes(high),
        i64::from_le_bytes(low),
    ))
}

/// One block of each lane. Four rounds of one lane, then the same four of the other: near enough to each other
/// for the processor to overlap them, and few enough to fit its sixteen registers.
#[inline]
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
fn compress<const LANES: usize>(states: &mut [State; LANES], mut words: [[__m128i; 4]; LANES]) {
    let before = *states;
    macro_rules! four {
        ($four:literal) => {
            for lane in 0..LANES {
                if $four >= 4 {
                    schedule::<{ $four % 4 }>(&mut words[lane]);
                }
                rounds::<$four>(&mut states[lane], words[lane][$four % 4]);
            }
        };
    }
    four!(0);
    four!(1);
    four!(2);
    four!(3);
    four!(4);
    four!(5);
    four!(6);
    four!(7);
    four!(8);
    four!(9);
    four!(10);
    four!(11);
    four!(12);
    four!(13);
    four!(14);
    four!(15);
    for lane in 0..LANES {
        states[lane].abef = _mm_add_epi32(states[lane].abef, before[lane].abef);
        states[lane].cdgh = _mm_add_epi32(states[lane].cdgh, before[lane].cdgh);
    }
}

/// The next four words of the message schedule, in place of the four that came sixteen earlier.
#[inline]
#[target_feature(enable = "sha,sse2,ssse3")]
fn schedule<const AT: usize>(words: &mut [__m128i; 4]) {
    let (first, second) = (words[AT], words[(AT + 1) % 4]);
    let (third, fourth) = (words[(AT + 2) % 4], words[(AT + 3) % 4]);
    let sum = _mm_add_epi32(
        _mm_sha256msg1_epu32(first, second),
        _mm_alignr_epi8::<4>(fourth, third),
    );
    words[AT] = _mm_sha256msg2_epu32(sum, fourth);
}

#[inline]
#[target_feature(enable = "sha,sse2")]
fn rounds<const FOUR: usize>(state: &mut State, words: __m128i) {
    let [a, b, c, d] = const {
        [
            CONSTANTS[FOUR * 4].cast_signed(),
            CONSTANTS[FOUR * 4 + 1].cast_signed(),
            CONSTANTS[FOUR * 4 + 2].cast_signed(),
            CONSTANTS[FOUR * 4 + 3].cast_signed(),
        ]
    };
    let words = _mm_add_epi32(words, _mm_set_epi32(d, c, b, a));
    state.cdgh = _mm_sha256rnds2_epu32(state.cdgh, state.abef, words);
    let words = _mm_shuffle_epi32::<0x0E>(words);
    state.abef = _mm_sha256rnds2_epu32(state.abef, state.cdgh, words);
}

/// FIPS 180-4, section 4.2.2.
#[rustfmt::skip]
const CONSTANTS: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];
