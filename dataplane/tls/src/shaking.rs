//! A server's handshake. rustls makes it, is handed whole records one at a time, and so keeps none that comes behind its end: there our own
//! records go on.

use std::io::Read;

use rustls::{
    CipherSuite, Connection, ConnectionTrafficSecrets, Error, HandshakeKind, ServerConnection,
    SupportedCipherSuite,
};

use zeroize::Zeroizing;

use crate::asking::Shown;
use crate::caught::{Caught, catching};
use crate::cryptography::aead::{AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305};
use crate::frames::Frames;
use crate::records::{Records, Secrets, Suite};
use crate::server::{Terms, alert_of};
use crate::tunnel::Broken;
use crate::{EXPORTER_BYTES, EXPORTER_LABEL, PROTOCOL};

/// Kinds of records, and bytes of one behind its header, in a handshake of any version.
const KINDS: std::ops::RangeInclusive<u8> = 20..=23;
const RECORD_BYTES_MAX: usize = (16 << 10) + 2_048;

/// A handshake that is not done.
pub(crate) struct Shaking {
    pub(crate) connection: ServerConnection,
    terms: Terms,
    frames: Frames,
    caught: Caught,
    pub(crate) peer_finished: bool,
}

/// What becomes of it when it is.
pub(crate) enum Shaken {
    /// Our own records go on.
    Stands(Box<Standing>),
    /// It is of TLS 1.2: rustls goes on. What was shown.
    Older(Box<Connection>, Option<Shown>),
    /// The certificate of its ticket is not taken any more: why, and what the client is told.
    Refused(Broken, Vec<u8>),
}

/// A tunnel whose handshake is done, and what is known from that.
pub(crate) struct Standing {
    pub(crate) records: Records,
    pub(crate) exporter: [u8; EXPORTER_BYTES],
    pub(crate) shown: Option<Shown>,
    pub(crate) resumed: bool,
}

impl Shaking {
    pub(crate) fn new(connection: ServerConnection, terms: Terms) -> Self {
        Self {
            connection,
            terms,
            frames: Frames::default(),
            caught: Caught::default(),
            peer_finished: false,
        }
    }

    /// Take what has come, up to the end of the handshake. Whether it is done.
    pub(crate) fn receive(&mut self, bytes: &mut &[u8]) -> Result<bool, Broken> {
        while let Some(record) = self.frames.next(bytes) {
            self.feed(&record)?;
            if !self.connection.is_handshaking() {
                return match self.connection.alpn_protocol() {
                    Some(PROTOCOL) => Ok(true),
                    _ => Err(Broken::Protocol),
                };
            }
        }
        let begun = self.frames.begun().unwrap_or_default().to_vec();
        let long = |high, low| usize::from(u16::from_be_bytes([high, low])) > RECORD_BYTES_MAX;
        match *begun {
            // What is no record at all rustls shall refuse in its own words.
            [kind, _, _, high, low, ..] if !KINDS.contains(&kind) || long(high, low) => {
                self.feed(&begun)?;
                Err(Error::General("bytes that are no record".to_owned()).into())
            }
            _ => Ok(false),
        }
    }

    fn feed(&mut self, mut record: &[u8]) -> Result<(), Broken> {
        while !record.is_empty() {
            let taken = self.connection.read_tls(&mut record as &mut dyn Read);
            let taken = taken.map_err(|error| Error::General(error.to_string()))?;
            let connection = &mut self.connection;
            let state = catching(&mut self.caught, || connection.process_new_packets())?;
            self.peer_finished = state.peer_has_closed();
            if taken == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Bytes that are kept of a record whose rest has not come.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.frames.kept_bytes()
    }

    /// Go on from its end.
    pub(crate) fn done(self) -> Result<Shaken, Broken> {
        let Self {
            mut connection,
            terms,
            caught,
            ..
        } = self;
        let refused = terms.still_take(&connection).err();
        let shown = terms.shown(&connection);
        let Some(SupportedCipherSuite::Tls13(suite)) = connection.negotiated_cipher_suite() else {
            return match refused {
                // Alerts of TLS 1.2 are rustls's, and it has none for this.
                Some(why) => Ok(Shaken::Refused(why.into(), Vec::new())),
                None => Ok(Shaken::Older(Box::new(connection.into()), shown)),
            };
        };
        let mut pending = Vec::new();
        while connection.wants_write() {
            let wrote = connection.write_tls(&mut pending);
            wrote.map_err(|error| Error::General(error.to_string()))?;
        }
        let output = [0; EXPORTER_BYTES];
        let exporter = connection.export_keying_material(output, EXPORTER_LABEL, None)?;
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let algorithm = match suite.common.suite {
            CipherSuite::TLS13_AES_256_GCM_SHA384 => &AES_256_GCM,
            CipherSuite::TLS13_AES_128_GCM_SHA256 => &AES_128_GCM,
            _ => &CHACHA20_POLY1305,
        };
        let counts = connection.dangerous_extract_secrets()?;
        let (Some(client), Some(server)) = (caught.client, caught.server) else {
            return Err(Error::HandshakeNotComplete.into());
        };
        let mut secrets = Secrets {
            receives: (client, counts.rx.0, vector(&counts.rx.1)?),
            sends: (server, counts.tx.0, vector(&counts.tx.1)?),
        };
        let suite = Suite { algorithm, suite };
        if let Some(why) = refused {
            let mut says = Vec::new();
            // The tickets that rustls has ready would bring it back as what it is no more: an alert goes in their place, if none has left.
            if records_in(&pending) == counts.tx.0 {
                secrets.sends.1 = 0;
                let alert = alert_of(&why);
                Records::new(suite, secrets, Vec::new())?.refuse(alert, &mut says);
            }
            return Ok(Shaken::Refused(why.into(), says));
        }
        Ok(Shaken::Stands(Box::new(Standing {
            records: Records::new(suite, secrets, pending)?,
            exporter,
            shown,
            resumed,
        })))
    }
}

/// Whole records in these bytes.
fn records_in(mut bytes: &[u8]) -> u64 {
    let mut frames = Frames::default();
    std::iter::from_fn(|| frames.next(&mut bytes).map(|_| ())).count() as u64
}

/// The initialization vector that rustls uses.
fn vector(secrets: &ConnectionTrafficSecrets) -> Result<Zeroizing<[u8; 12]>, Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { iv, .. }
        | ConnectionTrafficSecrets::Aes256Gcm { iv, .. }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { iv, .. } => {
            let iv = iv.as_ref().try_into().map(Zeroizing::new);
            iv.map_err(|_| Error::General("a vector of another length".to_owned()))
        }
        _ => Err(Error::HandshakeNotComplete),
    }
}
