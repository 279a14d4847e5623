//! Endpoints that send to several hubs of a node of several shards: whichever shards own the logs, everything is taken, acked,
//! delivered in order, and still there when the node has stopped in the middle of it.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use node::NodeHandle;
use node::placement::Shards;
use support::*;
use wire::frame::FrameKind;
use wire::ids::{AckMode, ChannelId, PartitionId};
use wire::route::{ChannelParts, Grant, Restriction, RouteTable};

const SENDERS: usize = 6;
/// One in each hub.
const CHANNELS: [&str; 3] = [CHANNEL, "acme/prod/alarms", "acme/prod/traces"];

/// Hubs of 6, 1 and 1 partitions: on three shards nobody has everything at home.
fn plan(ack: AckMode) -> Arc<RouteTable> {
    let mut parts = parts(ack, SENDERS);
    parts.hubs[0].partitions = 6;
    for (at, name) in CHANNELS.iter().enumerate().skip(1) {
        let mut hub = parts.hubs[0].clone();
        (hub.id, hub.partitions, hub.name) = (at as u16 + 1, 1, format!("hub-{at}").into());
        parts.hubs.push(hub);
        parts.channels.push(ChannelParts {
            id: ChannelId::of(name),
            name: (*name).into(),
            hub: at as u16,
            priority: Default::default(),
        });
        for endpoint in &mut parts.endpoints {
            let grant = Grant {
                channel: ChannelId::of(name),
                restriction: Restriction::default(),
            };
            match endpoint.receive.is_empty() {
                true => endpoint.send.push(grant),
                false => endpoint.receive.push(grant),
            }
        }
    }
    table(parts)
}

fn start_with(data: &Path, shards: u16, table: Arc<RouteTable>) -> NodeHandle {
    let mut config = config(data);
    config.shards = Shards::Count(shards);
    try_start(config, table).unwrap()
}

fn partition(table: &RouteTable, from: usize, channel: usize) -> PartitionId {
    let endpoint = table.endpoint_by_name(&sender(from)).unwrap();
    let channel = table.channel(ChannelId::of(CHANNELS[channel])).unwrap();
    table.partition_of(endpoint.id, channel)
}

fn body(sender: usize, channel: usize, number: u64) -> Vec<u8> {
    let mut body = vec![sender as u8, channel as u8];
    body.extend(number.to_le_bytes());
    body
}

/// Every stream has the numbers from 1 to what it is said to have, in order.
fn check(bodies: &[Vec<u8>], upto: impl Fn(usize, usize) -> u64, why: &str) {
    for from in 0..SENDERS {
        for channel in 0..CHANNELS.len() {
            let of_stream = [from as u8, channel as u8];
            let mine = bodies.iter().filter(|body| body[..2] == of_stream).cloned();
            let want = (1..=upto(from, channel)).map(|number| body(from, channel, number));
            assert!(mine.eq(want), "{why}: sender {from}, channel {channel}");
        }
    }
}

#[test]
fn senders_reach_logs_of_all_shards_and_frames_hop_only_where_they_have_to() {
    const FRAMES: u64 = 20;
    for (ack, shards) in [
        (AckMode::Durable, 1),
        (AckMode::Durable, 3),
        (AckMode::Local, 4),
    ] {
        let why = format!("{ack:?}, {shards} shards");
        let data = tempfile::tempdir().unwrap();
        let node = start_with(data.path(), shards, plan(ack));
        for from in 0..SENDERS {
            let mut client = Client::connect(node.listen_addr(), &sender(from));
            for number in 1..=FRAMES {
                for (channel, name) in CHANNELS.iter().enumerate() {
                    client.put_send_to(name, number, &body(from, channel, number));
                }
            }
            client.flush();
            let mut acked = BTreeMap::new();
            while acked.len() < CHANNELS.len() || acked.values().any(|&upto| upto < FRAMES) {
                match client.read() {
                    Said::Ack(ack) => acked.insert(ack.partition, ack.sequence.0),
                    other => panic!("{why}: {other:?}"),
                };
            }
        }
        let mut receiver = Client::connect(node.listen_addr(), RECEIVER);
        receiver.fetch(100_000);
        let sent = FRAMES as usize * SENDERS * CHANNELS.len();
        let (_, bodies) = receiver.take(sent);
        check(&bodies, |_, _| FRAMES, &why);
        let hops = metric(
            node.admin_addr(),
            "forebay_mesh_frames_total{frame=\"direct\"}",
        );
        node.stop();
        let mesh = node.join().unwrap().counters.mesh;
        assert_eq!(mesh.frames_out, mesh.frames_in, "{why}");
        match shards {
            1 => assert_eq!((mesh.frames_out, hops), (0, None)),
            // One channel of each sender is at home.
            _ => assert!(
                (1..=sent as u64 * 2 / 3).contains(&mesh.frames_out),
                "{why}"
            ),
        }
        assert_eq!(hops.unwrap_or(0.0) as u64, mesh.frames_out, "{why}");
    }
}

#[test]
fn a_node_that_stops_while_frames_cross_answers_them_says_goaway_and_keeps_what_it_acked() {
    const FRAMES: u64 = 1_000;
    for round in 0..6 {
        let ack = [AckMode::Local, AckMode::Durable][round % 2];
        let data = tempfile::tempdir().unwrap();
        let table = plan(ack);
        let node = start_with(data.path(), 3, Arc::clone(&table));
        let mut client = Client::connect(node.listen_addr(), &sender(0));
        for number in 1..=FRAMES {
            for (channel, name) in CHANNELS.iter().enumerate() {
                client.put_send_to(name, number, &body(0, channel, number));
            }
        }
        let (bytes, mut stream) = (client.take_out(), client.stream.try_clone().unwrap());
        // What the node does not take when it ends is not written.
        let writer = std::thread::spawn(move || stream.write_all(&bytes).is_ok());
        let mut said = vec![client.read()];
        node.stop();
        while said.last() != Some(&Said::End) {
            said.push(client.read());
        }
        let goaway = Said::Other(FrameKind::Goaway);
        assert!(said.contains(&goaway), "round {round}: {:?}", said.len());
        node.join().unwrap();
        writer.join().unwrap();
        let acked = |channel: usize| {
            let partition = partition(&table, 0, channel);
            let mut acks = said.iter().rev().filter_map(|said| match said {
                Said::Ack(ack) if ack.partition == partition => Some(ack.sequence.0),
                _ => None,
            });
            acks.next().unwrap_or(0)
        };
        // The next node, of another number of shards, says how far each stream is, and delivers exactly that.
        let node = start_with(data.path(), 2, Arc::clone(&table));
        let next = Client::connect(node.listen_addr(), &sender(0));
        let upto: Vec<u64> = (0..CHANNELS.len())
            .map(|channel| next.last(CHANNELS[channel]))
            .collect();
        for (channel, &upto) in upto.iter().enumerate() {
            assert_eq!(acked(channel), upto, "round {round}, channel {channel}");
        }
        let mut receiver = Client::connect(node.listen_addr(), RECEIVER);
        receiver.fetch(100_000);
        let (_, bodies) = receiver.take(upto.iter().sum::<u64>() as usize);
        check(
            &bodies,
            |from, channel| if from == 0 { upto[channel] } else { 0 },
            "again",
        );
        node.stop();
        node.join().unwrap();
    }
}
