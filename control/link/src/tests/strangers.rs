//! Who may connect, while that changes; and those who say nothing.

use std::io::Read;

use super::*;

#[test]
fn an_authority_that_is_replaced_lets_nobody_go_on_whom_the_new_one_does_not_know() {
    let (authority, other) = (Authority::new(), Authority::new());
    let control = Control::at("127.0.0.1:0", &authority, &["north"], FAST);
    control.fleet.publish(newest(1, "", "a"));
    let folder = tempfile::tempdir().expect("a folder");
    let mut follow_as = how(
        "north",
        control.address(),
        authority.node("north", &authority),
        folder.path(),
    );
    let shown = follow_as.client.clone();
    follow_as.folder = folder.path().to_owned();
    let node = start_as(follow_as);
    control.complete(1);
    // The same authority under another certificate changes nothing for who is there.
    control.server.replace(authority.control(), false);
    control.fleet.publish(newest(2, "a", "b"));
    control.complete(2);
    assert_eq!(control.fleet.seen()[0].snapshots, 1);
    control.server.replace(authority.control_of(&other), true);
    let untrusted = format!("FB-{LINK_UNTRUSTED}");
    until("it is let go", || control.told.has("node_left", &untrusted));
    until("and not let in", || {
        control.told.has("node_refused", &untrusted)
    });
    control.fleet.publish(newest(3, "ab", "c"));
    assert!(!control.fleet.seen()[0].connected);
    shown.replace(other.node("north", &authority), false);
    control.complete(3);
    let seen = control.fleet.seen();
    assert_eq!((seen[0].snapshots, seen[0].deltas), (1, 2), "deltas go on");
    assert_eq!(texts(&node), ["a", "ab", "abc"]);
}

#[test]
fn a_node_whose_name_is_taken_away_gets_nothing_more_until_it_is_given_back() {
    let authority = Authority::new();
    let control = Control::at("127.0.0.1:0", &authority, &["north", "south"], FAST);
    control.fleet.publish(newest(1, "", "a"));
    let folder = tempfile::tempdir().expect("a folder");
    let client = authority.node("north", &authority);
    let node = start("north", control.address(), client, folder.path());
    let progress = || control.fleet.wait(1, Duration::ZERO);
    until("it has its table", || progress()[0].applied == 2);
    control
        .fleet
        .set_names(["south".to_owned(), "west".to_owned()]);
    let unknown = format!("FB-{LINK_UNKNOWN_NODE}");
    until("it is let go", || control.told.has("node_left", &unknown));
    control.fleet.publish(newest(2, "a", "b"));
    until("and not let in", || {
        control.told.has("node_refused", &unknown)
    });
    assert_eq!(texts(&node), ["a"]);
    let names: Vec<String> = control
        .fleet
        .seen()
        .into_iter()
        .map(|node| node.name)
        .collect();
    assert_eq!(names, ["south", "west"]);
    control.fleet.set_names(["north".to_owned()]);
    control.complete(2);
    assert_eq!(texts(&node), ["a", "ab"]);
}

#[test]
fn strangers_that_say_nothing_are_let_go_for_others_and_a_node_gets_in() {
    let authority = Authority::new();
    let control = Control::new(&authority, &["north"]);
    control.fleet.publish(newest(1, "", "a"));
    let silent: Vec<_> = (0..200)
        .map(|_| std::net::TcpStream::connect(control.address()).expect("it listens"))
        .collect();
    until("most of them are turned away", || {
        control.told.has("strangers_turned_away", "")
    });
    let mut last = silent.last().expect("there are some");
    assert!(matches!(last.read(&mut [0; 1]), Ok(0) | Err(_)));
    let folder = tempfile::tempdir().expect("a folder");
    let client = authority.node("north", &authority);
    let node = start("north", control.address(), client, folder.path());
    control.complete(1);
    assert_eq!(texts(&node), ["a"]);
}
