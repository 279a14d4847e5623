//! A control plane and nodes in one process, over real connections: a table is a text, a delta is what is added to it.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tls::{Certificate, LinkClient, LinkServer};
use wire::diagnosis::Diagnosis;
use xxhash_rust::xxh3::xxh3_128;

use crate::diagnosis::{CODES, TABLE_UNFIT};
use crate::history::Bytes;
use crate::*;

/// How long a state is waited for before a test gives up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Long enough for any machine to be heard in time.
pub(super) const SLOW: Duration = Duration::from_secs(2);
/// For tests of silence.
pub(super) const FAST: Duration = Duration::from_millis(20);

/// Wait until something is so.
pub(super) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let by = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < by, "not so in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An authority for the link.
pub(super) struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pub(super) pem: Vec<u8>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self {
            params,
            key,
            pem: pem.into_bytes(),
        }
    }

    fn certificate(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Certificate {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).expect("signed");
        let (chain, key) = (certificate.pem(), key.serialize_pem());
        Certificate::from_pem(chain.as_bytes(), key.as_bytes()).expect("a pair")
    }

    pub(super) fn control(&self) -> LinkServer {
        self.control_of(self)
    }

    /// The control plane's side, which trusts nodes of `other`.
    pub(super) fn control_of(&self, other: &Self) -> LinkServer {
        let own = self.certificate("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
        LinkServer::new(&own, &other.pem).expect("usable")
    }

    /// A node with a certificate for this name, which trusts `other`.
    pub(super) fn node(&self, name: &str, other: &Self) -> LinkClient {
        let own = self.certificate(name, ExtendedKeyUsagePurpose::ClientAuth);
        LinkClient::new(&own, &other.pem, "127.0.0.1").expect("usable")
    }

    /// The same with the certificate of a control plane.
    pub(super) fn impostor(&self, name: &str) -> LinkClient {
        let own = self.certificate(name, ExtendedKeyUsagePurpose::ServerAuth);
        LinkClient::new(&own, &self.pem, "127.0.0.1").expect("usable")
    }
}

/// Keeps what was told.
#[derive(Default)]
pub(super) struct Told(Mutex<Vec<String>>);

impl Tell for Told {
    fn tell(&self, _: Level, event: &'static str, fields: &[(&str, &dyn Display)]) {
        let mut line = event.to_owned();
        for (name, value) in fields {
            line.push_str(&format!(" {name}={value}"));
        }
        self.0.lock().expect("whole").push(line);
    }
}

impl Told {
    pub(super) fn has(&self, event: &str, part: &str) -> bool {
        let lines = self.0.lock().expect("whole");
        let found = |line: &String| line.starts_with(event) && line.contains(part);
        lines.iter().any(found)
    }

    pub(super) fn all(&self) -> String {
        self.0.lock().expect("whole").join("\n")
    }
}

/// Every version of a text that grows.
#[derive(Clone, Default)]
pub(super) struct Text(pub(super) String);

impl Snapshot for Text {
    fn bytes(&self) -> Bytes {
        Arc::new(self.0.clone().into_bytes())
    }
}

/// What a control plane of another past says.
pub(super) fn of_past(lineage: Lineage, mut newest: Newest) -> Newest {
    newest.version.lineage = lineage;
    if let Some(delta) = &mut newest.delta {
        delta.base.lineage = lineage;
        delta.becomes.lineage = lineage;
    }
    newest
}

/// A version for tests that look at no table.
pub(crate) fn numbered(epoch: u64) -> Version {
    Version {
        lineage: [1; 16],
        epoch,
        digest: [epoch as u8; 32],
    }
}

pub(super) fn version(epoch: u64, text: &str) -> Version {
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(&xxh3_128(text.as_bytes()).to_le_bytes());
    Version {
        lineage: [1; 16],
        epoch,
        digest,
    }
}

/// The newest text, with what was added to the one before.
pub(super) fn newest(epoch: u64, before: &str, added: &str) -> Newest {
    let text = format!("{before}{added}");
    let becomes = version(epoch, &text);
    Newest {
        version: becomes,
        delta: Some(Delta {
            base: version(epoch - 1, before),
            becomes,
            bytes: Arc::new(added.as_bytes().to_vec()),
        }),
        snapshot: Arc::new(Text(text)),
    }
}

/// A text that is written down once the disk is free.
struct Slow {
    text: String,
    disk: Arc<Mutex<()>>,
}

impl Snapshot for Slow {
    fn bytes(&self) -> Bytes {
        let _free = self.disk.lock();
        Arc::new(self.text.clone().into_bytes())
    }
}

/// What a node holds, and its shards.
#[derive(Default)]
pub(super) struct Held {
    pub(super) text: String,
    pub(super) version: Version,
    pub(super) shards: Vec<u64>,
    /// Hand-overs that find the shards busy.
    pub(super) busy: usize,
    pub(super) refuse: bool,
    /// Shards have the table before the one that was handed over last.
    pub(super) behind: bool,
    /// Held, it keeps the disk busy that writes whole tables.
    pub(super) disk: Arc<Mutex<()>>,
    /// Every text that was in force.
    pub(super) in_force: Vec<String>,
}

#[derive(Clone, Default)]
pub(super) struct Node(pub(super) Arc<Mutex<Held>>);

fn unfit(seen: String) -> Diagnosis {
    Diagnosis::from_table(CODES, TABLE_UNFIT, "a text", seen, "another")
}

impl Held {
    fn become_text(&mut self, text: String, becomes: Version) -> Result<(), Diagnosis> {
        if version(becomes.epoch, &text).digest != becomes.digest {
            return Err(unfit(text));
        }
        (self.text, self.version) = (text, becomes);
        Ok(())
    }
}

impl Holder for Node {
    fn snapshot(&mut self, becomes: Version, bytes: Vec<u8>) -> Result<(), Diagnosis> {
        let text = String::from_utf8(bytes).map_err(|error| unfit(error.to_string()))?;
        let mut held = self.0.lock().expect("whole");
        held.become_text(text, becomes)
    }

    fn delta(&mut self, base: Version, becomes: Version, bytes: &[u8]) -> Result<(), Diagnosis> {
        let mut held = self.0.lock().expect("whole");
        if held.version != base {
            return Err(unfit(base.to_string()));
        }
        let text = format!("{}{}", held.text, String::from_utf8_lossy(bytes));
        held.become_text(text, becomes)
    }

    fn whole(&self) -> Arc<dyn Snapshot> {
        let held = self.0.lock().expect("whole");
        let (text, disk) = (held.text.clone(), Arc::clone(&held.disk));
        Arc::new(Slow { text, disk })
    }

    fn hand_over(&mut self) -> Result<(), Unfit> {
        let mut held = self.0.lock().expect("whole");
        if held.refuse {
            return Err(Unfit::Refused(unfit(held.text.clone())));
        }
        if held.busy > 0 {
            held.busy -= 1;
            return Err(Unfit::Busy);
        }
        let (text, epoch) = (held.text.clone(), held.version.epoch);
        held.in_force.push(text);
        let epoch = if held.behind { epoch - 1 } else { epoch };
        held.shards.fill(epoch);
        Ok(())
    }

    fn wait(&self, _: u64, _: Duration) -> Vec<u64> {
        self.0.lock().expect("whole").shards.clone()
    }
}

/// A node that is followed.
pub(super) struct Running {
    pub(super) node: Node,
    pub(super) followed: Followed,
    pub(super) told: Arc<Told>,
}

/// How a node is to follow.
pub(super) fn how(name: &str, address: SocketAddr, client: LinkClient, folder: &Path) -> Follow {
    Follow {
        name: name.to_owned(),
        address: address.to_string(),
        client: Credentials::new(client),
        has: None,
        freshness: Freshness::new(Moment::now(), Duration::ZERO, None),
        folder: folder.to_owned(),
        tell: Arc::new(Told::default()),
    }
}

/// Start a node with what its folder has; otherwise it waits for its first table.
pub(super) fn start(name: &str, address: SocketAddr, client: LinkClient, folder: &Path) -> Running {
    start_as(how(name, address, client, folder))
}

pub(super) fn start_as(mut follow_as: Follow) -> Running {
    let (mut kept, table) = Kept::open(&follow_as.folder).expect("usable");
    let told = Arc::new(Told::default());
    follow_as.tell = told.clone();
    follow_as.has = table.as_ref().map(KeptTable::version);
    let mut followed = follow(follow_as).expect("a thread");
    let mut node = Node::default();
    node.0.lock().expect("whole").shards = vec![0; 2];
    match table {
        Some(table) => {
            let (becomes, bytes) = table.snapshot;
            node.snapshot(becomes, bytes).expect("kept whole");
            for (base, becomes, bytes) in table.deltas {
                node.delta(base, becomes, &bytes).expect("kept in a row");
            }
        }
        None => {
            let (becomes, bytes) = followed.first().expect("control is there");
            kept.keep_snapshot(becomes, &bytes).expect("kept");
            node.snapshot(becomes, bytes).expect("whole");
        }
    }
    node.hand_over().expect("taken");
    followed.give_to(node.clone(), kept).expect("a thread");
    Running {
        node,
        followed,
        told,
    }
}
