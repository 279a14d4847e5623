//! The node under measurement: a child process, so that what it uses is its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{certificate, config, no_reload, parts, quiet, table};
use wire::ids::AckMode;

/// No scenario fills one, so that waiting for the next one, which is the disk's time, is in no figure.
const SEGMENT_BYTES: u32 = 128 << 20;

/// How the child is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) ack: AckMode,
    pub(crate) senders: usize,
    pub(crate) partitions: u16,
    /// Beside plain TCP it takes QUIC, not TLS.
    pub(crate) quic: bool,
    /// The processor of its shard, unless it may choose.
    pub(crate) cpu: Option<usize>,
}

/// A node in a child process; ends with this value.
pub(crate) struct Served {
    child: Child,
    /// Where it takes plain TCP.
    pub(crate) plain: SocketAddr,
    /// Where it takes what is encrypted.
    pub(crate) secure: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) data: tempfile::TempDir,
}

impl Served {
    pub(crate) fn start(setup: Setup) -> Self {
        let data = tempfile::tempdir().unwrap();
        let ack = match setup.ack {
            AckMode::Local => "local",
            AckMode::Durable => "durable",
        };
        let secure = if setup.quic { "quic" } else { "tls" };
        let (senders, partitions) = (setup.senders.to_string(), setup.partitions.to_string());
        let cpu = setup.cpu.map_or("any".to_owned(), |cpu| cpu.to_string());
        let folder = data.path().to_str().unwrap();
        let words = ["serve", ack, &senders, &partitions, secure, &cpu, folder];
        let (child, line) = start_child(&words);
        let mut addresses = line
            .split_whitespace()
            .map(|address| address.parse().unwrap());
        let mut next = || addresses.next().unwrap();
        let (plain, secure, admin) = (next(), next(), next());
        Self {
            child,
            plain,
            secure,
            admin,
            data,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Who is to be trusted where it takes what is encrypted, in PEM.
    pub(crate) fn authority(&self) -> Vec<u8> {
        std::fs::read(self.data.path().join("cert.pem")).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // The end of its standard input tells the child to stop.
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// This program once more, as another part of the measurement, and the first line that it prints.
pub(crate) fn start_child(words: &[&str]) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    (child, line)
}

/// The child: `ack senders partitions secure cpu folder`.
pub(crate) fn serve(words: &[String]) {
    let [ack, senders, partitions, secure, cpu, folder] = words else {
        panic!("serve takes six words, not {words:?}");
    };
    let ack = match ack.as_str() {
        "local" => AckMode::Local,
        _ => AckMode::Durable,
    };
    let mut parts = parts(ack, senders.parse().unwrap());
    parts.hubs[0].partitions = partitions.parse().unwrap();
    parts.hubs[0].segment_bytes = SEGMENT_BYTES;
    // Nobody receives here: a queue that fills is another measurement.
    parts.endpoints.retain(|endpoint| !endpoint.send.is_empty());
    let mut config = config(Path::new(folder));
    match secure.as_str() {
        "tls" => config.listen_tls = config.listen,
        _ => config.listen_quic = config.listen,
    }
    config.tls = Some(certificate(Path::new(folder)).0);
    config.cpu = cpu.parse().ok();
    // Those that say nothing are all to stay.
    config.shard.strangers_max = 1 << 20;
    config.timeouts.handshake = Duration::from_secs(600);
    config.timeouts.idle = Duration::from_secs(600);
    let node = node::start_logged(config, table(parts), no_reload(), quiet()).unwrap();
    let secure = node.listen_tls_addr().or(node.listen_quic_addr()).unwrap();
    println!("{} {secure} {}", node.listen_addr(), node.admin_addr());
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).unwrap();
    node.stop();
    node.join().unwrap();
}
