//! Another master key for a store: everything that is under the old one is put under the new one, or nothing is.
//!
//! A file of its own is filled in one transaction, checked under the new key and given the name of the store: whatever happens, the store is
//! whole under one of the two keys. Pages that a file has free again still hold what was in them; of the old file's none come along, so that the old key
//! opens nothing in the new one.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, RwLock};

use redb::{ReadTransaction, ReadableTable};
use serde_json::Value;
use wire::diagnosis::Diagnosis;

use super::audit::{Chain, Verdict};
use super::fault::{damaged, failed};
use super::rows::{self, Rows};
use super::{AUDIT, Act, Change, GONE, META, Store, THINGS, database, file};
use crate::diagnosis::{AUDIT_BROKEN, CODES, MASTER_KEY_SAME, SEALED};
use crate::model::{Noun, Thing};
use crate::seal::MasterKey;

/// What is written anew in the meta data, and not copied.
const OF_THE_KEY: [&str; 5] = ["check", "version", "head", "rows", "seal"];

/// What a change of the master key came to.
#[derive(Debug)]
pub struct Rekeyed {
    /// Secrets that were sealed anew.
    pub secrets: u64,
    /// What a check of the whole store under the new key found.
    pub verdict: Verdict,
}

impl Store {
    /// Seal every secret under this master key and link the audit log anew, with a line about it and one for each endpoint that has a
    /// secret. Afterwards the store opens with this key alone, and what is defined means what it did. Needs the room of the store once more beside it.
    /// `check` sees everything under the new key before it is in force.
    ///
    /// # Errors
    /// When it is the key that the store has, the log, a thing or a secret is not whole under the old one, or the disk does not take it: the old one is in
    /// force then, unless the folder could not be synced at the very end.
    pub fn rekey(
        self,
        new: Arc<MasterKey>,
        act: &Act<'_>,
        check: impl FnOnce(&Self) -> Result<(), Diagnosis>,
    ) -> Result<Rekeyed, Diagnosis> {
        if new.check() == self.master.check() {
            let what = format!("store {} has this master key", self.path.display());
            let (seen, needed) = ("the key that it opens with", "another one");
            return Err(Diagnosis::from_table(
                CODES,
                MASTER_KEY_SAME,
                what,
                seen,
                needed,
            ));
        }
        self.whole(&self.verify_audit()?)?;
        let part = file::beside(&self.path);
        let made = self.fill(&part, new, act).and_then(|(under, rekeyed)| {
            check(&under)?;
            drop(under);
            let named = file::supplant(&part, &self.path);
            named.map_err(|error| failed(&self.path, redb::Error::Io(error)))?;
            Ok(rekeyed)
        });
        if made.is_err() {
            // It may not be there at all; what went wrong is told anyway.
            let _ = fs::remove_file(&part);
        }
        // The file of before is locked until here: nobody changed anything in it.
        made
    }

    /// Another key would have what was altered pass for good.
    fn whole(&self, verdict: &Verdict) -> Result<(), Diagnosis> {
        let Some(fault) = verdict.faults.first() else {
            return Ok(());
        };
        let what = format!("store {} was altered", self.path.display());
        let needed = "an unbroken chain";
        Err(Diagnosis::from_table(
            CODES,
            AUDIT_BROKEN,
            what,
            fault,
            needed,
        ))
    }

    /// Make a file with everything in it under the new key, and check it.
    fn fill(
        &self,
        part: &Path,
        new: Arc<MasterKey>,
        act: &Act<'_>,
    ) -> Result<(Self, Rekeyed), Diagnosis> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(part);
        let file = file.map_err(|error| self.failed(redb::Error::Io(error)))?;
        let under = Self {
            database: RwLock::new(Some(database(file, &self.path)?)),
            path: self.path.clone(),
            master: new,
            lineage: self.lineage,
            ancestors: self.ancestors.clone(),
        };
        let secrets = self.carry_over(&under, act)?;
        let verdict = under.verify_audit()?;
        under.whole(&verdict)?;
        under.load()?;
        Ok((under, Rekeyed { secrets, verdict }))
    }

    /// Everything into the other store, in one transaction. How many secrets there are.
    fn carry_over(&self, under: &Self, act: &Act<'_>) -> Result<u64, Diagnosis> {
        let (read, write) = (self.read()?, under.begin()?);
        let mut resealing = Resealing {
            old: &self.master,
            new: &under.master,
            before: Rows::NONE,
            secrets: 0,
        };
        {
            let mut meta = write.open_table(META).map_err(|error| self.failed(error))?;
            let mut things = write
                .open_table(THINGS)
                .map_err(|error| self.failed(error))?;
            let mut gone = write.open_table(GONE).map_err(|error| self.failed(error))?;
            let lines = write
                .open_table(AUDIT)
                .map_err(|error| self.failed(error))?;
            let version = self.copy_meta(&read, &mut meta)?;
            let mut chain = self.relinked(&read, Chain::anew(under, lines))?;
            // A store that nothing was put into begins with a plan still.
            chain.go_on(if version == 0 { 0 } else { version + 1 });
            chain.line(act, (Noun::Settings, ""), (Value::Null, Value::Null))?;
            let hubs: Vec<_> = self.hubs_of(&read)?.into_iter().collect();
            (hubs.iter()).for_each(|hub| self.count_hub(&mut resealing.before, *hub));
            under.keep_hubs(&write, &mut chain, &hubs)?;
            self.copy_gone(&read, &mut gone, &mut resealing, &mut chain)?;
            self.reseal(&read, &mut things, &mut resealing, (act, &mut chain))?;
            self.as_sealed(&read, &resealing.before)?;
            let check = under.master.check();
            let inserted = meta.insert("check", &check[..]);
            inserted.map_err(|error| self.failed(error))?;
            under.keep_end(&mut meta, &chain)?;
        }
        write.commit().map_err(|error| self.failed(error))?;
        Ok(resealing.secrets)
    }

    /// What is not of the key, as it is; the version.
    fn copy_meta(
        &self,
        read: &ReadTransaction,
        to: &mut redb::Table<'_, &'static str, &'static [u8]>,
    ) -> Result<u64, Diagnosis> {
        let from = read.open_table(META).map_err(|error| self.failed(error))?;
        for entry in from.iter().map_err(|error| self.failed(error))? {
            let (key, value) = entry.map_err(|error| self.failed(error))?;
            if !OF_THE_KEY.contains(&key.value()) {
                let inserted = to.insert(key.value(), value.value());
                inserted.map_err(|error| self.failed(error))?;
            }
        }
        self.number(&from, "version")
    }

    /// Every line there is, word for word.
    fn relinked<'a, 'txn>(
        &self,
        read: &ReadTransaction,
        mut chain: Chain<'a, 'txn>,
    ) -> Result<Chain<'a, 'txn>, Diagnosis> {
        let lines = read.open_table(AUDIT).map_err(|error| self.failed(error))?;
        for entry in lines.iter().map_err(|error| self.failed(error))? {
            let (_, value) = entry.map_err(|error| self.failed(error))?;
            chain.follow(value.value().1)?;
        }
        Ok(chain)
    }

    fn copy_gone(
        &self,
        read: &ReadTransaction,
        to: &mut redb::Table<'_, (u8, u64), &'static str>,
        resealing: &mut Resealing<'_>,
        chain: &mut Chain<'_, '_>,
    ) -> Result<(), Diagnosis> {
        let from = read.open_table(GONE).map_err(|error| self.failed(error))?;
        for entry in from.iter().map_err(|error| self.failed(error))? {
            let (key, name) = entry.map_err(|error| self.failed(error))?;
            let ((noun, id), name) = (key.value(), name.value());
            let row = (rows::GONE + noun, name);
            resealing.before.add(resealing.old, row, id, &[]);
            chain.rows().add(resealing.new, row, id, &[]);
            let inserted = to.insert((noun, id), name);
            inserted.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Every thing, its secrets under the new key. What is told of a secret is of its sealed form, so that a line of each is due.
    fn reseal(
        &self,
        read: &ReadTransaction,
        to: &mut redb::Table<'_, (u8, &'static str), (u64, &'static [u8])>,
        resealing: &mut Resealing<'_>,
        (act, chain): (&Act<'_>, &mut Chain<'_, '_>),
    ) -> Result<(), Diagnosis> {
        let from = read
            .open_table(THINGS)
            .map_err(|error| self.failed(error))?;
        for entry in from.iter().map_err(|error| self.failed(error))? {
            let (key, value) = entry.map_err(|error| self.failed(error))?;
            let (key, (version, json)) = (key.value(), value.value());
            resealing.before.add(resealing.old, key, version, json);
            let Some((before, after)) = self.resealed(key, json, resealing)? else {
                chain.rows().add(resealing.new, key, version, json);
                let inserted = to.insert(key, (version, json));
                inserted.map_err(|error| self.failed(error))?;
                continue;
            };
            let (version, json) = (chain.version(), after.to_json());
            chain.rows().add(resealing.new, key, version, &json);
            let inserted = to.insert(key, (version, &json[..]));
            inserted.map_err(|error| self.failed(error))?;
            let change = Change {
                noun: after.noun(),
                name: after.name().to_owned(),
                expected: None,
                after: Some(after),
            };
            chain.add(act, &change, Some(&before))?;
        }
        Ok(())
    }

    /// The thing as it is and under the new key, if it has a secret.
    fn resealed(
        &self,
        (noun, name): (u8, &str),
        json: &[u8],
        resealing: &mut Resealing<'_>,
    ) -> Result<Option<(Thing, Thing)>, Diagnosis> {
        if noun != Noun::Endpoint as u8 {
            return Ok(None);
        }
        let no_thing = || damaged(&self.path, format!("endpoint `{name}`"));
        let before = Thing::from_json(Noun::Endpoint, json).map_err(|_| no_thing())?;
        let Thing::Endpoint(mut endpoint) = before.clone() else {
            return Err(no_thing());
        };
        let secrets = resealing.secrets;
        for key in &mut endpoint.keys {
            let id = key.id;
            if let Some(sealed) = &mut key.sealed {
                *sealed = resealing.sealed(name, id, sealed)?;
            }
        }
        let any = resealing.secrets > secrets;
        Ok(any.then_some((before, Thing::Endpoint(endpoint))))
    }

    /// Whether what was carried over is what was sealed with the last change.
    fn as_sealed(&self, read: &ReadTransaction, found: &Rows) -> Result<(), Diagnosis> {
        let meta = read.open_table(META).map_err(|error| self.failed(error))?;
        if found.sum() == &self.link(&meta, "rows")? {
            return Ok(());
        }
        Err(self.altered())
    }
}

/// From one key to the other.
struct Resealing<'a> {
    old: &'a MasterKey,
    new: &'a MasterKey,
    /// What everything counts as under the old key.
    before: Rows,
    secrets: u64,
}

impl Resealing<'_> {
    fn sealed(&mut self, endpoint: &str, key: i64, sealed: &str) -> Result<String, Diagnosis> {
        let opened = self.old.open(endpoint, key, sealed).map_err(|seen| {
            let what = format!("the secret of key {key} of {endpoint} does not open");
            let needed = "a secret that the store sealed";
            Diagnosis::from_table(CODES, SEALED, what, seen, needed)
        })?;
        self.secrets += 1;
        Ok(self.new.seal(endpoint, key, &opened))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, Key, Secret};
    use crate::store::failing;

    const ACT: Act<'static> = Act {
        actor: "test",
        at_seconds: 0,
        action: "store rekey",
    };

    fn pump() -> Thing {
        Thing::Endpoint(Box::new(Endpoint {
            name: "a/e/pump".to_owned(),
            keys: vec![Key {
                id: 1,
                secret: Some(Secret::new("canary")),
                ..Key::default()
            }],
            ..Endpoint::default()
        }))
    }

    #[test]
    fn a_disk_that_fails_at_any_write_leaves_a_store_that_opens_with_one_of_the_keys() {
        let keys = [7, 8].map(|byte| Arc::new(MasterKey::new(&[byte; 32])));
        let (mut old, mut whole) = (0, 0);
        for behind in 0.. {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("store");
            let store = Store::open(&path, Arc::clone(&keys[0])).expect("made");
            let change = Change {
                noun: Noun::Endpoint,
                name: "a/e/pump".to_owned(),
                expected: None,
                after: Some(pump()),
            };
            store.commit(&ACT, &mut [change]).expect("committed");
            failing::fail(behind, 1);
            let done = store.rekey(Arc::clone(&keys[1]), &ACT, |_| Ok(()));
            // What fails when the file is closed costs no more than a repair at the next opening.
            let any = failing::heal();
            let failed = any && done.is_err();
            assert_eq!(done.is_err(), failed, "{behind}: {done:?}");
            let opens = |key: &Arc<MasterKey>| Store::open(&path, Arc::clone(key)).is_ok();
            let opened = keys.each_ref().map(opens);
            assert_eq!(opened, [failed, !failed], "{behind}");
            let key = Arc::clone(&keys[usize::from(!failed)]);
            let store = Store::open(&path, key).expect("it was open before");
            assert_eq!(store.verify_audit().expect("readable").faults, [""; 0]);
            let catalog = store.load().expect("readable");
            let pump = catalog.endpoints()[0].clone();
            let sealed = pump.keys[0].sealed.as_deref().expect("it has a secret");
            let opened = store.master().open("a/e/pump", 1, sealed);
            assert_eq!(opened, Ok(Secret::new("canary")), "{behind}");
            let names = fs::read_dir(folder.path()).expect("readable");
            assert_eq!(names.count(), 1, "{behind}: nothing half-made is left");
            (old, whole) = (old + u32::from(failed), whole + u32::from(!failed));
            if !any {
                break;
            }
        }
        assert!(old > 9 && whole > 0, "{old} failed, {whole} did not");
    }
}
