//! The last table of a node, on disk: it starts from it when the control plane is away. It holds secrets, so only its owner may read it.
//!
//! Two files, each written so that a crash leaves the one before or the one after. `route-table`, replaced whole:
//!
//! | offset | bytes | field                                        |
//! |-------:|------:|----------------------------------------------|
//! |      0 |     8 | `FBTABLE2`                                   |
//! |      8 |    56 | version                                      |
//! |     64 |     8 | length of the snapshot                       |
//! |     72 |     8 | XXH3 of the snapshot and of bytes 8 to 71     |
//! |     80 |       | the snapshot                                 |
//!
//! `route-table.deltas`, added to: base version 56, version 56, length 8, XXH3 of all that and the delta 8, the delta. Whatever is behind the
//! first one that is not whole is passed over, and so is one that was made for another table. When the file of the snapshot was written last
//! says until when the table was known to be the newest.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use wire::diagnosis::Diagnosis;
use xxhash_rust::xxh3::Xxh3;

use crate::diagnosis::{CODES, TABLE_UNFIT, TABLE_UNKEPT};
use crate::frame::{PAYLOAD_BYTES_MAX, Version, read_version, write_version};
use crate::reader::Reader;

const TABLE: &str = "route-table";
const NEW: &str = "route-table.new";
const DELTAS: &str = "route-table.deltas";
const MAGIC: [u8; 8] = *b"FBTABLE2";
/// Deltas behind a snapshot, and bytes of them beyond half of it, from which a new snapshot is written.
const DELTAS_MAX: u64 = 1_024;
const DELTAS_BYTES_FREE: u64 = 1 << 20;
/// Bytes in front of each.
const DELTA_HEAD_BYTES: u64 = 128;

/// Where the table of a node is kept.
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
    /// What is there; none before the first.
    version: Option<Version>,
    snapshot_bytes: u64,
    deltas: u64,
    deltas_bytes: u64,
    /// What is behind so many bytes of the deltas would never be read: it goes before anything is added.
    cut: Option<u64>,
}

/// A table that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptTable {
    /// Version and bytes of the snapshot.
    pub snapshot: (Version, Vec<u8>),
    /// What follows: base, version and bytes of each.
    pub deltas: Vec<(Version, Version, Vec<u8>)>,
    /// Until when it was known to be the newest.
    pub fresh: SystemTime,
}

impl KeptTable {
    /// What it comes to.
    #[must_use]
    pub fn version(&self) -> Version {
        self.deltas
            .last()
            .map_or(self.snapshot.0, |(_, becomes, _)| *becomes)
    }
}

impl Kept {
    /// The folder, made if it is not there, and the table in it, if there is one.
    ///
    /// # Errors
    /// When the folder cannot be made or read, or what is kept is damaged.
    pub fn open(folder: &Path) -> Result<(Self, Option<KeptTable>), Diagnosis> {
        let unkept = |error: io::Error| unkept(folder, &error);
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(folder);
        made.map_err(unkept)?;
        let mut kept = Self {
            folder: folder.to_owned(),
            version: None,
            snapshot_bytes: 0,
            deltas: 0,
            deltas_bytes: 0,
            cut: None,
        };
        let path = folder.join(TABLE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((kept, None)),
            Err(error) => return Err(unkept(error)),
        };
        let fresh = path.metadata().and_then(|about| about.modified());
        let snapshot = read_snapshot(bytes).ok_or_else(|| damaged(&path))?;
        let mut table = KeptTable {
            snapshot,
            deltas: Vec::new(),
            fresh: fresh.map_err(unkept)?,
        };
        match std::fs::read(folder.join(DELTAS)) {
            Ok(bytes) => {
                let (deltas, good) = read_deltas(&bytes, table.snapshot.0);
                (table.deltas, kept.cut) = (deltas, Some(good));
                (kept.deltas, kept.deltas_bytes) = (table.deltas.len() as u64, good);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unkept(error)),
        }
        kept.snapshot_bytes = table.snapshot.1.len() as u64;
        kept.version = Some(table.version());
        Ok((kept, Some(table)))
    }

    /// Put what cannot be read out of the way, for people to look at.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn put_aside(folder: &Path) -> Result<(), Diagnosis> {
        for name in [TABLE, DELTAS] {
            let path = folder.join(name);
            match std::fs::rename(&path, path.with_added_extension("damaged")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(unkept(folder, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The version that is kept.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Whether the next change is better written as a snapshot.
    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        let most = DELTAS_BYTES_FREE + self.snapshot_bytes / 2;
        self.version.is_none() || self.deltas >= DELTAS_MAX || self.deltas_bytes > most
    }

    /// Keep this whole table from now on.
    ///
    /// # Errors
    /// When it cannot be written; what was kept before still is.
    pub fn keep_snapshot(&mut self, version: Version, bytes: &[u8]) -> Result<(), Diagnosis> {
        let mut head = MAGIC.to_vec();
        write_version(&version, &mut head);
        head.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        let sum = sum(&head[MAGIC.len()..], bytes);
        head.extend_from_slice(&sum.to_le_bytes());
        let wrote = self.replace(&head, bytes);
        wrote.map_err(|error| unkept(&self.folder, &error))?;
        (self.version, self.snapshot_bytes) = (Some(version), bytes.len() as u64);
        (self.deltas, self.deltas_bytes, self.cut) = (0, 0, None);
        Ok(())
    }

    fn replace(&self, head: &[u8], bytes: &[u8]) -> io::Result<()> {
        let new = self.folder.join(NEW);
        // One that a crash left behind may be of any kind.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(head)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, self.folder.join(TABLE))?;
        // Those that are left if this does not happen were made for older tables, and are passed over.
        match std::fs::remove_file(self.folder.join(DELTAS)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::open(&self.folder)?.sync_all()
    }

    /// Keep these deltas behind what is kept: base, version and bytes of each.
    ///
    /// # Errors
    /// When they cannot be written; what was kept before still is.
    pub fn keep_deltas<'a>(
        &mut self,
        deltas: impl IntoIterator<Item = (Version, Version, &'a [u8])>,
    ) -> Result<(), Diagnosis> {
        let (mut out, mut last, mut count) = (Vec::new(), self.version, 0);
        for (base, becomes, bytes) in deltas {
            assert_eq!(Some(base), last, "deltas are kept in a row");
            let start = out.len();
            write_version(&base, &mut out);
            write_version(&becomes, &mut out);
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            let sum = sum(&out[start..], bytes);
            out.extend_from_slice(&sum.to_le_bytes());
            out.extend_from_slice(bytes);
            (last, count) = (Some(becomes), count + 1);
        }
        let wrote = self.add(&out);
        if wrote.is_err() {
            // A part of it may be there: nothing behind it would be read.
            self.deltas = DELTAS_MAX;
        }
        wrote.map_err(|error| unkept(&self.folder, &error))?;
        self.version = last;
        self.deltas += count;
        self.deltas_bytes += out.len() as u64;
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        let path = self.folder.join(DELTAS);
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(&path)?;
        if let Some(good) = self.cut.take() {
            file.set_len(good)?;
        }
        file.write_all(bytes)?;
        file.sync_data()?;
        match self.deltas {
            // It is a new file.
            0 => File::open(&self.folder)?.sync_all(),
            _ => Ok(()),
        }
    }

    /// What is kept is the newest now.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub fn note_fresh(folder: &Path, now: SystemTime) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(folder.join(TABLE))?;
        file.set_modified(now)
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn sum(head: &[u8], bytes: &[u8]) -> u64 {
    let mut sum = Xxh3::new();
    sum.update(head);
    sum.update(bytes);
    sum.digest()
}

fn read_snapshot(mut file: Vec<u8>) -> Option<(Version, Vec<u8>)> {
    let mut reader = Reader::new(&file);
    if reader.array::<8>()? != MAGIC {
        return None;
    }
    let (version, bytes) = (read_version(&mut reader)?, reader.u64()?);
    let (told, snapshot) = (reader.u64()?, reader.rest());
    if snapshot.len() as u64 != bytes || sum(&file[8..72], snapshot) != told {
        return None;
    }
    file.drain(..80);
    Some((version, file))
}

/// Those that follow from this version, in a row, and how many bytes of the file are whole.
fn read_deltas(file: &[u8], from: Version) -> (Vec<(Version, Version, Vec<u8>)>, u64) {
    let (mut reader, mut deltas, mut last) = (Reader::new(file), Vec::new(), from);
    let mut good = 0;
    while let Some((base, becomes, bytes)) = read_delta(&mut reader) {
        good += DELTA_HEAD_BYTES + bytes.len() as u64;
        if base == last {
            deltas.push((base, becomes, bytes.to_vec()));
            last = becomes;
        }
    }
    (deltas, good)
}

fn read_delta<'a>(reader: &mut Reader<'a>) -> Option<(Version, Version, &'a [u8])> {
    let head = reader.take(120)?;
    let told = reader.u64()?;
    let mut fields = Reader::new(head);
    let (base, becomes) = (read_version(&mut fields)?, read_version(&mut fields)?);
    let length = fields.u64().filter(|bytes| *bytes <= PAYLOAD_BYTES_MAX)?;
    let bytes = reader.take(usize::try_from(length).ok()?)?;
    (sum(head, bytes) == told).then_some((base, becomes, bytes))
}

fn unkept(folder: &Path, error: &io::Error) -> Diagnosis {
    let what = format!("the table in {}", folder.display());
    let needed = "a folder that may be read and written";
    Diagnosis::from_table(CODES, TABLE_UNKEPT, what, error.to_string(), needed)
}

fn damaged(path: &Path) -> Diagnosis {
    let what = format!("the table in {}", path.display());
    let (seen, needed) = ("a file that is not whole", "what a node wrote");
    Diagnosis::from_table(CODES, TABLE_UNFIT, what, seen, needed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tests::numbered as version;

    fn kept_of(folder: &Path) -> KeptTable {
        Kept::open(folder).expect("readable").1.expect("kept")
    }

    #[test]
    fn what_was_kept_last_is_there_again_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = &folder.path().join("deep/table");
        let (mut kept, nothing) = Kept::open(folder).expect("made");
        assert!(nothing.is_none() && kept.wants_snapshot());
        kept.keep_snapshot(version(3), b"three").expect("kept");
        assert_eq!(kept_of(folder).snapshot, (version(3), b"three".to_vec()));
        let deltas = [
            (version(3), version(4), &b"to four"[..]),
            (version(4), version(5), b"to five"),
        ];
        kept.keep_deltas(deltas).expect("kept");
        kept.keep_deltas([(version(5), version(6), &b"to six"[..])])
            .expect("kept");
        let there = kept_of(folder);
        assert_eq!(there.version(), version(6));
        assert_eq!(there.deltas.len(), 3);
        assert_eq!(there.deltas[2].2, b"to six");
        for name in [TABLE, DELTAS] {
            let about = folder.join(name).metadata().expect("there");
            assert_eq!(about.permissions().mode() & 0o777, 0o600, "{name}");
        }
        kept.keep_snapshot(version(9), b"nine").expect("kept");
        assert_eq!(kept_of(folder).deltas, []);
        let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        Kept::note_fresh(folder, then).expect("noted");
        assert_eq!(kept_of(folder).fresh, then);
    }

    #[test]
    fn deltas_of_an_older_snapshot_are_passed_over_and_so_is_what_is_torn() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let (mut kept, _) = Kept::open(folder).expect("made");
        kept.keep_snapshot(version(1), b"one").expect("kept");
        let deltas: Vec<_> = (1..9)
            .map(|epoch| (version(epoch), version(epoch + 1), &b"next"[..]))
            .collect();
        kept.keep_deltas(deltas).expect("kept");
        let written = std::fs::read(folder.join(DELTAS)).expect("there");
        // A crash after the new snapshot and before its deltas went.
        kept.keep_snapshot(version(6), b"six").expect("kept");
        std::fs::write(folder.join(DELTAS), &written).expect("written");
        let there = kept_of(folder);
        assert_eq!((there.deltas.len(), there.version()), (3, version(9)));
        // A crash in the middle of adding one.
        let one = written.len() / 8;
        for cut in [1, one - 1, one, one + 1] {
            let torn = &written[..written.len() - cut];
            std::fs::write(folder.join(DELTAS), torn).expect("written");
            let want = 9 - cut.div_ceil(one) as u64;
            assert_eq!(kept_of(folder).version(), version(want), "cut by {cut}");
        }
        // Another past has the same epochs.
        let past = |epoch| Version {
            lineage: [2; 16],
            ..version(epoch)
        };
        kept.keep_snapshot(past(6), b"six").expect("kept");
        std::fs::write(folder.join(DELTAS), &written).expect("written");
        assert_eq!(kept_of(folder).version(), past(6));
        kept.keep_snapshot(version(6), b"six").expect("kept");
        // What comes next goes where it is read, and only that.
        std::fs::write(folder.join(DELTAS), &written[..written.len() - 1]).expect("written");
        let (mut kept, _) = Kept::open(folder).expect("readable");
        assert!(!kept.wants_snapshot());
        let again = [(version(8), version(9), &b"anew"[..])];
        kept.keep_deltas(again).expect("kept");
        let there = kept_of(folder);
        assert_eq!((there.deltas.len(), there.version()), (3, version(9)));
        assert_eq!(there.deltas[2].2, b"anew");
        let length = folder.join(DELTAS).metadata().expect("there").len();
        assert_eq!(length, written.len() as u64);
    }

    #[test]
    fn a_damaged_snapshot_is_refused_by_name_wherever_it_is_damaged() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut kept, _) = Kept::open(folder.path()).expect("made");
        kept.keep_snapshot(version(1), b"one").expect("kept");
        let path = folder.path().join(TABLE);
        let good = std::fs::read(&path).expect("there");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, bad).expect("written");
            let refused = Kept::open(folder.path()).expect_err("damaged");
            assert_eq!(refused.code, TABLE_UNFIT, "byte {at}");
        }
        std::fs::write(&path, &good[..good.len() - 1]).expect("written");
        assert!(Kept::open(folder.path()).is_err(), "cut");
        Kept::put_aside(folder.path()).expect("renamed");
        let (_, nothing) = Kept::open(folder.path()).expect("begun anew");
        assert_eq!(nothing, None);
    }
}
