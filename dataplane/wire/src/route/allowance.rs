//! Allowances: how many messages, or bytes of frames, may be sent in a second. Each fills up evenly and holds one second's worth,
//! one of bytes at least a frame of the longest, so that every frame can be sent at some time. There is one for a whole node, however many shards take from it; knows no clock, time is an argument.
//!
//! An allowance is one number that two threads touch: the moment up to which time has paid for what was taken (GCRA). It changes by
//! a single exchange, or not at all, so of two that take what only one can have, one is refused. No other memory hangs on it, so
//! no order of other accesses is asked for. `tests/interleavings.rs` runs through every order.

#[cfg(not(feature = "interleavings"))]
use std::sync::Arc;
#[cfg(not(feature = "interleavings"))]
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "interleavings")]
use loom::sync::Arc;
#[cfg(feature = "interleavings")]
use loom::sync::atomic::{AtomicU64, Ordering};

use crate::limits::FRAME_BYTES_MAX;
use crate::reason::Reason;

/// How much may be sent in a second; the default has no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Messages.
    pub messages_per_second: Option<u32>,
    /// Bytes of whole frames.
    pub bytes_per_second: Option<u64>,
}

/// Whose rate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// An endpoint's grant for one channel.
    Grant,
    /// An endpoint's, over all its channels.
    Endpoint,
    /// An account's, over all its endpoints.
    Account,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Messages.
    Messages,
    /// Bytes of whole frames.
    Bytes,
}

const SECOND: u64 = 1_000_000_000;
/// At rates beyond a million a second, nanoseconds of more than a second's worth that may be taken at once: what rounding up costs.
const ROUNDING_MAX: u64 = SECOND / 1_000;
/// By how much the clocks of two shards may differ: each reads it once a turn. What is owed for longer than that beyond what this
/// rate lets anybody owe was taken at another rate.
const CLOCKS_APART: u64 = SECOND;

/// One rate and what was taken of it, shared by all who hold a clone.
#[derive(Debug, Clone)]
pub struct Allowance {
    holder: Holder,
    unit: Unit,
    per_second: u64,
    /// Nanoseconds: time has paid for everything taken up to this moment.
    paid: Arc<AtomicU64>,
}

/// Why an allowance does not give so much now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdrawn {
    /// Whose rate, and of what.
    pub reason: Reason,
    /// How much was asked for.
    pub seen: u64,
    /// How much there is in a second.
    pub needed: u64,
    /// When it would be given if nobody else took anything; 0: never, it is more than is ever there.
    pub retry_after_ms: u32,
}

impl Allowance {
    /// Full, at this rate.
    #[must_use]
    pub fn new(holder: Holder, unit: Unit, per_second: u64) -> Self {
        Self {
            holder,
            unit,
            per_second,
            paid: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Whose it is, and of what.
    pub(super) fn kind(&self) -> (Holder, Unit) {
        (self.holder, self.unit)
    }

    /// Go on from what was taken of another one, which stands for the same in an older table.
    pub(super) fn go_on_from(&mut self, before: &Self) {
        self.paid = Arc::clone(&before.paid);
    }

    /// What a frame counts here.
    fn count(&self, messages: u32, bytes: u64) -> u64 {
        match self.unit {
            Unit::Messages => u64::from(messages),
            Unit::Bytes => bytes,
        }
    }

    /// How much it holds.
    fn holds(&self) -> u64 {
        match self.unit {
            Unit::Messages => self.per_second,
            Unit::Bytes => self.per_second.max(FRAME_BYTES_MAX as u64),
        }
    }

    /// Nanoseconds in which time pays for so much, or `None` for more than it holds.
    fn cost(&self, count: u64) -> Option<u64> {
        if self.per_second == 0 || count > self.holds() {
            return None;
        }
        let nanos = u128::from(SECOND) * u128::from(count);
        u64::try_from(nanos.div_ceil(self.per_second.into())).ok()
    }

    /// Nanoseconds that may be owed after something was taken.
    fn most(&self) -> u64 {
        let rounding = self.per_second.min(ROUNDING_MAX);
        self.cost(self.holds()).unwrap_or(0) + rounding
    }

    /// What time has paid for. Where more is owed than this rate lets anybody owe, the rate was lower when it was taken: what is too
    /// much is forgiven, or who is given a higher rate would have to wait as the lower one had it.
    fn paid(&self, now: u64) -> u64 {
        let paid = self.paid.load(Ordering::Relaxed);
        let most = now + self.most();
        if paid <= most + CLOCKS_APART {
            return paid;
        }
        let exchange = self
            .paid
            .compare_exchange(paid, most, Ordering::Relaxed, Ordering::Relaxed);
        exchange.map_or_else(|seen| seen, |_| most)
    }

    /// Nanoseconds until so much could be taken; 0: now.
    fn wait(&self, paid: u64, now: u64, cost: u64) -> u64 {
        (paid.max(now) + cost).saturating_sub(now + self.most())
    }

    fn take(&self, now: u64, cost: u64) -> Result<(), u64> {
        let mut paid = self.paid.load(Ordering::Relaxed);
        loop {
            let wait = self.wait(paid, now, cost);
            if wait > 0 {
                return Err(wait);
            }
            let after = paid.max(now) + cost;
            let exchange =
                self.paid
                    .compare_exchange(paid, after, Ordering::Relaxed, Ordering::Relaxed);
            match exchange {
                Ok(_) => return Ok(()),
                Err(seen) => paid = seen,
            }
        }
    }

    /// What was taken was not used. The rate may have become lower since, and the cost higher than it was.
    fn give_back(&self, cost: u64) {
        let less = |paid: u64| Some(paid.saturating_sub(cost));
        let changed = self
            .paid
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        changed.expect("it is always changed");
    }

    fn overdrawn(&self, count: u64, wait: Option<u64>) -> Overdrawn {
        let reason = match (self.holder, self.unit) {
            (Holder::Grant, Unit::Messages) => Reason::RestrictedRate,
            (Holder::Grant, Unit::Bytes) => Reason::RestrictedByteRate,
            (Holder::Endpoint, Unit::Bytes) => Reason::EndpointByteRate,
            (Holder::Endpoint, Unit::Messages) => Reason::EndpointRate,
            (Holder::Account, Unit::Messages) => Reason::AccountRate,
            (Holder::Account, Unit::Bytes) => Reason::AccountByteRate,
        };
        let millis = |wait: u64| u32::try_from(wait.div_ceil(1_000_000)).unwrap_or(u32::MAX);
        Overdrawn {
            reason,
            seen: count,
            needed: self.per_second,
            retry_after_ms: wait.map_or(0, millis),
        }
    }
}

/// Take a frame of so many messages and bytes out of all these allowances at `now`, in nanoseconds of the process, or out of none.
/// Allocates nothing.
///
/// # Errors
/// The one that has to be waited for longest.
pub fn take<'a>(
    allowances: impl Iterator<Item = &'a Allowance> + Clone,
    messages: u32,
    bytes: u64,
    now: u64,
) -> Result<(), Overdrawn> {
    let mut worst: Option<(u64, &Allowance, u64)> = None;
    for allowance in allowances.clone() {
        let count = allowance.count(messages, bytes);
        let Some(cost) = allowance.cost(count) else {
            return Err(allowance.overdrawn(count, None));
        };
        let wait = allowance.wait(allowance.paid(now), now, cost);
        if wait > worst.map_or(0, |(wait, ..)| wait) {
            worst = Some((wait, allowance, count));
        }
    }
    if let Some((wait, allowance, count)) = worst {
        return Err(allowance.overdrawn(count, Some(wait)));
    }
    for (taken, allowance) in allowances.clone().enumerate() {
        let count = allowance.count(messages, bytes);
        let cost = allowance.cost(count).unwrap_or(0);
        if let Err(wait) = allowance.take(now, cost) {
            // Another thread was faster.
            give_back(allowances.take(taken), messages, bytes);
            return Err(allowance.overdrawn(count, Some(wait)));
        }
    }
    Ok(())
}

/// A frame that was taken out of these allowances was refused after all.
pub fn give_back<'a>(allowances: impl Iterator<Item = &'a Allowance>, messages: u32, bytes: u64) {
    for allowance in allowances {
        let cost = allowance.cost(allowance.count(messages, bytes));
        allowance.give_back(cost.unwrap_or(0));
    }
}

#[cfg(all(test, not(feature = "interleavings")))]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn messages(per_second: u64) -> Allowance {
        Allowance::new(Holder::Grant, Unit::Messages, per_second)
    }

    #[test]
    fn a_second_s_worth_is_given_at_once_at_every_rate_and_one_more_is_not() {
        for per_second in [1, 2, 3, 7, 999, 4_096] {
            let one = [messages(per_second)];
            let given = (0..per_second + 5).filter(|_| take(one.iter(), 1, 0, 77).is_ok());
            assert_eq!(given.count() as u64, per_second);
        }
    }

    #[test]
    fn the_time_told_is_the_time_after_which_it_is_given_and_not_a_millisecond_before() {
        let (mut now, mut random) = (5 * SECOND, fastrand::Rng::with_seed(11));
        let all = [
            messages(100),
            Allowance::new(Holder::Endpoint, Unit::Bytes, 50_000),
            Allowance::new(Holder::Account, Unit::Messages, 130),
        ];
        let (mut given, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let (count, bytes) = (random.u32(1..20), random.u64(100..9_000));
            match take(all.iter(), count, bytes, now) {
                Ok(()) => given += 1,
                Err(overdrawn) => {
                    refused += 1;
                    let wait = u64::from(overdrawn.retry_after_ms) * MILLI;
                    assert!(take(all.iter(), count, bytes, now + wait - MILLI).is_err());
                    assert_eq!(take(all.iter(), count, bytes, now + wait), Ok(()));
                    now += wait;
                }
            }
            now += random.u64(0..160 * MILLI);
        }
        assert!(given > 1_000 && refused > 1_000, "{given} {refused}");
    }

    #[test]
    fn what_one_refuses_the_others_do_not_lose_and_what_is_given_back_is_there_again() {
        let bytes = 1 << 20;
        let all = [
            messages(10),
            Allowance::new(Holder::Endpoint, Unit::Bytes, bytes),
        ];
        assert_eq!(take(all.iter(), 4, bytes, 0), Ok(()));
        let told = take(all.iter(), 6, bytes / 2, 0).expect_err("no bytes are left");
        assert_eq!(
            (told.reason, told.seen, told.needed, told.retry_after_ms),
            (Reason::EndpointByteRate, bytes / 2, bytes, 499)
        );
        assert_eq!(
            take(all[..1].iter(), 6, 0, 0),
            Ok(()),
            "messages were not lost"
        );
        give_back(all[..1].iter(), 3, 0);
        assert_eq!(take(all[..1].iter(), 3, 0, 0), Ok(()));
        assert!(take(all[..1].iter(), 1, 0, 0).is_err());
    }

    #[test]
    fn of_several_that_are_short_the_one_is_told_that_takes_longest_in_whatever_order() {
        let bytes = 1 << 20;
        let mut all = [
            messages(10),
            Allowance::new(Holder::Endpoint, Unit::Bytes, bytes),
            Allowance::new(Holder::Account, Unit::Messages, 40),
        ];
        assert_eq!(take(all.iter(), 10, bytes, 0), Ok(()));
        assert_eq!(take(all[2..].iter(), 30, 0, 0), Ok(()));
        for _ in 0..3 {
            let told = take(all.iter(), 1, bytes / 2, 0).expect_err("all are short");
            assert_eq!(told.reason, Reason::EndpointByteRate);
            all.rotate_left(1);
        }
    }

    #[test]
    fn the_longest_frame_comes_at_some_time_however_few_bytes_a_second_there_are() {
        let slow = [Allowance::new(Holder::Account, Unit::Bytes, 1_024)];
        let frame = FRAME_BYTES_MAX as u64;
        assert_eq!(take(slow.iter(), 1, frame, SECOND), Ok(()));
        let told = take(slow.iter(), 1, frame, SECOND).expect_err("all is taken");
        let wait = u64::from(told.retry_after_ms) * MILLI;
        assert!((511 * SECOND..=512 * SECOND).contains(&wait), "{wait}");
        assert_eq!(take(slow.iter(), 1, frame, SECOND + wait), Ok(()));
    }

    #[test]
    fn who_is_given_a_higher_rate_waits_as_long_as_that_rate_asks_and_no_longer() {
        let frame = FRAME_BYTES_MAX as u64;
        let bytes = |per_second| [Allowance::new(Holder::Endpoint, Unit::Bytes, per_second)];
        let slow = bytes(1_024);
        assert_eq!(take(slow.iter(), 1, frame, SECOND), Ok(()));
        let mut fast = bytes(frame);
        fast[0].go_on_from(&slow[0]);
        // It owes what is owed at most at its new rate: a second's worth.
        let told = take(fast.iter(), 1, frame, SECOND).expect_err("all is taken");
        assert_eq!(told.retry_after_ms, 1_000);
        assert_eq!(take(fast.iter(), 1, frame, 2 * SECOND), Ok(()));
        let told = take(fast.iter(), 1, frame, 2 * SECOND).expect_err("all is taken again");
        assert_eq!(told.retry_after_ms, 1_000);
    }

    #[test]
    fn a_shard_whose_turn_is_long_forgives_nothing_that_others_took() {
        let one = [messages(100)];
        let mut given = 0;
        for turn in 0..1_000 {
            let now = 10 * SECOND + turn * MILLI;
            while take(one.iter(), 1, 0, now).is_ok() {
                given += 1;
            }
            // Its clock is that of the begin of its turn.
            assert!(take(one.iter(), 1, 0, now - 900 * MILLI).is_err());
        }
        assert!((199..=200).contains(&given), "{given} in a second");
    }

    #[test]
    fn what_is_given_back_after_the_rate_became_lower_makes_nobody_owe_more() {
        let fast = [messages(1_000)];
        assert_eq!(take(fast.iter(), 10, 0, MILLI), Ok(()));
        let mut slow = [messages(20)];
        slow[0].go_on_from(&fast[0]);
        give_back(slow.iter(), 10, 0);
        assert_eq!(take(slow.iter(), 20, 0, MILLI), Ok(()));
        assert!(take(slow.iter(), 1, 0, MILLI).is_err());
    }

    #[test]
    fn more_messages_than_a_second_s_worth_never_come() {
        for (rate, count) in [(10, 11), (0, 1)] {
            let told = take([messages(rate)].iter(), count, 0, 0).expect_err("too much");
            assert_eq!(
                (told.reason, told.retry_after_ms),
                (Reason::RestrictedRate, 0)
            );
        }
    }
}
