//! The journal of the queues, its snapshots and watermarks, damaged while the shard is stopped. Whatever the damage:
//! it is reported, with the journal records that cannot be read, or it touched no byte that means anything; nothing
//! wrong is delivered and nothing that was acked is lost. What its queue has lost the place of is delivered again.

use fastrand::Rng;
use partition::memory::Crash;
use partition::{LogId, RecordKind, SegmentRef};
use wire::ids::Offset;

use crate::history::History;
use crate::number;
use crate::support::World;

const SECTOR_BYTES: usize = 512;

/// One journal record of the shard that was stopped.
#[derive(Debug, Clone, Copy)]
struct Place {
    file: SegmentRef,
    kind: RecordKind,
    first: Offset,
    from: usize,
    to: usize,
}

/// Where the damage goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zone {
    SegmentHeader,
    RecordHeader,
    /// Operations of a transaction: runs, settlements, places and watermarks.
    Operations,
    /// Operations of a snapshot.
    Snapshot,
    Anywhere,
}

const ZONES: [Zone; 5] = [
    Zone::SegmentHeader,
    Zone::RecordHeader,
    Zone::Operations,
    Zone::Snapshot,
    Zone::Anywhere,
];

/// Corruptions of one shard's history.
const EACH: u64 = 100;

const RECORD_HEADER_BYTES: usize = 64;
const SEGMENT_HEADER_BYTES: usize = 64;

#[derive(Debug, Default)]
struct Tally {
    reported: u64,
    harmless: u64,
    again: u64,
    gaps: u64,
}

#[test]
fn damage_to_journal_and_snapshots_is_reported_and_loses_no_message() {
    let wanted = number("FOREBAY_CORRUPTIONS", 200);
    let first = number("FOREBAY_CORRUPTION_SEED", 1);
    let mut tally = [(); ZONES.len()].map(|()| Tally::default());
    let mut history = stopped(first / EACH);
    for seed in first..first + wanted {
        if seed % EACH == 0 {
            history = stopped(seed / EACH);
        }
        let zone = (seed % ZONES.len() as u64) as usize;
        one(&history, ZONES[zone], seed, &mut tally[zone]);
    }
    for (zone, tally) in ZONES.iter().zip(&tally) {
        eprintln!("{zone:?}: {tally:?}");
    }
    eprintln!(
        "{wanted} corruptions, seeds {first} to {}: 0 wrong, 0 lost; again with FOREBAY_CORRUPTIONS={wanted} \
         FOREBAY_CORRUPTION_SEED={first} cargo test -p forebay-shard --test torture journal_and_snapshots",
        first + wanted - 1
    );
    assert!(tally.iter().all(|tally| tally.reported > 0), "too tame");
}

/// A shard that worked for a while and was stopped with everything synced.
fn stopped(seed: u64) -> History {
    let mut history = History::new(seed);
    history.world.hold_syncs = true;
    for turn in 0..120 {
        history.turn();
        if turn % 3 > 0 {
            history.release();
        }
    }
    history.settle();
    let log = history.world.shard.queue_groups().next().unwrap().log();
    assert_eq!(log.synced(), log.appended(), "seed {seed}: all is synced");
    history
}

fn journal(world: &World) -> Vec<Place> {
    let log = world.shard.queue_groups().next().unwrap().log();
    let record = |record: partition::Record<'_>| {
        let from = record.position().0 as usize;
        let bytes = RECORD_HEADER_BYTES + record.payload().len();
        Place {
            file: SegmentRef {
                log: LogId::queue(0),
                id: record.segment(),
            },
            kind: record.kind(),
            first: record.first(),
            from,
            to: from + bytes.next_multiple_of(8),
        }
    };
    let records = log.records_from(log.first());
    records.map(|read| record(read.unwrap())).collect()
}

fn one(history: &History, zone: Zone, seed: u64, tally: &mut Tally) {
    let mut random = Rng::with_seed(seed);
    let why = format!("seed {seed} {zone:?}");
    let places = journal(&history.world);
    let whole = history.world.disk.crash(Crash::Kept);
    let disk = whole.crash(Crash::Kept);
    let (file, span) = aim(&places, zone, &mut random);
    let before = disk.contents(file).unwrap();
    let (what, after) = break_bytes(&before, span, &mut random);
    disk.damage(file, |bytes| bytes.clone_from(&after));
    let why = format!("{why} {what} of {file:?}");
    let hit = |place: &&Place| {
        let mut bytes = place.from..place.to;
        place.file == file && bytes.any(|at| after.get(at) != before.get(at))
    };
    let touched: Vec<&Place> = places.iter().filter(hit).collect();
    let undamaged = History::state(&World::on(whole, crate::history::setup()));
    let fresh = World::on(disk.crash(Crash::Kept), crate::history::setup());
    let report = &fresh.recovered.1[0];
    let log = report.log.as_ref().unwrap();
    let reported =
        report.incomplete || !report.gaps.is_empty() || !log.damage.is_empty() || log.cut_bytes > 0;
    if reported {
        tally.reported += 1;
    } else {
        assert_eq!(
            History::state(&fresh),
            undamaged,
            "{why}: silent, and the queues differ; {touched:?}"
        );
        tally.harmless += 1;
    }
    for gap in &report.gaps {
        let named = |offset: Offset| touched.iter().any(|place| place.first == offset);
        assert!(
            (gap.start.0..gap.end.0).all(|at| named(Offset(at))),
            "{why}: gap {gap:?}, touched {touched:?}"
        );
        tally.gaps += 1;
    }
    assert!(fresh.disk.files().contains(&file), "{why}: the file went");
    let (_, found) = history.check(disk, &why);
    tally.again += found.again;
}

/// A file, and the bytes of it that the damage begins in.
fn aim(places: &[Place], zone: Zone, random: &mut Rng) -> (SegmentRef, (usize, usize)) {
    let fits = |place: &&Place| match zone {
        Zone::Snapshot => place.kind == RecordKind::QueueSnapshot,
        Zone::Operations => place.kind == RecordKind::QueueJournal,
        _ => true,
    };
    let fitting: Vec<&Place> = places.iter().filter(fits).collect();
    let place = fitting[random.usize(..fitting.len())];
    let end = places.iter().filter(|other| other.file == place.file);
    let end = end.map(|place| place.to).max().unwrap();
    let span = match zone {
        Zone::SegmentHeader => (0, SEGMENT_HEADER_BYTES),
        Zone::RecordHeader => (place.from, place.from + RECORD_HEADER_BYTES),
        Zone::Operations | Zone::Snapshot => (place.from + RECORD_HEADER_BYTES, place.to),
        Zone::Anywhere => (0, end + SECTOR_BYTES),
    };
    (place.file, span)
}

/// Flip, overwrite, zero, swap or cut off; the file keeps its length but for the last.
fn break_bytes(
    before: &[u8],
    (from, to): (usize, usize),
    random: &mut Rng,
) -> (&'static str, Vec<u8>) {
    let mut after = before.to_vec();
    let at = random.usize(from..to.max(from + 1)).min(before.len() - 1);
    let sector = at / SECTOR_BYTES * SECTOR_BYTES;
    let what = match random.u8(..8) {
        0..4 => {
            after[at] ^= 1 << random.u8(..8);
            "a bit"
        }
        4 => {
            let end = (at + random.usize(1..64)).min(before.len());
            random.fill(&mut after[at..end]);
            "some bytes"
        }
        5 => {
            after[sector..sector + SECTOR_BYTES].fill(0);
            "a zeroed sector"
        }
        6 => {
            let other = random.usize(..=(to.min(before.len()) - 1) / SECTOR_BYTES) * SECTOR_BYTES;
            let (one, two) = (sector.min(other), sector.max(other));
            if one < two {
                let (left, right) = after.split_at_mut(two);
                left[one..one + SECTOR_BYTES].swap_with_slice(&mut right[..SECTOR_BYTES]);
            }
            "two swapped sectors"
        }
        _ => {
            after.truncate(at);
            "a cut"
        }
    };
    (what, after)
}
