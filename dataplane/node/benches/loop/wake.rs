//! From asleep to answered: one `local` message now and then, in turn with a bare echo of the same bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use std::time::{Duration, Instant};

use wire::ids::AckMode;

use crate::measure::pin;
use crate::measured::node::{Served, Setup, start_child};
use crate::measured::tell;
use crate::support::{Client, sender};

const MESSAGES: usize = 5_000;
const PAUSE: Duration = Duration::from_micros(500);

/// The echo in a child process.
struct Echo {
    child: Child,
    stream: TcpStream,
}

impl Echo {
    fn start(cpu: usize) -> Self {
        let (child, line) = start_child(&["echo", &cpu.to_string()]);
        let address: SocketAddr = line.trim().parse().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { child, stream }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Round trips, in turn. The pause before each lets both fall asleep.
pub(crate) fn wake() {
    pin(std::process::id(), true, 1);
    let echo = Echo::start(0);
    let node = Served::start(Setup {
        ack: AckMode::Local,
        senders: 1,
        partitions: 1,
        quic: false,
        cpu: Some(0),
    });
    let mut client = Client::connect(node.plain, &sender(0));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..MESSAGES {
        client.put_send(&[&[7; 100]]);
        let bytes = client.take_out();
        ours.push(round_trip(&mut client.stream, &bytes, false));
        theirs.push(round_trip(&mut &echo.stream, &bytes, true));
    }
    for (name, times) in [("node", &mut ours), ("echo", &mut theirs)] {
        times.sort_unstable();
        for (rank, percent) in [("p50", 50), ("p99", 99)] {
            tell(
                &format!("wake/{name}/{rank}"),
                times[times.len() * percent / 100] as f64 / 1e3,
                "us",
            );
        }
    }
    tell(
        "wake/ratio-of-p50",
        ours[MESSAGES / 2] as f64 / theirs[MESSAGES / 2] as f64,
        "",
    );
}

/// Nanoseconds from the write to the answer: the same bytes back, or one ACK.
fn round_trip(stream: &mut (impl Read + Write), bytes: &[u8], same: bool) -> u64 {
    let mut answer = [0; 4096];
    std::thread::sleep(PAUSE);
    let began = Instant::now();
    stream.write_all(bytes).unwrap();
    let mut got = stream.read(&mut answer).unwrap();
    while same && got < bytes.len() {
        got += stream.read(&mut answer).unwrap();
    }
    began.elapsed().as_nanos() as u64
}
