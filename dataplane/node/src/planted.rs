//! Faults that a test plants in one shard of a running process. Only the feature `planted-bugs` compiles this file; no product build
//! has the feature, and nothing but a file that the test names brings a fault about.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

/// `panic:1:/some/file`: once the file is there, shard 1 fails an assertion in the middle of a turn. `stuck:1:/some/file`: it stands
/// still in the middle of a turn for as long as the file is there.
const VARIABLE: &str = "FOREBAY_PLANTED_FAULT";
/// How often a shard that stands still looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);

struct Fault {
    is_panic: bool,
    shard: usize,
    file: PathBuf,
}

fn planted() -> Option<&'static Fault> {
    static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
    let read = || {
        let told = std::env::var(VARIABLE).ok()?;
        let mut parts = told.splitn(3, ':');
        let (kind, shard, file) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Fault {
            is_panic: kind == "panic",
            shard: shard.parse().ok()?,
            file: file.into(),
        })
    };
    FAULT.get_or_init(read).as_ref()
}

/// In the middle of a turn: the shard has taken what came, nothing of what it asks for has been carried out.
pub(crate) fn in_turn(shard: usize) {
    let Some(fault) = planted().filter(|fault| fault.shard == shard) else {
        return;
    };
    let due = fault.file.exists();
    assert!(!(due && fault.is_panic), "planted in shard {shard}");
    while fault.file.exists() {
        std::thread::sleep(LOOK);
    }
}
