"""A blocking client for the Forebay protocol, version 1, with nothing but the standard library.

It follows dataplane/wire/PROTOCOL.md; "section" in this file means a section of that document. Three layers:

- encoders and decoders: bytes to objects and back, no I/O,
- `Connection`: handshake, frame indexes and signatures on a socket,
- `Sender` and `Receiver`: windows, go-back-N and resending; credit, deliveries and settling.

Left out: Ed25519 envelopes (not in the standard library) and TLS (Python 3.11 cannot export keying material, which
section 4 needs there; `session_keys` takes it when it comes from elsewhere).
"""

import base64
import dataclasses
import hashlib
import hmac
import os
import re
import socket
import struct
import time
import urllib.parse
from collections import deque
from dataclasses import dataclass, field

# Section 2.
PREFACE = struct.Struct("<4sBBBB")
MAGIC = b"FBAY"
VERSION = 1

# Section 3.
HEADER = struct.Struct("<IBBHQ")
HELLO, SEND, RELAY, FETCH, SETTLE, PING, BYE = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
WELCOME, REFUSED, ACK, REJECT, DELIVER, PONG, GOAWAY = 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87
KIND_NAMES = {
    HELLO: "HELLO", SEND: "SEND", RELAY: "RELAY", FETCH: "FETCH", SETTLE: "SETTLE", PING: "PING", BYE: "BYE",
    WELCOME: "WELCOME", REFUSED: "REFUSED", ACK: "ACK", REJECT: "REJECT", DELIVER: "DELIVER", PONG: "PONG",
    GOAWAY: "GOAWAY",
}  # fmt: skip
UNSIGNED, BY_SESSION, BY_KEY, BY_ED25519 = 0, 1, 2, 3
SIGNATURE_BYTES = {UNSIGNED: 0, BY_SESSION: 32, BY_KEY: 32, BY_ED25519: 64}

# Section 1.
RELAY_STREAM, QUEUE_STREAM, NO_STREAM, DATAGRAM_STREAM = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC

# Section 4.
HELLO_DOMAIN = b"forebay hello 1\0"
TUNNEL_HELLO_DOMAIN = b"forebay hello 1\1"
RELAY_DOMAIN = b"forebay relay 1\0"
DATAGRAM_DOMAIN = b"forebay datagram"
SESSION_INFO = b"forebay session 1"

# Section 5.
AUTH_KEY, AUTH_TOKEN, AUTH_RESUME = 1, 2, 3
INGRESS, EGRESS = 1, 2

# Section 10.
QUEUE, DEAD_LETTERS = 0, 1
ACCEPT_ALL, ACCEPT, RELEASE, DEAD_LETTER = 1, 2, 3, 4

# Section 12.
FRAME_BYTES_MAX = 524288
BODY_BYTES_MAX = 262144
HEADERS_BYTES_MAX = 8192
HEADERS_MAX = 64
MESSAGES_MAX = 4096

# Section 13: the name, and whether it may be retried.
REASONS = {
    1101: ("unsupported_version", False), 1102: ("hello_malformed", False), 1103: ("unknown_endpoint", False),
    1104: ("bad_credential", False), 1105: ("key_expired", False), 1106: ("key_revoked", False),
    1107: ("token_expired", False), 1108: ("token_malformed", False), 1109: ("token_scope", False),
    1110: ("clock_skew", False), 1111: ("session_unknown", False), 1112: ("key_kind", False),
    1113: ("handshake_timeout", True), 1114: ("endpoint_disabled", False), 1115: ("sessions_full", True),
    1116: ("address_refused", False), 1117: ("hello_replayed", True), 1118: ("address_crowded", True),
    1119: ("address_banned", True), 1120: ("key_banned", True), 1121: ("accepts_limited", True),
    1122: ("connections_shed", True), 1123: ("strangers_shed", True),
    1124: ("another_shard", True), 1125: ("certificate_required", False),
    1126: ("endpoint_expired", False), 1127: ("outside_hours", True), 1128: ("transport_refused", False),
    1129: ("not_home", False),
    1201: ("frame_too_short", False), 1202: ("frame_too_long", False),
    1203: ("unknown_kind", False), 1204: ("reserved_bits", False), 1205: ("unexpected_frame", False),
    1206: ("message_malformed", False), 1207: ("body_too_long", False), 1208: ("headers_too_long", False),
    1209: ("too_many_messages", False), 1210: ("no_messages", False), 1211: ("signature_kind", False),
    1301: ("bad_signature", False), 1302: ("replayed", False), 1303: ("out_of_sequence", False),
    1304: ("sender_mismatch", False), 1305: ("relay_not_allowed", False), 1306: ("unknown_sender", False),
    1401: ("unknown_channel", False), 1402: ("not_granted", False), 1403: ("wrong_direction", False),
    1404: ("restricted_address", False), 1405: ("restricted_origin", False), 1406: ("restricted_rate", True),
    1407: ("restricted_body", False), 1408: ("endpoint_rate", True), 1409: ("endpoint_byte_rate", True),
    1410: ("account_rate", True), 1411: ("account_byte_rate", True),
    1412: ("grant_expired", False), 1413: ("restricted_hours", True), 1414: ("restricted_byte_rate", True),
    1501: ("busy", True), 1502: ("storage_full", True),
    1503: ("partition_sealed", False), 1504: ("not_owner", True), 1505: ("low_priority_shed", True), 1506: ("hub_unavailable", True), 1601: ("queue_taken", False),
    1602: ("not_delivered", False), 1603: ("fetch_too_large", False), 1701: ("idle_timeout", True),
    1702: ("draining", True), 1703: ("peer_bye", True), 1704: ("too_many_bad_signatures", False),
    1705: ("slow_receiver", True), 1706: ("credential_withdrawn", False), 1707: ("too_many_pings", False),
    1708: ("table_stale", True),
}  # fmt: skip
REASON_CODES = {name: code for code, (name, _) in REASONS.items()}


class ProtocolFault(Exception):
    """The peer's bytes are not what the protocol says. The connection is of no more use (section 3, Faults)."""


class ConnectionLost(Exception):
    """The connection ended without a GOAWAY."""


class TakenOver(Exception):
    """Another session of the endpoint sends on this stream now (section 7)."""


class Sealed(Exception):
    """The partition's disk failed: nobody knows what became of the frames (section 8). They keep their numbers."""


class VersionRefused(Exception):
    """The server's preface chose version 0 (section 2)."""


class _Noticed(Exception):
    def __init__(self, notice):
        super().__init__(str(notice))
        self.notice = notice


class Refused(_Noticed):
    """The server answered HELLO with REFUSED (section 5)."""


class GoneAway(_Noticed):
    """The server ended the connection with GOAWAY (section 11)."""


# --- what frames carry ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Notice:
    """Section 3, Notice: why something was refused or ended."""

    reason: int
    retry_after_ms: int = 0
    seen: int = 0
    needed: int = 0
    home: "Home | None" = None

    LAYOUT = struct.Struct("<HHIQQ")

    @property
    def name(self):
        return REASONS[self.reason][0] if self.reason in REASONS else "unknown"

    def __str__(self):
        return (f"FB-{self.reason} {self.name} (retry_after_ms {self.retry_after_ms}, "
                f"seen {self.seen}, needed {self.needed})" + (f", {self.home}" if self.home else ""))  # fmt: skip

    def encode(self):
        return self.LAYOUT.pack(self.reason, 0, self.retry_after_ms, self.seen, self.needed)

    @classmethod
    def decode(cls, data):
        _exactly(data, cls.LAYOUT.size, "notice")
        reason, reserved, retry_after_ms, seen, needed = cls.LAYOUT.unpack(data)
        _zero(reserved, "notice")
        if reason == 0:
            raise ProtocolFault("a notice without a reason")
        return cls(reason, retry_after_ms, seen, needed)

    @classmethod
    def decode_last(cls, data):
        """That of REFUSED and GOAWAY: behind `not_home` there may stand where the endpoint is at home."""
        notice = cls.decode(data[: cls.LAYOUT.size])
        rest = data[cls.LAYOUT.size :]
        if notice.name == "not_home" and rest:
            return dataclasses.replace(notice, home=Home.decode(rest))
        _exactly(rest, 0, "what follows a notice")
        return notice


@dataclass(frozen=True)
class Home:
    """Section 3, behind a notice of `not_home`: a node's name, and where endpoints reach it, or None."""

    node: str
    address: str | None = None

    LAYOUT = struct.Struct("<HH")
    NAME = re.compile(rb"(?=.*[a-z])[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
    ADDRESS = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):0*[1-9][0-9]{0,4}")

    @classmethod
    def decode(cls, data):
        if len(data) < cls.LAYOUT.size:
            raise ProtocolFault("a home without its lengths")
        node_bytes, address_bytes = cls.LAYOUT.unpack_from(data)
        _exactly(data, cls.LAYOUT.size + node_bytes + address_bytes, "home")
        texts = data[cls.LAYOUT.size :]
        node, address = texts[:node_bytes], texts[node_bytes:]
        if not cls.NAME.fullmatch(node):
            raise ProtocolFault(f"{node!r} is no name of a node")
        if address and not (cls.ADDRESS.fullmatch(address) and len(address) <= 259):
            raise ProtocolFault(f"{address!r} is no address")
        return cls(node.decode(), address.decode() or None)


@dataclass(frozen=True)
class Message:
    """Section 7: a body of bytes, headers as (text, bytes) pairs in order, the sender's clock in unix nanoseconds."""

    body: bytes
    headers: tuple = ()
    timestamp: int = 0

    LAYOUT = struct.Struct("<IHHQ")
    PAIR = struct.Struct("<BBH")

    def encode(self):
        pairs = bytearray()
        for key, value in self.headers:
            key = key.encode()
            pairs += self.PAIR.pack(len(key), 0, len(value)) + key + value
        return self.LAYOUT.pack(len(self.body), len(pairs), 0, self.timestamp) + bytes(pairs) + self.body

    @classmethod
    def decode_all(cls, data, count):
        """Exactly `count` messages that fill `data` to its last byte."""
        messages, at = [], 0
        for _ in range(count):
            if len(data) - at < cls.LAYOUT.size:
                raise ProtocolFault("a message is cut off")
            body_bytes, headers_bytes, reserved, timestamp = cls.LAYOUT.unpack_from(data, at)
            _zero(reserved, "message")
            at += cls.LAYOUT.size
            if len(data) - at < headers_bytes + body_bytes:
                raise ProtocolFault("a message is cut off")
            if body_bytes > BODY_BYTES_MAX or headers_bytes > HEADERS_BYTES_MAX:
                raise ProtocolFault("a message is longer than any may be")
            headers = cls._decode_pairs(data[at : at + headers_bytes])
            at += headers_bytes
            messages.append(cls(bytes(data[at : at + body_bytes]), headers, timestamp))
            at += body_bytes
        if at != len(data):
            raise ProtocolFault("bytes are left behind the last message")
        return messages

    @classmethod
    def _decode_pairs(cls, data):
        pairs, at = [], 0
        while at < len(data):
            if len(data) - at < cls.PAIR.size:
                raise ProtocolFault("a header pair is cut off")
            key_bytes, reserved, value_bytes = cls.PAIR.unpack_from(data, at)
            _zero(reserved, "header pair")
            at += cls.PAIR.size
            if key_bytes == 0 or len(data) - at < key_bytes + value_bytes:
                raise ProtocolFault("a header pair does not fit")
            key = _text(data[at : at + key_bytes])
            at += key_bytes
            pairs.append((key, bytes(data[at : at + value_bytes])))
            at += value_bytes
        if len(pairs) > HEADERS_MAX:
            raise ProtocolFault("too many header pairs")
        return tuple(pairs)


@dataclass(frozen=True)
class Frame:
    """Section 3: a frame taken apart, its signature not yet judged."""

    kind: int
    signature_kind: int
    count: int
    sequence: int
    body: bytes
    signature: bytes
    unsigned: bytes  # the frame up to its signature


@dataclass(frozen=True)
class Entry:
    """Section 5: a channel in WELCOME."""

    channel: int
    partition: int
    last_sequence: int
    ack_mode: int
    name: str

    LAYOUT = struct.Struct("<IIQBBH")


@dataclass(frozen=True)
class Welcome:
    """Section 5, WELCOME (`0x81`)."""

    epoch: int
    session_id: bytes
    server_nonce: bytes
    endpoint: int
    unix_nanos: int
    frame_bytes_max: int
    body_bytes_max: int
    messages_max: int
    shards: int
    home_shard: int
    direction: int
    credit_frames: int
    credit_bytes: int
    idle_timeout_ms: int
    linger_ms: int
    logs: int
    entries: tuple

    LAYOUT = struct.Struct("<16s32sQQIIHHHBBIIIIQ")

    def entry(self, name):
        """The entry of the channel of that full name."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(f"WELCOME names no channel {name!r}, only {[entry.name for entry in self.entries]}")


@dataclass(frozen=True)
class Ack:
    """Section 8, ACK (`0x83`)."""

    sequence: int
    partition: int
    ack_mode: int
    offset: int
    credit_frames: int
    credit_bytes: int


@dataclass(frozen=True)
class Reject:
    """Section 8, REJECT (`0x84`)."""

    sequence: int
    partition: int
    notice: Notice

    def __str__(self):
        return f"REJECT of {self.sequence} on stream {self.partition:#x}: {self.notice}"


@dataclass(frozen=True)
class Delivery:
    """One message of a DELIVER, with what its group says of it (section 10)."""

    number: int
    source: int
    sender: int
    channel: int
    partition: int
    offset: int
    append_time: int
    attempt: int
    message: Message


@dataclass(frozen=True)
class Deliver:
    """Section 10, DELIVER (`0x85`), its groups laid out as single deliveries."""

    source: int
    deliveries: tuple


@dataclass(frozen=True)
class Pong:
    """Section 11, PONG (`0x86`)."""

    sequence: int


@dataclass(frozen=True)
class GoAway:
    """Section 11, GOAWAY (`0x87`)."""

    notice: Notice
    signed: bool


# --- decoding ---------------------------------------------------------------------------------------------------------


def _exactly(data, size, what):
    if len(data) != size:
        raise ProtocolFault(f"{what}: {len(data)} bytes, not {size}")


def _zero(value, what):
    if value:
        raise ProtocolFault(f"{what}: a reserved field is {value}")


def _text(data):
    try:
        return bytes(data).decode()
    except UnicodeDecodeError as error:
        raise ProtocolFault(f"not UTF-8: {bytes(data)!r}") from error


def split_frame(data):
    """Takes one whole frame apart (section 3)."""
    if len(data) < HEADER.size:
        raise ProtocolFault(f"a frame of {len(data)} bytes")
    frame_bytes, kind, signature_kind, count, sequence = HEADER.unpack_from(data)
    _exactly(data, frame_bytes, "frame")
    if frame_bytes > FRAME_BYTES_MAX:
        raise ProtocolFault(f"a frame of {frame_bytes} bytes")
    if kind not in KIND_NAMES:
        raise ProtocolFault(f"kind {kind:#x}")
    if signature_kind not in SIGNATURE_BYTES:
        raise ProtocolFault(f"signature kind {signature_kind}")
    end = frame_bytes - SIGNATURE_BYTES[signature_kind]
    if end < HEADER.size:
        raise ProtocolFault(f"a frame of {frame_bytes} bytes does not hold its signature")
    return Frame(kind, signature_kind, count, sequence, data[HEADER.size : end], data[end:], data[:end])


def decode_server_frame(frame):
    """What a frame of the server says, held against every rule that the document gives for it."""
    allowed = {REFUSED: (UNSIGNED,), GOAWAY: (UNSIGNED, BY_SESSION)}.get(frame.kind, (BY_SESSION,))
    if frame.kind < 0x80:
        raise ProtocolFault(f"the server sent {KIND_NAMES[frame.kind]}")
    if frame.signature_kind not in allowed:
        raise ProtocolFault(f"{KIND_NAMES[frame.kind]} with signature kind {frame.signature_kind}")
    if frame.kind not in (WELCOME, DELIVER):
        _zero(frame.count, f"count of {KIND_NAMES[frame.kind]}")
    if frame.kind in (REFUSED, GOAWAY):
        _zero(frame.sequence, f"sequence of {KIND_NAMES[frame.kind]}")
    return _DECODERS[frame.kind](frame)


def _decode_welcome(frame):
    body = frame.body
    if len(body) < Welcome.LAYOUT.size:
        raise ProtocolFault("WELCOME is too short")
    (session_id, nonce, endpoint, unix_nanos, frame_max, body_max, messages_max, shards, home_shard, direction,
     reserved, credit_frames, credit_bytes, idle_ms, linger_ms, logs) = Welcome.LAYOUT.unpack_from(body)  # fmt: skip
    _zero(reserved, "WELCOME")
    if direction not in (INGRESS, EGRESS):
        raise ProtocolFault(f"direction {direction}")
    entries, at = [], Welcome.LAYOUT.size
    for _ in range(frame.count):
        if len(body) - at < Entry.LAYOUT.size:
            raise ProtocolFault("an entry of WELCOME is cut off")
        channel, partition, last, ack_mode, name_bytes, reserved = Entry.LAYOUT.unpack_from(body, at)
        _zero(reserved, "entry of WELCOME")
        at += Entry.LAYOUT.size
        if ack_mode not in (1, 2) or name_bytes == 0 or len(body) - at < name_bytes:
            raise ProtocolFault("an entry of WELCOME is malformed")
        if direction == EGRESS and (partition or last):
            raise ProtocolFault("an egress entry of WELCOME names a partition or a sequence number")
        entries.append(Entry(channel, partition, last, ack_mode, _text(body[at : at + name_bytes])))
        at += name_bytes
    _exactly(body, at, "WELCOME")
    return Welcome(frame.sequence, session_id, nonce, endpoint, unix_nanos, frame_max, body_max, messages_max, shards,
                   home_shard, direction, credit_frames, credit_bytes, idle_ms, linger_ms, logs, tuple(entries))  # fmt: skip


def _decode_ack(frame):
    _exactly(frame.body, 24, "ACK")
    partition, ack_mode, reserved, offset, frames, size = struct.unpack("<IB3sQII", frame.body)
    _zero(any(reserved), "ACK")
    if ack_mode not in (1, 2):
        raise ProtocolFault(f"ack_mode {ack_mode}")
    return Ack(frame.sequence, partition, ack_mode, offset, frames, size)


def _decode_reject(frame):
    _exactly(frame.body, 8 + Notice.LAYOUT.size, "REJECT")
    partition, reserved = struct.unpack_from("<II", frame.body)
    _zero(reserved, "REJECT")
    return Reject(frame.sequence, partition, Notice.decode(frame.body[8:]))


def _decode_deliver(frame):
    body = frame.body
    if len(body) < 8 or frame.count == 0:
        raise ProtocolFault("DELIVER without a group")
    source, reserved, messages = struct.unpack_from("<B3sI", body)
    _zero(any(reserved), "DELIVER")
    if source not in (QUEUE, DEAD_LETTERS):
        raise ProtocolFault(f"source {source}")
    group = struct.Struct("<QQQQIIHHI")
    deliveries, at = [], 8
    for _ in range(frame.count):
        if len(body) - at < group.size:
            raise ProtocolFault("a group of DELIVER is cut off")
        number, sender, offset, append_time, partition, channel, count, attempt, size = group.unpack_from(body, at)
        at += group.size
        if count == 0 or attempt == 0 or len(body) - at < size:
            raise ProtocolFault("a group of DELIVER is malformed")
        if deliveries and number <= deliveries[-1].number:
            raise ProtocolFault("the numbers of DELIVER do not rise")
        for index, message in enumerate(Message.decode_all(body[at : at + size], count)):
            deliveries.append(Delivery(number + index, source, sender, channel, partition, offset + index,
                                       append_time, attempt, message))  # fmt: skip
        at += size
    _exactly(body, at, "DELIVER")
    if len(deliveries) != messages or deliveries[0].number != frame.sequence:
        raise ProtocolFault("DELIVER does not hold what it says")
    return Deliver(source, tuple(deliveries))


def _decode_pong(frame):
    _exactly(frame.body, 0, "PONG")
    return Pong(frame.sequence)


_DECODERS = {
    WELCOME: _decode_welcome,
    REFUSED: lambda frame: Notice.decode_last(frame.body),
    ACK: _decode_ack,
    REJECT: _decode_reject,
    DELIVER: _decode_deliver,
    PONG: _decode_pong,
    GOAWAY: lambda frame: GoAway(Notice.decode_last(frame.body), frame.signature_kind == BY_SESSION),
}


# --- keys, tokens, signatures -----------------------------------------------------------------------------------------


def hmac_sha256(key, *parts):
    """Section 1: HMAC-SHA256 over the parts in a row."""
    return hmac.digest(key, b"".join(parts), "sha256")


def hkdf_sha256(salt, secret, info, size):
    """RFC 5869 over SHA-256."""
    extracted = hmac_sha256(salt, secret)
    block, out = b"", b""
    while len(out) < size:
        block = hmac_sha256(extracted, block, info, bytes([len(out) // hashlib.sha256().digest_size + 1]))
        out += block
    return out[:size]


@dataclass(frozen=True)
class SessionKeys:
    """Section 4: what a session signs with, and what resumes it."""

    client: bytes
    server: bytes
    resume: bytes


def session_keys(secret, client_nonce, server_nonce, session_id, exporter=b""):
    """Section 4, Session keys. `exporter` is empty on plain TCP."""
    okm = hkdf_sha256(client_nonce + server_nonce, secret, SESSION_INFO + session_id + exporter, 96)
    return SessionKeys(okm[:32], okm[32:64], okm[64:])


def sign_session(key, index, unsigned):
    """Section 4: the signature of a session frame at its frame index."""
    return hmac_sha256(key, struct.pack("<Q", index), unsigned)


@dataclass(frozen=True)
class Token:
    """Section 6: a shared access signature; `text` may leave `sig` out, `secret` is the raw signature."""

    text: str
    secret: bytes


def mint_token(resource, key_name, key, expiry, with_sig=False):
    """Signs a token (section 6) with the 44 characters of `key`.

    `resource` is what `sr` names, for example `sb://forebay.example/acme/prod/pump-7`; `expiry` is unix seconds.
    """
    sr = urllib.parse.quote(resource, safe="")
    secret = hmac_sha256(key.encode(), sr.encode(), b"\n", str(expiry).encode())
    sig = f"&sig={urllib.parse.quote(base64.b64encode(secret), safe='')}" if with_sig else ""
    skn = urllib.parse.quote(key_name, safe="")
    return Token(f"SharedAccessSignature sr={sr}{sig}&se={expiry}&skn={skn}", secret)


@dataclass(frozen=True)
class Credential:
    """Section 5: how a HELLO proves who speaks. Made by `of_key`, `of_token` or `Connection.resume_credential`."""

    endpoint: str
    auth: int
    secret: bytes
    key_id: int = 0
    token: bytes = b""
    session_id: bytes = bytes(16)

    @classmethod
    def of_key(cls, endpoint, key_id, key):
        """The text of the key is the secret; it is never decoded (section 1, Keys)."""
        return cls(endpoint, AUTH_KEY, key.encode(), key_id=key_id)

    @classmethod
    def of_token(cls, endpoint, token):
        return cls(endpoint, AUTH_TOKEN, token.secret, token=token.text.encode())


# --- encoding ---------------------------------------------------------------------------------------------------------


def encode_preface(lowest=VERSION, highest=VERSION):
    """Section 2: the client's preface."""
    return PREFACE.pack(MAGIC, 0, lowest, highest, 0)


def encode_unsigned(kind, body=b"", count=0, sequence=0, signature_kind=BY_SESSION):
    """A frame up to its signature, its length field already that of the whole frame (section 3)."""
    size = HEADER.size + len(body) + SIGNATURE_BYTES[signature_kind]
    return HEADER.pack(size, kind, signature_kind, count, sequence) + body


def encode_hello(credential, client_nonce, unix_seconds, exporter=b""):
    """Section 5, HELLO (`0x01`): the whole frame. `exporter` is empty on plain TCP."""
    name = credential.endpoint.encode()
    body = struct.pack("<BBHI32sQ16s", credential.auth, len(name), len(credential.token), credential.key_id,
                       client_nonce, unix_seconds, credential.session_id)  # fmt: skip
    unsigned = encode_unsigned(HELLO, body + name + credential.token, signature_kind=BY_KEY)
    domain = TUNNEL_HELLO_DOMAIN + exporter if exporter else HELLO_DOMAIN
    return unsigned + hmac_sha256(credential.secret, domain, unsigned)


def send_body(endpoint, channel, messages, key_id=0):
    """Section 7, SEND (`0x02`): the body."""
    return struct.pack("<QII", endpoint, channel, key_id) + b"".join(message.encode() for message in messages)


def encode_varint(number):
    """RFC 9000, section 16."""
    for exponent in range(4):
        bits = 8 * (1 << exponent) - 2
        if number < 1 << bits:
            return (exponent << bits | number).to_bytes(1 << exponent, "big")
    raise ValueError(f"{number} is beyond 62 bits")


def encode_datagram(key, lane, number, endpoint, channel, sequence, messages):
    """Section 2, Datagrams: one SEND beside a lane, signed with the client key of the lane's session."""
    unsigned = encode_unsigned(SEND, send_body(endpoint, channel, messages), len(messages), sequence)
    signature = hmac_sha256(key, DATAGRAM_DOMAIN, struct.pack("<Q", number), unsigned)
    return encode_varint(lane) + encode_varint(number) + unsigned + signature


def encode_envelope(endpoint, channel, sequence, messages, key_id, key):
    """Section 9: a SEND of signature kind 2, the body of a RELAY. Signed with a symmetric key of the endpoint named."""
    body = send_body(endpoint, channel, messages, key_id)
    unsigned = encode_unsigned(SEND, body, len(messages), sequence, BY_KEY)
    return unsigned + hmac_sha256(key.encode(), RELAY_DOMAIN, unsigned)


def fetch_body(messages, size, source=QUEUE):
    """Section 10, FETCH (`0x04`): the body."""
    return struct.pack("<B3xIQ", source, messages, size)


def settle_body(outcome, source=QUEUE):
    """Section 10, SETTLE (`0x05`): the body."""
    return struct.pack("<BB6x", source, outcome)


# --- a connection -----------------------------------------------------------------------------------------------------


class Connection:
    """A session on one socket: it signs each frame sent and checks the signature of each frame read (section 4)."""

    exporter = b""  # that of the tunnel, for sessions that run in one

    def __init__(self, address, credential, timeout=10.0, unix_seconds=None):
        """Connects and shakes hands (sections 2 and 5). Raises `Refused`, `GoneAway` or `VersionRefused`."""
        self.address = address
        self.credential = credential
        self.client_index = 0
        self.server_index = 0
        self.welcome = None
        self.keys = None
        self.socket = socket.create_connection(address, timeout)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._shake_hands(int(time.time()) if unix_seconds is None else unix_seconds)
        except BaseException:
            self.drop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.drop()

    def _shake_hands(self, unix_seconds):
        nonce = os.urandom(32)
        self.send_bytes(encode_preface() + encode_hello(self.credential, nonce, unix_seconds, self.exporter))
        read_preface(self)
        frame = split_frame(self.read_frame_bytes())
        if frame.kind not in (WELCOME, REFUSED, GOAWAY):
            raise ProtocolFault(f"{KIND_NAMES[frame.kind]} in answer to HELLO")
        answer = decode_server_frame(frame)
        if frame.kind == REFUSED:
            raise Refused(answer)
        if frame.kind == GOAWAY:
            raise GoneAway(answer.notice)
        self.keys = session_keys(self.credential.secret, nonce, answer.server_nonce, answer.session_id, self.exporter)
        self._check_signature(frame)
        self.welcome = answer

    def resume_credential(self):
        """Section 5, Resuming: what takes this session up again on a new connection."""
        return Credential(self.credential.endpoint, AUTH_RESUME, self.keys.resume, session_id=self.welcome.session_id)

    # Bytes.

    def send_bytes(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionError) as error:
            raise ConnectionLost(str(error)) from error

    def read_bytes(self, size):
        data = bytearray()
        while len(data) < size:
            try:
                part = self.socket.recv(size - len(data))
            except ConnectionError as error:
                raise ConnectionLost(str(error)) from error
            if not part:
                raise ConnectionLost(f"closed with {size - len(data)} bytes to come")
            data += part
        return bytes(data)

    def read_frame_bytes(self):
        """One frame, still whole. A length outside the bounds is a fault (section 15, step 3)."""
        length = self.read_bytes(4)
        size = struct.unpack("<I", length)[0]
        if not HEADER.size <= size <= FRAME_BYTES_MAX:
            raise ProtocolFault(f"a frame of {size} bytes")
        return length + self.read_bytes(size - 4)

    def closed_by_server(self):
        """True when the server closes the connection without saying any more; waits for it up to the timeout."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    # Frames.

    def encode(self, kind, body=b"", count=0, sequence=0):
        """A session frame signed at the next index, which it uses up."""
        unsigned = encode_unsigned(kind, body, count, sequence)
        frame = unsigned + sign_session(self.keys.client, self.client_index, unsigned)
        self.client_index += 1
        return frame

    def transmit(self, kind, body=b"", count=0, sequence=0):
        """Signs a frame, sends it, and returns its bytes."""
        frame = self.encode(kind, body, count, sequence)
        self.send_bytes(frame)
        return frame

    def transmit_send(self, channel, sequence, messages, endpoint=None):
        """A direct SEND (section 7)."""
        endpoint = self.welcome.endpoint if endpoint is None else endpoint
        return self.transmit(SEND, send_body(endpoint, channel, messages), len(messages), sequence)

    def receive(self):
        """The next frame of the server, its signature checked. Raises `GoneAway` on GOAWAY."""
        frame = split_frame(self.read_frame_bytes())
        answer = decode_server_frame(frame)
        if frame.kind in (WELCOME, REFUSED):
            raise ProtocolFault(f"{KIND_NAMES[frame.kind]} in an open session")
        self._check_signature(frame)
        if frame.kind == GOAWAY:
            raise GoneAway(answer.notice)
        return answer

    def _check_signature(self, frame):
        """Every frame of the server, WELCOME at index 0 (section 4). An unsigned GOAWAY fails here (section 11)."""
        expected = sign_session(self.keys.server, self.server_index, frame.unsigned)
        if not hmac.compare_digest(expected, frame.signature):
            raise ProtocolFault(f"{KIND_NAMES[frame.kind]}: wrong signature at server index {self.server_index}")
        self.server_index += 1

    # Ending (section 11).

    def bye(self):
        """Leaves for good: the session does not linger."""
        self.transmit(BYE, Notice(REASON_CODES["peer_bye"]).encode())
        self.drop()

    def drop(self):
        """Closes the socket without a word: the session lingers and can be resumed."""
        self.socket.close()


def read_preface(connection):
    """Section 2: the server's preface, which must choose our version."""
    magic, chosen, lowest, highest, reserved = PREFACE.unpack(connection.read_bytes(PREFACE.size))
    if magic != MAGIC or reserved or not 1 <= lowest <= highest:
        raise ProtocolFault("not a preface")
    if chosen == 0:
        raise VersionRefused(f"the server knows versions {lowest} to {highest}")
    if chosen != VERSION:
        raise ProtocolFault(f"the server chose version {chosen}")


# --- sending ----------------------------------------------------------------------------------------------------------


@dataclass
class Pending:
    """A SEND on its way. `ack` or `rejected` is set when the server has answered for it."""

    channel: int
    messages: list
    number: int = 0
    size: int = 0
    ack: Ack = None
    rejected: Notice = None


@dataclass
class Stream:
    """Section 7: the numbers of one partition, and the frames that are not answered yet, in order."""

    next: int
    unacked: deque = field(default_factory=deque)
    refused_gap: int = 0  # the number last refused with `out_of_sequence`


class Sender:
    """Sends with a window, acts on REJECT by going back, and sends again after a lost connection (section 7)."""

    def __init__(self, connection):
        self.streams = {}
        self.rejects = []
        self.heeds_credit = True
        self._adopt(connection)

    def _adopt(self, connection):
        """Takes over a new connection: drop what `last_sequence` covers, send the rest again with the same numbers."""
        if connection.welcome.direction != INGRESS:
            raise ValueError("the credential is not for sending")
        self.connection = connection
        self.credit_frames = connection.welcome.credit_frames
        self.credit_bytes = connection.welcome.credit_bytes
        for entry in connection.welcome.entries:
            stream = self.streams.setdefault(entry.partition, Stream(entry.last_sequence + 1))
            covered = Ack(entry.last_sequence, entry.partition, entry.ack_mode, 0, self.credit_frames, self.credit_bytes)
            self._settle_up_to(stream, covered)
            stream.refused_gap = 0
            for pending in list(stream.unacked):
                self._transmit(pending)

    def resume(self):
        """Goes on with the same session on a new connection (section 5, Resuming)."""
        old = self.connection
        old.drop()
        self._adopt(Connection(old.address, old.resume_credential()))

    def send(self, channel, messages):
        """Sends to the channel of that full name, without waiting unless the window is full."""
        entry = self.connection.welcome.entry(channel)
        stream = self.streams[entry.partition]
        pending = Pending(entry.channel, list(messages))
        body_bytes = len(send_body(self.connection.welcome.endpoint, entry.channel, pending.messages))
        pending.size = HEADER.size + body_bytes + SIGNATURE_BYTES[BY_SESSION]
        while self.heeds_credit and not self._has_room(pending.size):
            self.pump()
        pending.number = stream.next
        stream.next += 1
        stream.unacked.append(pending)
        self._transmit(pending)
        return pending

    def flush(self):
        """Waits until every frame is acked or rejected."""
        while any(stream.unacked for stream in self.streams.values()):
            self.pump()

    def pump(self):
        """Reads one frame of the server and acts on it."""
        try:
            answer = self.connection.receive()
        except GoneAway as gone:
            if gone.notice.name == "session_unknown":
                raise TakenOver(str(gone)) from gone
            raise
        if isinstance(answer, Ack):
            self._on_ack(answer)
        elif isinstance(answer, Reject):
            self._on_reject(answer)
        elif not isinstance(answer, Pong):
            raise ProtocolFault(f"a sender does not expect {answer}")

    def _has_room(self, size):
        """Section 7, Credit. A frame is always let through when nothing is unacked."""
        waiting = [pending.size for stream in self.streams.values() for pending in stream.unacked]
        return not waiting or (len(waiting) < self.credit_frames and sum(waiting) + size <= self.credit_bytes)

    def _transmit(self, pending):
        self.connection.transmit_send(pending.channel, pending.number, pending.messages)

    def _stream(self, answer):
        if answer.partition not in self.streams:
            raise ProtocolFault(f"no stream {answer.partition:#x}")
        return self.streams[answer.partition]

    @staticmethod
    def _settle_up_to(stream, ack):
        while stream.unacked and stream.unacked[0].number <= ack.sequence:
            stream.unacked.popleft().ack = ack

    def _on_ack(self, ack):
        self._settle_up_to(self._stream(ack), ack)
        self.credit_frames, self.credit_bytes = ack.credit_frames, ack.credit_bytes

    def _on_reject(self, reject):
        """Section 7, Go-back-N. A frame that may be retried stays; any other leaves the window, and is told to the
        caller in its `rejected`. A frame refused on NO_STREAM is gone back to by the `out_of_sequence` behind it."""
        self.rejects.append(reject)
        if reject.partition == NO_STREAM:
            return
        stream, notice = self._stream(reject), reject.notice
        back_to = reject.sequence
        if notice.name == "replayed":
            return
        if notice.name == "partition_sealed":
            raise Sealed(str(reject))
        if notice.name == "out_of_sequence":
            if stream.refused_gap == reject.sequence:
                self.connection.drop()
                raise TakenOver(f"{reject}, the second time")
            stream.refused_gap = reject.sequence
            back_to = notice.needed
        elif notice.retry_after_ms:
            time.sleep(notice.retry_after_ms / 1000)
        else:
            for pending in stream.unacked:
                if pending.number == reject.sequence:
                    pending.rejected = notice
                    stream.unacked.remove(pending)
                    break
        number = back_to
        for pending in stream.unacked:
            if pending.number >= back_to:
                pending.number = number
                number += 1
                self._transmit(pending)
        stream.next = number


# --- receiving --------------------------------------------------------------------------------------------------------


class Receiver:
    """Fetches, reads deliveries and settles them (section 10)."""

    def __init__(self, connection):
        if connection.welcome.direction != EGRESS:
            raise ValueError("the credential is not for receiving")
        self.connection = connection
        self.ready = deque()
        self.rejects = []
        self._pings = 0

    def fetch(self, messages, size=1 << 20, source=QUEUE):
        """Adds to the credit."""
        self.connection.transmit(FETCH, fetch_body(messages, size, source))

    def settle(self, number, outcome=ACCEPT_ALL, source=QUEUE):
        """Settles a delivery. Success has no answer; `barrier` tells that it was taken."""
        self.connection.transmit(SETTLE, settle_body(outcome, source), sequence=number)

    def barrier(self):
        """A PING and its PONG: all that was sent before has had its effect (section 11)."""
        self._pings += 1
        self.connection.transmit(PING, sequence=self._pings)
        while not isinstance(answer := self._read(), Pong):
            pass
        if answer.sequence != self._pings:
            raise ProtocolFault(f"PONG {answer.sequence} in answer to PING {self._pings}")

    def next(self):
        """The next delivery, waiting for it."""
        while not self.ready:
            self._read()
        return self.ready.popleft()

    def take(self, count):
        return [self.next() for _ in range(count)]

    def _read(self):
        answer = self.connection.receive()
        if isinstance(answer, Deliver):
            self.ready.extend(answer.deliveries)
        elif isinstance(answer, Reject):
            self.rejects.append(answer)
        elif not isinstance(answer, Pong):
            raise ProtocolFault(f"a receiver does not expect {answer}")
        return answer

    def resume(self):
        """Goes on with the same session on a new connection. Credit ends with the connection: fetch again."""
        old = self.connection
        old.drop()
        self.connection = Connection(old.address, old.resume_credential())
        self.ready.clear()
