//! The log: records are gathered in memory and written by a thread, one write and one fdatasync for whatever has
//! gathered since the last.
//!
//! | offset | bytes | field        | meaning                                   |
//! |-------:|------:|--------------|-------------------------------------------|
//! |      0 |     8 | `checksum`   | xxh3-64 of everything behind it           |
//! |      8 |     4 | `frame_bytes`| length of the frame                       |
//! |     12 |     2 | `count`      | messages in it                            |
//! |     14 |     2 | `reserved`   | zero                                      |
//! |     16 |     8 | `offset`     | number of the first message in the log    |
//! |     24 |     8 | `time`       | when it was appended, unix nanoseconds    |
//! |     32 |     8 | `endpoint`   | the sender                                |
//! |     40 |       |              | the frame as it came, signature included  |

use crate::peer::Peer;
use crate::server::Stream;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender};
use tokio::sync::mpsc::UnboundedSender;
use wire::send::Send;
use wire::{Offset, Sequence, UnixNanos};
use xxhash_rust::xxh3::xxh3_64;

const RECORD_BYTES: usize = 40;
const CHECKSUM_BYTES: usize = 8;
/// Room taken ahead, so that few syncs have to write the file's length as well.
const AHEAD_BYTES: u64 = 64 << 20;
const GATHERED_BYTES: usize = 1 << 20;

/// An acknowledgement that waits for its commit.
pub(crate) struct Waiting {
    pub(crate) peer: Rc<Peer>,
    pub(crate) stream: Rc<Stream>,
    pub(crate) sequence: Sequence,
    pub(crate) offset: Offset,
}

/// What has gathered since the last write.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) records: Vec<u8>,
    pub(crate) waiting: Vec<Waiting>,
}

/// The end of the log.
pub(crate) struct Log {
    gathered: Gathered,
    next: Offset,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            gathered: Gathered {
                records: Vec::with_capacity(GATHERED_BYTES),
                waiting: Vec::new(),
            },
            next: Offset(0),
        }
    }

    /// Append one frame, to be acknowledged to `peer` when it is committed.
    pub(crate) fn append(
        &mut self,
        send: &Send<'_>,
        time: UnixNanos,
        peer: &Rc<Peer>,
        stream: &Rc<Stream>,
    ) {
        let (frame, out) = (send.frame().bytes(), &mut self.gathered.records);
        let start = out.len();
        out.extend_from_slice(&[0; CHECKSUM_BYTES]);
        out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        out.extend_from_slice(&u32::from(send.count()).to_le_bytes());
        out.extend_from_slice(&self.next.0.to_le_bytes());
        out.extend_from_slice(&time.0.to_le_bytes());
        out.extend_from_slice(&send.endpoint().0.to_le_bytes());
        out.extend_from_slice(frame);
        let checksum = xxh3_64(&out[start + CHECKSUM_BYTES..]);
        out[start..start + CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.next = self.next.plus(send.count().into());
        let offset = Offset(self.next.0 - 1);
        self.acknowledge(peer, stream, send.sequence(), offset);
    }

    /// Acknowledge a number with the next commit; a later one of the same stream takes the place of an earlier.
    pub(crate) fn acknowledge(
        &mut self,
        peer: &Rc<Peer>,
        stream: &Rc<Stream>,
        sequence: Sequence,
        offset: Offset,
    ) {
        let waiting = &mut self.gathered.waiting;
        if let Some(known) = waiting.get_mut(peer.waits_at.get())
            && Rc::ptr_eq(&known.stream, stream)
        {
            (known.sequence, known.offset) = (sequence, offset);
            return;
        }
        peer.waits_at.set(waiting.len());
        waiting.push(Waiting {
            peer: Rc::clone(peer),
            stream: Rc::clone(stream),
            sequence,
            offset,
        });
    }

    /// Take what has gathered and go on in `empty`, whose memory is used again. False if there is nothing.
    pub(crate) fn take(&mut self, empty: &mut Gathered) -> bool {
        if self.gathered.waiting.is_empty() {
            return false;
        }
        std::mem::swap(&mut self.gathered, empty);
        for waiting in &empty.waiting {
            waiting.peer.waits_at.set(usize::MAX);
        }
        true
    }
}

/// The file behind the log.
pub(crate) struct LogFile {
    file: File,
    written: u64,
    allocated: u64,
    durable: bool,
}

impl LogFile {
    /// Make the file, which must not be there.
    pub(crate) fn create(data: &Path, durable: bool) -> Result<Self> {
        std::fs::create_dir_all(data)?;
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(path(data))?;
        file.sync_all()?;
        File::open(data)?.sync_all()?;
        Ok(Self {
            file,
            written: 0,
            allocated: 0,
            durable,
        })
    }

    /// Write records behind the others; durable when it returns, if that was asked for.
    pub(crate) fn write(&mut self, records: &[u8]) -> Result<()> {
        self.written += records.len() as u64;
        while self.written > self.allocated {
            fallocate(
                &self.file,
                FallocateFlags::KEEP_SIZE,
                self.allocated,
                AHEAD_BYTES,
            )?;
            self.allocated += AHEAD_BYTES;
        }
        self.file.write_all(records)?;
        if self.durable {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Serve writes until nobody asks any more. The memory goes back with the result.
    pub(crate) fn serve(
        mut self,
        asked: &Receiver<Vec<u8>>,
        done: &UnboundedSender<Result<Vec<u8>>>,
    ) {
        while let Ok(mut records) = asked.recv() {
            let result = self.write(&records);
            records.clear();
            if done.send(result.map(|()| records)).is_err() {
                return;
            }
        }
    }
}

/// Where the serving thread hands records over.
pub(crate) type ToFile = Sender<Vec<u8>>;

fn path(data: &Path) -> PathBuf {
    data.join("baseline.log")
}

/// Check every record and count the messages.
pub(crate) fn count(data: &Path) -> Result<u64> {
    let mut file = std::io::BufReader::with_capacity(1 << 20, File::open(path(data))?);
    let (mut head, mut record) = ([0; RECORD_BYTES], Vec::new());
    let mut messages = 0u64;
    loop {
        match file.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(messages),
            other => other?,
        }
        let [frame_bytes, count] = [8, 12].map(|at| {
            u32::from_le_bytes(
                head[at..at + 4]
                    .try_into()
                    .expect("four bytes were asked for"),
            )
        });
        record.clear();
        record.extend_from_slice(&head[CHECKSUM_BYTES..]);
        file.by_ref()
            .take(frame_bytes.into())
            .read_to_end(&mut record)?;
        let whole = record.len() == RECORD_BYTES - CHECKSUM_BYTES + frame_bytes as usize;
        let numbered = head[16..24] == messages.to_le_bytes();
        if !whole || !numbered || xxh3_64(&record).to_le_bytes() != head[..CHECKSUM_BYTES] {
            return Err(Error::other(format!(
                "the record of message {messages} is damaged"
            )));
        }
        messages += u64::from(count);
    }
}
