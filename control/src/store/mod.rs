//! What is defined, on disk: one redb file, one transaction for each change, and every change in an audit log that is written
//! in the same transaction.
//!
//! | table    | key                | value                                                             |
//! |----------|--------------------|-------------------------------------------------------------------|
//! | `meta`   | a word             | format, check value of the master key, lineage, ancestors; version, head of the chain, sum of all rows, their seal |
//! | `things` | kind, full name    | version that changed it last, JSON with sealed secrets            |
//! | `hubs`   | id of a hub        | its partitions, of every hub there ever was                      |
//! | `audit`  | number of the line | link of the chain, JSON ([`audit`])                               |
//! | `gone`   | kind, id           | full name of what had that id and is no more                      |
//!
//! The version counts changes that took place, from 1; a restored store begins another lineage, as it counts what came after its backup
//! otherwise than the one before. A crash at any moment leaves a version whole or not there at all. Knows
//! nothing of what the things mean: whoever commits has compiled them before.

pub mod audit;
mod copy;
#[cfg(test)]
pub(crate) mod failing;
mod fault;
pub mod file;
mod hubs;
mod lineage;
pub mod master;
mod rekey;
mod rows;
mod things;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, WriteTransaction,
};
use wire::diagnosis::Diagnosis;

use crate::diagnosis::{
    AUDIT_BROKEN, CHANGED_MEANWHILE, CODES, MASTER_KEY_WRONG, STORE_FAILED, STORE_FORMAT,
    STORE_IN_USE, STORE_LOST,
};
use crate::model::{Endpoint, Model, Node, Noun, Thing};
use crate::seal::MasterKey;
pub use copy::restore;
use fault::{damaged, failed};
pub use rekey::Rekeyed;
use rows::Rows;
pub use things::{Key, Things};

type Meta = TableDefinition<'static, &'static str, &'static [u8]>;
type Values = TableDefinition<'static, (u8, &'static str), (u64, &'static [u8])>;
type Gone = TableDefinition<'static, (u8, u64), &'static str>;
type Hubs = TableDefinition<'static, u16, u16>;
type Lines = TableDefinition<'static, u64, ([u8; 32], &'static [u8])>;

const META: Meta = TableDefinition::new("meta");
/// What had an id and has it no more: an id leads to what is stored under it, which is nobody else's.
const GONE: Gone = TableDefinition::new("gone");
const THINGS: Values = TableDefinition::new("things");
const AUDIT: Lines = TableDefinition::new("audit");
const HUBS: Hubs = TableDefinition::new("hubs");

/// The form of the file.
const FORMAT: u64 = 4;

/// A thing and the version that changed it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The version.
    pub version: u64,
    /// The thing.
    pub thing: Arc<Thing>,
}

/// Everything that is defined at one version. A copy shares with it what neither changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// The version.
    pub version: u64,
    /// The things.
    pub things: Things,
}

impl Catalog {
    /// The model that the things are, without the tokens.
    #[must_use]
    pub fn model(&self) -> Model {
        let mut model = Model::default();
        let things = self.things.values();
        things.for_each(|stored| model.push((*stored.thing).clone()));
        model
    }

    /// The same without endpoints.
    #[must_use]
    pub fn head(&self) -> Model {
        let mut model = Model::default();
        let head = self.things.iter();
        let head = head.take_while(|((noun, _), _)| *noun < Noun::Endpoint);
        head.for_each(|(_, stored)| model.push((*stored.thing).clone()));
        model.nodes.extend(self.nodes().cloned());
        model
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        let from = self.things.from(Noun::Node, "");
        from.map_while(|(_, stored)| match &*stored.thing {
            Thing::Node(node) => Some(node),
            _ => None,
        })
    }

    /// The endpoints, by name.
    #[must_use]
    pub fn endpoints(&self) -> Vec<&Endpoint> {
        let mut endpoints = Vec::new();
        for (_, stored) in self.things.from(Noun::Endpoint, "") {
            match &*stored.thing {
                Thing::Endpoint(endpoint) => endpoints.push(&**endpoint),
                _ => break,
            }
        }
        endpoints
    }

    /// The endpoints in this account or environment, by name.
    pub fn endpoints_within<'a>(
        &'a self,
        owner: &str,
    ) -> impl Iterator<Item = &'a Endpoint> + use<'a> {
        let prefix = format!("{owner}/");
        let from = self.things.from(Noun::Endpoint, &prefix);
        from.map_while(move |((_, name), stored)| match &*stored.thing {
            Thing::Endpoint(endpoint) if name.starts_with(&prefix) => Some(&**endpoint),
            _ => None,
        })
    }

    /// The thing of this kind and name.
    #[must_use]
    pub fn get(&self, noun: Noun, name: &str) -> Option<&Stored> {
        self.things.get(noun, name)
    }

    /// As it is after these changes, which gave this version.
    #[must_use]
    pub fn after(mut self, changes: &[Change], version: u64) -> Self {
        for change in changes {
            match &change.after {
                Some(thing) => {
                    let thing = Arc::new(thing.clone());
                    let key = (change.noun, change.name.clone());
                    self.things.insert(key, Stored { version, thing });
                }
                None => self.things.remove(change.noun, &change.name),
            }
        }
        self.version = version;
        self
    }
}

/// One change to one thing.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its kind.
    pub noun: Noun,
    /// Its full name.
    pub name: String,
    /// The version that must have changed it last, 0 when it must not be there; `None` when it does not matter.
    pub expected: Option<u64>,
    /// What it is from now on; `None` deletes it.
    pub after: Option<Thing>,
}

/// What had an id and has it no more: its kind, the id, its full name.
pub type WasThere = (Noun, u64, String);

/// Who changes something, when and how.
#[derive(Debug, Clone)]
pub struct Act<'a> {
    /// Name of the token, or of the command.
    pub actor: &'a str,
    /// Seconds since 1970.
    pub at_seconds: u64,
    /// What was asked for.
    pub action: &'a str,
}

/// An open store. One process has it at a time.
pub struct Store {
    /// Nothing between a write that failed and the next try to open the file.
    database: RwLock<Option<Database>>,
    path: PathBuf,
    master: Arc<MasterKey>,
    lineage: [u8; 16],
    ancestors: Vec<[u8; 16]>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Store").field(&self.path).finish()
    }
}

impl Store {
    /// Open the store in this file, or make an empty one where there is no file.
    ///
    /// # Errors
    /// When the file is empty, in use, damaged, of another form, or sealed under another master key.
    pub fn open(path: &Path, master: Arc<MasterKey>) -> Result<Self, Diagnosis> {
        let unusable = |error: io::Error| failed(path, redb::Error::Io(error));
        match fs::metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::make(path, Arc::clone(&master))?;
            }
            Err(error) => return Err(unusable(error)),
        }
        let (file, place) = existing(path)?;
        let store = Self::of(file, path, master)?;
        in_place(path, place)?;
        // Nobody else has the file, so what lies beside it is of nobody who lives.
        file::remove_parts_of(path);
        file::sync_folder_of(path).map_err(unusable)?;
        Ok(store)
    }

    /// Make an empty store: whole, or not at all.
    fn make(path: &Path, master: Arc<MasterKey>) -> Result<(), Diagnosis> {
        let part = file::beside(path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        // Only its owner may read it, though every secret in it is sealed.
        let file = options.mode(0o600).open(&part);
        let unusable = |error: io::Error| failed(path, redb::Error::Io(error));
        let made = file.map_err(unusable).and_then(|file| {
            drop(Self::of(file, path, master)?);
            fs::hard_link(&part, path).map_err(unusable)
        });
        // It may not be there at all; what went wrong is told anyway.
        let _ = fs::remove_file(&part);
        made
    }

    /// The store in this open file, which is told of by this path; an empty file becomes an empty store.
    fn of(file: File, path: &Path, master: Arc<MasterKey>) -> Result<Self, Diagnosis> {
        let mut store = Self {
            database: RwLock::new(Some(database(file, path)?)),
            path: path.to_owned(),
            master,
            lineage: [0; 16],
            ancestors: Vec::new(),
        };
        (store.lineage, store.ancestors) = store.settle()?;
        Ok(store)
    }

    /// Open the file again, after something failed that was asked of it: until then nothing more is written to it.
    ///
    /// # Errors
    /// When it still cannot be used; it may be tried again.
    pub fn reopen(&self) -> Result<(), Diagnosis> {
        let opened = {
            let mut open = self
                .database
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            // One has the file at a time: first out, then in.
            *open = None;
            let opened = existing(&self.path).and_then(|(file, place)| {
                let database = database(file, &self.path)?;
                in_place(&self.path, place).map(|()| database)
            });
            opened.map(|database| *open = Some(database))
        };
        let settled = opened.and_then(|()| self.settle()).and_then(|found| {
            let same = found.0 == self.lineage;
            same.then_some(())
                .ok_or_else(|| lost(&self.path, "another store in its place"))
        });
        if settled.is_err() {
            *self
                .database
                .write()
                .unwrap_or_else(PoisonError::into_inner) = None;
        }
        settled
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, Diagnosis>,
    ) -> Result<T, Diagnosis> {
        let open = self.database.read().unwrap_or_else(PoisonError::into_inner);
        match &*open {
            Some(database) => work(database),
            None => {
                let what = format!("store {} cannot be used", self.path.display());
                let seen = "a file that failed, and could not be opened again";
                let needed = "a file that can be read and written";
                Err(Diagnosis::from_table(
                    CODES,
                    STORE_FAILED,
                    what,
                    seen,
                    needed,
                ))
            }
        }
    }

    /// Write the meta data of a new file, or check those of an old one; its lineage and those it comes from.
    fn settle(&self) -> Result<([u8; 16], Vec<[u8; 16]>), Diagnosis> {
        let write = self.begin()?;
        let lineage = lineage::new();
        {
            let mut meta = write.open_table(META).map_err(|error| self.failed(error))?;
            let things = write.open_table(THINGS);
            let things = things.map_err(|error| self.failed(error))?;
            let lines = write.open_table(AUDIT);
            let lines = lines.map_err(|error| self.failed(error))?;
            let (gone, hubs) = (write.open_table(GONE), write.open_table(HUBS));
            gone.map_err(|error| self.failed(error))?;
            hubs.map_err(|error| self.failed(error))?;
            let empty = meta.is_empty().and_then(|meta| {
                let (things, lines) = (things.is_empty()?, lines.is_empty()?);
                Ok(meta && things && lines)
            });
            // A file that has anything in it is not new, whatever was taken out of it.
            if !empty.map_err(|error| self.failed(error))? {
                self.recognise(&meta)?;
                self.end(&meta, &lines)?;
                if let Some(lineage) = self.read_lineage(&meta)? {
                    return Ok((lineage, self.read_ancestors(&meta)?));
                }
            } else {
                self.write_form(&mut meta)?;
            }
            self.write_lineage(&mut meta, lineage)?;
        }
        write.commit().map_err(|error| self.failed(error))?;
        Ok((lineage, Vec::new()))
    }

    /// Write what a new file is recognised by, and that nothing has happened to it.
    fn write_form(
        &self,
        meta: &mut redb::Table<'_, &'static str, &'static [u8]>,
    ) -> Result<(), Diagnosis> {
        let form = [
            ("format", FORMAT.to_le_bytes().to_vec()),
            ("check", self.master.check().to_vec()),
        ];
        let kept = form.into_iter().chain(audit::End::NONE.kept(&self.master));
        for (key, value) in kept {
            let inserted = meta.insert(key, &value[..]);
            inserted.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Whether the file is of this form and under this master key.
    fn recognise(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<(), Diagnosis> {
        let read = |key| -> Result<Vec<u8>, Diagnosis> {
            let value = meta.get(key).map_err(|error| self.failed(error))?;
            let value = value.map(|value| value.value().to_vec());
            value.ok_or_else(|| damaged(&self.path, format!("no `{key}` in its meta data")))
        };
        let format = read("format")?;
        if format != FORMAT.to_le_bytes() {
            return Err(Diagnosis::from_table(
                CODES,
                STORE_FORMAT,
                format!("store {} has another form", self.path.display()),
                format!("{format:?}"),
                format!("form {FORMAT}"),
            ));
        }
        if read("check")? != self.master.check() {
            return Err(Diagnosis::from_table(
                CODES,
                MASTER_KEY_WRONG,
                format!("store {} does not open", self.path.display()),
                "another master key",
                "the one it was made with",
            ));
        }
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What seals its secrets.
    #[must_use]
    pub fn master(&self) -> &Arc<MasterKey> {
        &self.master
    }

    /// Everything that is defined.
    ///
    /// # Errors
    /// When the file cannot be read, or holds what nobody wrote there: then whoever could write it could be anybody.
    pub fn load(&self) -> Result<Catalog, Diagnosis> {
        let read = self.read()?;
        let meta = read.open_table(META).map_err(|error| self.failed(error))?;
        let version = self.number(&meta, "version")?;
        let mut rows = self.rows_gone(&read)?;
        self.count_hubs(&read, &mut rows)?;
        let table = read
            .open_table(THINGS)
            .map_err(|error| self.failed(error))?;
        let mut things = Things::default();
        for entry in table.iter().map_err(|error| self.failed(error))? {
            let (key, value) = entry.map_err(|error| self.failed(error))?;
            let ((noun, name), (version, json)) = (key.value(), value.value());
            rows.add(&self.master, (noun, name), version, json);
            let no_thing = || damaged(&self.path, format!("`{name}` of kind {noun}"));
            let noun = Noun::from_u8(noun).ok_or_else(no_thing)?;
            let mut thing = Thing::from_json(noun, json).map_err(|_| no_thing())?;
            // That nobody else wrote it shows by the sum of all rows.
            thing.trust();
            let thing = Arc::new(thing);
            things.insert((noun, name.to_owned()), Stored { version, thing });
        }
        if rows.sum() != &self.link(&meta, "rows")? {
            return Err(self.altered());
        }
        Ok(Catalog { version, things })
    }

    /// Somebody wrote to the file who has not the master key.
    fn altered(&self) -> Diagnosis {
        Diagnosis::from_table(
            CODES,
            AUDIT_BROKEN,
            format!("store {} holds what nobody defined", self.path.display()),
            "things that are not those of the last change",
            "the things that were sealed with it",
        )
    }

    /// What had this id, and is no more.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn gone(&self, noun: Noun, id: u64) -> Result<Option<String>, Diagnosis> {
        let read = self.read()?;
        let gone = read.open_table(GONE).map_err(|error| self.failed(error))?;
        let name = gone.get((noun as u8, id));
        let name = name.map_err(|error| self.failed(error))?;
        Ok(name.map(|name| name.value().to_owned()))
    }

    /// What those count as that are no more.
    fn rows_gone(&self, read: &redb::ReadTransaction) -> Result<Rows, Diagnosis> {
        let mut rows = Rows::NONE;
        let gone = read.open_table(GONE).map_err(|error| self.failed(error))?;
        for entry in gone.iter().map_err(|error| self.failed(error))? {
            let (key, name) = entry.map_err(|error| self.failed(error))?;
            let (noun, id) = key.value();
            rows.add(&self.master, (rows::GONE + noun, name.value()), id, &[]);
        }
        Ok(rows)
    }

    /// Make these changes, all of them or none, and note them in the audit log. Secrets are sealed here if they are not yet.
    /// Returns the version they give, or the one there is when there are no changes.
    ///
    /// # Errors
    /// When a thing was changed meanwhile, or the disk does not take it.
    pub fn commit(&self, act: &Act<'_>, changes: &mut [Change]) -> Result<u64, Diagnosis> {
        self.commit_with(act, changes, (&[], &[]))
    }

    /// The same, with what has an id no more, and the hubs that are new, with their partitions.
    ///
    /// # Errors
    /// As said.
    pub fn commit_with(
        &self,
        act: &Act<'_>,
        changes: &mut [Change],
        (gone, hubs): (&[WasThere], &[(u16, u16)]),
    ) -> Result<u64, Diagnosis> {
        let write = self.begin()?;
        let version = {
            let mut meta = write.open_table(META).map_err(|error| self.failed(error))?;
            let mut things = write
                .open_table(THINGS)
                .map_err(|error| self.failed(error))?;
            let lines = write
                .open_table(AUDIT)
                .map_err(|error| self.failed(error))?;
            if changes.is_empty() {
                return self.number(&meta, "version");
            }
            let (mut chain, version) = audit::Chain::continued(self, &meta, lines)?;
            self.keep_gone(&write, &mut chain, gone)?;
            self.keep_hubs(&write, &mut chain, hubs)?;
            for change in changes {
                let key = (change.noun as u8, change.name.as_str());
                if let Some(thing) = &mut change.after {
                    thing.seal(&self.master);
                }
                let old = things.get(key).map_err(|error| self.failed(error))?;
                let old = old.map(|old| (old.value().0, old.value().1.to_vec()));
                check_expected(change, old.as_ref().map_or(0, |old| old.0))?;
                if let Some((version, json)) = &old {
                    chain.rows().remove(&self.master, key, *version, json);
                }
                let old = old
                    .map(|(_, json)| Thing::from_json(change.noun, &json))
                    .transpose()
                    .map_err(|_| damaged(&self.path, format!("`{}`", change.name)))?;
                match &change.after {
                    Some(thing) => {
                        let json = thing.to_json();
                        chain.rows().add(&self.master, key, version, &json);
                        things.insert(key, (version, &json[..]))
                    }
                    .map(drop),
                    None => things.remove(key).map(drop),
                }
                .map_err(|error| self.failed(error))?;
                chain.add(act, change, old.as_ref())?;
            }
            self.keep_end(&mut meta, &chain)?;
            version
        };
        write.commit().map_err(|error| self.failed(error))?;
        Ok(version)
    }

    /// Remember whose these ids were.
    fn keep_gone(
        &self,
        write: &WriteTransaction,
        chain: &mut audit::Chain<'_, '_>,
        gone: &[WasThere],
    ) -> Result<(), Diagnosis> {
        let mut table = write.open_table(GONE).map_err(|error| self.failed(error))?;
        for (noun, id, name) in gone {
            let kind = rows::GONE + *noun as u8;
            let before = table.insert((*noun as u8, *id), name.as_str());
            if let Some(before) = before.map_err(|error| self.failed(error))? {
                (chain.rows()).remove(&self.master, (kind, before.value()), *id, &[]);
            }
            chain.rows().add(&self.master, (kind, name), *id, &[]);
        }
        Ok(())
    }

    /// Note in the audit log what changes nothing: somebody takes a copy of what is in here.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn note(&self, act: &Act<'_>, noun: Noun, name: &str) -> Result<(), Diagnosis> {
        let write = self.begin()?;
        {
            let mut meta = write.open_table(META).map_err(|error| self.failed(error))?;
            let lines = write.open_table(AUDIT);
            let lines = lines.map_err(|error| self.failed(error))?;
            let mut chain = audit::Chain::as_it_is(self, &meta, lines)?;
            let nothing = (serde_json::Value::Null, serde_json::Value::Null);
            chain.line(act, (noun, name), nothing)?;
            self.keep_end(&mut meta, &chain)?;
        }
        write.commit().map_err(|error| self.failed(error))
    }

    /// Write down where the chain ends now.
    fn keep_end(
        &self,
        meta: &mut redb::Table<'_, &'static str, &'static [u8]>,
        chain: &audit::Chain<'_, '_>,
    ) -> Result<(), Diagnosis> {
        for (key, value) in chain.end().kept(&self.master) {
            let inserted = meta.insert(key, &value[..]);
            inserted.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    fn read(&self) -> Result<ReadTransaction, Diagnosis> {
        self.with(|database| {
            let begun = database.begin_read();
            begun.map_err(|error| self.failed(error))
        })
    }

    fn begin(&self) -> Result<WriteTransaction, Diagnosis> {
        let mut write = self.with(|database| {
            let begun = database.begin_write();
            begun.map_err(|error| self.failed(error))
        })?;
        (write.set_durability(Durability::Immediate)).map_err(|error| self.failed(error))?;
        // What operators write is in the pages: a torn one must not pass for whole by chance or design.
        write.set_two_phase_commit(true);
        Ok(write)
    }

    /// A number of the meta data, 0 before it was written.
    fn number(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
        key: &str,
    ) -> Result<u64, Diagnosis> {
        let value = meta.get(key).map_err(|error| self.failed(error))?;
        let Some(value) = value else { return Ok(0) };
        let bytes = value.value().try_into();
        bytes
            .map(u64::from_le_bytes)
            .map_err(|_| damaged(&self.path, format!("meta `{key}`")))
    }

    fn failed(&self, error: impl Into<redb::Error>) -> Diagnosis {
        failed(&self.path, error)
    }
}

/// Which file it is: its device, and its number there.
type Place = (u64, u64);

/// The file of a store, which is there and not empty.
fn existing(path: &Path) -> Result<(File, Place), Diagnosis> {
    let unusable = |error: io::Error| failed(path, redb::Error::Io(error));
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).open(path);
    let file = file.map_err(unusable)?;
    let about = file.metadata().map_err(unusable)?;
    match about.len() {
        0 => Err(lost(path, "an empty file")),
        _ => Ok((file, (about.dev(), about.ino()))),
    }
}

/// Whether a file that is locked now has its name still: another one may have been put in its place before.
fn in_place(path: &Path, place: Place) -> Result<(), Diagnosis> {
    let unusable = |error: io::Error| failed(path, redb::Error::Io(error));
    let about = fs::metadata(path).map_err(unusable)?;
    if (about.dev(), about.ino()) == place {
        return Ok(());
    }
    let what = format!("store {} was replaced while it was opened", path.display());
    let (seen, needed) = ("another file of that name", "the one that was there");
    let remedy = "open it again";
    Err(Diagnosis::new(STORE_IN_USE, what, seen, needed, remedy))
}

/// A store of which nothing is left where it should be.
#[must_use]
pub fn lost(path: &Path, seen: &str) -> Diagnosis {
    let what = format!("store {} is lost", path.display());
    let needed = "the store that was there before";
    Diagnosis::from_table(CODES, STORE_LOST, what, seen, needed)
}

/// The database in this open file.
fn database(file: File, path: &Path) -> Result<Database, Diagnosis> {
    let opened = FileBackend::new(file).and_then(|file| {
        #[cfg(test)]
        let file = failing::Failing(file);
        let mut builder = redb::Builder::new();
        builder.set_check_integrity_on_open(true);
        builder.create_with_backend(file)
    });
    opened.map_err(|error| failed(path, error))
}

/// Whether the thing is as whoever changes it saw it.
fn check_expected(change: &Change, found: u64) -> Result<(), Diagnosis> {
    match change.expected {
        Some(expected) if expected != found => {
            let show = |version| match version {
                0 => "nothing of that name".to_owned(),
                version => format!("version {version}"),
            };
            Err(Diagnosis::from_table(
                CODES,
                CHANGED_MEANWHILE,
                format!("{} `{}` was changed meanwhile", change.noun, change.name),
                show(found),
                show(expected),
            ))
        }
        _ => Ok(()),
    }
}
