//! Tunnels between a control plane and its nodes: who shows what gets through, and nobody else does.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tls::{Broken, Certificate, Client, LinkClient, LinkServer, Served, Server, Trust, Tunnel};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem().into_bytes();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    fn certificate(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Certificate {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let (chain, key) = (signed.pem(), key.serialize_pem());
        Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()
    }

    fn of_control(&self) -> Certificate {
        self.certificate("control.example", ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn of_node(&self, name: &str) -> Certificate {
        self.certificate(name, ExtendedKeyUsagePurpose::ClientAuth)
    }
}

/// Let both ends say what they have to say, until one breaks or both are silent.
fn shake(left: &mut Tunnel, right: &mut Tunnel) -> Result<(), Broken> {
    let mut nothing = Vec::new();
    loop {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        left.flush(&mut there);
        right.receive(&there, &mut nothing)?;
        right.flush(&mut back);
        left.receive(&back, &mut nothing)?;
        if there.is_empty() && back.is_empty() {
            return Ok(());
        }
    }
}

#[test]
fn both_sides_of_one_authority_get_through_and_each_knows_the_other_by_name() {
    let authority = Authority::new();
    let server = LinkServer::new(&authority.of_control(), &authority.pem).unwrap();
    let north = authority.of_node("north");
    let client = LinkClient::new(&north, &authority.pem, "control.example").unwrap();
    let (mut node, mut control) = (client.tunnel().unwrap(), server.tunnel().unwrap());
    assert!(!control.names("north"), "nobody has shown anything");
    shake(&mut node, &mut control).unwrap();
    assert!(node.stands() && control.stands());
    let shown = control.shown().map(|shown| shown.fingerprint);
    assert_eq!(shown, Some(north.fingerprint()));
    assert!(control.names("north"));
    for other in ["south", "nort", "north.example", "", "*", "control.example"] {
        assert!(!control.names(other), "{other}");
    }
    let (mut bytes, mut got) = (Vec::new(), Vec::new());
    node.send(b"hello", &mut bytes);
    control.receive(&bytes, &mut got).unwrap();
    assert_eq!(got, b"hello");
}

#[test]
fn whoever_shows_nothing_or_another_certificate_or_speaks_another_protocol_does_not_get_through() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = |of: &Authority| LinkServer::new(&of.of_control(), &authority.pem).unwrap();
    let node = |of: &Authority, name: &str| {
        LinkClient::new(&of.of_node("north"), &authority.pem, name).unwrap()
    };
    let name = "control.example";
    let impostor = authority.of_control();
    let impostor = LinkClient::new(&impostor, &authority.pem, name).unwrap();
    let sender = Client::new(&Trust::Roots(authority.pem.clone()), name).unwrap();
    let showing = authority.of_node("north");
    let trust = Trust::Roots(authority.pem.clone());
    let showing = Client::showing(&trust, name, Some(&showing)).unwrap();
    let data = Server::new(Served::new(authority.of_control())).unwrap();
    let of_node = LinkServer::new(&authority.of_node(name), &authority.pem).unwrap();
    let tunnels = [
        (
            "another authority's node",
            node(&other, name).tunnel(),
            server(&authority).tunnel(),
        ),
        (
            "another authority's control",
            node(&authority, name).tunnel(),
            server(&other).tunnel(),
        ),
        (
            "a control plane as a node",
            impostor.tunnel(),
            server(&authority).tunnel(),
        ),
        (
            "a node as a control plane",
            node(&authority, name).tunnel(),
            of_node.tunnel(),
        ),
        (
            "another host",
            node(&authority, "other.example").tunnel(),
            server(&authority).tunnel(),
        ),
        ("a sender", sender.tunnel(), server(&authority).tunnel()),
        (
            "a sender with a node's certificate",
            showing.tunnel(),
            server(&authority).tunnel(),
        ),
        (
            "the port of senders",
            node(&authority, name).tunnel(),
            data.tunnel(),
        ),
    ];
    for (why, left, right) in tunnels {
        let (mut left, mut right) = (left.unwrap(), right.unwrap());
        let shaken = shake(&mut left, &mut right);
        assert!(shaken.is_err(), "{why}");
        assert!(!right.names("north") || why.contains("sender"), "{why}");
    }
}
