//! Who may begin a handshake: so many a second, so many at once, and only those that prove their address while many come.
//!
//! A handshake is the dearest thing that a stranger can ask for. What is above the rate is not answered: a client asks again by
//! itself, a second later. Asking for a proof of the address (Retry) costs one signature and no memory. Knows times and counts.

use std::time::{Duration, Instant};

/// Bounds of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AdmissionLimits {
    /// Handshakes begun in a second.
    pub(crate) per_second: u32,
    /// Handshakes under way from which addresses have to be proven; until half of it again.
    pub(crate) retry_above: usize,
    /// Handshakes under way at most, and of one address.
    pub(crate) under_way_max: usize,
    pub(crate) of_address_max: usize,
}

/// What becomes of one who wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    /// It may begin in the place of another one that is late.
    MakeRoom(Crowded),
    /// It has to prove its address first.
    Retry,
    /// It is not answered.
    Ignore,
}

/// Where there is no room: its address has too many, or all have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowded {
    Address,
    All,
}

/// After how long a handshake makes room: most are over by then, and were younger ones to go, none of many would come to its end.
const LATE: Duration = Duration::from_secs(1);
/// How much at once of what a second allows.
const BURST: Duration = Duration::from_millis(250);

/// The gate of one shard.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: AdmissionLimits,
    /// Up to when time has paid for what was begun.
    paid: Option<Instant>,
    retrying: bool,
    /// Times that proofs began to be asked for.
    pub(crate) retry_began: u64,
}

impl Admission {
    pub(crate) fn new(limits: AdmissionLimits) -> Self {
        Self {
            limits,
            paid: None,
            retrying: false,
            retry_began: 0,
        }
    }

    /// Whether proofs of addresses are asked for now.
    pub(crate) fn is_retrying(&self) -> bool {
        self.retrying
    }

    /// One wants to begin, and has proven its address or not. So many are under way, and so many of its address.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        proven: bool,
        (under_way, theirs): (usize, usize),
    ) -> Verdict {
        let ahead = self.ahead(now);
        self.look(ahead, under_way);
        // Nobody makes room for one whose address is made up.
        let limits = &self.limits;
        let crowded = theirs >= limits.of_address_max;
        if !proven && (self.retrying || crowded) {
            return Verdict::Retry;
        }
        let each = self.each();
        if ahead + each > BURST.max(each) {
            return Verdict::Ignore;
        }
        match under_way >= limits.under_way_max {
            _ if crowded => Verdict::MakeRoom(Crowded::Address),
            true => Verdict::MakeRoom(Crowded::All),
            false => Verdict::Accept,
        }
    }

    /// One begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.paid = Some(now + self.ahead(now) + self.each());
    }

    /// Whether one that began then makes room for others.
    pub(crate) fn is_late(&self, now: Instant, since: Instant) -> bool {
        now.saturating_duration_since(since) >= LATE
    }

    /// What one handshake takes of a second.
    fn each(&self) -> Duration {
        Duration::from_secs(1) / self.limits.per_second.max(1)
    }

    /// How much more was begun than time has paid for.
    fn ahead(&self, now: Instant) -> Duration {
        self.paid
            .map_or(Duration::ZERO, |paid| paid.saturating_duration_since(now))
    }

    fn look(&mut self, ahead: Duration, under_way: usize) {
        // Before there is no room any more, whatever is set.
        let above = (self.limits.retry_above).min(self.limits.under_way_max / 2);
        let much = ahead > BURST / 2 || under_way >= above;
        let little = ahead <= BURST / 4 && under_way <= above / 2;
        if much && !self.retrying {
            self.retrying = true;
            self.retry_began += 1;
        } else if little && !much {
            self.retrying = false;
        }
    }

    /// Look whether proofs need to be asked for any more, though nobody came.
    pub(crate) fn calm_down(&mut self, now: Instant, under_way: usize) {
        if self.retrying {
            self.look(self.ahead(now), under_way);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AdmissionLimits = AdmissionLimits {
        per_second: 100,
        retry_above: 10,
        under_way_max: 40,
        of_address_max: 20,
    };

    #[test]
    fn proofs_are_asked_for_while_many_are_under_way_and_no_longer() {
        let mut gate = Admission::new(LIMITS);
        let now = Instant::now();
        for (why, seconds, proven, under_way, want) in [
            ("the first", 0, false, (0, 0), Verdict::Accept),
            ("few", 1, false, (9, 9), Verdict::Accept),
            ("many", 2, false, (10, 0), Verdict::Retry),
            ("proven", 3, true, (10, 10), Verdict::Accept),
            ("still many", 4, false, (6, 0), Verdict::Retry),
            ("few again", 5, false, (5, 0), Verdict::Accept),
            ("no room", 6, true, (40, 0), Verdict::MakeRoom(Crowded::All)),
            (
                "none for it",
                7,
                true,
                (40, 20),
                Verdict::MakeRoom(Crowded::Address),
            ),
            (
                "nor here",
                8,
                true,
                (20, 20),
                Verdict::MakeRoom(Crowded::Address),
            ),
        ] {
            let at = now + Duration::from_secs(seconds);
            assert_eq!(gate.judge(at, proven, under_way), want, "{why}");
            if want == Verdict::Accept {
                gate.begin(at);
            }
        }
        assert_eq!(gate.retry_began, 2);
        gate.calm_down(now + Duration::from_secs(7), 0);
        assert!(!gate.is_retrying());
    }

    #[test]
    fn so_many_begin_in_a_second_however_many_come() {
        let mut gate = Admission::new(LIMITS);
        let began = Instant::now();
        let mut accepted = 0;
        for milli in 0..10_000 {
            let now = began + Duration::from_millis(milli);
            if gate.judge(now, true, (0, 0)) == Verdict::Accept {
                gate.begin(now);
                accepted += 1;
            }
        }
        assert!((1_000..=1_026).contains(&accepted), "{accepted} in 10 s");
        assert!(gate.is_retrying(), "a flood is asked for proofs");
    }
}
