//! A flood of handshakes that nobody means to end, beside senders who do their work.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Quic, config, first_packets, runtime};
use crate::measured::tell;
use crate::support::{metric, sender};
use crate::{shard_nanos, start};

const SENDERS: usize = 4;
/// Handshakes a second: five times what one core could do, at 0.4 ms each.
const PER_SECOND: f64 = 12_500.0;
const LENGTH: Duration = Duration::from_secs(5);
/// Messages of a frame, and frames on their way together.
const MESSAGES: usize = 16;
const FRAMES: usize = 16;

/// The senders' throughput alone and in the flood, in turn.
pub(crate) fn flood() {
    let node = start(SENDERS);
    let runtime = runtime();
    let own = config(&node.authority(), tls::PROTOCOL);
    let packets = Arc::new(first_packets(&own, node.secure, 4_096));
    let mut lanes: Vec<_> = (0..SENDERS)
        .map(|number| {
            let quic = Quic::connect(&runtime, node.secure, own.clone());
            let client = quic.client(&sender(number));
            (quic, client)
        })
        .collect();
    let mut rate = || {
        let (began, mut messages) = (Instant::now(), 0);
        while began.elapsed() < LENGTH {
            for (_, client) in &mut lanes {
                (0..FRAMES).for_each(|_| client.put_send(&[&[7; 96][..]; MESSAGES]));
                client.flush();
            }
            for (_, client) in &mut lanes {
                client.wait_acked(client.sequence - 1);
                messages += MESSAGES * FRAMES;
            }
            // No faster than segments are prepared.
            std::thread::sleep(Duration::from_millis(1));
        }
        messages as f64 / began.elapsed().as_secs_f64()
    };
    let count = |series: &str| metric(node.admin, series).unwrap();
    let mut shares = Vec::new();
    rate();
    for _ in 0..3 {
        let alone = rate();
        let spent = shard_nanos(&node);
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let flooder = {
            let (stop, sent, packets) =
                (Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&packets));
            let to = node.secure;
            std::thread::spawn(move || pour(&packets, to, &stop, &sent))
        };
        let flooded = rate();
        stop.store(true, Ordering::Relaxed);
        flooder.join().unwrap();
        let spent = (shard_nanos(&node) - spent) / LENGTH.as_nanos() as f64;
        shares.push(flooded / alone);
        tell(
            "flood/handshakes",
            sent.load(Ordering::Relaxed) as f64 / LENGTH.as_secs_f64(),
            "a second",
        );
        tell("flood/throughput", flooded / alone, "of that alone");
        tell("flood/shard", spent, "of a core");
    }
    shares.sort_by(f64::total_cmp);
    tell("flood/throughput-middle", shares[1], "of that alone");
    for event in ["begun", "done", "failed", "ignored", "retry"] {
        let series = format!("forebay_quic_handshakes_total{{event=\"{event}\"}}");
        tell(&format!("flood/{event}"), count(&series), "handshakes");
    }
    tell(
        "flood/retry-periods",
        count("forebay_quic_retry_periods_total"),
        "times",
    );
    std::thread::sleep(Duration::from_secs(1));
    tell(
        "flood/retrying-after-1-s",
        count("forebay_quic_retrying_shards"),
        "shards",
    );
}

/// Send them at the rate, from many ports; what is answered is not read.
fn pour(packets: &[Vec<u8>], to: std::net::SocketAddr, stop: &AtomicBool, sent: &AtomicU64) {
    let sockets: Vec<UdpSocket> = (0..64)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    let began = Instant::now();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let due = (began.elapsed().as_secs_f64() * PER_SECOND) as u64;
        while number < due {
            let packet = &packets[number as usize % packets.len()];
            let socket = &sockets[number as usize % sockets.len()];
            // A full buffer on the way is a lost packet like any other.
            let _ = socket.send_to(packet, to);
            number += 1;
        }
        sent.store(number, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
    }
}
