//! Sending in QUIC datagrams: for readings of which the next one matters more than the last. What is lost stays lost, what comes too late
//! is dropped, nothing is ever there twice, and only who asks is answered.
//!
//! Datagrams leave from whoever calls; one task keeps the lane beside which they go: it hears answers, shows life, and comes back.

use crate::diagnosis::ClientError;
use crate::link::{BYE_TIMEOUT, Connection, Dialer, Link};
use crate::message::Message;
use crate::outbox::{Receipt, Rejected};
use crate::transport::quic::Beside;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wire::ack::{Ack, Reject};
use wire::datagram;
use wire::frame::{Frame, FrameKind};
use wire::ids::{ChannelId, DATAGRAM_STREAM, EndpointId, PartitionId, Sequence};
use wire::reason::Reason;
use wire::send::SendBuilder;
use wire::signature::{MacKey, Signer};

/// After so long without an answer one that asked for it counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(10);

type Answer = oneshot::Sender<Result<Receipt, ClientError>>;

/// Sends messages of one endpoint in datagrams. Dropped, it ends the session.
#[derive(Debug)]
pub struct Datagrams {
    shared: Arc<Mutex<State>>,
    /// Dropped or used, it ends the task.
    close: Option<oneshot::Sender<oneshot::Sender<()>>>,
}

/// The answer to one datagram, to come: whether its messages are in the log. `FB-5112` when there is none: they are lost,
/// if a later one is in the log, or nobody knows.
#[derive(Debug)]
#[must_use = "who asks for an answer is to hear it"]
pub struct Asked {
    answer: oneshot::Receiver<Result<Receipt, ClientError>>,
}

impl Future for Asked {
    type Output = Result<Receipt, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(ClientError::Closed)))
    }
}

/// What callers and the task share.
struct State {
    beside: Beside,
    key: MacKey,
    endpoint: EndpointId,
    channels: Vec<(String, ChannelId, PartitionId)>,
    /// The next number of each stream. Those of datagrams that are lost are spent as well.
    next: HashMap<PartitionId, u64>,
    /// Of the last datagram that asked.
    asked: u64,
    waiting: BTreeMap<u64, Waiting>,
    ended: Option<ClientError>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "State({}, {} waiting)",
            self.endpoint,
            self.waiting.len()
        )
    }
}

#[derive(Debug)]
struct Waiting {
    answer: Answer,
    partition: PartitionId,
    sequence: Sequence,
    since: Instant,
}

impl Datagrams {
    pub(crate) fn start(connection: Connection) -> Result<Self, ClientError> {
        let Connection {
            link,
            dialer,
            channels,
        } = connection;
        let beside = link.beside().filter(|beside| beside.bytes_max().is_some());
        let beside = beside.ok_or_else(|| {
            ClientError::Message("a datagram, over a connection that takes none".to_owned())
        })?;
        let mut state = State {
            beside,
            key: link.seal.client_key(),
            endpoint: link.terms.endpoint,
            channels: Vec::new(),
            next: HashMap::new(),
            asked: 0,
            waiting: BTreeMap::new(),
            ended: None,
        };
        state.opened(&link, &channels);
        let shared = Arc::new(Mutex::new(state));
        let (close, closing) = oneshot::channel();
        let driver = Driver {
            shared: Arc::clone(&shared),
            link,
            dialer,
        };
        tokio::spawn(driver.run(closing));
        Ok(Self {
            shared,
            close: Some(close),
        })
    }

    /// Send messages as one frame in one datagram, and ask nothing: they are in the log soon, or lost.
    ///
    /// # Errors
    /// `FB-5107` without a grant for the channel, `FB-5108` when the frame is too long for a packet or breaks a limit, `FB-5102` while the
    /// connection is lost, or the fault that ended the session.
    pub fn send(&self, channel: &str, messages: &[Message]) -> Result<(), ClientError> {
        lock(&self.shared).send(channel, messages, 0).map(|_| ())
    }

    /// The same, and ask whether they are in the log.
    ///
    /// # Errors
    /// As for [`Datagrams::send`].
    pub fn ask(&self, channel: &str, messages: &[Message]) -> Result<Asked, ClientError> {
        let mut state = lock(&self.shared);
        let number = state.asked + 1;
        let (partition, sequence) = state.send(channel, messages, number)?;
        state.asked = number;
        let (answer, asked) = oneshot::channel();
        let waiting = Waiting {
            answer,
            partition,
            sequence,
            since: Instant::now(),
        };
        state.waiting.insert(number, waiting);
        Ok(Asked { answer: asked })
    }

    /// Bytes of the longest frame that has room in a datagram now.
    pub fn frame_bytes_max(&self) -> usize {
        let room = lock(&self.shared).beside.bytes_max().unwrap_or(0);
        // The lane and the number before it take 8 bytes each at most.
        room.saturating_sub(16)
    }

    /// Say BYE. What is on its way may still come; answers that have not come are not waited for.
    pub async fn close(mut self) {
        let (done, closed) = oneshot::channel();
        if let Some(close) = self.close.take()
            && close.send(done).is_ok()
        {
            // One that ended by itself is closed, too.
            let _ = closed.await;
        }
    }
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn send(
        &mut self,
        channel: &str,
        messages: &[Message],
        number: u64,
    ) -> Result<(PartitionId, Sequence), ClientError> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let (id, partition) = self.channel(channel)?;
        let next = self.next.entry(partition).or_insert(1);
        let sequence = Sequence(*next);
        let mut frame = Vec::new();
        let mut builder = SendBuilder::begin(&mut frame, self.endpoint, id, sequence);
        for message in messages {
            message.put(&mut builder)?;
        }
        let key = &self.key;
        let sealed = builder.finish(Signer::Datagram { key, number });
        sealed.map_err(|error| ClientError::Message(error.to_string()))?;
        let mut bytes = Vec::with_capacity(frame.len() + 16);
        datagram::begin(&mut bytes, self.beside.lane(), number);
        bytes.append(&mut frame);
        let room = self.beside.bytes_max().unwrap_or(0);
        if bytes.len() > room {
            let long = format!("{} bytes in a datagram, {room} have room", bytes.len());
            return Err(ClientError::Message(long));
        }
        let sent = self.beside.send(bytes);
        sent.map_err(|error| ClientError::Lost(error.to_string()))?;
        *next += 1;
        Ok((partition, sequence))
    }

    fn channel(&self, name: &str) -> Result<(ChannelId, PartitionId), ClientError> {
        let mut known = self.channels.iter();
        if let Some((_, id, partition)) = known.find(|(known, ..)| known == name) {
            return Ok((*id, *partition));
        }
        let known: Vec<&str> = self.channels.iter().map(|(name, ..)| &**name).collect();
        Err(ClientError::ChannelNotGranted {
            channel: name.to_owned(),
            granted: known.join(", "),
        })
    }

    /// There is a session: the first, or one in the place of another.
    fn opened(&mut self, link: &Link, channels: &[crate::handshake::ChannelTerms]) {
        if let Some(beside) = link.beside() {
            self.beside = beside;
        }
        self.key = link.seal.client_key();
        self.endpoint = link.terms.endpoint;
        let each = |terms: &crate::handshake::ChannelTerms| {
            (terms.name.clone(), terms.id, terms.partition)
        };
        self.channels = channels.iter().map(each).collect();
        for terms in channels {
            let next = self.next.entry(terms.partition).or_insert(1);
            *next = (*next).max(terms.last_sequence.0 + 1);
        }
    }

    fn take(&mut self, frame: Frame<'_>) -> Result<(), ClientError> {
        let broken = |error: wire::ParseError| ClientError::Protocol(error.to_string());
        match frame.kind() {
            FrameKind::Ack => {
                let ack = Ack::parse(frame).map_err(broken)?;
                if ack.partition == DATAGRAM_STREAM
                    && let Some(waiting) = self.waiting.remove(&ack.sequence.0)
                {
                    let receipt = Receipt {
                        partition: waiting.partition,
                        sequence: waiting.sequence,
                        offset: Some(ack.offset),
                        ack_mode: ack.ack_mode,
                    };
                    // Who asked may not want to know any more.
                    let _ = waiting.answer.send(Ok(receipt));
                    self.overtaken(waiting.partition, ack.sequence.0);
                }
            }
            FrameKind::Reject => {
                let reject = Reject::parse(frame).map_err(broken)?;
                let notice = reject.notice;
                if reject.partition == DATAGRAM_STREAM
                    && let Some(waiting) = self.waiting.remove(&reject.sequence.0)
                {
                    if notice.reason == Reason::OutOfSequence {
                        let next = self.next.entry(waiting.partition).or_insert(1);
                        *next = (*next).max(notice.needed);
                    }
                    let rejected = ClientError::Rejected(Rejected { notice });
                    let _ = waiting.answer.send(Err(rejected));
                }
            }
            other => return Err(ClientError::Protocol(format!("{other:?} to a sender"))),
        }
        Ok(())
    }

    /// A later one is in the log, and told so: those before it that are in the log were told before, and none comes into it any more.
    fn overtaken(&mut self, partition: PartitionId, number: u64) {
        let before = self.waiting.range(..number);
        let lost = before.filter(|(_, waiting)| waiting.partition == partition);
        let lost: Vec<u64> = lost.map(|(number, _)| *number).collect();
        for number in lost {
            if let Some(waiting) = self.waiting.remove(&number) {
                let lost = ClientError::NoAnswer("a datagram was lost, later ones came".to_owned());
                let _ = waiting.answer.send(Err(lost));
            }
        }
    }

    /// Those that asked before will have no answer any more.
    fn give_up(&mut self, asked_before: Instant, why: &str) {
        while let Some(first) = self.waiting.first_entry()
            && first.get().since <= asked_before
        {
            let lost = ClientError::NoAnswer(why.to_owned());
            let _ = first.remove().answer.send(Err(lost));
        }
    }
}

struct Driver {
    shared: Arc<Mutex<State>>,
    link: Link,
    dialer: Dialer,
}

impl Driver {
    async fn run(mut self, mut closing: oneshot::Receiver<oneshot::Sender<()>>) {
        loop {
            let fault = tokio::select! {
                fault = self.serve() => fault,
                done = &mut closing => return self.finish(done.ok()).await,
            };
            lock(&self.shared).give_up(Instant::now(), "the connection was lost");
            let redialled = tokio::select! {
                redialled = self.dialer.redial() => redialled,
                done = &mut closing => return self.finish(done.ok()).await,
            };
            match redialled {
                Ok((link, channels)) => {
                    self.link = link;
                    let mut state = lock(&self.shared);
                    // What was sent meanwhile went nowhere.
                    state.give_up(Instant::now(), "the connection was lost");
                    state.opened(&self.link, &channels);
                }
                Err(error) => {
                    let error = if error.is_passing() { fault } else { error };
                    lock(&self.shared).ended = Some(error);
                    return;
                }
            }
        }
    }

    /// Serve one connection until it is lost.
    async fn serve(&mut self) -> ClientError {
        loop {
            let lost = self.link.exchange();
            let shared = &self.shared;
            let taken = self.link.frames(|frame| lock(shared).take(frame));
            let lost = lost.map_err(|error| ClientError::Lost(error.to_string()));
            if let Err(error) = taken.and(lost) {
                return error;
            }
            let oldest = {
                let state = lock(shared);
                let mut waiting = state.waiting.values();
                waiting.next().map(|waiting| waiting.since + LOST_AFTER)
            };
            let quiet = self.link.quiet_until();
            let wake = oldest.map_or(quiet, |oldest| oldest.min(quiet));
            tokio::select! {
                () = self.link.ready() => {}
                () = tokio::time::sleep_until(wake) => {
                    if let Some(before) = Instant::now().checked_sub(LOST_AFTER) {
                        lock(&self.shared).give_up(before, "no answer to a datagram");
                    }
                    if let Err(error) = self.link.keep_alive() {
                        return error;
                    }
                }
            }
        }
    }

    async fn finish(self, done: Option<oneshot::Sender<()>>) {
        let state = Arc::clone(&self.shared);
        lock(&state).ended = Some(ClientError::Closed);
        lock(&state).give_up(Instant::now(), "closed before it came");
        let _ = tokio::time::timeout(BYE_TIMEOUT, self.link.bye()).await;
        if let Some(done) = done {
            let _ = done.send(());
        }
    }
}
