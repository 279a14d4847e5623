//! The API on a socket, from threads of its own. Without TLS only on this machine's own addresses.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use wire::diagnosis::Diagnosis;

use super::router;
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

/// Serve the API of this service on this address of this machine, without TLS.
///
/// # Errors
/// When the address is another one, or cannot be had.
pub fn serve(listen: SocketAddr, service: Arc<Service>) -> Result<Serving, Diagnosis> {
    if !listen.ip().is_loopback() {
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
    let router = router(service);
    let run = move || {
        runtime.block_on(async move {
            tokio::select! {
                () = accept(listener, router) => {}
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

async fn accept(listener: TcpListener, router: Router) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    connection(stream, router).await;
                    drop(permit);
                });
            }
            // Out of descriptors, most often: give others time to close some.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Whatever the peer did wrong ends its connection and nothing else.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, serving).await;
}
