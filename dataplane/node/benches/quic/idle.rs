//! QUIC connections with a session each that say nothing: what each costs in memory, and what ten thousand cost in time.

use std::sync::Arc;
use std::time::Duration;

use crate::client::{config, runtime};
use crate::serve::Served;
use crate::support::until;
use crate::tell;

const FEW: usize = 1_000;
const MANY: usize = 15_000;
const WATCHED: usize = 10_000;
const WATCH: Duration = Duration::from_secs(20);

/// Memory is a slope between two counts, so that what a node needs without connections is not in it. The streams stay open, and carry a
/// preface alone: a session's memory is the same over any transport (`--bench loop -- idle`).
pub(crate) fn idle() {
    let node = Served::start(1);
    let runtime = runtime();
    let mut own = config(&node.authority, tls::PROTOCOL);
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(600).try_into().unwrap()));
    transport.mtu_discovery_config(None);
    own.transport_config(Arc::new(transport));
    let inside = runtime.enter();
    let any = "127.0.0.1:0".parse().unwrap();
    let endpoint = quinn::Endpoint::client(any).unwrap();
    let mut held = Vec::with_capacity(MANY);
    let mut grow = |count: usize| {
        while held.len() < count {
            let connecting = endpoint.connect_with(own.clone(), node.quic, "localhost");
            let opened = runtime.block_on(async {
                let connection = connecting.unwrap().await?;
                let (mut send, recv) = connection.open_bi().await?;
                send.write_all(&wire::preface::Preface::CLIENT.encode())
                    .await
                    .unwrap();
                Ok::<_, quinn::ConnectionError>((connection, send, recv))
            });
            held.push(opened.unwrap());
        }
        until("all lanes are open", || {
            node.metric("forebay_quic_lanes") == count as f64
        });
        resident_bytes(node.pid())
    };
    let few = grow(FEW);
    grow(WATCHED);
    // Until what handshakes leave to be done is done.
    std::thread::sleep(Duration::from_secs(3));
    let before = node.shard_nanos();
    std::thread::sleep(WATCH);
    let spent = node.shard_nanos() - before;
    let many = grow(MANY);
    let each = (many - few) / (MANY - FEW) as f64;
    tell("idle/quic/memory", each, "bytes/connection");
    let share = spent / WATCH.as_nanos() as f64 * 100.0;
    tell(&format!("idle/quic/cpu-of-{WATCHED}"), share, "% of a core");
    drop(inside);
}

/// Resident bytes of a process that belong to nobody else.
fn resident_bytes(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.unwrap().trim().trim_end_matches("kB").trim();
    kib.parse::<f64>().unwrap() * 1024.0
}
