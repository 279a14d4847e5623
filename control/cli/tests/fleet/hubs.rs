//! A hub that one of the nodes cannot open.

use std::time::Duration;

use client::Message;

use super::senders::open;
use super::world::{Party, Process, World, until};
use super::{runtime, until_it_ends};

const LATE: &str = "acme/prod/late";

/// A file where the second log of the hub is to be.
fn in_the_way(world: &World, node: &str) -> std::path::PathBuf {
    let path = world.path(&format!("data-{node}")).join("p-00090001");
    std::fs::write(&path, b"in the way").expect("the folder is there");
    path
}

fn hubs_unopened(world: &World, node: &str) -> (u64, Option<String>) {
    let nodes = world.nodes();
    let seen = nodes.iter().find(|seen| seen["name"] == node);
    let seen = seen.expect("it is one of the nodes");
    let code = seen["unopened"].as_str().map(str::to_owned);
    (seen["hubs_unopened"].as_u64().expect("a number"), code)
}

/// Revoke a party's key on every node while it has a session on this one.
fn revoke(world: &World, node: &Process, party: &Party) {
    let runtime = runtime();
    let sender = runtime.block_on(open(&node.listen(), party, Duration::ZERO));
    let session = until_it_ends(sender.expect("it may"), std::sync::Arc::default());
    let session = runtime.spawn(session);
    let done = world.order("revoke", party, "?wait=60s");
    assert_eq!(done["progress"]["complete"], true, "{done}");
    let ended = runtime.block_on(session).expect("it does not panic");
    assert!(super::WITHDRAWN.contains(&ended.code), "{}", ended.code);
}

#[test]
fn a_node_that_cannot_open_a_new_hub_takes_revocations_and_serves_the_hub_when_it_can() {
    let world = World::new(3, &["north", "south"]);
    let (north, south) = (world.start_node("north", ""), world.start_node("south", ""));
    world.until_all_are_current();
    let blocker = in_the_way(&world, "north");
    world.good(&["hub", "create", LATE, "id=9", "partitions=2"]);
    world.good(&["channel", "create", LATE, "hub=late"]);
    world.good(&["grant", "set", &world.parties[0].name, "send", "late"]);
    world.until_all_are_current();
    until("control knows of it", || {
        hubs_unopened(&world, "north").0 == 1
    });
    let code = hubs_unopened(&world, "north").1.expect("a reason");
    assert_eq!(hubs_unopened(&world, "south"), (0, None));
    let listed = world.good(&["node", "ls"]);
    assert!(
        listed.contains("HUBS_UNOPENED") && listed.contains(&code),
        "{listed}"
    );
    assert_eq!(north.metric("forebay_hubs_unopened"), Some(1.0));
    let (ready, said) = north.page("/ready");
    assert!(
        ready == 200 && said.contains(&format!("hub {LATE} is not open: {code}")),
        "{said}"
    );
    revoke(&world, &north, &world.parties[1]);
    let send = |node: &Process| {
        let (address, party) = (node.listen(), world.parties[0].clone());
        async move {
            let sender = open(&address, &party, Duration::ZERO).await?;
            sender.send(LATE, Message::new("late")).await?.await
        }
    };
    let runtime = runtime();
    runtime
        .block_on(send(&south))
        .expect("there is nothing in the way");
    // It starts again without the hub, from the table that it kept.
    drop(north);
    let north = world.start_node("north", "");
    assert_eq!(north.metric("forebay_hubs_unopened"), Some(1.0));
    revoke(&world, &north, &world.parties[2]);
    let waiting = runtime.spawn(send(&north));
    until("the message is refused", || {
        let refused = "forebay_rejects_total{code=\"FB-1506\",reason=\"hub_unavailable\"}";
        north.metric(refused).is_some_and(|refused| refused > 0.0)
    });
    assert!(!waiting.is_finished(), "what can be tried again is");
    std::fs::remove_file(blocker).expect("it is there");
    let sent = runtime.block_on(waiting).expect("it does not panic");
    let receipt = sent.expect("the hub is there");
    assert_eq!(receipt.partition.hub(), 9);
    until("control knows of it", || {
        hubs_unopened(&world, "north") == (0, None)
    });
}
