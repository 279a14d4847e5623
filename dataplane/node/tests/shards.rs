//! A node of several shards is one node: whoever connects is where the endpoint lives, whatever shard the kernel chose, and any number
//! of shards follows any other.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use node::NodeHandle;
use node::placement::Shards;
use support::*;
use wire::ids::AckMode;
use wire::route::RouteTable;

const SENDERS: usize = 12;
const FRAMES: u32 = 15;

fn plan(ack: AckMode) -> Arc<RouteTable> {
    let mut parts = parts(ack, SENDERS);
    parts.queue_groups = 4;
    parts.hubs[0].partitions = 6;
    table(parts)
}

fn start_with(data: &Path, shards: u16, table: Arc<RouteTable>) -> NodeHandle {
    let mut config = config(data);
    config.shards = Shards::Count(shards);
    try_start(config, table).unwrap()
}

fn body(sender: usize, number: u32) -> [u8; 5] {
    let [a, b, c, d] = number.to_le_bytes();
    [sender as u8, a, b, c, d]
}

/// Bodies are these numbers of each sender, in order.
fn check(bodies: &[Vec<u8>], numbers: std::ops::Range<u32>, why: &str) {
    for sender in 0..SENDERS {
        let mine = bodies.iter().filter(|body| body[0] == sender as u8);
        let want = numbers.clone().map(|number| body(sender, number).to_vec());
        assert!(mine.cloned().eq(want), "{why}: sender {sender}");
    }
}

#[test]
fn any_number_of_shards_follows_any_other_and_nothing_is_lost_doubled_or_out_of_order() {
    for ack in [AckMode::Durable, AckMode::Local] {
        let data = tempfile::tempdir().unwrap();
        let mut unsettled = 0..0;
        for (round, shards) in [2, 5, 1, 3, 8, 4].into_iter().enumerate() {
            let why = format!("{ack:?}, round {round}, {shards} shards");
            let node = start_with(data.path(), shards, plan(ack));
            let from = round as u32 * FRAMES;
            let mut clients: Vec<Client> = (0..SENDERS)
                .map(|number| Client::connect(node.listen_addr(), &sender(number)))
                .collect();
            for number in from..from + FRAMES {
                for (sender, client) in clients.iter_mut().enumerate() {
                    client.send(&[&body(sender, number)]);
                }
            }
            for client in &mut clients {
                assert_eq!(client.sequence, u64::from(from + FRAMES) + 1, "{why}");
                client.wait_acked(u64::from(from + FRAMES));
            }
            let mut receiver = Client::connect(node.listen_addr(), RECEIVER);
            receiver.fetch(100_000);
            let again = unsettled.len() * SENDERS;
            let (last, bodies) = receiver.take(again + FRAMES as usize * SENDERS);
            check(&bodies[..again], unsettled.clone(), &why);
            check(&bodies[again..], from..from + FRAMES, &why);
            // Every other round settles nothing: all of it comes again, first.
            unsettled = match round % 2 {
                0 => from..from + FRAMES,
                _ => {
                    receiver.settle(last);
                    0..0
                }
            };
            if shards > 1 {
                let said = metric(
                    node.admin_addr(),
                    "forebay_mesh_items_total{event=\"received\"}",
                );
                assert!(said.unwrap() > 0.0, "{why}: shards talk to each other");
            }
            node.stop();
            let summary = node.join().unwrap();
            let sent = u64::from(FRAMES) * SENDERS as u64;
            assert_eq!(summary.counters.append.messages, sent, "{why}");
        }
    }
}

#[test]
fn a_connection_moves_once_to_the_shard_of_its_endpoint_and_takes_what_it_said_along() {
    let data = tempfile::tempdir().unwrap();
    let node = start_with(data.path(), 3, plan(AckMode::Durable));
    let mut moved = 0;
    for round in 0..40 {
        let mut client = Client::connect(node.listen_addr(), &sender(round % SENDERS));
        client.send(&[b"one"]);
        client.wait_acked(client.sequence - 1);
        let counted = metric(node.admin_addr(), "forebay_connections_moved_total").unwrap();
        moved = moved.max(counted as usize);
    }
    // The kernel deals connections out evenly: a third of them arrives at home.
    assert!((1..40).contains(&moved), "{moved} of 40 moved");
    node.stop();
    let summary = node.join().unwrap();
    let mesh = &summary.counters.mesh;
    // Of all shards together, as the page told before they stopped.
    assert_eq!(mesh.handed_over_out, moved as u64);
    assert_eq!(mesh.handed_over_out, mesh.handed_over_in);
    assert_eq!(summary.counters.session.welcomed, 40);
}

#[test]
fn a_node_that_stops_under_load_answers_what_shards_carried_for_each_other_and_says_goaway() {
    const ENVELOPES: u64 = 6_000;
    for round in 0..8 {
        let data = tempfile::tempdir().unwrap();
        let mut parts = parts(AckMode::Local, SENDERS);
        parts.hubs[0].partitions = 6;
        parts.endpoints[0].relay = true;
        let node = start_with(data.path(), 3, table(parts));
        let mut relay = Client::connect(node.listen_addr(), &sender(0));
        for number in 0..ENVELOPES {
            let (from, sequence) = (number as usize % SENDERS, number / SENDERS as u64 + 1);
            relay.put_relay(number + 1, &sender(from), sequence, &[7; 200]);
        }
        let (bytes, mut stream) = (relay.take_out(), relay.stream.try_clone().unwrap());
        // What the node does not take when it ends is not written.
        let writer = std::thread::spawn(move || stream.write_all(&bytes).is_ok());
        let mut said = vec![relay.read()];
        // A shard that has nothing left to do waits for those that carry something to it.
        node.stop();
        while said.last() != Some(&Said::End) {
            said.push(relay.read());
        }
        let goaway = Said::Other(wire::frame::FrameKind::Goaway);
        assert!(said.contains(&goaway), "round {round}: {:?}", said.len());
        node.join().unwrap();
        writer.join().unwrap();
    }
}

#[test]
fn a_fault_of_one_shard_at_start_is_told_ends_them_all_and_the_next_start_has_everything() {
    let data = tempfile::tempdir().unwrap();
    let node = start_with(data.path(), 3, plan(AckMode::Durable));
    for number in 0..SENDERS {
        let mut client = Client::connect(node.listen_addr(), &sender(number));
        client.send(&[&body(number, 0)]);
        client.wait_acked(1);
    }
    node.stop();
    node.join().unwrap();
    let folders = std::fs::read_dir(data.path()).unwrap().flatten();
    let mut folders: Vec<_> = folders
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    // A partition is opened before shards meet, a journal after; whichever shard's it is.
    for folder in [&folders[0], &folders[1], folders.last().unwrap()] {
        let aside = data.path().join("aside");
        std::fs::rename(folder, &aside).unwrap();
        std::fs::write(folder, b"not a folder").unwrap();
        let mut config = config(data.path());
        config.shards = Shards::Count(3);
        let fault = try_start(config, plan(AckMode::Durable)).unwrap_err();
        assert_eq!(fault.code, 3114, "{}: {fault}", folder.display());
        std::fs::remove_file(folder).unwrap();
        std::fs::rename(&aside, folder).unwrap();
    }
    let node = start_with(data.path(), 4, plan(AckMode::Durable));
    let mut receiver = Client::connect(node.listen_addr(), RECEIVER);
    receiver.fetch(100);
    let (_, bodies) = receiver.take(SENDERS);
    check(&bodies, 0..1, "after the faults");
    node.stop();
    node.join().unwrap();
}
