//! The writing half of a connection: answers are signed in order and written at once, without waking its task.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use tokio::net::tcp::OwnedWriteHalf;
use wire::ack::{Ack, Reject};
use wire::link::{encode_goaway, encode_pong};
use wire::signature::{MacKey, Signer};
use wire::{Notice, Sequence};

/// Unwritten bytes beyond which a peer that does not read is cut off.
const UNWRITTEN_BYTES_MAX: usize = 8 << 20;

/// One peer, as whoever answers it sees it.
pub(crate) struct Peer {
    key: MacKey,
    half: OwnedWriteHalf,
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
    pub(crate) fn new(half: OwnedWriteHalf, key: MacKey, sent: u64) -> Rc<Self> {
        Rc::new(Self {
            key,
            half,
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
        self.put(|out, signer| encode_goaway(out, notice, signer));
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
            match self.half.try_write(&unwritten) {
                Ok(bytes) => drop(unwritten.drain(..bytes)),
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock
                        && unwritten.len() <= UNWRITTEN_BYTES_MAX =>
                {
                    return false;
                }
                Err(_) => {
                    unwritten.clear();
                    self.cut();
                }
            }
        }
        true
    }

    /// End the connection both ways; its reader sees the end and cleans up.
    pub(crate) fn cut(&self) {
        // It may have ended by itself meanwhile, which is as well.
        let _ = rustix::net::shutdown(self.half.as_ref(), rustix::net::Shutdown::Both);
    }

    async fn flush(self: Rc<Self>) {
        while !self.write_some() {
            if self.half.writable().await.is_err() {
                break;
            }
        }
        self.flushing.set(false);
    }
}
