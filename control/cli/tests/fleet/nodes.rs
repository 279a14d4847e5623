//! Nodes that are defined: let in, sent away, made homes, deleted.

use std::time::Duration;

use client::ClientError;

use super::senders::{open, send};
use super::world::{Party, Process, World, until};
use super::{PATIENT, runtime};

#[test]
fn a_node_is_let_in_by_its_definition_and_sent_away_by_it_and_serves_on() {
    let world = World::defining(2, &["north", "south"]);
    let north = world.start_node("north", "");
    let south = world.start_node("south", "");
    world.until_all_are_current();
    let runtime = runtime();
    let party = &world.parties[1];
    let session = runtime.block_on(open(&north.listen(), party, PATIENT));
    let session = session.expect("it may");
    world.good(&["node", "set", "north", "enabled=false"]);
    until("it is sent away", || {
        world.logs(&["control"]).contains("node_left")
    });
    let seen: Vec<String> = (world.nodes().iter())
        .map(|node| node["name"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(seen, ["south"]);
    let listed = world.good(&["node", "ls"]);
    let row = listed.lines().find(|line| line.starts_with("north"));
    let cells: Vec<&str> = row.expect("a row").split_whitespace().collect();
    let heads: Vec<&str> = listed
        .lines()
        .next()
        .expect("a head")
        .split_whitespace()
        .collect();
    for (head, cell) in [
        ("ENABLED", "false"),
        ("CONNECTED", "false"),
        ("DEFINED", "true"),
    ] {
        let at = heads.iter().position(|one| *one == head);
        assert_eq!(cells[at.expect(head)], cell, "{listed}");
    }
    // Nobody waits for it, and it goes on by the table that it has.
    let told = world.good(&["keys", "revoke", &party.name, "ingress-primary", "--wait"]);
    assert!(
        told.contains("applied on 1/1 nodes, 2/2 shards in "),
        "{told}"
    );
    runtime.block_on(send(&session)).expect("it serves on");
    let refused = runtime.block_on(open(&south.listen(), party, Duration::ZERO));
    assert!(refused.is_err(), "it is revoked where the table came");
    world.good(&["node", "set", "north", "enabled="]);
    world.until_all_are_current();
    assert_eq!(world.nodes().len(), 2);
    until("it hears of the revocation", || {
        runtime.block_on(send(&session)).is_err()
    });
    world.good(&["node", "delete", "south"]);
    until("it is sent away", || {
        let logs = world.logs(&["control"]);
        logs.lines()
            .filter(|line| line.contains("node_left"))
            .count()
            == 2
    });
    assert_eq!(world.good(&["node", "ls", "--names"]), "north\n");
    // A new control plane lets in who is defined, too.
    let mut world = world;
    world.kill_control();
    world.start_control();
    world.until_all_are_current();
    assert_eq!(world.nodes().len(), 1);
}

#[test]
fn an_endpoint_is_at_home_on_a_node_that_is_defined_and_keeps_it() {
    let world = World::defining(1, &["north"]);
    let name = world.parties[0].name.as_str();
    for (arguments, said) in [
        (
            &["endpoint", "set", name, "home=nroth"][..],
            ["FB-2107", "did you mean `north`?"],
        ),
        (
            &["node", "show", "nort"],
            ["FB-2141", "did you mean `north`?"],
        ),
        (&["node", "create", "North"], ["FB-2105", "small letters"]),
        (
            &["node", "set", "north", "address=here"],
            ["FB-2104", "host:port"],
        ),
        (&["node", "create", "north"], ["FB-2142", "`north`"]),
    ] {
        let fault = world.refused(arguments);
        assert!(said.iter().all(|one| fault.contains(one)), "{fault}");
    }
    world.good(&["node", "create", "west", "address=west.example:7411"]);
    let shown = world.good(&["node", "show", "west"]);
    assert!(shown.contains("west.example:7411"), "{shown}");
    world.good(&["endpoint", "set", name, "home=west"]);
    let fault = world.refused(&["node", "delete", "west"]);
    let said = ["FB-2146", name, "home=OTHER"];
    assert!(said.iter().all(|one| fault.contains(one)), "{fault}");
    let (told, _) = world.bad(&["why", name, "send", "readings", "--node", "north"]);
    assert!(
        told.contains("NO  home: node `north`, needs node `west`, its home"),
        "{told}"
    );
    world.good(&["why", name, "send", "readings", "--node", "west"]);
    let exported = world.good(&["export"]);
    assert!(
        exported.contains("[[nodes]]") && exported.contains("home = \"west\""),
        "{exported}"
    );
    world.good(&["endpoint", "set", name, "home="]);
    world.good(&["node", "delete", "west"]);
    world.good(&["why", name, "send", "readings", "--node", "north"]);
    let log = world.good(&["audit", "ls"]);
    let lines = log.lines().filter(|line| line.contains("west"));
    assert!(lines.count() >= 2, "{log}");
}

/// Where the endpoint is at home, as a node says that is not it; nothing if it lets it in.
fn told(node: &Process, party: &Party) -> Option<(String, Option<String>)> {
    match runtime().block_on(open(&node.listen(), party, Duration::ZERO)) {
        Ok(_) => None,
        Err(ClientError::NotHome { node, address, .. }) => Some((node, address)),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn an_endpoint_is_served_at_its_home_and_moves_while_it_has_a_session_there() {
    let world = World::defining(2, &["north", "south"]);
    let (north, south) = (world.start_node("north", ""), world.start_node("south", ""));
    for (name, node) in [("north", &north), ("south", &south)] {
        let address = format!("address={}", node.listen());
        world.good(&["node", "set", name, &address]);
    }
    let (party, other) = (&world.parties[0], &world.parties[1]);
    let at = |name: &str, node: &Process| Some((name.to_owned(), Some(node.listen())));
    world.good(&["endpoint", "set", &party.name, "home=south"]);
    until("north sends it to south", || {
        told(&north, party) == at("south", &south)
    });
    let runtime = runtime();
    let session = |node: &Process, party: &Party| {
        let opened = runtime.block_on(open(&node.listen(), party, PATIENT));
        opened.unwrap_or_else(|error| panic!("{error}"))
    };
    let (at_home, others) = (session(&south, party), session(&north, other));
    runtime.block_on(send(&at_home)).expect("it is at home");
    world.good(&["endpoint", "set", &party.name, "home=north"]);
    let mut ended = None;
    until("its session ends", || {
        ended = runtime.block_on(send(&at_home)).err();
        ended.is_some()
    });
    let code = ended.expect("it is over").diagnosis().code;
    assert_eq!(code, 1129, "told that it is at home elsewhere");
    until("south sends it to north", || {
        told(&south, party) == at("north", &north)
    });
    until("north has it", || told(&north, party).is_none());
    let moved = session(&north, party);
    runtime.block_on(send(&moved)).expect("it is at home");
    runtime
        .block_on(send(&others))
        .expect("nobody else notices");
    let counted = south.metric("forebay_rejects_total{code=\"FB-1129\",reason=\"not_home\"}");
    assert!(counted.is_some_and(|count| count >= 1.0), "{counted:?}");
}
