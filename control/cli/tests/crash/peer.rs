//! A client of the tests: the real handshake and signatures over one plain blocking socket, and nothing that a test would
//! not see, no reconnecting, no resending, no settling by itself.

use client::Credentials;
use client::handshake::{ChannelTerms, Opening, Seal};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wire::frame::{Frame, split};
use wire::signature::Signer;

/// For every answer to a HELLO; none is meant to come near it.
const PATIENCE: Duration = Duration::from_secs(30);

/// One open session.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The socket, for tests that misuse it.
    pub(crate) stream: TcpStream,
    /// Signs what is sent, checks what comes.
    pub(crate) seal: Seal,
    /// What it may send to, or hears.
    pub(crate) channels: Vec<ChannelTerms>,
    input: Vec<u8>,
    taken: usize,
}

/// Preface and HELLO, as one flight, and what reads the answer.
pub(crate) fn opening(credentials: &Credentials, random: &mut fastrand::Rng) -> (Opening, Vec<u8>) {
    let mut nonce = [0; 32];
    random.fill(&mut nonce);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |since| since.as_secs());
    Opening::begin(credentials, None, nonce, seconds, None).expect("credentials that fit a HELLO")
}

impl Peer {
    /// Connect and say HELLO.
    ///
    /// # Errors
    /// As the socket says; a refusal is `ConnectionRefused`.
    pub(crate) fn open(
        address: &str,
        credentials: &Credentials,
        random: &mut fastrand::Rng,
    ) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (opening, flight) = opening(credentials, random);
        stream.write_all(&flight)?;
        let mut input = Vec::new();
        loop {
            let answer = opening.read(&input);
            let refused = |error| std::io::Error::new(ErrorKind::ConnectionRefused, error);
            if let Some((opened, taken)) = answer.map_err(refused)? {
                return Ok(Self {
                    stream,
                    seal: opened.seal,
                    channels: opened.channels,
                    input,
                    taken,
                });
            }
            read_more(&mut stream, &mut input)?;
        }
    }

    /// Sign one frame and send it.
    ///
    /// # Errors
    /// As the socket says.
    pub(crate) fn say(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>, Signer<'_>),
    ) -> std::io::Result<()> {
        let mut out = Vec::new();
        encode(&mut out, self.seal.signer());
        self.stream.write_all(&out)
    }

    /// Take the next frame, its signature checked; `None` when none came within `patience`.
    ///
    /// # Errors
    /// As the socket says, the end of the stream included.
    pub(crate) fn next<T>(
        &mut self,
        patience: Duration,
        take: impl FnOnce(Frame<'_>) -> T,
    ) -> std::io::Result<Option<T>> {
        let by = Instant::now() + patience;
        loop {
            if let Some((frame, rest)) = split(&self.input[self.taken..]).expect("a good header") {
                self.taken = self.input.len() - rest.len();
                assert!(self.seal.check(&frame), "a bad signature on {frame:?}");
                return Ok(Some(take(frame)));
            }
            self.input.drain(..self.taken);
            self.taken = 0;
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            match read_more(&mut self.stream, &mut self.input) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                other => other?,
            }
        }
    }
}

fn read_more(stream: &mut TcpStream, input: &mut Vec<u8>) -> std::io::Result<()> {
    let mut piece = [0; 64 << 10];
    match stream.read(&mut piece) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(bytes) => {
            input.extend_from_slice(&piece[..bytes]);
            Ok(())
        }
        // Nothing came yet, and the caller looks again.
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(error),
    }
}
