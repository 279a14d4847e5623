//! Bodies that nobody reads to their end: who sends them is answered all the same.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use control::api::{Listen, Serving, serve};
use control::model::Role;

use super::doors::open_tunnels;
use super::{World, world};

const MIB: usize = 1 << 20;

/// A connection on which an answer is not waited for without end.
fn patient(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Everything that is answered to this, all of it sent before a byte is read.
fn exchange(address: SocketAddr, head: &str, body: &[u8]) -> std::io::Result<String> {
    let mut stream = patient(address)?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The same API, in the clear and in tunnels.
fn tunnelled(world: &World) -> Serving {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listen = Listen {
        secure: Some(open_tunnels()),
        ..address.into()
    };
    serve(listen, Arc::clone(&world.service)).expect("served")
}

/// A body in one chunk (RFC 9112, section 7.1).
fn chunked(body: &[u8]) -> Vec<u8> {
    let size = format!("{:x}\r\n", body.len());
    [size.as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
}

#[test]
fn who_sends_a_body_that_is_not_read_to_its_end_gets_the_whole_answer() {
    let world = world();
    let admin = world.token("admin", Role::Admin, Some("a"));
    let viewer = world.token("viewer", Role::Viewer, None);
    let tunnels = tunnelled(&world);
    let long = vec![b' '; 4 * MIB];
    let longer = vec![b' '; 20 * MIB];
    let said = |body: &[u8]| (format!("content-length: {}", body.len()), body.to_vec());
    let unsaid = |body: &[u8]| ("transfer-encoding: chunked".to_owned(), chunked(body));
    for (path, token, (length, body), status, code) in [
        (
            "/v1/accounts/a/environments",
            &*admin,
            said(&long),
            413,
            "FB-2171",
        ),
        (
            "/v1/accounts/a/environments",
            &*admin,
            unsaid(&long),
            413,
            "FB-2171",
        ),
        ("/v1/apply", &*admin, said(&longer), 413, "FB-2171"),
        ("/v1/apply", &*admin, unsaid(&longer), 413, "FB-2171"),
        ("/v1/accounts", &*viewer, said(&long), 403, "FB-2151"),
        ("/v1/accounts", "", said(&long), 401, "FB-2150"),
        ("/v1/accounts", "", unsaid(&long), 401, "FB-2150"),
        ("/v1/nowhere", "", said(&long), 404, "FB-2163"),
    ] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
        );
        for address in [world.address, tunnels.address()] {
            // The kernel may have taken all before the socket is closed; not each time.
            for _ in 0..5 {
                let text = exchange(address, &head, &body).expect("answered, and ended in order");
                let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
                assert!(
                    head.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{path}: {head}"
                );
                let body: serde_json::Value = serde_json::from_str(body).expect("all of it");
                assert_eq!(body["code"], code, "{path}");
                if path != "/v1/nowhere" {
                    assert!(head.contains("connection: close"), "{path}: {head}");
                }
            }
        }
    }
    tunnels.end();
}

#[test]
fn who_asks_whether_to_send_a_body_is_refused_before_it_is_told_to() {
    let world = world();
    for length in ["content-length: 10", "transfer-encoding: chunked"] {
        let head = format!(
            "POST /v1/accounts HTTP/1.1\r\nhost: here\r\nexpect: 100-continue\r\n{length}\r\n\r\n"
        );
        let text = exchange(world.address, &head, b"").expect("answered, and ended in order");
        assert!(text.starts_with("HTTP/1.1 401 "), "{length}: {text}");
        assert!(text.contains("connection: close"), "{length}: {text}");
    }
}

#[test]
fn a_short_body_that_nobody_wants_is_passed_over_and_the_connection_goes_on() {
    let world = world();
    let mut stream = patient(world.address).expect("it listens");
    for body in [0, 1, 1_000, 60_000] {
        let head =
            format!("POST /v1/accounts HTTP/1.1\r\nhost: here\r\ncontent-length: {body}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        // The answer may come before the body is there, and must not end the connection.
        stream.write_all(&vec![b' '; body]).expect("sent");
        assert!(answer(&mut stream).starts_with("HTTP/1.1 401 "), "{body}");
    }
    let admin = world.token("admin", Role::Admin, Some("a"));
    let body = chunked(br#"{ "name": "new" }"#);
    let head = format!(
        "POST /v1/accounts/a/environments HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {admin}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(&body).expect("sent");
    assert!(answer(&mut stream).starts_with("HTTP/1.1 201 "));
    stream
        .write_all(b"GET /v1/openapi.json HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
        .expect("sent");
    assert!(answer(&mut stream).starts_with("HTTP/1.1 200 "));
}

/// One answer, by its length.
fn answer(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("answered");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|text| text.parse().ok()).expect("a length");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the body");
    head
}

#[test]
fn who_sends_without_end_is_cut_off() {
    let world = world();
    let mut stream = world.connect();
    let head = "POST /v1/accounts HTTP/1.1\r\nhost: here\r\ncontent-length: 90000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let part = vec![0; MIB];
    let sent = (0..400)
        .take_while(|_| stream.write_all(&part).is_ok())
        .count();
    assert!(sent < 400, "all of {sent} MiB were taken");
}

#[test]
fn who_is_silent_and_does_not_end_is_left() {
    let world = world();
    let mut stream = patient(world.address).expect("it listens");
    let head = "POST /v1/accounts HTTP/1.1\r\nhost: here\r\ncontent-length: 90000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .expect("answered, and ended");
    assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
    // What is sent to a socket that is closed is answered with a reset. Whatever is heard prolongs the waiting, so silence comes first.
    let left = [6, 12, 24].into_iter().any(|seconds| {
        std::thread::sleep(Duration::from_secs(seconds));
        let first = stream.write_all(b" ");
        std::thread::sleep(Duration::from_millis(200));
        first.is_err() || stream.write_all(b" ").is_err()
    });
    assert!(left, "the place was kept");
}
