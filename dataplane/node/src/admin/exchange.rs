//! A tokio socket as hyper wants to see it. Reads go through a small buffer of our own, so no unsafe is needed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

const READ_BYTES: usize = 2048;

/// One admin connection.
pub(super) struct Exchange {
    stream: TcpStream,
    block: Box<[u8; READ_BYTES]>,
}

impl Exchange {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            block: Box::new([0; READ_BYTES]),
        }
    }
}

impl Read for Exchange {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, block } = self.get_mut();
        let room = cursor.remaining().min(READ_BYTES);
        let mut buffer = ReadBuf::new(&mut block[..room]);
        ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
        cursor.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Exchange {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
