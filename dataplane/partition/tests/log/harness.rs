//! A log under test beside a plain list of what was appended to it.

use partition::memory::{Disk, MemorySegment, MemoryStorage, Random, SyncMark};
use partition::{
    AppendError, Appended, CommitTicket, LogId, NewRecord, Partition, PartitionLimits, ReadError,
    Record, RecordKind, Recovery, SenderState, Storage,
};
use wire::ids::{ChannelId, EndpointId, Offset, PartitionId, Sequence, UnixNanos};

pub(crate) const LOG: LogId = LogId::Partition(PartitionId(0x0001_0002));
pub(crate) const NOW: UnixNanos = UnixNanos(1_000);

pub(crate) type MemoryLog = Partition<MemorySegment>;

/// Small segments, so that a test sees many.
pub(crate) fn small() -> PartitionLimits {
    PartitionLimits {
        segment_bytes: 4096,
        record_bytes_max: 512,
        retention_bytes: None,
        retention_age: None,
    }
}

/// One record as it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) first: u64,
    pub(crate) new: NewRecord,
    pub(crate) payload: Vec<u8>,
}

impl Expected {
    pub(crate) fn next(&self) -> u64 {
        self.first + u64::from(self.new.count)
    }

    #[track_caller]
    pub(crate) fn assert_is(&self, record: &Record<'_>, why: &str) {
        let seen = NewRecord {
            kind: record.kind(),
            signature_kind: record.signature_kind(),
            count: record.count(),
            endpoint: record.endpoint(),
            channel: record.channel(),
            sequence: record.sequence(),
            time: record.time(),
        };
        assert_eq!((record.first().0, seen), (self.first, self.new), "{why}");
        assert_eq!(record.payload(), self.payload, "{why}");
    }
}

/// The log, its disk, and the list.
pub(crate) struct Rig {
    pub(crate) disk: Disk,
    pub(crate) storage: MemoryStorage,
    pub(crate) log: MemoryLog,
    pub(crate) limits: PartitionLimits,
    pub(crate) list: Vec<Expected>,
    /// Everything below was reported as durable.
    pub(crate) durable: u64,
    pub(crate) random: Random,
    pub(crate) time: u64,
    in_flight: Option<(CommitTicket, Vec<SyncMark>)>,
}

impl Rig {
    pub(crate) fn new(seed: u64, limits: PartitionLimits) -> Self {
        let disk = Disk::new(seed);
        let mut storage = MemoryStorage::new(&disk);
        let (log, report) =
            Partition::recover(&mut storage, LOG, limits, NOW).expect("an empty disk opens");
        assert_eq!(report, Recovery::default());
        let (list, random) = (Vec::new(), Random::new(!seed));
        Self {
            disk,
            storage,
            log,
            limits,
            list,
            durable: 0,
            random,
            time: NOW.0,
            in_flight: None,
        }
    }

    /// Offset after the last message appended.
    pub(crate) fn end(&self) -> u64 {
        self.list.last().map_or(0, Expected::next)
    }

    /// A record of some sender: the next of a direct one, or any of a relayed one.
    pub(crate) fn draw(&mut self) -> (NewRecord, Vec<u8>) {
        let endpoint = EndpointId(0x1000 + self.random.below(6));
        let last = self.log.sender(endpoint).last.0;
        let sequence = if endpoint.0.is_multiple_of(2) {
            last + 1
        } else {
            last + 1 + self.random.below(5)
        };
        self.time += self.random.below(3);
        let bytes = match self.random.below(8) {
            0 => 0,
            1 => 512,
            _ => self.random.below(160),
        };
        let payload = (0..bytes).map(|_| self.random.next_u64() as u8).collect();
        let new = NewRecord {
            kind: RecordKind::Frame,
            signature_kind: 1 + (endpoint.0 % 2) as u8,
            count: 1 + self.random.below(4) as u16,
            endpoint,
            channel: ChannelId(7),
            sequence: Sequence(sequence),
            time: UnixNanos(self.time),
        };
        (new, payload)
    }

    pub(crate) fn append(&mut self) -> Result<Appended, AppendError> {
        let (new, payload) = self.draw();
        let (head, tail) = payload.split_at(payload.len() / 3);
        let appended = self.log.append(&new, &[head, tail])?;
        let first = self.end();
        assert_eq!(appended.first, Offset(first));
        self.list.push(Expected {
            first,
            new,
            payload,
        });
        Ok(appended)
    }

    pub(crate) fn feed_spare(&mut self) {
        if let Some(bytes) = self.log.request_spare() {
            match self.storage.prepare(LOG, bytes) {
                Ok(spare) => self.log.offer(spare),
                Err(error) => self.log.spare_failed(error),
            }
        }
    }

    #[track_caller]
    pub(crate) fn append_many(&mut self, count: usize) {
        for _ in 0..count {
            self.feed_spare();
            self.append().expect("a spare was fed");
        }
    }

    pub(crate) fn begin_commit(&mut self) {
        if let Some(ticket) = self.log.begin_commit() {
            let marks = ticket
                .segments
                .iter()
                .map(|segment| self.disk.sync_begins(segment).expect("it exists"));
            let marks = marks.collect();
            self.in_flight = Some((ticket, marks));
        }
    }

    pub(crate) fn is_syncing(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(crate) fn finish_commit(&mut self) {
        if let Some((ticket, marks)) = self.in_flight.take() {
            let upto = ticket.upto.0;
            let result = marks
                .into_iter()
                .try_for_each(|mark| self.disk.sync_ends(mark));
            if let Ok(committed) = self.log.finish_commit(ticket, result) {
                assert_eq!(committed.0, upto);
                self.durable = upto;
            }
        }
    }

    #[track_caller]
    pub(crate) fn commit(&mut self) {
        self.finish_commit();
        self.begin_commit();
        self.finish_commit();
        assert_eq!(self.log.committed(), self.log.appended());
    }

    /// Open what another disk holds. The list is cut to what came back, after checking that it is a
    /// prefix with everything durable in it.
    #[track_caller]
    pub(crate) fn reopen(&mut self, disk: Disk, why: &str) -> Recovery {
        self.in_flight = None;
        self.storage = MemoryStorage::new(&disk);
        self.disk = disk;
        let (log, report) = Partition::recover(&mut self.storage, LOG, self.limits, NOW)
            .expect("a disk without faults opens");
        self.log = log;
        let appended = self.log.appended().0;
        let whole = self.end();
        assert!(
            (self.durable..=whole).contains(&appended),
            "{why}: {} <= {appended} <= {whole}",
            self.durable
        );
        self.list.retain(|record| record.next() <= appended);
        assert_eq!(
            self.end(),
            appended,
            "{why}: the end lies between two records"
        );
        assert_eq!(self.log.committed().0, appended, "{why}");
        self.durable = appended;
        self.check_records(why);
        self.check_senders(why);
        report
    }

    /// Every record that is kept reads back, by every offset in it; nothing lies beyond.
    #[track_caller]
    pub(crate) fn check_records(&self, why: &str) {
        let first = self.log.first();
        for record in &self.list {
            for offset in record.first..record.next() {
                match self.log.read(Offset(offset)) {
                    Ok(seen) => record.assert_is(&seen, why),
                    Err(ReadError::Expired { first: seen }) => {
                        assert!(seen == first && offset < first.0, "{why}")
                    }
                    Err(error) => panic!("{why}: {error} at {offset}"),
                }
            }
        }
        assert!(
            matches!(self.log.read(self.log.appended()), Err(ReadError::NotYet)),
            "{why}"
        );
        let kept = self.list.iter().filter(|record| record.first >= first.0);
        let walk = self
            .log
            .records_from(first)
            .map(|record| record.expect("nothing is damaged"));
        assert!(
            walk.map(|record| record.first().0)
                .eq(kept.map(|record| record.first)),
            "{why}"
        );
    }

    #[track_caller]
    pub(crate) fn check_senders(&self, why: &str) {
        for (endpoint, want) in senders(&self.list) {
            assert_eq!(self.log.sender(endpoint), want, "{why}: {endpoint}");
        }
    }
}

/// What the list says of each sender, told by the plain definition of a window.
pub(crate) fn senders(list: &[Expected]) -> Vec<(EndpointId, SenderState)> {
    let of = |endpoint: EndpointId| {
        let sent = || {
            list.iter()
                .filter(|r| r.new.endpoint == endpoint)
                .map(|r| r.new.sequence.0)
        };
        let last = sent().max().unwrap_or(0);
        let window = sent()
            .filter(|s| last - s < 64)
            .fold(0, |window, s| window | 1 << (last - s));
        let sequences: std::collections::BTreeSet<u64> = sent().collect();
        let gaps =
            sequences.range(..=last.saturating_sub(64)).count() as u64 != last.saturating_sub(64);
        (
            endpoint,
            SenderState {
                last: Sequence(last),
                window,
                gaps,
            },
        )
    };
    (0x1000..0x1006).map(EndpointId).map(of).collect()
}

/// How much of something a run does: the environment's word, else `usual`.
pub(crate) fn count_from(name: &str, usual: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
        Err(_) => usual,
    }
}

/// The seed to begin with: `FOREBAY_SEED`, else `usual`.
pub(crate) fn seed_from(usual: u64) -> u64 {
    count_from("FOREBAY_SEED", usual)
}
