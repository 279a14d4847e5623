//! What every client does: connect with a key, a token or a session to resume, and come back after losses.

use std::time::Duration;

use fastrand::Rng;
use wire::handshake::{Auth, HelloFields};
use wire::ids::{Direction, KeyId, SessionId, UnixNanos};
use wire::reason::Reason;
use wire::signature::SecretKey;
use wire::token::{Token, mint};

use crate::ledger::Ledger;
use crate::link::{Heard, Link};
use crate::network::{Actor, Network, Way};
use crate::plan;

/// What a client may touch in a step.
pub(crate) struct Context<'a> {
    pub(crate) random: &'a mut Rng,
    pub(crate) now: Duration,
    pub(crate) unix: UnixNanos,
    pub(crate) network: &'a mut Network,
    pub(crate) ledger: &'a mut Ledger,
    /// No more mischief and no new messages: let everything come to rest.
    pub(crate) calm: bool,
    /// Tell the history as it goes (`FOREBAY_SIM_TRACE=1`).
    pub(crate) loud: bool,
}

impl Context<'_> {
    /// A line of the history.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.loud {
            eprintln!("{:>12?} {}", self.now, what());
        }
    }
}

/// One client and its present connection.
pub(crate) struct Party {
    name: &'static str,
    actor: Actor,
    direction: Direction,
    key: SecretKey,
    by_token: bool,
    pub(crate) link: Option<Link>,
    resume: Option<(SessionId, [u8; 32])>,
    retry_at: Duration,
    pub(crate) open: bool,
    /// The shard that it was told to find.
    home: Option<usize>,
    /// What the present connection runs through, and the session to resume did.
    way: Way,
    tunnelled: bool,
    resuming: bool,
}

impl Party {
    pub(crate) fn new(
        name: &'static str,
        actor: Actor,
        direction: Direction,
        by_token: bool,
    ) -> Self {
        let key = plan::key_of(name, direction);
        Self {
            name,
            actor,
            direction,
            key,
            by_token,
            link: None,
            resume: None,
            retry_at: Duration::ZERO,
            open: false,
            home: None,
            way: Way::Plain,
            tunnelled: false,
            resuming: false,
        }
    }

    /// Connect if there is no connection and it is time to; `true` when a new one was begun.
    pub(crate) fn connect(&mut self, cx: &mut Context<'_>) -> bool {
        if self.link.is_some() || cx.now < self.retry_at || (!cx.calm && cx.random.u8(..3) > 0) {
            return false;
        }
        let (connection, way) = cx.network.connect(self.actor, self.home.take(), cx.random);
        self.way = way;
        let resumed = self.resume.take().filter(|_| cx.random.u8(..3) > 0);
        self.resuming = resumed.is_some();
        let expiry = cx.unix.seconds() + 1_000_000;
        let token = mint(
            self.key.mac(),
            &format!("sb://node/{}", self.name),
            expiry,
            self.key_name(),
        );
        let (auth, secret) = match resumed {
            Some((session, secret)) => (Auth::Resume(session), secret.to_vec()),
            None if self.by_token => {
                let parsed = Token::parse(&token).expect("it was just made");
                (
                    Auth::Token(&token),
                    parsed.expected_signature(self.key.mac()).to_vec(),
                )
            }
            None => (
                Auth::Key(KeyId(self.direction as u32)),
                self.key.text_bytes().to_vec(),
            ),
        };
        let mut nonce = [0; 32];
        cx.random.fill(&mut nonce);
        let unix_seconds = if cx.random.bool() {
            cx.unix.seconds()
        } else {
            0
        };
        let fields = HelloFields {
            auth,
            name: self.name,
            client_nonce: nonce,
            unix_seconds,
        };
        let link = Link::new(connection, secret, nonce, way.exporter().to_vec());
        let hello = link.hello(&fields);
        cx.network.send(connection, hello, cx.now, cx.random);
        self.link = Some(link);
        true
    }

    fn key_name(&self) -> &'static str {
        if self.direction == Direction::Ingress {
            "key-1"
        } else {
            "key-2"
        }
    }

    /// What the server said since the last step. Comings and goings are dealt with here.
    pub(crate) fn listen(&mut self, cx: &mut Context<'_>) -> Vec<Heard> {
        let Some(link) = &mut self.link else {
            return Vec::new();
        };
        let (bytes, ended) = cx
            .network
            .arrive_at_client(link.connection, cx.now, cx.random);
        let heard = link.receive(&bytes);
        for said in &heard {
            cx.tell(|| format!("{} hears {said:?}", self.name));
            match said {
                Heard::Welcome { .. } => {
                    self.open = true;
                    let plain = self.way.exporter().is_empty();
                    assert!(
                        !(self.resuming && self.tunnelled && plain),
                        "{}'s session left its tunnel",
                        self.name
                    );
                    self.tunnelled = !plain;
                    let resume = link.keys.as_ref().map(|keys| keys.resume);
                    self.resume = link.session.zip(resume);
                }
                Heard::Goaway(notice) => {
                    let wait = Duration::from_millis(u64::from(notice.retry_after_ms));
                    self.retry_at = cx.now + wait;
                }
                Heard::Refused(notice) => {
                    let known = matches!(
                        notice.reason,
                        Reason::KeyRevoked
                            | Reason::SessionUnknown
                            | Reason::SessionsFull
                            | Reason::BadCredential
                            | Reason::ClockSkew
                            | Reason::Draining
                            | Reason::Busy
                            | Reason::AnotherShard
                    );
                    if notice.reason == Reason::AnotherShard {
                        let stays = matches!(self.way, Way::Lane(..));
                        assert!(stays && self.direction == Direction::Egress, "{notice:?}");
                        assert!(notice.needed < notice.seen, "{notice:?}");
                        self.home = usize::try_from(notice.needed).ok();
                    }
                    assert!(known, "{} was refused: {notice:?}", self.name);
                    let resuming = notice.reason == Reason::SessionUnknown;
                    assert!(
                        resuming || notice.reason != Reason::BadCredential,
                        "{} {notice:?}",
                        self.name
                    );
                    self.retry_at = cx.now + Duration::from_millis(cx.random.u64(..200));
                }
                _ => {}
            }
        }
        if ended {
            self.lost(cx);
        }
        heard
    }

    /// The connection is gone.
    fn lost(&mut self, cx: &mut Context<'_>) {
        self.link = None;
        self.open = false;
        self.retry_at = cx.now + Duration::from_millis(cx.random.u64(..100));
    }

    /// Connect to this shard the next time.
    pub(crate) fn go_to(&mut self, shard: usize) {
        self.home = Some(shard);
    }

    /// Leave without a word.
    pub(crate) fn hang_up(&mut self, cx: &mut Context<'_>) {
        if let Some(link) = &self.link {
            cx.network.hang_up(link.connection, cx.now, cx.random);
            self.lost(cx);
        }
    }

    /// Send one signed frame; returns the position after it.
    pub(crate) fn send(
        &mut self,
        cx: &mut Context<'_>,
        encode: impl FnOnce(&mut Vec<u8>, wire::signature::Signer<'_>),
    ) -> u64 {
        let Some(link) = self.link.as_mut().filter(|_| self.open) else {
            return 0;
        };
        let Some(bytes) = link.frame(encode) else {
            return 0;
        };
        cx.network.send(link.connection, bytes, cx.now, cx.random)
    }
}
