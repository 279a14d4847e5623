//! The handshake without a socket: the bytes to send, and what the server's answer means.

use crate::credentials::Credentials;
use crate::diagnosis::{ClientError, refusal};
use wire::frame::{Frame, FrameKind, split};
use wire::handshake::{Auth, HelloFields, Welcome, WelcomeFields, encode_hello};
use wire::ids::{AckMode, ChannelId, PartitionId, Sequence, SessionId};
use wire::preface::Preface;
use wire::signature::{SessionKeys, Signer, verify_session};
use zeroize::Zeroizing;

/// What reopens a session after its connection dropped. `Debug` does not show the secret.
#[derive(Clone)]
pub struct Resume {
    session: SessionId,
    secret: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Resume {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Resume({})", self.session)
    }
}

/// A channel as WELCOME lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelTerms {
    /// The channel.
    pub id: ChannelId,
    /// Its full name.
    pub name: String,
    /// The partition that holds this endpoint's messages; 0 for receivers.
    pub partition: PartitionId,
    /// Highest sequence of this endpoint in that partition, appended and committed.
    pub last_sequence: Sequence,
    /// What an ack of this channel promises.
    pub ack_mode: AckMode,
}

/// An open session.
#[derive(Debug)]
pub struct Opened {
    /// The server's limits, credit and times.
    pub terms: WelcomeFields,
    /// Channels this endpoint may send to, or hears.
    pub channels: Vec<ChannelTerms>,
    /// Signs and checks this connection's frames.
    pub seal: Seal,
}

/// The session's keys and the frame indexes of one connection.
///
/// Each direction counts its frames after the handshake; the index is signed and never sent, so no frame can be
/// dropped, repeated or moved on the way.
#[derive(Debug)]
pub struct Seal {
    keys: SessionKeys,
    session: SessionId,
    /// Index of the next frame to be signed.
    pub sent: u64,
    received: u64,
}

impl Seal {
    /// The signer of the next frame; each call takes one index.
    pub fn signer(&mut self) -> Signer<'_> {
        self.sent += 1;
        Signer::Session {
            key: &self.keys.client,
            frame_index: self.sent - 1,
        }
    }

    /// The signer of a SEND in a datagram of this number. It takes no index.
    pub fn datagram_signer(&self, number: u64) -> Signer<'_> {
        Signer::Datagram {
            key: &self.keys.client,
            number,
        }
    }

    /// The key that signs datagrams, for who keeps it beside the connection.
    #[cfg(feature = "quic")]
    pub(crate) fn client_key(&self) -> wire::signature::MacKey {
        self.keys.client.clone()
    }

    /// Whether the server signed this frame as the next one of this connection.
    pub fn check(&mut self, frame: &Frame<'_>) -> bool {
        let good = verify_session(&self.keys.server, self.received, frame);
        self.received += 1;
        good
    }

    /// A seal for tests that have no server; both ends derive the same keys.
    #[cfg(test)]
    pub(crate) fn for_tests() -> (Self, SessionKeys) {
        let session = SessionId([1; 16]);
        let keys = || SessionKeys::derive(b"secret", &[2; 32], &[3; 32], session, &[]);
        (
            Self {
                keys: keys(),
                session,
                sent: 0,
                received: 0,
            },
            keys(),
        )
    }

    /// What reopens this session on another connection.
    pub fn resume(&self) -> Resume {
        Resume {
            session: self.session,
            secret: Zeroizing::new(self.keys.resume),
        }
    }
}

/// A handshake under way.
pub struct Opening {
    secret: Zeroizing<Vec<u8>>,
    nonce: [u8; 32],
    exporter: Option<[u8; 32]>,
}

impl Opening {
    /// Begin: returns the preface and HELLO, to be sent in one flight.
    ///
    /// `nonce` must be random and used once; `unix_seconds` is 0 without a clock. With `resume` the session's own
    /// secret proves the sender, otherwise the credential does. `exporter` is that of the tunnel the connection runs through
    /// (`PROTOCOL.md`, section 4), `None` on a plain one: both sides must name the same, or the server does not know the sender.
    ///
    /// # Errors
    /// `FB-5104` when the credential does not fit a HELLO.
    pub fn begin(
        credentials: &Credentials,
        resume: Option<&Resume>,
        nonce: [u8; 32],
        unix_seconds: u64,
        exporter: Option<&[u8; 32]>,
    ) -> Result<(Self, Vec<u8>), ClientError> {
        let (auth, secret) = match resume {
            Some(resume) => (Auth::Resume(resume.session), resume.secret.to_vec()),
            None => (credentials.auth(), credentials.secret().to_vec()),
        };
        let secret = Zeroizing::new(secret);
        let fields = HelloFields {
            auth,
            name: credentials.endpoint(),
            client_nonce: nonce,
            unix_seconds,
        };
        let mut flight = Preface::CLIENT.encode().to_vec();
        let bound = exporter.map_or(&[][..], |exporter| exporter);
        encode_hello(&mut flight, &fields, &secret, bound)
            .map_err(|error| ClientError::Protocol(error.to_string()))?;
        let opening = Self {
            secret,
            nonce,
            exporter: exporter.copied(),
        };
        Ok((opening, flight))
    }

    /// Look at everything the server has sent so far: `None` asks for more, otherwise the session and how many bytes
    /// its opening took.
    ///
    /// # Errors
    /// `Refused` as the server says it, `Version`, `Protocol`, or `ServerSignature` when the server does not know the
    /// secret either.
    pub fn read(&self, bytes: &[u8]) -> Result<Option<(Opened, usize)>, ClientError> {
        let broken = |error: wire::ParseError| ClientError::Protocol(error.to_string());
        let Some((preface, rest)) = Preface::parse(bytes).map_err(broken)? else {
            return Ok(None);
        };
        if preface.chosen != Preface::CLIENT.max {
            return Err(ClientError::Version {
                seen: (preface.min, preface.max),
            });
        }
        let Some((frame, rest)) = split(rest).map_err(broken)? else {
            return Ok(None);
        };
        let opened = match frame.kind() {
            FrameKind::Welcome => self.welcome(&Welcome::parse(frame).map_err(broken)?)?,
            FrameKind::Refused | FrameKind::Goaway => {
                return Err(refusal(frame).map_err(broken)?);
            }
            other => {
                return Err(ClientError::Protocol(format!(
                    "{other:?} instead of WELCOME"
                )));
            }
        };
        Ok(Some((opened, bytes.len() - rest.len())))
    }

    fn welcome(&self, welcome: &Welcome<'_>) -> Result<Opened, ClientError> {
        let terms = welcome.fields;
        let session = terms.session_id;
        let keys = SessionKeys::derive(
            &self.secret,
            &self.nonce,
            &terms.server_nonce,
            session,
            self.exporter
                .as_ref()
                .map_or(&[], |exporter| exporter.as_slice()),
        );
        let mut seal = Seal {
            keys,
            session,
            sent: 0,
            received: 0,
        };
        if !seal.check(&welcome.frame()) {
            return Err(ClientError::ServerSignature);
        }
        let channels = welcome.entries().map(|entry| ChannelTerms {
            id: entry.channel,
            name: entry.name.to_owned(),
            partition: entry.partition,
            last_sequence: entry.last_sequence,
            ack_mode: entry.ack_mode,
        });
        Ok(Opened {
            terms,
            channels: channels.collect(),
            seal,
        })
    }
}
