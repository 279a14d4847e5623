//! One tunnel: ciphertext in, plaintext out, and the other way. No socket, no clock.

use std::fmt;
use std::io::{BufRead, Write};

use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;
use rustls::{Connection, Error, HandshakeKind, ServerConnection};

use crate::asking::Shown;
use crate::http::HTTP;
use crate::link::LINK_PROTOCOL;
use crate::server::Terms;
use crate::shaking::{Shaken, Shaking, Standing};
use crate::{EXPORTER_BYTES, EXPORTER_LABEL, PROTOCOL};

/// Why a tunnel is of no more use. What [`Tunnel::flush`] then gives tells the peer, as far as it can be told.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Broken {
    /// TLS says so.
    #[error("{0}")]
    Tls(#[from] Error),
    /// Both sides agree on no application protocol.
    #[error("the peer does not speak forebay/1")]
    Protocol,
    /// The same, between a control plane and a node.
    #[error("the peer does not speak forebay-link/1")]
    LinkProtocol,
}

/// One side of a tunnel. Goes to another thread with its connection.
pub struct Tunnel {
    state: State,
    /// What both sides must have agreed on.
    protocol: &'static [u8],
    /// What a client of TLS 1.2 showed.
    shown: Option<Shown>,
    /// Whether the end was said, and whether the peer said its own.
    finished: bool,
    peer_finished: bool,
}

enum State {
    /// A client's, and a server's of TLS 1.2.
    Rustls(Box<Connection>),
    /// A server's, in its handshake.
    Shaking(Box<Shaking>),
    /// A server's.
    Stands(Box<Standing>),
    /// A server's that could not go on from its handshake, and what the client is still to be told.
    Gone(Vec<u8>),
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("stands", &self.stands())
            .finish_non_exhaustive()
    }
}

impl Tunnel {
    pub(crate) fn connecting(connection: Connection) -> Self {
        Self::in_state(State::Rustls(Box::new(connection)))
    }

    /// Either side of a link.
    pub(crate) fn linking(connection: Connection) -> Self {
        Self {
            protocol: LINK_PROTOCOL,
            ..Self::connecting(connection)
        }
    }

    /// Either side, for HTTP.
    pub(crate) fn for_http(connection: Connection) -> Self {
        Self {
            protocol: HTTP,
            ..Self::connecting(connection)
        }
    }

    pub(crate) fn accepting(connection: ServerConnection, terms: Terms) -> Self {
        Self::in_state(State::Shaking(Box::new(Shaking::new(connection, terms))))
    }

    fn in_state(state: State) -> Self {
        Self {
            state,
            protocol: PROTOCOL,
            shown: None,
            finished: false,
            peer_finished: false,
        }
    }

    /// Take what has come and add to `plaintext` what was in it. Then there may be something to [`flush`](Self::flush).
    ///
    /// Cuts may be anywhere; the start of a record is kept, at most one of 16 KiB. Bytes behind the peer's end are passed over.
    ///
    /// # Errors
    /// Why the tunnel ends here; plaintext that came before is in `plaintext`.
    pub fn receive(
        &mut self,
        mut ciphertext: &[u8],
        plaintext: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        if let State::Shaking(shaking) = &mut self.state {
            let done = shaking.receive(&mut ciphertext)?;
            self.peer_finished = shaking.peer_finished;
            if !done {
                return Ok(());
            }
            self.go_on()?;
        }
        match &mut self.state {
            State::Rustls(connection) => {
                let received = receive(connection, ciphertext, plaintext);
                self.peer_finished |= received?;
                let agreed = match self.alpn() {
                    None => self.protocol == HTTP,
                    agreed => agreed == Some(self.protocol),
                };
                match self.stands() && !agreed {
                    true if self.protocol == LINK_PROTOCOL => Err(Broken::LinkProtocol),
                    true => Err(Broken::Protocol),
                    false => Ok(()),
                }
            }
            State::Stands(standing) => {
                let received = standing.records.receive(ciphertext, plaintext);
                self.peer_finished = standing.records.peer_finished();
                received
            }
            State::Shaking(_) | State::Gone(_) => Ok(()),
        }
    }

    /// The handshake is done.
    fn go_on(&mut self) -> Result<(), Broken> {
        let gone = State::Gone(Vec::new());
        if let State::Shaking(shaking) = std::mem::replace(&mut self.state, gone) {
            self.state = match shaking.done()? {
                Shaken::Stands(standing) => State::Stands(standing),
                Shaken::Older(connection, shown) => {
                    self.shown = shown;
                    State::Rustls(connection)
                }
                Shaken::Refused(why, says) => {
                    self.state = State::Gone(says);
                    return Err(why);
                }
            };
        }
        Ok(())
    }

    fn alpn(&self) -> Option<&[u8]> {
        match &self.state {
            State::Rustls(connection) => connection.alpn_protocol(),
            _ => None,
        }
    }

    /// Whether the handshake is done: only then there is plaintext in either direction.
    pub fn stands(&self) -> bool {
        match &self.state {
            State::Rustls(connection) => !connection.is_handshaking(),
            State::Stands(_) => true,
            State::Shaking(_) | State::Gone(_) => false,
        }
    }

    /// The exporter value, once the tunnel stands.
    pub fn exporter(&self) -> Option<[u8; EXPORTER_BYTES]> {
        match &self.state {
            State::Rustls(connection) => {
                let output = [0; EXPORTER_BYTES];
                let exported = connection.export_keying_material(output, EXPORTER_LABEL, None);
                exported.ok().filter(|_| self.stands())
            }
            State::Stands(standing) => Some(standing.exporter),
            State::Shaking(_) | State::Gone(_) => None,
        }
    }

    /// The certificate that the peer showed, now or in the tunnel whose ticket made this one, and has the key of; known once it
    /// stands.
    pub fn shown(&self) -> Option<Shown> {
        match &self.state {
            State::Rustls(connection) => self.shown.or_else(|| {
                let chain = connection.peer_certificates();
                let chain = chain.filter(|_| self.stands())?;
                Shown::of(chain, false)
            }),
            State::Stands(standing) => standing.shown,
            State::Shaking(_) | State::Gone(_) => None,
        }
    }

    /// Whether the certificate that the peer of a link showed is for this name.
    pub fn names(&self, name: &str) -> bool {
        let State::Rustls(connection) = &self.state else {
            return false;
        };
        let chain = connection.peer_certificates().filter(|_| self.stands());
        let (Some(own), Ok(name)) = (
            chain.and_then(|chain| chain.first()),
            ServerName::try_from(name),
        ) else {
            return false;
        };
        let parsed = ParsedCertificate::try_from(own);
        parsed.is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
    }

    /// Bytes that are kept of what the peer showed: of TLS 1.3, none but which it was.
    pub fn shown_bytes(&self) -> usize {
        let chain = match &self.state {
            State::Rustls(connection) => connection.peer_certificates(),
            _ => None,
        };
        let chain = chain.unwrap_or_default();
        chain.iter().map(|each| each.len()).sum()
    }

    /// Bytes that are kept of a record whose rest has not come. Of TLS 1.2 it is not known, but in the handshake.
    pub fn kept_bytes(&self) -> usize {
        match &self.state {
            State::Shaking(shaking) => shaking.kept_bytes(),
            State::Stands(standing) => standing.records.kept_bytes(),
            State::Rustls(_) | State::Gone(_) => 0,
        }
    }

    /// Whether the peer said that it will send no more.
    pub fn peer_finished(&self) -> bool {
        self.peer_finished
    }

    /// Whether a ticket of an earlier tunnel made this one.
    pub fn resumed(&self) -> bool {
        match &self.state {
            State::Rustls(connection) => {
                connection.handshake_kind() == Some(HandshakeKind::Resumed)
            }
            State::Stands(standing) => standing.resumed,
            State::Shaking(_) | State::Gone(_) => false,
        }
    }

    /// Whether there is something to [`flush`](Self::flush).
    pub fn wants_flush(&self) -> bool {
        match &self.state {
            State::Rustls(connection) => connection.wants_write(),
            State::Shaking(shaking) => shaking.connection.wants_write(),
            State::Stands(standing) => standing.records.wants_flush(),
            State::Gone(says) => !says.is_empty(),
        }
    }

    /// Add to `out` what TLS itself has to say: handshake, tickets, key updates, alerts.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        match &mut self.state {
            State::Rustls(connection) => while write(connection, out) {},
            State::Shaking(shaking) => {
                let connection = &mut shaking.connection;
                while connection.wants_write()
                    && !matches!(connection.write_tls(out), Ok(0) | Err(_))
                {}
            }
            State::Stands(standing) => standing.records.flush(out),
            State::Gone(says) => out.append(says),
        }
    }

    /// Encrypt `plaintext` into records as full as can be, and add them to `out`. Nothing unless the tunnel [`stands`](Self::stands).
    pub fn send(&mut self, mut plaintext: &[u8], out: &mut Vec<u8>) {
        match &mut self.state {
            State::Rustls(connection) => {
                while !connection.is_handshaking() && !plaintext.is_empty() {
                    let Ok(taken @ 1..) = connection.writer().write(plaintext) else {
                        break;
                    };
                    plaintext = &plaintext[taken..];
                    while write(connection, out) {}
                }
            }
            State::Stands(standing) => standing.records.send(plaintext, out),
            State::Shaking(_) | State::Gone(_) => {}
        }
    }

    /// Say that nothing more will be sent, once.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.finished, true) {
            match &mut self.state {
                State::Rustls(connection) => connection.send_close_notify(),
                State::Shaking(shaking) => shaking.connection.send_close_notify(),
                State::Stands(standing) => return standing.records.finish(out),
                State::Gone(_) => {}
            }
        }
        self.flush(out);
    }
}

/// Take what has come, as rustls does. Whether the peer said that it will send no more.
fn receive(
    connection: &mut Connection,
    mut ciphertext: &[u8],
    plaintext: &mut Vec<u8>,
) -> Result<bool, Broken> {
    let mut finished = false;
    while !ciphertext.is_empty() {
        let taken = connection.read_tls(&mut ciphertext);
        let taken = taken.map_err(|error| Error::General(error.to_string()))?;
        let done = connection.process_new_packets();
        read(connection, plaintext);
        finished = done?.peer_has_closed();
        if taken == 0 {
            break;
        }
    }
    Ok(finished)
}

fn read(connection: &mut Connection, plaintext: &mut Vec<u8>) {
    let mut reader = connection.reader();
    // An error says that there is nothing, or that the peer has finished.
    while let Ok(chunk) = reader.fill_buf()
        && !chunk.is_empty()
    {
        plaintext.extend_from_slice(chunk);
        let bytes = chunk.len();
        reader.consume(bytes);
    }
}

/// Add to `out` what is to be written. Whether there was anything.
fn write(connection: &mut Connection, out: &mut Vec<u8>) -> bool {
    connection.wants_write() && !matches!(connection.write_tls(out), Ok(0) | Err(_))
}
