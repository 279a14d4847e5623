//! Streams of QUIC, by the crate quinn, on a runtime that runs in the thread that uses them: what QUIC costs is counted as the
//! generator's own, and nothing of it moves but inside the calls here.
//!
//! The runtime's timers know milliseconds, but when a frame is due is known to the nanosecond: the last stretch of a wait is one on
//! the socket itself.

use super::{BYE_TIME, mixed};
use crate::diagnosis;
use crate::socket::Socket;
use bytes::Bytes;
use client::transport::quic::{Beside, Lane};
use quinn::{RecvStream, SendStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{
    Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel,
};
use tokio::task::yield_now;
use wire::diagnosis::Diagnosis;

const READ_BYTES: usize = 64 << 10;
/// Waits shorter than this are fine ones; timers of the runtime are late by up to a millisecond, and QUIC's may be by this.
const COARSE: Duration = Duration::from_millis(2);
/// Pieces that have come and were not taken; streams are not read beyond, and their windows close.
const CAME_MAX: usize = 256;
/// Buffers that are kept to be used again.
const SPARE_MAX: usize = 4_096;

/// What comes of a stream: its index, which of those that had that index it is, and bytes or why it ended.
type Came = (usize, u32, Result<Bytes, String>);

/// The streams of one thread.
pub(in crate::engine) struct QuicStreams {
    streams: Vec<Stream>,
    came: Receiver<Came>,
    give: Sender<Came>,
    /// What `wait` has taken from `came`.
    held: Option<Came>,
    touched: Vec<usize>,
    spare: Vec<Vec<u8>>,
    /// That of all connections; none without any.
    socket: Option<Arc<UdpSocket>>,
    open: usize,
    runtime: Arc<Runtime>,
}

struct Stream {
    generation: u32,
    /// Frames that were not handed over yet. What is handed over and not sent is bounded by the server's credit.
    frames: Vec<u8>,
    /// Dropped to end the stream behind what was sent.
    out: Option<UnboundedSender<Bytes>>,
    beside: Beside,
    ended: bool,
}

impl QuicStreams {
    pub(super) fn new(sockets: Vec<Socket>, runtime: Arc<Runtime>) -> Result<Self, Diagnosis> {
        let (give, came) = channel(CAME_MAX);
        let mut all = Self {
            streams: Vec::new(),
            came,
            give,
            held: None,
            touched: Vec::new(),
            spare: Vec::new(),
            socket: None,
            open: 0,
            runtime,
        };
        for (index, socket) in sockets.into_iter().enumerate() {
            let stream = all.attach(index, 0, lane(socket)?);
            all.streams.push(stream);
        }
        Ok(all)
    }

    fn attach(&mut self, index: usize, generation: u32, lane: Lane) -> Stream {
        self.socket = Some(Arc::clone(lane.socket()));
        let (send, receive, beside) = lane.into_parts();
        let (out, frames) = unbounded_channel();
        let give = self.give.clone();
        self.runtime.spawn(write(send, frames));
        self.runtime.spawn(read(receive, (index, generation), give));
        self.open += 1;
        Stream {
            generation,
            frames: Vec::new(),
            out: Some(out),
            beside,
            ended: false,
        }
    }

    pub(super) fn replace(&mut self, index: usize, socket: Socket) -> Result<(), Diagnosis> {
        let generation = self.streams[index].generation + 1;
        self.streams[index] = self.attach(index, generation, lane(socket)?);
        Ok(())
    }

    pub(super) fn give_up(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        stream.beside.close();
        stream.out = None;
        self.open -= usize::from(!std::mem::replace(&mut stream.ended, true));
    }

    pub(super) fn has_room(&self) -> bool {
        true
    }

    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn poll(
        &mut self,
        mut take: impl FnMut(usize, Result<&[u8], String>),
    ) -> Result<bool, Diagnosis> {
        self.hand_over();
        // Once for what is ready to run, once for what that made ready.
        self.runtime.block_on(async {
            yield_now().await;
            yield_now().await;
        });
        let mut any = false;
        while let Some((index, generation, what)) =
            self.held.take().or_else(|| self.came.try_recv().ok())
        {
            any = true;
            let stream = &mut self.streams[index];
            if stream.generation != generation {
                continue;
            }
            match what {
                Ok(bytes) => take(index, Ok(&bytes)),
                Err(fault) => {
                    self.open -= usize::from(!std::mem::replace(&mut stream.ended, true));
                    take(index, Err(fault));
                }
            }
        }
        Ok(any)
    }

    pub(super) fn submit(&mut self) -> Result<(), Diagnosis> {
        self.hand_over();
        self.runtime.block_on(yield_now());
        Ok(())
    }

    /// Give the streams everything that was sent on them, in one piece each.
    fn hand_over(&mut self) {
        while let Some(index) = self.touched.pop() {
            let stream = &mut self.streams[index];
            let frames = std::mem::take(&mut stream.frames);
            if let Some(out) = &stream.out {
                // A stream that has ended says so when it is read.
                let _ = out.send(frames.into());
            }
        }
    }

    pub(super) fn wait(&mut self, most: Duration) -> Result<(), Diagnosis> {
        self.hand_over();
        if self.held.is_some() || most.is_zero() {
            return Ok(());
        }
        match (most.checked_sub(COARSE), &self.socket) {
            (Some(coarse), _) if !coarse.is_zero() => {
                let came = self.came.recv();
                let came = async { tokio::time::timeout(coarse, came).await };
                self.held = self.runtime.block_on(came).ok().flatten();
                Ok(())
            }
            (_, Some(socket)) => wait_finely(socket, most),
            (_, None) => Ok(()),
        }
    }

    pub(super) fn close(&mut self, index: usize) {
        self.hand_over();
        self.streams[index].out = None;
    }

    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// A datagram that has no room is lost, as on its way.
    pub(super) fn throw(&mut self, lane: usize, bytes: Vec<u8>) {
        let _ = self.streams[lane].beside.send(bytes);
    }

    pub(super) fn send(&mut self, lane: usize, mut bytes: Vec<u8>) {
        let stream = &mut self.streams[lane];
        if stream.frames.is_empty() {
            self.touched.push(lane);
        }
        stream.frames.append(&mut bytes);
        if self.spare.len() < SPARE_MAX {
            self.spare.push(bytes);
        }
    }
}

/// Wait for a datagram, at most so long, to the nanosecond. What was sent is on its way: the calls before saw to that.
fn wait_finely(socket: &UdpSocket, most: Duration) -> Result<(), Diagnosis> {
    let mut readable = [PollFd::new(socket, PollFlags::IN)];
    let most = Timespec::try_from(most).unwrap_or_default();
    match poll(&mut readable, Some(&most)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(diagnosis::thread(&error.into())),
    }
}

fn lane(socket: Socket) -> Result<Lane, Diagnosis> {
    match socket {
        Socket::Quic(lane, _) => Ok(*lane),
        _ => Err(mixed()),
    }
}

/// Write what comes until nothing more will, then end the stream.
async fn write(mut send: SendStream, mut frames: UnboundedReceiver<Bytes>) {
    while let Some(bytes) = frames.recv().await {
        if send.write_chunk(bytes).await.is_err() {
            return;
        }
    }
    // One that has ended already needs no end.
    if send.finish().is_ok() {
        let wait = tokio::time::timeout(Duration::from_nanos(BYE_TIME), send.stopped());
        let _ = wait.await;
    }
}

/// Read until the end and pass it on.
async fn read(mut receive: RecvStream, (index, generation): (usize, u32), give: Sender<Came>) {
    loop {
        let came = match receive.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => Ok(chunk.bytes),
            Ok(None) => Err("the server ended the connection".to_owned()),
            Err(error) => Err(format!("the connection ended: {error}")),
        };
        let over = came.is_err();
        if give.send((index, generation, came)).await.is_err() || over {
            return;
        }
    }
}
