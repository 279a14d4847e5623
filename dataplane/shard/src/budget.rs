//! What a shard's state takes of memory, kind by kind, against one budget, and how far it has to shed work because of that.
//! Knows numbers of bytes only; who is refused what is decided where the work comes in.
//!
//! What is not counted: the pages of logs and of their windows, which the kernel writes back, and room that vectors keep beyond
//! what is in them, which `Limits` bounds.

/// Bytes in use, by kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Receive buffers: all of the ring's, lent out or not.
    pub receive: u64,
    /// Frames that straddle receive buffers and are half there, and buffers kept for such.
    pub assembly: u64,
    /// Frames that are appended and whose answer waits for a commit, and who is to be told.
    pub unacked: u64,
    /// What the queues of endpoints hold in memory: runs, settlements, and what waits for their journals.
    pub queues: u64,
    /// Bytes handed out to be sent that have not left.
    pub unsent: u64,
    /// Envelopes that wait for the way to another shard or are under way, and connections that move.
    pub mesh: u64,
    /// Connections.
    pub connections: u64,
    /// Sessions, their streams and routes, and what is remembered of senders.
    pub sessions: u64,
}

impl Memory {
    /// All kinds together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.kinds().iter().map(|(_, bytes)| bytes).sum()
    }

    /// All but what waits in queues: only who is let in can empty those.
    #[must_use]
    pub fn at_the_door(&self) -> u64 {
        self.total() - self.queues
    }

    /// Each kind by its name.
    #[must_use]
    pub fn kinds(&self) -> [(&'static str, u64); 8] {
        [
            ("receive", self.receive),
            ("assembly", self.assembly),
            ("unacked", self.unacked),
            ("queues", self.queues),
            ("unsent", self.unsent),
            ("mesh", self.mesh),
            ("connections", self.connections),
            ("sessions", self.sessions),
        ]
    }
}

impl std::ops::AddAssign for Memory {
    fn add_assign(&mut self, other: Self) {
        let Self {
            receive,
            assembly,
            unacked,
            queues,
            unsent,
            mesh,
            connections,
            sessions,
        } = other;
        self.receive += receive;
        self.assembly += assembly;
        self.unacked += unacked;
        self.queues += queues;
        self.unsent += unsent;
        self.mesh += mesh;
        self.connections += connections;
        self.sessions += sessions;
    }
}

/// What a shard sheds, each step with all before it. A step is taken when so many sixteenths of the budget are in use, and left
/// when one sixteenth less than that is. For those who come, the first two steps, what waits in queues does not count: the
/// receivers that would empty them are among them. What can come in by that has bounds of its own, those of connections and sessions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Nothing.
    #[default]
    None,
    /// From 11 sixteenths on: connections that come.
    NewConnections,
    /// From 12 on: connections whose peer has not proven who they are.
    Strangers,
    /// From 13 on: messages to channels of low priority; those that send are told of less credit.
    LowPriority,
    /// From 14 on, high water: all new messages; what senders send is not read as long as it can wait.
    All,
}

impl Pressure {
    /// From none to all.
    pub const STEPS: [Self; 5] = [
        Self::None,
        Self::NewConnections,
        Self::Strangers,
        Self::LowPriority,
        Self::All,
    ];

    /// What is shed, in a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NewConnections => "new_connections",
            Self::Strangers => "strangers",
            Self::LowPriority => "low_priority",
            Self::All => "all",
        }
    }
}

/// Sixteenths of the budget in use below which nothing is shed: low water.
const LOW_WATER: u64 = 10;

/// What is in use of the budget, and what is shed because of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct MemoryStatus {
    /// Bytes in use.
    pub used: Memory,
    /// Bytes that may be.
    pub budget_bytes: u64,
    /// What is shed of what is sent, and how far the budget is used, queues included.
    pub pressure: Pressure,
    /// What is shed of those who come: how far the budget is used without the queues.
    pub door: Pressure,
}

impl MemoryStatus {
    pub(crate) fn new(budget_bytes: u64) -> Self {
        Self {
            budget_bytes,
            ..Self::default()
        }
    }

    /// Take note of what is in use. Whether `pressure` is another one than before.
    pub(crate) fn note(&mut self, used: Memory) -> bool {
        self.used = used;
        let before = self.pressure;
        self.pressure = self.step(before, used.total());
        self.door = self.step(self.door, used.at_the_door());
        self.pressure != before
    }

    /// The step that follows on another one with so many bytes in use.
    fn step(&self, mut step: Pressure, bytes: u64) -> Pressure {
        while step < Pressure::All && bytes >= self.mark(step as usize + 1) {
            step = Pressure::STEPS[step as usize + 1];
        }
        while step > Pressure::None && bytes < self.mark(step as usize - 1) {
            step = Pressure::STEPS[step as usize - 1];
        }
        step
    }

    /// Bytes in use below which a step is left.
    pub(crate) fn ends(&self, step: Pressure) -> u64 {
        self.mark((step as usize).saturating_sub(1))
    }

    /// Where a step begins; the one before it is where it ends.
    fn mark(&self, step: usize) -> u64 {
        self.sixteenths(LOW_WATER + step as u64)
    }

    /// So many sixteenths of the budget, in bytes.
    pub(crate) fn sixteenths(&self, count: u64) -> u64 {
        (u128::from(self.budget_bytes) * u128::from(count) / 16) as u64
    }

    /// Bytes in use above which nothing is shed any more once they are fewer.
    #[must_use]
    pub fn low_water_bytes(&self) -> u64 {
        self.sixteenths(LOW_WATER)
    }

    /// Bytes in use from which on all new messages are refused.
    #[must_use]
    pub fn high_water_bytes(&self) -> u64 {
        self.mark(Pressure::All as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsent(bytes: u64) -> Memory {
        Memory {
            unsent: bytes,
            ..Memory::default()
        }
    }

    #[test]
    fn steps_are_taken_in_order_and_left_a_sixteenth_below_where_they_began() {
        use Pressure::{All, LowPriority, NewConnections, None, Strangers};
        let mut status = MemoryStatus::new(1_600);
        for (used, want) in [
            (1_099, None),
            (1_100, NewConnections),
            (1_000, NewConnections),
            (999, None),
            (1_200, Strangers),
            (1_100, Strangers),
            (1_099, NewConnections),
            (1_300, LowPriority),
            (1_400, All),
            (1_300, All),
            (1_299, LowPriority),
            (1_600, All),
            (0, None),
        ] {
            let before = status.pressure;
            assert_eq!(status.note(unsent(used)), before != want, "{used}");
            assert_eq!((status.pressure, status.door), (want, want), "{used}");
        }
        assert_eq!(
            (status.low_water_bytes(), status.high_water_bytes()),
            (1_000, 1_400)
        );
    }

    #[test]
    fn what_waits_in_queues_keeps_nobody_out() {
        use Pressure::{All, NewConnections, None};
        let mut status = MemoryStatus::new(1_600);
        for (queues, others, want) in [
            (1_600, 1_099, (All, None)),
            (1_600, 1_100, (All, NewConnections)),
            (0, 1_000, (NewConnections, NewConnections)),
            (600, 999, (All, None)),
        ] {
            let used = Memory {
                queues,
                ..unsent(others)
            };
            status.note(used);
            assert_eq!((status.pressure, status.door), want, "{queues} {others}");
        }
    }

    #[test]
    fn every_kind_counts_into_the_total_once() {
        let mut sum = Memory::default();
        let all = Memory {
            receive: 1,
            assembly: 10,
            unacked: 100,
            queues: 1_000,
            unsent: 10_000,
            mesh: 100_000,
            connections: 1_000_000,
            sessions: 10_000_000,
        };
        sum += all;
        sum += all;
        assert_eq!((all.total(), sum.total()), (11_111_111, 22_222_222));
    }
}
