//! What recovery makes of a journal that a crash cut short.

use partition::memory::{Crash, Disk, MemorySegment, MemoryStorage};
use partition::{LogId, NewRecord, RecordKind, Storage};
use wire::ids::{ChannelId, EndpointId, Offset, PartitionId, Sequence, UnixNanos};

use super::op::{self, Op};
use super::run::Run;
use super::test_plan::{PARTITIONS, log_limits, queue_limits, table};
use super::{Depth, FanOut, LogEnd, QueueGroup, QueueRecovery, Source, Span};

const NOW: UnixNanos = UnixNanos(1_000_000_000_000);

type Group = QueueGroup<MemorySegment>;

fn recover(disk: &Disk) -> (Group, QueueRecovery) {
    let ends = PARTITIONS.map(|partition| LogEnd {
        partition,
        first: Offset(0),
        end: Offset(1_000_000),
    });
    let (log, queue) = (log_limits(), queue_limits());
    let storage = &mut MemoryStorage::new(disk);
    QueueGroup::recover(storage, 0, log, queue, &ends, NOW).expect("no faults")
}

/// One message that receivers hear, at the watermark.
fn add(group: &mut Group, partition: PartitionId, channel: u32) {
    let span = Span {
        partition,
        channel: ChannelId(channel),
        first: group.watermark(partition),
        count: 1,
        bytes: 10,
    };
    assert_eq!(group.fan_out(&[span], &table(), NOW), FanOut::Taken(1));
}

fn sync(group: &mut Group, disk: &Disk) {
    let mut storage = MemoryStorage::new(disk);
    if let Some(bytes) = group.wants_spare() {
        group.offer(storage.prepare(LogId::queue(0), bytes).expect("room"));
    }
    group.flush(NOW).expect("room");
    while let Some(ticket) = group.begin_commit() {
        let segments = &ticket.segments;
        let result = segments.iter().try_for_each(|s| storage.sync(s));
        group.finish_commit(ticket, result).expect("no faults");
    }
}

/// Everything that a journal has to keep.
fn state(group: &Group) -> (Vec<Depth>, [Offset; 2]) {
    let table = table();
    let ids = (0..5).filter_map(|at| table.endpoint_by_name(&format!("acme/test/receiver{at}")));
    let depths = ids.flat_map(|endpoint| {
        [Source::Queue, Source::DeadLetters].map(|source| group.depth(endpoint.id, source))
    });
    (
        depths.collect(),
        PARTITIONS.map(|partition| group.watermark(partition)),
    )
}

#[test]
fn what_a_crash_left_of_a_transaction_is_never_completed_by_the_next_one() {
    let disk = Disk::new(11);
    let (mut group, _) = recover(&disk);
    sync(&mut group, &disk);
    for at in 0.. {
        add(&mut group, PARTITIONS[at % 2], at as u32 % 3);
        if group.waiting() > queue_limits().record_ops_max {
            break;
        }
    }
    group.flush(NOW).expect("room");
    let writes = disk.unsynced_writes() as u64;
    let mut cut_short = 0;
    for kept in 0..=writes {
        let disk = disk.crash(Crash::Writes(kept));
        let (mut group, report) = recover(&disk);
        cut_short += report.cut_short;
        add(&mut group, PARTITIONS[1], 0);
        sync(&mut group, &disk);
        let (again, report) = recover(&disk);
        assert!(!report.incomplete, "{kept} writes: {report:?}");
        assert_eq!(state(&again), state(&group), "{kept} of {writes} writes");
    }
    assert!(cut_short > 0, "no crash of {writes} cut the transaction");
}

#[test]
fn a_watermark_that_moved_alone_costs_the_journal_nothing_and_no_repeat_when_it_is_lost() {
    const NOBODYS: u32 = 99;
    let disk = Disk::new(12);
    let (mut group, _) = recover(&disk);
    sync(&mut group, &disk);
    add(&mut group, PARTITIONS[0], 0);
    sync(&mut group, &disk);
    let (written, before) = (group.log().appended(), state(&group));
    add(&mut group, PARTITIONS[0], NOBODYS);
    sync(&mut group, &disk);
    assert_eq!(group.log().appended(), written, "nothing was written");
    let (mut again, report) = recover(&disk);
    assert!(!report.incomplete, "{report:?}");
    assert_eq!(state(&again), before, "what nobody heard is read once more");
    for group in [&mut group, &mut again] {
        let from = group.watermark(PARTITIONS[0]);
        (from.0..2).for_each(|_| add(group, PARTITIONS[0], NOBODYS));
        add(group, PARTITIONS[0], 0);
    }
    assert_eq!(state(&again), state(&group), "each message once");
    sync(&mut group, &disk);
    assert_eq!(state(&recover(&disk).0), state(&group), "with the run");
    add(&mut group, PARTITIONS[1], NOBODYS);
    group.write_watermarks();
    sync(&mut group, &disk);
    assert_eq!(
        state(&recover(&disk).0),
        state(&group),
        "when it is asked for"
    );
}

/// A transaction of two records as the first form of the journal wrote it: each says how many follow, neither its place.
fn write_first_form(group: &mut Group, disk: &Disk, endpoint: EndpointId) {
    sync(group, disk);
    let run = Run {
        partition: PARTITIONS[0],
        count: 1,
        first: Offset(0),
        number: 0,
        bytes: 10,
        time: NOW,
    };
    let parts = [
        Op::add(endpoint, Source::Queue, &run),
        Op::watermark(PARTITIONS[0], Offset(1)),
    ];
    for (follow, part) in [1, 0].into_iter().zip(parts) {
        let record = NewRecord {
            kind: RecordKind::QueueJournal,
            signature_kind: 0,
            count: 1,
            endpoint: EndpointId(0),
            channel: ChannelId(0),
            sequence: Sequence(follow),
            time: NOW,
        };
        let bytes = op::bytes(std::slice::from_ref(&part));
        group.log_mut().append(&record, &[bytes]).expect("room");
    }
    sync(group, disk);
}

fn receiver(number: u32) -> EndpointId {
    EndpointId::of(&format!("acme/test/receiver{number}"))
}

#[test]
fn a_transaction_in_the_first_form_is_named_and_fanned_out_again_never_joined_in_part() {
    let disk = Disk::new(12);
    let (mut group, _) = recover(&disk);
    write_first_form(&mut group, &disk, receiver(0));
    let (again, report) = recover(&disk);
    assert_eq!(
        again.watermark(PARTITIONS[0]),
        Offset(0),
        "the run is not there, so fan-out has to come by again: {report:?}"
    );
    assert_eq!(
        (report.first_form, report.incomplete, report.leaped),
        (1, true, true)
    );
}

#[test]
fn numbers_that_damage_may_have_hidden_are_given_to_no_queue_however_often_it_restarts() {
    let disk = Disk::new(13);
    let (mut group, _) = recover(&disk);
    write_first_form(&mut group, &disk, receiver(0));
    let (mut group, report) = recover(&disk);
    assert!(report.leaped, "{report:?}");
    sync(&mut group, &disk);
    let (mut group, report) = recover(&disk);
    assert!(report.snapshot && !report.incomplete, "{report:?}");
    for channel in 0..3 {
        add(&mut group, PARTITIONS[0], channel);
    }
    let depth = group.depth(receiver(0), Source::Queue);
    assert!(depth.messages > 0, "{depth:?}");
    assert!(
        depth.next > 1 << 40,
        "number 0 was given before the damage: {depth:?}"
    );
}
