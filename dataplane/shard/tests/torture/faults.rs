//! A storage call of a scripted run fails, the first, the second, to the last: a failed sync seals its own log and no
//! other, a full disk refuses by name and is forgiven when there is room again, and deliveries go on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use partition::memory::{Disk, Fault};
use partition::{LogId, LogState};
use wire::delivery::{Outcome, Source};
use wire::ids::*;
use wire::reason::Reason;

use crate::history::{RECEIVERS, SENDERS, setup};
use crate::support::*;

/// Frames that each sender sends; long enough bodies to go through several segments.
const FRAMES: u64 = 24;
const BODY_BYTES: usize = 3_000;
const TURNS: usize = 400;

/// One sender: go-back-N over frames whose content follows from their number.
struct Line {
    client: Client,
    next: u64,
    acked: u64,
    sealed: Option<PartitionId>,
    refused: BTreeSet<u16>,
}

/// A run of the script on one disk.
struct Run {
    world: World,
    lines: Vec<Line>,
    receiver: Client,
    /// Messages that the first receiver got: sender and number.
    got: BTreeSet<(u64, u64)>,
    /// For each log, after which turn its sync had failed.
    failed: BTreeMap<LogId, usize>,
}

impl Run {
    fn new(fault: Option<Fault>) -> Self {
        let disk = Disk::new(5);
        let mut world = World::on(disk, setup());
        let connect = |(at, name): (usize, &&str)| Line {
            client: Client::connect(&mut world, name, 10 + at as u8),
            next: 1,
            acked: 0,
            sealed: None,
            refused: BTreeSet::new(),
        };
        let lines = SENDERS.iter().enumerate().map(connect).collect();
        let mut receiver = Client::connect(&mut world, RECEIVERS[0], 20);
        let fetch = receiver.fetch(Source::Queue, 1_000, 1 << 22);
        receiver.exchange(&mut world, &fetch);
        world.disk.heal();
        if let Some(fault) = fault {
            world.disk.inject(fault);
        }
        Self {
            world,
            lines,
            receiver,
            got: BTreeSet::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Until everybody has all acked or is told that its log is sealed.
    fn run_to_the_end(&mut self, why: &str) {
        for turn in 0..TURNS {
            self.world.pass(Duration::from_millis(30));
            for at in 0..self.lines.len() {
                self.send(at);
            }
            self.world.turn();
            for at in 0..self.lines.len() {
                self.hear(at, turn, why);
            }
            self.deliver();
            for log in &self.world.failed_syncs {
                self.failed.entry(*log).or_insert(turn);
            }
            self.check_sealed(turn, why);
        }
        self.world.settle();
        self.deliver();
    }

    fn send(&mut self, at: usize) {
        let line = &mut self.lines[at];
        if line.next > FRAMES || line.next > line.acked + 4 || line.sealed.is_some() {
            return;
        }
        let body = content(at as u64, line.next);
        let client = &mut line.client;
        let frame = client.send_as(client.endpoint, CHANNEL, line.next, &[&body]);
        line.next += 1;
        self.world.receive(line.client.connection, &frame);
    }

    fn hear(&mut self, at: usize, turn: usize, why: &str) {
        let line = &mut self.lines[at];
        for said in line.client.read(&mut self.world) {
            match said {
                Said::Ack(ack) => {
                    let failed = self.failed.get(&LogId::Partition(ack.partition));
                    // The turn that learns of the failure may still tell what was durable before.
                    assert!(
                        failed.is_none_or(|failed| turn <= failed + 1),
                        "{why}: acked in turn {turn}, the sync failed in {failed:?}"
                    );
                    line.acked = line.acked.max(ack.sequence.0);
                }
                Said::Reject(reject) => {
                    let reason = reject.notice.reason;
                    line.refused.insert(reason.code());
                    match reason {
                        Reason::PartitionSealed => line.sealed = Some(reject.partition),
                        Reason::StorageFull | Reason::Busy => line.next = reject.sequence.0,
                        other => panic!("{why}: {} was told {other:?}", SENDERS[at]),
                    }
                }
                other => panic!("{why}: {} was told {other:?}", SENDERS[at]),
            }
        }
    }

    fn deliver(&mut self) {
        for said in self.receiver.read(&mut self.world) {
            let Said::Deliver(source, messages) = said else {
                panic!("{said:?}")
            };
            for message in &messages {
                let words: Vec<u64> = message.body[..16]
                    .chunks(8)
                    .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
                    .collect();
                assert_eq!(message.body, content(words[0], words[1]));
                self.got.insert((words[0], words[1]));
            }
            let last = messages.last().unwrap().number;
            let settle = self.receiver.settle(source, Outcome::AcceptUpTo, last);
            self.world.receive(self.receiver.connection, &settle);
        }
    }

    /// A failed sync seals its log within one turn, and only that.
    fn check_sealed(&self, turn: usize, why: &str) {
        let partitions = self.world.shard.partitions();
        let journals = self.world.shard.queue_groups().map(|group| group.log());
        for log in partitions.chain(journals) {
            let sealed = log.state() == LogState::Sealed;
            match self.failed.get(&log.log()) {
                Some(failed) => assert!(
                    sealed || turn <= *failed,
                    "{why}: {} failed in turn {failed} and takes more in {turn}",
                    log.log()
                ),
                None => assert!(
                    !sealed,
                    "{why}: {} is sealed for another's fault",
                    log.log()
                ),
            }
        }
    }
}

fn content(sender: u64, number: u64) -> Vec<u8> {
    let mut body = [sender.to_le_bytes(), number.to_le_bytes()].concat();
    body.resize(BODY_BYTES, (sender ^ number) as u8);
    body
}

#[test]
fn a_failed_sync_seals_its_own_log_within_a_turn_whichever_it_is() {
    let (mut partitions, mut journals) = (0, 0);
    let mut last = 0;
    for call in 1.. {
        let why = format!("sync {call} fails");
        let mut run = Run::new(Some(Fault::Sync(call)));
        run.run_to_the_end(&why);
        if run.failed.is_empty() {
            break;
        }
        last = call;
        let journal_sealed = run.failed.contains_key(&LogId::queue(0));
        journals += u64::from(journal_sealed);
        for (at, line) in run.lines.iter().enumerate() {
            if let Some(partition) = line.sealed {
                let failed = run.failed.contains_key(&LogId::Partition(partition));
                assert!(failed, "{why}: {} met a log that is well", SENDERS[at]);
                partitions += 1;
            } else {
                assert_eq!(line.acked, FRAMES, "{why}: {} goes on", SENDERS[at]);
            }
            let delivered =
                (1..=line.acked).filter(|number| run.got.contains(&(at as u64, *number)));
            let all = delivered.count() as u64 == line.acked;
            assert!(all || journal_sealed, "{why}: acked and not delivered");
        }
        // After a restart everything acked is there, whatever was sealed.
        run.world.disk.heal();
        let after = World::on(
            run.world.disk.crash(partition::memory::Crash::Lost),
            setup(),
        );
        let mut again = Run {
            receiver: Client::new(&mut World::on(Disk::new(1), setup()), "x", b"x"),
            world: after,
            lines: Vec::new(),
            got: run.got.clone(),
            failed: BTreeMap::new(),
        };
        again.receiver = Client::connect(&mut again.world, RECEIVERS[0], 20);
        let fetch = again.receiver.fetch(Source::Queue, 1_000, 1 << 22);
        again.world.receive(again.receiver.connection, &fetch);
        again.world.settle();
        again.deliver();
        for (at, line) in run.lines.iter().enumerate() {
            for number in 1..=line.acked {
                assert!(
                    again.got.contains(&(at as u64, number)),
                    "{why}: {} {number} was acked and is gone after a restart",
                    SENDERS[at]
                );
            }
        }
    }
    eprintln!(
        "each of {last} syncs failed once: {partitions} senders sealed off, {journals} journals sealed"
    );
    assert!(partitions > 5 && journals > 5, "{partitions} {journals}");
}

#[test]
fn a_full_disk_or_a_failed_preparation_refuses_by_name_and_is_forgiven() {
    let mut refused: BTreeSet<u16> = BTreeSet::new();
    for fault in [Fault::PrepareFull as fn(u64) -> Fault, Fault::Prepare] {
        let mut last = 0;
        for call in 1.. {
            let why = format!("{:?}", fault(call));
            let mut run = Run::new(Some(fault(call)));
            run.run_to_the_end(&why);
            for (at, line) in run.lines.iter().enumerate() {
                assert_eq!(line.acked, FRAMES, "{why}: {}", SENDERS[at]);
                refused.extend(&line.refused);
            }
            assert_eq!(run.got.len() as u64, FRAMES * SENDERS.len() as u64, "{why}");
            if run.world.failed_prepares == 0 {
                break;
            }
            last = call;
        }
        eprintln!("{:?}: each of {last} preparations failed once", fault(0));
        assert!(last > 3, "too tame: {last} preparations");
    }
}

#[test]
fn a_disk_that_stays_full_refuses_by_name_delivers_and_recovers_when_there_is_room() {
    let mut full = 0;
    for spare_bytes in (0..200_000).step_by(20_000) {
        let why = format!("{spare_bytes} bytes of room");
        let mut run = Run::new(None);
        let room = run.world.disk.bytes() + spare_bytes;
        run.world.disk.set_capacity(Some(room));
        run.run_to_the_end(&why);
        let told = run.lines.iter().flat_map(|line| &line.refused);
        full += told
            .filter(|code| **code == Reason::StorageFull.code())
            .count();
        for (at, line) in run.lines.iter().enumerate() {
            let got = (1..=line.acked).filter(|number| run.got.contains(&(at as u64, *number)));
            let journal_full = run
                .world
                .shard
                .queue_groups()
                .any(|group| group.waiting() > 0);
            assert!(
                got.count() as u64 == line.acked || journal_full,
                "{why}: {} acked, not all delivered",
                line.acked
            );
        }
        run.world.disk.set_capacity(None);
        run.run_to_the_end(&why);
        for (at, line) in run.lines.iter().enumerate() {
            assert_eq!(line.acked, FRAMES, "{why}: {} with room again", SENDERS[at]);
        }
        assert_eq!(run.got.len() as u64, FRAMES * SENDERS.len() as u64, "{why}");
    }
    eprintln!("{full} senders were told storage_full");
    assert!(full > 0, "the disk was never full");
}
