//! The fake behind QUIC, by the crate quinn: every stream that a client opens is served like a connection.

use super::{Fake, Fault, READ_TIME, State, tls_config};
use crate::fake::Pair;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, ServerConfig};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::{Builder, Handle};
use wire::datagram::Datagram;

impl Fake {
    /// Start behind QUIC with this certificate and these application protocols.
    pub fn start_quic(faults: &[Fault], pair: &Pair, protocols: &[&[u8]]) -> Self {
        let crypto = QuicServerConfig::try_from(tls_config(pair, protocols));
        let config = ServerConfig::with_crypto(Arc::new(crypto.expect("TLS 1.3 is among it")));
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let endpoint = {
            let _entered = runtime.enter();
            Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).expect("a free port")
        };
        let state = Arc::new(Mutex::new(State {
            faults: faults.to_vec(),
            ..State::default()
        }));
        let addr = endpoint.local_addr().expect("bound");
        let fake = Self { addr, state };
        let server = fake.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                while let Some(incoming) = endpoint.accept().await {
                    if server.state().gone {
                        incoming.ignore();
                        continue;
                    }
                    tokio::spawn(server.clone().serve_quic(incoming));
                }
            });
        });
        fake
    }

    async fn serve_quic(self, incoming: Incoming) {
        self.state().arrivals.push(incoming.orig_dst_cid()[0]);
        // A client that does not trust it leaves, which is what tests of that want.
        let Ok(connection) = incoming.await else {
            return;
        };
        self.state().tunnels.0 += 1;
        let mut exporter = [0; 32];
        let label = tls::EXPORTER_LABEL;
        let exported = connection.export_keying_material(&mut exporter, label, &[]);
        exported.expect("32 bytes can be exported");
        let open = Arc::new(());
        let lanes = Lanes::default();
        tokio::spawn(pass_on(connection.clone(), Arc::clone(&lanes)));
        while let Ok((send, receive)) = connection.accept_bi().await {
            let held = Arc::clone(&open);
            let (fake, closing) = (self.clone(), connection.clone());
            let (give, datagrams) = channel();
            let lane = send.id().index();
            let mut all = lanes.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(lane, give);
            drop(all);
            let mut bridge = Bridge {
                runtime: Handle::current(),
                send,
                receive,
            };
            tokio::task::spawn_blocking(move || {
                drop(fake.serve_with(&mut bridge, &exporter, &datagrams));
                // As an end of the stream tells a client who says BYE; a cut tells one who does not.
                let _ = bridge.send.finish();
                let stopped = bridge.send.stopped();
                let wait = tokio::time::timeout(READ_TIME * 100, stopped);
                let _ = bridge.runtime.block_on(wait);
                // The last lane ends the connection; this copy, and that of who waits for more, are the last.
                if Arc::strong_count(&held) == 2 {
                    closing.close(0_u32.into(), b"");
                }
            });
        }
    }
}

/// Who takes the datagrams of each lane.
type Lanes = Arc<Mutex<HashMap<u64, Sender<Vec<u8>>>>>;

/// Give each datagram to its lane.
async fn pass_on(connection: Connection, lanes: Lanes) {
    while let Ok(datagram) = connection.read_datagram().await {
        let lane = Datagram::parse(&datagram).expect("two numbers").lane;
        let lanes = lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(&lane) {
            // One that has ended hears nothing.
            let _ = lane.send(datagram.to_vec());
        }
    }
}

/// A stream as blocking reads and writes; reads give up after a moment.
struct Bridge {
    runtime: Handle,
    send: SendStream,
    receive: RecvStream,
}

impl Read for Bridge {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let receive = &mut self.receive;
        let read = async { tokio::time::timeout(READ_TIME, receive.read(buffer)).await };
        match self.runtime.block_on(read) {
            Err(_) => Err(ErrorKind::WouldBlock.into()),
            Ok(Ok(bytes)) => Ok(bytes.unwrap_or(0)),
            Ok(Err(error)) => Err(std::io::Error::other(error)),
        }
    }
}

impl Write for Bridge {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.runtime.block_on(self.send.write(bytes));
        written.map_err(std::io::Error::other)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
