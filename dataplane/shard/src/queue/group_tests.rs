//! The rules of a queue group, one by one.

use std::time::Duration;

use partition::memory::{Disk, MemorySegment, MemoryStorage};
use partition::{LogId, Storage};
use wire::ids::{ChannelId, EndpointId, Offset, UnixNanos};
use wire::route::{Endpoint, OnFull, QueueBounds, RouteTable};

use super::test_plan::{LOCK, PARTITIONS, queue_limits, recover, table};
use super::{FanOut, QueueGroup, Rewind, SettleError, SkipReason, Source, Span};

const NOW: UnixNanos = UnixNanos(1_000_000_000_000);
const CLOCK: Duration = Duration::from_secs(1_000);

struct Fixture {
    storage: MemoryStorage,
    group: QueueGroup<MemorySegment>,
    table: RouteTable,
    next: u64,
}

impl Fixture {
    fn new() -> Self {
        let mut storage = MemoryStorage::new(&Disk::new(7));
        let (_, group) = recover(&mut storage, NOW);
        Self {
            storage,
            group,
            table: table(),
            next: 0,
        }
    }

    fn endpoint(&self, number: u32) -> Endpoint {
        let name = format!("acme/test/receiver{number}");
        self.table
            .endpoint_by_name(&name)
            .expect("it is in the plan")
            .to_parts()
    }

    /// Fan out so many messages of channel 0, and make them deliverable.
    fn add(&mut self, count: u32) {
        let span = Span {
            partition: PARTITIONS[0],
            channel: ChannelId(0),
            first: Offset(self.next),
            count,
            bytes: u64::from(count) * 100,
        };
        assert_eq!(
            self.group.fan_out(&[span], &self.table, NOW),
            FanOut::Taken(1)
        );
        self.next += u64::from(count);
        self.sync();
    }

    fn sync(&mut self) {
        if let Some(bytes) = self.group.wants_spare() {
            self.group
                .offer(self.storage.prepare(LogId::queue(0), bytes).expect("room"));
        }
        self.group.flush(NOW).expect("room");
        while let Some(ticket) = self.group.begin_commit() {
            let result = ticket
                .segments
                .iter()
                .try_for_each(|s| self.storage.sync(s));
            self.group.finish_commit(ticket, result).expect("no faults");
        }
        while let Some(segment) = self.group.expire_segment(NOW) {
            let spare = self.storage.retire(LogId::queue(0), segment);
            if let Some(spare) = spare.expect("no faults") {
                self.group.offer(spare);
            }
        }
    }

    /// Deliver everything that may go; the numbers.
    fn deliver(&mut self, id: EndpointId, source: Source) -> Vec<(u64, u16)> {
        let mut out = Vec::new();
        while let Some(piece) = self.group.next_piece(id, source) {
            out.extend((0..u64::from(piece.count)).map(|i| (piece.number + i, piece.attempt)));
            self.group
                .delivered(id, source, piece.number, piece.count, CLOCK, LOCK);
        }
        out
    }
}

fn numbers(delivered: &[(u64, u16)]) -> Vec<u64> {
    delivered.iter().map(|&(number, _)| number).collect()
}

#[test]
fn a_queue_exists_only_once_a_message_came() {
    let mut fixture = Fixture::new();
    let (heard, unheard) = (fixture.endpoint(0).id, fixture.endpoint(1).id);
    fixture.add(3);
    assert_eq!(fixture.group.depth(heard, Source::Queue).messages, 3);
    assert_eq!(fixture.group.depth(unheard, Source::Queue).runs, 0);
    assert_eq!(
        fixture.group.queues.slot(unheard),
        None,
        "nothing was made for it"
    );
}

#[test]
fn consecutive_messages_make_one_run_and_one_journal_operation() {
    let mut fixture = Fixture::new();
    let id = fixture.endpoint(0).id;
    for _ in 0..10 {
        fixture.add(5);
    }
    let depth = fixture.group.depth(id, Source::Queue);
    assert_eq!((depth.messages, depth.runs, depth.bytes), (50, 1, 5_000));
}

#[test]
fn nothing_is_delivered_before_its_journal_is_synced() {
    let mut fixture = Fixture::new();
    let id = fixture.endpoint(0).id;
    let (partition, channel, first) = (PARTITIONS[0], ChannelId(0), Offset(0));
    let span = Span {
        partition,
        channel,
        first,
        count: 2,
        bytes: 10,
    };
    fixture.group.fan_out(&[span], &fixture.table, NOW);
    fixture.group.flush(NOW).expect("room");
    assert_eq!(fixture.group.next_piece(id, Source::Queue), None);
    fixture.sync();
    let mut ready = Vec::new();
    fixture.group.take_ready(&mut ready);
    assert!(ready.contains(&id));
    assert_eq!(fixture.deliver(id, Source::Queue), [(0, 1), (1, 1)]);
}

#[test]
fn settling_ahead_is_skipped_when_delivery_goes_back() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint(0);
    fixture.add(6);
    assert_eq!(
        numbers(&fixture.deliver(endpoint.id, Source::Queue)),
        [0, 1, 2, 3, 4, 5]
    );
    fixture
        .group
        .accept(endpoint.id, Source::Queue, 2, CLOCK, LOCK)
        .expect("delivered");
    fixture
        .group
        .accept_up_to(endpoint.id, Source::Queue, 0, CLOCK, LOCK)
        .expect("delivered");
    fixture
        .group
        .accept(endpoint.id, Source::Queue, 4, CLOCK, LOCK)
        .expect("delivered");
    let why = Rewind::Disconnected;
    fixture
        .group
        .rewind(endpoint.id, Source::Queue, why, &endpoint.queue, NOW);
    let again = fixture.deliver(endpoint.id, Source::Queue);
    assert_eq!(again, [(1, 2), (3, 2), (5, 2)]);
}

#[test]
fn only_what_was_delivered_can_be_settled() {
    let mut fixture = Fixture::new();
    let id = fixture.endpoint(0).id;
    let (source, refused) = (Source::Queue, |number, delivered| {
        Err::<u64, _>(SettleError::NotDelivered { number, delivered })
    });
    assert_eq!(
        fixture.group.accept(id, source, 0, CLOCK, LOCK),
        refused(0, 0)
    );
    fixture.add(4);
    assert_eq!(
        fixture.group.accept_up_to(id, source, 3, CLOCK, LOCK),
        refused(3, 0)
    );
    fixture.group.delivered(id, source, 0, 2, CLOCK, LOCK);
    assert_eq!(
        fixture.group.accept_up_to(id, source, 2, CLOCK, LOCK),
        refused(2, 2)
    );
    assert_eq!(
        fixture.group.accept_up_to(id, source, 1, CLOCK, LOCK),
        Ok(2)
    );
    assert_eq!(
        fixture.group.accept_up_to(id, source, 1, CLOCK, LOCK),
        Ok(0),
        "again: nothing new"
    );
}

#[test]
fn a_lock_that_expires_takes_delivery_back_and_progress_renews_it() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint(0);
    fixture.add(3);
    fixture.deliver(endpoint.id, Source::Queue);
    assert_eq!(fixture.group.next_lock_expiry(), Some(CLOCK + LOCK));
    let later = CLOCK + LOCK - Duration::from_secs(1);
    fixture
        .group
        .accept(endpoint.id, Source::Queue, 0, later, LOCK)
        .expect("delivered");
    let mut out = Vec::new();
    fixture
        .group
        .expire_locks(CLOCK + LOCK, NOW, &fixture.table, &mut out);
    assert_eq!(out, [], "the settlement renewed the lock");
    fixture
        .group
        .expire_locks(later + LOCK, NOW, &fixture.table, &mut out);
    assert_eq!((out.len(), out[0].endpoint), (1, endpoint.id));
    assert_eq!(
        fixture.deliver(endpoint.id, Source::Queue),
        [(1, 2), (2, 2)]
    );
}

#[test]
fn only_the_message_that_holds_up_the_queue_becomes_a_dead_letter() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint(2);
    assert_eq!(endpoint.queue.deliveries_max, 3);
    fixture.add(2);
    for attempt in 1..=3 {
        assert_eq!(fixture.deliver(endpoint.id, Source::Queue)[0], (0, attempt));
        let why = Rewind::LockExpired;
        fixture
            .group
            .rewind(endpoint.id, Source::Queue, why, &endpoint.queue, NOW);
    }
    assert_eq!(
        numbers(&fixture.deliver(endpoint.id, Source::Queue)),
        [1],
        "the other one stays"
    );
    fixture.sync();
    assert_eq!(
        numbers(&fixture.deliver(endpoint.id, Source::DeadLetters)),
        [0]
    );
    assert_eq!(
        fixture
            .group
            .accept_up_to(endpoint.id, Source::DeadLetters, 0, CLOCK, LOCK),
        Ok(1)
    );
    assert_eq!(fixture.group.counters().buried, 1);
}

#[test]
fn a_full_queue_parks_or_drops_its_oldest_and_says_so() {
    let mut fixture = Fixture::new();
    let (narrow, newest) = (fixture.endpoint(2), fixture.endpoint(4));
    fixture.add(15);
    fixture.add(15);
    let parked = fixture.group.depth(narrow.id, Source::Queue);
    assert_eq!(
        (parked.messages, parked.parked),
        (20, 1),
        "as many as fit, the rest in the log"
    );
    let kept = fixture.group.depth(newest.id, Source::Queue);
    assert_eq!(
        (kept.messages, kept.next, kept.parked),
        (12, 24, 0),
        "three and then 15 given up"
    );
    let counters = fixture.group.counters();
    assert!(
        counters.parked >= 2 && counters.dropped == 18,
        "{counters:?}"
    );
}

#[test]
fn while_memory_is_short_also_a_queue_that_drops_its_oldest_parks_and_loses_only_what_its_bounds_say()
 {
    let mut fixture = Fixture::new();
    let bounds = QueueBounds {
        messages_max: 900,
        on_full: OnFull::DropOldest,
        ..QueueBounds::default()
    };
    fixture.table = super::test_plan::table_with(bounds);
    fixture.group.limits.runs_max = 1_000;
    // It hears every other message, so that none joins the run of the one before.
    let newest = fixture.endpoint(1).id;
    let add = |fixture: &mut Fixture, count: u64| {
        for _ in 0..count {
            let span = Span {
                partition: PARTITIONS[0],
                channel: ChannelId((fixture.next % 2) as u32),
                first: Offset(fixture.next),
                count: 1,
                bytes: 100,
            };
            fixture.group.fan_out(&[span], &fixture.table, NOW);
            fixture.next += 1;
            fixture.sync();
        }
    };
    add(&mut fixture, 10);
    fixture.group.tighten(true);
    add(&mut fixture, 200);
    let depth = fixture.group.depth(newest, Source::Queue);
    assert_eq!((depth.messages, depth.head, depth.parked), (64, 0, 1));
}

#[test]
fn messages_beyond_their_age_or_their_partition_expire() {
    let mut fixture = Fixture::new();
    let id = fixture.endpoint(0).id;
    fixture.add(10);
    fixture
        .group
        .expire(NOW, &fixture.table, |_| Some(Offset(4)));
    assert_eq!(
        fixture.group.depth(id, Source::Queue).head,
        4,
        "the partition begins at 4"
    );
    let parts = QueueBounds {
        age_max: Some(Duration::from_secs(60)),
        ..QueueBounds::default()
    };
    let aged = super::test_plan::table_with(parts);
    let late = |seconds: u64| UnixNanos(NOW.0 + seconds * 1_000_000_000);
    fixture.group.expire(late(60), &aged, |_| None);
    assert_eq!(
        fixture.group.depth(id, Source::Queue).messages,
        6,
        "exact to a second"
    );
    fixture.group.expire(late(62), &aged, |_| None);
    assert_eq!(fixture.group.depth(id, Source::Queue).messages, 0);
}

#[test]
fn what_is_skipped_is_counted_by_its_cause() {
    let mut fixture = Fixture::new();
    let id = fixture.endpoint(0).id;
    fixture.add(9);
    for (number, why) in [
        (0, SkipReason::Expired),
        (3, SkipReason::Withdrawn),
        (6, SkipReason::Damaged),
    ] {
        fixture.group.skip(id, Source::Queue, number, 3, why);
    }
    let counters = fixture.group.counters();
    assert_eq!(
        (counters.expired, counters.withdrawn, counters.damaged),
        (3, 3, 3)
    );
    assert_eq!(fixture.group.next_piece(id, Source::Queue), None);
}

#[test]
fn a_journal_without_room_pauses_fan_out_and_loses_nothing() {
    let mut fixture = Fixture::new();
    let id = fixture.endpoint(0).id;
    let mut first = 0;
    let paused = (0..100_000).any(|_| {
        let (partition, channel) = (PARTITIONS[first as usize % 2], ChannelId(0));
        let span = Span {
            partition,
            channel,
            first: Offset(first),
            count: 1,
            bytes: 10,
        };
        first += 2;
        fixture.group.fan_out(&[span], &fixture.table, NOW) == FanOut::Paused
    });
    assert!(paused, "without spares the journal fills up");
    let before = fixture.group.depth(id, Source::Queue);
    fixture.sync();
    assert_eq!(fixture.group.depth(id, Source::Queue), before);
    let (partition, channel) = (PARTITIONS[0], ChannelId(0));
    let span = Span {
        partition,
        channel,
        first: Offset(first),
        count: 1,
        bytes: 10,
    };
    assert_eq!(
        fixture.group.fan_out(&[span], &fixture.table, NOW),
        FanOut::Taken(1)
    );
}

#[test]
fn snapshots_bound_the_journal_and_what_recovery_reads() {
    let mut fixture = Fixture::new();
    let id = fixture.endpoint(0).id;
    for _ in 0..4_000 {
        fixture.add(2);
        let sent = fixture.deliver(id, Source::Queue);
        let last = sent.last().expect("two were added").0;
        fixture
            .group
            .accept_up_to(id, Source::Queue, last, CLOCK, LOCK)
            .expect("delivered");
    }
    fixture.sync();
    assert!(
        fixture.group.counters().snapshots > 10,
        "{:?}",
        fixture.group.counters()
    );
    assert!(
        fixture.group.log().segments() <= 3,
        "{} segments",
        fixture.group.log().segments()
    );
    let before = fixture.group.depth(id, Source::Queue);
    let (limits, log) = (queue_limits(), super::test_plan::log_limits());
    let ends = PARTITIONS.map(|partition| super::LogEnd {
        partition,
        first: Offset(0),
        end: Offset(fixture.next),
    });
    let recovered = QueueGroup::recover(&mut fixture.storage, 0, log, limits, &ends, NOW);
    let (group, report) = recovered.expect("no faults");
    assert!(
        report.snapshot && !report.incomplete && report.clamped == 0,
        "{report:?}"
    );
    assert!(report.operations < 4_000, "{report:?}");
    assert_eq!(group.depth(id, Source::Queue), before);
    assert_eq!(group.watermark(PARTITIONS[0]), Offset(fixture.next));
}

#[test]
fn catching_up_waits_for_a_journal_without_room_and_does_not_come_again_at_once() {
    let mut fixture = Fixture::new();
    let id = fixture.endpoint(2).id;
    fixture.add(30);
    assert_eq!(fixture.group.depth(id, Source::Queue).parked, 1);
    let mut first = fixture.next;
    let paused = (0..100_000).any(|_| {
        let span = Span {
            partition: PARTITIONS[0],
            channel: ChannelId(0),
            first: Offset(first),
            count: 1,
            bytes: 10,
        };
        first += 1;
        fixture.group.fan_out(&[span], &fixture.table, NOW) == FanOut::Paused
    });
    assert!(paused, "without spares the journal fills up");
    // The queue has room again, and would read on.
    fixture
        .group
        .skip(id, Source::Queue, 0, 20, SkipReason::Expired);
    let (waiting, before) = (fixture.group.waiting(), fixture.group.counters().paused);
    for _ in 0..3 {
        let more = fixture.group.catch_up(&fixture.table, NOW, |_| None);
        assert!(!more, "nothing would change");
    }
    assert_eq!(fixture.group.counters().paused, before + 3);
    assert_eq!(fixture.group.waiting(), waiting);
    fixture.group.check();
}
