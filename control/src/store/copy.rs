//! Backup and restore: a copy of the whole store at one moment, which is a store itself.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Key, ReadableTable, TableDefinition, Value};
use wire::diagnosis::Diagnosis;

use super::audit::Verdict;
use super::fault::failed;
use super::{AUDIT, GONE, HUBS, META, Store, THINGS, file};
use crate::diagnosis::{AUDIT_BROKEN, BACKUP_EXISTS, CODES, STORE_FAILED};
use crate::seal::MasterKey;

impl Store {
    /// Copy everything as it is now to a new file, readable by its owner only. Others may go on changing things meanwhile.
    ///
    /// # Errors
    /// When the file is there already or cannot be written; nothing of that name is left behind then.
    pub fn backup(&self, to: &Path) -> Result<(), Diagnosis> {
        let part = file::beside(to);
        let made = self.copy_to(&part).and_then(|()| settle(&part, to));
        if made.is_err() {
            // It may not be there at all; what went wrong is told anyway.
            let _ = fs::remove_file(&part);
        }
        made
    }

    /// The bytes of a backup as it is now.
    ///
    /// # Errors
    /// When there is no room for it beside the store.
    pub fn copy(&self) -> Result<Vec<u8>, Diagnosis> {
        let random: String = crate::seal::hex(&crate::keys::random()[..8]);
        let beside = self.path().with_extension(format!("{random}.copy"));
        let copied = self.copy_to(&beside);
        let read = copied.and_then(|()| {
            fs::read(&beside).map_err(|error| failed(&beside, redb::Error::Io(error)))
        });
        // It may not be there at all; what went wrong is told anyway.
        let _ = fs::remove_file(&beside);
        read
    }

    fn copy_to(&self, to: &Path) -> Result<(), Diagnosis> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(to).map_err(|error| unwritten(to, &error))?;
        let copy = FileBackend::new(file)
            .and_then(|file| redb::Builder::new().create_with_backend(file))
            .map_err(|error| failed(to, error))?;
        let read = self.read()?;
        let write = copy.begin_write().map_err(|error| failed(to, error))?;
        copy_table(&read, &write, META).map_err(|error| failed(to, error))?;
        copy_table(&read, &write, THINGS).map_err(|error| failed(to, error))?;
        copy_table(&read, &write, AUDIT).map_err(|error| failed(to, error))?;
        copy_table(&read, &write, GONE).map_err(|error| failed(to, error))?;
        copy_table(&read, &write, HUBS).map_err(|error| failed(to, error))?;
        write.commit().map_err(|error| failed(to, error))
    }
}

/// Make a store at `to` from a backup, after checking all of it. The backup is only read.
///
/// # Errors
/// When there is a store already, or the backup is empty, damaged, altered or of another master key; nothing of that name is left
/// behind then.
pub fn restore(backup: &Path, to: &Path, master: Arc<MasterKey>) -> Result<Verdict, Diagnosis> {
    let part = file::beside(to);
    let made = take(backup, &part, to)
        .and_then(|file| check(file, backup, master))
        .and_then(|verdict| settle(&part, to).map(|()| verdict));
    if made.is_err() {
        // It may not be there at all; what went wrong is told anyway.
        let _ = fs::remove_file(&part);
    }
    made
}

/// Copy what the backup holds to a new file beside the store that it becomes.
fn take(backup: &Path, part: &Path, to: &Path) -> Result<File, Diagnosis> {
    let unread = |error: std::io::Error| no_backup(backup, &error.to_string());
    let mut from = File::open(backup).map_err(unread)?;
    let about = from.metadata().map_err(unread)?;
    if !about.is_file() {
        return Err(no_backup(backup, "no file"));
    }
    // Of an empty file an empty store would be made.
    if about.len() == 0 {
        return Err(no_backup(backup, "an empty file"));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let copied = options.open(part).and_then(|mut file| {
        std::io::copy(&mut from, &mut file)?;
        Ok(file)
    });
    copied.map_err(|error| unwritten(to, &error))
}

/// Check everything in a copy of this backup.
fn check(copy: File, backup: &Path, master: Arc<MasterKey>) -> Result<Verdict, Diagnosis> {
    let mut store = Store::of(copy, backup, master)?;
    let verdict = store.verify_audit()?;
    if let Some(fault) = verdict.faults.first() {
        return Err(Diagnosis::from_table(
            CODES,
            AUDIT_BROKEN,
            format!("backup {} was altered", backup.display()),
            fault,
            "an unbroken chain",
        ));
    }
    if verdict.version == 0 {
        return Err(no_backup(backup, "a store that nothing was put into"));
    }
    store.begin_lineage()?;
    Ok(verdict)
}

fn no_backup(backup: &Path, seen: &str) -> Diagnosis {
    let what = format!("backup {} cannot be restored", backup.display());
    let needed = "a file that `forebay backup` made";
    let remedy = "give another backup; this one is no copy of a store";
    Diagnosis::new(STORE_FAILED, what, seen, needed, remedy)
}

/// Give a finished copy its name, if nothing has it.
fn settle(part: &Path, to: &Path) -> Result<(), Diagnosis> {
    file::settle(part, to).map_err(|error| unwritten(to, &error))
}

fn unwritten(to: &Path, error: &std::io::Error) -> Diagnosis {
    let what = format!("{} cannot be written", to.display());
    let needed = "a name that is free, in a folder that can be written";
    Diagnosis::from_table(CODES, BACKUP_EXISTS, what, error.to_string(), needed)
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    read: &redb::ReadTransaction,
    write: &redb::WriteTransaction,
    table: TableDefinition<'static, K, V>,
) -> Result<(), redb::Error> {
    let from = read.open_table(table)?;
    let mut to = write.open_table(table)?;
    for entry in from.iter()? {
        let (key, value) = entry?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}
