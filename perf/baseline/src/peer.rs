//! The writing half of a connection: answers are signed in order and written at once, without waking its task.

use crate::halves::Writing;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use wire::ack::{Ack, Reject};
use wire::link::{encode_goaway, encode_pong};
use wire::signature::{MacKey, Signer};
use wire::{Notice, Sequence};

/// Unwritten bytes beyond which a peer that does not read is cut off.
const UNWRITTEN_BYTES_MAX: usize = 8 << 20;

/// One peer, as whoever answers it sees it.
pub(crate) struct Peer {
    key: MacKey,
    half: RefCell<Writing>,
    /// Frames sent so far.
    sent: Cell<u64>,
    /// Answers not written yet.
    unwritten: RefCell<Vec<u8>>,
    /// Whether a task waits to write them.
    flushing: Cell<bool>,
    /// Its place among those that wait for the next commit.
    pub(crate) waits_at: Cell<usize>,
    /// The second in which it was last heard.
    pub(crate) heard: Cell<u64>,
}

impl Peer {
    /// A peer after `sent` frames, with its answers signed by `key`.
    pub(crate) fn new(half: Writing, key: MacKey, sent: u64) -> Rc<Self> {
        Rc::new(Self {
            key,
            half: RefCell::new(half),
            sent: Cell::new(sent),
            unwritten: RefCell::new(Vec::with_capacity(256)),
            flushing: Cell::new(false),
            waits_at: Cell::new(usize::MAX),
            heard: Cell::new(0),
        })
    }

    /// Acknowledge.
    pub(crate) fn ack(self: &Rc<Self>, ack: &Ack) {
        self.put(|out, signer| ack.encode(out, signer));
        self.write();
    }

    /// Refuse a frame.
    pub(crate) fn reject(self: &Rc<Self>, reject: &Reject) {
        self.put(|out, signer| reject.encode(out, signer));
        self.write();
    }

    /// Answer a PING.
    pub(crate) fn pong(self: &Rc<Self>, sequence: Sequence) {
        self.put(|out, signer| encode_pong(out, sequence, signer));
        self.write();
    }

    /// Say why the connection ends.
    pub(crate) fn goaway(self: &Rc<Self>, notice: Notice) {
        self.put(|out, signer| encode_goaway(out, notice, None, signer));
        self.write();
    }

    fn put(&self, encode: impl FnOnce(&mut Vec<u8>, Signer<'_>)) {
        let frame_index = self.sent.get();
        self.sent.set(frame_index + 1);
        let key = &self.key;
        encode(
            &mut self.unwritten.borrow_mut(),
            Signer::Session { key, frame_index },
        );
    }

    fn write(self: &Rc<Self>) {
        if !self.flushing.get() && !self.write_some() {
            self.flushing.set(true);
            tokio::task::spawn_local(Rc::clone(self).flush());
        }
    }

    /// Write what the socket takes; true when nothing is left to write.
    fn write_some(&self) -> bool {
        let mut unwritten = self.unwritten.borrow_mut();
        while !unwritten.is_empty() {
            let written = self.half.borrow_mut().try_write(&unwritten);
            match written {
                Some(bytes @ 1..) => drop(unwritten.drain(..bytes)),
                Some(0) if unwritten.len() <= UNWRITTEN_BYTES_MAX => return false,
                _ => {
                    unwritten.clear();
                    self.cut();
                }
            }
        }
        true
    }

    /// End the connection both ways; its reader sees the end and cleans up.
    pub(crate) fn cut(&self) {
        self.half.borrow_mut().cut();
    }

    async fn flush(self: Rc<Self>) {
        while !self.write_some() {
            if !std::future::poll_fn(|context| self.half.borrow_mut().poll_writable(context)).await
            {
                break;
            }
            tokio::task::yield_now().await;
        }
        self.flushing.set(false);
    }
}
