//! What carries the load: over which transport, to which of the node's addresses, and whom the generator trusts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use loadgen::{Fingerprint, Identity, Security, Transport, Trust};
use node::config::NodeConfig;
use wire::diagnosis::Diagnosis;

use crate::diagnosis::ARGUMENT;

/// Arguments that say so.
#[derive(clap::Args, Clone)]
pub(super) struct Carried {
    /// What carries the connections
    #[arg(long, value_enum, default_value_t = Kind::Tcp)]
    transport: Kind,
    /// Authorities to trust, in PEM. Without this and --pin: the certificate that the configuration names, or else the roots
    /// of this machine
    #[arg(long, value_name = "FILE", conflicts_with = "pin")]
    ca: Option<PathBuf>,
    /// The one certificate to trust: its SHA-256 in hexadecimal, as `forebay cert dev` prints it
    #[arg(long, value_name = "FINGERPRINT")]
    pin: Option<String>,
    /// Certificate of one's own, in PEM, to show to a node that asks for one
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Name or address that the certificate must be for, instead of the address of the node
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Plain TCP
    Tcp,
    /// TLS over TCP
    Tls,
    /// QUIC over UDP
    Quic,
    /// QUIC, with frames in datagrams of which some may be lost
    QuicDatagram,
}

impl Carried {
    /// Whether frames go as datagrams.
    pub(super) fn datagrams(&self) -> bool {
        self.transport == Kind::QuicDatagram
    }

    /// Where the node of a configuration takes this transport.
    pub(super) fn address(&self, node: &NodeConfig) -> Result<SocketAddr, Diagnosis> {
        self.choose(node.listen, (node.listen_tls, node.listen_quic))
    }

    /// Of the addresses of a node, the one for this transport.
    pub(super) fn choose(
        &self,
        plain: Option<SocketAddr>,
        (tls, quic): (Option<SocketAddr>, Option<SocketAddr>),
    ) -> Result<SocketAddr, Diagnosis> {
        let (setting, address) = match self.transport {
            Kind::Tcp => ("listen", plain),
            Kind::Tls => ("listen_tls", tls),
            Kind::Quic | Kind::QuicDatagram => ("listen_quic", quic),
        };
        address.ok_or_else(|| {
            Diagnosis::new(
                ARGUMENT,
                "--transport cannot be used",
                format!("no {setting} in the configuration"),
                "an address where the node takes it",
                format!("set node.{setting} and run the node again, or give --addr"),
            )
        })
    }

    /// The transport, and whom to trust over it. A node's own configuration is word enough for its certificate.
    pub(super) fn transport(&self, node: Option<&NodeConfig>) -> Result<Transport, Diagnosis> {
        if self.transport == Kind::Tcp {
            return Ok(Transport::Tcp);
        }
        let trust = match (&self.ca, &self.pin, node.and_then(|node| node.tls.as_ref())) {
            (Some(file), _, _) => {
                Trust::Roots(read("--ca", file, "a file of certificates in PEM")?)
            }
            (None, Some(text), _) => Trust::Pin(Fingerprint::parse(text).ok_or_else(|| {
                let needed = "64 hexadecimal digits, with or without colons";
                unusable("--pin", format!("`{text}`"), needed)
            })?),
            (None, None, Some(files)) => Trust::Pin(files.read()?.fingerprint()),
            (None, None, None) => Trust::System,
        };
        let identity = match (&self.client_cert, &self.client_key) {
            (Some(certificate), Some(key)) => Some(Identity::new(
                read("--client-cert", certificate, "a certificate in PEM")?,
                read("--client-key", key, "its private key in PEM")?,
            )),
            _ => None,
        };
        let security = Security {
            trust,
            server_name: self.server_name.clone(),
            identity,
        };
        Ok(match self.transport {
            Kind::Quic | Kind::QuicDatagram => Transport::Quic(security),
            _ => Transport::Tls(security),
        })
    }
}

fn read(flag: &str, file: &Path, needed: &str) -> Result<Vec<u8>, Diagnosis> {
    std::fs::read(file)
        .map_err(|error| unusable(flag, format!("{}: {error}", file.display()), needed))
}

fn unusable(flag: &str, seen: String, needed: &str) -> Diagnosis {
    Diagnosis::new(
        ARGUMENT,
        format!("{flag} cannot be read"),
        seen,
        needed,
        "`forebay cert dev` makes an authority and prints a fingerprint",
    )
}
