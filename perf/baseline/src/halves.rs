//! The two halves of a connection: a socket's, or a stream's of QUIC.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Where frames come from.
pub(crate) enum Reading {
    Tcp(OwnedReadHalf),
    Quic(quinn::RecvStream),
}

/// Where answers go.
pub(crate) enum Writing {
    Tcp(OwnedWriteHalf),
    Quic(quinn::SendStream),
}

/// Those of a socket.
pub(crate) fn halves(stream: TcpStream) -> (Reading, Writing) {
    // Without it answers wait for the peer's acknowledgement; a socket that refuses is ending anyway.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    (Reading::Tcp(read), Writing::Tcp(write))
}

impl Reading {
    /// Add what has come to `input`, waiting for something: how much, 0 at the end; `None` when it broke.
    pub(crate) async fn read(&mut self, input: &mut Vec<u8>) -> Option<usize> {
        match self {
            Self::Tcp(half) => half.read_buf(input).await.ok(),
            Self::Quic(half) => half.read_buf(input).await.ok(),
        }
    }
}

impl Writing {
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> Option<()> {
        match self {
            Self::Tcp(half) => half.write_all(bytes).await.ok(),
            Self::Quic(half) => half.write_all(bytes).await.ok(),
        }
    }

    /// Write what goes without waiting: how much; `None` when it broke.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Tcp(half) => match half.try_write(bytes) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Some(0),
                Err(_) => None,
            },
            Self::Quic(half) => {
                let mut context = Context::from_waker(Waker::noop());
                match AsyncWrite::poll_write(Pin::new(half), &mut context, bytes) {
                    Poll::Ready(written) => written.ok(),
                    Poll::Pending => Some(0),
                }
            }
        }
    }

    /// Whether it can be written to again, once that is known; false when it broke.
    pub(crate) fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        match self {
            Self::Tcp(half) => half
                .as_ref()
                .poll_write_ready(context)
                .map(|ready| ready.is_ok()),
            // A stream does not tell: who asks lets others go first. Answers are small, so that it hardly ever happens.
            Self::Quic(_) => Poll::Ready(true),
        }
    }

    /// End the connection both ways; its reader sees the end and cleans up.
    pub(crate) fn cut(&mut self) {
        match self {
            // It may have ended by itself meanwhile, which is as well.
            Self::Tcp(half) => drop(rustix::net::shutdown(
                half.as_ref(),
                rustix::net::Shutdown::Both,
            )),
            Self::Quic(half) => drop(half.reset(quinn::VarInt::from_u32(0))),
        }
    }
}
