//! One connection of any transport with blocking reads and writes: for handshakes, and for threads that have one connection alone.

use client::transport::quic::Lane;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use tls::{Broken, EXPORTER_BYTES, Tunnel};
use tokio::runtime::Runtime;

const READ_BYTES: usize = 4 << 10;

/// A connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Tls(TcpStream, Box<Tunnel>),
    /// The stream, and the runtime on which it lives: nothing of it moves but inside its `block_on`.
    Quic(Box<Lane>, Arc<Runtime>),
}

impl Socket {
    /// Make a tunnel over a connection just made.
    ///
    /// # Errors
    /// What breaks the tunnel, or the connection.
    pub(crate) fn tunnel(mut stream: TcpStream, mut tunnel: Tunnel) -> io::Result<Self> {
        let (mut out, mut early) = (Vec::new(), Vec::new());
        let mut received = [0; READ_BYTES];
        let mut fault: Option<Broken> = None;
        loop {
            tunnel.flush(&mut out);
            let written = stream.write_all(&out);
            out.clear();
            // What the tunnel has to say of its end, the server may not want to hear any more.
            if let Some(fault) = fault {
                return Err(io::Error::other(fault));
            }
            written?;
            if tunnel.stands() {
                break;
            }
            let bytes = read_once(&mut stream, &mut received)?;
            if bytes == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            fault = tunnel.receive(&received[..bytes], &mut early).err();
        }
        // The server says nothing before HELLO.
        match early.is_empty() {
            true => Ok(Self::Tls(stream, Box::new(tunnel))),
            false => Err(io::Error::other("bytes before HELLO")),
        }
    }

    /// The tunnel's exporter value.
    pub(crate) fn exporter(&self) -> Option<[u8; EXPORTER_BYTES]> {
        match self {
            Self::Tcp(_) => None,
            Self::Tls(_, tunnel) => tunnel.exporter(),
            Self::Quic(lane, _) => Some(*lane.exporter()),
        }
    }

    /// Which of its connection's lanes it is.
    pub(crate) fn lane_index(&self) -> u64 {
        match self {
            Self::Quic(lane, _) => lane.beside().lane(),
            _ => 0,
        }
    }

    /// Bytes of the longest datagram that it takes; 0 when it takes none.
    pub(crate) fn datagram_bytes_max(&self) -> usize {
        match self {
            Self::Quic(lane, _) => lane.beside().bytes_max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Write all of it, waiting at most about so long.
    pub(crate) fn write_all(&mut self, bytes: &[u8], timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_write_timeout(Some(timeout))?;
                stream.write_all(bytes)
            }
            Self::Tls(stream, tunnel) => {
                let mut out = Vec::with_capacity(bytes.len() + 64);
                tunnel.send(bytes, &mut out);
                stream.set_write_timeout(Some(timeout))?;
                stream.write_all(&out)
            }
            Self::Quic(lane, runtime) => runtime.block_on(async {
                let written = tokio::time::timeout(timeout, lane.write_all(bytes)).await;
                written.unwrap_or_else(|_| Err(ErrorKind::WouldBlock.into()))
            }),
        }
    }

    /// Add what comes; 0 at the end, `WouldBlock` when nothing comes for so long.
    pub(crate) fn read(&mut self, bytes: &mut Vec<u8>, timeout: Duration) -> io::Result<usize> {
        let before = bytes.len();
        match self {
            Self::Tcp(stream) => {
                let mut buffer = [0; READ_BYTES];
                stream.set_read_timeout(Some(timeout))?;
                let came = read_once(stream, &mut buffer)?;
                bytes.extend_from_slice(&buffer[..came]);
            }
            Self::Tls(stream, tunnel) => {
                stream.set_read_timeout(Some(timeout))?;
                while bytes.len() == before && read_record(stream, tunnel, bytes)? {}
            }
            Self::Quic(lane, runtime) => {
                return runtime.block_on(async {
                    let came = tokio::time::timeout(timeout, lane.read_buf(bytes)).await;
                    came.unwrap_or_else(|_| Err(ErrorKind::WouldBlock.into()))
                });
            }
        }
        Ok(bytes.len() - before)
    }

    /// Leave the connection alone for so long; only what the transport does by itself goes on.
    pub(crate) fn pause(&self, length: Duration) {
        match self {
            Self::Tcp(_) | Self::Tls(..) => std::thread::park_timeout(length),
            Self::Quic(_, runtime) => {
                runtime.block_on(async { tokio::time::sleep(length).await });
            }
        }
    }
}

/// Read what is there. A process that was stopped for a while goes on where it was: its calls with a time limit are interrupted then.
fn read_once(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Read once and open what came; false at the end.
fn read_record(
    stream: &mut TcpStream,
    tunnel: &mut Tunnel,
    bytes: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut buffer = [0; READ_BYTES];
    let came = match tunnel.peer_finished() {
        true => 0,
        false => read_once(stream, &mut buffer)?,
    };
    tunnel
        .receive(&buffer[..came], bytes)
        .map_err(io::Error::other)?;
    if tunnel.wants_flush() {
        let mut out = Vec::new();
        tunnel.flush(&mut out);
        stream.write_all(&out)?;
    }
    Ok(came > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::{Features, Ring, RingLimits};
    use std::net::TcpListener;

    #[test]
    fn a_read_that_the_kernel_interrupts_goes_on() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let silent = TcpStream::connect(listener.local_addr().expect("it is bound"));
        let mut socket = Socket::Tcp(silent.expect("it listens"));
        // A ring that is taken apart interrupts its thread a tenth of a second later.
        let features = Features::probe().expect("this machine runs rings");
        drop(Ring::new(RingLimits::default(), features).expect("this machine runs rings"));
        let read = socket.read(&mut Vec::new(), Duration::from_millis(400));
        let error = read.expect_err("nobody says anything");
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    }
}
