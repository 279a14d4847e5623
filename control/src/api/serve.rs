//! The API on a socket, from threads of its own: in tunnels, or without them on this machine's own addresses alone.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use wire::diagnosis::Diagnosis;

use super::doors::Doors;
use super::linger::Lingering;
use super::refusals::{Peer, Tell};
use super::router;
use super::tunnelled::{Secure, Tunnelled};
use crate::diagnosis::{API_FAILED, API_PLAIN, CODES};
use crate::service::Service;

/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may stay.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
/// Questions that wait for the disk at once.
const THREADS_MAX: usize = 16;

/// The API while it is served.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Serving {
    /// Where it is served; the port the kernel chose if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stop, and wait for the thread. Changes under way are carried out.
    pub fn end(self) {
        // Either it is told, or it is gone already.
        let _ = self.end.send(());
        let _ = self.thread.join();
    }
}

/// Where the API is served.
pub struct Listen {
    /// The address.
    pub address: SocketAddr,
    /// Makes the tunnel of each connection; without it, the address must be this machine's own.
    pub secure: Option<Secure>,
    /// Takes a line for what is refused for want of a right.
    pub tell: Option<Tell>,
}

impl std::fmt::Debug for Listen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (address, secure) = (self.address, self.secure.is_some());
        write!(formatter, "Listen({address}, secure: {secure})")
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            secure: None,
            tell: None,
        }
    }
}

/// Serve the API of this service.
///
/// # Errors
/// When it would be served without TLS where others reach it, or the address cannot be had.
pub fn serve(listen: impl Into<Listen>, service: Arc<Service>) -> Result<Serving, Diagnosis> {
    let Listen {
        address: listen,
        secure,
        tell,
    } = listen.into();
    if secure.is_none() && !listen.ip().is_loopback() {
        let what = "the API would be served without TLS";
        let needed = "an address of this machine alone, such as 127.0.0.1:7414";
        return Err(Diagnosis::from_table(
            CODES,
            API_PLAIN,
            what,
            listen.to_string(),
            needed,
        ));
    }
    let failed = |error: std::io::Error| {
        let what = format!("the API cannot be served at {listen}");
        Diagnosis::from_table(
            CODES,
            API_FAILED,
            what,
            error.to_string(),
            "an address that is free",
        )
    };
    let listener = TcpListener::bind(listen).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS_MAX)
        .build()
        .map_err(failed)?;
    let (end, ended) = oneshot::channel::<()>();
    let router = router(service, tell);
    let run = move || {
        runtime.block_on(async move {
            tokio::select! {
                () = accept(listener, secure, router) => {}
                // Told to end, or nobody is left to tell.
                _ = ended => {}
            }
        });
    };
    let thread = std::thread::Builder::new().name("api".into());
    let thread = thread.spawn(run).map_err(failed)?;
    Ok(Serving {
        address,
        end,
        thread,
    })
}

async fn accept(listener: TcpListener, secure: Option<Secure>, router: Router) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let doors = Doors::default();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Nobody keeps the places of all, nor the processor with handshakes.
                let Some(inside) = doors.enter(peer.ip(), Instant::now()) else {
                    continue;
                };
                let (secure, router) = (secure.clone(), router.clone());
                tokio::spawn(async move {
                    connection(stream, Peer(peer.ip()), secure, router).await;
                    drop((permit, inside));
                });
            }
            // Out of descriptors, most often: give others time to close some.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(stream: TcpStream, peer: Peer, secure: Option<Secure>, router: Router) {
    let stream = Lingering::new(stream);
    let Some(secure) = secure else {
        return speak(stream, peer, router).await;
    };
    let tunnelled = Tunnelled::accept(stream, &secure);
    // Who does not come through the handshake in time is no client.
    if let Ok(Ok(tunnelled)) = tokio::time::timeout(HEAD_TIMEOUT, tunnelled).await {
        speak(tunnelled, peer, router).await;
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
) {
    let router = TowerToHyperService::new(router);
    let attend = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), attend);
    // Whatever the peer did wrong ends its connection and nothing else.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, serving).await;
}
