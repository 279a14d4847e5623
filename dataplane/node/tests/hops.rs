//! A message of a sender over TCP never crosses from shard to shard: its connection did, once, before the first message.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use node::placement::Shards;
use support::*;
use wire::ids::AckMode;

const SENDERS: usize = 16;
const FRAMES: u64 = 200;

/// A series of the metrics page, 0 if it is not there.
fn counted(admin: std::net::SocketAddr, series: &str) -> u64 {
    metric(admin, series).unwrap_or_default() as u64
}

#[test]
fn no_message_of_a_sender_crosses_the_mesh_once_its_connection_is_home() {
    for shards in [2, 5] {
        let data = tempfile::tempdir().unwrap();
        let mut parts = parts(AckMode::Local, SENDERS);
        parts.hubs[0].partitions = 8;
        parts.queue_groups = shards;
        parts.endpoints.pop().unwrap();
        let mut config = config(data.path());
        config.shards = Shards::Count(shards);
        let node = try_start(config, table(parts)).unwrap();
        let admin = node.admin_addr();
        let mut clients: Vec<Client> = (0..SENDERS)
            .map(|number| Client::connect(node.listen_addr(), &sender(number)))
            .collect();
        let moved = counted(admin, "forebay_connections_moved_total");
        assert!(
            moved > 0,
            "{shards} shards: the kernel deals connections out"
        );
        let said = "forebay_mesh_items_total{event=\"sent\"}";
        let before = counted(admin, said);
        for _ in 0..FRAMES {
            for client in &mut clients {
                client.send(&[b"sticky"]);
            }
        }
        for client in &mut clients {
            client.wait_acked(FRAMES);
        }
        let (items, messages) = (counted(admin, said) - before, SENDERS as u64 * FRAMES);
        assert_eq!(counted(admin, "forebay_connections_moved_total"), moved);
        node.stop();
        let counters = node.join().unwrap().counters;
        assert_eq!(counters.append.messages, messages);
        let mesh = &counters.mesh;
        assert_eq!(
            [
                mesh.envelopes_in,
                mesh.envelopes_out,
                mesh.frames_in,
                mesh.frames_out
            ],
            [0; 4],
            "{shards} shards"
        );
        assert_eq!(
            mesh.handed_over_in, moved,
            "{shards} shards: each connection once"
        );
        println!(
            "{shards} shards: {messages} messages, 0 hops, {items} items between shards, {moved} connections moved"
        );
    }
}
