//! The receiving side for applications: deliveries as they come, settled when the application is done with them.

use crate::diagnosis::ClientError;
use crate::handshake::ChannelTerms;
use crate::inbox::{Inbox, Settlement};
use crate::link::{Connection, Dialer, Link};
use crate::message::Delivery;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use wire::ack::Reject;
use wire::delivery::{Deliver, Source};
use wire::frame::{Frame, FrameKind};
use wire::ids::{ChannelId, LogsId};
use wire::reason::{Notice, Reason};

const COMMANDS_MAX: usize = 1_024;
const READY_MAX: usize = 256;

/// What to fetch, and how much ahead of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchOptions {
    /// The queue itself, or its dead letters.
    pub source: Source,
    /// Messages that may be unsettled here; no more are fetched while so many are.
    pub messages_max: u32,
    /// Bytes that may have come and not been read by the application.
    pub bytes_max: u64,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            source: Source::Queue,
            messages_max: 4_096,
            bytes_max: 16 << 20,
        }
    }
}

enum Command {
    Settle(LogsId, u64, Settlement),
    AcceptThrough(LogsId, u64),
    Close(oneshot::Sender<()>),
}

/// Receives the messages of one endpoint's queue. At least once over the lifetime of a queue; over the lifetime of
/// one `Receiver`, reconnects and expired locks included, a message comes again only when it was released.
#[derive(Debug)]
pub struct Receiver {
    deliveries: mpsc::Receiver<Result<Delivery, ClientError>>,
    commands: mpsc::Sender<Command>,
    ended: Arc<OnceLock<ClientError>>,
}

impl Receiver {
    pub(crate) fn start(connection: Connection, options: FetchOptions) -> Self {
        let Connection {
            link,
            dialer,
            channels,
        } = connection;
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (give, deliveries) = mpsc::channel(READY_MAX);
        let ended = Arc::new(OnceLock::new());
        let mut driver = Driver {
            inbox: Inbox::new(options.source, options.messages_max, options.bytes_max),
            logs: link.terms.logs,
            dialer,
            link,
            commands: inbox,
            give,
            ended: Arc::clone(&ended),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            names: Vec::new(),
            closing: None,
        };
        driver.opened(channels);
        tokio::spawn(driver.run());
        Self {
            deliveries,
            commands,
            ended,
        }
    }

    /// The next delivery, in queue order; `None` after `close`.
    ///
    /// # Errors
    /// A refused settlement (`FB-5111`), after which receiving goes on, or the fault that ended the session for good.
    pub async fn next(&mut self) -> Option<Result<Delivery, ClientError>> {
        self.deliveries.recv().await
    }

    /// Done with this delivery and every earlier one.
    ///
    /// # Errors
    /// The fault that ended the session, or `FB-5110` when it is over without one.
    pub async fn accept_through(&self, delivery: &Delivery) -> Result<(), ClientError> {
        self.command(Command::AcceptThrough(delivery.logs, delivery.number))
            .await
    }

    /// Settle this delivery alone: accept it, release it to be delivered again, or put it among the dead letters.
    ///
    /// # Errors
    /// The fault that ended the session, or `FB-5110` when it is over without one.
    pub async fn settle(
        &self,
        delivery: &Delivery,
        settlement: Settlement,
    ) -> Result<(), ClientError> {
        self.command(Command::Settle(delivery.logs, delivery.number, settlement))
            .await
    }

    /// Send the settlements that wait, then say BYE. What is unsettled will be delivered to the next receiver.
    ///
    /// # Errors
    /// The fault that ended the session, or `FB-5110` when it is over already.
    pub async fn close(self) -> Result<(), ClientError> {
        let (done, closed) = oneshot::channel();
        self.command(Command::Close(done)).await?;
        let Self {
            deliveries, ended, ..
        } = self;
        drop(deliveries);
        closed
            .await
            .map_err(|_| ended.get().cloned().unwrap_or(ClientError::Closed))
    }

    async fn command(&self, command: Command) -> Result<(), ClientError> {
        let taken = self.commands.send(command).await;
        taken.map_err(|_| self.ended.get().cloned().unwrap_or(ClientError::Closed))
    }
}

struct Driver {
    inbox: Inbox,
    /// Which logs the numbers of `inbox` count in.
    logs: LogsId,
    dialer: Dialer,
    link: Link,
    commands: mpsc::Receiver<Command>,
    give: mpsc::Sender<Result<Delivery, ClientError>>,
    ended: Arc<OnceLock<ClientError>>,
    waiting: VecDeque<Result<Delivery, ClientError>>,
    waiting_bytes: usize,
    names: Vec<(ChannelId, Arc<str>)>,
    closing: Option<Option<oneshot::Sender<()>>>,
}

impl Driver {
    async fn run(mut self) {
        loop {
            let fault = match self.serve().await {
                Ok(()) => return self.finish().await,
                Err(fault) => fault,
            };
            if self.closing.is_some() {
                return self.finish().await;
            }
            if matches!(fault, ClientError::Settle(_)) {
                return self.fail(fault).await;
            }
            match self.dialer.redial().await {
                Ok((link, channels)) => {
                    self.link = link;
                    self.opened(channels);
                }
                Err(error) => {
                    return self
                        .fail(if error.is_passing() { fault } else { error })
                        .await;
                }
            }
        }
    }

    async fn serve(&mut self) -> Result<(), ClientError> {
        loop {
            self.hand_out();
            self.inbox.pump(
                self.waiting.len(),
                self.waiting_bytes,
                &mut self.link.seal,
                &mut self.link.output,
            );
            let lost = self.link.exchange();
            // Deliveries, and the reason of the end, may have come together with it.
            self.take()?;
            self.hand_out();
            lost.map_err(|error| ClientError::Lost(error.to_string()))?;
            if self.closing.is_some() {
                return Ok(());
            }
            self.wait().await?;
        }
    }

    /// Hand to the application what it has room for.
    fn hand_out(&mut self) {
        while !self.waiting.is_empty() {
            let Ok(permit) = self.give.try_reserve() else {
                return;
            };
            let next = self
                .waiting
                .pop_front()
                .expect("checked by the loop's condition");
            self.waiting_bytes -= bytes(&next);
            permit.send(next);
        }
    }

    async fn wait(&mut self) -> Result<(), ClientError> {
        let wake = self.link.quiet_until();
        let give = &self.give;
        let room = async { give.reserve().await.is_ok() };
        tokio::select! {
            room = room, if !self.waiting.is_empty() => if !room {
                // The receiver is gone; closing may still be on its way.
                self.waiting.clear();
            },
            command = self.commands.recv() => self.command(command),
            () = self.link.ready() => {}
            () = tokio::time::sleep_until(wake) => self.link.keep_alive()?,
        }
        Ok(())
    }

    fn command(&mut self, command: Option<Command>) {
        let mut next = command;
        loop {
            match next {
                Some(Command::Settle(logs, number, settlement)) => {
                    if logs != self.logs || !self.inbox.settle(number, settlement) {
                        self.refuse(number);
                    }
                }
                Some(Command::AcceptThrough(logs, number)) if logs == self.logs => {
                    self.inbox.accept_through(number);
                }
                Some(Command::AcceptThrough(_, number)) => self.refuse(number),
                Some(Command::Close(done)) => {
                    self.closing = Some(Some(done));
                    return;
                }
                None => {
                    self.closing = Some(None);
                    return;
                }
            }
            match self.commands.try_recv() {
                Ok(command) => next = Some(command),
                Err(_) => return,
            }
        }
    }

    /// Tell the application that a delivery is not one to be settled here.
    fn refuse(&mut self, number: u64) {
        let notice = Notice::new(Reason::NotDelivered, number, 0);
        self.waiting.push_back(Err(ClientError::Settle(notice)));
    }

    fn opened(&mut self, channels: Vec<ChannelTerms>) {
        self.names = channels
            .into_iter()
            .map(|terms| (terms.id, terms.name.into()))
            .collect();
        if self.link.terms.logs != std::mem::replace(&mut self.logs, self.link.terms.logs) {
            self.inbox.begin_anew();
        }
        self.inbox.opened();
    }

    fn take(&mut self) -> Result<(), ClientError> {
        let (inbox, waiting, names) = (&mut self.inbox, &mut self.waiting, &self.names);
        let logs = self.logs;
        let mut new_bytes = 0;
        let result = self
            .link
            .frames(|frame| take_frame(inbox, waiting, &mut new_bytes, (names, logs), frame));
        self.waiting_bytes += new_bytes;
        result
    }

    async fn finish(mut self) {
        self.inbox.pump(
            usize::MAX,
            usize::MAX,
            &mut self.link.seal,
            &mut self.link.output,
        );
        let done = self.closing.take().flatten();
        // Half a second is plenty for settlements and one BYE; what is lost is delivered again.
        let _ = tokio::time::timeout(Duration::from_millis(500), self.link.bye()).await;
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    async fn fail(mut self, error: ClientError) {
        // Before anybody can find the session closed.
        self.ended.get_or_init(|| error.clone());
        self.waiting.push_back(Err(error));
        let deadline = Instant::now() + self.dialer.options.close_timeout;
        for next in self.waiting.drain(..) {
            let given = tokio::time::timeout_at(deadline, self.give.send(next)).await;
            if !matches!(given, Ok(Ok(()))) {
                return;
            }
        }
    }
}

fn bytes(next: &Result<Delivery, ClientError>) -> usize {
    next.as_ref().map_or(0, |delivery| delivery.body.len())
}

fn take_frame(
    inbox: &mut Inbox,
    waiting: &mut VecDeque<Result<Delivery, ClientError>>,
    new_bytes: &mut usize,
    (names, logs): (&[(ChannelId, Arc<str>)], LogsId),
    frame: Frame<'_>,
) -> Result<(), ClientError> {
    let broken = |error: wire::ParseError| ClientError::Protocol(error.to_string());
    match frame.kind() {
        FrameKind::Deliver => {
            inbox.delivered(&Deliver::parse(frame).map_err(broken)?, |mut delivery| {
                delivery.logs = logs;
                let name = names.iter().find(|(id, _)| *id == delivery.channel);
                delivery.channel_name = name.map(|(_, name)| Arc::clone(name));
                *new_bytes += delivery.body.len();
                waiting.push_back(Ok(delivery));
            })
        }
        FrameKind::Reject => {
            let notice = Reject::parse(frame).map_err(broken)?.notice;
            match notice.reason {
                // Too many single settlements ahead of an unsettled message: it is repeated when it comes again.
                Reason::Busy => return Ok(()),
                Reason::NotDelivered => {}
                _ => return Err(ClientError::Settle(notice)),
            }
            waiting.push_back(Err(ClientError::Settle(notice)));
        }
        other => return Err(ClientError::Protocol(format!("{other:?} to a receiver"))),
    }
    Ok(())
}
