//! One slot of attackers: over and over the same attack, and what became of it.

use crate::attacker::Target;
use crate::attacks::TABLE;
use crate::world::{BAIT, World};
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// Bytes that wait for each hostile receiver: more than the sockets between take.
const BAIT_BYTES: usize = 16 << 20;
const BAIT_BODY_BYTES: usize = 200_000;
/// What became of the attackers of one kind.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) closed: u64,
    /// Closed before the attack had come to its point.
    pub(crate) early: u64,
    pub(crate) longest: Duration,
    pub(crate) faults: Vec<String>,
}

fn early(error: &Error) -> bool {
    let kind = error.kind();
    kind == ErrorKind::ConnectionAborted
        || kind == ErrorKind::ConnectionReset
        || kind == ErrorKind::BrokenPipe
        || kind == ErrorKind::UnexpectedEof
}

/// One slot attacks over and over until told to stop.
pub(crate) async fn attack(slot: usize, target: Target, seed: u64, stop: Arc<AtomicBool>) -> Tally {
    let row = &TABLE[slot % TABLE.len()];
    let mut random = fastrand::Rng::with_seed(seed.wrapping_add(slot as u64));
    let mut tally = Tally::default();
    loop {
        match row.attack(&target, &mut random).await {
            Ok(closed) => {
                tally.closed += 1;
                tally.longest = tally.longest.max(closed.0);
            }
            Err(error) if early(&error) => tally.early += 1,
            Err(error) => tally.faults.push(error.to_string()),
        }
        if stop.load(Ordering::Relaxed) {
            return tally;
        }
        sleep(Duration::from_millis(random.u64(500..1_500))).await;
    }
}

/// Put into the queues of hostile receivers what they will not read.
pub(crate) async fn bait(address: &str, world: &World) {
    let connection = client::connect(address, world.baiter.clone())
        .await
        .expect("the node is ready");
    let sender = connection.sender().expect("an ingress key sends");
    for _ in 0..BAIT_BYTES / BAIT_BODY_BYTES {
        let message = client::Message::new(vec![7; BAIT_BODY_BYTES]);
        let ticket = sender.send(BAIT, message).await.expect("the session lives");
        ticket.await.expect("it is acknowledged");
    }
    sender.close().await.expect("nothing is unanswered");
}
