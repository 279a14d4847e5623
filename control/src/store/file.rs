//! Small files and names that are there whole after a crash or a loss of power, or not at all: written beside their place and
//! synced, then given their name, then the folder is synced that holds the name.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Write a file that only its owner may read, in the place of one that may be there.
///
/// # Errors
/// When the folder or the disk does not take it; what was there is there still.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    place(path, bytes, |part| fs::rename(part, path))
}

/// Write a file that only its owner may read, where there is none.
///
/// # Errors
/// When there is one, or the folder or the disk does not take it.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    place(path, bytes, |part| {
        fs::hard_link(part, path).and_then(|()| fs::remove_file(part))
    })
}

/// Make a folder that only its owner may enter, and those that it is in, if they are not there.
///
/// # Errors
/// When the folder or the disk does not take it.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    if folder != path && !folder.is_dir() {
        make_folder(folder)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_folder_of(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Give a finished file its name, if nothing has it.
pub(super) fn settle(part: &Path, path: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    fs::hard_link(part, path)?;
    fs::remove_file(part)?;
    sync_folder_of(path)
}

/// Give a finished file the name of another, which is there no more then.
pub(super) fn supplant(part: &Path, path: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    fs::rename(part, path)?;
    sync_folder_of(path)
}

/// A name beside this one that nothing else has.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(
        ".{}.part",
        crate::seal::hex(&crate::keys::random()[..8])
    ));
    name.into()
}

/// Remove what crashes left of copies that were made beside this file: each holds all of it, or some.
pub(super) fn remove_parts_of(path: &Path) {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return;
    };
    let left = |entry: &fs::DirEntry| {
        let entry = entry.file_name();
        let rest = entry.to_str().and_then(|entry| entry.strip_prefix(name));
        let random = rest.and_then(|rest| rest.strip_prefix('.'));
        let random = random.and_then(|rest| rest.split_once('.'));
        random.is_some_and(|(random, kind)| {
            let ours = random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit());
            ours && ["copy", "part"].contains(&kind)
        })
    };
    let entries = fs::read_dir(folder_of(path)).into_iter().flatten();
    for entry in entries.flatten().filter(left) {
        // One that stays costs room and nothing else.
        let _ = fs::remove_file(entry.path());
    }
}

/// Let the name of this file outlast a loss of power.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    #[cfg(test)]
    tests::SYNCED.with_borrow_mut(|synced| synced.push(path.to_owned()));
    File::open(folder)?.sync_all()
}

fn place(path: &Path, bytes: &[u8], name: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let part = beside(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&part)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let named = written.and_then(|()| name(&part));
    if named.is_err() {
        // It may have its name already; what went wrong is told anyway.
        let _ = fs::remove_file(&part);
    }
    named.and_then(|()| sync_folder_of(path))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use super::*;
    use crate::seal::MasterKey;
    use crate::store::{Act, Change, Store, master, restore};

    thread_local! {
        /// Whose names were made to last, in this order.
        pub(super) static SYNCED: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
    }

    fn synced() -> Vec<PathBuf> {
        SYNCED.with_borrow_mut(std::mem::take)
    }

    #[test]
    fn whatever_is_made_has_a_name_that_outlasts_a_loss_of_power() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join("new/control").join(name);
        make_folder(&folder.path().join("new/control")).expect("made");
        assert_eq!(
            synced(),
            [folder.path().join("new"), folder.path().join("new/control")]
        );
        master::find(&at("master.key"), |_| None, true).expect("made");
        assert_eq!(synced(), [at("master.key")]);
        let key = Arc::new(MasterKey::new(&[7; 32]));
        let store = Store::open(&at("store"), Arc::clone(&key)).expect("made");
        assert_eq!(synced(), [at("store")]);
        let settings = crate::model::Thing::Settings(crate::model::Settings::default());
        let act = Act {
            actor: "test",
            at_seconds: 0,
            action: "set",
        };
        let change = Change {
            noun: settings.noun(),
            name: String::new(),
            expected: None,
            after: Some(settings),
        };
        store.commit(&act, &mut [change]).expect("committed");
        store.backup(&at("backup")).expect("copied");
        assert_eq!(synced(), [at("backup")]);
        restore(&at("backup"), &at("again"), key).expect("restored");
        assert_eq!(synced().last(), Some(&at("again")));
        replace(&at("token"), b"text").expect("written");
        assert_eq!(synced(), [at("token")]);
    }

    #[test]
    fn a_file_is_replaced_whole_or_created_alone_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file.x");
        replace(&path, b"one").expect("written");
        replace(&path, b"two").expect("written");
        let there = create(&path, b"three").expect_err("there is one");
        assert_eq!(there.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("readable"), b"two");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
        assert_ne!(beside(&path), beside(&path));
        make_folder(folder.path()).expect("it is there");
        assert!(make_folder(&path).is_err(), "a file is no folder");
    }
}
