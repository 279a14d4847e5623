//! The admin port: metrics and probes over HTTP/1, on loopback, from a thread of its own.
//!
//! | path       | answer                                                                               |
//! |------------|--------------------------------------------------------------------------------------|
//! | `/metrics` | Prometheus text                                                                      |
//! | `/shards`  | JSON: the numbers of each shard, and who sends most                                  |
//! | `/bans`    | who is kept out, why and for how long, a line each                                   |
//! | `/live`    | 200 for as long as the process runs, also while it recovers                          |
//! | `/ready`   | 200 when it serves, else 503 with the reason: a shard that stands still is one       |
//! | `/reload`  | POST: read the plan again; 200 with the epoch, 409 with the fault                    |
//!
//! The thread asks the loop for its numbers and waits for the answer; a scrape costs the shard one small copy.

mod exchange;
mod metrics;
mod shards;
pub mod view;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use shard::Barred;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use wire::ids::EndpointId;
use wire::route::RouteTable;

use crate::diagnosis::{ADMIN_FAILED, Diagnosis, diagnose};
use crate::start::{Control, snapshots};
use crate::status::{Phase, Snapshot};
use exchange::Exchange;

/// How long one connection may take, requests and answers together.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections served at once.
const CONNECTIONS_MAX: usize = 32;

/// The running admin thread.
pub(crate) struct Admin {
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Stop serving and wait for the thread.
    pub(crate) fn end(self) {
        // Either it is told, or it is gone already.
        let _ = self.end.send(());
        let _ = self.thread.join();
    }
}

/// Serve on an open listener.
pub(crate) fn serve(
    listener: std::net::TcpListener,
    control: Arc<Control>,
) -> Result<Admin, Diagnosis> {
    let failed = |error: std::io::Error| {
        diagnose(
            ADMIN_FAILED,
            "admin thread",
            error.to_string(),
            "a thread with an event loop of its own",
            "raise `ulimit -u` and `ulimit -n`",
        )
    };
    listener.set_nonblocking(true).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let (end, ended) = oneshot::channel();
    let run = move || {
        runtime.block_on(futures_lite::future::or(
            accept(listener, control),
            async move {
                // Told to end, or nobody is left to tell.
                let _ = ended.await;
            },
        ));
    };
    let thread = std::thread::Builder::new().name("admin".into());
    let thread = thread.spawn(run).map_err(failed)?;
    Ok(Admin { end, thread })
}

async fn accept(listener: std::net::TcpListener, control: Arc<Control>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let control = Arc::clone(&control);
                tokio::spawn(async move {
                    connection(stream, control).await;
                    drop(permit);
                });
            }
            // Out of descriptors, most often: give others time to close some.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(stream: TcpStream, control: Arc<Control>) {
    let service = service_fn(move |request| {
        let control = Arc::clone(&control);
        async move { Ok::<_, Infallible>(answer(&request, &control)) }
    });
    let serving = http1::Builder::new().serve_connection(Exchange::new(stream), service);
    // Whatever the peer did wrong ends its connection and nothing else.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, serving).await;
}

fn answer(request: &Request<Incoming>, control: &Control) -> Response<Full<Bytes>> {
    let allowed = match request.uri().path() {
        "/reload" => Method::POST,
        "/metrics" | "/bans" | "/shards" | "/live" | "/ready" => Method::GET,
        _ => {
            return text(
                StatusCode::NOT_FOUND,
                "there are /metrics, /bans, /shards, /live, /ready and POST /reload\n",
            );
        }
    };
    if request.method() != allowed {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}\n"));
        let allow = hyper::header::HeaderValue::from_str(allowed.as_str());
        refused
            .headers_mut()
            .insert(ALLOW, allow.expect("a method's name is a header value"));
        return refused;
    }
    match request.uri().path() {
        "/live" => text(StatusCode::OK, "live\n"),
        "/ready" => ready(control),
        "/reload" => reload(control),
        "/shards" => shards(control),
        "/bans" => bans(control),
        _ => metrics(control),
    }
}

fn ready(control: &Control) -> Response<Full<Bytes>> {
    match control.status.phase() {
        Phase::Ready => match still(control) {
            None => {
                let (ready, said) = supplied(control);
                text(ready, said + &unopened(control))
            }
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason),
        },
        Phase::Recovering => {
            let (done, all) = control.status.progress();
            let reason = format!("recovering: {done} of {all} logs open\n");
            text(StatusCode::SERVICE_UNAVAILABLE, reason)
        }
        phase => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", phase.name()),
        ),
    }
}

/// Whether the node takes anything, as far as its table's age goes, and that age.
fn supplied(control: &Control) -> (StatusCode, String) {
    let Some(supply) = control.status.supply() else {
        return (StatusCode::OK, "ready\n".to_owned());
    };
    let age = supply.age.as_secs_f64();
    let link = match supply.connected {
        true => "control connected",
        false => "control away",
    };
    let table = format!("{link}, table current {age:.1} s ago");
    match (supply.refuses, supply.stale) {
        (true, _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("stale: takes nothing; {table}\n"),
        ),
        (false, true) => (StatusCode::OK, format!("ready, stale; {table}\n")),
        (false, false) => (StatusCode::OK, format!("ready; {table}\n")),
    }
}

/// A line for each hub of the table that is not served, with the reason.
fn unopened(control: &Control) -> String {
    let unopened = control.hubs.unopened();
    let line = |(hub, fault): &(String, Diagnosis)| format!("hub {hub} is not open: {fault}\n");
    unopened.iter().map(line).collect()
}

/// A line for each shard that stands still, if one does.
fn still(control: &Control) -> Option<String> {
    let still = control.status.still();
    let line = |(shard, since): &(usize, Duration)| {
        let seconds = since.as_secs_f64();
        format!("shard {shard} stands still: it last looked for work {seconds:.1} s ago\n")
    };
    (!still.is_empty()).then(|| still.iter().map(line).collect())
}

fn reload(control: &Control) -> Response<Full<Bytes>> {
    match control.reload() {
        Ok(epoch) => text(StatusCode::OK, format!("epoch {epoch}\n")),
        Err(fault) => text(StatusCode::CONFLICT, format!("{fault}\n")),
    }
}

fn bans(control: &Control) -> Response<Full<Bytes>> {
    let snapshots = snapshots(control);
    let table = control.current();
    let mut lines = String::new();
    for (shard, snapshot) in snapshots.iter().enumerate() {
        for ban in snapshot.iter().flat_map(|snapshot| &snapshot.banned) {
            let who = match ban.who {
                Barred::Address(address) => format!("address {address}"),
                Barred::Key(endpoint, key) => {
                    format!("key {} of {}", key.0, name_of(&table, endpoint))
                }
                Barred::Token(endpoint, key) => {
                    let name = name_of(&table, endpoint);
                    format!("a token of key {} of {name}", key.0)
                }
            };
            let (left, lasts) = (ban.left.as_millis(), ban.lasts.as_millis());
            let _ = writeln!(
                lines,
                "shard {shard}: {who}: {left} ms left of {lasts} ms, ban {} in a row",
                ban.bans
            );
        }
    }
    text(StatusCode::OK, lines)
}

fn name_of(table: &RouteTable, endpoint: EndpointId) -> &str {
    let known = table.endpoint(endpoint);
    known.map_or("unknown", |endpoint| endpoint.name())
}

fn metrics(control: &Control) -> Response<Full<Bytes>> {
    // The sums of some shards alone would look as if counters had gone back.
    let snapshots: Option<Vec<Snapshot>> = snapshots(control).into_iter().collect();
    let table = control.current();
    let body = metrics::render(&control.status, &table, &snapshots.unwrap_or_default());
    let mut answer = text(StatusCode::OK, body);
    let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

fn shards(control: &Control) -> Response<Full<Bytes>> {
    let shards = snapshots(control);
    let resident = metrics::resident_bytes();
    let view = view::NodeView::new(&control.status, &control.current(), resident, &shards);
    let body = serde_json::to_vec(&view).expect("numbers and texts can be written");
    let mut answer = text(StatusCode::OK, body);
    let kind = hyper::header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}
