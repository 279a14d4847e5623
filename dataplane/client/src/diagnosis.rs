//! Every fault the client reports: its own have the codes 5101 to 5199, the server's refusals keep theirs.

use crate::outbox::Rejected;
use wire::ParseError;
use wire::diagnosis::Diagnosis;
use wire::frame::{Frame, FrameKind};
use wire::handshake::parse_refused;
use wire::home::Home;
use wire::link::parse_goaway;
use wire::reason::{Notice, Reason};

/// Code, name, meaning and remedy of each fault of the client, for `forebay explain`.
pub const CODES: &[(u16, &str, &str, &str)] = &[
    (
        5101,
        "connect_failed",
        "No connection to the node could be made, or it could not be made again in time.",
        "Check the address and that the node runs; `forebay run` prints `listening on`.",
    ),
    (
        5102,
        "connection_lost",
        "The connection ended before the handshake did.",
        "Try again; see the node's log for the cause.",
    ),
    (
        5103,
        "protocol_version",
        "Client and server have no protocol version in common.",
        "Update the older of the two.",
    ),
    (
        5104,
        "protocol_broken",
        "The peer does not speak the Forebay protocol, or broke it.",
        "Check that the address is a Forebay node's listen address, not its admin port.",
    ),
    (
        5105,
        "server_signature",
        "The server's frame is not signed with this session's key: it does not know the credential's secret, or bytes were changed on the way.",
        "Check who answers at this address; connect over a trusted network.",
    ),
    (
        5106,
        "credential_malformed",
        "The endpoint name, key or token cannot be one.",
        "Give account/environment/endpoint, and the key or token exactly as `forebay keys new` or `forebay token new` printed it.",
    ),
    (
        5107,
        "channel_not_granted",
        "This endpoint may not send to that channel.",
        "Use one of the channels that the message lists, or grant the channel in the plan.",
    ),
    (
        5108,
        "message_refused_here",
        "The message or batch breaks a limit, so it was not sent.",
        "Keep bodies within 262144 bytes, headers within 8192, and one batch within 4096 messages and 512 KiB.",
    ),
    (
        5109,
        "wrong_direction",
        "An ingress credential only sends and an egress credential only receives.",
        "Use the endpoint's key of the other direction.",
    ),
    (
        5110,
        "closed",
        "The sender or receiver has been closed or has failed before.",
        "Connect again.",
    ),
    (
        5111,
        "settle_refused",
        "The server took a settlement for a message that is not in flight, or another consumer took over the queue.",
        "Run one receiver per endpoint and settle within the lock time (30 s by default).",
    ),
    (
        5112,
        "no_answer",
        "The server did not answer in time.",
        "Check the network and the node's load; raise `Options::handshake_timeout`.",
    ),
    (
        5113,
        "nobody_trusted",
        "A tunnel was asked for, but it is not said whom to trust in a way that can be used.",
        "Give the authority's file, the fingerprint that `forebay cert dev` printed, or install the roots of this machine; there is no way to trust everybody.",
    ),
    (
        5114,
        "server_not_trusted",
        "The server's certificate does not lead to what is trusted, is for another name, has ended, or is not the one pinned.",
        "Check the address, the server's name and its certificate; give the authority or the fingerprint that the node's operator names.",
    ),
    (
        5115,
        "tunnel_failed",
        "No tunnel was made: the server speaks no TLS at this address, another version of it, or another protocol inside.",
        "Check that the address is one where the node listens for this transport; `forebay run` prints them.",
    ),
];

/// Why the client could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No connection, within the time that `Options` allows.
    #[error("{}", self.diagnosis())]
    Connect {
        /// The node's address.
        addr: String,
        /// What the system said.
        error: String,
    },
    /// The connection ended during the handshake.
    #[error("{}", self.diagnosis())]
    Lost(String),
    /// No common protocol version.
    #[error("{}", self.diagnosis())]
    Version {
        /// Lowest and highest version of the server.
        seen: (u8, u8),
    },
    /// Bytes that the protocol does not know.
    #[error("{}", self.diagnosis())]
    Protocol(String),
    /// A frame that this session's server has not signed.
    #[error("{}", self.diagnosis())]
    ServerSignature,
    /// A name, key or token that cannot be one.
    #[error("{}", self.diagnosis())]
    Credential {
        /// Which of them.
        what: &'static str,
        /// The value, never a secret.
        seen: String,
        /// What it should look like.
        needed: &'static str,
    },
    /// The server refuses the session.
    #[error("{}", self.diagnosis())]
    Refused(Notice),
    /// The endpoint is at home at another node, which the server names.
    #[error("{}", self.diagnosis())]
    NotHome {
        /// What the server says.
        notice: Notice,
        /// The node's name.
        node: String,
        /// Where endpoints reach it, if that is told.
        address: Option<String>,
    },
    /// The server refused a frame.
    #[error("{}", self.diagnosis())]
    Rejected(Rejected),
    /// No grant for that channel.
    #[error("{}", self.diagnosis())]
    ChannelNotGranted {
        /// The channel asked for.
        channel: String,
        /// The channels granted.
        granted: String,
    },
    /// A limit that the message breaks.
    #[error("{}", self.diagnosis())]
    Message(String),
    /// A credential of the other direction.
    #[error("{}", self.diagnosis())]
    Direction {
        /// What the credential is for.
        seen: &'static str,
        /// What was asked of it.
        needed: &'static str,
    },
    /// Closed before.
    #[error("{}", self.diagnosis())]
    Closed,
    /// A settlement refused, or the queue taken over.
    #[error("{}", self.diagnosis())]
    Settle(Notice),
    /// No answer in time.
    #[error("{}", self.diagnosis())]
    NoAnswer(String),
    /// Nobody to trust, or no name to look for.
    #[error("{}", self.diagnosis())]
    Trust {
        /// What cannot be used.
        what: &'static str,
        /// What it is.
        seen: String,
        /// What it should be.
        needed: &'static str,
    },
    /// A server that is not trusted.
    #[error("{}", self.diagnosis())]
    Untrusted {
        /// The node's address.
        addr: String,
        /// What is wrong with its certificate.
        error: String,
    },
    /// No tunnel, for another reason.
    #[error("{}", self.diagnosis())]
    Tunnel {
        /// The node's address.
        addr: String,
        /// What TLS says.
        error: String,
    },
}

impl ClientError {
    /// The fault with its code, the value seen, the value needed and the remedy.
    pub fn diagnosis(&self) -> Diagnosis {
        let own = |code, what: &str, seen: &str, needed: &str| own(code, what, seen, needed);
        match self {
            Self::Connect { addr, error } => own(
                5101,
                &format!("connecting to {addr}"),
                error,
                "a running node",
            ),
            Self::Lost(seen) => own(5102, "handshake", seen, "WELCOME or REFUSED"),
            Self::Version { seen } => own(
                5103,
                "protocol version",
                &format!("server speaks {} to {}", seen.0, seen.1),
                "version 1",
            ),
            Self::Protocol(seen) => own(5104, "protocol", seen, "a frame of protocol version 1"),
            Self::ServerSignature => own(
                5105,
                "server signature",
                "another signature",
                "one made with this session's key",
            ),
            Self::Credential { what, seen, needed } => own(5106, what, seen, needed),
            Self::Refused(notice) => of_notice("session refused", notice),
            Self::NotHome {
                notice,
                node,
                address,
            } => {
                let address = address.as_deref();
                let home = Home { node, address };
                Diagnosis {
                    needed: home.to_string(),
                    ..of_notice("session refused", notice)
                }
            }
            Self::Rejected(rejected) => of_notice("frame rejected", &rejected.notice),
            Self::ChannelNotGranted { channel, granted } => own(
                5107,
                &format!("sending to {channel}"),
                &format!("grants for: {granted}"),
                "a grant for that channel",
            ),
            Self::Message(seen) => own(5108, "message", seen, "a message within the limits"),
            Self::Direction { seen, needed } => own(5109, "credential", seen, needed),
            Self::Closed => own(5110, "connection", "closed", "open"),
            Self::Settle(notice) => Diagnosis {
                code: 5111,
                what: "settlement".to_owned(),
                ..of_notice("settlement", notice)
            },
            Self::NoAnswer(seen) => own(5112, "answer", seen, "an answer in time"),
            Self::Trust { what, seen, needed } => own(5113, what, seen, needed),
            Self::Untrusted { addr, error } => own(
                5114,
                &format!("the certificate of {addr}"),
                error,
                "one that is trusted",
            ),
            Self::Tunnel { addr, error } => own(
                5115,
                &format!("a tunnel to {addr}"),
                error,
                "TLS that carries forebay/1",
            ),
        }
    }

    /// Whether the same attempt may succeed later without anybody changing anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Lost(_) | Self::NoAnswer(_) => true,
            Self::Refused(notice) => notice.retry_after_ms > 0 || notice.reason.retryable(),
            _ => false,
        }
    }
}

/// What a REFUSED or GOAWAY says.
///
/// # Errors
/// When it is neither, or malformed.
pub(crate) fn refusal(frame: Frame<'_>) -> Result<ClientError, ParseError> {
    let notice = match frame.kind() {
        FrameKind::Refused => parse_refused(frame)?,
        _ => parse_goaway(frame)?,
    };
    Ok(match Home::told(frame) {
        Some(home) if notice.reason == Reason::NotHome => ClientError::NotHome {
            notice,
            node: home.node.to_owned(),
            address: home.address.map(str::to_owned),
        },
        _ => ClientError::Refused(notice),
    })
}

/// The server's reason as a diagnosis under its own code.
pub fn of_notice(what: &str, notice: &Notice) -> Diagnosis {
    let told = notice.diagnosis();
    Diagnosis {
        what: format!("{what}: {}", told.what),
        ..told
    }
}

fn own(code: u16, what: &str, seen: &str, needed: &str) -> Diagnosis {
    Diagnosis::from_table(CODES, code, what, seen, needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_within_their_range_and_every_one_has_a_remedy() {
        assert!(CODES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(CODES.iter().all(|(code, name, meaning, remedy)| {
            (5101..5200).contains(code)
                && !name.is_empty()
                && !meaning.is_empty()
                && !remedy.is_empty()
        }));
    }

    #[test]
    fn whoever_is_not_at_home_is_told_where_home_is() {
        let notice = Notice::new(Reason::NotHome, 7, 9);
        let told = |home| {
            let mut bytes = Vec::new();
            wire::handshake::encode_refused(&mut bytes, notice, home);
            let (frame, _) = wire::frame::split(&bytes).expect("whole").expect("a frame");
            refusal(frame).expect("a refusal")
        };
        let (node, address) = ("north", Some("north.example:7410"));
        let away = told(Some(Home { node, address }));
        let text = away.to_string();
        assert!(text.starts_with("FB-1129: session refused: "), "{text}");
        assert!(
            text.contains("need node north at north.example:7410;"),
            "{text}"
        );
        assert!(!away.is_passing(), "somebody has to change something");
        let ClientError::NotHome { node, address, .. } = away else {
            panic!("{text}");
        };
        let address = address.as_deref();
        assert_eq!((&*node, address), ("north", Some("north.example:7410")));
        assert_eq!(told(None), ClientError::Refused(notice));
    }

    #[test]
    fn an_error_prints_its_code_the_value_seen_the_value_needed_and_the_remedy() {
        let text = ClientError::Direction {
            seen: "an egress key",
            needed: "an ingress key",
        }
        .to_string();
        assert_eq!(
            text,
            "FB-5109: credential: saw an egress key, need an ingress key; Use the endpoint's key of the other direction."
        );
    }
}
