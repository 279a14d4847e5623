//! The hand-over of new hubs to shards, and hubs that wait for their logs, without any shard.

use std::path::Path;

use wire::ids::AckMode;
use wire::route::TableParts;

use super::*;
use crate::config::LogFormat;
use crate::log::tests::Page;

fn table(epoch: u64, hubs: &[(u16, u16)]) -> RouteTable {
    let hub = |&(id, partitions): &(u16, u16)| Hub {
        id,
        name: format!("hub-{id}").into(),
        partitions,
        ack: AckMode::Durable,
        segment_bytes: 2 << 20,
        retention_bytes: None,
        retention_age: None,
    };
    let parts = TableParts {
        epoch,
        queue_groups: 1,
        hubs: hubs.iter().map(hub).collect(),
        ..TableParts::default()
    };
    RouteTable::build(parts).expect("the hubs fit together")
}

/// Hubs of two shards in `data`, and what they say in the log.
fn hubs(data: &Path, table: &RouteTable) -> (Hubs, Page) {
    let page = Page::default();
    let log = Arc::new(Log::new(LogFormat::Text, Box::new(page.clone())));
    let status = Arc::new(Status::new(2));
    let data = data.to_owned();
    let hubs = Hubs::new(data, (table, Vec::new()), (2, 0), status, log);
    (hubs, page)
}

#[test]
fn what_a_shard_had_no_room_for_is_given_to_it_the_next_time() {
    let data = tempfile::tempdir().expect("a folder");
    let (hubs, _) = hubs(data.path(), &table(1, &[]));
    let new = table(2, &[(7, 3)]);
    let mut given = [0; 2];
    let mut rooms = [true, false].into_iter().chain([true].into_iter().cycle());
    let mut hand = |at: usize, handed: Handed| {
        if rooms.next() == Some(false) {
            return Err(handed);
        }
        given[at] += handed.hubs.partitions.len();
        handed.taken.note(at, 0, handed.number);
        Ok(())
    };
    let first = hubs.settle(&new, Unopenable::Refuses, &mut hand);
    assert_eq!(first, Err(Unapplied::Behind), "a shard had no room");
    let second = hubs.settle(&new, Unopenable::Refuses, &mut hand);
    assert_eq!(second, Ok(()), "all have taken them");
    given.sort_unstable();
    assert_eq!(given, [1, 2], "each log once");
}

#[test]
fn logs_that_no_shard_was_given_are_closed_again_and_give_back_the_room_of_their_files() {
    let data = tempfile::tempdir().expect("a folder");
    let begun = table(1, &[]);
    let (hubs, _) = hubs(data.path(), &begun);
    let files = || hubs.state().files;
    let table_of = |age: u64| {
        let mut parts = TableParts {
            epoch: 2,
            queue_groups: 1,
            hubs: table(2, &[(7, 3)]).hubs().to_vec(),
            ..TableParts::default()
        };
        parts.hubs[0].retention_age = Some(Duration::from_secs(age));
        RouteTable::build(parts).expect("the hub fits")
    };
    hubs.open(&table_of(60)).expect("it is new");
    let one = files();
    assert_ne!(one, 0);
    for age in 61..64 {
        hubs.open(&table_of(age)).expect("no table has it yet");
        assert_eq!(files(), one, "those of other settings are closed");
    }
    let none = |_: usize, _: Handed| -> Result<(), Handed> { unreachable!("nothing is dealt out") };
    let settled = hubs.settle(&begun, Unopenable::Refuses, none);
    assert_eq!(settled, Ok(()));
    assert_eq!((files(), hubs.state().opened.len()), (0, 0));
    // What shards were given stays theirs.
    let hand = |at: usize, handed: Handed| {
        handed.taken.note(at, 0, handed.number);
        Ok(())
    };
    let settled = hubs.settle(&table_of(60), Unopenable::Refuses, hand);
    assert_eq!(settled, Ok(()));
    assert_eq!(hubs.settle(&begun, Unopenable::Refuses, none), Ok(()));
    assert_eq!(files(), one);
}

#[test]
fn a_hub_that_waits_is_tried_less_and_less_often_and_told_once_for_each_reason() {
    let data = tempfile::tempdir().expect("a folder");
    let (hubs, page) = hubs(data.path(), &table(1, &[]));
    let new = table(2, &[(7, 3)]);
    let log = data.path().join("p-00070001");
    std::fs::write(&log, b"in the way").expect("it is ours");
    let hand = |_: usize, _: Handed| -> Result<(), Handed> { unreachable!("nothing is dealt out") };
    let settled = hubs.settle(&new, Unopenable::Waits, hand);
    assert_eq!(settled, Ok(()), "all else of the table is taken");
    assert!(!hubs.has(7));
    assert_eq!(*hubs.without_logs(), [7], "it never had any");
    let fault = hubs.unopened()[0].1.clone();
    assert!(fault.what.contains("p-00070001"), "{fault}");
    let pause = || hubs.state().waiting[0].pause;
    let mut pauses = vec![pause()];
    for _ in 0..10 {
        hubs.wait_for(&mut hubs.state(), &new.hubs()[0], fault.clone());
        pauses.push(pause());
    }
    assert!(pauses.is_sorted(), "{pauses:?}");
    let (first, last) = (pauses[0], pauses[10]);
    assert!(first <= Duration::from_secs(1) && last == Duration::from_secs(30));
    assert_eq!(page.text().matches(" hub_unopened ").count(), 1);
    assert_eq!(hubs.status.unopened(), (1, 11));
    // Another table without it: there is nothing to wait for.
    let settled = hubs.settle(&table(3, &[]), Unopenable::Waits, hand);
    assert_eq!(settled, Ok(()));
    assert_eq!((hubs.unopened().len(), hubs.status.unopened().0), (0, 0));
}
