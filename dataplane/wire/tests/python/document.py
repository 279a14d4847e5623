"""Part 1 of the checks, without a server: PROTOCOL.md is replayed byte by byte and compared with the client.

The hex blocks of section 14 are parsed from the document itself, so that a change of either side is noticed.
"""

import base64
import pathlib
import re

import forebay
from xxh3 import xxh3_64

DOCUMENT = pathlib.Path(__file__).parents[2] / "PROTOCOL.md"

SENDER, RECEIVER, CHANNEL = "acme/prod/pump-7", "acme/prod/billing", "acme/prod/telemetry"
SENDER_KEY = base64.b64encode(bytes(range(0x00, 0x20))).decode()
RECEIVER_KEY = base64.b64encode(bytes(range(0x20, 0x40))).decode()
CLOCK = 1795262400
FIRST = forebay.Message(b"21.5", (("content-type", b"application/json"), ("unit", "°C".encode())), CLOCK * 10**9)
SECOND = forebay.Message(b"21.6", (), CLOCK * 10**9 + 1)


def equal(seen, needed, what=""):
    assert seen == needed, f"{what}: {seen!r}, not {needed!r}"


def section(number):
    """The text of one section of the document."""
    text = DOCUMENT.read_text()
    start = text.index(f"\n## {number}. ")
    return text[start : text.find("\n## ", start + 1)]


def conversation():
    """Section 14: {"connection 1, client: HELLO": bytes, ...} in the order of the document."""
    blocks = {}
    for block in re.findall(r"^\[([^\]]+)\]\n.*\n((?:[0-9a-f]+\n)+)", section(14), re.MULTILINE):
        blocks[block[0]] = bytes.fromhex(block[1])
    return blocks


def table(number, columns):
    """The rows of every table of a section that has so many columns, as lists of cells without backticks."""
    for line in section(number).splitlines():
        cells = [cell.strip().strip("`") for cell in line.replace(r"\|", "").strip("|").split("|")]
        if line.startswith("|") and len(cells) == columns and not set(line) <= set("|-: "):
            yield cells


class Replay:
    """One connection of section 14: holds the client's encoders to the document's bytes, and reads the server's."""

    def __init__(self, name, credential, nonce, direction, unix_seconds, exporter=b""):
        self.blocks = {}
        for key, data in conversation().items():
            if key.startswith(name):
                self.blocks[key.removeprefix(f"{name}, ")] = data
        self.credential, self.nonce, self.direction = credential, nonce, direction
        self.unix_seconds, self.exporter = unix_seconds, exporter
        self.keys = None
        self.client_index = self.server_index = 0

    def hello(self):
        equal(forebay.encode_preface(), self.blocks["client: preface"], "preface")
        equal(forebay.encode_hello(self.credential, self.nonce, self.unix_seconds, self.exporter),
              self.blocks["client: HELLO"], "HELLO")  # fmt: skip

    def welcome(self):
        equal(self.blocks["server: preface"], bytes.fromhex("4642415901010100"), "the server's preface")
        frame = forebay.split_frame(self.blocks["server: WELCOME"])
        welcome = forebay.decode_server_frame(frame)
        self.keys = forebay.session_keys(
            self.credential.secret, self.nonce, welcome.server_nonce, welcome.session_id, self.exporter
        )
        self._check(frame)
        equal(welcome.direction, self.direction, "direction")
        equal(welcome.endpoint, xxh3_64(self.credential.endpoint), "the endpoint's id")
        equal(welcome.entry(CHANNEL).channel, xxh3_64(CHANNEL) & 0xFFFFFFFF, "the channel's id")
        return welcome

    def server(self, name):
        frame = forebay.split_frame(self.blocks[f"server: {name}"])
        self._check(frame)
        return forebay.decode_server_frame(frame)

    def client(self, name, kind, body=b"", count=0, sequence=0):
        unsigned = forebay.encode_unsigned(kind, body, count, sequence)
        frame = unsigned + forebay.sign_session(self.keys.client, self.client_index, unsigned)
        equal(frame.hex(), self.blocks[f"client: {name}"].hex(), name)
        self.client_index += 1

    def bye(self):
        self.client("BYE", forebay.BYE, forebay.Notice(forebay.REASON_CODES["peer_bye"]).encode())

    def _check(self, frame):
        needed = forebay.sign_session(self.keys.server, self.server_index, frame.unsigned)
        equal(frame.signature.hex(), needed.hex(), f"signature at server index {self.server_index}")
        self.server_index += 1


def connection_1():
    credential = forebay.Credential.of_key(SENDER, 1, SENDER_KEY)
    return Replay("connection 1", credential, bytes(range(0x60, 0x80)), forebay.INGRESS, CLOCK)


def connection_2():
    # The document's token was made with lower-case hex; the text signed is the text as it stands (section 6). This
    # client has no clock: its HELLO says 0.
    sr = "sb%3a%2f%2fforebay.example%2facme%2fprod%2fbilling"
    expiry = conversation()["connection 2, client: HELLO"].split(b"&se=")[1].split(b"&")[0].decode()
    secret = forebay.hmac_sha256(RECEIVER_KEY.encode(), sr.encode(), b"\n", expiry.encode())
    token = forebay.Token(f"SharedAccessSignature sr={sr}&se={expiry}&skn=primary", secret)
    credential = forebay.Credential.of_token(RECEIVER, token)
    return Replay("connection 2", credential, bytes(range(0xA0, 0xC0)), forebay.EGRESS, unix_seconds=0)


def connection_3():
    credential = forebay.Credential.of_key(SENDER, 1, SENDER_KEY)
    nonce, exporter = bytes(range(0x10, 0x30)), bytes(range(0xE0, 0x100))
    return Replay("connection 3", credential, nonce, forebay.INGRESS, CLOCK, exporter)


# --- the checks -------------------------------------------------------------------------------------------------------


def check_sending():
    """section 14, connection 1: every byte of the client, every signature and field of the server"""
    replay = connection_1()
    replay.hello()
    welcome = replay.welcome()
    entry = welcome.entry(CHANNEL)
    equal(welcome.session_id, b"\xa1" * 16, "session id")
    equal((entry.last_sequence, entry.ack_mode), (0, 2), "entry")
    equal(entry.partition, 1 << 16 | welcome.endpoint % 4, "partition")
    body = forebay.send_body(welcome.endpoint, entry.channel, [FIRST, SECOND])
    replay.client("SEND 1", forebay.SEND, body, 2, 1)
    ack = forebay.Ack(1, entry.partition, 2, 1, welcome.credit_frames, welcome.credit_bytes)
    equal(replay.server("ACK 1"), ack)
    late = forebay.Message(SECOND.body, (), FIRST.timestamp)
    replay.client("SEND 3", forebay.SEND, forebay.send_body(welcome.endpoint, entry.channel, [late]), 1, 3)
    notice = forebay.Notice(forebay.REASON_CODES["out_of_sequence"], 0, 3, 2)
    equal(replay.server("REJECT 3"), forebay.Reject(3, entry.partition, notice))
    replay.client("PING 7", forebay.PING, sequence=7)
    equal(replay.server("PONG 7"), forebay.Pong(7))
    replay.bye()


def check_receiving():
    """section 14, connection 2: a token without sig, FETCH, DELIVER, SETTLE"""
    replay = connection_2()
    replay.hello()
    welcome = replay.welcome()
    replay.client("FETCH", forebay.FETCH, forebay.fetch_body(100, 1 << 20))
    deliver = replay.server("DELIVER 1")
    equal([delivery.message for delivery in deliver.deliveries], [FIRST, SECOND], "messages")
    equal([delivery.number for delivery in deliver.deliveries], [1, 2], "numbers")
    equal([delivery.offset for delivery in deliver.deliveries], [0, 1], "offsets")
    for delivery in deliver.deliveries:
        equal((delivery.sender, delivery.attempt), (xxh3_64(SENDER), 1), "sender and attempt")
        equal(delivery.channel, welcome.entry(CHANNEL).channel, "channel")
    replay.client("SETTLE 2", forebay.SETTLE, forebay.settle_body(forebay.ACCEPT_ALL), sequence=2)
    replay.bye()


def check_tunnel():
    """section 14, connection 3: a session in a tunnel, whose HELLO is that of no other one"""
    replay = connection_3()
    replay.hello()
    welcome = replay.welcome()
    entry = welcome.entry(CHANNEL)
    equal(entry.last_sequence, 1, "last sequence")
    key = replay.keys.client
    one = forebay.Message(SECOND.body, (), FIRST.timestamp)
    datagram = forebay.encode_datagram(key, 0, 9, welcome.endpoint, entry.channel, 3, [one])
    equal(datagram.hex(), replay.blocks["beside the lane: DATAGRAM 9"].hex(), "DATAGRAM 9")
    ack = forebay.Ack(9, forebay.DATAGRAM_STREAM, 2, 2, welcome.credit_frames, welcome.credit_bytes)
    equal(replay.server("ACK of DATAGRAM 9"), ack)
    replay.bye()
    for exporter in (b"", bytes(32), bytes(range(0xDF, 0xFF))):
        other = forebay.encode_hello(replay.credential, replay.nonce, CLOCK, exporter)
        assert other != replay.blocks["client: HELLO"], f"the same HELLO for {exporter.hex()}"


def check_nothing_left():
    """section 14: no block of the conversation is left unread"""
    frames = {"preface", "HELLO", "WELCOME", "SEND", "ACK", "REJECT", "PING", "PONG", "BYE", "FETCH", "DELIVER", "SETTLE", "DATAGRAM"}
    blocks = conversation()
    equal(len(blocks), 26, "blocks")
    equal({name.split(": ")[1].split()[0] for name in blocks}, frames, "frames")


def check_tampering():
    """sections 3 and 4: a frame with any one bit turned is refused"""
    replay = connection_1()
    replay.welcome()
    data = replay.blocks["server: ACK 1"]
    for bit in range(8 * len(data)):
        turned = bytearray(data)
        turned[bit // 8] ^= 1 << bit % 8
        try:
            frame = forebay.split_frame(bytes(turned))
            forebay.decode_server_frame(frame)
        except forebay.ProtocolFault:
            continue
        needed = forebay.sign_session(replay.keys.server, 1, frame.unsigned)
        assert needed != frame.signature, f"bit {bit} can be turned"


def check_lengths():
    """section 3: no server frame that is cut short or padded is taken, whatever its length field says"""
    for name, data in conversation().items():
        if "server" not in name or "preface" in name:
            continue
        for size in [*range(len(data)), len(data) + 1]:
            changed = bytearray((data + b"\0")[:size])
            changed[:4] = size.to_bytes(4, "little")
            try:
                forebay.decode_server_frame(forebay.split_frame(bytes(changed)))
            except forebay.ProtocolFault:
                continue
            raise AssertionError(f"{name}: {size} bytes are taken")


def check_reasons():
    """section 13: the client's reasons are the document's"""
    rows = {int(row[0]): (row[1], row[5] == "yes") for row in table(13, 7) if row[0].isdigit()}
    equal(rows, forebay.REASONS)


def check_kinds():
    """section 3: the client's kinds are the document's"""
    rows = {int(row[0], 16): row[1] for row in table(3, 6) if row[0].startswith("0x")}
    equal(rows, forebay.KIND_NAMES)


def check_limits():
    """section 12: the client's limits are the document's"""
    rows = {row[0]: int(row[1]) for row in table(12, 3) if row[1].isdigit()}
    equal(len(rows), 13, "limits")
    for name in ("FRAME_BYTES_MAX", "BODY_BYTES_MAX", "HEADERS_BYTES_MAX", "HEADERS_MAX", "MESSAGES_MAX"):
        equal(getattr(forebay, name), rows[name], name)


def check_minting():
    """section 6: the client's own tokens carry the signature they leave out"""
    bare = forebay.mint_token("sb://forebay.example/acme/prod/billing", "primary", RECEIVER_KEY, CLOCK)
    whole = forebay.mint_token("sb://forebay.example/acme/prod/billing", "primary", RECEIVER_KEY, CLOCK, with_sig=True)
    equal(bare.secret, whole.secret, "secret")
    assert "sig=" not in bare.text and "&sig=" in whole.text
    by_hand = forebay.hmac_sha256(
        RECEIVER_KEY.encode(), b"sb%3A%2F%2Fforebay.example%2Facme%2Fprod%2Fbilling\n", str(CLOCK).encode()
    )
    equal(bare.secret, by_hand, "secret")


CHECKS = [
    check_sending, check_receiving, check_tunnel, check_nothing_left, check_tampering, check_lengths, check_reasons, check_kinds,
    check_limits, check_minting,
]  # fmt: skip
