//! The table of reasons. Codes are never reused, and never change their meaning.

use super::Explanation;

macro_rules! reasons {
    ($($name:ident = $code:literal, $word:literal, $retryable:literal,
        $meaning:literal, $seen:literal, $needed:literal, $remedy:literal;)*) => {
        /// Why something was refused. The number is what travels; `FB-` and the number is what people see.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)*
            /// A code of a later version, which this one has no row for: a refusal like any other.
            Unknown(u16),
        }

        impl Reason {
            /// Every reason that this version knows, by rising code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its number, shown as `FB-` and this.
            pub const fn code(self) -> u16 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Unknown(code) => code,
                }
            }

            /// Its row of the table.
            pub const fn explanation(self) -> Explanation {
                match self {
                    $(Self::$name => Explanation {
                        name: $word,
                        meaning: $meaning,
                        seen: $seen,
                        needed: $needed,
                        retryable: $retryable,
                        remedy: $remedy,
                    },)*
                    Self::Unknown(_) => Explanation {
                        name: "unknown",
                        meaning: "a reason that this version does not know",
                        seen: "see a newer version",
                        needed: "see a newer version",
                        retryable: false,
                        remedy: "look the code up in the newest PROTOCOL.md, or update this program",
                    },
                }
            }
        }
    };
}

reasons! {
    UnsupportedVersion = 1101, "unsupported_version", false,
        "no protocol version is common to both sides",
        "highest version offered", "highest version served",
        "use a client that speaks the version served";
    HelloMalformed = 1102, "hello_malformed", false,
        "the preface or the HELLO is not what the protocol says",
        "the value or length seen", "the value or length allowed",
        "mend the client";
    UnknownEndpoint = 1103, "unknown_endpoint", false,
        "no such endpoint; said only where names are no secret, a HELLO gets bad_credential instead",
        "0", "0",
        "check the endpoint's full name";
    BadCredential = 1104, "bad_credential", false,
        "endpoint, key and proof do not fit together; which of them is wrong is not told",
        "0", "0",
        "check endpoint name, key id and key text";
    KeyExpired = 1105, "key_expired", false,
        "the key's time is over",
        "the server's clock, unix seconds", "the key's expiry, unix seconds",
        "use the endpoint's other key, or have a new one made";
    KeyRevoked = 1106, "key_revoked", false,
        "the key was withdrawn",
        "key id", "0",
        "use the endpoint's other key, or have a new one made";
    TokenExpired = 1107, "token_expired", false,
        "the token's time is over",
        "the server's clock, unix seconds", "the token's expiry, unix seconds",
        "sign a new token";
    TokenMalformed = 1108, "token_malformed", false,
        "the token cannot be read",
        "0", "0",
        "send SharedAccessSignature with sr, se and skn";
    TokenScope = 1109, "token_scope", false,
        "the token is for something else",
        "0", "0",
        "sign a token whose sr covers the endpoint's name";
    ClockSkew = 1110, "clock_skew", false,
        "the client's clock is too far from the server's",
        "the client's clock, unix seconds", "the server's clock, unix seconds",
        "set the clock, or send 0 for none";
    SessionUnknown = 1111, "session_unknown", false,
        "there is no such session to resume",
        "0", "0",
        "open a new session with a key or a token";
    KeyKind = 1112, "key_kind", false,
        "an Ed25519 key cannot open a session; said only where names are no secret, a HELLO gets bad_credential instead",
        "key id", "0",
        "use a symmetric key, or have the frames relayed";
    HandshakeTimeout = 1113, "handshake_timeout", true,
        "the handshake took too long",
        "milliseconds waited", "10000",
        "connect again and send preface and HELLO at once";
    EndpointDisabled = 1114, "endpoint_disabled", false,
        "the endpoint is switched off",
        "0", "0",
        "have it switched on";
    SessionsFull = 1115, "sessions_full", true,
        "the server has as many sessions as it may",
        "sessions open", "sessions allowed",
        "try again after the time given";
    AddressRefused = 1116, "address_refused", false,
        "the credential may not be used from this address",
        "0", "0",
        "connect from an allowed address";
    HelloReplayed = 1117, "hello_replayed", true,
        "this HELLO was answered before",
        "0", "0",
        "draw a new client nonce and say HELLO again";
    AddressCrowded = 1118, "address_crowded", true,
        "the address has as many connections as one may have",
        "connections of the address", "connections allowed",
        "close some, or use one connection for more, then connect again after the time given";
    AddressBanned = 1119, "address_banned", true,
        "too many connections or failed handshakes came from the address",
        "milliseconds until the ban ends", "milliseconds that it lasts in all",
        "mend what connects or fails in a row, then connect again after the time given";
    KeyBanned = 1120, "key_banned", true,
        "the key opened too many sessions in a short time",
        "milliseconds until the ban ends", "milliseconds that it lasts in all",
        "keep one connection open, see who else uses the key, then connect again after the time given";
    AcceptsLimited = 1121, "accepts_limited", true,
        "more connections come than the server takes in a second",
        "connections that time has not paid for", "connections a second allowed, and at once after a pause",
        "connect again after the time given";
    ConnectionsShed = 1122, "connections_shed", true,
        "the server takes no new connections while its memory is short",
        "bytes of memory in use", "bytes in use below which it takes them again",
        "connect again after the time given";
    StrangersShed = 1123, "strangers_shed", true,
        "connections without a session make room while the server's memory is short",
        "bytes of memory in use", "bytes in use below which they may stay",
        "connect again after the time given";
    AnotherShard = 1124, "another_shard", true,
        "over QUIC an endpoint receives only on its home shard",
        "shards of the node", "the home shard",
        "connect again with a connection ID whose first byte, modulo the shards, is the home shard";
    CertificateRequired = 1125, "certificate_required", false,
        "the endpoint has sessions only through a tunnel in which one of its certificates was shown, as long as that is good",
        "0: no certificate was shown, 1: another one, 2: one that has ended", "how many certificates it names",
        "connect by TLS or QUIC and show one of the endpoint's certificates";
    EndpointExpired = 1126, "endpoint_expired", false,
        "the endpoint's time is over",
        "the server's clock, unix seconds", "the endpoint's expiry, unix seconds",
        "have its time extended";
    OutsideHours = 1127, "outside_hours", true,
        "the endpoint, or one of its grants to receive, holds at other hours",
        "the server's clock, unix seconds", "when the hours begin, unix seconds",
        "connect again after the time given";
    TransportRefused = 1128, "transport_refused", false,
        "the endpoint may not use this transport",
        "1 tcp, 2 tls, 4 quic, 8 datagrams of quic", "the sum of those it may use",
        "use one of the transports it may use";
    NotHome = 1129, "not_home", false,
        "the endpoint is at home at another node",
        "the number of the node that was asked, 0 if it has none", "the number of the node where the endpoint is at home",
        "connect to the node that is told, or have the endpoint's home changed";
    FrameTooShort = 1201, "frame_too_short", false,
        "the frame cannot hold what its kind needs",
        "bytes seen", "bytes needed",
        "mend the client";
    FrameTooLong = 1202, "frame_too_long", false,
        "the frame is longer than it may be",
        "bytes seen, or bytes too many", "bytes allowed, or 0",
        "split the frame";
    UnknownKind = 1203, "unknown_kind", false,
        "no such frame kind in this version",
        "the kind", "0",
        "mend the client";
    ReservedBits = 1204, "reserved_bits", false,
        "a reserved field is not zero, or a field is outside its list of values",
        "the field's value", "0 or an allowed value",
        "mend the client";
    UnexpectedFrame = 1205, "unexpected_frame", false,
        "the frame's kind does not belong here",
        "the kind", "0",
        "mend the client";
    MessageMalformed = 1206, "message_malformed", false,
        "a message does not fit its frame, or its headers are malformed",
        "bytes seen, or the message's number", "bytes needed, or the pair's number",
        "mend the client";
    BodyTooLong = 1207, "body_too_long", false,
        "a body is longer than it may be",
        "bytes seen", "bytes allowed",
        "split the body, or store it elsewhere and send a reference";
    HeadersTooLong = 1208, "headers_too_long", false,
        "a message's headers are longer or more than they may be",
        "bytes or pairs seen", "bytes or pairs allowed",
        "move data from the headers to the body";
    TooManyMessages = 1209, "too_many_messages", false,
        "the frame has more messages than it may have",
        "messages seen", "messages allowed",
        "split the frame";
    NoMessages = 1210, "no_messages", false,
        "the frame has no messages",
        "0", "at least 1",
        "put a message in";
    SignatureKind = 1211, "signature_kind", false,
        "the signature kind does not exist or does not suit the frame or the key",
        "the signature kind", "the kind needed, or 0",
        "sign as the frame's kind requires";
    BadSignature = 1301, "bad_signature", false,
        "the signature is wrong",
        "bad signatures on this connection so far", "how many end it",
        "check the key, the frame index and the bytes signed";
    Replayed = 1302, "replayed", false,
        "this number was received before",
        "the number", "the next number",
        "go on with the next number";
    OutOfSequence = 1303, "out_of_sequence", false,
        "a number was left out",
        "the number", "the next number",
        "send again from the number needed";
    SenderMismatch = 1304, "sender_mismatch", false,
        "the frame names another endpoint than its session's",
        "endpoint id seen", "endpoint id of the session",
        "send with the endpoint's own session, or relay an envelope";
    RelayNotAllowed = 1305, "relay_not_allowed", false,
        "this endpoint may not relay",
        "endpoint id of the session", "0",
        "have relaying granted";
    UnknownSender = 1306, "unknown_sender", false,
        "the envelope's endpoint or key is not known, or may not be used",
        "endpoint id", "key id",
        "check the inner frame's endpoint and key id";
    UnknownChannel = 1401, "unknown_channel", false,
        "no such channel",
        "channel id", "0",
        "take channel ids from WELCOME";
    NotGranted = 1402, "not_granted", false,
        "the endpoint has no grant for this channel",
        "channel id", "0",
        "have it granted";
    WrongDirection = 1403, "wrong_direction", false,
        "the session's credential is for the other direction",
        "0", "0",
        "use a key of the other direction";
    RestrictedAddress = 1404, "restricted_address", false,
        "the grant does not hold for this address",
        "0", "0",
        "send from an allowed address";
    RestrictedOrigin = 1405, "restricted_origin", false,
        "the grant does not hold for this origin",
        "0", "0",
        "send from an allowed origin";
    RestrictedRate = 1406, "restricted_rate", true,
        "more messages per second than the grant allows",
        "messages in the frame", "messages per second allowed",
        "slow down, try again after the time given";
    RestrictedBody = 1407, "restricted_body", false,
        "a body is longer than the grant allows",
        "bytes seen", "bytes allowed",
        "send shorter bodies";
    EndpointRate = 1408, "endpoint_rate", true,
        "more messages per second than the endpoint may send",
        "messages in the frame", "messages per second allowed",
        "slow down, try again after the time given";
    EndpointByteRate = 1409, "endpoint_byte_rate", true,
        "more bytes per second than the endpoint may send",
        "bytes of the frame", "bytes per second allowed",
        "slow down, try again after the time given";
    AccountRate = 1410, "account_rate", true,
        "more messages per second than all endpoints of the account may send",
        "messages in the frame", "messages per second allowed",
        "slow down, try again after the time given";
    AccountByteRate = 1411, "account_byte_rate", true,
        "more bytes per second than all endpoints of the account may send",
        "bytes of the frame", "bytes per second allowed",
        "slow down, try again after the time given";
    GrantExpired = 1412, "grant_expired", false,
        "the grant's time is over",
        "the server's clock, unix seconds", "the grant's expiry, unix seconds",
        "have it granted anew";
    RestrictedHours = 1413, "restricted_hours", true,
        "the grant holds at other hours",
        "the server's clock, unix seconds", "when the hours begin, unix seconds",
        "send again after the time given";
    RestrictedByteRate = 1414, "restricted_byte_rate", true,
        "more bytes per second than the grant allows",
        "bytes of the frame", "bytes per second allowed",
        "slow down, try again after the time given";
    Busy = 1501, "busy", true,
        "the server has no room for more just now, or the credit is used up",
        "what is in use or asked for: frames, bytes or gaps", "how much may be",
        "send again after the time given";
    StorageFull = 1502, "storage_full", true,
        "the partition's disk is full",
        "0", "0",
        "send again later; have space freed";
    PartitionSealed = 1503, "partition_sealed", false,
        "the partition's disk failed; it takes nothing any more",
        "0", "0",
        "have the disk replaced and the node restarted";
    NotOwner = 1504, "not_owner", true,
        "the partition moved to another shard or node",
        "partition id", "0",
        "connect again";
    LowPriorityShed = 1505, "low_priority_shed", true,
        "messages to channels of low priority are refused while the server's memory is short",
        "bytes of memory in use", "bytes in use below which they are taken again",
        "send again after the time given";
    HubUnavailable = 1506, "hub_unavailable", true,
        "the hub's logs could not be opened on this node yet; it tries again by itself",
        "hub id", "0",
        "send again after the time given; have the cause removed that the node tells";
    QueueTaken = 1601, "queue_taken", false,
        "another session fetches from this queue now; the last FETCH wins",
        "0", "0",
        "fetch with one session at a time";
    NotDelivered = 1602, "not_delivered", false,
        "this number was never delivered",
        "delivery number", "one past the highest number delivered, or 0",
        "nothing; if it is not settled it is delivered again";
    FetchTooLarge = 1603, "fetch_too_large", false,
        "the credit asked for is more than may be held",
        "messages or bytes", "messages or bytes allowed",
        "ask for less at a time";
    IdleTimeout = 1701, "idle_timeout", true,
        "nothing was heard for too long",
        "milliseconds of silence", "milliseconds allowed",
        "connect again; send PING when there is nothing else";
    Draining = 1702, "draining", true,
        "the node is stopping",
        "0", "0",
        "connect again after the time given, perhaps elsewhere";
    PeerBye = 1703, "peer_bye", true,
        "the peer said goodbye",
        "0", "0",
        "connect again when there is something to send";
    TooManyBadSignatures = 1704, "too_many_bad_signatures", false,
        "too many bad signatures on one connection",
        "bad signatures", "16",
        "check key and frame index, then connect again";
    SlowReceiver = 1705, "slow_receiver", true,
        "the peer does not read what it is sent",
        "bytes waiting", "bytes allowed",
        "read faster or fetch less, then connect again";
    CredentialWithdrawn = 1706, "credential_withdrawn", false,
        "the key or the endpoint was withdrawn while the session was open",
        "key id", "0",
        "use the endpoint's other key";
    TooManyPings = 1707, "too_many_pings", false,
        "more PINGs than are answered",
        "PINGs that time has not paid for", "PINGs a second allowed, and at once after a pause",
        "PING when there is nothing else to send, or to learn that a SETTLE was taken";
    TableStale = 1708, "table_stale", true,
        "the node has not heard from its control plane for longer than it may serve without",
        "0", "0",
        "connect again after the time given, perhaps elsewhere";
}
