//! What brings everything anew: a gap, another digest, too many changes missed, another past. And what is not fresh.

use super::*;

#[test]
fn a_delta_that_makes_another_table_than_it_says_brings_the_whole_table() {
    let (_north, control, node) = begun(SLOW, newest(1, "", "a"));
    let mut wrong = newest(2, "a", "b");
    if let Some(delta) = &mut wrong.delta {
        delta.bytes = Arc::new(b"x".to_vec());
    }
    control.fleet.publish(wrong);
    control.complete(2);
    assert_eq!(texts(&node), ["a", "ab"]);
    assert_eq!(control.fleet.seen()[0].snapshots, 2);
    let unfit = format!("FB-{TABLE_UNFIT}");
    assert!(node.told.has("table_unfit", &unfit) && control.told.has("node_resync", &unfit));
}

#[test]
fn a_delta_for_another_table_than_is_there_brings_the_whole_table() {
    let (_north, control, node) = begun(SLOW, newest(1, "", "a"));
    // It lost its place.
    node.node.0.lock().expect("whole").version = version(7, "nonsense");
    control.fleet.publish(newest(2, "a", "b"));
    control.complete(2);
    assert_eq!(texts(&node), ["a", "ab"]);
    assert_eq!(control.fleet.seen()[0].snapshots, 2);
    let unfit = format!("FB-{TABLE_UNFIT}");
    assert!(node.told.has("table_unfit", &unfit) && control.told.has("node_resync", &unfit));
}

#[test]
fn a_node_that_missed_more_changes_than_are_kept_gets_the_whole_table_and_one_that_missed_fewer_does_not()
 {
    let (north, control, node) = begun(SLOW, newest(1, "", "x"));
    let address = control.address();
    let (mut text, mut epoch) = ("x".to_owned(), 1);
    let mut publish = |control: &Control, count: usize| {
        for _ in 0..count {
            epoch += 1;
            control.fleet.publish(newest(epoch, &text, "x"));
            text.push('x');
        }
        epoch
    };
    node.followed.end();
    until("it is gone", || !control.fleet.seen()[0].connected);
    let last = publish(&control, 1_024);
    let node = north.start(address);
    control.complete(last);
    let seen = control.fleet.seen();
    assert_eq!((seen[0].snapshots, seen[0].deltas), (1, 1_024));
    node.followed.end();
    until("it is gone again", || !control.fleet.seen()[0].connected);
    let last = publish(&control, 1_025);
    let node = north.start(address);
    control.complete(last);
    let seen = control.fleet.seen();
    assert_eq!((seen[0].snapshots, seen[0].deltas), (2, 1_024));
    assert_eq!(texts(&node).last().map(String::len), Some(2_050));
}

#[test]
fn a_control_plane_that_went_back_to_an_older_table_is_followed() {
    let (_north, control, node) = begun(FAST, newest(9, "abc", "d"));
    let older = newest(4, "a", "b");
    control.fleet.publish(older);
    let back = || texts(&node).last().map(String::as_str) == Some("ab");
    until("it is back", back);
    control.fleet.publish(newest(5, "ab", "c"));
    control.complete(5);
    assert_eq!(texts(&node).last().map(String::as_str), Some("abc"));
}

#[test]
fn epochs_of_another_past_count_for_nothing_until_the_shards_have_the_table_that_came() {
    let (north, control, node) = begun(SLOW, newest(60, "abc", "d"));
    let address = control.address().to_string();
    control.listening.end();
    until("it notices", || !node.followed.state().0);
    // A store that was restored at 50 has come to 61 otherwise; what it did at 55 the node has never heard of.
    node.node.0.lock().expect("whole").busy = usize::MAX;
    let control = north.control(&address, FAST);
    control
        .fleet
        .publish(of_past([2; 16], newest(61, "A", "B")));
    until("it takes what came", || {
        control.fleet.seen()[0].epoch == Some(61)
    });
    let progress = control.fleet.wait(55, Duration::ZERO);
    assert_eq!((progress[0].shards, progress[0].applied), (2, 0));
    assert!(!control.fleet.seen()[0].current);
    node.node.0.lock().expect("whole").busy = 0;
    control.complete(61);
    assert_eq!(control.fleet.seen()[0].snapshots, 1);
    assert_eq!(texts(&node).last().map(String::as_str), Some("AB"));
}

#[test]
fn the_same_epoch_of_another_past_is_another_table_and_no_delta_leads_on_from_it() {
    let (north, control, node) = begun(SLOW, newest(3, "a", "b"));
    let address = control.address().to_string();
    node.followed.end();
    control.listening.end();
    // Both say the same at 3, by chance; nobody can know what came before.
    let control = north.control(&address, SLOW);
    control.fleet.publish(of_past([2; 16], newest(3, "a", "b")));
    control
        .fleet
        .publish(of_past([2; 16], newest(4, "ab", "c")));
    let node = north.start(control.address());
    control.complete(4);
    let seen = control.fleet.seen();
    assert_eq!((seen[0].snapshots, seen[0].deltas), (1, 0));
    assert_eq!(texts(&node), ["ab", "abc"]);
    node.followed.end();
    assert_eq!(north.kept().lineage, [2; 16]);
}

#[test]
fn a_control_plane_of_another_store_takes_nothing_from_a_node_and_both_sides_say_so() {
    let (north, control, node) = begun(SLOW, of_past([5; 16], newest(60, "abc", "d")));
    let address = control.address().to_string();
    control.listening.end();
    // Its store was lost, and it began with an empty one.
    let control = north.control(&address, SLOW);
    control.fleet.publish(of_past([6; 16], newest(1, "", "")));
    let other = format!("FB-{LINK_OTHER_PAST}");
    until("it says so", || control.told.has("node_left", &other));
    until("so does the node", || node.told.has("control_lost", &other));
    assert_eq!(texts(&node), ["abcd"], "it serves on");
    assert_eq!(control.fleet.seen()[0].snapshots, 0);
}

#[test]
fn a_node_that_is_always_a_change_behind_a_control_plane_that_always_changes_is_fresh() {
    let north = North::new();
    let control = north.control(ANY, FAST);
    control.fleet.publish(newest(1, "", "a"));
    let mut follow_as = north.how(control.address());
    follow_as.freshness = Freshness::new(Moment::now(), LONG, None);
    let node = start_as(follow_as);
    node.node.0.lock().expect("whole").behind = true;
    let age = || node.followed.state().1.age(Moment::now());
    let (mut text, mut epoch) = ("a".to_owned(), 1);
    let mut publish = || {
        epoch += 1;
        control.fleet.publish(newest(epoch, &text, "b"));
        text.push('b');
    };
    publish();
    until("a shard is behind", || {
        control.fleet.seen()[0].epoch == Some(2)
    });
    let begun = Instant::now();
    until("it is fresh though it never has the newest", || {
        publish();
        age() < begun.elapsed()
    });
    assert!(!control.fleet.seen()[0].current);
}
