"""TLS against OpenSSL, Python's ssl and curl: who gets a tunnel, who is refused and how, and PROTOCOL.md inside one.

Written like the rest of this folder from the document alone: OpenSSL makes the tunnel and its exporter value, `forebay.py` what is
said in it. tunnel.py --address IP:PORT --folder FOLDER --credentials FILE; the folder holds what `forebay cert dev` made.
"""

import argparse
import json
import os
import pathlib
import re
import select
import socket
import ssl
import subprocess
import sys
import time
import warnings

import forebay

LABEL = "EXPORTER-forebay-session-1"
PATIENCE = 20.0


class Refused(Exception):
    """No tunnel came to be; the text says why."""


class OpensslSocket:
    """`openssl s_client` as a socket: what is written goes into the tunnel, what is read came out of it."""

    def __init__(self, address, ca, *more):
        host, port = address
        command = ["openssl", "s_client", "-connect", f"{host}:{port}", "-CAfile", ca, "-verify_return_error",
                   "-alpn", "forebay/1", "-keymatexport", LABEL, "-keymatexportlen", "32", "-nocommands", *more]  # fmt: skip
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, bufsize=0)
        self.said, self.buffer, self.data = "", b"", False
        self.exporter = bytes.fromhex(self._wait_for(rb"Keying material: ([0-9A-Fa-f]{64})").decode())

    def _more(self):
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        part = os.read(self.process.stdout.fileno(), 65536) if ready else b""
        if not part:
            raise Refused(self.buffer.decode(errors="replace"))
        self.buffer += part

    def _wait_for(self, pattern):
        while not (found := re.search(pattern, self.buffer)):
            self._more()
        self.said = self.buffer.decode(errors="replace")
        return found.group(1)

    def sendall(self, data):
        self.process.stdin.write(data)

    def recv(self, size):
        # What OpenSSL tells of tickets comes before the server's preface, which is the first thing in the tunnel.
        while not self.data:
            start = self.buffer.find(forebay.MAGIC)
            if start < 0:
                self._more()
                continue
            self.said, self.buffer, self.data = self.buffer[:start].decode(errors="replace"), self.buffer[start:], True
        if not self.buffer:
            self._more()
        part, self.buffer = self.buffer[:size], self.buffer[size:]
        return part

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Tunnelled(forebay.Connection):
    """A session in a tunnel."""

    def __init__(self, sock, credential):
        self.address, self.credential, self.socket = None, credential, sock
        self.client_index = self.server_index = 0
        self.welcome = self.keys = None
        self.exporter = sock.exporter
        self._shake_hands(int(time.time()))


def openssl(node, *arguments):
    """Everything that `openssl s_client` says, and how it ended."""
    host, port = node.address
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    return (done.stdout + done.stderr).decode(errors="replace"), done.returncode


def context(node, protocols=("forebay/1",), ca=None):
    made = ssl.create_default_context(cafile=ca or node.ca)
    made.check_hostname = True
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made


def shake(node, made, name="localhost"):
    """A tunnel by Python's ssl, or `Refused`."""
    plain = socket.create_connection(node.address, PATIENCE)
    try:
        return made.wrap_socket(plain, server_hostname=name)
    except (ssl.SSLError, ConnectionError) as error:
        plain.close()
        raise Refused(str(error)) from error


def refused(node, made, words, name="localhost"):
    try:
        sock = shake(node, made, name)
        # In TLS 1.3 a client may think that it is in before it is told otherwise.
        left = sock.recv(1)
        sock.close()
        assert left == b"", f"not refused, and told {left!r}"
        raise AssertionError("not refused by an alert")
    except (Refused, ssl.SSLError, ConnectionError) as error:
        seen = str(error).lower()
        assert any(word in seen for word in words), f"refused, but not by {words}: {seen}"


# --- the checks -------------------------------------------------------------------------------------------------------


def check_openssl_1_3(node):
    """openssl s_client: TLS 1.3, forebay/1 agreed upon, the certificate verified"""
    said, _ = openssl(node, "-alpn", "forebay/1", "-CAfile", node.ca, "-verify_return_error", "-verify_hostname", "localhost")
    for part in ("TLSv1.3", "ALPN protocol: forebay/1", "Verify return code: 0 (ok)"):
        assert part in said, f"no `{part}`: {said}"


def check_openssl_1_2(node):
    """openssl s_client -tls1_2: the extended master secret, and no weak suite"""
    said, _ = openssl(node, "-tls1_2", "-alpn", "forebay/1", "-CAfile", node.ca, "-verify_return_error")
    for part in ("TLSv1.2", "ALPN protocol: forebay/1", "Extended master secret: yes", "Verify return code: 0 (ok)"):
        assert part in said, f"no `{part}`: {said}"
    suite = re.search(r"Cipher\s*(?:is|:)\s*(ECDHE-\S+)", said)
    assert suite and re.search("GCM|CHACHA20", suite[1]), f"the suite: {said}"
    for weak in ("AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "NULL"):
        said, code = openssl(node, "-tls1_2", "-alpn", "forebay/1", "-cipher", f"{weak}:@SECLEVEL=0")
        assert code != 0, f"{weak} is taken: {said}"


def check_openssl_refusals(node):
    """openssl s_client: another protocol, none at all, TLS 1.1"""
    said, code = openssl(node, "-alpn", "h2", "-CAfile", node.ca)
    assert code and "no application protocol" in said, said
    said, code = openssl(node, "-CAfile", node.ca)
    assert code and "alert" in said, said
    said, code = openssl(node, "-tls1_1", "-alpn", "forebay/1", "-cipher", "ALL:@SECLEVEL=0")
    assert code and re.search("alert protocol version|alert handshake failure", said), said


def check_python(node):
    """Python's ssl: TLS 1.3 and 1.2, the certificate verified for each of its names"""
    for version, name in ((ssl.TLSVersion.TLSv1_3, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")):
        made = context(node)
        made.minimum_version = made.maximum_version = version
        for host in ("localhost", "127.0.0.1"):
            with shake(node, made, host) as sock:
                assert (sock.version(), sock.selected_alpn_protocol()) == (name, "forebay/1"), sock.version()


def check_python_refusals(node):
    """Python's ssl: another protocol, none, TLS 1.1, another name, an authority that is not trusted"""
    refused(node, context(node, ("h2", "http/1.1")), ("no application protocol",))
    refused(node, context(node, ()), ("access denied", "alert"))
    old = context(node)
    old.set_ciphers("ALL:@SECLEVEL=0")
    warnings.simplefilter("ignore", DeprecationWarning)
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1
    refused(node, old, ("alert protocol version", "alert handshake failure", "alert_protocol_version", "alert_handshake_failure"))
    refused(node, context(node), ("hostname mismatch",), "pump.example")
    strict = ssl.create_default_context()
    strict.set_alpn_protocols(["forebay/1"])
    refused(node, strict, ("certificate verify failed",))


def check_curl(node):
    """curl: it speaks no forebay/1, and is refused as such"""
    host, port = node.address
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "--cacert", node.ca, f"https://{host}:{port}/"]
    done = subprocess.run(command, capture_output=True, timeout=2 * PATIENCE)
    said = done.stderr.decode(errors="replace").lower()
    assert done.returncode == 35 and "alert" in said, f"{done.returncode}: {said}"


def check_conversation(node):
    """PROTOCOL.md through OpenSSL, TLS 1.3 and 1.2: HELLO bound to its exporter value, SEND, ACK, DELIVER, SETTLE, and back"""
    for version in ("-tls1_3", "-tls1_2"):
        body = f"through {version} at {time.time_ns()}".encode()
        with Tunnelled(OpensslSocket(node.address, node.ca, version), node.sender) as sender:
            entry = sender.welcome.entry(node.channel)
            sender.transmit_send(entry.channel, entry.last_sequence + 1, [forebay.Message(body)])
            ack = sender.receive()
            assert ack.sequence == entry.last_sequence + 1, ack
            resumes = sender.resume_credential()
            sender.drop()
            # The session goes on in another tunnel, with another exporter value.
            with Tunnelled(OpensslSocket(node.address, node.ca, version), resumes) as again:
                assert again.welcome.session_id == resumes.session_id
                assert again.exporter != sender.exporter
                again.bye()
        with Tunnelled(OpensslSocket(node.address, node.ca, version), node.receiver) as receiver:
            receiver.transmit(forebay.FETCH, forebay.fetch_body(10, 1 << 20))
            deliver = receiver.receive()
            assert deliver.deliveries[-1].message.body == body, deliver
            last = deliver.deliveries[-1].number
            receiver.transmit(forebay.SETTLE, forebay.settle_body(forebay.ACCEPT_ALL), sequence=last)
            receiver.bye()


def check_hello_of_another_tunnel(node):
    """A HELLO that was made for another exporter value is refused, and so is a session that leaves its tunnel"""
    sock = OpensslSocket(node.address, node.ca)
    sock.exporter = bytes(32)
    try:
        Tunnelled(sock, node.sender)
        raise AssertionError("taken")
    except forebay.Refused as error:
        assert error.notice.name == "bad_credential", error.notice
    finally:
        sock.close()


CHECKS = [
    check_openssl_1_3, check_openssl_1_2, check_openssl_refusals, check_python, check_python_refusals, check_curl,
    check_conversation, check_hello_of_another_tunnel,
]  # fmt: skip


class Node:
    """Where the node is, and who may do what."""

    def __init__(self, address, folder, credentials):
        host, port = address.rsplit(":", 1)
        self.address, self.ca = (host, int(port)), str(pathlib.Path(folder) / "ca.pem")
        told = json.loads(pathlib.Path(credentials).read_text())
        sender, receiver = told["sender"], told["receiver"]
        self.sender = forebay.Credential.of_key(sender["endpoint"], sender["key_id"], sender["key"])
        self.receiver = forebay.Credential.of_key(receiver["endpoint"], receiver["key_id"], receiver["key"])
        self.channel = sender["channel"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--credentials", required=True)
    arguments = parser.parse_args()
    node = Node(arguments.address, arguments.folder, arguments.credentials)
    failed = 0
    for check in CHECKS:
        try:
            check(node)
            print(f"ok    {check.__doc__}")
        except Exception as error:  # noqa: BLE001
            failed += 1
            print(f"FAIL  {check.__doc__}\n      {type(error).__name__}: {error}")
    print(f"tunnels: {len(CHECKS) - failed} of {len(CHECKS)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
