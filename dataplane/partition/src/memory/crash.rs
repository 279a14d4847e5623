//! What a medium holds after the power went: the sectors of unsynced writes, lost, kept, torn and misplaced.

use std::collections::BTreeMap;

use crate::log::SegmentRef;
use crate::memory::disk::{DiskFile, SECTOR_BYTES, put};
use crate::memory::random::Random;

/// What happens to writes that were not synced when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// All are lost.
    Lost,
    /// All have reached the medium.
    Kept,
    /// Each sector holds some version it had since its last sync, and one in eight is torn inside.
    Seeded(u64),
    /// Sectors with unsynced writes, counted over all files in order, are kept where bit `n % 64` is set
    /// and lost elsewhere. With few sectors, counting the mask up visits every subset.
    Sectors(u64),
    /// Only the first so many unsynced writes have reached the medium, in the order they were made.
    Writes(u64),
    /// As `Seeded`, and then some sectors that lie wholly behind everything synced in their file have changed
    /// places or were written over others of their kind, in the same file or another.
    Misplaced(u64),
}

impl Crash {
    pub(super) fn seed(self) -> u64 {
        match self {
            Self::Lost => 1,
            Self::Kept => 2,
            Self::Seeded(seed)
            | Self::Sectors(seed)
            | Self::Writes(seed)
            | Self::Misplaced(seed) => seed.wrapping_add(3),
        }
    }
}

/// Makes the durable bytes after a crash, file by file.
struct Image {
    crash: Crash,
    random: Random,
    /// Sectors with unsynced writes seen so far.
    sector: u64,
    /// Number of the oldest unsynced write.
    first: u64,
}

impl Image {
    /// The bytes of a file whose durable ones are given.
    fn of(&mut self, file: &DiskFile, mut bytes: Vec<u8>) -> Vec<u8> {
        if let Crash::Writes(count) = self.crash {
            let kept = file
                .unsynced
                .iter()
                .take_while(|write| write.number - self.first < count);
            kept.for_each(|write| put(&mut bytes, write.at, &write.bytes));
            return bytes;
        }
        for versions in file.sectors().into_values() {
            let kept = self.version(versions.len());
            versions[..kept]
                .iter()
                .for_each(|(at, part)| put(&mut bytes, *at, part));
            if self.tears() && self.random.below(8) == 0 {
                self.tear(&mut bytes, versions.get(kept));
            }
            self.sector += 1;
        }
        bytes
    }

    fn tears(&self) -> bool {
        matches!(self.crash, Crash::Seeded(_) | Crash::Misplaced(_))
    }

    fn version(&mut self, versions: usize) -> usize {
        match self.crash {
            Crash::Lost => 0,
            Crash::Kept | Crash::Writes(_) => versions,
            Crash::Sectors(mask) => versions * usize::from(mask >> (self.sector % 64) & 1 == 1),
            // Half of the sectors at one of the extremes: whole lost or whole kept tails are common.
            Crash::Seeded(_) | Crash::Misplaced(_) => match self.random.below(4) {
                0 => 0,
                1 => versions,
                _ => self.random.below(versions as u64 + 1) as usize,
            },
        }
    }

    /// Let only the beginning or only the end of the next write reach the medium.
    fn tear(&mut self, bytes: &mut [u8], next: Option<&(usize, &[u8])>) {
        let Some(&(at, part)) = next else { return };
        let cut = self.random.below(part.len() as u64 + 1) as usize;
        if self.random.below(2) == 0 {
            put(bytes, at, &part[..cut]);
        } else {
            put(bytes, at + cut, &part[cut..]);
        }
    }

    /// Put sectors that hold nothing synced in each other's places. `loose` names them by file and number.
    fn misplace(&mut self, files: &mut [&mut DiskFile], loose: &[(usize, usize)]) {
        if !matches!(self.crash, Crash::Misplaced(_)) || loose.is_empty() {
            return;
        }
        for _ in 0..self.random.below(4) + 1 {
            let here = loose[self.random.below(loose.len() as u64) as usize];
            let there = loose[self.random.below(loose.len() as u64) as usize];
            let (first, second) = (sector(files, here).to_vec(), sector(files, there).to_vec());
            sector(files, there).copy_from_slice(&first);
            if self.random.below(2) == 0 {
                sector(files, here).copy_from_slice(&second);
            }
        }
    }
}

fn sector<'a>(files: &'a mut [&mut DiskFile], (file, number): (usize, usize)) -> &'a mut [u8] {
    let from = number * SECTOR_BYTES;
    &mut files[file].durable[from..from + SECTOR_BYTES]
}

/// Whole sectors of a file that lie behind everything synced in it: a log is written in order.
fn loose_sectors(file: &DiskFile) -> std::ops::Range<usize> {
    let from = file.unsynced.iter().map(|write| write.at).min();
    let to = file
        .unsynced
        .iter()
        .map(|write| write.at + write.bytes.len());
    let whole = file.durable.len() / SECTOR_BYTES;
    match (from, to.max()) {
        (Some(from), Some(to)) => from.div_ceil(SECTOR_BYTES)..to.div_ceil(SECTOR_BYTES).min(whole),
        _ => 0..0,
    }
}

/// Make what the files of a disk hold after a crash durable.
pub(super) fn apply(crash: Crash, files: &mut BTreeMap<SegmentRef, DiskFile>) {
    let unsynced = files.values().flat_map(|file| &file.unsynced);
    let mut image = Image {
        crash,
        random: Random::new(crash.seed()),
        sector: 0,
        first: unsynced.map(|write| write.number).min().unwrap_or(0),
    };
    let mut loose = Vec::new();
    for (number, file) in files.values_mut().enumerate() {
        loose.extend(loose_sectors(file).map(|sector| (number, sector)));
        let durable = std::mem::take(&mut file.durable);
        file.durable = image.of(file, durable);
        file.forsaken.clear();
        file.unsynced.clear();
    }
    let mut files: Vec<&mut DiskFile> = files.values_mut().collect();
    image.misplace(&mut files, &loose);
}
