//! Who may connect, while that changes; and those who say nothing.

use std::io::Read;

use super::*;

#[test]
fn an_authority_that_is_replaced_lets_nobody_go_on_whom_the_new_one_does_not_know() {
    let (north, other) = (North::new(), Authority::new());
    let authority = &north.authority;
    let control = north.control(ANY, FAST);
    control.fleet.publish(newest(1, "", "a"));
    let follow_as = north.how(control.address());
    let shown = follow_as.client.clone();
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
    shown.replace(other.node("north", authority), false);
    control.complete(3);
    let seen = control.fleet.seen();
    assert_eq!((seen[0].snapshots, seen[0].deltas), (1, 2), "deltas go on");
    assert_eq!(texts(&node), ["a", "ab", "abc"]);
}

#[test]
fn a_node_whose_name_is_taken_away_gets_nothing_more_until_it_is_given_back() {
    let north = North::new();
    let control = Control::at(ANY, &north.authority, &["north", "south"], FAST);
    control.fleet.publish(newest(1, "", "a"));
    let node = north.start(control.address());
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
    let north = North::new();
    let control = north.control(ANY, SLOW);
    control.fleet.publish(newest(1, "", "a"));
    let silent: Vec<_> = (0..200)
        .map(|_| std::net::TcpStream::connect(control.address()).expect("it listens"))
        .collect();
    until("most of them are turned away", || {
        control.told.has("strangers_turned_away", "")
    });
    let mut last = silent.last().expect("there are some");
    assert!(matches!(last.read(&mut [0; 1]), Ok(0) | Err(_)));
    let node = north.start(control.address());
    control.complete(1);
    assert_eq!(texts(&node), ["a"]);
}

#[test]
fn a_node_that_is_defined_and_enabled_is_let_in_and_let_go_when_it_is_not() {
    for away in [&[("north", false)][..], &[]] {
        let authority = Authority::new();
        let control = Control::new(&authority, &["west"]);
        let define = |defined: &[(&str, bool)]| {
            let defined = defined.iter();
            let defined = defined.map(|(name, enabled)| ((*name).to_owned(), *enabled));
            control.fleet.set_defined(defined);
        };
        let names = || -> Vec<String> {
            let seen = control.fleet.seen().into_iter();
            seen.map(|node| node.name).collect()
        };
        control.fleet.publish(newest(1, "", "a"));
        assert_eq!(names(), ["west"], "nobody defined any");
        define(&[("north", true)]);
        let folder = tempfile::tempdir().expect("a folder");
        let client = authority.node("north", &authority);
        let node = start("north", control.address(), client, folder.path());
        assert_eq!(names(), ["north", "west"], "the list is not given up");
        let applied = |epoch| {
            let nodes = control.fleet.wait(epoch, Duration::ZERO);
            nodes[0].applied == 2
        };
        until("it has its table", || applied(1));
        // Others come and go, and it stays where it is.
        define(&[("north", true), ("south", true), ("west", false)]);
        assert_eq!(names(), ["north", "south"], "a definition decides");
        define(&[("north", true)]);
        assert_eq!(control.fleet.seen()[0].snapshots, 1);
        assert!(!control.told.has("node_left", ""));
        define(away);
        let unknown = format!("FB-{LINK_UNKNOWN_NODE}");
        until("it is let go", || control.told.has("node_left", &unknown));
        assert_eq!(names(), ["west"]);
        control.fleet.publish(newest(2, "a", "b"));
        assert_eq!(texts(&node), ["a"], "it goes on with what it has");
        define(&[("north", true)]);
        until("it is let in again", || applied(2));
        assert_eq!(texts(&node), ["a", "ab"]);
    }
}

#[test]
fn a_node_in_the_middle_of_its_table_is_let_go_when_it_may_not_be_there_any_more() {
    // More than the kernel keeps for who reads nothing.
    const LENGTH: usize = 64 << 20;
    let authority = Authority::new();
    let control = Control::at("127.0.0.1:0", &authority, &[], SLOW);
    control.fleet.set_defined([("north".to_owned(), true)]);
    control.fleet.publish(newest(1, "", &"x".repeat(LENGTH)));
    let client = authority.node("north", &authority);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let stream = TcpStream::connect(control.address()).await;
        let tunnel = client.tunnel().expect("random bytes");
        let pipe = Pipe::shake(stream.expect("it listens"), tunnel).await;
        let mut pipe = pipe.expect("both trust");
        let hello = Frame::Hello {
            protocol: PROTOCOL,
            name: "north".into(),
            shards: 1,
            has: None,
        };
        pipe.send(&hello).await.expect("sent");
        while !matches!(pipe.receive().await, Ok(Frame::Begin { .. })) {}
        control.fleet.set_defined([]);
        let unknown = format!("FB-{LINK_UNKNOWN_NODE}");
        until("it is let go", || control.told.has("node_left", &unknown));
        let mut bytes = 0;
        while let Ok(Frame::Chunk(chunk)) = pipe.receive().await {
            bytes += chunk.len();
        }
        assert!(bytes < LENGTH, "{bytes} bytes of it came");
    });
}
