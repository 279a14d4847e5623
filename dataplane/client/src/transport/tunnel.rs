//! TLS over TCP: a tunnel of `tls` between the socket and the connection's bytes. Frames that go out together share records.

use crate::diagnosis::ClientError;
use std::io::{self, ErrorKind};
use tls::{Broken, EXPORTER_BYTES, Tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const READ_BYTES: usize = 64 * 1024;
/// Plaintext that is encrypted at once: four full records.
const WRITE_BYTES: usize = 64 * 1024;

/// One connection in a tunnel that stands.
#[derive(Debug)]
pub(crate) struct Tunnelled {
    stream: TcpStream,
    tunnel: Tunnel,
    exporter: [u8; EXPORTER_BYTES],
    received: Vec<u8>,
    /// Plaintext that came together with the end of the handshake.
    early: Vec<u8>,
    unsent: Vec<u8>,
    sent: usize,
}

impl Tunnelled {
    /// Do the handshake over a fresh connection.
    ///
    /// # Errors
    /// `FB-5114` when the server's certificate is not to be trusted, `FB-5115` when TLS fails otherwise, `FB-5102` when
    /// the connection is lost.
    pub(super) async fn connect(
        mut stream: TcpStream,
        client: &tls::Client,
        addr: &str,
    ) -> Result<Self, ClientError> {
        let lost = |error: io::Error| ClientError::Lost(error.to_string());
        let broken = |error: Broken| refused(addr, &error);
        let tunnel = client.tunnel();
        let mut tunnel = tunnel.map_err(|error| refused(addr, &Broken::Tls(error)))?;
        let (mut received, mut early) = (Vec::with_capacity(READ_BYTES), Vec::new());
        let (mut unsent, mut fault) = (Vec::new(), None);
        loop {
            tunnel.flush(&mut unsent);
            let written = stream.write_all(&unsent).await;
            unsent.clear();
            // What the tunnel has to say of its end, the server may not want to hear any more.
            if let Some(fault) = fault {
                return Err(broken(fault));
            }
            written.map_err(lost)?;
            if tunnel.stands() {
                break;
            }
            received.clear();
            if stream.read_buf(&mut received).await.map_err(lost)? == 0 {
                return Err(lost(ErrorKind::UnexpectedEof.into()));
            }
            fault = tunnel.receive(&received, &mut early).err();
        }
        let exporter = tunnel.exporter();
        let exporter = exporter.ok_or_else(|| {
            ClientError::Protocol("a tunnel without an exporter value".to_owned())
        })?;
        Ok(Self {
            stream,
            tunnel,
            exporter,
            received,
            early,
            unsent,
            sent: 0,
        })
    }

    pub(super) fn exporter(&self) -> &[u8; EXPORTER_BYTES] {
        &self.exporter
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.unsent.len()
    }

    pub(super) fn try_write(&mut self, plaintext: &[u8]) -> io::Result<usize> {
        self.try_flush()?;
        let bytes = plaintext.len().min(WRITE_BYTES);
        self.tunnel.send(&plaintext[..bytes], &mut self.unsent);
        self.flush_some()?;
        Ok(bytes)
    }

    pub(super) fn try_flush(&mut self) -> io::Result<()> {
        self.tunnel.flush(&mut self.unsent);
        while self.has_unsent() {
            self.sent += self.stream.try_write(&self.unsent[self.sent..])?;
        }
        self.unsent.clear();
        self.sent = 0;
        Ok(())
    }

    /// The same, and what does not go now goes later.
    fn flush_some(&mut self) -> io::Result<()> {
        match self.try_flush() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            done => done,
        }
    }

    pub(super) fn try_read_buf(&mut self, plaintext: &mut Vec<u8>) -> io::Result<usize> {
        let before = plaintext.len();
        plaintext.append(&mut self.early);
        while plaintext.len() == before {
            self.received.clear();
            // An end without a word of the tunnel is the same loss to a connection that never said BYE.
            if self.tunnel.peer_finished() || self.stream.try_read_buf(&mut self.received)? == 0 {
                return Ok(0);
            }
            let received = self.tunnel.receive(&self.received, plaintext);
            self.flush_some()?;
            received.map_err(io::Error::other)?;
        }
        Ok(plaintext.len() - before)
    }

    /// Say in the tunnel that nothing more will be written.
    pub(super) fn finish(&mut self) {
        self.tunnel.finish(&mut self.unsent);
    }

    /// Say it on the connection.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}

/// What it means to a client that a tunnel does not stand.
pub(crate) fn refused(addr: &str, error: &Broken) -> ClientError {
    let (addr, text) = (addr.to_owned(), error.to_string());
    match error {
        Broken::Tls(tls::rustls::Error::InvalidCertificate(_)) => {
            ClientError::Untrusted { addr, error: text }
        }
        _ => ClientError::Tunnel { addr, error: text },
    }
}
