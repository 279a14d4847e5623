//! Every call of the storage fails once, and every call from one on: whichever it is, nothing durable is
//! lost, nothing is called durable after a failed sync, readers go on, and a healed disk brings all back.

use partition::memory::{Crash, Disk, Fault, MemoryStorage, Random};
use partition::{AppendError, LogState, Partition, PartitionLimits, ReadError, Storage};
use wire::ids::{Offset, UnixNanos};

use crate::harness::{Expected, LOG, MemoryLog, NOW, Rig, small};

/// A process that appends, commits, rolls, retires and starts again, on a disk that may fail.
struct Run {
    disk: Disk,
    list: Vec<Expected>,
    durable: u64,
    source: Rig,
    random: Random,
    /// Messages made durable after a sync had failed in the same process.
    late: u64,
    starts: u64,
    sealed: u64,
    full: u64,
    /// Space returns near the end.
    returns: bool,
    /// Records taken after that.
    again: u64,
    /// Everything below has been given up by retention.
    expired: u64,
}

impl Run {
    fn new(disk: Disk) -> Self {
        let source = Rig::new(1, small());
        let (list, random) = (Vec::new(), Random::new(5));
        Self {
            disk,
            list,
            durable: 0,
            source,
            random,
            late: 0,
            starts: 0,
            sealed: 0,
            full: 0,
            returns: false,
            again: 0,
            expired: 0,
        }
    }

    fn limits() -> PartitionLimits {
        PartitionLimits {
            retention_bytes: Some(3 * 4096),
            ..small()
        }
    }

    /// Three lives of one data folder; the power fails after the second.
    fn script(&mut self) {
        for life in 0..3 {
            let mut storage = MemoryStorage::new(&self.disk);
            if let Ok((mut log, report)) =
                Partition::recover(&mut storage, LOG, Self::limits(), NOW)
            {
                self.starts += 1;
                assert_eq!(report.sealed.is_some(), log.state() == LogState::Sealed);
                self.check(&log);
                if report.sealed.is_none() {
                    self.take(&log);
                }
                self.live(&mut storage, &mut log);
            }
            if life == 1 {
                self.disk = self
                    .disk
                    .crash_with_faults(Crash::Seeded(self.random.next_u64()));
            }
        }
    }

    /// What recovery has kept is durable.
    fn take(&mut self, log: &MemoryLog) {
        let appended = log.appended().0;
        self.list.retain(|record| record.next() <= appended);
        self.durable = log.committed().0;
    }

    fn live(&mut self, storage: &mut MemoryStorage, log: &mut MemoryLog) {
        for step in 0..60 {
            if self.returns && self.starts == 3 && step == 40 {
                self.disk.heal();
            }
            self.tend(storage, log);
            self.append(log);
            if step % 5 == 4 {
                self.commit(storage, log);
            }
            if step == 30 && log.state() == LogState::Open {
                match log.roll(UnixNanos(5)) {
                    Ok(()) => {}
                    Err(error) => assert_eq!(error, AppendError::Full),
                }
            }
        }
        self.check(log);
    }

    fn tend(&mut self, storage: &mut MemoryStorage, log: &mut MemoryLog) {
        if let Some(bytes) = log.request_spare() {
            match storage.prepare(LOG, bytes) {
                Ok(spare) => log.offer(spare),
                Err(error) => {
                    log.spare_failed(error);
                    assert_ne!(log.state(), LogState::Sealed, "no preparation seals");
                }
            }
        }
        while let Some(old) = log.expire(NOW) {
            self.expired = self.expired.max(log.first().0);
            if let Ok(Some(spare)) = storage.retire(LOG, old) {
                log.offer(spare);
            }
        }
    }

    fn append(&mut self, log: &mut MemoryLog) {
        let (new, payload) = self.source.draw();
        match log.append(&new, &[&payload]) {
            Ok(appended) => {
                let first = appended.first.0;
                self.list.push(Expected {
                    first,
                    new,
                    payload,
                });
                self.again += u64::from(self.full > 0);
            }
            Err(AppendError::Full) => self.full += 1,
            Err(error) => {
                assert_eq!(
                    (error, log.state()),
                    (AppendError::Sealed, LogState::Sealed)
                );
                self.sealed += 1;
            }
        }
    }

    fn commit(&mut self, storage: &mut MemoryStorage, log: &mut MemoryLog) {
        let (was_sealed, before) = (log.state() == LogState::Sealed, log.committed());
        if let Some(ticket) = log.begin_commit() {
            let result = ticket
                .segments
                .iter()
                .try_for_each(|segment| storage.sync(segment));
            let failed = result.is_err();
            match log.finish_commit(ticket, result) {
                Ok(committed) => {
                    assert!(!failed && !was_sealed);
                    self.durable = committed.0;
                }
                Err(_) => {
                    let told = log.failure().map(ToString::to_string).unwrap_or_default();
                    assert!(
                        failed || told.starts_with("write"),
                        "only a failed sync or write seals: {told}"
                    );
                    assert_eq!((log.state(), log.committed()), (LogState::Sealed, before));
                }
            }
        }
        if was_sealed {
            self.late += log.committed().0 - before.0;
        }
    }

    /// Everything that was appended and is kept reads back; so does everything durable.
    fn check(&self, log: &MemoryLog) {
        for want in &self.list {
            match log.read(Offset(want.first)) {
                Ok(record) => want.assert_is(&record, "read"),
                Err(ReadError::Expired { first }) => assert!(want.first < first.0),
                Err(ReadError::NotYet) => {
                    assert!(want.next() > self.durable, "{} is gone", want.first)
                }
                // A segment that could not be given back stands before a hole, once the power has failed.
                Err(ReadError::Damaged { .. }) => {
                    assert!(want.first < self.expired, "{} is damaged", want.first)
                }
            }
        }
    }

    /// The disk is whole again: everything durable is there, whether the power failed or not.
    fn healed(&self) {
        self.disk.heal();
        for crash in [
            Some(Crash::Lost),
            Some(Crash::Kept),
            Some(Crash::Seeded(9)),
            None,
        ] {
            let disk = crash.map_or_else(|| self.disk.clone(), |crash| self.disk.crash(crash));
            let mut storage = MemoryStorage::new(&disk);
            let (mut log, report) =
                Partition::recover(&mut storage, LOG, Self::limits(), NOW).expect("it is healed");
            assert_eq!(log.state(), LogState::Open);
            let kept = report
                .damage
                .iter()
                .filter(|damage| damage.offsets.end.0 > self.expired);
            assert_eq!(kept.count(), 0, "{report:?}");
            assert!(
                log.appended().0 >= self.durable,
                "{} < {}",
                log.appended(),
                self.durable
            );
            self.check(&log);
            let (new, payload) = Rig::new(2, small()).draw();
            let bytes = log.request_spare();
            bytes.into_iter().for_each(|bytes| {
                log.offer(storage.prepare(LOG, bytes).expect("there is room"));
            });
            log.append(&new, &[&payload])
                .expect("it takes records again");
        }
    }
}

#[test]
fn whichever_call_fails_the_log_seals_or_goes_on_and_nothing_durable_is_lost() {
    let mut plain = Run::new(Disk::new(1));
    plain.script();
    plain.healed();
    let (calls, rooms) = plain.disk.calls();
    assert!(plain.starts == 3 && plain.sealed == 0 && plain.full == 0 && plain.durable > 100);
    let (mut runs, mut sealed, mut full) = (0, 0, 0);
    let each = |fault: fn(u64) -> Fault, count: u64| (1..=count).map(fault);
    let faults = each(Fault::Call, calls).chain(each(Fault::Broken, calls));
    let rooms_too = each(Fault::Full, rooms).chain(each(Fault::FullFrom, rooms));
    for fault in faults.chain(rooms_too) {
        let disk = Disk::new(1);
        disk.inject(fault);
        let mut run = Run::new(disk);
        run.returns = matches!(fault, Fault::FullFrom(_));

        run.script();
        assert_eq!(run.late, 0, "{fault:?}: durable behind a failed sync");
        if matches!(fault, Fault::Full(_) | Fault::FullFrom(_)) {
            assert!(
                run.full == 0 || run.again > 0,
                "{fault:?}: it goes on when space returns"
            );
            assert_eq!(run.sealed, 0, "{fault:?}: a full disk seals nothing");
        }
        run.healed();
        runs += 1;
        sealed += u64::from(run.sealed > 0);
        full += u64::from(run.full > 0);
    }
    assert!(sealed > 50 && full > 3, "{sealed} sealed, {full} full");
    println!(
        "{runs} runs: EIO once and for good at each of {calls} storage calls, no room at each of {rooms}, once and until space returns; \
         {sealed} sealed, {full} were full for a while; 0 durable acks after a failed sync, 0 lost; replay: \
         cargo test -p forebay-partition --test log calls:: -- --nocapture"
    );
}
