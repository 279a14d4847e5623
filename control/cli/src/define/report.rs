//! The report of an import: names and keys as they are made, and how far the store has them. For its owner alone.
//!
//! A line each: `{"name", "keys"}` before an endpoint is asked for, `{"done"}` when so many of the file are in the store. A line that
//! was cut off in the middle is written again.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::diagnosis::Diagnosis;

use crate::diagnosis::{BULK_FILE, CODES};

/// An endpoint and its keys.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Its full name.
    pub(super) name: String,
    /// Its keys, with their secrets.
    pub(super) keys: Vec<Value>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Entry({}, {} keys)", self.name, self.keys.len())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Entry(Entry),
    Done { done: u64 },
}

/// The report, open.
pub(super) struct Report {
    path: PathBuf,
    file: File,
    /// What it says of endpoints from the first line of the file on, that were not met again yet.
    known: VecDeque<Entry>,
    /// How many are in the store.
    done: u64,
    unwritten: Vec<u8>,
}

impl Report {
    /// Open the report, or begin one.
    pub(super) fn open(path: &Path) -> Result<Self, Diagnosis> {
        let failed = |error: std::io::Error| refuse(path, error.to_string());
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.mode(0o600).open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(refuse(path, format!("mode {:04o}", mode & 0o7777)));
        }
        let (mut known, mut done, mut whole) = (VecDeque::new(), 0, 0);
        let mut reader = BufReader::new(&file);
        let mut text = String::new();
        while reader.read_line(&mut text).map_err(failed)? > 0 {
            match serde_json::from_str(&text) {
                Ok(Line::Entry(entry)) if text.ends_with('\n') => known.push_back(entry),
                Ok(Line::Done { done: count }) if text.ends_with('\n') => done = count,
                _ if !text.ends_with('\n') => break,
                _ => return Err(refuse(path, "a line of something else".to_owned())),
            }
            whole += text.len() as u64;
            text.clear();
        }
        file.set_len(whole).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            known,
            done,
            unwritten: Vec::new(),
        })
    }

    /// How many endpoints of the file are in the store.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// What the report says of the next endpoint of the file; this, from now on, if it says nothing yet.
    pub(super) fn known(&mut self, entry: Entry) -> Result<Entry, Diagnosis> {
        match self.known.pop_front() {
            None => {
                self.add(&Line::Entry(entry.clone()));
                Ok(entry)
            }
            Some(known) if known.name == entry.name => Ok(known),
            Some(known) => {
                let seen = format!("`{}` where the file has `{}`", known.name, entry.name);
                Err(refuse(&self.path, seen))
            }
        }
    }

    fn add(&mut self, line: &Line) {
        serde_json::to_writer(&mut self.unwritten, line).expect("texts have a form in JSON");
        self.unwritten.push(b'\n');
    }

    /// Write what is new to the disk.
    pub(super) fn keep(&mut self) -> Result<(), Diagnosis> {
        let written = self.file.write_all(&self.unwritten);
        let kept = written.and_then(|()| self.file.sync_data());
        self.unwritten.clear();
        kept.map_err(|error| refuse(&self.path, error.to_string()))
    }

    /// So many of the file are in the store.
    pub(super) fn finish(&mut self, done: u64) -> Result<(), Diagnosis> {
        self.done = done;
        self.add(&Line::Done { done });
        self.keep()
    }
}

fn refuse(path: &Path, seen: String) -> Diagnosis {
    let what = format!("report {} cannot be used", path.display());
    let needed = "a new file, or the report of the same import, of mode 0600";
    Diagnosis::from_table(CODES, BULK_FILE, what, seen, needed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(name: &str, secret: u8) -> Entry {
        let keys = vec![json!({ "id": 1, "secret": secret })];
        let name = name.to_owned();
        Entry { name, keys }
    }

    #[test]
    fn a_report_gives_back_what_it_said_wherever_it_was_cut_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report");
        let mut report = Report::open(&path).expect("new");
        for name in ["x", "y"] {
            report.known(entry(name, 1)).expect("new");
        }
        report.keep().expect("written");
        report.finish(2).expect("written");
        report.known(entry("z", 1)).expect("new");
        report.keep().expect("written");
        drop(report);
        let whole = std::fs::read(&path).expect("readable");
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("written");
            let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            let mut report = Report::open(&path).expect("its own");
            assert_eq!(report.done(), if lines >= 3 { 2 } else { 0 }, "{cut}");
            let said: Vec<bool> = ["x", "y", "z"]
                .iter()
                .map(|name| report.known(entry(name, 2)).expect("the same") == entry(name, 1))
                .collect();
            let want = [lines >= 1, lines >= 2, lines >= 4];
            assert_eq!(said, want, "{cut}");
        }
    }

    #[test]
    fn another_files_report_and_one_that_others_may_read_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report");
        let mut report = Report::open(&path).expect("new");
        report.known(entry("x", 1)).expect("new");
        report.keep().expect("written");
        let mut report = Report::open(&path).expect("its own");
        assert_eq!(
            report.known(entry("y", 1)).expect_err("another").code,
            BULK_FILE
        );
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&path, open).expect("changed");
        let fault = Report::open(&path).map(drop).expect_err("readable by all");
        assert_eq!(fault.code, BULK_FILE);
        std::fs::write(folder.path().join("other"), "hello\n").expect("written");
        assert!(Report::open(&folder.path().join("other")).is_err());
    }
}
