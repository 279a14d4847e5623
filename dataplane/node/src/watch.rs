//! Looks at the files of the certificate and shows a new pair when there is one; says when the one in use is about to end.
//!
//! Tunnels that stand go on as they are. A pair that does not fit is refused and named, and the one in use stays.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tls::{Certificate, Served};

use crate::certificates::CertificateFiles;
use crate::diagnosis::{Diagnosis, EXECUTOR_FAILED, diagnose};
use crate::log::{Level, Log};
use crate::status::Status;

/// Between two looks. A change is taken when it is still there at the next one: both files are written by then.
const LOOK: Duration = Duration::from_millis(500);
const DAY: i64 = 86_400;
/// Days before the end from which on that is said, once each.
const WARNINGS_DAYS: [i64; 4] = [0, 1, 7, 30];

/// What a file is known by: when it was written, its length, and which one it is.
type Stamp = Option<(i64, i64, u64, u64)>;

/// The thread that looks, until this is dropped.
pub(crate) struct Watch {
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What it looks at, and what it knows.
pub(crate) struct Watched {
    pub(crate) files: CertificateFiles,
    pub(crate) served: Arc<Served>,
    pub(crate) status: Arc<Status>,
    pub(crate) log: Arc<Log>,
}

impl Watch {
    /// Begin to look, from the pair in use on.
    pub(crate) fn start(watched: Watched) -> Result<Self, Diagnosis> {
        let ending = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ending);
        let spawned = std::thread::Builder::new()
            .name("certificates".to_owned())
            .spawn(move || watched.look_until(&told));
        let thread = spawned.map_err(|error| {
            diagnose(
                EXECUTOR_FAILED,
                "certificates thread",
                error.to_string(),
                "one more thread",
                "raise `ulimit -u`, or the container's limit of processes",
            )
        })?;
        Ok(Self {
            ending,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to say at its end.
            let _ = thread.join();
        }
    }
}

impl Watched {
    fn look_until(&self, ending: &AtomicBool) {
        let mut warned = None;
        let mut known = self.stamps();
        let mut seen = known;
        while !ending.load(Ordering::Relaxed) {
            self.warn(&self.served.current(), &mut warned);
            std::thread::park_timeout(LOOK);
            let now = self.stamps();
            if now != known && now == seen {
                known = now;
                self.take(&mut warned);
            }
            seen = now;
        }
    }

    fn stamps(&self) -> [Stamp; 2] {
        let stamp = |path: &Path| {
            let found = path.metadata().ok()?;
            Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
        };
        [&self.files.certificate, &self.files.key].map(|path| stamp(path))
    }

    /// Show the pair that is there now, if it is one.
    fn take(&self, warned: &mut Option<i64>) {
        match self.files.read() {
            Ok(new) if new.fingerprint() == self.served.current().fingerprint() => {
                self.status.certificate_good(new.validity().until);
            }
            Ok(new) => {
                let fields: [(&str, &dyn std::fmt::Display); 2] = [
                    ("fingerprint", &new.fingerprint()),
                    ("days", &days_left(&new)),
                ];
                self.log.event(Level::Info, "certificate_replaced", &fields);
                self.status.certificate_replaced(new.validity().until);
                self.served.replace(new);
                *warned = None;
            }
            Err(fault) => {
                self.status.certificate_refused();
                let fields: [(&str, &dyn std::fmt::Display); 1] = [("fault", &fault)];
                self.log.event(Level::Error, "certificate_refused", &fields);
            }
        }
    }

    /// Say that the one in use is about to end, once for each time that is worth saying.
    fn warn(&self, current: &Certificate, warned: &mut Option<i64>) {
        let left = days_left(current);
        let due = WARNINGS_DAYS.iter().find(|days| left < **days);
        if let Some(due) = due.filter(|due| *warned != Some(**due)) {
            *warned = Some(*due);
            let (event, level) = match left < 0 {
                true => ("certificate_ended", Level::Error),
                false => ("certificate_ends_soon", Level::Warning),
            };
            let certificate = self.files.certificate.display();
            let fields: [(&str, &dyn std::fmt::Display); 2] =
                [("days", &left), ("certificate", &certificate)];
            self.log.event(level, event, &fields);
        }
    }
}

/// Whole days until the end of a certificate; below zero when it has ended.
fn days_left(certificate: &Certificate) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    });
    (certificate.validity().until - now).div_euclid(DAY)
}
