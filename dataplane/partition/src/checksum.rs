//! XXH3-64 of what a record holds: the hash of the `xxhash-rust` crate for every length, with the lengths of single messages
//! and of record headers written out here. There the crate goes through a call, checks and gathers vectors that cost more than
//! the multiplications. Knows no record.
//!
//! The algorithm is "XXH3_64bits" of xxHash 0.8; the secret is its default one.

use xxhash_rust::xxh3::xxh3_64;

/// Words of 64 bits in a record's header as it is hashed.
pub(crate) const HEADER_WORDS: usize = 7;

const PRIME_1: u64 = 0x9E37_79B1_85EB_CA87;
const AVALANCHE: u64 = 0x1656_6791_9E37_79F9;

#[rustfmt::skip]
const SECRET: [u8; 192] = [
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
];

const fn secret(at: usize) -> u64 {
    let mut word = 0;
    let mut byte = 8;
    while byte > 0 {
        byte -= 1;
        word = word << 8 | SECRET[at + byte] as u64;
    }
    word
}

/// The secrets of the steps of 16 bytes that a payload of 129 to 240 bytes takes, its last one aside.
const STEPS: [[u64; 2]; 15] = {
    let mut steps = [[0; 2]; 15];
    let mut step = 0;
    while step < steps.len() {
        let at = if step < 8 {
            16 * step
        } else {
            16 * (step - 8) + 3
        };
        steps[step] = [secret(at), secret(at + 8)];
        step += 1;
    }
    steps
};

/// The hash of a payload, without a seed.
#[inline]
pub(crate) fn of_payload(payload: &[u8]) -> u64 {
    match payload.len() {
        129..=240 => of_message(payload),
        _ => xxh3_64(payload),
    }
}

/// The hash of 129 to 240 bytes.
#[inline]
fn of_message(payload: &[u8]) -> u64 {
    let (steps, _) = payload.as_chunks::<16>();
    let (first, more) = steps.split_at(8);
    let mut hash = (payload.len() as u64).wrapping_mul(PRIME_1);
    for (step, secret) in first.iter().zip(&STEPS) {
        hash = hash.wrapping_add(mix(words(step), *secret));
    }
    hash = avalanche(hash);
    for (step, secret) in more.iter().zip(&STEPS[8..]) {
        hash = hash.wrapping_add(mix(words(step), *secret));
    }
    let last = payload.last_chunk().expect("longer than a step");
    avalanche(hash.wrapping_add(mix(words(last), [secret(119), secret(127)])))
}

/// The hash of a record's header with a seed.
#[inline]
pub(crate) fn of_header(words: &[u64; HEADER_WORDS], seed: u64) -> u64 {
    let [first, second, third, fourth, fifth, sixth, seventh] = *words;
    let seeded = |at| {
        [
            secret(at).wrapping_add(seed),
            secret(at + 8).wrapping_sub(seed),
        ]
    };
    let hash = (8 * HEADER_WORDS as u64)
        .wrapping_mul(PRIME_1)
        .wrapping_add(mix([third, fourth], seeded(32)))
        .wrapping_add(mix([fourth, fifth], seeded(48)))
        .wrapping_add(mix([first, second], seeded(0)))
        .wrapping_add(mix([sixth, seventh], seeded(16)));
    avalanche(hash)
}

#[inline]
fn words(step: &[u8; 16]) -> [u64; 2] {
    let (words, _) = step.as_chunks::<8>();
    [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])]
}

#[inline]
const fn mix([low, high]: [u64; 2], secret: [u64; 2]) -> u64 {
    let product = (low ^ secret[0]) as u128 * (high ^ secret[1]) as u128;
    product as u64 ^ (product >> 64) as u64
}

#[inline]
const fn avalanche(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 37).wrapping_mul(AVALANCHE);
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_64_with_seed;

    #[test]
    fn every_length_hashes_as_the_crate_hashes_it() {
        let mut random = fastrand::Rng::with_seed(21);
        for bytes in 0..600 {
            for _ in 0..8 {
                let payload: Vec<u8> = (0..bytes).map(|_| random.u8(..)).collect();
                assert_eq!(of_payload(&payload), xxh3_64(&payload), "{bytes} bytes");
            }
        }
    }

    #[test]
    fn a_header_hashes_as_the_crate_hashes_its_bytes() {
        let mut random = fastrand::Rng::with_seed(22);
        for _ in 0..2_000 {
            let (words, seed) = (std::array::from_fn(|_| random.u64(..)), random.u64(..));
            let bytes: Vec<u8> = words
                .iter()
                .flat_map(|word: &u64| word.to_le_bytes())
                .collect();
            assert_eq!(
                of_header(&words, seed),
                xxh3_64_with_seed(&bytes, seed),
                "{words:x?}"
            );
        }
    }
}
