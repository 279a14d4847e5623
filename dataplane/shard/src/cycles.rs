//! Where a turn's time goes: cycles for each stage, read from a counter that the caller hands in, as time is. One
//! reading at the end of each stage, never one for a message. Without the feature `cycles` nothing here is left.

/// A part of a turn that cycles are attributed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Received bytes to whole frames.
    Accept,
    /// Frames to what they mean.
    Parse,
    /// Signatures, and the handshakes among the frames.
    Verify,
    /// Grants and restrictions.
    Route,
    /// Sequences, credit and the copy into the log.
    Append,
    /// What became durable, and its ACKs.
    Commit,
    /// Runs into queues, and their journal.
    Fanout,
    /// Messages to consumers.
    Deliver,
    /// Everything around the stages: storage results, what was sent, timers, commands, what is handed out.
    Other,
}

impl Stage {
    /// Every stage, in the order of the journey.
    pub const ALL: [Self; 9] = [
        Self::Accept,
        Self::Parse,
        Self::Verify,
        Self::Route,
        Self::Append,
        Self::Commit,
        Self::Fanout,
        Self::Deliver,
        Self::Other,
    ];

    /// In one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Parse => "parse",
            Self::Verify => "verify",
            Self::Route => "route",
            Self::Append => "append",
            Self::Commit => "commit",
            Self::Fanout => "fanout",
            Self::Deliver => "deliver",
            Self::Other => "other",
        }
    }
}

/// Cycles spent in each stage since the start.
#[cfg(feature = "cycles")]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct StageCycles {
    spent: [u64; Stage::ALL.len()],
}

#[cfg(feature = "cycles")]
impl StageCycles {
    /// What a stage took since the start; 0 as long as no counter was handed in.
    #[must_use]
    pub fn of(&self, stage: Stage) -> u64 {
        self.spent[stage as usize]
    }
}

#[cfg(feature = "cycles")]
impl std::ops::AddAssign for StageCycles {
    fn add_assign(&mut self, other: Self) {
        for (here, there) in self.spent.iter_mut().zip(other.spent) {
            *here += there;
        }
    }
}

/// Attributes what passes between two readings.
#[cfg(feature = "cycles")]
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct StageClock {
    read: Option<fn() -> u64>,
    before: u64,
}

#[cfg(feature = "cycles")]
impl StageClock {
    /// Read `read` from now on.
    pub(crate) fn count(&mut self, read: fn() -> u64) {
        self.read = Some(read);
    }

    /// A turn begins.
    pub(crate) fn begin(&mut self) {
        if let Some(read) = self.read {
            self.before = read();
        }
    }

    /// Everything since the last reading was this stage. A counter that went back, as one of another core may, adds
    /// nothing.
    pub(crate) fn end(&mut self, stage: Stage, counters: &mut crate::Counters) {
        if let Some(read) = self.read {
            let now = read();
            counters.cycles.spent[stage as usize] += now.saturating_sub(self.before);
            self.before = now;
        }
    }
}

/// Attributes nothing.
#[cfg(not(feature = "cycles"))]
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct StageClock {}

#[cfg(not(feature = "cycles"))]
impl StageClock {
    pub(crate) fn begin(self) {}

    pub(crate) fn end(self, _: Stage, _: &mut crate::Counters) {}
}

#[cfg(all(test, feature = "cycles"))]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn every_cycle_between_two_readings_goes_to_the_stage_that_ended() {
        static COUNTER: AtomicU64 = AtomicU64::new(100);
        let mut counters = crate::Counters::default();
        let mut clock = StageClock::default();
        clock.begin();
        clock.end(Stage::Parse, &mut counters);
        assert_eq!(counters, crate::Counters::default(), "no counter yet");
        clock.count(|| COUNTER.load(Ordering::Relaxed));
        clock.begin();
        for (stage, reading, want) in [
            (Stage::Parse, 107, 7),
            (Stage::Verify, 207, 100),
            (Stage::Parse, 210, 10),
            (Stage::Route, 205, 0),
            (Stage::Append, 206, 1),
        ] {
            COUNTER.store(reading, Ordering::Relaxed);
            clock.end(stage, &mut counters);
            assert_eq!(counters.cycles.of(stage), want, "{stage:?}");
        }
        COUNTER.store(1_000, Ordering::Relaxed);
        clock.begin();
        assert_eq!(counters.cycles.of(Stage::Other), 0, "between two turns");
    }
}
