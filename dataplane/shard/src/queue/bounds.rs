//! What happens at the bounds of a queue: how much of a span still fits, and what goes to make room.

use wire::route::{OnFull, QueueBounds};

use super::backlog::Backlog;
use super::limits::QueueLimits;
use super::run::share;

/// What to do with messages that arrive at a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Give up the oldest messages below this number first.
    pub(crate) drop_below: u64,
    /// Leave out this many of the arriving ones (they are the oldest of all).
    pub(crate) skip: u32,
    /// Take this many; what is left parks.
    pub(crate) take: u32,
}

/// Decide about `count` messages of `bytes` bytes. A queue without messages takes at least one, so a
/// bound below one message still makes progress.
pub(crate) fn admit(
    list: &Backlog,
    bounds: &QueueBounds,
    limits: &QueueLimits,
    count: u32,
    bytes: u64,
) -> Admission {
    match bounds.on_full {
        OnFull::Park => park(list, bounds, limits, count, bytes),
        // Memory is short: that is no reason to lose what the bounds of the queue allow, so it waits in the log.
        OnFull::DropOldest if list.runs().len() >= limits.park_runs_max() && limits.tight => {
            Admission {
                drop_below: 0,
                skip: 0,
                take: 0,
            }
        }
        OnFull::DropOldest => drop_oldest(list, bounds, limits, count, bytes),
    }
}

fn park(
    list: &Backlog,
    bounds: &QueueBounds,
    limits: &QueueLimits,
    count: u32,
    bytes: u64,
) -> Admission {
    let by_messages = bounds.messages_max.saturating_sub(list.messages());
    let by_bytes = messages_within(bounds.bytes_max.saturating_sub(list.bytes()), count, bytes);
    let by_runs = if list.runs().len() < limits.park_runs_max() {
        u64::from(count)
    } else {
        0
    };
    let mut take = by_messages.min(by_bytes).min(by_runs).min(u64::from(count)) as u32;
    if list.messages() == 0 {
        take = take.max(1);
    }
    Admission {
        drop_below: 0,
        skip: 0,
        take,
    }
}

fn drop_oldest(
    list: &Backlog,
    bounds: &QueueBounds,
    limits: &QueueLimits,
    count: u32,
    bytes: u64,
) -> Admission {
    let by_bytes = messages_within(bounds.bytes_max, count, bytes);
    let take = by_bytes.min(bounds.messages_max).clamp(1, u64::from(count)) as u32;
    let taken = share(bytes, take, count);
    let (mut messages, mut held) = (list.messages(), list.bytes());
    let mut runs = list.runs().len();
    let mut drop_below = 0;
    for run in list.runs() {
        let over = (messages + u64::from(take)).saturating_sub(bounds.messages_max);
        let over_bytes = (held + taken).saturating_sub(bounds.bytes_max);
        if over == 0 && over_bytes == 0 && runs < limits.runs_max {
            break;
        }
        let unsettled = u64::from(run.count) - list.settled().count(run.number, run.end());
        if over_bytes == 0 && over < unsettled && runs < limits.runs_max {
            drop_below = nth_unsettled(list, run.number, over);
            break;
        }
        drop_below = run.end();
        messages -= unsettled;
        held = held.saturating_sub(run.bytes);
        runs -= 1;
    }
    Admission {
        drop_below,
        skip: count - take,
        take,
    }
}

/// The number below which exactly `count` unsettled messages lie, from `number` on.
fn nth_unsettled(list: &Backlog, number: u64, count: u64) -> u64 {
    let mut end = number + count;
    loop {
        let unsettled = end - number - list.settled().count(number, end);
        if unsettled >= count {
            return end;
        }
        end += count - unsettled;
    }
}

/// How many of `count` messages of together `bytes` fit into `room` bytes.
fn messages_within(room: u64, count: u32, bytes: u64) -> u64 {
    if bytes <= room {
        return u64::from(count);
    }
    (u128::from(room) * u128::from(count) / u128::from(bytes)) as u64
}

/// Whether a parked queue has come down far enough to read on: to half of every bound, or, where the oldest messages make
/// room, of the runs while memory is short.
pub(crate) fn has_room(list: &Backlog, bounds: &QueueBounds, limits: &QueueLimits) -> bool {
    if bounds.on_full == OnFull::DropOldest {
        return !limits.tight || list.runs().len() <= limits.park_runs_max() / 2;
    }
    list.messages() == 0
        || (list.messages() <= bounds.messages_max / 2
            && list.bytes() <= bounds.bytes_max / 2
            && list.runs().len() <= limits.park_runs_max() / 2)
}
