//! The node under measurement: a child process, so that what it uses is its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use node::CertificateFiles;
use wire::ids::AckMode;

use crate::support::{config, metric, no_reload, parts, quiet, table};

/// No scenario fills one, so that waiting for the next one, which is the disk's time, is in no figure.
const SEGMENT_BYTES: u32 = 128 << 20;

/// A node in a child process; ends with this value.
pub(crate) struct Served {
    child: Child,
    pub(crate) tcp: SocketAddr,
    pub(crate) quic: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) authority: Vec<u8>,
    _data: tempfile::TempDir,
}

impl Served {
    /// With so many senders.
    pub(crate) fn start(senders: usize) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", &senders.to_string(), data.path().to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let all: Vec<SocketAddr> = line
            .split_whitespace()
            .map(|address| address.parse().unwrap())
            .collect();
        Self {
            child,
            tcp: all[0],
            quic: all[1],
            admin: all[2],
            authority: std::fs::read(data.path().join("cert.pem")).unwrap(),
            _data: data,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time of the shard's thread so far, in nanoseconds.
    pub(crate) fn shard_nanos(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let nanos = tasks.filter_map(|task| {
            let path = task.unwrap().path();
            let name = std::fs::read_to_string(path.join("comm")).ok()?;
            let times = std::fs::read_to_string(path.join("schedstat")).ok()?;
            let first = times.split(' ').next()?.parse::<f64>().ok();
            first.filter(|_| name.starts_with("shard-"))
        });
        nanos.sum()
    }

    pub(crate) fn metric(&self, series: &str) -> f64 {
        metric(self.admin, series).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // The end of its standard input tells the child to stop.
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// The child: `senders folder`.
pub(crate) fn serve(words: &[String]) {
    let [senders, folder] = words else {
        panic!("serve takes two words, not {words:?}");
    };
    let folder = Path::new(folder);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = CertificateFiles {
        certificate: folder.join("cert.pem"),
        key: folder.join("key.pem"),
    };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let mut parts = parts(AckMode::Local, senders.parse().unwrap());
    parts.hubs[0].segment_bytes = SEGMENT_BYTES;
    // Nobody receives here: a queue that fills is another measurement.
    parts.endpoints.retain(|endpoint| !endpoint.send.is_empty());
    let mut config = config(&folder.join("logs"));
    config.listen_quic = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.tls = Some(files);
    // Idle lanes carry a preface alone.
    config.shard.strangers_max = 1 << 16;
    config.timeouts.handshake = Duration::from_secs(600);
    config.timeouts.idle = Duration::from_secs(600);
    let node = node::start_logged(config, table(parts), no_reload(), quiet()).unwrap();
    let quic = node.listen_quic_addr().unwrap();
    println!("{} {quic} {}", node.listen_addr(), node.admin_addr());
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).unwrap();
    node.stop();
    node.join().unwrap();
}
