//! The bare protocol in memory: what `quinn-proto` costs the receiving side for a message, on one long stream and on a stream for each.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::{
    Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, Event, ReadError,
    ServerConfig, StreamId, TransportConfig, VarInt,
};
use rustix::time::{ClockId, clock_gettime};
use tls::rustls;

use crate::client::config;
use crate::measured::tell;

/// Bytes of a message with its share of a frame.
const MESSAGE: [u8; 128] = [7; 128];
const MESSAGES: usize = 200_000;
const WARM: usize = 20_000;
const ACK_AFTER: u32 = 10;
/// Far more than it takes.
const ROUNDS_MAX: usize = 3_000_000;

pub(crate) fn bare() {
    for turn in 0..3 {
        let long = receive(false);
        let each = receive(true);
        tell(
            &format!("bare/{turn}/long-stream"),
            long.nanos,
            "ns/message",
        );
        tell(
            &format!("bare/{turn}/stream-a-message"),
            each.nanos,
            "ns/message",
        );
        tell(
            &format!("bare/{turn}/stream-against-long"),
            each.nanos / long.nanos,
            "x",
        );
        tell(
            &format!("bare/{turn}/messages-a-datagram"),
            long.packed,
            "messages",
        );
    }
}

struct Cost {
    nanos: f64,
    packed: f64,
}

fn thread_nanos() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// One side.
struct Side {
    endpoint: Endpoint,
    link: Option<(ConnectionHandle, Connection)>,
    /// Why the connection is over.
    lost: Option<String>,
    address: SocketAddr,
}

impl Side {
    fn take(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let mut answer = Vec::new();
        let bytes = BytesMut::from(datagram);
        match self
            .endpoint
            .handle(now, from, None, None, bytes, &mut answer)
        {
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.endpoint.accept(incoming, now, &mut answer, None);
                match accepted {
                    Ok(link) => self.link = Some(link),
                    Err(error) => self.lost = Some(error.cause.to_string()),
                }
            }
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut self.link {
                    connection.handle_event(event);
                }
            }
            _ => {}
        }
    }

    fn settle(&mut self) {
        let Some((handle, connection)) = &mut self.link else {
            return;
        };
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        while let Some(event) = connection.poll() {
            if let Event::ConnectionLost { reason } = event {
                self.lost = Some(reason.to_string());
            }
        }
    }

    fn give(&mut self, now: Instant, to: &mut VecDeque<Vec<u8>>) {
        self.settle();
        let Some((_, connection)) = &mut self.link else {
            return;
        };
        let mut bytes = Vec::new();
        while let Some(transmit) = connection.poll_transmit(now, 10, &mut bytes) {
            let each = transmit.segment_size.unwrap_or(transmit.size);
            to.extend(bytes[..transmit.size].chunks(each).map(<[u8]>::to_vec));
            bytes.clear();
        }
    }
}

/// Carry messages; the receiving side's time for each.
fn receive(stream_each: bool) -> Cost {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    tls.alpn_protocols = vec![tls::PROTOCOL.to_vec()];
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    server.transport_config(Arc::new(transport()));
    let mut own = config(made.cert.pem().as_bytes(), tls::PROTOCOL);
    own.transport_config(Arc::new(transport()));
    let addresses = [1, 2].map(|last| SocketAddr::from(([192, 0, 2, last], 443)));
    let endpoint = |server| Endpoint::new(Arc::new(EndpointConfig::default()), server, false, None);
    let mut now = Instant::now();
    let mut receiver = Side {
        endpoint: endpoint(Some(Arc::new(server))),
        link: None,
        lost: None,
        address: addresses[0],
    };
    let mut sender = Side {
        endpoint: endpoint(None),
        link: None,
        lost: None,
        address: addresses[1],
    };
    sender.link = Some(
        sender
            .endpoint
            .connect(now, own, receiver.address, "localhost")
            .unwrap(),
    );
    let (mut up, mut down) = (VecDeque::new(), VecDeque::new());
    let (mut said, mut heard, mut packets) = (0, 0_usize, 0_usize);
    let mut streams: Vec<StreamId> = Vec::new();
    let (mut spent, mut long) = (0.0, None);
    let mut rounds = 0;
    while heard < (WARM + MESSAGES) * MESSAGE.len() {
        now += Duration::from_micros(100);
        rounds += 1;
        assert!(
            rounds < ROUNDS_MAX,
            "{said} bytes said, {heard} heard, sender {:?}, receiver {:?}",
            sender.lost,
            receiver.lost
        );
        if let Some((_, connection)) = &mut sender.link
            && connection.poll_timeout().is_some_and(|at| at <= now)
        {
            connection.handle_timeout(now);
        }
        say(&mut sender, stream_each, &mut said, &mut long);
        sender.give(now, &mut up);
        let timed = heard >= WARM * MESSAGE.len();
        let before = thread_nanos();
        for datagram in &up {
            receiver.take(now, sender.address, datagram);
        }
        if let Some((_, connection)) = &mut receiver.link {
            if connection.poll_timeout().is_some_and(|at| at <= now) {
                connection.handle_timeout(now);
            }
            heard += hear(connection, &mut streams);
        }
        receiver.give(now, &mut down);
        if timed {
            spent += thread_nanos() - before;
            packets += up.len();
        }
        up.clear();
        for datagram in down.drain(..) {
            sender.take(now, receiver.address, &datagram);
        }
    }
    Cost {
        nanos: spent / MESSAGES as f64,
        packed: MESSAGES as f64 / packets as f64,
    }
}

fn transport() -> TransportConfig {
    let mut acks = quinn_proto::AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_AFTER));
    let mut transport = TransportConfig::default();
    transport.ack_frequency_config(Some(acks));
    transport.max_concurrent_uni_streams(VarInt::from_u32(1_000));
    transport
}

/// Say as much as goes.
fn say(sender: &mut Side, stream_each: bool, said: &mut usize, long: &mut Option<StreamId>) {
    let Some((_, connection)) = &mut sender.link else {
        return;
    };
    if connection.is_handshaking() {
        return;
    }
    for _ in 0..512 {
        if stream_each {
            let Some(stream) = connection.streams().open(Dir::Uni) else {
                return;
            };
            if connection.send_stream(stream).write(&MESSAGE).is_err() {
                return;
            }
            connection.send_stream(stream).finish().unwrap();
            *said += MESSAGE.len();
            continue;
        }
        if long.is_none() {
            *long = connection.streams().open(Dir::Uni);
        }
        let Some(stream) = *long else { return };
        let rest = MESSAGE.len() - *said % MESSAGE.len();
        match connection.send_stream(stream).write(&MESSAGE[..rest]) {
            Ok(bytes) => *said += bytes,
            Err(_) => return,
        }
    }
}

/// Take what has come of all streams. Returns how many bytes.
fn hear(connection: &mut Connection, streams: &mut Vec<StreamId>) -> usize {
    let mut bytes = 0;
    while let Some(stream) = connection.streams().accept(Dir::Uni) {
        streams.push(stream);
    }
    streams.retain(|stream| {
        let mut recv = connection.recv_stream(*stream);
        let Ok(mut chunks) = recv.read(true) else {
            return false;
        };
        let open = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => bytes += chunk.bytes.len(),
                Ok(None) => break false,
                Err(ReadError::Blocked) => break true,
                Err(error) => panic!("{error}"),
            }
        };
        let _ = chunks.finalize();
        open
    });
    bytes
}
