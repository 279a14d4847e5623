//! Frames over one connection, in a tunnel. Both sides use it alike.

use std::io;
use std::time::Duration;

use tls::rustls::{AlertDescription, Error};
use tls::{Broken, Tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::diagnosis::{LINK_LOST, LINK_MALFORMED, LINK_SILENT, LINK_UNTRUSTED};
use crate::frame::{Frame, Malformed};

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// How long the other side may take none of the bytes that wait for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a link ends, with its stable code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: u16,
    pub(crate) text: String,
}

impl Ended {
    pub(crate) fn new(code: u16, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { code, text }
    }

    pub(crate) fn silent() -> Self {
        Self::new(LINK_SILENT, "nothing heard for too long")
    }

    pub(crate) fn out_of_place(frame: &Frame) -> Self {
        let mut text = format!("{frame:?}");
        text.truncate(text.char_indices().nth(80).map_or(text.len(), |(at, _)| at));
        Self::new(LINK_MALFORMED, format!("a frame out of place: {text}"))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FB-{}: {}", self.code, self.text)
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::new(LINK_LOST, error.to_string())
    }
}

impl From<Malformed> for Ended {
    fn from(malformed: Malformed) -> Self {
        Self::new(LINK_MALFORMED, malformed.0)
    }
}

impl From<Broken> for Ended {
    fn from(broken: Broken) -> Self {
        let text = broken.to_string();
        let code = match broken {
            Broken::Tls(error) if is_of_trust(&error) => LINK_UNTRUSTED,
            _ => LINK_MALFORMED,
        };
        Self { code, text }
    }
}

/// Whether a certificate is the matter, by what this side or the other one says.
fn is_of_trust(error: &Error) -> bool {
    use AlertDescription as Alert;
    matches!(
        error,
        Error::InvalidCertificate(_)
            | Error::NoCertificatesPresented
            | Error::AlertReceived(
                Alert::UnknownCA
                    | Alert::BadCertificate
                    | Alert::CertificateRequired
                    | Alert::CertificateExpired
                    | Alert::CertificateRevoked
                    | Alert::CertificateUnknown
                    | Alert::UnsupportedCertificate
                    | Alert::DecryptError
                    | Alert::AccessDenied
            )
    )
}

/// One connection whose tunnel stands.
pub(crate) struct Pipe {
    stream: TcpStream,
    tunnel: Tunnel,
    received: Vec<u8>,
    /// Plaintext, read up to `at`.
    plain: Vec<u8>,
    at: usize,
    /// Frames and then ciphertext that go out.
    frames: Vec<u8>,
    unsent: Vec<u8>,
    /// Whether sending was broken off: what follows would be read as something else.
    torn: bool,
}

impl Pipe {
    /// Shake hands over a connection just made.
    pub(crate) async fn shake(stream: TcpStream, tunnel: Tunnel) -> Result<Self, Ended> {
        stream.set_nodelay(true)?;
        let mut pipe = Self {
            stream,
            tunnel,
            received: Vec::with_capacity(READ_BYTES),
            plain: Vec::new(),
            at: 0,
            frames: Vec::new(),
            unsent: Vec::new(),
            torn: false,
        };
        while !pipe.tunnel.stands() {
            pipe.flush().await?;
            pipe.read().await?;
        }
        pipe.flush().await?;
        Ok(pipe)
    }

    /// Whether the other side's certificate is for this name.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.tunnel.names(name)
    }

    /// The next frame. Nothing is lost when the future is dropped before it is done.
    pub(crate) async fn receive(&mut self) -> Result<Frame, Ended> {
        loop {
            if let Some((frame, bytes)) = Frame::read(&self.plain[self.at..])? {
                self.at += bytes;
                return Ok(frame);
            }
            self.plain.drain(..self.at);
            self.at = 0;
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), Ended> {
        self.received.clear();
        if self.stream.read_buf(&mut self.received).await? == 0 {
            return Err(Ended::new(LINK_LOST, "the connection ended"));
        }
        let took = self.tunnel.receive(&self.received, &mut self.plain);
        if took.is_err() {
            // What the tunnel has to say of its end goes if it goes at once.
            self.tunnel.flush(&mut self.unsent);
            let _ = self.stream.try_write(&self.unsent);
        }
        Ok(took?)
    }

    /// Send a frame, and what waits. If it is not awaited to its end, nothing can be sent any more.
    pub(crate) async fn send(&mut self, frame: &Frame) -> Result<(), Ended> {
        self.frames.clear();
        frame.write(&mut self.frames);
        self.tunnel.send(&self.frames, &mut self.unsent);
        self.flush().await
    }

    /// Send what waits. If it is not awaited to its end, nothing can be sent any more.
    pub(crate) async fn flush(&mut self) -> Result<(), Ended> {
        if std::mem::replace(&mut self.torn, true) {
            return Err(Ended::new(LINK_LOST, "sending was broken off"));
        }
        self.tunnel.flush(&mut self.unsent);
        let mut sent = 0;
        while sent < self.unsent.len() {
            let wrote = self.stream.write(&self.unsent[sent..]);
            let wrote = timeout(WRITE_TIMEOUT, wrote).await;
            sent += wrote.map_err(|_| Ended::silent())??;
        }
        self.unsent.clear();
        self.torn = false;
        Ok(())
    }

    /// Say that nothing more comes, as far as that still goes.
    pub(crate) async fn finish(mut self) {
        self.tunnel.finish(&mut self.unsent);
        // The other side may be gone.
        if self.flush().await.is_ok() {
            let _ = self.stream.shutdown().await;
        }
    }
}
