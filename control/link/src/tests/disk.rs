//! What a node has on disk, and that nobody waits for it but who asks for it.

use super::*;

#[test]
fn a_change_is_in_force_while_the_disk_is_busy_with_a_whole_table() {
    let (north, control, node) = begun(SLOW, newest(1, "", "a"));
    let disk = Arc::clone(&node.node.0.lock().expect("whole").disk);
    let busy = disk.lock().expect("whole");
    let whole = Newest {
        delta: None,
        ..newest(5, "abcd", "e")
    };
    control.fleet.publish(whole);
    until("it has it", || texts(&node).len() == 2);
    control.fleet.publish(newest(6, "abcde", "f"));
    until("it has the next one", || texts(&node).len() == 3);
    until("its shards have it", || {
        control.fleet.seen()[0].shards == [6, 6]
    });
    let progress = control.fleet.wait(6, Duration::ZERO);
    assert_eq!((progress[0].shards, progress[0].applied), (2, 1));
    assert_eq!(control.fleet.seen()[0].kept, 1);
    drop(busy);
    control.complete(6);
    assert_eq!(north.kept(), version(6, "abcdef"));
}

#[test]
fn a_disk_that_takes_nothing_is_told_and_tried_again_until_it_does() {
    let (north, control, node) = begun(SLOW, newest(1, "", "a"));
    let folder = north.folder.path();
    let aside = folder.with_added_extension("aside");
    std::fs::rename(folder, &aside).expect("renamed");
    control.fleet.publish(newest(2, "a", "b"));
    let unkept = format!("FB-{TABLE_UNKEPT}");
    until("it is told", || node.told.has("table_unkept", &unkept));
    until("its shards have it", || {
        control.fleet.seen()[0].shards == [2, 2]
    });
    let progress = control.fleet.wait(2, Duration::ZERO);
    assert_eq!((progress[0].shards, progress[0].applied), (2, 1));
    std::fs::rename(&aside, folder).expect("renamed");
    control.complete(2);
    assert_eq!(north.kept(), version(2, "ab"));
}
