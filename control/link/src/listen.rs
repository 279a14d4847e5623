//! Control's side of the link: where nodes connect, and one task for each that did, all on one thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tls::LinkServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use wire::diagnosis::Diagnosis;

use crate::diagnosis::{CODES, LINK_FAILED, LINK_LOST, LINK_VERSION, LINK_WRONG_NAME};
use crate::fleet::{Admitted, Fleet};
use crate::frame::{
    BODY_BYTES_MAX, Frame, PAYLOAD_BYTES_MAX, PROTOCOL, Payload, SILENT_HEARTBEATS, Version,
};
use crate::history::Next;
use crate::pipe::{Ended, Pipe};
use crate::tell::{Level, Tell};

/// Connections at once, of nodes and of those who do not say who they are.
const CONNECTIONS_MAX: usize = 1_024;
/// How long the handshake and HELLO may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Steps that are sent to a node before it is heard again.
const STEPS_IN_A_ROW: usize = 64;

/// A listener that runs until it is ended.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    end: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Listening {
    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Let every node go.
    pub fn end(self) {
        // It may have ended by itself.
        let _ = self.end.send(());
        let _ = self.thread.join();
    }
}

/// What every connection needs.
struct Shared {
    fleet: Fleet,
    server: LinkServer,
    heartbeat: Duration,
    tell: Arc<dyn Tell>,
}

/// Let the nodes of `fleet` connect to this address.
///
/// # Errors
/// When it cannot be had, or the thread.
pub fn listen(
    address: SocketAddr,
    server: LinkServer,
    fleet: Fleet,
    heartbeat: Duration,
    tell: Arc<dyn Tell>,
) -> Result<Listening, Diagnosis> {
    let failed = |error: std::io::Error| {
        let what = format!("nodes cannot connect to {address}");
        let needed = "a free address of this machine, and a thread";
        Diagnosis::from_table(CODES, LINK_FAILED, what, error.to_string(), needed)
    };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let shared = Arc::new(Shared {
        fleet,
        server,
        heartbeat,
        tell,
    });
    let (end, ended) = oneshot::channel();
    let run = move || {
        runtime.block_on(async move {
            tokio::select! {
                () = accept(listener, shared) => {}
                // Told to end, or nobody is left to tell.
                _ = ended => {}
            }
        });
    };
    let thread = std::thread::Builder::new().name("link".into());
    let thread = thread.spawn(run).map_err(failed)?;
    Ok(Listening {
        address,
        end,
        thread,
    })
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    connection(stream, peer, &shared).await;
                    drop(permit);
                });
            }
            // Out of descriptors, most often: give others time to close some.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One connection, from its first byte to its end.
async fn connection(stream: TcpStream, peer: SocketAddr, shared: &Shared) {
    let welcomed = timeout(HANDSHAKE_TIMEOUT, welcome(stream, peer, shared)).await;
    let (mut pipe, admitted, has) = match welcomed.unwrap_or_else(|_| Err(Ended::silent())) {
        Ok(welcomed) => welcomed,
        Err(ended) => {
            let fields: [(&str, &dyn std::fmt::Display); 2] = [("peer", &peer), ("fault", &ended)];
            shared.tell.tell(Level::Warning, "node_refused", &fields);
            return;
        }
    };
    let has_text = has.map_or_else(|| "none".to_owned(), |has| has.to_string());
    shared.tell.tell(
        Level::Info,
        "node_joined",
        &[
            ("node", &admitted.name),
            ("peer", &peer),
            ("has", &has_text),
        ],
    );
    let ended = supply(&mut pipe, &admitted, has, shared).await;
    shared.fleet.left(&admitted);
    if let Err(ended) = ended {
        shared.tell.tell(
            Level::Warning,
            "node_left",
            &[("node", &admitted.name), ("fault", &ended)],
        );
        if ended.code != LINK_LOST {
            let Ended { code, text } = ended;
            // It hears why, if it still listens.
            let _ = pipe.send(&Frame::Refused { code, text }).await;
        }
    }
    pipe.finish().await;
}

/// Find out who it is.
async fn welcome(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Shared,
) -> Result<(Pipe, Admitted, Option<Version>), Ended> {
    let tunnel = shared.server.tunnel();
    let tunnel = tunnel.map_err(|error| Ended::new(LINK_LOST, error.to_string()))?;
    let mut pipe = Pipe::shake(stream, tunnel).await?;
    let said = pipe.receive().await?;
    let Frame::Hello {
        protocol,
        name,
        has,
        ..
    } = said
    else {
        return Err(Ended::out_of_place(&said));
    };
    match admit(&pipe, protocol, &name, peer, shared) {
        Ok(admitted) => {
            let heartbeat_ms = shared.heartbeat.as_millis() as u32;
            pipe.send(&Frame::Welcome { heartbeat_ms }).await?;
            Ok((pipe, admitted, has))
        }
        Err(ended) => {
            let Ended { code, text } = ended.clone();
            pipe.send(&Frame::Refused { code, text }).await?;
            pipe.finish().await;
            Err(ended)
        }
    }
}

fn admit(
    pipe: &Pipe,
    protocol: u16,
    name: &str,
    peer: SocketAddr,
    shared: &Shared,
) -> Result<Admitted, Ended> {
    if protocol != PROTOCOL {
        let text = format!("node {name} speaks version {protocol}, this is {PROTOCOL}");
        return Err(Ended::new(LINK_VERSION, text));
    }
    if !pipe.names(name) {
        let text = format!("the certificate is not for node {name}");
        return Err(Ended::new(LINK_WRONG_NAME, text));
    }
    shared.fleet.admit(name, peer)
}

/// Bring a node whatever it lacks, until its end.
async fn supply(
    pipe: &mut Pipe,
    admitted: &Admitted,
    has: Option<Version>,
    shared: &Shared,
) -> Result<(), Ended> {
    let fleet = &shared.fleet;
    let mut changed = fleet.changed();
    let mut tick = interval(shared.heartbeat);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = has;
    let (mut heard, mut everything_at) = (Instant::now(), None::<Instant>);
    let mut wants_everything = false;
    loop {
        changed.mark_unchanged();
        let mut steps = 0;
        while steps < STEPS_IN_A_ROW
            && let Some(becomes) = step(pipe, admitted, sent, shared).await?
        {
            (sent, steps) = (Some(becomes), steps + 1);
            heard = Instant::now();
        }
        let more = steps == STEPS_IN_A_ROW;
        tokio::select! {
            frame = pipe.receive() => {
                heard = Instant::now();
                match frame? {
                    Frame::Applied { has, kept, refused, shards } => {
                        fleet.applied(admitted, (has, kept, refused), shards)?;
                    }
                    Frame::Resync { code } => {
                        wants_everything = true;
                        let fault = format!("FB-{code}");
                        let fields: [(&str, &dyn std::fmt::Display); 2] =
                            [("node", &admitted.name), ("fault", &fault)];
                        shared.tell.tell(Level::Warning, "node_resync", &fields);
                    }
                    other => return Err(Ended::out_of_place(&other)),
                }
            }
            _ = changed.changed() => {}
            () = std::future::ready(()), if more => {}
            _ = tick.tick() => {
                fleet.counts(admitted)?;
                if let Some(newest) = fleet.newest() {
                    pipe.send(&Frame::Ping { newest }).await?;
                }
            }
        }
        if heard.elapsed() > shared.heartbeat * SILENT_HEARTBEATS {
            return Err(Ended::silent());
        }
        // Whoever asks for everything again and again gets it once in a heartbeat.
        let paid = everything_at.is_none_or(|at| at.elapsed() >= shared.heartbeat);
        if wants_everything && paid {
            (sent, wants_everything) = (None, false);
            everything_at = Some(Instant::now());
        }
    }
}

/// Send the next snapshot or delta to someone who has this. What it becomes then.
async fn step(
    pipe: &mut Pipe,
    admitted: &Admitted,
    has: Option<Version>,
    shared: &Shared,
) -> Result<Option<Version>, Ended> {
    let (payload, becomes, bytes) = match shared.fleet.next(has) {
        Next::Nothing => return Ok(None),
        Next::Delta(delta) => (
            Payload::Delta(delta.base),
            delta.becomes,
            Arc::clone(&delta.bytes),
        ),
        Next::Snapshot(version, snapshot) => {
            // Writing a great table down takes a moment, which other nodes need not wait for.
            let made = tokio::task::spawn_blocking(move || snapshot.bytes()).await;
            let made = made.map_err(|error| Ended::new(LINK_LOST, error.to_string()))?;
            (Payload::Snapshot, version, made)
        }
    };
    let bytes = (*bytes).as_ref();
    assert!(
        (1..=PAYLOAD_BYTES_MAX).contains(&(bytes.len() as u64)),
        "a table of {} bytes",
        bytes.len()
    );
    let begin = Frame::Begin {
        payload,
        becomes,
        bytes: bytes.len() as u64,
    };
    pipe.send(&begin).await?;
    for chunk in bytes.chunks(BODY_BYTES_MAX) {
        pipe.send(&Frame::Chunk(chunk.to_vec())).await?;
    }
    shared.fleet.sent(admitted, payload == Payload::Snapshot)?;
    Ok(Some(becomes))
}
