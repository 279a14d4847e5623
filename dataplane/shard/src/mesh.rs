//! What shards of one node say to each other: the owner of a log tells those that have queues what is committed; they
//! tell it how far they are, so that nothing is taken away that they have not seen or still look at.
//!
//! Nothing piles up here. What is to be said to a shard is worked out only when it has taken all that was said before,
//! and then in one go: a log that moved ten times while the way was blocked has moved once. So a full way delays, and
//! loses nothing. Knows no session and no socket.

use std::collections::VecDeque;

use partition::{Feed, Follower, News, Segment, View};
use wire::ids::{Offset, PartitionId};

use crate::away::{Answered, Batch, take_answers};
use crate::bans::NewBan;
use crate::commit::Committed;
use crate::guest::take_batch;
use crate::io::Output;
use crate::log::{Group, Log};
use crate::ownership::Ownership;
use crate::peers::Peers;
use crate::planted::{Bug, active};

/// Runs that just became committed, told a shard in a turn. Those left out are read back from the log.
const FRESH_MAX: usize = 64;

/// Bytes of frames from other shards that a turn goes on to the next batch below, each item reckoned as in `away.rs`: as fast as the
/// others are, this shard's own connections have their part of each turn.
const CARRIED_BYTES: usize = 256 << 10;

/// One message from a shard to another one of the same node. They must arrive in the order in which they were said.
#[derive(Debug, Clone)]
pub enum Peer<V> {
    /// What happened to a log of the sender's.
    News {
        /// Which log.
        partition: PartitionId,
        /// What happened.
        news: News<V>,
    },
    /// All that was in a log at the start has been told.
    Whole {
        /// Which log.
        partition: PartitionId,
    },
    /// What just became committed in a log of the sender's, and was told of before: who hears it now needs not read it.
    Fresh(Committed),
    /// Frames for logs of the receiver's that came to the sender.
    Carried(Box<Batch>),
    /// What became of frames that came to the receiver, for logs of the sender's.
    Answers(Vec<Answered>),
    /// Somebody is kept out from now on.
    Banned(NewBan),
    /// How far the sender's queues are with a log of the receiver's.
    Read {
        /// Which log.
        partition: PartitionId,
        /// Everything below has gone to all of the sender's queue groups.
        watermark: Offset,
        /// Nothing below is looked at any more: its bytes may be written over.
        first: Offset,
    },
}

/// A log of another shard.
pub(crate) struct Followed<V> {
    pub(crate) partition: PartitionId,
    pub(crate) follower: Follower<V>,
    /// Its owner has told of all that was in it at the start.
    pub(crate) whole: bool,
    /// What just became committed, as long as this turn lasts.
    pub(crate) fresh: Vec<Committed>,
    owner: u16,
    /// Where the segment that was opened last begins: to pass it lets its owner take away those before.
    boundary: Offset,
    /// What its owner was told last.
    said: (Offset, Offset),
}

/// What one reader of one log was told, and has told.
struct Reading {
    shard: u16,
    feed: Feed,
    whole: bool,
    watermark: Offset,
    first: Offset,
}

/// A log of this shard and its readers.
struct Published<S> {
    readings: Vec<Reading>,
    /// Segments that retention took and readers may still look at, each with the first offset behind it.
    leaving: VecDeque<(Offset, S)>,
}

/// One shard's side of all that is said between shards. Empty on a node of one shard.
pub(crate) struct Mesh<S: Segment> {
    /// By rising partition.
    followed: Vec<Followed<S::View>>,
    /// In the order of the shard's logs.
    published: Vec<Published<S>>,
    /// Batches that wait for a turn, by the shard that they came from. What a shard sent and has no answer to has a bound, so these have.
    carried: Vec<VecDeque<Box<Batch>>>,
    /// The shard whose batch is taken next.
    next: usize,
    shards: u16,
    shard: u16,
    /// Which shards take something now.
    open: Vec<bool>,
    news: Vec<News<S::View>>,
}

/// What a batch of messages came to.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Heard {
    /// A log can be read as far as queues may point: those that waited for it look again.
    pub(crate) whole: bool,
}

impl<S: Segment> Mesh<S> {
    /// For the shard that owns `logs`; `reads` says whether it has queue groups.
    pub(crate) fn new(ownership: &Ownership, shard: u16, logs: &[Log<S>], reads: bool) -> Self {
        let alone = ownership.shards() == 1;
        let mut mesh = Self {
            followed: Vec::new(),
            published: Vec::new(),
            carried: (0..ownership.shards()).map(|_| VecDeque::new()).collect(),
            next: 0,
            shards: ownership.shards(),
            shard,
            open: vec![false; if alone { 0 } else { ownership.shards().into() }],
            news: Vec::new(),
        };
        if reads {
            mesh.follow(ownership);
        }
        mesh.publish(ownership, logs);
        mesh
    }

    /// Listen to what other shards will tell of their logs that are not listened to yet.
    pub(crate) fn follow(&mut self, ownership: &Ownership) {
        let others = ownership.partitions();
        for (partition, owner) in others.filter(|(_, owner)| *owner != self.shard) {
            let known = (self.followed).binary_search_by_key(&partition, |log| log.partition);
            let Err(at) = known else { continue };
            let followed = Followed {
                partition,
                follower: Follower::default(),
                whole: false,
                fresh: Vec::new(),
                owner,
                boundary: Offset(0),
                said: (Offset(0), Offset(0)),
            };
            self.followed.insert(at, followed);
        }
    }

    /// Tell the other shards of those of this shard's logs that they have not been told of. All of them listen already.
    pub(crate) fn publish(&mut self, ownership: &Ownership, logs: &[Log<S>]) {
        if self.shards == 1 {
            return;
        }
        let reading = |shard: u16| Reading {
            shard,
            feed: Feed::default(),
            whole: false,
            watermark: Offset(0),
            first: Offset(0),
        };
        for _ in self.published.len()..logs.len() {
            let others = (0..self.shards).filter(|&other| other != self.shard);
            let readers = others.filter(|&other| ownership.reads(other));
            self.published.push(Published {
                readings: readers.map(reading).collect(),
                leaving: VecDeque::new(),
            });
        }
    }

    /// The logs of other shards, by rising partition.
    pub(crate) fn followed(&self) -> &[Followed<S::View>] {
        &self.followed
    }

    /// Whether something that other shards sent waits for a turn.
    pub(crate) fn is_holding(&self) -> bool {
        self.carried.iter().any(|batches| !batches.is_empty())
    }

    /// Do what other shards carried here, a batch of each in turn, as much as fits into a turn of this shard's.
    pub(crate) fn take_carried(&mut self, logs: &mut [Log<S>], peers: &mut Peers) {
        let (shards, mut bytes) = (self.carried.len(), 0);
        while bytes < CARRIED_BYTES {
            let mut turns = (0..shards).map(|at| (self.next + at) % shards);
            let Some(from) = turns.find(|from| !self.carried[*from].is_empty()) else {
                return;
            };
            self.next = from + 1;
            if let Some(batch) = self.carried[from].pop_front() {
                bytes += batch.room();
                take_batch(peers, logs, from as u16, &batch);
            }
        }
    }

    /// Take in what other shards say.
    pub(crate) fn hear(
        &mut self,
        logs: &mut [Log<S>],
        said: &mut Vec<(u16, Peer<S::View>)>,
        peers: &mut Peers,
    ) -> Heard {
        let mut heard = Heard::default();
        for (from, message) in said.drain(..) {
            peers.counters.mesh.received += 1;
            match message {
                Peer::News { partition, news } => {
                    if let Some(log) = self.followed_mut(from, partition) {
                        log.hear(news);
                    }
                }
                Peer::Whole { partition } => {
                    if let Some(log) = self.followed_mut(from, partition) {
                        log.whole = true;
                        heard.whole = true;
                    }
                }
                Peer::Fresh(records) => {
                    if let Some(log) = self.followed_mut(from, records.partition()) {
                        log.fresh.push(records);
                    }
                }
                Peer::Carried(batch) => self.carried[usize::from(from)].push_back(batch),
                Peer::Answers(answers) => take_answers(peers, from, &answers),
                Peer::Banned(new) => peers.hear_ban(&new),
                Peer::Read {
                    partition,
                    watermark,
                    first,
                } => self.take_mark(logs, from, partition, (watermark, first)),
            }
        }
        heard
    }

    fn followed_mut(&mut self, from: u16, id: PartitionId) -> Option<&mut Followed<S::View>> {
        let at = self.followed.binary_search_by_key(&id, |log| log.partition);
        let log = &mut self.followed[at.ok()?];
        assert_eq!(log.owner, from, "who tells of {id}");
        Some(log)
    }

    fn take_mark(
        &mut self,
        logs: &mut [Log<S>],
        from: u16,
        id: PartitionId,
        (watermark, first): (Offset, Offset),
    ) {
        let Some(at) = logs.iter().position(|log| log.id == id) else {
            return;
        };
        let Some(published) = self.published.get_mut(at) else {
            return;
        };
        let mut readings = published.readings.iter_mut();
        if let Some(reading) = readings.find(|reading| reading.shard == from) {
            reading.watermark = reading.watermark.max(watermark);
            reading.first = reading.first.max(first);
        }
        // What waits for this may go now.
        logs[at].rolled |= !published.leaving.is_empty();
    }

    /// Up to where retention may take the log at this place: what this shard's own queues allow, and all others'. One
    /// that has not said anything keeps everything.
    pub(crate) fn hold(&self, at: usize, own: Option<Offset>) -> Option<Offset> {
        let Some(published) = self.published.get(at) else {
            return own;
        };
        let forgotten = usize::from(active(Bug::HoldForgetsPeer));
        let others = published.readings.iter().skip(forgotten);
        let others = others.map(|reading| reading.watermark);
        own.into_iter().chain(others).min()
    }

    /// Whether retention may take another segment of the log at this place.
    pub(crate) fn lets_go(&self, at: usize, leaving_max: usize) -> bool {
        let published = self.published.get(at);
        published.is_none_or(|published| published.leaving.len() < leaving_max)
    }

    /// Retention took a segment of the log at this place, which begins at `first` now. Returns it, or an earlier one,
    /// when nobody looks at it any more.
    pub(crate) fn leave(&mut self, at: usize, first: Offset, segment: S) -> Option<S> {
        let Some(published) = self.published.get_mut(at) else {
            return Some(segment);
        };
        published.leaving.push_back((first, segment));
        self.left(at)
    }

    /// A segment that all readers of the log at this place have let go of.
    pub(crate) fn left(&mut self, at: usize) -> Option<S> {
        let published = self.published.get_mut(at)?;
        let firsts = published.readings.iter().map(|reading| reading.first);
        let past = firsts.min().filter(|_| !active(Bug::RetireUnderReaders));
        let gone = |(first, _): &mut (Offset, S)| past.is_none_or(|past| *first <= past);
        published
            .leaving
            .pop_front_if(gone)
            .map(|(_, segment)| segment)
    }

    /// Forget what was new in this turn.
    pub(crate) fn forget_fresh(&mut self) {
        for log in &mut self.followed {
            log.fresh.clear();
        }
    }

    /// Say what there is to say, to every shard that has taken all that was said before. Returns whether one has not,
    /// so that this is to be called again soon.
    pub(crate) fn say(
        &mut self,
        logs: &[Log<S>],
        groups: &[Group<S>],
        committed: &[Committed],
        in_time: bool,
        (peers, output): (&mut Peers, &mut Output<S>),
    ) -> bool {
        if self.shards == 1 {
            return false;
        }
        let out = &mut output.mesh;
        out.resize_with(usize::from(self.shards), VecDeque::new);
        for (open, said) in self.open.iter_mut().zip(out.iter()) {
            *open = said.is_empty();
        }
        let mut blocked = false;
        for (log, published) in logs.iter().zip(&mut self.published) {
            for reading in &mut published.readings {
                let to = usize::from(reading.shard);
                if self.open[to] {
                    reading.tell(log, &mut self.news, &mut out[to]);
                } else {
                    blocked = true;
                    if active(Bug::NewsLostWhenFull) {
                        reading.tell(log, &mut self.news, &mut VecDeque::new());
                    }
                }
            }
        }
        let readers = self.published.first().map(|published| &published.readings);
        for reading in readers.into_iter().flatten() {
            let to = usize::from(reading.shard);
            if self.open[to] {
                let fresh = committed.iter().take(FRESH_MAX);
                out[to].extend(fresh.map(|records| Peer::Fresh(*records)));
            }
        }
        for log in &mut self.followed {
            let to = usize::from(log.owner);
            if let Some((watermark, first)) = log.due(groups, in_time) {
                blocked |= !self.open[to];
                if self.open[to] {
                    let partition = log.partition;
                    log.said = (watermark, first);
                    out[to].push_back(Peer::Read {
                        partition,
                        watermark,
                        first,
                    });
                }
            }
        }
        for (to, away) in peers.away.iter_mut().enumerate() {
            blocked |= !(self.open[to] || away.is_empty() && away.bans.is_empty());
            if !self.open[to] {
                continue;
            }
            if let Some(batch) = away.unload() {
                out[to].push_back(Peer::Carried(Box::new(batch)));
            }
            if !away.answers.is_empty() {
                out[to].push_back(Peer::Answers(std::mem::take(&mut away.answers)));
            }
            out[to].extend(away.bans.drain(..).map(Peer::Banned));
        }
        let counters = &mut peers.counters.mesh;
        let said = out.iter().zip(&self.open).filter(|(_, open)| **open);
        counters.sent += said.map(|(said, _)| said.len() as u64).sum::<u64>();
        counters.blocked += u64::from(blocked);
        debug_assert!(out[usize::from(self.shard)].is_empty(), "said to itself");
        blocked
    }
}

impl Reading {
    /// Tell what happened to the log since the last time.
    fn tell<S: Segment>(
        &mut self,
        log: &Log<S>,
        news: &mut Vec<News<S::View>>,
        out: &mut VecDeque<Peer<S::View>>,
    ) {
        let partition = log.id;
        // Of a segment that cannot be viewed now, and all behind it, is told later.
        let all = self.feed.news(&log.partition, news).is_ok();
        let news = news.drain(..);
        out.extend(news.map(|news| Peer::News { partition, news }));
        if all && !self.whole {
            self.whole = true;
            out.push_back(Peer::Whole { partition });
        }
    }
}

impl<V: View> Followed<V> {
    fn hear(&mut self, news: News<V>) {
        if let News::Opened { base, .. } = &news {
            self.boundary = *base;
        }
        self.follower.hear(news);
    }

    /// The watermark and the first offset that the owner is to be told now, if they matter to it: a segment was passed or
    /// let go of, or it is time to say how far things are.
    fn due<S: Segment>(&self, groups: &[Group<S>], in_time: bool) -> Option<(Offset, Offset)> {
        let marks = groups
            .iter()
            .map(|group| group.queues.watermark(self.partition));
        let (watermark, first) = (marks.min()?, self.follower.first());
        let (said, said_first) = self.said;
        let passed = said < self.boundary && self.boundary <= watermark;
        let due = first != said_first || passed || (in_time && watermark != said);
        due.then_some((watermark, first))
    }
}

#[cfg(test)]
mod tests {
    use partition::memory::MemorySegment;

    use super::*;

    #[test]
    fn batches_of_all_shards_are_taken_in_turn_and_in_the_order_of_each() {
        let table = crate::empty::table();
        let mut mesh: Mesh<MemorySegment> = Mesh::new(&Ownership::new(&table, 4), 0, &[], false);
        let mut peers = crate::empty::peers(4);
        for batches in &mut mesh.carried[1..] {
            let batch = |at: usize| {
                Box::new(Batch {
                    bytes: vec![0; (100 << 10) + at],
                    items: Vec::new(),
                })
            };
            batches.extend((0..20).map(batch));
        }
        let mut left = 60;
        while mesh.is_holding() {
            mesh.take_carried(&mut [], &mut peers);
            let lengths = mesh.carried[1..].iter().map(VecDeque::len);
            let (least, most) = (lengths.clone().min(), lengths.clone().max());
            assert!(most <= least.map(|least| least + 1), "one is left behind");
            let before = std::mem::replace(&mut left, lengths.sum::<usize>());
            assert_eq!(before - left, 3, "256 KiB and what ends it");
            let firsts = mesh.carried[1..]
                .iter()
                .filter_map(|all| all.front().map(|one| (one, all.len())));
            for (first, length) in firsts {
                assert_eq!(first.bytes.len(), (100 << 10) + 20 - length, "in order");
            }
        }
    }
}
