//! Readers that do not own the log: they see what its owner sees, no later than they are told and no earlier.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{channel, sync_channel};

use partition::memory::MemoryView;
use partition::{
    Feed, Follower, MappedStorage, MappedView, News, Partition, PartitionLimits, ReadError, Storage,
};
use wire::ids::{Offset, UnixNanos};

use crate::harness::{Expected, LOG, NOW, Rig, small};

/// A reader, and the news that are on their way to it.
#[derive(Default)]
struct Reader {
    feed: Feed,
    follower: Follower<MemoryView>,
    way: VecDeque<News<MemoryView>>,
    /// What the owner had committed and kept when the reader heard last.
    told: (u64, u64),
}

impl Reader {
    fn tell(&mut self, rig: &Rig) {
        let mut news = Vec::new();
        let told = self.feed.news(&rig.log, &mut news);
        told.expect("a segment in memory can be viewed");
        self.way.extend(news);
        self.told = (rig.log.first().0, rig.log.committed().0);
    }

    /// Hear all that is on its way, then see what the list says and nothing else.
    fn hear(&mut self, list: &[Expected], why: &str) -> usize {
        for news in self.way.drain(..) {
            self.follower.hear(news);
        }
        let (first, committed) = self.told;
        let seen = (self.follower.first().0, self.follower.committed().0);
        assert_eq!(seen, (first, committed), "{why}");
        let mut read = 0;
        for record in list.iter().rev().take(40) {
            for offset in record.first..record.next() {
                match self.follower.read(Offset(offset)) {
                    Ok(seen) => record.assert_is(&seen, why),
                    Err(ReadError::NotYet) => assert!(offset >= committed, "{why}: {offset}"),
                    Err(ReadError::Expired { first: seen }) => {
                        assert!(seen.0 == first && offset < first, "{why}: {offset}");
                    }
                    Err(error) => panic!("{why}: {error} at {offset}"),
                }
                read += usize::from((first..committed).contains(&offset));
            }
        }
        read
    }
}

#[test]
fn a_follower_reads_what_is_committed_and_kept_and_nothing_else() {
    let limits = PartitionLimits {
        retention_bytes: Some(24 << 10),
        ..small()
    };
    let (mut read, mut expired) = (0, 0);
    for seed in 0..30 {
        let why = format!("seed {seed}");
        let mut rig = Rig::new(seed, limits);
        let mut reader = Reader::default();
        for _ in 0..150 {
            let local = seed % 2 == 0;
            match rig.random.below(8) {
                0 if local => drop(rig.log.commit_local()),
                1 if local => rig.commit(),
                0 => rig.begin_commit(),
                1 => rig.finish_commit(),
                2 => {
                    while let Some(segment) = rig.log.expire(UnixNanos(rig.time)) {
                        // Its owner may write over it only now.
                        reader.tell(&rig);
                        reader.hear(&rig.list, &why);
                        let back = rig.storage.retire(LOG, segment).expect("the disk works");
                        back.into_iter().for_each(|spare| rig.log.offer(spare));
                        expired += 1;
                    }
                }
                3 | 4 => reader.tell(&rig),
                5 => read += reader.hear(&rig.list, &why),
                _ => rig.append_many(7),
            }
        }
        // A reader that begins now is told of everything that is there.
        rig.commit();
        reader.tell(&rig);
        read += reader.hear(&rig.list, &why);
        let mut late = Reader::default();
        late.tell(&rig);
        assert!(late.hear(&rig.list, &why) > 0, "{why}");
    }
    assert!(
        read > 20_000 && expired > 200,
        "{read} read, {expired} expired"
    );
}

#[test]
fn a_follower_is_told_of_what_was_recovered_and_where_it_is_damaged() {
    let mut rig = Rig::new(3, small());
    rig.append_many(100);
    rig.commit();
    let (damaged, at) = {
        let record = &rig.list[50];
        let seen = rig.log.read(Offset(record.first)).expect("it is there");
        (record.first, (seen.segment(), seen.position()))
    };
    let disk = rig.disk.clone();
    rig.reopen(disk, "after a restart");
    let mut reader = Reader::default();
    reader.tell(&rig);
    assert!(reader.hear(&rig.list, "recovered") > 20);
    let segment = partition::SegmentRef { log: LOG, id: at.0 };
    rig.disk
        .damage(segment, |bytes| bytes[at.1.0 as usize + 60] ^= 1);
    let mut late = Reader::default();
    late.tell(&rig);
    late.way.drain(..).for_each(|news| late.follower.hear(news));
    let next = rig.list[51].first;
    let told = late.follower.read(Offset(damaged));
    assert!(
        matches!(told, Err(ReadError::Damaged { next: seen }) if seen.0 == next),
        "{told:?}"
    );
    let after = late
        .follower
        .read(Offset(next))
        .expect("what comes behind is intact");
    rig.list[51].assert_is(&after, "behind the damage");
}

#[test]
fn damage_at_the_end_of_what_is_committed_hides_nothing_that_comes_later() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut storage = MappedStorage::new(folder.path());
    let opened = Partition::recover(&mut storage, LOG, small(), NOW);
    let (mut log, _) = opened.expect("a temporary folder works");
    let (mut source, mut feed, mut news) = (Rig::new(1, small()), Feed::default(), Vec::new());
    let mut follower = Follower::default();
    let mut list = Vec::new();
    let mut append = |log: &mut Partition<_>| {
        let (new, payload) = source.draw();
        let appended = log.append(&new, &[&payload]).expect("a spare was fed");
        list.push(Expected {
            first: appended.first.0,
            new,
            payload,
        });
        appended
    };
    append(&mut log);
    let last = append(&mut log);
    log.commit_local();
    append(&mut log);
    feed.news(&log, &mut news).expect("a segment can be viewed");
    news.drain(..).for_each(|each| follower.hear(each));
    let file = format!("{}/{}.seg", LOG, last.end.segment);
    let file = std::fs::File::options()
        .write(true)
        .open(folder.path().join(file));
    let at = u64::from(last.end.position.0) - 70;
    let written = file
        .expect("the segment is there")
        .write_all_at(&[0xA5; 70], at);
    written.expect("the folder works");
    let told = follower.read(last.first);
    assert!(
        matches!(told, Err(ReadError::Damaged { next }) if next == last.end.next),
        "{told:?}"
    );
    append(&mut log);
    log.commit_local();
    feed.news(&log, &mut news).expect("a segment can be viewed");
    news.drain(..).for_each(|each| follower.hear(each));
    for record in &list[2..] {
        let seen = follower.read(Offset(record.first));
        record.assert_is(
            &seen.expect("only one record is damaged"),
            "behind the damage",
        );
    }
}

/// The order of publication over real files and real threads: every byte is there when the news of it are, and
/// nothing that a reader still holds is written over.
#[test]
fn a_follower_on_another_thread_sees_every_record_whole_while_segments_are_written_over() {
    const RECORDS: usize = 20_000;
    let limits = PartitionLimits {
        segment_bytes: 64 << 10,
        record_bytes_max: 512,
        retention_bytes: Some(128 << 10),
        retention_age: None,
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (tell, told) = sync_channel::<(News<MappedView>, Option<Expected>)>(4096);
    let (let_go, gone) = channel::<Offset>();
    let reader = std::thread::spawn(move || {
        let mut follower = Follower::default();
        let (mut waiting, mut read) = (VecDeque::new(), 0);
        while let Ok((news, record)) = told.recv() {
            follower.hear(news);
            let_go.send(follower.first()).unwrap_or_default();
            waiting.extend(record);
            while let Some(next) =
                waiting.pop_front_if(|next: &mut Expected| next.next() <= follower.committed().0)
            {
                match follower.read(Offset(next.first)) {
                    Ok(seen) => {
                        next.assert_is(&seen, "another thread");
                        read += 1;
                    }
                    Err(ReadError::Expired { first }) => assert!(next.first < first.0),
                    Err(error) => panic!("{error} at {}", next.first),
                }
            }
        }
        read
    });
    let mut storage = MappedStorage::new(folder.path());
    let (mut log, _) =
        Partition::recover(&mut storage, LOG, limits, NOW).expect("a temporary folder works");
    let (mut source, mut feed, mut news) = (Rig::new(1, small()), Feed::default(), Vec::new());
    let (mut retiring, mut recycled) = (VecDeque::new(), 0);
    for _ in 0..RECORDS {
        let (new, payload) = source.draw();
        let first = loop {
            while let Some(bytes) = log.request_spare() {
                log.offer(storage.prepare(LOG, bytes).expect("there is room"));
            }
            if let Ok(appended) = log.append(&new, &[&payload]) {
                break appended.first.0;
            }
            // What is to be written over is still being read.
            let heard = gone.recv().expect("the reader listens");
            let released = gone.try_iter().last().unwrap_or(heard);
            while let Some((_, segment)) = retiring.pop_front_if(|(first, _)| *first <= released) {
                let back = storage.retire(LOG, segment).expect("the folder works");
                back.into_iter().for_each(|spare| log.offer(spare));
                recycled += 1;
            }
        };
        let mut record = Some(Expected {
            first,
            new,
            payload,
        });
        log.commit_local();
        if let Some(ticket) = log.begin_commit() {
            log.finish_commit(ticket, Ok(())).expect("not sealed");
        }
        while let Some(segment) = log.expire(NOW) {
            retiring.push_back((log.first(), segment));
        }
        feed.news(&log, &mut news).expect("a segment can be viewed");
        for each in news.drain(..) {
            tell.send((each, record.take()))
                .expect("the reader listens");
        }
    }
    drop(tell);
    let read = reader.join().expect("the reader saw nothing wrong");
    assert!(
        read > RECORDS / 2 && recycled > 10,
        "{read} read, {recycled} written over"
    );
}
