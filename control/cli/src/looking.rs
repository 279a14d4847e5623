//! Files that are read again when they change, while a process runs. What does not fit is named once, and what is in use stays.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use link::diagnosis::{CODES, LINK_FAILED};
use link::{Level, Tell};
use wire::diagnosis::Diagnosis;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// What is in some files; nothing of one that cannot be read.
type Contents = Vec<Option<Vec<u8>>>;

/// Some files that belong together, such as a certificate and its key.
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    in_use: Contents,
    /// What was there at the look before, if that was not in use: both files of a pair are written when it is there twice.
    seen: Option<Contents>,
    /// What is wrong with them, which was told.
    wrong: Option<Diagnosis>,
    /// What is told when they were taken, and when not.
    events: (&'static str, &'static str),
    tell: Arc<dyn Tell>,
}

impl Files {
    /// These, as they are now: to be called before what is in use is made of them.
    pub(crate) fn new(
        paths: Vec<PathBuf>,
        events: (&'static str, &'static str),
        tell: Arc<dyn Tell>,
    ) -> Self {
        let mut files = Self {
            paths,
            in_use: Vec::new(),
            seen: None,
            wrong: None,
            events,
            tell,
        };
        files.in_use = files.read();
        files
    }

    fn read(&self) -> Contents {
        let read = self.paths.iter().map(|path| std::fs::read(path).ok());
        read.collect()
    }

    /// Have `take` make something of what is in them now, if that is new; it is told which of them differ.
    pub(crate) fn look(&mut self, take: impl FnOnce(&[bool]) -> Result<(), Diagnosis>) {
        let now = self.read();
        if now == self.in_use {
            (self.seen, self.wrong) = (None, None);
            return;
        }
        if self.seen.as_ref() != Some(&now) {
            self.seen = Some(now);
            return;
        }
        let differ = now.iter().zip(&self.in_use).map(|(now, then)| now != then);
        let differ: Vec<bool> = differ.collect();
        let path = self.paths.first().map(PathBuf::as_path);
        let path = path.map(|path| path.display().to_string());
        let path = path.unwrap_or_default();
        match take(&differ) {
            Ok(()) => {
                (self.in_use, self.seen, self.wrong) = (now, None, None);
                self.tell
                    .tell(Level::Info, self.events.0, &[("file", &path)]);
            }
            Err(fault) => {
                if self.wrong.as_ref() != Some(&fault) {
                    let fields: [(&str, &dyn std::fmt::Display); 2] =
                        [("file", &path), ("fault", &fault)];
                    self.tell.tell(Level::Error, self.events.1, &fields);
                }
                self.wrong = Some(fault);
            }
        }
    }
}

/// Looks again and again until it is dropped.
pub(crate) struct Looking {
    /// Dropped, it ends the thread.
    _end: Sender<()>,
}

impl Looking {
    /// Begin to look.
    pub(crate) fn start(mut look: impl FnMut() + Send + 'static) -> Result<Self, Diagnosis> {
        let (end, ended) = channel();
        let run = move || {
            while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                look();
            }
        };
        let thread = std::thread::Builder::new().name("link-files".into());
        let spawned = thread.spawn(run);
        spawned.map(|_| Self { _end: end }).map_err(|error| {
            let (what, needed) = ("the thread that looks at files", "a thread more");
            Diagnosis::from_table(CODES, LINK_FAILED, what, error.to_string(), needed)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Display;
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<&'static str>>);

    impl Tell for Told {
        fn tell(&self, _: Level, event: &'static str, _: &[(&str, &dyn Display)]) {
            self.0.lock().expect("whole").push(event);
        }
    }

    #[test]
    fn files_are_taken_when_they_were_the_same_twice_and_what_does_not_fit_is_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["pair", "key"].map(|name| folder.path().join(name));
        let write = |at: usize, text: &str| std::fs::write(&paths[at], text).expect("written");
        write(0, "one");
        write(1, "one");
        let told = Arc::new(Told::default());
        let events = ("taken", "refused");
        let mut files = Files::new(paths.to_vec(), events, told.clone());
        let bad = || Diagnosis::from_table(CODES, LINK_FAILED, "a pair", "two halves", "one");
        let never = |_: &[bool]| -> Result<(), Diagnosis> { panic!("nothing to take") };
        files.look(never);
        write(0, "two");
        files.look(never);
        write(1, "two");
        files.look(never);
        files.look(|differ| {
            assert_eq!(differ, [true, true]);
            Ok(())
        });
        files.look(never);
        write(1, "three");
        files.look(never);
        for _ in 0..3 {
            files.look(|differ| {
                assert_eq!(differ, [false, true]);
                Err(bad())
            });
        }
        // Back to what is in use: then the same fault is told anew.
        write(1, "two");
        files.look(never);
        std::fs::remove_file(&paths[1]).expect("there");
        files.look(never);
        files.look(|_| Err(bad()));
        let told = told.0.lock().expect("whole");
        assert_eq!(*told, ["taken", "refused", "refused"]);
    }
}
