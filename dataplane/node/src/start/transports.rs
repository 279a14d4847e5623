//! What a node listens on, and what makes its tunnels.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use tls::AskingFault;

use super::Control;
use crate::accept::quic::settings::Settings;
use crate::accept::tcp::{self, Purpose};
use crate::accept::udp;
use crate::bounds::quic_limits;
use crate::certificates::{CertificateFiles, ClientCertificates, Stamp, Stamps};
use crate::config::NodeConfig;
use crate::diagnosis::{ADMIN_PORT_TAKEN, Diagnosis, PORT_TAKEN, RANDOM_FAILED, diagnose};
use crate::folder::Folder;
use crate::shard_thread::QuicSeed;
use crate::watch::{Watch, Watched};

/// What makes the tunnels of a node, and the certificate that it shows.
pub(super) struct Tunnels {
    pub(super) server: tls::Server,
    served: Arc<tls::Served>,
    files: CertificateFiles,
    clients: ClientCertificates,
    /// What the files were known by before they were read: the pair's, and that of the authorities of clients.
    known: (Stamps, Stamp),
}

impl Tunnels {
    /// Of a node that has a certificate.
    pub(super) fn of(config: &NodeConfig) -> Result<Option<Self>, Diagnosis> {
        let Some(files) = config.tls.clone() else {
            return Ok(None);
        };
        let (known, read) = files.read_stamped();
        let served = tls::Served::new(read?);
        let clients = config.clients.clone();
        let known = (known, clients.stamp());
        let server = tls::Server::asking(Arc::clone(&served), &clients.asking()?);
        let server = server.map_err(|fault| match fault {
            AskingFault::Random(error) => diagnose(
                RANDOM_FAILED,
                "a key for tickets",
                error,
                "random bytes of the kernel",
                "see the kernel log",
            ),
            fault => clients.refuse(&fault),
        })?;
        Ok(Some(Self {
            server,
            served,
            files,
            clients,
            known,
        }))
    }

    /// Show another certificate when its files change.
    pub(super) fn watch(self, control: &Control) -> Result<Watch, Diagnosis> {
        let status = Arc::clone(&control.status);
        status.certificate_good(self.served.current().validity().until);
        Watch::start(Watched {
            files: self.files,
            clients: self.clients,
            known: self.known,
            served: self.served,
            server: self.server,
            status,
            log: Arc::clone(&control.log),
        })
    }
}

/// What each shard needs for QUIC.
pub(super) fn quic_seeds(
    sockets: Vec<UdpSocket>,
    tunnels: &Tunnels,
    config: &NodeConfig,
    folder: &Folder,
) -> Result<Vec<QuicSeed>, Diagnosis> {
    let limits = quic_limits(config, sockets.len());
    let secrets = (tunnels.files.secret()?, folder.secret(draw)?);
    let secrets: [&[u8]; 2] = [&secrets.0, &secrets.1];
    let settings = Settings::new(tunnels.server.clone(), limits, (draw, secrets));
    let settings = settings.map(Arc::new).map_err(|error| {
        diagnose(
            crate::diagnosis::CERTIFICATE_REFUSED,
            "node.listen_quic",
            error.to_string(),
            "TLS 1.3 with a cipher suite of QUIC",
            "see the versions and suites that this build of rustls has",
        )
    })?;
    let again: std::io::Result<Arc<[UdpSocket]>> =
        sockets.iter().map(UdpSocket::try_clone).collect();
    let again = again.map_err(|error| {
        diagnose(
            crate::diagnosis::LISTEN_FAILED,
            "node.listen_quic",
            error.to_string(),
            "two descriptors for each shard",
            "raise `ulimit -n`",
        )
    })?;
    let seed = |socket| QuicSeed {
        socket,
        sockets: Arc::clone(&again),
        settings: Arc::clone(&settings),
    };
    Ok(sockets.into_iter().map(seed).collect())
}

fn draw(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel gave random bytes when the node started");
}

/// Every shard's listeners, and the one of the admin port.
pub(super) struct Listeners {
    /// One for each shard, or none.
    pub(super) plain: Vec<std::net::TcpListener>,
    pub(super) tls: Vec<std::net::TcpListener>,
    pub(super) quic: Vec<UdpSocket>,
    pub(super) admin: std::net::TcpListener,
}

pub(super) fn listeners(config: &NodeConfig, shards: usize) -> Result<Listeners, Diagnosis> {
    let listen = Purpose {
        setting: "node.listen",
        taken: PORT_TAKEN,
    };
    let admin = Purpose {
        setting: "node.admin",
        taken: ADMIN_PORT_TAKEN,
    };
    let listen_tls = Purpose {
        setting: "node.listen_tls",
        taken: PORT_TAKEN,
    };
    let each = |address, purpose| {
        let mut all = vec![tcp::listen(address, config.backlog, true, purpose)?];
        while all.len() < shards {
            all.push(tcp::listen_beside(&all[0], config.backlog, purpose)?);
        }
        Ok(all)
    };
    let plain = config.listen.map(|address| each(address, listen));
    let tls = config.listen_tls.map(|address| each(address, listen_tls));
    let listen_quic = Purpose {
        setting: "node.listen_quic",
        taken: PORT_TAKEN,
    };
    let open = |address| udp::open_for_shards(address, shards, listen_quic);
    let quic = config.listen_quic.map(open).transpose()?;
    Ok(Listeners {
        plain: plain.transpose()?.unwrap_or_default(),
        tls: tls.transpose()?.unwrap_or_default(),
        quic: quic.unwrap_or_default(),
        admin: tcp::listen(config.admin, 128, false, admin)?,
    })
}

pub(super) fn local(listener: &std::net::TcpListener) -> Result<SocketAddr, Diagnosis> {
    listener.local_addr().map_err(|error| {
        diagnose(
            crate::diagnosis::LISTEN_FAILED,
            "listener",
            error.to_string(),
            "a bound address",
            "see the kernel log",
        )
    })
}
