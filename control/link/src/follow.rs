//! A node's side of the link: connect, say who one is, take what comes, say how far one is, connect again.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tls::LinkClient;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use wire::diagnosis::Diagnosis;

use crate::answered::Answered;
use crate::assembly::{Assembly, Incoming};
use crate::credentials::{Credentials, Trust};
use crate::diagnosis::{CODES, LINK_FAILED, LINK_LOST, LINK_UNTRUSTED, TABLE_UNFIT};
use crate::frame::{Frame, PROTOCOL, Payload, SILENT_HEARTBEATS, Unopened, Version};
use crate::freshness::{Freshness, Moment};
use crate::keeper::Keeper;
use crate::kept::Kept;
use crate::pipe::{Ended, Pipe};
use crate::tell::{Level, Tell};
use crate::worker::{AskUnopened, Holder, Worker};

/// Tables that may wait to be taken; the connection is not read meanwhile.
const INBOX_MAX: usize = 16;
/// How long connecting, the handshake and WELCOME may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause before connecting again, and the longest; each is twice the one before, less up to half of it.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(10);
/// How often the time until which a kept table is fresh is noted, at most.
const NOTE_EVERY: Duration = Duration::from_secs(5);

/// Where to connect, and as whom.
pub struct Follow {
    /// The name of this node.
    pub name: String,
    /// Host and port of the control plane.
    pub address: String,
    /// How tunnels are made.
    pub client: Credentials<LinkClient>,
    /// What this node has.
    pub has: Option<Version>,
    /// Since when that is not known to be the newest, and for how long that may be.
    pub freshness: Freshness,
    /// Where the table is kept.
    pub folder: PathBuf,
    /// Where log lines go.
    pub tell: Arc<dyn Tell>,
}

/// What a worker tells the link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) has: Option<Version>,
    pub(crate) kept: u64,
    pub(crate) refused: u16,
    pub(crate) shards: Vec<u64>,
    /// How often everything was asked for anew, and why the last time.
    pub(crate) resyncs: u64,
    pub(crate) resync_code: u16,
}

/// What others may know of the link at any time.
struct State {
    connected: bool,
    freshness: Freshness,
    noted_at: Option<Instant>,
    /// Tells which hubs are not served, once there is a holder.
    unopened: Option<AskUnopened>,
}

/// A link that is followed.
pub struct Followed {
    inbox: Option<mpsc::Receiver<Incoming>>,
    report: watch::Sender<Report>,
    state: Arc<Mutex<State>>,
    tell: Arc<dyn Tell>,
    end: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl std::fmt::Debug for Followed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Followed").finish_non_exhaustive()
    }
}

/// Connect and follow, on a thread of its own.
///
/// # Errors
/// When there is no thread.
pub fn follow(follow: Follow) -> Result<Followed, Diagnosis> {
    let failed = |error: std::io::Error| {
        let (what, needed) = ("the thread of the link", "a thread more");
        Diagnosis::from_table(CODES, LINK_FAILED, what, error.to_string(), needed)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let (outbox, inbox) = mpsc::channel(INBOX_MAX);
    let report = Report {
        has: follow.has,
        ..Report::default()
    };
    let (report, reported) = watch::channel(report);
    let state = Arc::new(Mutex::new(State {
        connected: false,
        freshness: follow.freshness,
        noted_at: None,
        unopened: None,
    }));
    let (end, ended) = oneshot::channel();
    let tell = Arc::clone(&follow.tell);
    let link = Link {
        follow,
        outbox,
        reported,
        state: Arc::clone(&state),
    };
    let run = move || {
        runtime.block_on(async move {
            tokio::select! {
                () = link.run() => {}
                // Told to end, or nobody is left to tell.
                _ = ended => {}
            }
        });
    };
    let thread = std::thread::Builder::new().name("link".into());
    let thread = thread.spawn(run).map_err(failed)?;
    Ok(Followed {
        inbox: Some(inbox),
        report,
        state,
        tell,
        end,
        thread,
    })
}

impl Followed {
    /// Wait for the first whole table: version and bytes. None when the link has ended.
    pub fn first(&mut self) -> Option<(Version, Vec<u8>)> {
        let inbox = self.inbox.as_mut()?;
        loop {
            let Incoming {
                payload,
                becomes,
                bytes,
            } = inbox.blocking_recv()?;
            if payload == Payload::Snapshot {
                self.report.send_modify(|report| report.has = Some(becomes));
                return Some((becomes, bytes));
            }
        }
    }

    /// Give what comes to `holder` from now on, and keep it.
    ///
    /// # Errors
    /// When there is no thread for that.
    ///
    /// # Panics
    /// When it was called before.
    pub fn give_to(&mut self, holder: impl Holder, kept: Kept) -> Result<(), Diagnosis> {
        let inbox = self.inbox.take().expect("it is given to one holder");
        lock(&self.state).unopened = Some(holder.unopened());
        let keeper = Keeper::start(kept, self.report.clone(), Arc::clone(&self.tell))?;
        let worker = Worker {
            holder,
            keeper,
            inbox,
            report: self.report.clone(),
            tell: Arc::clone(&self.tell),
        };
        worker.start()
    }

    /// Whether the control plane is connected, and the age of the table.
    #[must_use]
    pub fn state(&self) -> (bool, Freshness) {
        let state = lock(&self.state);
        (state.connected, state.freshness)
    }

    /// The same, for others to ask.
    pub fn watch(&self) -> impl Fn() -> (bool, Freshness) + Send + Sync + 'static {
        let state = Arc::clone(&self.state);
        move || {
            let state = lock(&state);
            (state.connected, state.freshness)
        }
    }

    /// Let the link go.
    pub fn end(self) {
        // It may have ended by itself.
        let _ = self.end.send(());
        let _ = self.thread.join();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Single values: whole, whoever panicked beside them.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The link's own thread.
struct Link {
    follow: Follow,
    outbox: mpsc::Sender<Incoming>,
    reported: watch::Receiver<Report>,
    state: Arc<Mutex<State>>,
}

impl Link {
    async fn run(mut self) {
        let mut pause = PAUSE_FIRST;
        let mut told = None;
        loop {
            let trust = self.follow.client.trust();
            let welcomed = timeout(HANDSHAKE_TIMEOUT, self.connect()).await;
            let ended = match welcomed.unwrap_or_else(|_| Err(Ended::silent())) {
                Ok((mut pipe, heartbeat)) => {
                    (pause, told) = (PAUSE_FIRST, None);
                    lock(&self.state).connected = true;
                    let address = &self.follow.address;
                    (self.follow.tell).tell(Level::Info, "control_joined", &[("control", address)]);
                    let ended = self.session(&mut pipe, heartbeat, trust).await;
                    lock(&self.state).connected = false;
                    pipe.finish().await;
                    ended
                }
                Err(ended) => ended,
            };
            if self.outbox.is_closed() {
                return;
            }
            // The same fault again and again is told once.
            if told.as_ref() != Some(&ended) {
                let address = &self.follow.address;
                let fields: [(&str, &dyn std::fmt::Display); 2] =
                    [("control", address), ("fault", &ended)];
                (self.follow.tell).tell(Level::Warning, "control_lost", &fields);
                told = Some(ended);
            }
            tokio::time::sleep(shortened(pause)).await;
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }

    async fn connect(&self) -> Result<(Pipe, Duration), Ended> {
        let stream = TcpStream::connect(&self.follow.address).await?;
        let tunnel = self.follow.client.current().tunnel();
        let tunnel = tunnel.map_err(|error| Ended::new(LINK_LOST, error.to_string()))?;
        let mut pipe = Pipe::shake(stream, tunnel).await?;
        let report = self.reported.borrow().clone();
        let hello = Frame::Hello {
            protocol: PROTOCOL,
            name: self.follow.name.clone(),
            shards: report.shards.len() as u16,
            has: report.has,
        };
        pipe.send(&hello).await?;
        match pipe.receive().await? {
            Frame::Welcome { heartbeat_ms } => {
                Ok((pipe, Duration::from_millis(heartbeat_ms.into())))
            }
            Frame::Refused { code, text } => {
                Err(Ended::new(code, format!("refused by control: {text}")))
            }
            other => Err(Ended::out_of_place(&other)),
        }
    }

    /// Everything while the connection stands; why it ended.
    async fn session(&mut self, pipe: &mut Pipe, heartbeat: Duration, mut trust: Trust) -> Ended {
        let mut tick = interval(heartbeat);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut assembly = Assembly::default();
        let mut pending = None;
        let mut heard = Instant::now();
        let mut answered = Answered::since(Moment::now());
        let mut resyncs = self.reported.borrow().resyncs;
        let outbox = self.outbox.clone();
        loop {
            let done = tokio::select! {
                room = outbox.reserve(), if pending.is_some() => match (room, pending.take()) {
                    (Ok(room), Some(incoming)) => {
                        room.send(incoming);
                        heard = Instant::now();
                        Ok(())
                    }
                    _ => Err(Ended::new(LINK_LOST, "the node has stopped")),
                },
                frame = pipe.receive(), if pending.is_none() => {
                    heard = Instant::now();
                    frame.and_then(|frame| self.take(frame, &mut assembly, &mut answered, &mut resyncs)).map(|whole| pending = whole)
                }
                changed = self.reported.changed() => match changed {
                    Ok(()) => {
                        self.weigh(&mut answered);
                        self.say(pipe, &answered, &mut resyncs).await
                    }
                    Err(_) => Err(Ended::new(LINK_LOST, "the node has stopped")),
                },
                _ = tick.tick() => match pending.is_none() && heard.elapsed() > heartbeat * SILENT_HEARTBEATS {
                    true => Err(Ended::silent()),
                    false => self.say(pipe, &answered, &mut resyncs).await,
                },
                () = trust.changed() => Err(Ended::new(LINK_UNTRUSTED, "the authority was replaced")),
            };
            if let Err(ended) = done {
                return ended;
            }
        }
    }

    /// Take one frame; a snapshot or delta that is whole with it.
    fn take(
        &self,
        frame: Frame,
        assembly: &mut Assembly,
        answered: &mut Answered,
        resyncs: &mut u64,
    ) -> Result<Option<Incoming>, Ended> {
        match frame {
            Frame::Begin { .. } | Frame::Chunk(_) => assembly.take(frame),
            Frame::Ping { newest, answers } => {
                self.compare(newest, answers, answered, resyncs);
                self.weigh(answered);
                Ok(None)
            }
            Frame::Refused { code, text } => Err(Ended::new(code, text)),
            other => Err(Ended::out_of_place(&other)),
        }
    }

    /// Note what was newest, and when: at the moment of the question that this answers, at least.
    ///
    /// A table that goes beyond what is newest, or is another of that epoch, is of another past: everything is asked for anew, with the
    /// next report.
    fn compare(&self, newest: Version, answers: u64, answered: &mut Answered, resyncs: &mut u64) {
        let report = self.reported.borrow();
        let beyond = |has: Version| {
            newest != Version::default()
                && has != newest
                && has.lineage == newest.lineage
                && has.epoch >= newest.epoch
        };
        if report.has.is_some_and(beyond) {
            *resyncs = report.resyncs.wrapping_sub(1);
            answered.forget();
        } else {
            answered.note(newest, answers, Moment::now());
        }
    }

    /// The table is as fresh as the last answer whose newest table every shard has, or a later one.
    ///
    /// So a node that is always a moment behind a control plane that always changes something is as fresh as that moment is long.
    fn weigh(&self, answered: &mut Answered) {
        let report = self.reported.borrow();
        let Some((version, asked)) = answered.reached(&report) else {
            return;
        };
        let now = Moment::now();
        let age = answered.since.until(now).saturating_sub(asked);
        let mut state = lock(&self.state);
        state.freshness.refresh(now, age);
        let every = NOTE_EVERY.min(state.freshness.look_every());
        let due = state.noted_at.is_none_or(|at| at.elapsed() >= every);
        if due && report.kept >= version.epoch {
            state.noted_at = Some(now.monotonic);
            drop(state);
            let then = now.day.checked_sub(age);
            // The age is told greater than it is, if this does not work.
            let _ = then.map(|then| Kept::note_fresh(&self.follow.folder, then));
        }
    }

    /// Say how far this node is, and whether it needs everything anew.
    async fn say(
        &mut self,
        pipe: &mut Pipe,
        answered: &Answered,
        resyncs: &mut u64,
    ) -> Result<(), Ended> {
        let report = self.reported.borrow_and_update().clone();
        if report.resyncs != *resyncs {
            *resyncs = report.resyncs;
            let code = match report.resync_code {
                0 => TABLE_UNFIT,
                code => code,
            };
            pipe.send(&Frame::Resync { code }).await?;
        }
        let unopened = {
            let state = lock(&self.state);
            (state.unopened.as_ref()).map_or_else(Unopened::default, |ask| ask())
        };
        let applied = Frame::Applied {
            asks: answered.ask(Moment::now()),
            has: report.has.unwrap_or_default(),
            kept: report.kept,
            refused: report.refused,
            unopened,
            shards: report.shards,
        };
        pipe.send(&applied).await
    }
}

/// A pause, less up to half of it by chance, so that not all nodes come back at once.
fn shortened(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without chance it is the whole pause.
    let share = match getrandom::fill(&mut random) {
        Ok(()) => f64::from(u16::from_le_bytes(random)) / 65_536.0,
        Err(_) => 0.0,
    };
    pause.mul_f64(1.0 - share / 2.0)
}
