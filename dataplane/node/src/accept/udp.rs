//! Datagram sockets: opened here, one for each shard on one port, so that a fault has a name, then handed to the rings.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use ring::steer_by_connection_id;
use socket2::{Domain, Protocol, Socket, Type};

use super::quic::cids::SHARDS_MAX;
use super::tcp::{Purpose, patiently, refused};
use crate::bounds::ring_fault;
use crate::diagnosis::{Diagnosis, SETTINGS_CONFLICT, diagnose};

/// Open a socket for each shard, in their order, and have the kernel give each datagram to the shard that its connection ID names.
///
/// A shared port would let a second node slip in beside a running one, so the port is first tried alone.
pub(crate) fn open_for_shards(
    address: SocketAddr,
    shards: usize,
    purpose: Purpose,
) -> Result<Vec<UdpSocket>, Diagnosis> {
    let count = u16::try_from(shards).ok();
    let Some(count) = count.filter(|count| *count <= SHARDS_MAX) else {
        return Err(diagnose(
            SETTINGS_CONFLICT,
            purpose.setting,
            format!("{shards} shards"),
            "at most 256 shards, which is what a byte of a connection ID can name",
            format!("run fewer shards, or leave out {}", purpose.setting),
        ));
    };
    let fault = |address, error: &io::Error| refused(address, purpose, error);
    let alone = patiently(|| open(address, false)).and_then(|socket| socket.local_addr());
    let address = alone.map_err(|error| fault(address, &error))?;
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        sockets.push(open(address, shards > 1).map_err(|error| fault(address, &error))?);
    }
    if shards > 1 {
        steer_by_connection_id(&sockets[0], count).map_err(|error| ring_fault(&error))?;
    }
    Ok(sockets)
}

fn open(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
