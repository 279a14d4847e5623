"""Part 2 of the checks: a running node, held to what PROTOCOL.md says a client may rely on.

Nothing here waits for a time to pass. That something does *not* come is told by what comes after it: a PONG, or a
message sent later.
"""

import base64
import dataclasses
import os
import signal
import struct
import time
import unittest

import forebay
from document import equal
from forebay import Connection, Credential, Message, Receiver, Sender
from xxh3 import xxh3_64


class Node:
    """The node under test: its address, and credentials for a sender and a receiver of one channel."""

    def __init__(self, address, plan, process=None):
        self.address = address
        self.process = process
        self.sender = plan["sender"]
        self.receiver = plan["receiver"]
        self.channel = plan["sender"]["channel"]
        self.forbidden_channel = plan.get("forbidden_channel")
        self.run = os.urandom(4).hex()
        self.bodies = 0

    # Connections.

    def credential(self, party, **changes):
        party = {**party, **changes}
        return Credential.of_key(party["endpoint"], party["key_id"], party["key"])

    def token(self, expiry, resource=None, with_sig=False, name=None):
        """A credential of the sender with a token of its key."""
        endpoint = self.sender["endpoint"]
        resource = resource or f"sb://forebay.example/{endpoint}"
        token = forebay.mint_token(
            resource, name or self.sender["key_name"], self.sender["key"], expiry, with_sig=with_sig
        )
        return Credential.of_token(endpoint, token)

    def connect(self, credential=None, **options):
        return Connection(self.address, credential or self.credential(self.sender), **options)

    def sending(self):
        return Sender(self.connect())

    def receiving(self):
        return Receiver(self.connect(self.credential(self.receiver)))

    # Messages.

    def message(self, text="", headers=()):
        """A message unlike any other."""
        self.bodies += 1
        return Message(f"{self.run}-{self.bodies} {text}".encode(), headers, time.time_ns())

    def messages(self, count):
        return [self.message() for _ in range(count)]

    def send(self, *messages):
        """Sends a frame for each message, on a connection of its own, and waits for the acks."""
        with self.sending().connection as connection:
            sender = Sender(connection)
            pending = [sender.send(self.channel, [message]) for message in messages]
            sender.flush()
            assert all(frame.ack for frame in pending), f"not acked: {[frame.rejected for frame in pending]}"
            connection.bye()

    def drained(self):
        """A receiver whose queue is empty: all up to a message sent just now is read and settled."""
        marker = self.message("marker")
        self.send(marker)
        receiver = self.receiving()
        receiver.fetch(4096)
        while (delivery := receiver.next()).message != marker:
            if delivery.number % 1024 == 0:
                receiver.settle(delivery.number)
                receiver.fetch(1024)
        receiver.settle(delivery.number)
        receiver.barrier()
        receiver.connection.bye()
        return self.receiving()


class Wire:
    """A sender's connection driven frame by frame, for saying what a `Sender` never would."""

    def __init__(self, node, credential=None):
        self.connection = node.connect(credential)
        self.entry = self.connection.welcome.entry(node.channel)
        self.next = self.entry.last_sequence + 1

    def send(self, number, messages, **changes):
        return self.connection.transmit_send(changes.pop("channel", self.entry.channel), number, messages, **changes)

    def raw_send(self, number, count, body):
        """A SEND whose messages are these bytes."""
        head = struct.pack("<QII", self.connection.welcome.endpoint, self.entry.channel, 0)
        return self.connection.transmit(forebay.SEND, head + body, count, number)

    def acked(self, number):
        """Reads on until that number is acked; nothing but acks may come before."""
        while True:
            answer = self.connection.receive()
            assert isinstance(answer, forebay.Ack), f"{answer}, not an ACK of {number}"
            equal(answer.partition, self.entry.partition, "stream of the ACK")
            if answer.sequence >= number:
                equal(answer.sequence, number, "ACK")
                return answer

    def take_next(self, message):
        """Sends the next number and waits for its ack: the stream goes on."""
        self.send(self.next, [message])
        ack = self.acked(self.next)
        self.next += 1
        return ack

    def rejected(self, reason, number, stream=None):
        """The next answer is this REJECT."""
        answer = self.connection.receive()
        assert isinstance(answer, forebay.Reject), f"{answer}, not a REJECT with {reason}"
        equal(answer.notice.name, reason, "reason")
        equal(answer.partition, self.entry.partition if stream is None else stream, "stream of the REJECT")
        equal(answer.sequence, number, "number of the REJECT")
        return answer.notice

    def answers_ping(self, number=77):
        """The connection survives, and nothing was answered meanwhile."""
        self.connection.transmit(forebay.PING, sequence=number)
        equal(self.connection.receive(), forebay.Pong(number), "answer to PING")

    def bye(self):
        self.connection.bye()


def refused(node, reason, credential, **options):
    """The HELLO is answered with REFUSED for that reason, and the connection is closed."""
    try:
        node.connect(credential, **options).drop()
    except forebay.Refused as refusal:
        equal(refusal.notice.name, reason, "reason")
        return refusal.notice
    raise AssertionError(f"welcomed, not refused with {reason}")


def goes_away(connection, *reasons):
    """A signed GOAWAY for one of these reasons comes next (acks and rejects before it are skipped), then the end."""
    try:
        while True:
            connection.receive()
    except forebay.GoneAway as gone:
        assert gone.notice.name in reasons, f"GOAWAY with {gone.notice}, not {reasons}"
        assert connection.closed_by_server(), "bytes follow GOAWAY"
        return gone.notice


# --- handshake (sections 2, 5 and 6) ----------------------------------------------------------------------------------


def check_key(node):
    """section 5: a key is welcomed, and WELCOME names the session, the limits and the channel"""
    for party, direction in ((node.sender, forebay.INGRESS), (node.receiver, forebay.EGRESS)):
        with node.connect(node.credential(party)) as connection:
            welcome = connection.welcome
            equal(welcome.direction, direction, "direction")
            equal(welcome.endpoint, xxh3_64(party["endpoint"]), "endpoint id")
            equal(welcome.entry(node.channel).channel, xxh3_64(node.channel) & 0xFFFFFFFF, "channel id")
            assert 0 < welcome.frame_bytes_max <= forebay.FRAME_BYTES_MAX
            assert 0 < welcome.body_bytes_max <= forebay.BODY_BYTES_MAX
            assert 0 < welcome.messages_max <= forebay.MESSAGES_MAX
            assert welcome.home_shard < welcome.shards and welcome.credit_frames and welcome.credit_bytes
            assert abs(welcome.unix_nanos - time.time_ns()) < 60 * 10**9, "the server's clock"
            connection.bye()


def check_sessions_differ(node):
    """section 5: session ids and server nonces are new for every HELLO"""
    with node.connect() as one, node.connect() as two:
        assert one.welcome.session_id != two.welcome.session_id
        assert one.welcome.server_nonce != two.welcome.server_nonce


def check_bad_credential(node):
    """section 5: wrong key, unknown key id and unknown endpoint are refused alike, with nothing told apart"""
    wrong = base64.b64encode(bytes(32)).decode()
    notices = [
        refused(node, "bad_credential", node.credential(node.sender, **change))
        for change in ({"key": wrong}, {"key_id": 4711}, {"endpoint": "nobody/at/home"})
    ]
    equal(set(notices), {notices[0]}, "notices")


def check_decoded_key(node):
    """section 1: the 32 bytes behind a key's text are not the key"""
    decoded = base64.b64decode(node.sender["key"])
    refused(node, "bad_credential", dataclasses.replace(node.credential(node.sender), secret=decoded))


def check_token(node):
    """section 6: a token is welcomed with its sig and without, for the endpoint and for a parent of it"""
    expiry = int(time.time()) + 600
    account = node.sender["endpoint"].rsplit("/", 1)[0]
    for credential in (
        node.token(expiry),
        node.token(expiry, with_sig=True),
        node.token(expiry, resource=f"sb://forebay.example/{account.upper()}/"),
        node.token(expiry, resource="https://forebay.example"),
        node.token(expiry, resource=node.sender["endpoint"]),
    ):
        with node.connect(credential) as connection:
            equal(connection.welcome.direction, forebay.INGRESS, "direction")
            connection.bye()


def check_token_expired(node):
    """section 6: an expired token is refused, with the server's clock and the expiry"""
    expiry = int(time.time()) - 1
    notice = refused(node, "token_expired", node.token(expiry))
    equal(notice.needed, expiry, "needed")
    assert abs(notice.seen - time.time()) < 60, f"seen {notice.seen}"


def check_token_wrong(node):
    """section 6: scope, unknown key name, a turned bit of the proof, a doubled and a missing parameter"""
    expiry = int(time.time()) + 600
    endpoint = node.sender["endpoint"]
    refused(node, "token_scope", node.token(expiry, resource=f"sb://forebay.example/{endpoint}x"))
    refused(node, "token_scope", node.token(expiry, resource=f"sb://forebay.example/{endpoint}/below"))
    refused(node, "bad_credential", node.token(expiry, name="nobody's"))
    good = node.token(expiry)
    refused(node, "bad_credential", dataclasses.replace(good, secret=bytes([good.secret[0] ^ 1]) + good.secret[1:]))
    refused(node, "token_malformed", dataclasses.replace(good, token=good.token + b"&se=%d" % expiry))
    refused(node, "token_malformed", dataclasses.replace(good, token=good.token.split(b"&skn")[0]))


def check_clock(node):
    """section 5: a clock 400 s off is refused, no clock is welcome"""
    credential = node.credential(node.sender)
    notice = refused(node, "clock_skew", credential, unix_seconds=int(time.time()) - 400)
    assert 390 <= notice.needed - notice.seen <= 410 and abs(notice.needed - time.time()) < 60, f"{notice}"
    node.connect(credential, unix_seconds=0).bye()


class Bare(Connection):
    """A socket before any handshake."""

    def _shake_hands(self, _):
        pass


def check_versions(node):
    """section 2: a client of later versions gets chosen 0 and the end; one of versions 1 to 9 is served"""
    with Bare(node.address, None) as bare:
        bare.send_bytes(forebay.encode_preface(2, 9))
        try:
            forebay.read_preface(bare)
            raise AssertionError("versions 2 to 9 were accepted")
        except forebay.VersionRefused:
            assert bare.closed_by_server(), "bytes follow chosen 0"
    with Bare(node.address, None) as bare:
        hello = forebay.encode_hello(node.credential(node.sender), os.urandom(32), 0)
        bare.send_bytes(forebay.encode_preface(1, 9) + hello)
        forebay.read_preface(bare)
        equal(forebay.split_frame(bare.read_frame_bytes()).kind, forebay.WELCOME, "kind")


def check_no_preface(node):
    """section 2: bytes that are no preface close the connection, at most with an unsigned GOAWAY before"""
    with Bare(node.address, None) as bare:
        bare.send_bytes(b"GET / HTTP/1.1\r\n\r\n")
        try:
            frame = forebay.split_frame(bare.read_frame_bytes())
        except forebay.ConnectionLost:
            return
        assert isinstance(forebay.decode_server_frame(frame), forebay.GoAway) and frame.signature == b"", f"{frame}"
        assert bare.closed_by_server(), "bytes follow"


def unsigned_answer(node, data):
    """What the server says to these bytes behind a good preface, before there is a session; then it closes."""
    with Bare(node.address, None) as bare:
        bare.send_bytes(forebay.encode_preface() + data)
        forebay.read_preface(bare)
        frame = forebay.split_frame(bare.read_frame_bytes())
        answer = forebay.decode_server_frame(frame)
        equal(frame.signature, b"", "signature")
        assert bare.closed_by_server(), "bytes follow"
        return answer


def check_unready(node):
    """section 2: a frame before HELLO is answered with an unsigned GOAWAY, and the end"""
    answer = unsigned_answer(node, forebay.encode_unsigned(forebay.PING) + bytes(32))
    assert isinstance(answer, forebay.GoAway), f"{answer}"
    equal(answer.notice.name, "unexpected_frame", "reason")


def check_malformed_hello(node):
    """section 2: a malformed HELLO is answered with REFUSED"""
    good = node.credential(node.sender)
    for change in (
        {"auth": 7},
        {"endpoint": "acme/prod"},
        {"endpoint": "acme//pump-7"},
        {"token": b"token"},
        {"session_id": bytes(15) + b"\1"},
    ):
        hello = forebay.encode_hello(dataclasses.replace(good, **change), os.urandom(32), 0)
        answer = unsigned_answer(node, hello)
        assert isinstance(answer, forebay.Notice), f"{change}: {answer}"
        assert answer.name in ("hello_malformed", "reserved_bits"), f"{change}: {answer}"


def check_token_runs_out(node):
    """section 6: a session opened with a token ends when the token does, and does not linger"""
    with node.connect(node.token(int(time.time()) + 2)) as connection:
        goes_away(connection, "token_expired", "credential_withdrawn")
        resumed = connection.resume_credential()
    try:
        node.connect(resumed).drop()
        raise AssertionError("the session was resumed")
    except forebay.Refused as refusal:
        assert refusal.notice.name in ("session_unknown", "token_expired"), f"{refusal.notice}"


# --- sending (sections 7 and 8) ---------------------------------------------------------------------------------------


def check_send(node):
    """section 8: one message, then a batch; offsets count messages"""
    wire = Wire(node)
    first = wire.take_next(node.message())
    equal(first.ack_mode, wire.entry.ack_mode, "ack_mode")
    wire.send(wire.next, node.messages(7))
    second = wire.acked(wire.next)
    equal(second.offset, first.offset + 7, "offset")
    wire.bye()


def check_pipeline(node):
    """section 7: 300 frames without waiting, within the credit, are all acked with rising offsets"""
    sender = node.sending()
    frames = [sender.send(node.channel, node.messages(3)) for _ in range(300)]
    sender.flush()
    assert all(frame.ack for frame in frames) and not sender.rejects
    offsets = [frame.ack.offset for frame in frames]
    equal(offsets, sorted(offsets), "offsets")
    sender.connection.bye()


def check_largest(node):
    """section 12: the longest body, the most messages, the most and longest headers are taken"""
    sender = node.sending()
    welcome = sender.connection.welcome
    pairs = tuple((f"{number:03}", bytes(100)) for number in range(forebay.HEADERS_MAX - 1))
    rest = forebay.HEADERS_BYTES_MAX - len(forebay.Message(b"", pairs).encode()) + 16 - 4 - 255
    pairs += (("k" * 255, bytes(rest)),)
    equal(len(forebay.Message(b"", pairs).encode()) - 16, forebay.HEADERS_BYTES_MAX, "bytes of headers")
    frames = [
        sender.send(node.channel, [Message(bytes(welcome.body_bytes_max))]),
        sender.send(node.channel, [Message(b"")] * welcome.messages_max),
        sender.send(node.channel, [Message(b"", pairs)]),
    ]
    sender.flush()
    assert all(frame.ack for frame in frames), f"{[frame.rejected for frame in frames]}"
    sender.connection.bye()


def check_pieces(node):
    """section 2: bytes may come in any pieces: one at a time, many frames at once"""
    wire = Wire(node)
    first = wire.next
    body = forebay.send_body(wire.connection.welcome.endpoint, wire.entry.channel, node.messages(1))
    for byte in wire.connection.encode(forebay.SEND, body, 1, first):
        wire.connection.send_bytes(bytes([byte]))
    wire.acked(first)
    frames = b"".join(wire.connection.encode(forebay.SEND, body, 1, first + 1 + index) for index in range(50))
    for at in range(0, len(frames), 97):
        wire.connection.send_bytes(frames[at : at + 97])
    wire.acked(first + 50)
    wire.bye()
    with Bare(node.address, None) as bare:
        hello = forebay.encode_hello(node.credential(node.sender), os.urandom(32), 0)
        for byte in forebay.encode_preface() + hello:
            bare.send_bytes(bytes([byte]))
        forebay.read_preface(bare)
        equal(forebay.split_frame(bare.read_frame_bytes()).kind, forebay.WELCOME, "kind")


def check_beyond_credit(node):
    """section 7: a sender that heeds no window may be told `busy`; going back, all is taken once and in order"""
    receiver = node.drained()
    sender = node.sending()
    sender.heeds_credit = False
    sent = node.messages(2 * sender.credit_frames)
    frames = [sender.send(node.channel, [message]) for message in sent]
    sender.flush()
    assert all(frame.ack for frame in frames), f"{[frame.rejected for frame in frames if not frame.ack]}"
    assert {reject.notice.name for reject in sender.rejects} <= {"busy"}, f"{sender.rejects}"
    sender.connection.bye()
    receiver.fetch(len(sent))
    deliveries = receiver.take(len(sent))
    equal([delivery.message for delivery in deliveries], sent, "messages")
    receiver.settle(deliveries[-1].number)
    receiver.barrier()
    receiver.connection.bye()


def check_body_too_long(node):
    """section 7: a body one byte too long is rejected, the frames behind it are discarded until its number comes"""
    wire = Wire(node)
    longest = wire.connection.welcome.body_bytes_max
    wire.send(wire.next, [Message(bytes(longest + 1))])
    wire.send(wire.next + 1, [node.message("discarded")])
    wire.send(wire.next + 2, [node.message("discarded")])
    notice = wire.rejected("body_too_long", wire.next)
    equal((notice.seen, notice.needed, notice.retry_after_ms), (longest + 1, longest, 0), "notice")
    wire.answers_ping()
    first = wire.take_next(node.message("instead"))
    equal(wire.take_next(node.message("behind")).offset, first.offset + 1, "offset")
    wire.bye()


def check_go_back(node):
    """section 7: a sender that goes back loses nothing but the frame refused, and keeps the order"""
    receiver = node.drained()
    sender = node.sending()
    good = node.messages(40)
    frames = []
    for index, message in enumerate(good):
        if index in (5, 6, 20):
            too_long = Message(bytes(sender.connection.welcome.body_bytes_max + 1))
            frames.append((sender.send(node.channel, [too_long]), False))
        frames.append((sender.send(node.channel, [message]), True))
    sender.flush()
    for frame, taken in frames:
        equal(frame.ack is not None, taken, "acked")
        equal(frame.rejected is None or frame.rejected.name, taken or "body_too_long", "reason")
    sender.connection.bye()
    receiver.fetch(1000)
    deliveries = receiver.take(len(good))
    equal([delivery.message for delivery in deliveries], good, "messages")
    receiver.settle(deliveries[-1].number)
    receiver.barrier()
    receiver.connection.bye()


def check_gap(node):
    """section 7: a number left out is rejected, and the answer tells where to go back to"""
    wire = Wire(node)
    wire.send(wire.next + 1, [node.message("early")])
    notice = wire.rejected("out_of_sequence", wire.next + 1)
    equal((notice.seen, notice.needed), (wire.next + 1, wire.next), "notice")
    wire.take_next(node.message())
    wire.take_next(node.message())
    wire.bye()


def check_number_zero(node):
    """section 7: 0 is no number; it is rejected and leaves no gap"""
    wire = Wire(node)
    wire.take_next(node.message())
    wire.send(0, node.messages(1))
    notice = wire.rejected("out_of_sequence", 0)
    equal((notice.seen, notice.needed), (0, 1), "notice")
    wire.take_next(node.message())
    wire.bye()


def check_discarded_takes_no_credit(node):
    """section 7: frames behind a rejected one are discarded without an answer and take no credit"""
    wire = Wire(node)
    wire.send(wire.next, [Message(bytes(wire.connection.welcome.body_bytes_max + 1))])
    wire.rejected("body_too_long", wire.next)
    for number in range(wire.connection.welcome.credit_frames + 1):
        wire.send(wire.next + 1 + number, [Message(b"discarded")])
    wire.answers_ping()
    wire.take_next(node.message())
    wire.take_next(node.message())
    wire.bye()


def check_replay(node):
    """section 7: a number already received on this connection is rejected; the next one is taken"""
    wire = Wire(node)
    message = node.message()
    wire.take_next(message)
    wire.send(wire.next - 1, [message])
    notice = wire.rejected("replayed", wire.next - 1)
    equal((notice.seen, notice.needed), (wire.next - 1, wire.next), "notice")
    wire.take_next(node.message())
    wire.bye()


def check_resent(node):
    """section 7: a number of an earlier connection is acked again and not appended, the first time only"""
    receiver = node.drained()
    wire = Wire(node)
    message = node.message("once")
    wire.take_next(message)
    wire.connection.drop()
    again = Wire(node)
    equal(again.next, wire.next, "last_sequence + 1")
    again.send(again.next - 1, [message])
    again.acked(again.next - 1)
    again.send(again.next - 1, [message])
    again.rejected("replayed", again.next - 1)
    last = node.message("last")
    again.take_next(last)
    again.bye()
    receiver.fetch(10)
    equal([delivery.message for delivery in receiver.take(2)], [message, last], "messages")
    receiver.connection.drop()


def check_bad_signature(node):
    """section 3: a wrong signature is rejected on the frame's stream, uses up its index, and spends no number"""
    wire = Wire(node)
    body = forebay.send_body(wire.connection.welcome.endpoint, wire.entry.channel, node.messages(1))
    for faults in (1, 2):
        frame = bytearray(wire.connection.encode(forebay.SEND, body, 1, wire.next))
        frame[-faults] ^= 1
        wire.connection.send_bytes(bytes(frame))
        notice = wire.rejected("bad_signature", wire.next)
        equal((notice.seen, notice.needed), (faults, 16), "notice")
    wire.take_next(node.message())
    wire.bye()


def check_bad_signature_elsewhere(node):
    """section 3: a PING with a wrong signature is rejected on QUEUE_STREAM, and disturbs nothing"""
    wire = Wire(node)
    wire.connection.client_index += 1
    wire.connection.send_bytes(forebay.encode_unsigned(forebay.PING, sequence=9) + bytes(32))
    wire.rejected("bad_signature", 9, forebay.QUEUE_STREAM)
    wire.take_next(node.message())
    wire.bye()


def check_replayed_bytes(node):
    """section 4: the bytes of an earlier frame do not pass for a new one, on this connection or on another"""
    wire = Wire(node)
    frame = wire.send(wire.next, node.messages(1))
    wire.acked(wire.next)
    other = Wire(node)
    for again, reason in ((wire, "replayed"), (other, "bad_signature")):
        again.connection.client_index += 1
        again.connection.send_bytes(frame)
        again.rejected(reason, wire.next)
        again.answers_ping()
    wire.bye()
    other.bye()


def check_taken_over(node):
    """section 7: a new session owns the streams; the earlier one is closed at its next SEND, which is not appended"""
    receiver = node.drained()
    earlier = Wire(node)
    earlier.take_next(node.message())
    later = Wire(node)
    earlier.answers_ping()
    earlier.send(earlier.next, node.messages(1))
    goes_away(earlier.connection, "session_unknown")
    later.take_next(last := node.message())
    later.bye()
    receiver.fetch(3)
    receiver.next()
    equal(receiver.next().message, last, "what comes next")
    receiver.connection.bye()


def check_many_bad_signatures(node):
    """section 3: sixteen bad signatures end the connection; each has its REJECT, what came before them its answer"""
    wire = Wire(node)
    wire.connection.transmit(forebay.PING, sequence=5)
    for number in range(16):
        wire.connection.client_index += 1
        wire.connection.send_bytes(forebay.encode_unsigned(forebay.PING, sequence=number) + bytes(32))
    # REJECTs come in order, PONG may come after those of frames behind its PING (section 11).
    answers = [wire.connection.receive() for _ in range(17)]
    assert answers.count(forebay.Pong(5)) == 1, f"no PONG, or more than one, in {answers}"
    rejects = [answer for answer in answers if answer != forebay.Pong(5)]
    for number, reject in enumerate(rejects):
        equal((reject.sequence, reject.partition, reject.notice.name), (number, forebay.QUEUE_STREAM, "bad_signature"), "REJECT")
        equal((reject.notice.seen, reject.notice.needed), (number + 1, 16), "notice")
    notice = goes_away(wire.connection, "too_many_bad_signatures")
    equal((notice.seen, notice.needed), (16, 16), "notice of the GOAWAY")


def check_faults_before_signatures(node):
    """section 3: a faulty body is told whatever its signature, and is no bad signature"""
    wire = Wire(node)
    for _ in range(17):
        wire.connection.client_index += 1
        head = struct.pack("<QII", wire.connection.welcome.endpoint, wire.entry.channel, 0)
        frame = forebay.encode_unsigned(forebay.SEND, head, 0, wire.next) + bytes(32)
        wire.connection.send_bytes(frame)
        wire.rejected("no_messages", wire.next)
    wire.take_next(node.message())
    wire.bye()


def check_malformed(node):
    """section 3: faults in the body of a SEND are rejected on its stream, one after the other on one connection"""
    wire = Wire(node)
    message = node.message().encode()
    long_headers = struct.pack("<IHHQ", 0, 8193, 0, 0) + bytes(8193)
    many_pairs = struct.pack("<IHHQ", 0, 65 * 5, 0, 0) + (struct.pack("<BBH", 1, 0, 0) + b"k") * 65
    for reason, count, body in (
        ("no_messages", 0, b""),
        ("too_many_messages", 4097, Message(b"").encode() * 4097),
        ("message_malformed", 1, message[:-1]),
        ("message_malformed", 1, message + b"\0"),
        ("message_malformed", 2, message),
        ("reserved_bits", 1, message[:6] + b"\1\0" + message[8:]),
        ("message_malformed", 1, Message(b"", (("", b"value"),)).encode()),
        ("headers_too_long", 1, long_headers),
        ("headers_too_long", 1, many_pairs),
    ):
        wire.raw_send(wire.next, count, body)
        wire.rejected(reason, wire.next)
    wire.take_next(node.message())
    wire.bye()


def check_header_faults(node):
    """section 3: a fault in a frame's header ends the connection with the reason"""
    for reason, header in (
        ("unknown_kind", struct.pack("<IBBHQ", 48, 0x7E, 1, 0, 0)),
        ("signature_kind", struct.pack("<IBBHQ", 48, forebay.PING, 9, 0, 0)),
        ("signature_kind", struct.pack("<IBBHQ", 16, forebay.PING, 0, 0, 0)),
        ("reserved_bits", struct.pack("<IBBHQ", 48, forebay.PING, 1, 1, 0)),
        ("frame_too_short", struct.pack("<IBBHQ", 15, forebay.PING, 1, 0, 0)),
        ("frame_too_long", struct.pack("<IBBHQ", forebay.FRAME_BYTES_MAX + 1, forebay.SEND, 1, 1, 1)),
    ):
        with node.connect() as connection:
            connection.send_bytes(header + bytes(32))
            try:
                goes_away(connection, reason)
            except forebay.ConnectionLost as lost:
                raise AssertionError(f"no GOAWAY {reason}: {lost}") from lost


def check_out_of_place(node):
    """sections 2 and 3: kinds of the server, a PING with a body and a second HELLO end the connection"""
    for kind, count in ((forebay.PONG, 0), (forebay.ACK, 0)):
        with node.connect() as connection:
            connection.transmit(kind, bytes(24) if kind == forebay.ACK else b"", count)
            goes_away(connection, "unexpected_frame")
    with node.connect() as connection:
        connection.transmit(forebay.PING, b"body")
        goes_away(connection, *(name for name, _ in forebay.REASONS.values()))
    with node.connect() as connection:
        connection.send_bytes(forebay.encode_hello(connection.credential, os.urandom(32), 0))
        goes_away(connection, "unexpected_frame")


def check_foreign_sender(node):
    """section 13: a SEND that names another endpoint is rejected, and the stream goes on"""
    wire = Wire(node)
    wire.send(wire.next, node.messages(1), endpoint=wire.connection.welcome.endpoint ^ 1)
    answer = wire.connection.receive()
    assert isinstance(answer, forebay.Reject), f"{answer}"
    equal((answer.notice.name, answer.notice.needed), ("sender_mismatch", wire.connection.welcome.endpoint), "notice")
    wire.take_next(node.message())
    wire.bye()


def check_unknown_channel(node):
    """section 3: an unknown channel is rejected on NO_STREAM and discards nothing"""
    wire = Wire(node)
    wire.send(wire.next, node.messages(1), channel=0x12345678)
    equal(wire.rejected("unknown_channel", wire.next, forebay.NO_STREAM).seen, 0x12345678, "seen")
    wire.take_next(node.message())
    wire.bye()


def check_forbidden_channel(node):
    """section 13: a channel that exists and is not granted is rejected, and the stream goes on"""
    if node.forbidden_channel is None:
        raise unittest.SkipTest("no forbidden_channel is given")
    channel = xxh3_64(node.forbidden_channel) & 0xFFFFFFFF
    wire = Wire(node)
    assert node.forbidden_channel not in [entry.name for entry in wire.connection.welcome.entries]
    wire.send(wire.next, node.messages(1), channel=channel)
    equal(wire.rejected("not_granted", wire.next).seen, channel, "seen")
    wire.take_next(node.message())
    wire.bye()


def check_wrong_direction(node):
    """section 2: each direction's work is rejected on the other, and the connection goes on"""
    wire = Wire(node)
    for kind, body in ((forebay.FETCH, forebay.fetch_body(1, 1)), (forebay.SETTLE, forebay.settle_body(1))):
        number = 5 if kind == forebay.SETTLE else 0
        wire.connection.transmit(kind, body, sequence=number)
        wire.rejected("wrong_direction", number, forebay.QUEUE_STREAM)
    wire.take_next(node.message())
    wire.bye()
    receiver = node.receiving()
    channel = receiver.connection.welcome.entry(node.channel).channel
    receiver.connection.transmit_send(channel, 1, node.messages(1))
    receiver.barrier()
    equal([reject.notice.name for reject in receiver.rejects], ["wrong_direction"], "reasons")
    receiver.connection.bye()


def check_relay(node):
    """section 9: an envelope is acked, or refused because the endpoint may not relay, on RELAY_STREAM"""
    wire = Wire(node)
    welcome, party = wire.connection.welcome, node.sender
    envelope = forebay.encode_envelope(
        welcome.endpoint, wire.entry.channel, wire.next, node.messages(1), party["key_id"], party["key"]
    )
    wire.connection.transmit(forebay.RELAY, envelope, sequence=1)
    answer = wire.connection.receive()
    equal((answer.partition, answer.sequence), (forebay.RELAY_STREAM, 1), "stream and relay number")
    if isinstance(answer, forebay.Reject):
        equal((answer.notice.name, answer.notice.seen), ("relay_not_allowed", welcome.endpoint), "notice")
        wire.take_next(node.message())
    else:
        _relay_on(node, wire, envelope)
    wire.bye()


def _relay_on(node, wire, envelope):
    """Section 9, for an endpoint that may relay: duplicates, gaps, forged envelopes, a relay number left out."""
    connection, first = wire.connection, wire.next
    endpoint, key_id, key = wire.connection.welcome.endpoint, node.sender["key_id"], node.sender["key"]

    def relayed(number, inner):
        connection.transmit(forebay.RELAY, inner, sequence=number)
        answer = connection.receive()
        assert isinstance(answer, forebay.Ack), f"{answer}, not an ACK of relay number {number}"
        equal((answer.partition, answer.sequence, answer.offset), (forebay.RELAY_STREAM, number, 0), "ACK")

    def made(sequence, of=endpoint, with_key=key_id):
        return forebay.encode_envelope(of, wire.entry.channel, sequence, node.messages(1), with_key, key)

    relayed(2, envelope)
    relayed(3, made(first + 3))
    relayed(4, made(first + 1))
    for number, reason, inner in (
        (5, "bad_signature", envelope[:-1] + bytes([envelope[-1] ^ 1])),
        (6, "bad_signature", _as_ed25519(envelope)),
        (7, "unknown_sender", made(first + 4, of=endpoint ^ 1)),
        (8, "unknown_sender", made(first + 4, with_key=4711)),
        (9, "frame_too_short", b"no frame"),
        (10, "frame_too_short", envelope[:-1]),
        (12, "out_of_sequence", made(first + 4)),
    ):
        connection.transmit(forebay.RELAY, inner, sequence=number)
        while isinstance(answer := connection.receive(), forebay.Ack):
            equal(answer.partition, forebay.RELAY_STREAM, "stream of the ACK")
        equal((answer.partition, answer.sequence), (forebay.RELAY_STREAM, number), "stream and relay number")
        equal(answer.notice.name, reason, "reason")
    equal(answer.notice.needed, 11, "needed")
    wire.next = first + 4
    relayed(11, made(first + 2))
    wire.take_next(node.message("direct, behind the highest number of the envelopes"))


def _as_ed25519(envelope):
    """The envelope under signature kind 3, which does not fit its key."""
    size = struct.pack("<I", len(envelope) + 32)
    return size + envelope[4:5] + bytes([forebay.BY_ED25519]) + envelope[6:] + bytes(32)


def check_ed25519(_):
    """section 9: envelopes signed with Ed25519"""
    raise unittest.SkipTest("Ed25519 is not in the standard library")


def check_ping(node):
    """section 11: PONG carries the PING's number, whatever it is"""
    wire = Wire(node)
    for number in (0, 1, 0, (1 << 64) - 1):
        wire.answers_ping(number)
    wire.bye()


# --- receiving (section 10) -------------------------------------------------------------------------------------------


def check_receive(node):
    """section 10: bodies, headers, timestamps and offsets arrive as they were sent and acked, in order"""
    receiver = node.drained()
    receiver.fetch(1000)
    pairs = (("content-type", b"text/plain"), ("unit", "°C".encode()), ("unit", b""), ("raw", bytes(range(256))))
    batches = [node.messages(1), [node.message(headers=pairs[:size]) for size in range(5)], [Message(b"")]]
    sender = node.sending()
    frames = [sender.send(node.channel, batch) for batch in batches]
    sender.flush()
    sent = [message for batch in batches for message in batch]
    deliveries = receiver.take(len(sent))
    equal([delivery.message for delivery in deliveries], sent, "messages")
    equal({delivery.attempt for delivery in deliveries}, {1}, "attempts")
    equal({delivery.sender for delivery in deliveries}, {sender.connection.welcome.endpoint}, "senders")
    entry = sender.connection.welcome.entry(node.channel)
    equal({(delivery.partition, delivery.channel) for delivery in deliveries}, {(entry.partition, entry.channel)})
    last = frames[-1].ack.offset
    equal([delivery.offset for delivery in deliveries], list(range(last - len(sent) + 1, last + 1)), "offsets")
    for delivery in deliveries:
        assert abs(delivery.append_time - time.time_ns()) < 60 * 10**9, "append_time"
    receiver.settle(deliveries[-1].number)
    receiver.barrier()
    equal(receiver.rejects, [], "rejects")
    sender.connection.bye()
    receiver.connection.bye()


def check_credit(node):
    """section 10: no more is delivered than was fetched, by messages and by bytes; the last may overdraw the bytes"""
    receiver = node.drained()
    sent = node.messages(6)
    receiver.fetch(2, size=sum(len(message.encode()) for message in sent[:2]))
    node.send(*sent)
    equal([delivery.message for delivery in receiver.take(2)], sent[:2], "messages")
    receiver.barrier()
    equal(list(receiver.ready), [], "beyond the credit")
    receiver.fetch(4, size=1)
    equal([delivery.message for delivery in receiver.take(1)], sent[2:3], "messages")
    receiver.barrier()
    equal(list(receiver.ready), [], "beyond the credit")
    receiver.fetch(0, size=1)
    equal([delivery.message for delivery in receiver.take(1)], sent[3:4], "what was overdrawn is forgiven")
    receiver.barrier()
    equal(list(receiver.ready), [], "beyond the credit")
    receiver.fetch(0, size=1 << 20)
    equal([delivery.message for delivery in receiver.take(2)], sent[4:], "messages")
    receiver.connection.drop()


def check_settle_cumulative(node):
    """section 10: accepting a number accepts all before it; another session gets only what is left"""
    receiver = node.drained()
    sent = node.messages(5)
    node.send(*sent)
    receiver.fetch(5)
    deliveries = receiver.take(5)
    receiver.settle(deliveries[2].number)
    receiver.barrier()
    equal(receiver.rejects, [], "rejects")
    receiver.connection.bye()
    left = node.receiving()
    left.fetch(5)
    again = left.take(2)
    equal([delivery.message for delivery in again], sent[3:], "messages")
    equal([(d.number, d.partition, d.offset, d.attempt) for d in again],
          [(d.number, d.partition, d.offset, 2) for d in deliveries[3:]])  # fmt: skip
    left.settle(again[-1].number)
    left.barrier()
    left.connection.bye()


def check_release(node):
    """section 10: a message released is delivered again with its number; those settled behind it are not"""
    receiver = node.drained()
    sent = node.messages(4)
    node.send(*sent)
    receiver.fetch(100)
    deliveries = receiver.take(4)
    receiver.settle(deliveries[0].number, forebay.ACCEPT)
    receiver.settle(deliveries[2].number, forebay.ACCEPT)
    receiver.settle(deliveries[3].number, forebay.ACCEPT)
    receiver.settle(deliveries[1].number, forebay.RELEASE)
    again = receiver.next()
    equal(again, dataclasses.replace(deliveries[1], attempt=2), "released")
    last = node.message()
    node.send(last)
    equal(receiver.next().message, last, "what comes next")
    receiver.settle(again.number + 3)
    receiver.barrier()
    equal(receiver.rejects, [], "rejects")
    receiver.connection.bye()


def check_release_goes_back(node):
    """section 10: releasing goes back to the first unsettled number; each message delivered before counts an attempt"""
    receiver = node.drained()
    sent = node.messages(3)
    node.send(*sent)
    receiver.fetch(100)
    deliveries = receiver.take(3)
    receiver.settle(deliveries[1].number, forebay.RELEASE)
    again = receiver.take(3)
    equal(again, [dataclasses.replace(delivery, attempt=2) for delivery in deliveries], "deliveries")
    receiver.settle(again[-1].number)
    receiver.barrier()
    equal(receiver.rejects, [], "rejects")
    receiver.connection.bye()


def check_dead_letter(node):
    """section 10: a dead letter leaves the queue, is read from the dead letters, and is settled there"""
    receiver = node.drained()
    letters = node.receiving()
    sent = node.messages(2)
    node.send(*sent)
    receiver.fetch(100)
    deliveries = receiver.take(2)
    receiver.settle(deliveries[0].number, forebay.DEAD_LETTER)
    receiver.settle(deliveries[1].number, forebay.ACCEPT)
    receiver.barrier()
    letters.fetch(100, source=forebay.DEAD_LETTERS)
    while (letter := letters.next()).message != sent[0]:
        letters.settle(letter.number, source=forebay.DEAD_LETTERS)
    equal(letter.source, forebay.DEAD_LETTERS, "source")
    equal((letter.partition, letter.offset), (deliveries[0].partition, deliveries[0].offset), "place")
    letters.settle(letter.number, source=forebay.DEAD_LETTERS)
    letters.barrier()
    equal(letters.rejects, [], "rejects of dead letters")
    equal(receiver.rejects, [], "rejects")
    last = node.message()
    node.send(last)
    equal(receiver.next().message, last, "what comes next")
    receiver.settle(deliveries[1].number + 1)
    receiver.barrier()
    receiver.connection.bye()
    letters.connection.bye()


def check_attempts(node):
    """section 10: a message delivered as often as the endpoint allows, 10 times, goes to the dead letters"""
    receiver = node.drained()
    sent = node.message()
    node.send(sent)
    receiver.fetch(1000)
    for attempt in range(1, 11):
        delivery = receiver.next()
        equal((delivery.message, delivery.attempt), (sent, attempt), "message and attempt")
        receiver.settle(delivery.number, forebay.RELEASE)
    last = node.message()
    node.send(last)
    equal(receiver.next().message, last, "what comes next")
    receiver.settle(delivery.number + 1)
    receiver.barrier()
    receiver.fetch(1000, source=forebay.DEAD_LETTERS)
    while (letter := receiver.next()).message != sent:
        receiver.settle(letter.number, source=forebay.DEAD_LETTERS)
    equal((letter.partition, letter.offset), (delivery.partition, delivery.offset), "place")
    receiver.settle(letter.number, source=forebay.DEAD_LETTERS)
    receiver.barrier()
    equal(receiver.rejects, [], "rejects")
    receiver.connection.bye()


def check_not_delivered(node):
    """section 13: settling what never was delivered is rejected and changes nothing"""
    receiver = node.drained()
    receiver.fetch(10)
    sent = node.message()
    node.send(sent)
    delivery = receiver.next()
    for outcome in (forebay.ACCEPT_ALL, forebay.ACCEPT, forebay.RELEASE, forebay.DEAD_LETTER):
        _not_delivered(receiver, delivery.number + 5, outcome, delivery.number + 1)
    receiver.settle(delivery.number)
    receiver.barrier()
    equal(receiver.rejects, [], "rejects")
    receiver.connection.bye()


def check_settled_before(node):
    """section 10: settling what is settled already changes nothing and gets no answer, whatever the outcome"""
    receiver = node.drained()
    node.send(*node.messages(5))
    receiver.fetch(10)
    numbers = [delivery.number for delivery in receiver.take(5)]
    receiver.settle(numbers[1])
    receiver.settle(numbers[3], forebay.ACCEPT)
    receiver.barrier()
    for settled in (numbers[0], numbers[1], numbers[3]):
        for outcome in (forebay.ACCEPT_ALL, forebay.ACCEPT, forebay.RELEASE, forebay.DEAD_LETTER):
            if outcome == forebay.ACCEPT_ALL and settled == numbers[3]:
                continue  # it would settle the third as well
            receiver.settle(settled, outcome)
    receiver.barrier()
    equal(receiver.rejects, [], "rejects")
    receiver.connection.bye()
    receiver = node.receiving()
    receiver.fetch(10)
    equal([delivery.number for delivery in receiver.take(2)], [numbers[2], numbers[4]], "what is left")
    receiver.settle(numbers[4])
    receiver.barrier()
    receiver.connection.bye()


def _not_delivered(receiver, number, outcome, past):
    receiver.settle(number, outcome)
    receiver.barrier()
    equal([(reject.partition, reject.sequence, reject.notice.name, reject.notice.seen, reject.notice.needed)
           for reject in receiver.rejects],
          [(forebay.QUEUE_STREAM, number, "not_delivered", number, past)])  # fmt: skip
    receiver.rejects.clear()


def check_malformed_receiving(node):
    """section 3: faults in the body of FETCH and SETTLE are rejected on QUEUE_STREAM, and the connection goes on"""
    receiver = node.drained()
    for kind, number, body in (
        (forebay.FETCH, 0, forebay.fetch_body(1, 1, source=2)),
        (forebay.FETCH, 0, b"\0\1" + forebay.fetch_body(1, 1)[2:]),
        (forebay.SETTLE, 4, forebay.settle_body(forebay.ACCEPT, source=2)),
        (forebay.SETTLE, 5, forebay.settle_body(0)),
        (forebay.SETTLE, 6, forebay.settle_body(5)),
        (forebay.SETTLE, 7, forebay.settle_body(1)[:-1] + b"\1"),
    ):
        receiver.connection.transmit(kind, body, sequence=number)
        receiver.barrier()
        equal([(reject.partition, reject.sequence, reject.notice.name) for reject in receiver.rejects],
              [(forebay.QUEUE_STREAM, number, "reserved_bits")])  # fmt: skip
        receiver.rejects.clear()
    receiver.connection.bye()


def check_fetch_too_large(node):
    """section 10: more credit than may be held is rejected, and the connection goes on"""
    receiver = node.receiving()
    receiver.fetch((1 << 32) - 1, size=(1 << 64) - 1)
    receiver.barrier()
    equal([(reject.partition, reject.sequence, reject.notice.name) for reject in receiver.rejects],
          [(forebay.QUEUE_STREAM, 0, "fetch_too_large")])  # fmt: skip
    receiver.connection.bye()


def check_queue_taken(node):
    """section 10: the last FETCH wins; the earlier session is told, and what it held is delivered to the later one"""
    earlier = node.drained()
    sent = node.messages(2)
    node.send(*sent)
    earlier.fetch(100)
    held = earlier.take(2)
    later = node.receiving()
    later.fetch(100)
    again = later.take(2)
    equal(again, [dataclasses.replace(delivery, attempt=2) for delivery in held], "deliveries")
    earlier.barrier()
    equal([(reject.partition, reject.sequence, reject.notice.name) for reject in earlier.rejects],
          [(forebay.QUEUE_STREAM, 0, "queue_taken")])  # fmt: skip
    earlier.settle(again[0].number)
    earlier.barrier()
    equal((earlier.rejects[1].sequence, earlier.rejects[1].notice.name), (again[0].number, "queue_taken"), "SETTLE")
    later.settle(again[-1].number)
    later.barrier()
    later.connection.bye()
    earlier.connection.bye()


# --- resuming and leaving (sections 5 and 11) -------------------------------------------------------------------------


def check_resume_sender(node):
    """section 5: a sender whose socket drops resumes; unacked frames sent again are in the log exactly once"""
    receiver = node.drained()
    sender = node.sending()
    session = sender.connection.welcome.session_id
    sent = node.messages(60)
    frames = []
    for index, message in enumerate(sent):
        frames.append(sender.send(node.channel, [message]))
        if index in (19, 39):
            sender.resume()
            equal(sender.connection.welcome.session_id, session, "session")
    sender.resume()
    sender.flush()
    assert all(frame.ack for frame in frames) and not sender.rejects, f"{sender.rejects}"
    sender.connection.bye()
    receiver.fetch(1000)
    equal([delivery.message for delivery in receiver.take(60)], sent, "messages")
    last = node.message("last")
    node.send(last)
    delivery = receiver.next()
    equal(delivery.message, last, "what comes next")
    receiver.settle(delivery.number)
    receiver.barrier()
    receiver.connection.bye()


def check_resume_receiver(node):
    """section 10: a receiver that resumes gets what it had not settled again, and nothing that it had"""
    receiver = node.drained()
    sent = node.messages(6)
    node.send(*sent)
    receiver.fetch(100)
    deliveries = receiver.take(6)
    receiver.settle(deliveries[1].number)
    receiver.settle(deliveries[3].number, forebay.ACCEPT)
    receiver.barrier()
    receiver.resume()
    receiver.fetch(100)
    again = receiver.take(3)
    unsettled = [dataclasses.replace(deliveries[index], attempt=2) for index in (2, 4, 5)]
    equal(again, unsettled, "delivered again")
    last = node.message("last")
    node.send(last)
    delivery = receiver.next()
    equal((delivery.message, delivery.attempt), (last, 1), "what comes next")
    receiver.settle(delivery.number)
    receiver.barrier()
    equal(receiver.rejects, [], "rejects")
    receiver.connection.bye()


def check_resume_secrets(node):
    """section 5: resuming makes a new resume secret and ends the earlier connection; the old secret is worthless"""
    first = node.connect()
    old = first.resume_credential()
    second = node.connect(old)
    equal(second.welcome.session_id, first.welcome.session_id, "session")
    assert second.resume_credential().secret != old.secret
    try:
        first.receive()
        raise AssertionError("the earlier connection still speaks")
    except (forebay.GoneAway, forebay.ConnectionLost):
        first.drop()
    try:
        node.connect(old)
        raise AssertionError("the old resume secret was welcomed")
    except forebay.Refused as refusal:
        equal(refusal.notice.name, "bad_credential", "reason")
    second.transmit(forebay.PING, sequence=3)
    equal(second.receive(), forebay.Pong(3), "answer to PING")
    second.bye()


def check_resume_foreign(node):
    """section 5: a session that never was, and one resumed under another endpoint's name, are refused"""
    session = Credential(node.sender["endpoint"], forebay.AUTH_RESUME, os.urandom(32), session_id=os.urandom(16))
    refused(node, "session_unknown", session)
    with node.connect() as connection:
        stolen = dataclasses.replace(connection.resume_credential(), endpoint=node.receiver["endpoint"])
        try:
            node.connect(stolen)
            raise AssertionError("welcomed")
        except forebay.Refused as refusal:
            assert refusal.notice.name in ("bad_credential", "session_unknown"), f"{refusal.notice}"
        connection.bye()


def check_bye(node):
    """section 11: BYE closes the session for good; what was sent before it is still handled"""
    receiver = node.drained()
    wire = Wire(node)
    last = node.message("before BYE")
    wire.send(wire.next, [last])
    wire.connection.transmit(forebay.BYE, forebay.Notice(forebay.REASON_CODES["peer_bye"]).encode())
    try:
        while True:
            wire.connection.receive()
    except forebay.ConnectionLost:
        pass
    refused(node, "session_unknown", wire.connection.resume_credential())
    receiver.fetch(10)
    delivery = receiver.next()
    equal(delivery.message, last, "message")
    receiver.settle(delivery.number)
    receiver.barrier()
    receiver.connection.bye()


def check_drain(node):
    """section 11: a node that is told to stop says GOAWAY draining to every session, and when to come back"""
    if node.process is None:
        raise unittest.SkipTest("no --stop is given")
    wire, receiver = Wire(node), node.receiving()
    receiver.fetch(1)
    receiver.barrier()
    wire.take_next(node.message())
    os.kill(node.process, signal.SIGTERM)
    for connection in (wire.connection, receiver.connection):
        notice = goes_away(connection, "draining")
        assert notice.retry_after_ms > 0, f"{notice}"


CHECKS = [
    check_key, check_sessions_differ, check_bad_credential, check_decoded_key, check_token, check_token_expired,
    check_token_wrong, check_token_runs_out, check_clock, check_versions, check_no_preface, check_unready,
    check_malformed_hello, check_send, check_pipeline, check_largest, check_pieces, check_beyond_credit,
    check_body_too_long, check_go_back, check_gap, check_number_zero, check_discarded_takes_no_credit,
    check_replay, check_resent, check_bad_signature, check_bad_signature_elsewhere, check_replayed_bytes,
    check_taken_over, check_many_bad_signatures, check_faults_before_signatures, check_malformed, check_header_faults, check_out_of_place, check_foreign_sender, check_unknown_channel,
    check_forbidden_channel, check_wrong_direction, check_relay, check_ed25519, check_ping, check_receive,
    check_credit, check_settle_cumulative, check_release, check_release_goes_back, check_dead_letter,
    check_attempts, check_not_delivered, check_settled_before, check_malformed_receiving, check_fetch_too_large,
    check_queue_taken, check_resume_sender, check_resume_receiver, check_resume_secrets, check_resume_foreign,
    check_bye, check_drain,
]  # fmt: skip
