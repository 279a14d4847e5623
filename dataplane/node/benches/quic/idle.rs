//! QUIC connections with a lane each that say nothing: what each costs in memory, and what ten thousand cost in time.

use std::sync::Arc;
use std::time::Duration;

use crate::client::{config, runtime};
use crate::measured::idle::slope;
use crate::start;

/// The streams stay open, and carry a preface alone: a session's memory is the same over any transport (`--bench loop -- idle`).
pub(crate) fn idle() {
    let node = start(1);
    let runtime = runtime();
    let mut own = config(&node.authority(), tls::PROTOCOL);
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(600).try_into().unwrap()));
    transport.mtu_discovery_config(None);
    own.transport_config(Arc::new(transport));
    let inside = runtime.enter();
    let any = "127.0.0.1:0".parse().unwrap();
    let endpoint = quinn::Endpoint::client(any).unwrap();
    slope("quic", &node, "forebay_quic_lanes", |_| {
        let connecting = endpoint.connect_with(own.clone(), node.secure, "localhost");
        let opened = runtime.block_on(async {
            let connection = connecting.unwrap().await?;
            let (mut send, recv) = connection.open_bi().await?;
            send.write_all(&wire::preface::Preface::CLIENT.encode())
                .await
                .unwrap();
            Ok::<_, quinn::ConnectionError>((connection, send, recv))
        });
        opened.unwrap()
    });
    drop(inside);
}
