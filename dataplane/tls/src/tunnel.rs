//! One tunnel: ciphertext in, plaintext out, and the other way. No socket, no clock.

use std::fmt;
use std::io::{BufRead, Write};

use rustls::{Connection, Error, HandshakeKind};

use crate::asking;
use crate::certificate::Fingerprint;
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
}

/// One side of a tunnel. Goes to another thread with its connection.
pub struct Tunnel {
    connection: Connection,
    /// Whether the end was said, and whether the peer said its own.
    finished: bool,
    peer_finished: bool,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("stands", &self.stands())
            .finish_non_exhaustive()
    }
}

impl Tunnel {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
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
        while !ciphertext.is_empty() {
            let taken = self.connection.read_tls(&mut ciphertext);
            let taken = taken.map_err(|error| Error::General(error.to_string()))?;
            let done = self.connection.process_new_packets();
            self.read(plaintext);
            self.peer_finished = done?.peer_has_closed();
            if taken == 0 {
                break;
            }
        }
        match self.stands() && self.connection.alpn_protocol() != Some(PROTOCOL) {
            true => Err(Broken::Protocol),
            false => Ok(()),
        }
    }

    fn read(&mut self, plaintext: &mut Vec<u8>) {
        let mut reader = self.connection.reader();
        // An error says that there is nothing, or that the peer has finished.
        while let Ok(chunk) = reader.fill_buf()
            && !chunk.is_empty()
        {
            plaintext.extend_from_slice(chunk);
            let bytes = chunk.len();
            reader.consume(bytes);
        }
    }

    /// Whether the handshake is done: only then there is plaintext in either direction.
    pub fn stands(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// The exporter value, once the tunnel stands.
    pub fn exporter(&self) -> Option<[u8; EXPORTER_BYTES]> {
        let output = [0; EXPORTER_BYTES];
        let exported = self
            .connection
            .export_keying_material(output, EXPORTER_LABEL, None);
        exported.ok().filter(|_| self.stands())
    }

    /// The certificate that the peer showed, now or in the tunnel whose ticket made this one, and has the key of; known once it
    /// stands.
    pub fn shown(&self) -> Option<Fingerprint> {
        let chain = self.connection.peer_certificates();
        chain.filter(|_| self.stands()).and_then(asking::shown)
    }

    /// Bytes that are kept of what the peer showed.
    pub fn shown_bytes(&self) -> usize {
        let chain = self.connection.peer_certificates().unwrap_or_default();
        chain.iter().map(|each| each.len()).sum()
    }

    /// Whether the peer said that it will send no more.
    pub fn peer_finished(&self) -> bool {
        self.peer_finished
    }

    /// Whether a ticket of an earlier tunnel made this one.
    pub fn resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether there is something to [`flush`](Self::flush).
    pub fn wants_flush(&self) -> bool {
        self.connection.wants_write()
    }

    /// Add to `out` what TLS itself has to say: handshake, tickets, key updates, alerts.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            if let Ok(0) | Err(_) = self.connection.write_tls(out) {
                break;
            }
        }
    }

    /// Encrypt `plaintext` into records as full as can be, and add them to `out`. Nothing unless the tunnel [`stands`](Self::stands).
    pub fn send(&mut self, mut plaintext: &[u8], out: &mut Vec<u8>) {
        while self.stands() && !plaintext.is_empty() {
            let Ok(taken @ 1..) = self.connection.writer().write(plaintext) else {
                break;
            };
            plaintext = &plaintext[taken..];
            self.flush(out);
        }
    }

    /// Say that nothing more will be sent, once.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.finished, true) {
            self.connection.send_close_notify();
        }
        self.flush(out);
    }
}
