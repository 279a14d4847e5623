//! What the file did wrong, told to a person.

use std::path::Path;

use wire::diagnosis::Diagnosis;

use crate::diagnosis::{CODES, STORE_DAMAGED, STORE_FAILED, STORE_IN_USE};

/// redb could not do what it was asked.
pub(super) fn failed(path: &Path, error: impl Into<redb::Error>) -> Diagnosis {
    let error = error.into();
    let (code, needed) = match &error {
        redb::Error::DatabaseAlreadyOpen => (STORE_IN_USE, "one process that has it open"),
        redb::Error::Corrupted(_) => (STORE_DAMAGED, "the bytes that were written"),
        _ => (STORE_FAILED, "a file that can be read and written"),
    };
    let what = format!("store {} cannot be used", path.display());
    Diagnosis::from_table(CODES, code, what, error.to_string(), needed)
}

/// The file holds what nobody wrote there.
pub(super) fn damaged(path: &Path, seen: String) -> Diagnosis {
    let what = format!("store {} holds something unknown", path.display());
    Diagnosis::from_table(CODES, STORE_DAMAGED, what, seen, "what Forebay writes")
}
