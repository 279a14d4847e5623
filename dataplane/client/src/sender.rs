//! The sending side for applications: tickets in, receipts out, one task in between that owns the connection.

use crate::diagnosis::ClientError;
use crate::link::{Connection, Dialer, Link};
use crate::message::Message;
use crate::outbox::{Answered, Outbox, Receipt};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use wire::ack::{Ack, Reject};
use wire::frame::{Frame, FrameKind};
use wire::ids::{ChannelId, EndpointId, LogsId, Sequence};
use wire::send::SendBuilder;

const COMMANDS_MAX: usize = 64;

type Answer = oneshot::Sender<Result<Receipt, ClientError>>;

enum Command {
    Send {
        channel: ChannelId,
        frame: Vec<u8>,
        answer: Answer,
    },
    Close {
        done: oneshot::Sender<()>,
    },
}

/// Sends messages of one endpoint. Cheap to clone; all clones share one session and keep one order.
#[derive(Clone)]
pub struct Sender {
    commands: mpsc::Sender<Command>,
    endpoint: EndpointId,
    channels: Arc<Mutex<Vec<(String, ChannelId)>>>,
    /// Why the session ended, if nobody closed it.
    ended: Arc<OnceLock<ClientError>>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Sender({})", self.endpoint)
    }
}

/// The answer to one frame, to come. Await it, or drop it when the answer does not matter.
#[derive(Debug)]
#[must_use = "a ticket tells whether the messages are in the log"]
pub struct Ticket {
    answer: oneshot::Receiver<Result<Receipt, ClientError>>,
}

impl Future for Ticket {
    type Output = Result<Receipt, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(ClientError::Closed)))
    }
}

impl Sender {
    pub(crate) fn start(connection: Connection) -> Self {
        let Connection {
            link,
            dialer,
            channels,
        } = connection;
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let endpoint = link.terms.endpoint;
        let names = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(OnceLock::new());
        let mut driver = Driver {
            outbox: Outbox::new(dialer.options.retry_for),
            logs: link.terms.logs,
            dialer,
            link,
            commands: inbox,
            names: Arc::clone(&names),
            ended: Arc::clone(&ended),
            answered: Vec::new(),
            began: Instant::now(),
            closing: None,
        };
        driver.opened(channels);
        tokio::spawn(driver.run());
        Self {
            commands,
            endpoint,
            channels: names,
            ended,
        }
    }

    /// Send one message. Waits while too much is unanswered; the ticket then tells when it is in the log.
    ///
    /// # Errors
    /// `FB-5107` without a grant for the channel, `FB-5108` when the message breaks a limit, `FB-5110` when closed, or the
    /// fault that ended the session.
    pub async fn send(&self, channel: &str, message: Message) -> Result<Ticket, ClientError> {
        self.send_batch(channel, std::slice::from_ref(&message))
            .await
    }

    /// Send 1 to 4,096 messages as one frame: they are appended together or not at all, under one signature.
    ///
    /// # Errors
    /// As for [`Sender::send`].
    pub async fn send_batch(
        &self,
        channel: &str,
        messages: &[Message],
    ) -> Result<Ticket, ClientError> {
        let channel = self.channel(channel)?;
        if messages.is_empty() {
            return Err(ClientError::Message("0 messages in a batch".to_owned()));
        }
        let mut frame = Vec::new();
        let mut builder = SendBuilder::begin(&mut frame, self.endpoint, channel, Sequence(0));
        for message in messages {
            message.put(&mut builder)?;
        }
        let count = builder.count();
        // The outbox numbers, seals and signs the frame each time it goes out; only the count is fixed here.
        frame[6..8].copy_from_slice(&count.to_le_bytes());
        let (answer, ticket) = oneshot::channel();
        let command = Command::Send {
            channel,
            frame,
            answer,
        };
        let taken = self.commands.send(command).await;
        taken.map_err(|_| self.end())?;
        Ok(Ticket { answer: ticket })
    }

    /// Wait for all answers, at most `Options::close_timeout`, then say BYE. Other clones are closed too.
    ///
    /// # Errors
    /// `FB-5110` when it was closed before, or the fault that ended the session.
    pub async fn close(self) -> Result<(), ClientError> {
        let (done, closed) = oneshot::channel();
        let taken = self.commands.send(Command::Close { done }).await;
        taken.map_err(|_| self.end())?;
        closed.await.map_err(|_| self.end())
    }

    /// Why nothing is taken any more.
    fn end(&self) -> ClientError {
        self.ended.get().cloned().unwrap_or(ClientError::Closed)
    }

    fn channel(&self, name: &str) -> Result<ChannelId, ClientError> {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, id)) = channels.iter().find(|(known, _)| known == name) {
            return Ok(*id);
        }
        let known: Vec<&str> = channels.iter().map(|(known, _)| known.as_str()).collect();
        Err(ClientError::ChannelNotGranted {
            channel: name.to_owned(),
            granted: known.join(", "),
        })
    }
}

struct Driver {
    outbox: Outbox<Answer>,
    /// Which logs the numbers of `outbox` count in.
    logs: LogsId,
    dialer: Dialer,
    link: Link,
    commands: mpsc::Receiver<Command>,
    names: Arc<Mutex<Vec<(String, ChannelId)>>>,
    ended: Arc<OnceLock<ClientError>>,
    answered: Vec<Answered<Answer>>,
    began: Instant,
    closing: Option<(Instant, Option<oneshot::Sender<()>>)>,
}

impl Driver {
    async fn run(mut self) {
        loop {
            let fault = match self.serve().await {
                Ok(()) => return self.finish().await,
                Err(fault) => fault,
            };
            if self.closing.is_some() && self.outbox.is_empty() {
                return self.finish().await;
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

    /// Serve one connection until it is lost, or everything is answered after `close` or the last handle is gone.
    async fn serve(&mut self) -> Result<(), ClientError> {
        loop {
            let now = self.began.elapsed();
            self.outbox
                .pump(now, &mut self.link.seal, &mut self.link.output);
            let lost = self.link.exchange();
            // Answers may have come together with the end.
            let any = self.take()?;
            lost.map_err(|error| ClientError::Lost(error.to_string()))?;
            if any {
                continue;
            }
            match &self.closing {
                Some((deadline, _)) if self.outbox.is_empty() || Instant::now() >= *deadline => {
                    return Ok(());
                }
                _ => self.wait().await?,
            }
        }
    }

    /// Wait for bytes, a command or a time. Nothing of it is lost when another comes first.
    async fn wait(&mut self) -> Result<(), ClientError> {
        let room = self.outbox.len() < self.dialer.options.in_flight_frames_max
            && self.outbox.bytes() < self.dialer.options.in_flight_bytes_max
            && self.closing.is_none();
        let mut wake = self.link.quiet_until();
        if let Some(held) = self.outbox.wake_at() {
            wake = wake.min(self.began + held);
        }
        if let Some((deadline, _)) = &self.closing {
            wake = wake.min(*deadline);
        }
        tokio::select! {
            () = self.link.ready() => {}
            command = self.commands.recv(), if room => self.command(command),
            () = tokio::time::sleep_until(wake) => self.link.keep_alive()?,
        }
        Ok(())
    }

    fn command(&mut self, command: Option<Command>) {
        let mut next = command;
        loop {
            match next {
                Some(Command::Send {
                    channel,
                    frame,
                    answer,
                }) => {
                    if let Err(answer) = self.outbox.push(channel, frame, answer) {
                        let gone = ClientError::ChannelNotGranted {
                            channel: channel.to_string(),
                            granted: String::new(),
                        };
                        // A dropped ticket does not want the answer.
                        let _ = answer.send(Err(gone));
                    }
                }
                Some(Command::Close { done }) => return self.close(Some(done)),
                None => return self.close(None),
            }
            // Natural batching: everything that is ready goes out together.
            let full = self.outbox.len() >= self.dialer.options.in_flight_frames_max
                || self.outbox.bytes() >= self.dialer.options.in_flight_bytes_max;
            if full {
                return;
            }
            next = match self.commands.try_recv() {
                Ok(command) => Some(command),
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => None,
            };
        }
    }

    fn close(&mut self, done: Option<oneshot::Sender<()>>) {
        self.closing = Some((Instant::now() + self.dialer.options.close_timeout, done));
    }

    fn opened(&mut self, channels: Vec<crate::handshake::ChannelTerms>) {
        let names = channels
            .iter()
            .map(|terms| (terms.name.clone(), terms.id))
            .collect();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        let terms = self.link.terms;
        if terms.logs != std::mem::replace(&mut self.logs, terms.logs) {
            self.outbox.forget_sent();
        }
        self.outbox.opened(
            channels,
            terms.credit_frames,
            terms.credit_bytes,
            &mut self.answered,
        );
        self.answer();
    }

    /// Take every frame that has come; true when there was one.
    fn take(&mut self) -> Result<bool, ClientError> {
        let now = self.began.elapsed();
        let (outbox, answered) = (&mut self.outbox, &mut self.answered);
        let mut any = false;
        let taken = self.link.frames(|frame| {
            any = true;
            take_answer(outbox, answered, frame, now)
        });
        // What came before a fault has its answer, whatever becomes of the session.
        self.answer();
        taken.map(|()| any)
    }

    fn answer(&mut self) {
        for answered in self.answered.drain(..) {
            // A dropped ticket does not want the answer.
            let _ = answered
                .ticket
                .send(answered.result.map_err(ClientError::Rejected));
        }
    }

    async fn finish(mut self) {
        self.outbox.abandon();
        let done = self.closing.take().and_then(|(_, done)| done);
        // Half a second is plenty for one BYE; the session is forgotten by itself otherwise.
        let _ = tokio::time::timeout(Duration::from_millis(500), self.link.bye()).await;
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    async fn fail(mut self, error: ClientError) {
        // Before anybody can find the session closed.
        self.ended.get_or_init(|| error.clone());
        for answer in self.outbox.abandon() {
            let _ = answer.send(Err(error.clone()));
        }
        self.commands.close();
        // Those that have a place in the queue already are waited for.
        while let Some(command) = self.commands.recv().await {
            if let Command::Send { answer, .. } = command {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

fn take_answer(
    outbox: &mut Outbox<Answer>,
    answered: &mut Vec<Answered<Answer>>,
    frame: Frame<'_>,
    now: Duration,
) -> Result<(), ClientError> {
    let broken = |error: wire::ParseError| ClientError::Protocol(error.to_string());
    match frame.kind() {
        FrameKind::Ack => outbox.acked(&Ack::parse(frame).map_err(broken)?, answered),
        FrameKind::Reject => outbox.rejected(&Reject::parse(frame).map_err(broken)?, now, answered),
        other => return Err(ClientError::Protocol(format!("{other:?} to a sender"))),
    }
    Ok(())
}
