//! Corruption by zone, with exact accounting: what a byte was part of says which offsets are lost, and
//! recovery, readers and inspection must all say the same. `FOREBAY_CORRUPTIONS` sets how many.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use partition::inspect::LogView;
use partition::memory::{Crash, Disk, MemoryStorage, Random};
use partition::{
    DamageKind, Partition, RECORD_HEADER_BYTES, ReadError, SEGMENT_HEADER_BYTES, SegmentRef,
};
use wire::ids::Offset;

use crate::harness::{Expected, LOG, MemoryLog, NOW, Rig, count_from, seed_from, small};

const CORRUPTIONS: u64 = 400;
const SECTOR_BYTES: usize = 512;

/// What the bytes of a file are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Zone {
    SegmentHeader,
    RecordHeader,
    Body,
    /// Records of the log's own: senders and notes.
    Own,
    Unused,
    /// Zeroes behind a record. No reader looks at them, but a record ends behind them.
    Padding,
    Vouch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Flip,
    Truncate,
    Zero,
    Swap,
}

/// Bytes of a file, what they are for, and the offsets that go with them.
type Place = (Range<usize>, Zone, Range<u64>);

/// A log whose every byte is known.
struct Subject {
    rig: Rig,
    files: Vec<SegmentRef>,
    /// The intact bytes of each file.
    bytes: Vec<Vec<u8>>,
    /// Per file: zone and offsets of each range, in order.
    map: Vec<Vec<Place>>,
    folder: tempfile::TempDir,
}

impl Subject {
    fn new(seed: u64) -> Self {
        let mut rig = Rig::new(seed, small());
        for _ in 0..10 {
            rig.append_many(8);
            rig.commit();
        }
        rig.disk = rig.disk.crash(Crash::Kept);
        let mut files = rig.disk.files();
        files.push(Disk::vouch_file(LOG));
        let bytes: Vec<Vec<u8>> = files
            .iter()
            .map(|file| rig.disk.contents(*file).expect("it is there"))
            .collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join(LOG.to_string())).expect("the folder is writable");
        let mut subject = Self {
            rig,
            files,
            bytes,
            map: Vec::new(),
            folder,
        };
        for number in 0..subject.files.len() {
            subject.map.push(subject.zones(number));
            subject.put_file(number, &subject.bytes[number]);
        }
        subject
    }

    fn zones(&self, number: usize) -> Vec<Place> {
        let (file, capacity) = (self.files[number], self.bytes[number].len());
        if file == Disk::vouch_file(LOG) {
            return vec![(0..capacity, Zone::Vouch, 0..0)];
        }
        let mut zones = vec![(0..SEGMENT_HEADER_BYTES, Zone::SegmentHeader, 0..0)];
        let mut records = Vec::new();
        for want in &self.rig.list {
            let record = self.rig.log.read(Offset(want.first)).expect("it is intact");
            if record.segment() == file.id {
                records.push((record.position().0 as usize, want));
            }
        }
        if records.is_empty() {
            return vec![(0..capacity, Zone::Unused, 0..0)];
        }
        let mut at = SEGMENT_HEADER_BYTES;
        for (position, want) in records {
            let body = position + RECORD_HEADER_BYTES;
            let end = body + want.payload.len();
            zones.push((at..position, Zone::Own, 0..0));
            zones.push((position..body, Zone::RecordHeader, want.first..want.next()));
            zones.push((body..end, Zone::Body, want.first..want.next()));
            at = end.next_multiple_of(8);
            zones.push((end..at, Zone::Padding, want.first..want.next()));
        }
        // A note may follow.
        zones.push((at..capacity, Zone::Unused, 0..0));
        zones
    }

    fn path(&self, number: usize) -> std::path::PathBuf {
        let file = self.files[number];
        let name = match file == Disk::vouch_file(LOG) {
            true => "vouched".to_owned(),
            false => format!("{}.seg", file.id),
        };
        self.folder.path().join(LOG.to_string()).join(name)
    }

    fn put_file(&self, number: usize, bytes: &[u8]) {
        std::fs::write(self.path(number), bytes).expect("the folder is writable");
    }

    /// What is hit by the difference between a file as it was and as it is now.
    fn hit(&self, number: usize, now: &[u8]) -> (BTreeSet<Zone>, BTreeSet<u64>) {
        let (mut zones, mut offsets) = (BTreeSet::new(), BTreeSet::new());
        let was = &self.bytes[number];
        for (range, zone, lost) in &self.map[number] {
            let same = range.end <= now.len() && was[range.clone()] == now[range.clone()];
            let whole = range.end <= now.len();
            if !same {
                zones.insert(*zone);
            }
            if !(same || *zone == Zone::Padding && whole) {
                offsets.extend(lost.clone());
            }
        }
        (zones, offsets)
    }
}

/// One case: the files it changes.
fn corrupt(subject: &Subject, random: &mut Random) -> (Kind, BTreeMap<usize, Vec<u8>>) {
    let mut changed = BTreeMap::new();
    let pick = |random: &mut Random| random.below(subject.files.len() as u64) as usize;
    let number = pick(random);
    let mut bytes = subject.bytes[number].clone();
    let sectors = (bytes.len() / SECTOR_BYTES) as u64;
    let sector = |number: u64| number as usize * SECTOR_BYTES..(number as usize + 1) * SECTOR_BYTES;
    let kind = match random.below(8) {
        0..=3 => {
            // Small zones are hit as often as large ones.
            let zones = &subject.map[number];
            let (range, ..) = &zones[random.below(zones.len() as u64) as usize];
            let range = if range.is_empty() {
                0..bytes.len()
            } else {
                range.clone()
            };
            let at = range.start + random.below(range.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
            Kind::Flip
        }
        4 => {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
            Kind::Truncate
        }
        5 => {
            bytes[sector(random.below(sectors))].fill(0);
            Kind::Zero
        }
        _ => {
            let other = if random.below(2) == 0 {
                number
            } else {
                pick(random)
            };
            let (here, there) = (sector(random.below(sectors)), sector(random.below(8)));
            let mut second = if other == number {
                bytes.clone()
            } else {
                subject.bytes[other].clone()
            };
            let (first, last) = (bytes[here.clone()].to_vec(), second[there.clone()].to_vec());
            if other == number {
                bytes[here].copy_from_slice(&last);
                bytes[there].copy_from_slice(&first);
            } else {
                bytes[here].copy_from_slice(&last);
                second[there].copy_from_slice(&first);
                changed.insert(other, second);
            }
            Kind::Swap
        }
    };
    changed.insert(number, bytes);
    (kind, changed)
}

/// Read everything by offset: what is lost, after checking that all else is as it was appended.
fn read_lost(log: &MemoryLog, list: &[Expected], why: &str) -> BTreeSet<u64> {
    let mut lost = BTreeSet::new();
    for want in list {
        match log.read(Offset(want.first)) {
            Ok(record) => want.assert_is(&record, why),
            Err(ReadError::Damaged { next }) => {
                assert!(next.0 > want.first, "{why}: no progress");
                lost.extend(want.first..want.next());
            }
            Err(_) => lost.extend(want.first..want.next()),
        }
    }
    lost
}

/// What inspection says of the same bytes: the offsets in damage, and whether there is any.
fn inspect_lost(data: &Path, why: &str) -> (BTreeSet<u64>, bool) {
    let view = LogView::open(data, LOG).unwrap_or_else(|error| panic!("{why}: {error}"));
    let verdict = view.verify();
    let offsets = verdict.damage.iter();
    let lost = offsets.flat_map(|damage| damage.offsets.start.0..damage.offsets.end.0);
    (lost.collect(), !verdict.damage.is_empty())
}

/// Nothing that was there is gone: same files, same lengths, and only what was reported as cut differs.
fn check_kept(subject: &Subject, disk: &Disk, changed: &BTreeMap<usize, Vec<u8>>, why: &str) {
    for (number, file) in subject.files.iter().enumerate() {
        let was = changed.get(&number).unwrap_or(&subject.bytes[number]);
        let used: usize = subject.map[number]
            .iter()
            .filter(|(_, zone, _)| matches!(zone, Zone::RecordHeader | Zone::Body))
            .map(|(range, ..)| range.end)
            .max()
            .unwrap_or(0);
        if used == 0 || *file == Disk::vouch_file(LOG) {
            continue;
        }
        let now = disk
            .contents(*file)
            .unwrap_or_else(|| panic!("{why}: {} is gone", file.id));
        assert_eq!(now.len(), was.len(), "{why}: {}", file.id);
        let aside = disk.set_aside(*file);
        for at in 0..used.min(was.len()) {
            let copied = aside.iter().any(|(from, bytes)| {
                let index = at.checked_sub(*from as usize);
                index.and_then(|index| bytes.get(index)) == Some(&was[at])
            });
            assert!(
                now[at] == was[at] || copied,
                "{why}: {} byte {at} is gone",
                file.id
            );
        }
    }
}

#[test]
fn every_corruption_is_detected_with_exact_offsets_and_nothing_is_deleted() {
    let (want, first) = (count_from("FOREBAY_CORRUPTIONS", CORRUPTIONS), seed_from(1));
    let mut counts: BTreeMap<(Kind, Option<Zone>), u64> = BTreeMap::new();
    let (mut done, mut seed, mut lost_total) = (0, first, 0);
    while done < want {
        let subject = Subject::new(seed);
        let mut random = Random::new(seed);
        for case in 0..250 {
            let (kind, changed) = corrupt(&subject, &mut random);
            let why = format!(
                "{kind:?} case {case}; replay: FOREBAY_SEED={seed} FOREBAY_CORRUPTIONS=1 cargo test -p forebay-partition --test log corruption::"
            );
            if changed
                .iter()
                .all(|(&number, now)| subject.bytes[number] == *now)
            {
                continue;
            }
            let lost = check(&subject, &changed, &why);
            let mut zones = BTreeSet::new();
            changed
                .iter()
                .for_each(|(&number, now)| zones.extend(subject.hit(number, now).0));
            *counts.entry((kind, zones.first().copied())).or_default() += 1;
            (done, lost_total) = (done + 1, lost_total + lost);
        }
        seed += 1;
    }
    println!("{counts:?}");
    println!(
        "{done} corruptions, {lost_total} messages lost and reported, seeds {first}..{seed}, 0 undetected, 0 wrong bytes, 0 deleted; replay: \
         FOREBAY_SEED={first} FOREBAY_CORRUPTIONS={want} cargo test -p forebay-partition --test log corruption:: -- --nocapture"
    );
}

fn check(subject: &Subject, changed: &BTreeMap<usize, Vec<u8>>, why: &str) -> u64 {
    let disk = subject.rig.disk.crash(Crash::Kept);
    let (mut zones, mut expected) = (BTreeSet::new(), BTreeSet::new());
    for (&number, bytes) in changed {
        disk.damage(subject.files[number], |file| file.clone_from(bytes));
        subject.put_file(number, bytes);
        let (hit, lost) = subject.hit(number, bytes);
        zones.extend(hit);
        expected.extend(lost);
    }
    let (inspected, inspection_reports) = inspect_lost(subject.folder.path(), why);
    changed
        .keys()
        .for_each(|&number| subject.put_file(number, &subject.bytes[number]));
    let mut storage = MemoryStorage::new(&disk);
    let (log, report) = Partition::recover(&mut storage, LOG, subject.rig.limits, NOW)
        .expect("damage is no failure");
    let lost = read_lost(&log, &subject.rig.list, why);
    assert_eq!(
        lost, expected,
        "{why}: lost by reading, {:?}",
        report.damage
    );
    assert_eq!(
        inspected, expected,
        "{why}: reported by inspection, {:?}",
        report.damage
    );
    let own = zones
        .iter()
        .any(|zone| !matches!(zone, Zone::Unused | Zone::Padding | Zone::Vouch));
    assert!(inspection_reports || !own, "{why}: {zones:?} undetected");
    let header = |kind| {
        matches!(
            kind,
            DamageKind::Header | DamageKind::Truncated | DamageKind::Unreadable
        )
    };
    let told = report.damage.iter().any(|damage| header(damage.kind));
    assert!(
        told || !zones.contains(&Zone::SegmentHeader),
        "{why}: header undetected"
    );
    for damage in &report.damage {
        let offsets = damage.offsets.start.0..damage.offsets.end.0;
        assert!(
            offsets.clone().all(|offset| expected.contains(&offset)),
            "{why}: {damage:?}"
        );
    }
    check_kept(subject, &disk, changed, why);
    lost.len() as u64
}
