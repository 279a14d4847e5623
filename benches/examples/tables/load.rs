//! Those who send, and how long they wait for acknowledgements.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::{Credentials, Message};

use crate::model::{CHANNELS, SENDERS, name, secret};

/// Those who send, one message at a time each, until told to end.
pub(crate) struct Load {
    ending: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    acked: crossbeam_channel::Receiver<Duration>,
}

pub(crate) fn load(address: std::net::SocketAddr, first: usize) -> Load {
    let ending = Arc::new(AtomicBool::new(false));
    let (tell, acked) = crossbeam_channel::unbounded();
    let own = Arc::clone(&ending);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let local = tokio::task::LocalSet::new();
        for number in first..first + SENDERS {
            let (own, tell) = (Arc::clone(&own), tell.clone());
            local.spawn_local(async move {
                let credentials =
                    Credentials::key(&name(number), 1, secret(number).text()).unwrap();
                let connection = client::connect(address.to_string(), credentials)
                    .await
                    .unwrap();
                let sender = connection.sender().unwrap();
                let channel = format!("acme/prod/channel-{}", number % CHANNELS);
                while !own.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    let ticket = sender.send(&channel, Message::new("21.5")).await.unwrap();
                    ticket.await.unwrap();
                    tell.send(begin.elapsed()).unwrap();
                    tokio::time::sleep(Duration::from_millis(4)).await;
                }
                sender.close().await.unwrap();
            });
        }
        runtime.block_on(local);
    });
    Load {
        ending,
        threads: vec![thread],
        acked,
    }
}

/// How long acknowledgements took, in order.
pub(crate) struct Seen(Vec<Duration>);

impl Seen {
    pub(crate) fn of(mut took: Vec<Duration>) -> Self {
        assert!(!took.is_empty(), "nothing was acknowledged");
        took.sort_unstable();
        Self(took)
    }

    /// The latency that one in a hundred exceeds, in microseconds.
    pub(crate) fn p99(&self) -> f64 {
        self.at(990)
    }

    fn at(&self, thousandths: usize) -> f64 {
        let at = self.0.len() * thousandths / 1_000;
        self.0[at].as_secs_f64() * 1e6
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [half, p90, p99, p999] = [500, 900, 990, 999].map(|at| self.at(at));
        write!(f, "{} acks, half {half:.0} us, ", self.0.len())?;
        write!(f, "p90 {p90:.0}, p99 {p99:.0}, p99.9 {p999:.0}")
    }
}

impl Load {
    /// What was acknowledged while this went on.
    pub(crate) fn during(&self, work: impl FnOnce()) -> Vec<Duration> {
        self.acked.try_iter().for_each(drop);
        work();
        self.acked.try_iter().collect()
    }

    /// Whoever was refused anything has panicked.
    pub(crate) fn end(self) {
        self.ending.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        threads.for_each(|thread| thread.join().unwrap());
    }
}
