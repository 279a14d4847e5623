//! The few calls on sockets that the standard library lacks or that need a class of error.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

/// Prepare a connected socket: blocking (the ring waits, the socket must not answer `EAGAIN`) and
/// without delay of small writes. Gives the peer's address.
///
/// # Errors
/// Also when the peer is gone already.
pub(crate) fn prepare(stream: &TcpStream) -> std::io::Result<SocketAddr> {
    stream.set_nodelay(true)?;
    stream.peer_addr()
}

/// Make closing send a reset and throw away what the kernel still holds for the peer.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let bytes = size_of::<libc::linger>() as libc::socklen_t;
    let value = std::ptr::from_ref(&linger).cast();
    // SAFETY: the descriptor is open while `stream` is borrowed; `value` points to `bytes` bytes of a
    // live `linger`, which the kernel only reads during the call. Failing changes nothing but the
    // manner of closing.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            value,
            bytes,
        )
    };
}

/// Send the end of the stream. A peer that is gone makes this fail, which the receive tells better.
pub(crate) fn finish_writing(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
}

/// End both directions, which completes every operation on the socket.
pub(crate) fn end_both(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}

/// Whether this error number means that the peer is gone.
pub(crate) fn is_reset(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNRESET | libc::EPIPE | libc::ENOTCONN | libc::ECONNABORTED
    )
}

/// Whether the operation should simply be started again.
pub(crate) fn is_passing(errno: i32) -> bool {
    matches!(errno, libc::EINTR | libc::EAGAIN)
}
