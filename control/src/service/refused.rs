//! Questions that were refused for want of a right: how many, for which reason, and which of them are told one by one.
//!
//! Knows no clock and no log. Each reason has a bound of its own: strangers, who may come in floods, do not hide what those with tokens try.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Refusals of one reason that are told one by one within [`WITHIN`]; others are counted.
pub const TOLD_MAX: u32 = 10;
/// How long that bound holds.
pub const WITHIN: Duration = Duration::from_secs(1);

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No token came with it.
    NoToken,
    /// The token opens nothing, or nothing any more.
    Token,
    /// Its role is too low.
    Role,
    /// It is about another account.
    Scope,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NoToken, Self::Token, Self::Role, Self::Scope];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::Token => "token",
            Self::Role => "role",
            Self::Scope => "scope",
        }
    }
}

/// Whether a refusal is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// By a line of its own.
    Now,
    /// With others, by their count, which is due [`WITHIN`] from now.
    FirstLater,
    /// With others, by their count.
    Later,
}

/// How many there were.
#[derive(Debug, Default)]
pub struct Refused {
    counts: [AtomicU64; 4],
    windows: Mutex<[Window; 4]>,
}

/// What was told of one reason of late.
#[derive(Debug, Default, Clone, Copy)]
struct Window {
    began: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Refused {
    /// Count one.
    pub fn note(&self, reason: Reason, now: Instant) -> Told {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
        let window = &mut self.windows()[reason as usize];
        let over = |began| now.saturating_duration_since(began) >= WITHIN;
        if window.began.is_none_or(over) {
            (window.began, window.told) = (Some(now), 0);
        }
        if window.told < TOLD_MAX {
            window.told += 1;
            return Told::Now;
        }
        window.untold += 1;
        match window.untold {
            1 => Told::FirstLater,
            _ => Told::Later,
        }
    }

    /// How many of this reason were not told one by one, since this was asked last.
    pub fn take_untold(&self, reason: Reason) -> u64 {
        std::mem::take(&mut self.windows()[reason as usize].untold)
    }

    /// How many of this reason there were.
    #[must_use]
    pub fn count(&self, reason: Reason) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
    }

    fn windows(&self) -> MutexGuard<'_, [Window; 4]> {
        // Counts are whole after every step, whoever panicked beside them.
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_so_many_are_told_a_second_and_the_others_by_their_count() {
        let (refused, begin) = (Refused::default(), Instant::now());
        let (mut lines, mut due, mut counted) = (0, 0, 0);
        // A thousand a second for five seconds, and what is due is taken as it should be.
        for at in 0..5_000_u32 {
            let now = begin + Duration::from_millis(u64::from(at));
            match refused.note(Reason::NoToken, now) {
                Told::Now => lines += 1,
                Told::FirstLater => due += 1,
                Told::Later => {}
            }
            if at % 1_000 == 999 {
                counted += refused.take_untold(Reason::NoToken);
            }
        }
        assert_eq!((lines, due), (5 * TOLD_MAX, 5));
        assert_eq!(u64::from(lines) + counted, 5_000, "none is lost");
        assert_eq!(refused.count(Reason::NoToken), 5_000);
        assert_eq!(refused.take_untold(Reason::NoToken), 0);
    }

    #[test]
    fn a_flood_of_strangers_hides_nobody_with_a_token() {
        let (refused, now) = (Refused::default(), Instant::now());
        for _ in 0..1_000 {
            refused.note(Reason::NoToken, now);
        }
        for reason in [Reason::Token, Reason::Role, Reason::Scope] {
            assert_eq!(refused.note(reason, now), Told::Now);
            assert_eq!((refused.count(reason), refused.take_untold(reason)), (1, 0));
        }
    }
}
