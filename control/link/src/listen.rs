//! Control's side of the link: where nodes connect, and one task for each that did, all on one thread.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tls::LinkServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};
use wire::diagnosis::Diagnosis;

use crate::credentials::{Credentials, Trust};
use crate::diagnosis::{
    CODES, LINK_FAILED, LINK_LOST, LINK_UNTRUSTED, LINK_VERSION, LINK_WRONG_NAME, TABLE_TOO_LONG,
    table_too_long,
};
use crate::fleet::{Admitted, Fleet};
use crate::frame::{
    BODY_BYTES_MAX, Frame, PAYLOAD_BYTES_MAX, PROTOCOL, Payload, SILENT_HEARTBEATS, Version,
};
use crate::history::Next;
use crate::pipe::{Ended, Pipe};
use crate::strangers::Strangers;
use crate::tell::{Level, Tell};
use crate::written::Written;

/// How long the handshake and HELLO may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often those are told who were turned away, at most.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A node that takes a table more slowly than this, in bytes a second, and for longer than the first moment, is let go.
const TAKEN_BYTES_MIN: u64 = 256 << 10;
const TAKEN_FIRST: Duration = Duration::from_secs(30);
/// How long a node that may not be connected any more has to take what is on its way, so that it hears why; it is closed then in any case.
const DISMISSED_FOR: Duration = Duration::from_millis(500);
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
    server: Credentials<LinkServer>,
    heartbeat: Duration,
    tell: Arc<dyn Tell>,
    strangers: Mutex<Strangers<oneshot::Sender<()>>>,
    written: Written,
}

impl Shared {
    fn strangers(&self) -> MutexGuard<'_, Strangers<oneshot::Sender<()>>> {
        // It is whole after every change, whoever panicked beside it.
        (self.strangers.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Let the nodes of `fleet` connect to this address.
///
/// # Errors
/// When it cannot be had, or the thread.
pub fn listen(
    address: SocketAddr,
    server: Credentials<LinkServer>,
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
        strangers: Mutex::new(Strangers::new()),
        written: Written::default(),
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
    let mut told = None::<Instant>;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (end, ended) = oneshot::channel();
                let came = (shared.strangers()).come(Instant::now(), peer.ip(), end);
                if let Some(number) = came {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        connection(stream, peer, (number, ended), &shared).await;
                    });
                }
                tell_turned_away(&shared, &mut told);
            }
            // Out of descriptors, most often: give others time to close some.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Say now and then how many were turned away unheard.
fn tell_turned_away(shared: &Shared, told: &mut Option<Instant>) {
    if told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
        return;
    }
    let count = shared.strangers().turned_away();
    if count > 0 {
        *told = Some(Instant::now());
        (shared.tell).tell(
            Level::Warning,
            "strangers_turned_away",
            &[("count", &count)],
        );
    }
}

/// One connection, from its first byte to its end.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    (number, turned_away): (u64, oneshot::Receiver<()>),
    shared: &Shared,
) {
    // Whoever is let in by an authority that is replaced meanwhile is let go again.
    let mut trust = shared.server.trust();
    let welcomed = tokio::select! {
        welcomed = timeout(HANDSHAKE_TIMEOUT, welcome(stream, peer, shared)) => {
            welcomed.unwrap_or_else(|_| Err(Ended::silent()))
        }
        // Others need the room.
        _ = turned_away => return,
    };
    shared.strangers().gone(number, welcomed.is_ok());
    let (mut pipe, admitted, has) = match welcomed {
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
    let ended = supply(&mut pipe, &admitted, has, (&mut trust, shared)).await;
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
    let tunnel = shared.server.current().tunnel();
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
    (trust, shared): (&mut Trust, &Shared),
) -> Result<(), Ended> {
    let fleet = &shared.fleet;
    let mut changed = fleet.changed();
    let mut tick = interval(shared.heartbeat);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = has;
    let (mut heard, mut everything_at) = (Instant::now(), None::<Instant>);
    let mut wants_everything = false;
    let mut asked = 0;
    loop {
        changed.mark_unchanged();
        fleet.counts(admitted)?;
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
                    Frame::Applied { asks, has, kept, refused, unopened, shards } => {
                        asked = asks;
                        fleet.applied(admitted, (has, kept), (refused, unopened), shards)?;
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
            () = trust.changed() => {
                return Err(Ended::new(LINK_UNTRUSTED, "the authority was replaced"));
            }
            () = std::future::ready(()), if more => {}
            _ = tick.tick() => {
                fleet.counts(admitted)?;
                if let Some(newest) = fleet.newest() {
                    pipe.send(&Frame::Ping { newest, answers: asked }).await?;
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
    let fleet = &shared.fleet;
    let (payload, becomes, bytes) = match fleet.next(has)? {
        Next::Nothing => return Ok(None),
        Next::Delta(delta) => (
            Payload::Delta(delta.base),
            delta.becomes,
            Arc::clone(&delta.bytes),
        ),
        Next::Snapshot(version, snapshot) => {
            let written = (shared.written).bytes(version, snapshot, |version| fleet.knows(version));
            let (version, bytes) = written.await?;
            (Payload::Snapshot, version, bytes)
        }
    };
    let bytes = (*bytes).as_ref();
    let length = bytes.len() as u64;
    if length > PAYLOAD_BYTES_MAX {
        // Of a store that grew when it had no nodes elsewhere.
        let text = table_too_long(length, PAYLOAD_BYTES_MAX).to_string();
        return Err(Ended::new(TABLE_TOO_LONG, text));
    }
    let most = TAKEN_FIRST + Duration::from_secs(length / TAKEN_BYTES_MIN);
    let sending = timeout(
        most,
        send(pipe, (payload, becomes, bytes), (admitted, fleet)),
    );
    let sent = tokio::select! {
        sent = sending => sent,
        ended = dismissed(admitted, fleet) => return Err(ended),
    };
    sent.map_err(|_| Ended::new(LINK_LOST, "the node takes its table too slowly"))??;
    fleet.sent(admitted, payload == Payload::Snapshot)?;
    Ok(Some(becomes))
}

/// Done a moment after a connection has come to count no longer.
async fn dismissed(admitted: &Admitted, fleet: &Fleet) -> Ended {
    let mut changed = fleet.changed();
    loop {
        changed.mark_unchanged();
        if let Err(ended) = fleet.counts(admitted) {
            tokio::time::sleep(DISMISSED_FOR).await;
            return ended;
        }
        // The fleet lives as long as its connections.
        let _ = changed.changed().await;
    }
}

/// Send a table, as long as the connection counts.
async fn send(
    pipe: &mut Pipe,
    (payload, becomes, bytes): (Payload, Version, &[u8]),
    (admitted, fleet): (&Admitted, &Fleet),
) -> Result<(), Ended> {
    let begin = Frame::Begin {
        payload,
        becomes,
        bytes: bytes.len() as u64,
    };
    pipe.send(&begin).await?;
    for chunk in bytes.chunks(BODY_BYTES_MAX) {
        fleet.counts(admitted)?;
        pipe.send(&Frame::Chunk(chunk.to_vec())).await?;
    }
    Ok(())
}
