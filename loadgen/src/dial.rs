//! Opening the sessions of a run, before its clock starts: plain blocking sockets, one after the other.

use crate::diagnosis;
use client::handshake::{Opened, Opening};
use client::{ClientError, Credentials};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::diagnosis::Diagnosis;

const TIMEOUT: Duration = Duration::from_secs(10);

/// An open session and its socket.
#[derive(Debug)]
pub(crate) struct Dialled {
    /// The socket, non-blocking again.
    pub(crate) stream: TcpStream,
    /// Terms, channels and keys.
    pub(crate) opened: Opened,
    /// What the server sent behind its WELCOME.
    pub(crate) rest: Vec<u8>,
}

/// Connect, prove `endpoint`, and wait for WELCOME.
///
/// # Errors
/// The client's diagnosis: 51xx, or the server's reason.
pub(crate) fn dial(
    addr: SocketAddr,
    endpoint: &str,
    key_id: u32,
    key: &str,
) -> Result<Dialled, Diagnosis> {
    dial_within(addr, (endpoint, key_id, key), TIMEOUT)
}

/// The same, with at most so long a wait for each step.
///
/// # Errors
/// As `dial`.
pub(crate) fn dial_within(
    addr: SocketAddr,
    (endpoint, key_id, key): (&str, u32, &str),
    timeout: Duration,
) -> Result<Dialled, Diagnosis> {
    let credentials = Credentials::key(endpoint, key_id, key).map_err(|error| error.diagnosis())?;
    open(addr, &credentials, timeout).map_err(|error| error.diagnosis())
}

fn open(
    addr: SocketAddr,
    credentials: &Credentials,
    timeout: Duration,
) -> Result<Dialled, ClientError> {
    let failed = |error: std::io::Error| ClientError::Connect {
        addr: addr.to_string(),
        error: error.to_string(),
    };
    let lost = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::WouldBlock => ClientError::NoAnswer(format!("nothing for {timeout:?}")),
        _ => ClientError::Lost(error.to_string()),
    };
    let mut stream = TcpStream::connect_timeout(&addr, timeout).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    stream.set_read_timeout(Some(timeout)).map_err(failed)?;
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| ClientError::Lost(error.to_string()))?;
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (opening, flight) = Opening::begin(credentials, None, nonce, seconds, None)?;
    stream.write_all(&flight).map_err(lost)?;
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some((opened, taken)) = opening.read(&input)? {
            stream.set_read_timeout(None).map_err(failed)?;
            return Ok(Dialled {
                stream,
                opened,
                rest: input.split_off(taken),
            });
        }
        match stream.read(&mut buffer).map_err(lost)? {
            0 => return Err(ClientError::Lost("end of stream".to_owned())),
            bytes => input.extend_from_slice(&buffer[..bytes]),
        }
    }
}

/// A random number that names one run.
///
/// # Errors
/// When the system gives no random bytes.
pub(crate) fn run_id() -> Result<u64, Diagnosis> {
    getrandom::u64().map_err(|error| diagnosis::plan("random bytes", error, "a working getrandom"))
}
