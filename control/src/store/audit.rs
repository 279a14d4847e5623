//! The audit log: a line for each change, chained, so that none can be altered, left out or put in.
//!
//! The link of a line is HMAC-SHA256 over the link before it and the line's text, with a key that is derived from the master
//! key: whoever has the file alone cannot forge the chain. Where it ends is sealed by another such key, so that it cannot be cut
//! off either. Lines never hold a secret, sealed or not.

use std::collections::BTreeMap;

use redb::{ReadableTable, Table};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::diagnosis::Diagnosis;

use super::fault::damaged;
use super::rows::Rows;
use super::{AUDIT, Act, Change, META, Store, THINGS};
use crate::diagnosis::{AUDIT_BROKEN, CODES};
use crate::model::{Noun, Thing};
use crate::quantity::show_moment;
use crate::seal::{MasterKey, digest_text, hex};

/// The link before the first line.
const BEGIN: [u8; 32] = [0; 32];

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, from 1, without gaps.
    pub number: u64,
    /// The version that the change gave. Changes made together have one.
    pub version: u64,
    /// When, in UTC.
    pub at: String,
    /// Who.
    pub actor: String,
    /// What was asked for.
    pub action: String,
    /// Kind of the thing that changed.
    pub noun: Noun,
    /// Its full name.
    pub name: String,
    /// What it was; null when it was not there, or was only taken a copy of.
    pub before: Value,
    /// What it is since; null when it was deleted, or was only taken a copy of.
    pub after: Value,
}

/// What a check of the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Lines looked at.
    pub lines: u64,
    /// The last version.
    pub version: u64,
    /// The last link, in hexadecimal digits: kept elsewhere, it tells whether an older file was put in place.
    pub head: String,
    /// What is wrong, in the order of the lines; empty when nothing is.
    pub faults: Vec<String>,
}

/// Where the chain ends. Its seal is in the meta data: with the file alone nobody makes it end earlier.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// Lines.
    count: u64,
    /// The version that the last one gave.
    version: u64,
    /// Its link.
    head: [u8; 32],
    /// What everything that is defined counts as.
    rows: Rows,
}

impl End {
    /// Where a chain ends that has not begun.
    pub(super) const NONE: Self = Self {
        count: 0,
        version: 0,
        head: BEGIN,
        rows: Rows::NONE,
    };

    /// What is kept of it: by which word, and what.
    pub(super) fn kept(&self, master: &MasterKey) -> [(&'static str, Vec<u8>); 4] {
        let seal = master.end(&self.head, self.count, self.version, self.rows.sum());
        [
            ("version", self.version.to_le_bytes().to_vec()),
            ("head", self.head.to_vec()),
            ("rows", self.rows.sum().to_vec()),
            ("seal", seal.to_vec()),
        ]
    }
}

/// The end of the chain while the lines of a change are added.
pub(super) struct Chain<'a, 'txn> {
    store: &'a Store,
    lines: Table<'txn, u64, ([u8; 32], &'static [u8])>,
    end: End,
}

impl<'a, 'txn> Chain<'a, 'txn> {
    /// The chain as it stands, and the version of the change that goes on with it.
    pub(super) fn continued(
        store: &'a Store,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
        lines: Table<'txn, u64, ([u8; 32], &'static [u8])>,
    ) -> Result<(Self, u64), Diagnosis> {
        let mut chain = Self::as_it_is(store, meta, lines)?;
        chain.end.version += 1;
        let version = chain.end.version;
        Ok((chain, version))
    }

    /// The chain as it stands, for what changes nothing and is noted all the same.
    pub(super) fn as_it_is(
        store: &'a Store,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
        lines: Table<'txn, u64, ([u8; 32], &'static [u8])>,
    ) -> Result<Self, Diagnosis> {
        let end = store.end(meta, &lines)?;
        Ok(Self { store, lines, end })
    }

    /// A chain that has not begun, of a store that has no lines yet.
    pub(super) const fn anew(
        store: &'a Store,
        lines: Table<'txn, u64, ([u8; 32], &'static [u8])>,
    ) -> Self {
        let end = End::NONE;
        Self { store, lines, end }
    }

    /// Lines that follow are of this version.
    pub(super) const fn go_on(&mut self, version: u64) {
        self.end.version = version;
    }

    /// The version that lines are of.
    pub(super) const fn version(&self) -> u64 {
        self.end.version
    }

    /// Add a line that is written already.
    pub(super) fn follow(&mut self, text: &[u8]) -> Result<(), Diagnosis> {
        let end = &mut self.end;
        end.count += 1;
        end.head = self.store.master.link(&end.head, text);
        let inserted = self.lines.insert(end.count, (end.head, text));
        inserted.map(drop).map_err(|error| self.store.failed(error))
    }

    /// Add the line of a change.
    pub(super) fn add(
        &mut self,
        act: &Act<'_>,
        change: &Change,
        before: Option<&Thing>,
    ) -> Result<(), Diagnosis> {
        let before = before.map_or(Value::Null, Thing::shown);
        let after = change.after.as_ref().map_or(Value::Null, Thing::shown);
        self.line(act, (change.noun, &change.name), (before, after))
    }

    /// Add a line about a thing, as it was and as it is.
    pub(super) fn line(
        &mut self,
        act: &Act<'_>,
        (noun, name): (Noun, &str),
        (before, after): (Value, Value),
    ) -> Result<(), Diagnosis> {
        let line = Line {
            number: self.end.count + 1,
            version: self.end.version,
            at: show_moment(act.at_seconds),
            actor: act.actor.to_owned(),
            action: act.action.to_owned(),
            noun,
            name: name.to_owned(),
            before,
            after,
        };
        let text = serde_json::to_vec(&line).expect("texts and numbers have a form in JSON");
        self.follow(&text)
    }

    /// What everything that is defined counts as, to be kept up.
    pub(super) fn rows(&mut self) -> &mut Rows {
        &mut self.end.rows
    }

    /// Where it ends now.
    pub(super) fn end(&self) -> End {
        self.end
    }
}

impl Store {
    /// Where the chain ends.
    ///
    /// # Errors
    /// When it does not end where its seal says.
    pub(super) fn end(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
        lines: &impl ReadableTable<u64, ([u8; 32], &'static [u8])>,
    ) -> Result<End, Diagnosis> {
        let last = lines.last().map_err(|error| self.failed(error))?;
        let (count, link) = last.map_or((0, BEGIN), |(number, line)| {
            (number.value(), line.value().0)
        });
        let version = self.number(meta, "version")?;
        let head = self.link(meta, "head")?;
        let rows = Rows::new(self.link(meta, "rows")?);
        let end = End {
            count,
            version,
            head,
            rows,
        };
        let seal = self.master.end(&head, count, version, rows.sum());
        if head != link || self.link(meta, "seal")? != seal {
            return Err(Diagnosis::from_table(
                CODES,
                AUDIT_BROKEN,
                format!(
                    "the audit log of store {} was cut off or added to",
                    self.path.display()
                ),
                format!("line {count} and version {version} at its end"),
                "the end that was sealed with the last change",
            ));
        }
        Ok(end)
    }

    /// 32 bytes of the meta data, zeros before they were written.
    pub(super) fn link(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
        key: &str,
    ) -> Result<[u8; 32], Diagnosis> {
        let value = meta.get(key).map_err(|error| self.failed(error))?;
        let Some(value) = value else {
            return Ok(BEGIN);
        };
        let bytes = value.value().try_into();
        bytes.map_err(|_| damaged(&self.path, format!("meta `{key}`")))
    }

    /// Lines of the audit log after the one with this number, at most `count` of them.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is none.
    pub fn audit_lines(&self, after: u64, count: usize) -> Result<Vec<Line>, Diagnosis> {
        let read = self.read()?;
        let lines = read.open_table(AUDIT).map_err(|error| self.failed(error))?;
        let range = lines.range(after.saturating_add(1)..);
        let range = range.map_err(|error| self.failed(error))?;
        let mut found = Vec::new();
        for entry in range.take(count) {
            let (number, value) = entry.map_err(|error| self.failed(error))?;
            let line = serde_json::from_slice(value.value().1).map_err(|_| {
                let seen = format!("line {} of the audit log", number.value());
                damaged(&self.path, seen)
            })?;
            found.push(line);
        }
        Ok(found)
    }

    /// Check every line of the audit log against the one before it, and all things against the last line about them.
    ///
    /// # Errors
    /// When the file cannot be read at all.
    pub fn verify_audit(&self) -> Result<Verdict, Diagnosis> {
        let read = self.read()?;
        let lines = read.open_table(AUDIT).map_err(|error| self.failed(error))?;
        let mut walk = Walk::default();
        for entry in lines.iter().map_err(|error| self.failed(error))? {
            let (number, value) = entry.map_err(|error| self.failed(error))?;
            let (link, text) = value.value();
            let want = self.master.link(&walk.link, text);
            walk.line(number.value(), link, want, text);
        }
        let meta = read.open_table(META).map_err(|error| self.failed(error))?;
        let version = self.number(&meta, "version")?;
        let head = self.link(&meta, "head")?;
        if let Err(fault) = self.end(&meta, &lines) {
            walk.faults.push(format!("{}: {}", fault.what, fault.seen));
        }
        if version != walk.version {
            let fault = format!("the log ends with version {}, not {version}", walk.version);
            walk.faults.push(fault);
        }
        let things = read
            .open_table(THINGS)
            .map_err(|error| self.failed(error))?;
        for entry in things.iter().map_err(|error| self.failed(error))? {
            let (key, value) = entry.map_err(|error| self.failed(error))?;
            let ((noun, name), (version, json)) = (key.value(), value.value());
            walk.thing(noun, name, version, json);
        }
        for (noun, name) in walk.last.keys() {
            walk.faults
                .push(format!("{noun} `{name}` is audited and not there"));
        }
        Ok(Verdict {
            lines: walk.number,
            version,
            head: hex(&head),
            faults: walk.faults,
        })
    }
}

/// Of a value, whose parts are in one order.
fn digest_of(value: &Value) -> String {
    digest_text(value.to_string().as_bytes())
}

/// A walk along the chain.
#[derive(Default)]
struct Walk {
    number: u64,
    link: [u8; 32],
    version: u64,
    /// The last line about each thing that is there: its version, and a digest of what it was then.
    last: BTreeMap<(Noun, String), (u64, String)>,
    faults: Vec<String>,
}

impl Walk {
    fn line(&mut self, number: u64, link: [u8; 32], want: [u8; 32], text: &[u8]) {
        let expected = self.number + 1;
        if number != expected {
            self.faults.push(format!("line {expected} is not there"));
        }
        if link != want {
            self.faults
                .push(format!("line {number} was altered, or one before it"));
        }
        // What stands there goes on, so that one altered line is one fault.
        (self.number, self.link) = (number, link);
        let Ok(line) = serde_json::from_slice::<Line>(text) else {
            self.faults.push(format!("line {number} cannot be read"));
            return;
        };
        let together = line.version == self.version || line.version == self.version + 1;
        if line.number != number || !together {
            self.faults.push(format!("line {number} is out of order"));
        }
        self.version = line.version;
        let key = (line.noun, line.name);
        match line.after {
            // Nothing changed: a copy was taken.
            Value::Null if line.before.is_null() => None,
            Value::Null => self.last.remove(&key),
            after => self.last.insert(key, (line.version, digest_of(&after))),
        };
    }

    fn thing(&mut self, noun: u8, name: &str, version: u64, json: &[u8]) {
        let Some(noun) = Noun::from_u8(noun) else {
            self.faults.push(format!("`{name}` is of no kind: {noun}"));
            return;
        };
        let audited = self.last.remove(&(noun, name.to_owned()));
        let shown = Thing::from_json(noun, json).map(|thing| thing.shown());
        match (audited, shown) {
            (Some((at, after)), Ok(shown)) if at == version && after == digest_of(&shown) => {}
            (None, _) => self
                .faults
                .push(format!("{noun} `{name}` was never audited")),
            _ => {
                let fault = format!("{noun} `{name}` is not what was audited");
                self.faults.push(fault);
            }
        }
    }
}
