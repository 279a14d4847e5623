//! Connections over TCP that say nothing: bare ones, ones with a session, ones with a session through TLS.

use std::net::TcpStream;

use wire::ids::AckMode;

use crate::measured::idle::{MANY, slope};
use crate::measured::node::{Served, Setup};
use crate::support::{Client, sender, trusting};

pub(crate) fn idle() {
    tcp("silent", |node, _| TcpStream::connect(node.plain).unwrap());
    tcp("session", |node, number| {
        Client::connect(node.plain, &sender(number)).stream
    });
    tcp("tunnel", |node, number| {
        let trusts = trusting(&node.authority());
        Client::connect_tls(node.secure, &trusts, &sender(number)).stream
    });
}

fn tcp(name: &str, connect: impl Fn(&Served, usize) -> TcpStream) {
    let node = Served::start(Setup {
        ack: AckMode::Local,
        senders: MANY,
        partitions: 1,
        quic: false,
        cpu: Some(0),
    });
    let series = "forebay_connections{protocol=\"tcp\"}";
    slope(name, &node, series, |number| connect(&node, number));
}
