//! Nodes that are defined: let in, sent away, made homes, deleted.

use std::time::Duration;

use super::senders::{open, send};
use super::world::{World, until};
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
