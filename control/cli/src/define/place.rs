//! Where an API is, and whom to trust there. Tokens go to this machine alone, or through a tunnel to who is trusted: there is no way to
//! trust everybody.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tls::{Broken, Client, Fingerprint, Trust, Tunnel, rustls};
use wire::diagnosis::Diagnosis;

use crate::diagnosis::{API_ADDRESS, API_SILENT, API_TRUST, API_UNTRUSTED, CODES};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any question may wait for the nodes, or for a long document.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Longest answer: a document of a million endpoints fits.
const ANSWER_BYTES_MAX: u64 = 2 << 30;
/// The port unless an address names one.
const PORT: u16 = 7414;

/// Where an API is.
pub(super) struct Place {
    host: String,
    port: u16,
    /// Whom to trust; without, it is asked in the clear.
    trust: Option<Trust>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Place {
    /// `https://HOST:PORT`, `HOST:PORT`, which is the same, or `http://` and this machine. `ca` is a file of authorities, `pin` the
    /// fingerprint of one certificate; without either the roots of this machine are trusted.
    pub(super) fn read(
        text: &str,
        ca: Option<&Path>,
        pin: Option<&str>,
    ) -> Result<Self, Diagnosis> {
        let malformed = || address(text, "https://HOST:PORT, or http:// and this machine");
        let (secure, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return Err(malformed()),
            None => (true, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.contains(']') => {
                (host, port.parse().map_err(|_| malformed())?)
            }
            _ => (rest, PORT),
        };
        let inner = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = inner.unwrap_or(host).to_owned();
        if host.is_empty() || host.contains(['/', '@', '?', '#', ' ']) {
            return Err(malformed());
        }
        let trust = match secure {
            true => Some(trust(ca, pin)?),
            false => None,
        };
        Ok(Self { host, port, trust })
    }

    /// Send a request, and give everything that is answered until the connection ends.
    pub(super) fn exchange(&self, request: &[u8]) -> Result<Vec<u8>, Diagnosis> {
        let mut stream = self.connect()?;
        let silent = |error: io::Error| self.silent(&error);
        let Some(trust) = &self.trust else {
            return plain(&mut stream, request).map_err(silent);
        };
        let client =
            Client::new(trust, &self.host).map_err(|fault| untrusting(&fault.to_string()))?;
        let tunnel = client
            .http_tunnel()
            .map_err(|error| untrusting(&error.to_string()))?;
        let mut tunnelled = Tunnelled { stream, tunnel };
        match tunnelled.shake().map_err(silent)? {
            Ok(()) => tunnelled.exchange(request).map_err(silent),
            Err(broken) => Err(self.broken(&broken)),
        }
    }

    fn connect(&self) -> Result<TcpStream, Diagnosis> {
        let silent = |error: io::Error| self.silent(&error);
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let found: Vec<SocketAddr> = found.map_err(silent)?.collect();
        let others = |found: &SocketAddr| !found.ip().is_loopback();
        if self.trust.is_none() && found.iter().any(others) {
            let needed = "https:// for another machine: a token would be read on the way";
            return Err(address(&self.to_string(), needed));
        }
        let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
        for address in found {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    let set = stream.set_read_timeout(Some(TIMEOUT));
                    let set = set.and_then(|()| stream.set_write_timeout(Some(TIMEOUT)));
                    return set.map(|()| stream).map_err(silent);
                }
                Err(error) => last = error,
            }
        }
        Err(silent(last))
    }

    fn silent(&self, error: &io::Error) -> Diagnosis {
        let what = format!("no control plane answers at {self}");
        let needed = "the API of a running `forebay run` with [control]";
        Diagnosis::from_table(CODES, API_SILENT, what, error.to_string(), needed)
    }

    fn broken(&self, broken: &Broken) -> Diagnosis {
        let seen = broken.to_string();
        match broken {
            Broken::Tls(rustls::Error::InvalidCertificate(_)) => {
                let what = format!("the certificate of the API at {self} is not to be trusted");
                let needed = "one that leads to a trusted authority, or is the pinned one";
                Diagnosis::from_table(CODES, API_UNTRUSTED, what, seen, needed)
            }
            _ => {
                let what = format!("no tunnel to the API at {self}");
                let needed = "an API that is served over TLS; one of this machine that is not is asked at http://";
                Diagnosis::from_table(CODES, API_UNTRUSTED, what, seen, needed)
            }
        }
    }
}

fn address(seen: &str, needed: &str) -> Diagnosis {
    let what = "the address of the API is refused";
    Diagnosis::from_table(CODES, API_ADDRESS, what, format!("`{seen}`"), needed)
}

fn untrusting(seen: &str) -> Diagnosis {
    let what = "whom to trust cannot be read";
    let needed = "authorities as PEM for --ca, or 64 hexadecimal digits for --pin";
    Diagnosis::from_table(CODES, API_TRUST, what, seen, needed)
}

fn trust(ca: Option<&Path>, pin: Option<&str>) -> Result<Trust, Diagnosis> {
    match (ca, pin) {
        (_, Some(pin)) => Fingerprint::parse(pin)
            .map(Trust::Pin)
            .ok_or_else(|| untrusting(&format!("`{pin}`"))),
        (Some(ca), None) => {
            let read = std::fs::read(ca);
            let unread = |error| untrusting(&format!("{}: {error}", ca.display()));
            read.map(Trust::Roots).map_err(unread)
        }
        (None, None) => Ok(Trust::System),
    }
}

fn plain(stream: &mut TcpStream, request: &[u8]) -> io::Result<Vec<u8>> {
    // Who is refused early may have its answer already, though not all of the request was taken.
    let written = stream.write_all(request);
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    match answer.is_empty() {
        true => written.and(read).map(|_| answer),
        false => Ok(answer),
    }
}

/// A connection and its tunnel.
struct Tunnelled {
    stream: TcpStream,
    tunnel: Tunnel,
}

impl Tunnelled {
    /// Do the handshake.
    fn shake(&mut self) -> io::Result<Result<(), Broken>> {
        let (mut out, mut nothing) = (Vec::new(), Vec::new());
        while !self.tunnel.stands() {
            self.push(&mut out)?;
            if let Err(broken) = self.receive(&mut nothing)? {
                // Why it ends, if the server still wants to hear that.
                let _ = self.push(&mut out);
                return Ok(Err(broken));
            }
        }
        self.push(&mut out)?;
        Ok(Ok(()))
    }

    fn push(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.tunnel.flush(out);
        let written = self.stream.write_all(out);
        out.clear();
        written
    }

    fn receive(&mut self, plaintext: &mut Vec<u8>) -> io::Result<Result<(), Broken>> {
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => Ok(self.tunnel.receive(&bytes[..count], plaintext)),
        }
    }

    fn exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        let (mut out, mut answer) = (Vec::new(), Vec::new());
        self.tunnel.send(request, &mut out);
        let written = self.push(&mut out);
        while !self.tunnel.peer_finished() {
            match self.receive(&mut answer) {
                Ok(Ok(())) if (answer.len() as u64) < ANSWER_BYTES_MAX => {}
                Ok(Ok(())) => return Err(ErrorKind::FileTooLarge.into()),
                Ok(Err(broken)) => return Err(io::Error::other(broken)),
                Err(error) => return Err(written.err().unwrap_or(error)),
            }
            self.push(&mut out)
                .or_else(|error| match answer.is_empty() {
                    true => Err(error),
                    false => Ok(()),
                })?;
        }
        Ok(answer)
    }
}

/// A file as an absolute path, for what is read from other folders later.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_and_without_its_port_and_scheme() {
        let pin = "ab".repeat(32);
        for (text, host, port, secure) in [
            ("127.0.0.1:7500", "127.0.0.1", 7500, true),
            ("http://localhost", "localhost", 7414, false),
            ("https://control.example/", "control.example", 7414, true),
            ("https://[::1]:443", "::1", 443, true),
            ("[::1]", "::1", 7414, true),
        ] {
            let place = Place::read(text, None, Some(&pin)).expect(text);
            assert_eq!(
                (&*place.host, place.port, place.trust.is_some()),
                (host, port, secure),
                "{text}"
            );
        }
        for text in [
            "",
            "ftp://x",
            "https://",
            "x:port",
            "https://u@x",
            "https://x/v1",
        ] {
            let fault = Place::read(text, None, Some(&pin)).map(drop);
            assert_eq!(fault.expect_err(text).code, API_ADDRESS, "{text}");
        }
        let fault = Place::read("https://x", None, Some("short")).map(drop);
        assert_eq!(fault.expect_err("no pin").code, API_TRUST);
    }

    #[test]
    fn another_machine_is_not_asked_in_the_clear() {
        let place = Place::read("http://192.0.2.1:7414", None, None).expect("an address");
        let fault = place.exchange(b"").map(drop).expect_err("in the clear");
        assert_eq!(fault.code, API_ADDRESS);
    }
}
