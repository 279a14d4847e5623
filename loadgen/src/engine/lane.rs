//! One sending connection: frames signed ahead of their time, the server's credit, and its answers in order.
//!
//! A lane carries the frames of one sender as SEND, or of several as RELAY. No socket and no clock.

use crate::inflow::Inflow;
use client::handshake::{Opened, Seal};
use std::collections::VecDeque;
use wire::ids::{DATAGRAM_STREAM, LogsId, PartitionId, RELAY_STREAM};

/// One frame of one sender.
#[derive(Debug)]
pub struct Item {
    /// Index of the sender.
    pub flow: u32,
    /// Number of its first message.
    pub first: u64,
    /// Messages in it.
    pub count: u16,
    /// When its last message is due.
    pub due: u64,
    /// When it was put on the wire, the last time.
    pub put: u64,
    /// The signed frame; empty once it is on the wire.
    pub bytes: Vec<u8>,
    /// Length of the signed frame.
    pub frame_bytes: usize,
    /// Whether the server rejected it (relays and datagrams are answered one by one).
    pub rejected: bool,
    /// In a datagram: what it is called in its answer.
    pub number: u64,
}

/// One connection of the sending side.
#[derive(Debug)]
pub struct Lane {
    /// Signs and checks this connection's frames.
    pub seal: Seal,
    /// Frames that arrive in pieces.
    pub inflow: Inflow,
    /// Which of its connection's lanes it is, where that matters.
    pub index: u64,
    /// The answers that concern this lane.
    pub stream: PartitionId,
    /// Which logs its numbers count in.
    pub logs: LogsId,
    /// Highest answered sequence or relay number.
    pub last: u64,
    /// On the wire, unanswered, in order.
    pub wire: VecDeque<Item>,
    /// Signed and not sent yet, in order.
    pub ready: VecDeque<Item>,
    /// How many of `ready` are due.
    pub owed: usize,
    /// Why it ended, once it has.
    pub fault: Option<String>,
    /// When a frame or PING was last sent.
    pub spoke: u64,
    /// A third of the time after which the server gives the connection up.
    pub ping_every: u64,
    /// Since when credit was there without a break; lateness is not the generator's before it.
    pub open_since: u64,
    /// Times in a row that the server missed a number.
    pub missed: u32,
    /// Nothing is sent before: the server asked for that when it refused a frame for now.
    paused_until: u64,
    /// Frames and bytes that it has on the wire at most, whatever the server says; `None` for one that keeps to it.
    flood: Option<(usize, usize)>,
    /// Highest sequence that a datagram bears.
    spent: u64,
    window: usize,
    credit_frames: usize,
    credit_bytes: usize,
    wire_bytes: usize,
    ready_bytes: usize,
}

/// A flooding lane has so many times its first credit on the wire.
const FLOOD_CREDITS: usize = 2;

impl Lane {
    /// A lane over an open session; `stream` and `last` as WELCOME gave them for its channel. At most `window` frames
    /// are unanswered at once; 0 leaves it to the server's credit.
    pub fn new(opened: Opened, stream: PartitionId, last: u64, window: u32) -> Self {
        let window = if window == 0 { u32::MAX } else { window } as usize;
        Self {
            seal: opened.seal,
            inflow: Inflow::default(),
            index: 0,
            stream,
            logs: opened.terms.logs,
            last,
            wire: VecDeque::new(),
            ready: VecDeque::new(),
            owed: 0,
            fault: None,
            spoke: 0,
            ping_every: u64::from(opened.terms.idle_timeout_ms.max(300)) * 1_000_000 / 3,
            open_since: 0,
            missed: 0,
            paused_until: 0,
            flood: None,
            spent: last,
            window,
            credit_frames: window.min(opened.terms.credit_frames as usize),
            credit_bytes: opened.terms.credit_bytes as usize,
            wire_bytes: 0,
            ready_bytes: 0,
        }
    }

    /// Whether frames travel inside RELAY.
    pub fn relays(&self) -> bool {
        self.stream == RELAY_STREAM
    }

    /// Whether frames travel in datagrams.
    pub fn is_loose(&self) -> bool {
        self.stream == DATAGRAM_STREAM
    }

    /// The sequence or relay number of the next frame to be signed. Datagrams spend theirs whatever becomes of them.
    pub fn next_sequence(&mut self) -> u64 {
        if self.is_loose() {
            self.spent += 1;
            return self.spent;
        }
        self.last + 1 + (self.wire.len() + self.ready.len()) as u64
    }

    /// From now on it keeps neither to its credit nor to the time that a REJECT gives.
    pub fn flood(&mut self) {
        self.flood = Some((
            self.credit_frames * FLOOD_CREDITS,
            self.credit_bytes * FLOOD_CREDITS,
        ));
    }

    /// From now on it keeps to both.
    pub fn calm(&mut self) {
        self.flood = None;
    }

    /// Frames and bytes that may be unanswered.
    fn allowed(&self) -> (usize, usize) {
        self.flood
            .unwrap_or((self.credit_frames, self.credit_bytes))
    }

    /// Whether the server takes a further frame of so many bytes now.
    pub fn has_credit(&self, frame_bytes: usize) -> bool {
        let (frames, bytes) = self.allowed();
        self.wire.len() < frames && self.wire_bytes + frame_bytes <= bytes
    }

    /// Whether the credit has room for what is signed already and one frame more.
    pub fn wants_more(&self, frame_bytes: usize) -> bool {
        let (frames, bytes) = self.allowed();
        self.wire.len() + self.ready.len() < frames
            && self.wire_bytes + self.ready_bytes + frame_bytes <= bytes
    }

    /// Set the credit that an ACK repeats.
    pub fn set_credit(&mut self, frames: u32, bytes: u32) {
        self.credit_frames = self.window.min(frames as usize);
        self.credit_bytes = bytes as usize;
    }

    /// The server refused a frame for now. As a client does, this lane waits as long as it was told and then tries with
    /// one frame alone; the next ACK tells of more credit.
    pub fn pause(&mut self, until: u64) {
        if self.flood.is_some() {
            return;
        }
        self.paused_until = until;
        self.credit_frames = 1;
    }

    /// Put the first due frame on the wire, if there is one and credit for it: its bytes, and a view of it.
    pub fn send_next(&mut self, now: u64) -> Option<(Vec<u8>, &Item)> {
        if self.owed == 0 || self.fault.is_some() {
            return None;
        }
        let front = self.ready.front().expect("what is owed is signed");
        if now < self.paused_until || !self.has_credit(front.frame_bytes) {
            self.open_since = u64::MAX;
            return None;
        }
        if self.open_since == u64::MAX {
            self.open_since = now;
        }
        let mut item = self.ready.pop_front().expect("looked at just now");
        let bytes = std::mem::take(&mut item.bytes);
        item.put = now;
        self.owed -= 1;
        self.spoke = now;
        self.ready_bytes -= item.frame_bytes;
        self.wire_bytes += item.frame_bytes;
        self.wire.push_back(item);
        Some((bytes, self.wire.back().expect("pushed just now")))
    }

    /// Add a frame that was signed for this lane.
    pub fn add_ready(&mut self, item: Item) {
        self.ready_bytes += item.frame_bytes;
        self.ready.push_back(item);
    }

    /// Take the oldest frame off the wire because it has its answer.
    pub fn answer_next(&mut self) -> Option<Item> {
        let item = self.wire.pop_front()?;
        self.wire_bytes -= item.frame_bytes;
        self.last += 1;
        self.missed = 0;
        Some(item)
    }

    /// Take the oldest datagram off the wire, if it was put there so long ago.
    pub fn lose_next(&mut self, put_before: u64) -> Option<Item> {
        let first = self.wire.front()?;
        if first.put > put_before {
            return None;
        }
        self.answer_next()
    }

    /// The place on the wire of the datagram of this number.
    pub fn place_of(&self, number: u64) -> Option<usize> {
        self.wire
            .binary_search_by_key(&number, |item| item.number)
            .ok()
    }

    /// The server refused the frame at `index` of the wire and discards those behind it: move them back to be signed
    /// anew, the first without its place if it is `dropped`; then it is returned.
    pub fn go_back(&mut self, index: usize, dropped: bool) -> Option<Item> {
        let mut back = self.wire.split_off(index);
        for item in &back {
            self.wire_bytes -= item.frame_bytes;
            self.ready_bytes += item.frame_bytes;
        }
        let refused = if dropped { back.pop_front() } else { None };
        self.ready_bytes -= refused.as_ref().map_or(0, |item| item.frame_bytes);
        self.owed += back.len();
        while let Some(item) = back.pop_back() {
            self.ready.push_front(item);
        }
        refused
    }

    /// Go on over a session that was opened anew, where the log ends with what is booked: everything on the wire goes
    /// back to be signed again.
    pub fn reopen(&mut self, opened: Opened) {
        (self.seal, self.inflow, self.fault) = (opened.seal, Inflow::default(), None);
        (self.missed, self.paused_until) = (0, 0);
        self.set_credit(opened.terms.credit_frames, opened.terms.credit_bytes);
        self.go_back(0, false);
    }

    /// Mark one relayed frame as rejected; the others go on.
    pub fn mark_rejected(&mut self, index: usize) {
        if let Some(item) = self.wire.get_mut(index) {
            item.rejected = true;
        }
    }

    /// End the lane; what is unanswered stays so.
    pub fn end(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }
}
