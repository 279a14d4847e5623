//! The audit log: a line for each change, chained, so that none can be altered, left out or put in.
//!
//! The link of a line is HMAC-SHA256 over the link before it and the line's text, with a key that is derived from the master
//! key: whoever has the file alone cannot forge the chain. Lines never hold a secret, sealed or not.

use std::collections::BTreeMap;

use redb::{ReadableDatabase, ReadableTable, Table};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::diagnosis::Diagnosis;

use super::fault::damaged;
use super::{AUDIT, Act, Change, META, Store, THINGS};
use crate::model::{Noun, Thing};
use crate::quantity::show_moment;
use crate::seal::hex;

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
    /// What it was; null when it was not there.
    pub before: Value,
    /// What it is since; null when it was deleted.
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

/// The end of the chain while lines are added.
pub(super) struct Chain<'a, 'txn> {
    store: &'a Store,
    lines: Table<'txn, u64, ([u8; 32], &'static [u8])>,
    count: u64,
    head: [u8; 32],
}

impl<'a, 'txn> Chain<'a, 'txn> {
    /// The chain as it stands.
    pub(super) fn continued(
        store: &'a Store,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
        lines: Table<'txn, u64, ([u8; 32], &'static [u8])>,
    ) -> Result<Self, Diagnosis> {
        let head = meta.get("head").map_err(|error| store.failed(error))?;
        let head = match &head {
            None => BEGIN,
            Some(head) => (head.value().try_into())
                .map_err(|_| damaged(&store.path, "meta `head`".to_owned()))?,
        };
        let last = lines.last().map_err(|error| store.failed(error))?;
        let count = last.map_or(0, |(number, _)| number.value());
        Ok(Self {
            store,
            lines,
            count,
            head,
        })
    }

    /// Add the line of a change.
    pub(super) fn add(
        &mut self,
        act: &Act<'_>,
        version: u64,
        change: &Change,
        before: Option<&Thing>,
    ) -> Result<(), Diagnosis> {
        self.count += 1;
        let line = Line {
            number: self.count,
            version,
            at: show_moment(act.at_seconds),
            actor: act.actor.to_owned(),
            action: act.action.to_owned(),
            noun: change.noun,
            name: change.name.clone(),
            before: before.map_or(Value::Null, Thing::shown),
            after: change.after.as_ref().map_or(Value::Null, Thing::shown),
        };
        let text = serde_json::to_vec(&line).expect("texts and numbers have a form in JSON");
        self.head = self.store.master.link(&self.head, &text);
        let inserted = self.lines.insert(self.count, (self.head, &text[..]));
        inserted.map(drop).map_err(|error| self.store.failed(error))
    }

    /// The link of the last line.
    pub(super) fn head(&self) -> [u8; 32] {
        self.head
    }
}

impl Store {
    /// Lines of the audit log after the one with this number, at most `count` of them.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is none.
    pub fn audit_lines(&self, after: u64, count: usize) -> Result<Vec<Line>, Diagnosis> {
        let read = (self.database.begin_read()).map_err(|error| self.failed(error))?;
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
        let read = (self.database.begin_read()).map_err(|error| self.failed(error))?;
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
        let head = meta.get("head").map_err(|error| self.failed(error))?;
        let head = head.map_or(BEGIN.to_vec(), |head| head.value().to_vec());
        if head != walk.link {
            let fault = format!(
                "the log ends with line {}, which is not its head",
                walk.number
            );
            walk.faults.push(fault);
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

/// A walk along the chain.
#[derive(Default)]
struct Walk {
    number: u64,
    link: [u8; 32],
    version: u64,
    /// The last line about each thing that is there.
    last: BTreeMap<(Noun, String), (u64, Value)>,
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
            Value::Null => self.last.remove(&key),
            after => self.last.insert(key, (line.version, after)),
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
            (Some((at, after)), Ok(shown)) if at == version && after == shown => {}
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
