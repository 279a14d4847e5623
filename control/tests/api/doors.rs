//! One address cannot keep the places of all. This machine's own address of its network stands for another machine.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use control::api::{Listen, Secure, Tunnel, serve};

use super::world;

/// A tunnel that leaves everything as it is.
struct Open {
    out: Vec<u8>,
}

impl Tunnel for Open {
    fn receive(&mut self, ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Result<(), String> {
        plaintext.extend_from_slice(ciphertext);
        Ok(())
    }

    fn send(&mut self, plaintext: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(plaintext);
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.out);
    }

    fn finish(&mut self, _: &mut Vec<u8>) {}

    fn stands(&self) -> bool {
        true
    }

    fn peer_finished(&self) -> bool {
        false
    }
}

/// Tunnels that leave everything as it is.
pub(crate) fn open_tunnels() -> Secure {
    Arc::new(|| Ok(Box::new(Open { out: Vec::new() }) as Box<dyn Tunnel>))
}

/// An address of this machine that is not its loopback; no packet is sent to find it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then_some(address)
}

/// Whether somebody who asks is answered.
fn answered(stream: &mut TcpStream) -> bool {
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).expect("set");
    // It may be closed already.
    let _ = stream.write_all(b"GET /v1/openapi.json HTTP/1.1\r\nhost: here\r\n\r\n");
    let mut status = [0; 12];
    stream.read_exact(&mut status).is_ok() && &status == b"HTTP/1.1 200"
}

#[test]
fn one_address_has_so_many_connections_and_this_machine_as_many_as_it_likes() {
    let world = world();
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let listen = Listen {
        secure: Some(open_tunnels()),
        ..address.into()
    };
    let serving = serve(listen, Arc::clone(&world.service)).expect("served");
    let port = serving.address().port();
    let crowd = |from: IpAddr| {
        let all = (0..40).map(|_| TcpStream::connect((from, port)).expect("it listens"));
        let mut all: Vec<TcpStream> = all.collect();
        let served = all.iter_mut().map(answered);
        served.filter(|served| *served).count()
    };
    assert_eq!(crowd(Ipv4Addr::LOCALHOST.into()), 40);
    match own_address() {
        Some(own) => assert_eq!(crowd(own), 32),
        None => println!("skipped: this machine has no network"),
    }
    serving.end();
}
