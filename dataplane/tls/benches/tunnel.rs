//! What a tunnel costs its server in memory, without sockets: opening and sealing, by the bytes of a record.
//!
//! `cargo bench -p forebay-tls --bench tunnel`. One JSON object a line: `{"what","value","unit"}`. Processor time of the fastest of many
//! rounds; nothing here asserts on a figure.
#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on shall say where"
)]

use std::time::Instant;

use tls::{Certificate, Client, Served, Server, Trust, Tunnel};

const ROUNDS: usize = 200;
/// What one receive buffer of the node brings.
const PIECE: usize = 64 << 10;

fn pass(from: &mut Tunnel, to: &mut Tunnel) -> bool {
    let (mut bytes, mut nothing) = (Vec::new(), Vec::new());
    from.flush(&mut bytes);
    to.receive(&bytes, &mut nothing).unwrap();
    !bytes.is_empty()
}

fn tell(what: &str, value: f64, unit: &str) {
    println!("{{\"what\":\"{what}\",\"value\":{value:.1},\"unit\":\"{unit}\"}}");
}

fn main() {
    if !std::env::args().any(|word| word == "--bench") {
        // `cargo test --benches` builds and starts this too; there is nothing to test.
        return;
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let certificate = Certificate::from_pem(pem.as_bytes(), key.as_bytes()).unwrap();
    let server = Server::new(Served::new(certificate)).unwrap();
    let client = Client::new(&Trust::Roots(pem.into_bytes()), "localhost").unwrap();
    let shake = || {
        let (mut left, mut right) = (client.tunnel().unwrap(), server.tunnel().unwrap());
        while pass(&mut left, &mut right) | pass(&mut right, &mut left) {}
        (left, right)
    };
    let began = Instant::now();
    (0..ROUNDS).for_each(|_| drop(shake()));
    tell(
        "tunnel/handshake/both",
        began.elapsed().as_secs_f64() * 1e6 / ROUNDS as f64,
        "us",
    );
    let (mut left, mut right) = shake();
    for bytes in [72, 160, 2_144, 8_576, 16_384] {
        let plain = vec![7; bytes];
        let records = (PIECE / bytes).max(1);
        let (mut open, mut seal) = (f64::MAX, f64::MAX);
        let (mut sealed, mut opened) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            sealed.clear();
            opened.clear();
            (0..records).for_each(|_| left.send(&plain, &mut sealed));
            let began = Instant::now();
            for piece in sealed.chunks(PIECE) {
                right.receive(piece, &mut opened).unwrap();
            }
            open = open.min(began.elapsed().as_nanos() as f64);
            assert_eq!(opened.len(), bytes * records);
            sealed.clear();
            let began = Instant::now();
            (0..records).for_each(|_| right.send(&plain, &mut sealed));
            seal = seal.min(began.elapsed().as_nanos() as f64);
            opened.clear();
            left.receive(&sealed, &mut opened).unwrap();
            assert_eq!(opened.len(), bytes * records);
        }
        for (what, nanos) in [("open", open), ("seal", seal)] {
            let each = nanos / records as f64;
            tell(&format!("tunnel/{what}/{bytes}"), each, "ns/record");
            tell(
                &format!("tunnel/{what}/{bytes}/rate"),
                bytes as f64 / each,
                "bytes/ns",
            );
        }
    }
}
