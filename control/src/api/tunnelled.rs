//! A connection inside a tunnel: what the tunnel makes of its bytes, as a stream for HTTP.
//!
//! This room knows no TLS. Whoever serves the API brings tunnels as bytes in and bytes out ([`Tunnel`]); the socket is read and
//! written here. What waits to be written is bounded: nothing is read from a peer that takes no answers.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::linger::Lingering;

/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;
/// Plaintext that is encrypted at once.
const WRITE_BYTES: usize = 64 << 10;
/// Bytes that may wait to be written before no more is read or encrypted.
const UNSENT_BYTES_MAX: usize = 128 << 10;

/// One side of a tunnel, without a socket.
pub trait Tunnel: Send {
    /// Take what has come and add to `plaintext` what was in it.
    ///
    /// # Errors
    /// Why the tunnel ends here.
    fn receive(&mut self, ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Result<(), String>;
    /// Encrypt, and add it to `out`.
    fn send(&mut self, plaintext: &[u8], out: &mut Vec<u8>);
    /// Add to `out` what the tunnel itself has to say.
    fn flush(&mut self, out: &mut Vec<u8>);
    /// Say that nothing more will be sent.
    fn finish(&mut self, out: &mut Vec<u8>);
    /// Whether its handshake is done.
    fn stands(&self) -> bool;
    /// Whether the peer said that it will send no more.
    fn peer_finished(&self) -> bool;
}

/// Makes a tunnel for a connection that has come.
pub type Secure = Arc<dyn Fn() -> Result<Box<dyn Tunnel>, String> + Send + Sync>;

/// A connection in a tunnel that stands.
pub(super) struct Tunnelled {
    stream: Lingering,
    tunnel: Box<dyn Tunnel>,
    /// What has come, and how much of it is read.
    plaintext: Vec<u8>,
    read: usize,
    /// What waits to be written, and how much of it is.
    unsent: Vec<u8>,
    sent: usize,
    /// Whether the peer is told that nothing more comes.
    finished: bool,
}

impl Tunnelled {
    /// Do the handshake over a connection that has come.
    pub(super) async fn accept(stream: Lingering, secure: &Secure) -> io::Result<Self> {
        let mut this = Self {
            stream,
            tunnel: secure().map_err(io::Error::other)?,
            plaintext: Vec::new(),
            read: 0,
            unsent: Vec::new(),
            sent: 0,
            finished: false,
        };
        while !this.tunnel.stands() {
            poll_fn(|context| this.poll_receive(context)).await?;
            if this.tunnel.peer_finished() && !this.tunnel.stands() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        poll_fn(|context| this.poll_push(context)).await?;
        Ok(this)
    }

    /// Write what waits.
    fn poll_push(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tunnel.flush(&mut self.unsent);
        while self.sent < self.unsent.len() {
            let stream = Pin::new(&mut self.stream);
            let wrote = ready!(stream.poll_write(context, &self.unsent[self.sent..]))?;
            if wrote == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.sent += wrote;
        }
        self.unsent.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// The same, and what does not go now goes later, unless too much waits already.
    fn poll_push_some(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_push(context) {
            Poll::Pending if self.unsent.len() - self.sent < UNSENT_BYTES_MAX => {
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }

    /// Take what has come from the socket into the tunnel, once.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_push_some(context))?;
        let mut bytes = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        if buffer.filled().is_empty() {
            // Cut off without a word: whatever was half said is not done.
            return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
        }
        let received = self.tunnel.receive(buffer.filled(), &mut self.plaintext);
        // What it has to say, also of its end; the peer may not want to hear that any more.
        let pushed = self.poll_push_some(context);
        received.map_err(io::Error::other)?;
        match pushed {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for Tunnelled {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.read == this.plaintext.len() {
            this.plaintext.clear();
            this.read = 0;
            if this.tunnel.peer_finished() {
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_receive(context))?;
        }
        let left = &this.plaintext[this.read..];
        let count = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..count]);
        this.read += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnelled {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_push_some(context))?;
        let count = bytes.len().min(WRITE_BYTES);
        this.tunnel.send(&bytes[..count], &mut this.unsent);
        match this.poll_push(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_push(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.finished {
            this.tunnel.finish(&mut this.unsent);
            this.finished = true;
        }
        ready!(this.poll_push(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}
