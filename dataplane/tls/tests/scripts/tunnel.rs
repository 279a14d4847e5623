//! What clients and strangers do with a tunnel of the server's, as any bytes tell it: the one reading of tests and of the fuzz target.
//!
//! The first byte says whether both shake hands in peace before. Each further step is a byte and what it needs: the client speaks, what it
//! said comes in pieces, spoiled, twice or not at all, or bytes come that it never said.

use std::sync::OnceLock;

use tls::{Certificate, Client, Served, Server, Trust, Tunnel};

/// Steps of one script.
const STEPS_MAX: usize = 120;
/// Bytes that a server says of itself to one client: certificate, tickets, alerts, answers to key updates.
const SAID_MAX: usize = 16 << 10;

/// One server and who trusts it, for all scripts of a process.
pub(crate) struct Pair {
    server: Server,
    client: Client,
}

impl Pair {
    fn make() -> Self {
        let names = vec!["localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let certificate = Certificate::from_pem(pem.as_bytes(), key.as_bytes()).expect("a pair");
        let roots = Trust::Roots(pem.into_bytes());
        Self {
            server: Server::new(Served::new(certificate)).expect("random bytes"),
            client: Client::new(&roots, "localhost").expect("a name"),
        }
    }

    pub(crate) fn get() -> &'static Self {
        static PAIR: OnceLock<Pair> = OnceLock::new();
        PAIR.get_or_init(Self::make)
    }
}

/// What came of a script.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The tunnel stood at some time.
    pub(crate) stood: bool,
    /// It was broken by what came.
    pub(crate) broken: bool,
    /// Bytes that came out.
    pub(crate) plaintext: usize,
}

/// Bytes, one after the other, that decide what happens.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    /// A number up to `most`.
    fn up_to(&mut self, most: usize) -> usize {
        let number = [self.byte(), self.byte()].map(|byte| byte.unwrap_or(0));
        usize::from(u16::from_le_bytes(number)) % (most + 1)
    }

    fn bytes(&mut self, most: usize) -> &'a [u8] {
        let count = self.up_to(most).min(self.0.len());
        self.0.split_off(..count).unwrap_or_default()
    }
}

struct World<'a> {
    script: Script<'a>,
    client: Tunnel,
    server: Tunnel,
    /// What the client said that has not come, and all that has.
    way: Vec<u8>,
    before: Vec<u8>,
    /// Plaintext: what the client put in, and what came out.
    sent: Vec<u8>,
    got: Vec<u8>,
    said: Vec<u8>,
    said_bytes: usize,
    /// What the server is to say, and the client heard of it.
    answered: Vec<u8>,
    heard: Vec<u8>,
    outcome: Outcome,
}

/// Play a script to its end; panics where what must hold does not.
pub(crate) fn play(pair: &Pair, bytes: &[u8]) -> Outcome {
    let mut script = Script(bytes);
    let peace = script.byte().is_some_and(|byte| byte & 1 == 1);
    let mut world = World {
        script,
        client: pair.client.tunnel().expect("random bytes"),
        server: pair.server.tunnel().expect("random bytes"),
        way: Vec::new(),
        before: Vec::new(),
        sent: Vec::new(),
        got: Vec::new(),
        said: Vec::new(),
        said_bytes: 0,
        answered: Vec::new(),
        heard: Vec::new(),
        outcome: Outcome::default(),
    };
    if peace {
        world.shake();
        assert!(world.server.stands() && !world.outcome.broken);
    }
    for _ in 0..STEPS_MAX {
        let Some(step) = world.script.byte() else {
            break;
        };
        world.step(step);
        if world.outcome.broken {
            break;
        }
    }
    world.outcome.plaintext = world.got.len();
    world.outcome
}

impl World<'_> {
    fn shake(&mut self) {
        for _ in 0..4 {
            self.client.flush(&mut self.way);
            self.arrive(usize::MAX);
            self.answer(0);
        }
    }

    fn step(&mut self, step: u8) {
        self.client.flush(&mut self.way);
        match step % 12 {
            0 | 1 => self.arrive(usize::MAX),
            2 => {
                let count = self.script.up_to(3_000);
                self.arrive(count);
            }
            3 | 4 => self.speak(),
            5 => {
                let count = self.script.up_to(300);
                self.answer(count);
            }
            6 => {
                let (place, bits) = (self.place(), self.script.byte().unwrap_or(1));
                if let Some(byte) = self.way.get_mut(place) {
                    *byte ^= bits;
                }
            }
            7 => {
                let (from, count) = (self.place(), self.script.up_to(400));
                let until = (from + count).min(self.way.len());
                self.way.drain(from..until);
            }
            8 => {
                let place = self.place();
                let bytes = self.script.bytes(300);
                self.way.splice(place..place, bytes.iter().copied());
            }
            9 => self.repeat(),
            10 => {
                let bytes = self.script.bytes(600).to_vec();
                self.take(&bytes);
            }
            _ if self.client.stands() => self.client.finish(&mut self.way),
            _ => {}
        }
    }

    /// A place in what is under way.
    fn place(&mut self) -> usize {
        self.script.up_to(usize::from(u16::MAX)) % (self.way.len() + 1)
    }

    fn speak(&mut self) {
        let (count, first) = (self.script.up_to(20_000), self.sent.len());
        let words: Vec<u8> = (first..first + count).map(|at| (at % 251) as u8).collect();
        let before = self.way.len();
        self.client.send(&words, &mut self.way);
        if self.way.len() > before {
            self.sent.extend_from_slice(&words);
        }
    }

    /// Bytes that came before come again.
    fn repeat(&mut self) {
        let from = self.script.up_to(usize::from(u16::MAX)) % (self.before.len() + 1);
        let count = self.script.up_to(2_000);
        let until = (from + count).min(self.before.len());
        let bytes = self.before[from..until].to_vec();
        self.take(&bytes);
    }

    /// So many bytes of what is under way come.
    fn arrive(&mut self, count: usize) {
        let count = count.min(self.way.len());
        let bytes: Vec<u8> = self.way.drain(..count).collect();
        self.before.extend_from_slice(&bytes);
        self.take(&bytes);
    }

    /// The server is given bytes, and what must hold is looked at.
    fn take(&mut self, bytes: &[u8]) {
        let (ended, before) = (self.server.peer_finished(), self.got.len());
        let good = self.server.receive(bytes, &mut self.got).is_ok();
        self.outcome.broken |= !good;
        self.outcome.stood |= self.server.stands();
        assert!(
            self.sent.starts_with(&self.got),
            "plaintext that was not said"
        );
        assert!(self.server.stands() || self.got.is_empty());
        assert!(
            !ended || self.got.len() == before,
            "plaintext behind the end"
        );
        if good {
            assert_eq!(self.server.exporter().is_some(), self.server.stands());
        }
        let before = self.said.len();
        self.server.flush(&mut self.said);
        assert!(!self.server.wants_flush());
        self.said_bytes += self.said.len() - before;
        assert!(
            self.said_bytes <= SAID_MAX,
            "{} bytes of the server's own",
            self.said_bytes
        );
        if self.server.stands() && self.client.stands() && !self.outcome.broken {
            assert_eq!(self.server.exporter(), self.client.exporter());
        }
    }

    /// The server says something, and the client hears all that was said.
    fn answer(&mut self, count: usize) {
        let words = vec![7; count];
        let before = self.said.len();
        self.server.send(&words, &mut self.said);
        if self.said.len() > before {
            self.answered.extend_from_slice(&words);
        }
        let said = std::mem::take(&mut self.said);
        // A client whose bytes were spoiled may be told so, or find that there is no such tunnel.
        let _ = self.client.receive(&said, &mut self.heard);
        assert!(self.answered.starts_with(&self.heard));
    }
}
