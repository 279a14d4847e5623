//! HMACs in pairs. A turn has many frames to check and many to sign, each with a key of its own; two at a time
//! cost little more than one (see [`super::rounds`]). This file makes the pairs and compares the tags.
//!
//! Timing: what is done depends on how many messages there are and how long each is, which the wire shows
//! anyway. No branch, address or length depends on a key, a tag or the bytes of a message; tags are compared
//! whole, and a wrong one takes the same path as a right one up to the caller's own decision.

use subtle::ConstantTimeEq;

use super::mac::{MacKey, TAG_BYTES};
use super::padded::Padded;
use super::{KeyRef, RELAY_CONTEXT};
use crate::frame::{Frame, SignatureKind};
use crate::send::Send;

/// One tag to be made: a key, and what is signed with it. Copied freely: it only borrows.
#[derive(Clone, Copy, Debug)]
pub struct SignJob<'a> {
    key: &'a MacKey,
    prefix: Prefix,
    signed: &'a [u8],
}

/// What stands before the signed bytes: as words, of which the first or both count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix {
    pub(super) words: [u64; 2],
    pub(super) bytes: usize,
}

impl Prefix {
    const RELAY: Self = {
        let (words, _) = RELAY_CONTEXT.as_chunks::<8>();
        Self {
            words: [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])],
            bytes: RELAY_CONTEXT.len(),
        }
    };

    #[inline]
    const fn frame_index(index: u64) -> Self {
        Self {
            words: [index, 0],
            bytes: size_of::<u64>(),
        }
    }
}

impl<'a> SignJob<'a> {
    /// The session signature of the `frame_index`-th frame of a direction over its header and body.
    #[inline]
    pub fn session(key: &'a MacKey, frame_index: u64, signed: &'a [u8]) -> Self {
        let prefix = Prefix::frame_index(frame_index);
        Self {
            key,
            prefix,
            signed,
        }
    }

    /// The signature of an endpoint over the header and body of its envelope.
    #[inline]
    pub fn envelope(key: &'a MacKey, signed: &'a [u8]) -> Self {
        let prefix = Prefix::RELAY;
        Self {
            key,
            prefix,
            signed,
        }
    }

    /// The SHA-256 compressions that this job takes: its whole cost, and a matter of length alone.
    #[inline]
    pub fn compressions(&self) -> usize {
        Padded::count(self.prefix.bytes, self.signed.len()) + 1
    }

    /// The tag. One message alone: [`sign_many`] is cheaper for more.
    #[inline]
    pub fn sign(&self) -> [u8; TAG_BYTES] {
        let mut padded = Padded::empty();
        padded.fill(self.prefix, self.signed);
        let [tag] = tags([self.key], [&padded]);
        tag
    }
}

/// One tag to be checked.
#[derive(Clone, Copy, Debug)]
pub struct VerifyJob<'a> {
    sign: SignJob<'a>,
    tag: &'a [u8; TAG_BYTES],
}

impl<'a> VerifyJob<'a> {
    /// Whether `tag` is the one that `sign` would make.
    #[inline]
    pub fn new(sign: SignJob<'a>, tag: &'a [u8; TAG_BYTES]) -> Self {
        Self { sign, tag }
    }

    /// As [`super::verify_session`]; `None` for a frame that no session signed.
    #[inline]
    pub fn session(key: &'a MacKey, frame_index: u64, frame: &Frame<'a>) -> Option<Self> {
        if frame.signature_kind() != SignatureKind::Session {
            return None;
        }
        let tag = frame.signature().first_chunk()?;
        let sign = SignJob::session(key, frame_index, frame.signed());
        Some(Self { sign, tag })
    }

    /// As [`super::verify_envelope`]; `None` where the answer would be no, or the key is not symmetric.
    #[inline]
    pub fn envelope(key: impl Into<KeyRef<'a>>, send: &Send<'a>) -> Option<Self> {
        let frame = send.frame();
        match (key.into(), frame.signature_kind()) {
            (KeyRef::Symmetric(mac), SignatureKind::Key) => {
                let tag = frame.signature().first_chunk()?;
                let sign = SignJob::envelope(mac, frame.signed());
                Some(Self { sign, tag })
            }
            _ => None,
        }
    }

    /// The SHA-256 compressions that this job takes, be the tag right or wrong.
    #[inline]
    pub fn compressions(&self) -> usize {
        self.sign.compressions()
    }

    /// Whether the tag is right. One alone: [`verify_many`] is cheaper for more.
    #[inline]
    pub fn verify(&self) -> bool {
        equal(&self.sign.sign(), self.tag)
    }
}

/// Make two tags side by side. The messages may be of any two lengths; equal ones gain most.
#[inline]
pub fn sign_two(jobs: [&SignJob<'_>; 2]) -> [[u8; TAG_BYTES]; 2] {
    let mut padded = [const { Padded::empty() }; 2];
    for (padded, job) in padded.iter_mut().zip(jobs) {
        padded.fill(job.prefix, job.signed);
    }
    tags(jobs.map(|job| job.key), padded.each_ref())
}

/// Check two tags side by side, each for itself: a wrong one says nothing about the other.
#[inline]
pub fn verify_two(jobs: [&VerifyJob<'_>; 2]) -> [bool; 2] {
    let [first, second] = sign_two(jobs.map(|job| &job.sign));
    [equal(&first, jobs[0].tag), equal(&second, jobs[1].tag)]
}

/// Make the tag of every job, two at a time. Allocates nothing.
///
/// # Panics
/// When `tags` is not as long as `jobs`.
pub fn sign_many(jobs: &[SignJob<'_>], tags: &mut [[u8; TAG_BYTES]]) {
    assert_eq!(jobs.len(), tags.len(), "a tag for each job");
    let mut waiting = Waiting::default();
    for (at, job) in jobs.iter().enumerate() {
        if let Some(other) = waiting.pair(at, job.compressions()) {
            [tags[other], tags[at]] = sign_two([&jobs[other], job]);
        }
    }
    waiting.rest(|first, second| match second {
        Some(second) => {
            [tags[first], tags[second]] = sign_two([&jobs[first], &jobs[second]]);
        }
        None => tags[first] = jobs[first].sign(),
    });
}

/// Check every job, two at a time: `good[i]` tells whether the tag of job `i` is right. Allocates nothing.
///
/// # Panics
/// When `good` is not as long as `jobs`.
pub fn verify_many(jobs: &[VerifyJob<'_>], good: &mut [bool]) {
    assert_eq!(jobs.len(), good.len(), "an outcome for each job");
    let mut waiting = Waiting::default();
    for (at, job) in jobs.iter().enumerate() {
        if let Some(other) = waiting.pair(at, job.compressions()) {
            [good[other], good[at]] = verify_two([&jobs[other], job]);
        }
    }
    waiting.rest(|first, second| match second {
        Some(second) => {
            [good[first], good[second]] = verify_two([&jobs[first], &jobs[second]]);
        }
        None => good[first] = jobs[first].verify(),
    });
}

/// Jobs that wait for another of about their own length: at most one for each number of compressions, and
/// beyond [`Waiting::EXACT`] one for each power of two.
struct Waiting {
    jobs: [usize; Self::EXACT + usize::BITS as usize],
}

impl Waiting {
    const EXACT: usize = 24;
    const NOBODY: usize = usize::MAX;

    /// The job that `at` shall be paired with; `None` leaves `at` waiting.
    #[inline]
    fn pair(&mut self, at: usize, compressions: usize) -> Option<usize> {
        let place = if compressions < Self::EXACT {
            compressions
        } else {
            Self::EXACT + compressions.ilog2() as usize
        };
        let other = std::mem::replace(&mut self.jobs[place], Self::NOBODY);
        if other == Self::NOBODY {
            self.jobs[place] = at;
            return None;
        }
        Some(other)
    }

    /// Those that are left, shortest first: each with the next longer one, the last perhaps alone.
    fn rest(self, mut take: impl FnMut(usize, Option<usize>)) {
        let mut left = self.jobs.into_iter().filter(|job| *job != Self::NOBODY);
        while let Some(first) = left.next() {
            take(first, left.next());
        }
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            jobs: [Self::NOBODY; Self::EXACT + usize::BITS as usize],
        }
    }
}

/// By the processor's SHA instructions where it has them, else by the `sha2` crate.
#[inline]
fn tags<const LANES: usize>(
    keys: [&MacKey; LANES],
    messages: [&Padded<'_>; LANES],
) -> [[u8; TAG_BYTES]; LANES] {
    #[cfg(target_arch = "x86_64")]
    if let Some(tags) = super::rounds::tags(keys, messages) {
        return tags;
    }
    portable(keys, messages)
}

fn portable<const LANES: usize>(
    keys: [&MacKey; LANES],
    messages: [&Padded<'_>; LANES],
) -> [[u8; TAG_BYTES]; LANES] {
    let mut tags = [[0; TAG_BYTES]; LANES];
    for ((tag, key), message) in tags.iter_mut().zip(keys).zip(messages) {
        *tag = key.tag(message);
    }
    tags
}

/// Whether two tags are the same: one comparison of all their bits, without a branch.
#[inline]
pub(super) fn equal(left: &[u8; TAG_BYTES], right: &[u8; TAG_BYTES]) -> bool {
    let (left, _) = left.as_chunks::<8>();
    let (right, _) = right.as_chunks::<8>();
    let differ = left
        .iter()
        .zip(right)
        .map(|(left, right)| u64::from_ne_bytes(*left) ^ u64::from_ne_bytes(*right))
        .fold(0, |differ, bits| differ | bits);
    differ.ct_eq(&0).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;

    struct Case {
        secret: Vec<u8>,
        key: MacKey,
        index: Option<u64>,
        bytes: Vec<u8>,
    }

    impl Case {
        fn new(random: &mut fastrand::Rng, bytes: usize) -> Self {
            let secret: Vec<u8> = (0..random.usize(0..100)).map(|_| random.u8(..)).collect();
            Self {
                key: MacKey::new(&secret),
                secret,
                index: random.bool().then(|| random.u64(..)),
                bytes: (0..bytes).map(|_| random.u8(..)).collect(),
            }
        }

        fn job(&self) -> SignJob<'_> {
            match self.index {
                Some(index) => SignJob::session(&self.key, index, &self.bytes),
                None => SignJob::envelope(&self.key, &self.bytes),
            }
        }

        fn oracle(&self) -> [u8; TAG_BYTES] {
            let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("any length will do");
            match self.index {
                Some(index) => mac.update(&index.to_le_bytes()),
                None => mac.update(RELAY_CONTEXT),
            }
            mac.update(&self.bytes);
            mac.finalize().into_bytes().into()
        }
    }

    fn agrees(first: &Case, second: &Case) {
        let want = [first.oracle(), second.oracle()];
        let why = || format!("{} and {} bytes", first.bytes.len(), second.bytes.len());
        let (left, right) = (first.job(), second.job());
        assert_eq!(sign_two([&left, &right]), want, "{}", why());
        assert_eq!([left.sign(), right.sign()], want, "{} alone", why());
        let keys = [left.key, right.key];
        let mut padded = [const { Padded::empty() }; 2];
        padded[0].fill(left.prefix, left.signed);
        padded[1].fill(right.prefix, right.signed);
        let without = portable(keys, padded.each_ref());
        assert_eq!(without, want, "{} without SHA instructions", why());
        assert_eq!(left.compressions(), padded[0].blocks() + 1, "{}", why());
    }

    #[test]
    fn two_side_by_side_agree_with_the_hmac_crate_for_random_lengths() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..1_500 {
            let (first, second) = (random.usize(0..4097), random.usize(0..4097));
            let first = Case::new(&mut random, first);
            let second = Case::new(&mut random, second);
            agrees(&first, &second);
        }
    }

    #[test]
    fn every_length_around_a_block_boundary_agrees_beside_every_number_of_blocks() {
        let mut random = fastrand::Rng::with_seed(12);
        for bytes in 0..260 {
            for other in [0, 40, 50, 110, 170, 240, 310] {
                let first = Case::new(&mut random, bytes);
                let second = Case::new(&mut random, other);
                agrees(&first, &second);
                agrees(&second, &first);
            }
        }
        for blocks in 1..40 {
            for other in 1..40 {
                let first = Case::new(&mut random, blocks * 64 - 40);
                let second = Case::new(&mut random, other * 64 - 40);
                agrees(&first, &second);
            }
        }
    }

    #[test]
    fn a_wrong_tag_is_refused_in_its_own_lane_only() {
        let mut random = fastrand::Rng::with_seed(13);
        for _ in 0..300 {
            let cases: [Case; 2] = std::array::from_fn(|_| {
                let bytes = random.usize(0..300);
                Case::new(&mut random, bytes)
            });
            let right = [cases[0].oracle(), cases[1].oracle()];
            for wrong in [[false, false], [true, false], [false, true], [true, true]] {
                let mut tags = right;
                for lane in 0..2 {
                    let bit = random.usize(0..256);
                    tags[lane][bit / 8] ^= u8::from(wrong[lane]) << (bit % 8);
                }
                let jobs = [0, 1].map(|lane| VerifyJob::new(cases[lane].job(), &tags[lane]));
                let want = wrong.map(|wrong| !wrong);
                assert_eq!(verify_two([&jobs[0], &jobs[1]]), want);
                assert_eq!(jobs.map(|job| job.verify()), want);
            }
        }
    }

    #[test]
    fn every_bit_of_a_tag_counts() {
        let mut random = fastrand::Rng::with_seed(14);
        let case = Case::new(&mut random, 156);
        for bit in 0..256 {
            let mut tag = case.oracle();
            assert!(VerifyJob::new(case.job(), &tag).verify());
            tag[bit / 8] ^= 1 << (bit % 8);
            assert!(!VerifyJob::new(case.job(), &tag).verify(), "bit {bit}");
        }
    }

    #[test]
    fn many_of_any_lengths_are_each_decided_and_signed_as_if_alone() {
        let mut random = fastrand::Rng::with_seed(15);
        for count in 0..70 {
            let cases: Vec<Case> = (0..count)
                .map(|_| {
                    let bytes = match random.u8(0..4) {
                        0 => random.usize(0..20_000),
                        _ => random.usize(0..400),
                    };
                    Case::new(&mut random, bytes)
                })
                .collect();
            let signs: Vec<SignJob<'_>> = cases.iter().map(Case::job).collect();
            let want: Vec<[u8; TAG_BYTES]> = cases.iter().map(Case::oracle).collect();
            let mut tags = vec![[0; TAG_BYTES]; count];
            sign_many(&signs, &mut tags);
            assert_eq!(tags, want);
            let right: Vec<bool> = (0..count).map(|_| random.bool()).collect();
            for (tag, right) in tags.iter_mut().zip(&right) {
                tag[random.usize(0..TAG_BYTES)] ^= u8::from(!right);
            }
            let jobs: Vec<VerifyJob<'_>> = signs
                .iter()
                .zip(&tags)
                .map(|(sign, tag)| VerifyJob::new(*sign, tag))
                .collect();
            let mut good = vec![random.bool(); count];
            verify_many(&jobs, &mut good);
            assert_eq!(good, right);
        }
    }
}
