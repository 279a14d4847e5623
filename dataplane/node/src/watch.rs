//! Looks at the files of the certificate and shows a new pair when there is one, asks clients by new authorities when there are, and says
//! when the certificate in use is about to end.
//!
//! Tunnels that stand go on as they are. What does not fit is refused and named, and what is in use stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tls::{Certificate, Served, Server, Validity};

use crate::certificates::{CertificateFiles, ClientCertificates, Stamp, Stamps};
use crate::diagnosis::{Diagnosis, EXECUTOR_FAILED, diagnose};
use crate::log::{Level, Log};
use crate::status::Status;

/// Between two looks. A change is taken when it is still there at the next one: both files are written by then.
const LOOK: Duration = Duration::from_millis(500);
const DAY: i64 = 86_400;
/// Before the end, from when on that is said, once each; the first time a third of its life before it, at most this long.
const WARNINGS: [i64; 3] = [0, DAY, 7 * DAY];
const FIRST_WARNING: i64 = 30 * DAY;

/// The thread that looks, until this is dropped.
pub(crate) struct Watch {
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What it looks at, and what it knows.
pub(crate) struct Watched {
    pub(crate) files: CertificateFiles,
    pub(crate) clients: ClientCertificates,
    /// What the files were known by before what is in use was read from them.
    pub(crate) known: (Stamps, Stamp),
    pub(crate) served: Arc<Served>,
    pub(crate) server: Server,
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
        let mut known = self.known;
        let mut refused = (false, false);
        let mut seen = known;
        while !ending.load(Ordering::Relaxed) {
            self.warn(&self.served.current(), &mut warned);
            std::thread::park_timeout(LOOK);
            let now = (self.files.stamps(), self.clients.stamp());
            if now.0 != known.0 && now.0 == seen.0 {
                known.0 = now.0;
                refused.0 = !self.take(&mut warned);
                self.status.certificate_stale(refused.0 || refused.1);
            }
            if now.1 != known.1 && now.1 == seen.1 {
                known.1 = now.1;
                refused.1 = !self.ask_anew();
                self.status.certificate_stale(refused.0 || refused.1);
            }
            seen = now;
        }
    }

    /// Ask clients by the authorities that are there now. Whether they can be.
    fn ask_anew(&self) -> bool {
        let asked = self.clients.asking().and_then(|asking| {
            let asked = self.server.ask_anew(&asking);
            asked.map_err(|fault| self.clients.refuse(&fault))
        });
        match asked {
            Ok(()) => self.log.event(Level::Info, "client_ca_replaced", &[]),
            Err(fault) => {
                self.status.certificate_refused();
                let fields: [(&str, &dyn std::fmt::Display); 1] = [("fault", &fault)];
                self.log.event(Level::Error, "client_ca_refused", &fields);
                return false;
            }
        }
        true
    }

    /// Show the pair that is there now. Whether it is one.
    fn take(&self, warned: &mut Option<i64>) -> bool {
        match self.files.read() {
            Ok(new) if new.chain() == self.served.current().chain() => {
                self.status.certificate_good(new.validity().until);
            }
            Ok(new) => {
                let fields: [(&str, &dyn std::fmt::Display); 2] = [
                    ("fingerprint", &new.fingerprint()),
                    ("days", &seconds_left(&new).div_euclid(DAY)),
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
                return false;
            }
        }
        true
    }

    /// Say that the one in use is about to end, once for each time that is worth saying.
    fn warn(&self, current: &Certificate, warned: &mut Option<i64>) {
        let left = seconds_left(current);
        let due = due(current.validity(), left);
        if let Some(due) = due.filter(|due| *warned != Some(*due)) {
            *warned = Some(due);
            let (event, level) = match left < 0 {
                true => ("certificate_ended", Level::Error),
                false => ("certificate_ends_soon", Level::Warning),
            };
            let (certificate, days) = (self.files.certificate.display(), left.div_euclid(DAY));
            let fields: [(&str, &dyn std::fmt::Display); 2] =
                [("days", &days), ("certificate", &certificate)];
            self.log.event(level, event, &fields);
        }
    }
}

/// The warning that is due so many seconds before the end of a certificate: how long before the end it may be said.
fn due(validity: Validity, left: i64) -> Option<i64> {
    let first = (validity.until.saturating_sub(validity.from) / 3).clamp(0, FIRST_WARNING);
    let sooner = WARNINGS.into_iter().filter(|before| *before < first);
    sooner.chain([first]).find(|before| left < *before)
}

/// Whole seconds until the end of a certificate; below zero when it has ended.
fn seconds_left(certificate: &Certificate) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    });
    certificate.validity().until.saturating_sub(now)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::config::LogFormat;

    /// A certificate with its key, as PEM.
    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn put(files: &CertificateFiles, (certificate, key): &(String, String)) {
        std::fs::write(&files.certificate, certificate).expect("a folder that may be written");
        std::fs::write(&files.key, key).expect("a folder that may be written");
    }

    /// A folder with a pair that is read as a node does at its start, then `between`, then the watch.
    fn watching(
        between: impl FnOnce(&CertificateFiles),
    ) -> (tempfile::TempDir, Arc<Served>, Watch) {
        let folder = tempfile::tempdir().expect("a folder");
        let files = CertificateFiles {
            certificate: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
        };
        put(&files, &pair());
        let (known, read) = files.read_stamped();
        let served = Served::new(read.expect("a pair"));
        let server = Server::new(Arc::clone(&served)).expect("random bytes");
        between(&files);
        let watched = Watched {
            files,
            clients: ClientCertificates::default(),
            known: (known, None),
            served: Arc::clone(&served),
            server,
            status: Arc::new(Status::new(1)),
            log: Arc::new(Log::new(LogFormat::Text, Box::new(std::io::sink()))),
        };
        let watch = Watch::start(watched).expect("a thread");
        (folder, served, watch)
    }

    fn until(what: &str, reached: impl Fn() -> bool) {
        let began = Instant::now();
        while !reached() {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_pair_put_there_between_the_first_reading_and_the_first_look_is_taken() {
        let other = pair();
        let new = Certificate::from_pem(other.0.as_bytes(), other.1.as_bytes()).expect("a pair");
        let (_folder, served, _watch) = watching(|files| put(files, &other));
        until("the new one is shown", || {
            served.current().fingerprint() == new.fingerprint()
        });
    }

    #[test]
    fn a_chain_that_differs_behind_its_first_certificate_is_taken() {
        let (folder, served, _watch) = watching(|_| ());
        let certificate = folder.path().join("cert.pem");
        let mut chain = std::fs::read_to_string(&certificate).expect("it was written");
        chain.push_str(&pair().0);
        std::fs::write(&certificate, chain).expect("a folder that may be written");
        until("both are shown", || served.current().chain().len() == 2);
    }

    #[test]
    fn the_end_is_told_of_first_a_third_of_a_life_before_it_and_a_month_at_most() {
        for (lives, want) in [
            (1, vec![0, 8 * 3_600]),
            (6, vec![0, DAY, 2 * DAY]),
            (30, vec![0, DAY, 7 * DAY, 10 * DAY]),
            (365, vec![0, DAY, 7 * DAY, 30 * DAY]),
        ] {
            let validity = Validity {
                from: 1_000,
                until: 1_000 + lives * DAY,
            };
            let left = (-DAY..=lives * DAY).rev().step_by(600);
            let mut told: Vec<i64> = left.filter_map(|left| due(validity, left)).collect();
            told.dedup();
            told.reverse();
            assert_eq!(told, want, "{lives} days");
            assert_eq!(due(validity, lives * DAY), None, "{lives} days, just made");
        }
    }
}
