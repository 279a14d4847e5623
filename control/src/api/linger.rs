//! The end of a connection whose peer still sends.
//!
//! A socket that is closed with bytes unread is reset (RFC 9293, section 3.6.1), and a reset takes what was answered from a peer that has not read it yet.
//! So whoever is refused in the middle of a body is told that nothing more will be sent, and what still comes is dropped for a while before
//! the socket is closed (RFC 9112, section 9.6). Only a head that HTTP itself cannot read ends without it. What is dropped costs no memory, and below a tunnel no decryption.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::DOCUMENT_BYTES_MAX;

/// How long a peer may be silent before it is not waited for any more.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long it is waited for at most.
const LINGER_MAX: Duration = Duration::from_secs(30);
/// Most bytes that are dropped.
const DROPPED_BYTES_MAX: usize = DOCUMENT_BYTES_MAX;
/// Bytes dropped at once.
const READ_BYTES: usize = 16 << 10;

/// A socket whose shutdown hears the peer out.
pub(super) struct Lingering {
    stream: TcpStream,
    /// Ends the waiting, once the peer was told that nothing more comes, and when that is at the latest.
    patience: Option<(Pin<Box<Sleep>>, Instant)>,
    dropped: usize,
}

impl Lingering {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            patience: None,
            dropped: 0,
        }
    }

    /// Drop what has come, once; whether more is to be waited for.
    fn poll_drop(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut bytes = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
        let count = buffer.filled().len();
        self.dropped += count;
        Poll::Ready(read.is_ok() && count > 0 && self.dropped < DROPPED_BYTES_MAX)
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Say that nothing more comes, and drop what the peer says until it ends too, is silent, or has said too much.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let (mut patience, latest) = match this.patience.take() {
            Some(patience) => patience,
            None => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                (Box::pin(sleep(SILENCE_MAX)), Instant::now() + LINGER_MAX)
            }
        };
        while let Poll::Ready(more) = this.poll_drop(context) {
            if !more {
                return Poll::Ready(Ok(()));
            }
            let silent_until = Instant::now() + SILENCE_MAX;
            patience.as_mut().reset(silent_until.min(latest));
        }
        let over = patience.as_mut().poll(context);
        this.patience = Some((patience, latest));
        over.map(Ok)
    }
}
