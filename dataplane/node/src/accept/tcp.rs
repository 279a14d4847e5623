//! TCP listeners: opened here, so that a fault has a name, then handed to the ring.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::diagnosis::{ADDRESS_ABSENT, Diagnosis, LISTEN_FAILED, PORT_PRIVILEGED, diagnose};

/// What a listener is for; decides the code and the setting named when its port is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose {
    pub(crate) setting: &'static str,
    pub(crate) taken: u16,
}

/// Open a listener. With `shared` other shards of this process may listen on the same port.
///
/// A shared port would let a second node slip in beside a running one, so the port is first tried alone.
pub(crate) fn listen(
    address: SocketAddr,
    backlog: u32,
    shared: bool,
    purpose: Purpose,
) -> Result<TcpListener, Diagnosis> {
    let address = match shared && address.port() != 0 {
        true => open(address, backlog, false)
            .and_then(|trial| trial.local_addr())
            .map_err(|error| refused(address, purpose, &error))?,
        false => address,
    };
    open(address, backlog, shared).map_err(|error| refused(address, purpose, &error))
}

/// Open another listener on the port of one that is shared: the kernel gives each new connection to one of them.
pub(crate) fn listen_beside(
    first: &TcpListener,
    backlog: u32,
    purpose: Purpose,
) -> Result<TcpListener, Diagnosis> {
    let unbound = SocketAddr::from(([0; 4], 0));
    let address = first
        .local_addr()
        .map_err(|error| refused(unbound, purpose, &error))?;
    try_open(address, backlog, true).map_err(|error| refused(address, purpose, &error))
}

/// How long a port may stay taken before we say so. The kernel takes a ring apart only after its process is gone, so the
/// listener of a node that was killed can outlive it for a moment.
const TAKEN_PATIENCE: Duration = Duration::from_secs(1);
const TAKEN_PAUSE: Duration = Duration::from_millis(10);

fn open(address: SocketAddr, backlog: u32, shared: bool) -> io::Result<TcpListener> {
    patiently(|| try_open(address, backlog, shared))
}

/// Try again for a moment while a port is taken.
pub(super) fn patiently<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match open() {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && began.elapsed() < TAKEN_PATIENCE =>
            {
                std::thread::sleep(TAKEN_PAUSE);
            }
            done => return done,
        }
    }
}

fn try_open(address: SocketAddr, backlog: u32, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Why a socket could not be opened.
pub(super) fn refused(address: SocketAddr, purpose: Purpose, error: &io::Error) -> Diagnosis {
    let what = format!("{} {address}", purpose.setting);
    let (code, needed, remedy) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            purpose.taken,
            "a free port",
            format!(
                "stop the process that listens there (`ss -ltunp` names it), or change {}",
                purpose.setting
            ),
        ),
        io::ErrorKind::AddrNotAvailable => (
            ADDRESS_ABSENT,
            "an address of this machine",
            format!("change {}; `ip addr` lists the addresses", purpose.setting),
        ),
        io::ErrorKind::PermissionDenied => (
            PORT_PRIVILEGED,
            "the privilege to use this port",
            "use a port from 1024 up, or grant CAP_NET_BIND_SERVICE".into(),
        ),
        _ => (
            LISTEN_FAILED,
            "a listening socket",
            format!("change {}, or see the kernel log", purpose.setting),
        ),
    };
    diagnose(code, what, error.to_string(), needed, remedy)
}
