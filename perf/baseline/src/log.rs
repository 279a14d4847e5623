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
use std::io::{Error, Result};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender};
use tokio::sync::mpsc::UnboundedSender;
use wire::route::Hub;
use wire::send::Send;
use wire::{AckMode, Offset, Sequence, UnixNanos};
use xxhash_rust::xxh3::xxh3_64;

const RECORD_BYTES: usize = 40;
const CHECKSUM_BYTES: usize = 8;
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

/// The files behind the log. When retention allows no more of them, the oldest is written over, as a node recycles its
/// segments: its blocks and pages are there already.
pub(crate) struct LogFiles {
    data: PathBuf,
    durable: bool,
    file_bytes: u64,
    files_max: u64,
    open: Vec<File>,
    current: usize,
    position: u64,
}

impl LogFiles {
    /// A log in a folder that must hold none, with the sizes of a hub.
    pub(crate) fn create(data: &Path, hub: &Hub) -> Result<Self> {
        std::fs::create_dir_all(data)?;
        let file_bytes = u64::from(hub.segment_bytes);
        let kept = |bytes: u64| bytes.div_ceil(file_bytes) + 1;
        let mut files = Self {
            data: data.to_owned(),
            durable: hub.ack == AckMode::Durable,
            file_bytes,
            files_max: hub.retention_bytes.map_or(u64::MAX, kept),
            open: Vec::new(),
            current: 0,
            position: 0,
        };
        files.add()?;
        Ok(files)
    }

    /// A new file, with room taken ahead so that few syncs have to write its length as well.
    fn add(&mut self) -> Result<()> {
        let path = self.data.join(format!("{:06}.log", self.open.len()));
        let file = File::options().write(true).create_new(true).open(path)?;
        fallocate(&file, FallocateFlags::empty(), 0, self.file_bytes)?;
        file.sync_all()?;
        File::open(&self.data)?.sync_all()?;
        self.open.push(file);
        Ok(())
    }

    /// Write records behind the others; durable when it returns, if that was asked for.
    pub(crate) fn write(&mut self, records: &[u8]) -> Result<()> {
        if self.position + records.len() as u64 > self.file_bytes && self.position > 0 {
            self.current =
                (self.current + 1) % usize::try_from(self.files_max).unwrap_or(usize::MAX);
            self.position = 0;
            if self.current == self.open.len() {
                self.add()?;
            }
        }
        let file = &self.open[self.current];
        file.write_all_at(records, self.position)?;
        self.position += records.len() as u64;
        if self.durable {
            file.sync_data()?;
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

/// Check every record that is kept and return how many messages the log has taken in all.
pub(crate) fn count(data: &Path) -> Result<u64> {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(data)? {
        parts.extend(part(&entry?.path())?);
    }
    parts.sort_unstable();
    for pair in parts.windows(2) {
        if pair[0].1 != pair[1].0 {
            return Err(Error::other(format!(
                "messages {} to {} are missing",
                pair[0].1, pair[1].0
            )));
        }
    }
    Ok(parts.last().map_or(0, |part| part.1))
}

/// The messages of one file, from the first and up to the last; behind them may lie what was there before.
fn part(path: &Path) -> Result<Option<(u64, u64)>> {
    let bytes = std::fs::read(path)?;
    let (mut rest, mut found) = (&bytes[..], None);
    while let Some((first, end, length)) = record(rest) {
        let (begin, next) = found.unwrap_or((first, first));
        if first != next {
            break;
        }
        found = Some((begin, end));
        rest = &rest[length..];
    }
    Ok(found)
}

/// Numbers of the first message of the first record and of the one behind its last, and its length; `None` if damaged.
fn record(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let head = bytes.get(..RECORD_BYTES)?;
    let number = |at: usize, bytes: usize| {
        let mut eight = [0; 8];
        eight[..bytes].copy_from_slice(&head[at..at + bytes]);
        u64::from_le_bytes(eight)
    };
    let length = RECORD_BYTES + number(8, 4) as usize;
    let whole = bytes.get(CHECKSUM_BYTES..length)?;
    let good = number(12, 2) > 0 && xxh3_64(whole) == number(0, 8);
    good.then(|| (number(16, 8), number(16, 8) + number(12, 2), length))
}
