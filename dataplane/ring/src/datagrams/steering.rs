//! Opening datagram sockets, and which of those that share a port gets a datagram: the one that its QUIC connection ID names.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use crate::error::RingError;
use crate::kernel::errno;

/// Have the kernel tell what QUIC needs to know of each datagram, hand over trains of equal ones whole, and never fragment what is
/// sent. `receive_bytes` is how much may wait in the socket; where the process may not exceed the system's limit, that is what holds.
pub(super) fn prepare(socket: &UdpSocket, receive_bytes: u32) -> Result<(), RingError> {
    let failed = |error: std::io::Error| RingError::Descriptor {
        call: "setsockopt of a datagram socket",
        errno: errno(&error),
    };
    let address = socket.local_addr().map_err(|error| RingError::Descriptor {
        call: "getsockname",
        errno: errno(&error),
    })?;
    socket.set_nonblocking(false).map_err(failed)?;
    set(socket, libc::SOL_UDP, libc::UDP_GRO, 1).map_err(failed)?;
    // An IPv6 socket carries IPv4, too, and tells of it as an IPv4 socket does.
    let four = [
        (libc::IP_RECVTOS, 1),
        (libc::IP_PKTINFO, 1),
        (libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
    ];
    for (name, value) in four {
        set(socket, libc::IPPROTO_IP, name, value).map_err(failed)?;
    }
    if address.is_ipv6() {
        let six = [
            (libc::IPV6_RECVTCLASS, 1),
            (libc::IPV6_RECVPKTINFO, 1),
            (libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
        ];
        for (name, value) in six {
            set(socket, libc::IPPROTO_IPV6, name, value).map_err(failed)?;
        }
    }
    let bytes = i32::try_from(receive_bytes).unwrap_or(i32::MAX);
    set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
        .or_else(|_| set(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))
        .map_err(failed)
}

/// Of the sockets that share this one's port (`SO_REUSEPORT`), let the one get a QUIC datagram that its destination connection ID
/// names: the ID's first byte modulo `sockets`, counted in the order in which they were bound. What is too short to have one goes
/// to the first. One call for all of them, on any one, once all are bound.
///
/// # Errors
/// `Descriptor` when the kernel refuses.
pub fn steer_by_connection_id(socket: &UdpSocket, sockets: u16) -> Result<(), RingError> {
    let mut program = program(sockets);
    let described = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the descriptor is open while `socket` is borrowed; the option takes a `sock_fprog`, which with the program it names
    // lives across the call and is only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const described).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(RingError::Descriptor {
            call: "setsockopt SO_ATTACH_REUSEPORT_CBPF",
            errno: errno(&std::io::Error::last_os_error()),
        }),
    }
}

/// A long header has its connection ID at 6, a short one at 1. A load behind the end makes the answer 0.
pub(super) fn program(sockets: u16) -> [libc::sock_filter; 7] {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const JUMP: u16 = 0x05;
    const MODULO: u16 = 0x94;
    const RETURN: u16 = 0x16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        step(LOAD_BYTE, 0, 0, 0),
        step(JUMP_IF_SET, 0, 2, 0x80),
        step(LOAD_BYTE, 0, 0, 6),
        step(JUMP, 0, 0, 1),
        step(LOAD_BYTE, 0, 0, 1),
        step(MODULO, 0, 0, u32::from(sockets.max(1))),
        step(RETURN, 0, 0, 0),
    ]
}

fn set(socket: &UdpSocket, level: i32, name: i32, value: i32) -> std::io::Result<()> {
    // SAFETY: the descriptor is open while `socket` is borrowed; the value is a live `i32` of the length told, only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
