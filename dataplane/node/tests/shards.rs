//! A node of several shards is one node: whoever connects is where the endpoint lives, whatever shard the kernel chose, and any number
//! of shards follows any other.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

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
    assert_eq!(mesh.handed_over_out, mesh.handed_over_in);
    assert_eq!(summary.counters.session.welcomed, 40);
}
