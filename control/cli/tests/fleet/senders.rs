//! Who sends while keys are revoked: parties whose turn comes, and others who must not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::{ClientError, Credentials, Message, Options, Sender};
use control::render::INGRESS_KEY_ID;

use super::world::{CHANNEL, Party};

/// Frames that one of the others keeps unanswered.
const WINDOW: usize = 16;

/// Open a session; `patience` is for how long a lost connection is made anew.
pub(crate) async fn open(
    address: &str,
    party: &Party,
    patience: Duration,
) -> Result<Sender, ClientError> {
    let credentials = Credentials::key(&party.name, INGRESS_KEY_ID, &party.secret)?;
    let options = Options {
        reconnect_for: patience,
        ..Options::default()
    };
    client::connect_with(address, credentials, options)
        .await?
        .sender()
}

/// Send one message and wait for its ACK.
pub(crate) async fn send(sender: &Sender) -> Result<(), ClientError> {
    let sent = sender.send(CHANNEL, Message::new("7")).await?;
    sent.await.map(drop)
}

/// What became of a session whose key was revoked.
pub(crate) struct Ended {
    /// When the last ACK came; none if none did.
    pub(crate) last: Option<Instant>,
    /// When it ended.
    pub(crate) at: Instant,
    /// The code it ended with.
    pub(crate) code: u16,
}

/// Send one message after another until the session ends.
pub(crate) async fn until_it_ends(sender: Sender, sent: Arc<AtomicU64>) -> Ended {
    let mut last = None;
    loop {
        match send(&sender).await {
            Ok(()) => {
                last = Some(Instant::now());
                sent.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                return Ended {
                    last,
                    at: Instant::now(),
                    code: error.diagnosis().code,
                };
            }
        }
    }
}

/// What the others did.
#[derive(Default)]
pub(crate) struct Others {
    pub(crate) stop: AtomicBool,
    pub(crate) acked: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Others {
    /// Keep frames under way until told to stop; whatever fails is counted.
    pub(crate) async fn send(self: Arc<Self>, address: String, party: Party) {
        let opened = open(&address, &party, Duration::ZERO).await;
        let Ok(sender) = opened else {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut waiting = std::collections::VecDeque::new();
        while !self.stop.load(Ordering::Relaxed) {
            match sender.send(CHANNEL, Message::new([7; 200])).await {
                Ok(ticket) => waiting.push_back(ticket),
                Err(_) => {
                    self.note(false);
                    break;
                }
            }
            if waiting.len() >= WINDOW {
                let ticket = waiting.pop_front().expect("there are some");
                self.note(ticket.await.is_ok());
            }
        }
        for ticket in waiting {
            self.note(ticket.await.is_ok());
        }
    }

    fn note(&self, acked: bool) {
        let count = if acked { &self.acked } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
