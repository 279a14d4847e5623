#!/usr/bin/env python3
"""Holds a node's QUIC port against aioquic: another implementation of QUIC, and a client written from PROTOCOL.md alone.

    quic.py --address HOST:PORT --plan-json FILE --ca FILE [--retry-address HOST:PORT] [--seed N]

The plan is that of conformance.py. Needs aioquic (PyPI). Each check is a whole conversation - HELLO, SEND, ACK, FETCH, DELIVER,
SETTLE, BYE on two streams of one connection - under one condition; the network in between is made by this program: it loses,
garbles, repeats and delays datagrams of both directions as the seed says. One line for each check; exit code 0 only if all pass.
"""

import argparse
import heapq
import json
import os
import random
import select
import socket
import sys
import time

from aioquic import tls
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

import node as parties
from forebay import DATAGRAM_STREAM, Ack, Connection, Receiver, Reject, Sender, encode_datagram

PATIENCE = 60.0
EXPORTER_LABEL = b"EXPORTER-forebay-session-1"


class Schedule(tls.KeySchedule):
    """A key schedule that keeps the secret of exporter values, which aioquic has no use for (RFC 8446, sections 7.1 and 7.5)."""

    def derive_secret(self, label):
        if label == b"c ap traffic":
            self.exporter_secret = super().derive_secret(b"exp master")
        return super().derive_secret(label)

    def export(self, label, length=32):
        digest = self.algorithm.digest_size
        secret = tls.hkdf_expand_label(self.algorithm, self.exporter_secret, label, self.hash_empty_value, digest)
        return tls.hkdf_expand_label(self.algorithm, secret, b"exporter", self.hash_empty_value, length)


tls.KeySchedule = Schedule


class Weather:
    """How bad the network is: of 100 datagrams so many are lost, garbled, repeated; how many seconds late they may be."""

    def __init__(self, seed, lost=0, garbled=0, repeated=0, late=0.0):
        self.random = random.Random(seed)
        self.lost, self.garbled, self.repeated, self.late = lost, garbled, repeated, late
        self.spoilt = 0

    def pass_on(self, data, now):
        """When and as what a datagram arrives: any number of times."""
        if self.random.randrange(100) < self.lost:
            self.spoilt += 1
            return
        for _ in range(1 + (self.random.randrange(100) < self.repeated)):
            copy = bytearray(data)
            if self.random.randrange(100) < self.garbled:
                self.spoilt += 1
                copy[self.random.randrange(len(copy))] ^= 1 << self.random.randrange(8)
            yield now + self.random.random() * self.late, bytes(copy)


class Quic:
    """One QUIC connection, driven by whoever waits for something of it."""

    def __init__(self, address, authority, weather=None, ticket=None, alpn="forebay/1", deaf=False):
        configuration = QuicConfiguration(is_client=True, alpn_protocols=[alpn], server_name="localhost")
        configuration.load_verify_locations(authority)
        configuration.idle_timeout = PATIENCE
        configuration.session_ticket = ticket
        configuration.max_datagram_frame_size = 65536
        self.tickets = []
        self.quic = QuicConnection(configuration=configuration, session_ticket_handler=self.tickets.append)
        self.address = address
        self.weather = weather or Weather(0)
        self.deaf = deaf
        self.socket = self._bind()
        self.late = []
        self.lanes = {}
        self.connected = False
        self.ended = None
        self.sent = self.received = 0
        self.quic.connect(address, time.monotonic())

    def _bind(self):
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        return bound

    def shake_hands(self):
        self.run(lambda: self.connected)
        return self

    def exporter(self):
        return self.quic.tls.key_schedule.export(EXPORTER_LABEL)

    def move(self):
        """Go on from another port, under another connection ID."""
        self.socket.close()
        self.socket = self._bind()
        self.quic.change_connection_id()

    def run(self, done, patience=PATIENCE):
        """Until something holds. Raises when the connection ends before."""
        until = time.monotonic() + patience
        while not done():
            if self.ended is not None:
                raise ConnectionError(f"the connection ended: {self.ended.reason_phrase or self.ended.error_code}")
            if time.monotonic() > until:
                raise TimeoutError(f"nothing more for {patience} s")
            self.turn(until)

    def under_way(self):
        """Whether packets that are to be acknowledged are not."""
        return any(packet.in_flight for space in self.quic._loss.spaces for packet in space.sent_packets.values())

    def turn(self, until):
        self.flush()
        now = time.monotonic()
        times = [until, self.quic.get_timer(), self.late[0][0] if self.late else None]
        wait = max(0.0, min(at for at in times if at is not None) - now)
        if select.select([self.socket], [], [], wait)[0]:
            self._receive()
        now = time.monotonic()
        while self.late and self.late[0][0] <= now:
            _, _, up, data = heapq.heappop(self.late)
            self._deliver(up, data, now)
        timer = self.quic.get_timer()
        if timer is not None and timer <= now:
            self.quic.handle_timer(now)
        self._listen()

    def _receive(self):
        while True:
            try:
                data, _ = self.socket.recvfrom(65536)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue
            self.received += len(data)
            if not self.deaf:
                self._pass_on(False, data)

    def flush(self):
        for data, _ in self.quic.datagrams_to_send(time.monotonic()):
            self.sent += len(data)
            self._pass_on(True, data)

    def _pass_on(self, up, data):
        now = time.monotonic()
        for at, copy in self.weather.pass_on(data, now):
            if at <= now:
                self._deliver(up, copy, now)
            else:
                heapq.heappush(self.late, (at, len(self.late) + random.random(), up, copy))

    def _deliver(self, up, data, now):
        if up:
            self.socket.sendto(data, self.address)
        else:
            self.quic.receive_datagram(data, self.address, now)

    def _listen(self):
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, events.HandshakeCompleted):
                self.connected, self.resumed = True, event.session_resumed
            elif isinstance(event, events.StreamDataReceived):
                lane = self.lanes[event.stream_id]
                lane.inbox += event.data
                lane.over = lane.over or event.end_stream
            elif isinstance(event, (events.StreamReset, events.StopSendingReceived)):
                self.lanes[event.stream_id].over = True
            elif isinstance(event, events.ConnectionTerminated):
                self.ended = event

    def lane(self):
        lane = Lane(self, self.quic.get_next_available_stream_id())
        self.lanes[lane.stream] = lane
        return lane

    def close(self):
        self.quic.close()
        self.flush()
        self.socket.close()


class Lane:
    """A stream that looks like a blocking socket."""

    def __init__(self, quic, stream):
        self.quic, self.stream = quic, stream
        self.inbox = bytearray()
        self.over = False

    def sendall(self, data):
        self.quic.quic.send_stream_data(self.stream, bytes(data))
        self.quic.flush()

    def recv(self, size):
        self.quic.run(lambda: self.inbox or self.over)
        data = bytes(self.inbox[:size])
        del self.inbox[:size]
        return data

    def close(self):
        if not self.over:
            self.over = True
            self.quic.quic.send_stream_data(self.stream, b"", end_stream=True)
            self.quic.flush()


class OnLane(Connection):
    """A session on a stream, bound to the connection's exporter value."""

    def __init__(self, quic, credential):
        self.credential = credential
        self.client_index = self.server_index = 0
        self.welcome = self.keys = None
        self.exporter = quic.exporter()
        self.socket = quic.lane()
        self._shake_hands(int(time.time()))


def converse(subject, quic, frames=20, between=lambda number: None):
    """Send frames on one stream, hear them on another, settle, say BYE. Returns the messages."""
    sender = Sender(OnLane(quic, subject.credential(subject.sender)))
    receiver = Receiver(OnLane(quic, subject.credential(subject.receiver)))
    receiver.fetch(4096)
    said = []
    for number in range(frames):
        between(number)
        batch = [subject.message("x" * 200) for _ in range(1 + number % 5)]
        said += batch
        sender.send(subject.channel, batch)
    sender.flush()
    heard = []
    while len(heard) < len(said):
        delivery = receiver.next()
        last = delivery.number
        if delivery.message.body.startswith(subject.run.encode()):
            heard.append(delivery.message)
    assert [message.body for message in heard] == [message.body for message in said], "not what was said, in its order"
    receiver.settle(last)
    receiver.barrier()
    sender.connection.bye()
    receiver.connection.bye()
    return said


class Checks:
    def __init__(self, subject, addresses, authority, seed):
        self.subject, self.authority, self.seed = subject, authority, seed
        self.address, self.retry_address = addresses

    def quic(self, **options):
        return Quic(self.address, self.authority, **options)

    def check_whole(self):
        """handshake, streams, acknowledgements, deliveries, settlements, BYE"""
        quic = self.quic().shake_hands()
        converse(self.subject, quic)
        quic.close()

    def check_key_update(self):
        """key update in the middle, twice"""
        quic = self.quic().shake_hands()

        def between(number):
            if number in (7, 14):
                # RFC 9001, 6.1: not before a packet under the keys of now is acknowledged. aioquic leaves that to its caller.
                quic.run(lambda: not quic.quic._cryptos[tls.Epoch.ONE_RTT]._update_key_requested and not quic.under_way())
                quic.quic.request_key_update()

        converse(self.subject, quic, between=between)
        quic.close()

    def check_retry(self):
        """Retry: the address is to be proven first"""
        quic = Quic(self.retry_address, self.authority).shake_hands()
        assert quic.quic._retry_count == 1, f"{quic.quic._retry_count} Retry packets"
        converse(self.subject, quic)
        quic.close()

    def check_resumption(self):
        """resumption by a ticket; another exporter value"""
        first = self.quic().shake_hands()
        converse(self.subject, first, frames=2)
        first.run(lambda: first.tickets)
        second = self.quic(ticket=first.tickets[0]).shake_hands()
        assert second.resumed and not first.resumed
        assert second.exporter() != first.exporter()
        assert not second.quic.tls.early_data_accepted, "0-RTT is not taken"
        converse(self.subject, second, frames=2)
        first.close()
        second.close()

    def check_migration(self):
        """migration: every third frame from another port, under another connection ID"""
        quic = self.quic().shake_hands()

        def between(number):
            if number % 3 == 2:
                # New IDs have to have come before they can be used.
                quic.run(lambda: quic.quic._peer_cid_available)
                quic.move()

        converse(self.subject, quic, between=between)
        quic.close()

    def check_datagrams(self):
        """datagrams: answered if they ask, once in the log, the lane goes on behind them"""
        quic = self.quic().shake_hands()
        line = OnLane(quic, self.subject.credential(self.subject.sender))
        receiver = Receiver(OnLane(quic, self.subject.credential(self.subject.receiver)))
        receiver.fetch(4096)
        entry = line.welcome.entry(self.subject.channel)
        said = [self.subject.message("in a datagram") for _ in range(4)]
        first = entry.last_sequence + 1

        def throw(number, sequence, message):
            lane = line.socket.stream // 4
            endpoint, channel = line.welcome.endpoint, entry.channel
            quic.quic.send_datagram_frame(encode_datagram(line.keys.client, lane, number, endpoint, channel, sequence, [message]))
            quic.flush()

        throw(0, first, said[0])
        throw(1, first + 1, said[1])
        answer = line.receive()
        assert isinstance(answer, Ack) and (answer.partition, answer.sequence) == (DATAGRAM_STREAM, 1), answer
        throw(2, first + 1, said[1])
        assert isinstance(line.receive(), Ack), "it is in the log"
        throw(3, first + 4, said[2])
        assert line.receive().sequence == 3, "two are left out"
        throw(4, first + 3, said[3])
        late = line.receive()
        assert isinstance(late, Reject) and late.notice.name == "out_of_sequence", late
        throw(5, first + 4, said[2])
        assert line.receive().sequence == 5
        line.transmit_send(entry.channel, first + 5, [said[3]])
        assert line.receive().sequence == first + 5, "the lane goes on"
        heard = [receiver.next() for _ in said]
        assert [delivery.message.body for delivery in heard] == [message.body for message in said]
        receiver.settle(heard[-1].number)
        receiver.barrier()
        line.bye()
        receiver.connection.bye()
        quic.close()

    def check_loss(self):
        """30 % of all datagrams lost"""
        self._in(Weather(self.seed, lost=30))

    def check_corruption(self):
        """30 % of all datagrams garbled"""
        self._in(Weather(self.seed, garbled=30))

    def check_disorder(self):
        """datagrams up to 30 ms late, out of order, 20 % twice"""
        self._in(Weather(self.seed, repeated=20, late=0.03))

    def check_everything(self):
        """all of that at once, 15 % lost and garbled each (FOREBAY_INTEROP_SPOILT=30 for more, which takes a minute)"""
        spoilt = int(os.environ.get("FOREBAY_INTEROP_SPOILT", "15"))
        self._in(Weather(self.seed, lost=spoilt, garbled=spoilt, repeated=20, late=0.03), tries=20)

    def _in(self, weather, tries=5):
        # A handshake that one garbled packet has ended is begun again, as anybody would.
        for attempt in range(tries):
            quic = self.quic(weather=weather)
            try:
                quic.shake_hands()
                break
            except (ConnectionError, TimeoutError):
                assert attempt < tries - 1, f"no handshake in {tries} tries"
        converse(self.subject, quic)
        if weather.lost or weather.garbled:
            assert weather.spoilt > 5, f"only {weather.spoilt} datagrams were spoilt"
        quic.close()

    def check_amplification(self):
        """an address that proved nothing gets three times its bytes at most"""
        quic = self.quic(deaf=True)
        try:
            quic.run(lambda: False, patience=3.0)
        except TimeoutError:
            pass
        assert 0 < quic.received <= 3 * quic.sent, f"{quic.received} bytes for {quic.sent}"
        quic.socket.close()

    def check_alpn(self):
        """another application protocol is refused"""
        quic = self.quic(alpn="h3")
        try:
            quic.shake_hands()
        except ConnectionError:
            assert quic.ended.error_code == 0x178, f"error {quic.ended.error_code:#x}"
            return
        raise AssertionError("h3 is spoken")

    def check_version(self):
        """an unknown version is answered with those that are known"""
        bare = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bare.settimeout(PATIENCE)
        packet = bytes([0xC0]) + b"\x1a\x2a\x3a\x4a" + b"\x08" + os.urandom(8) + b"\x08" + os.urandom(8)
        bare.sendto(packet + bytes(1200 - len(packet)), self.address)
        answer = bare.recv(2048)
        versions = answer[5 + 2 + 16 :]
        known = {versions[at : at + 4] for at in range(0, len(versions), 4)}
        assert answer[1:5] == bytes(4) and b"\x00\x00\x00\x01" in known, answer.hex()

    def check_binding(self):
        """a HELLO made for another connection opens nothing"""
        one, other = self.quic().shake_hands(), self.quic().shake_hands()
        one.exporter = other.exporter
        try:
            OnLane(one, self.subject.credential(self.subject.sender))
        except Exception as refused:
            assert "bad_credential" in str(refused), refused
            one.close()
            other.close()
            return
        raise AssertionError("a session was opened")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True, help="HOST:PORT of the QUIC port")
    parser.add_argument("--retry-address", required=True, help="the same of a node that always asks for a Retry")
    parser.add_argument("--plan-json", required=True, help="credentials for both")
    parser.add_argument("--ca", required=True, help="the certificate to trust, as PEM")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="run only the checks whose name contains this")
    arguments = parser.parse_args()

    def address(text):
        host, port = text.rsplit(":", 1)
        return host, int(port)

    with open(arguments.plan_json) as file:
        plan = json.load(file)
    addresses = (address(arguments.address), address(arguments.retry_address))
    results = []
    for name in [name for name in vars(Checks) if name.startswith("check_") and arguments.only in name]:
        subject = parties.Node(addresses[0], plan)
        checks = Checks(subject, addresses, arguments.ca, arguments.seed)
        check = getattr(checks, name)
        began = time.monotonic()
        try:
            check()
            results.append(True)
            print(f"ok     {check.__doc__} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception as error:  # every kind of failure is a failed check
            results.append(False)
            print(f"FAILED {check.__doc__}: {type(error).__name__}: {error} (seed {arguments.seed})", flush=True)
    print(f"{results.count(True)} passed, {results.count(False)} failed")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
