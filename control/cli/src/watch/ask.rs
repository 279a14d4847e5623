//! One question to the admin port of a node: HTTP/1, one request a connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use node::view::NodeView;
use wire::diagnosis::Diagnosis;

use super::show;
use crate::diagnosis::{NODE_SILENT, NOT_A_NODE};

/// Long enough for a node whose shards do not answer at once: it waits a second for them.
const TIMEOUT: Duration = Duration::from_secs(5);
/// More than 256 shards have to say.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How much of a strange answer is repeated.
const SHOWN_MAX: usize = 40;

/// What the node at this address says of itself.
pub(super) fn view(address: SocketAddr) -> Result<NodeView, Diagnosis> {
    let answer = get(address).map_err(|error| silent(address, &error))?;
    let (head, body) = split(&answer).ok_or_else(|| strange(address, &answer))?;
    match status(head) {
        Some("200") => serde_json::from_slice(body).map_err(|_| strange(address, body)),
        _ => Err(strange(address, head)),
    }
}

fn get(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET /shards HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer) {
        // Who ends a connection this way may have said before what it thinks of it.
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

/// Head and body.
fn split(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((&answer[..end], &answer[end + 4..]))
}

/// The status of an answer's head.
fn status(head: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    let rest = line.strip_prefix("HTTP/1.")?;
    rest.split(' ').nth(1)
}

fn silent(address: SocketAddr, error: &std::io::Error) -> Diagnosis {
    let seen = match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            format!("nothing for {} s", TIMEOUT.as_secs())
        }
        _ => error.to_string(),
    };
    Diagnosis::new(
        NODE_SILENT,
        format!("no node answers at {address}"),
        seen,
        "the admin port of a running node",
        "start it with `forebay run`, or give --admin with the address it prints",
    )
}

fn strange(address: SocketAddr, answer: &[u8]) -> Diagnosis {
    let text = String::from_utf8_lossy(answer);
    let first = text.lines().next().unwrap_or_default();
    let shown: String = show::harmless(first).chars().take(SHOWN_MAX).collect();
    let seen = match answer.len() {
        0 => "an end without an answer".to_owned(),
        _ => format!("`{shown}`"),
    };
    Diagnosis::new(
        NOT_A_NODE,
        format!("what answers at {address} is not the admin port of a node of this version"),
        seen,
        "the numbers of its shards at /shards",
        "give the address that `forebay run` prints behind `admin on`, not the one it listens on for frames",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_http_answer_has_a_status() {
        for (why, answer, want) in [
            (
                "good",
                &b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"[..],
                Some("200"),
            ),
            ("no body", b"HTTP/1.0 404 Not Found\r\n\r\n", Some("404")),
            ("no reason", b"HTTP/1.1 503\r\n\r\n", Some("503")),
            ("cut short", b"HTTP/1.1 200 OK\r\nA: b\r\n", None),
            ("another protocol", b"SSH-2.0-OpenSSH\r\n\r\n", None),
            ("bytes", b"\xff\xfe\r\n\r\n", None),
            ("nothing", b"", None),
        ] {
            let seen = split(answer).and_then(|(head, _)| status(head));
            assert_eq!(seen, want, "{why}");
        }
    }

    #[test]
    fn a_strange_answer_is_shown_short_and_harmless() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let answer = format!("\x1b[2J{}\nmore", "x".repeat(100));
        let seen = strange(address, answer.as_bytes()).seen;
        assert_eq!(seen, format!("`.[2J{}`", "x".repeat(SHOWN_MAX - 4)));
    }
}
