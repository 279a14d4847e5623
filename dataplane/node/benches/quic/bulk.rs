//! Many messages on a few long streams, beside the same over plain TCP: the difference is what QUIC costs a message.

use crate::client::{Quic, config, runtime};
use crate::measured::node::Served;
use crate::measured::tell;
use crate::support::{Client, metric, sender};
use crate::{shard_nanos, start};

const CONNECTIONS: usize = 8;
/// Messages of a frame, frames of a connection that are on their way together, such rounds.
const MESSAGES: usize = 16;
const FRAMES: usize = 64;
const ROUNDS: u64 = 60;
const BODY: [u8; 96] = [7; 96];

/// Whatever carries it, the node does the rest of the journey with the same frames.
pub(crate) fn bulk() {
    for turn in 0..3 {
        let node = start(2 * CONNECTIONS);
        let mut plain: Vec<Client> = (0..CONNECTIONS)
            .map(|number| Client::connect(node.plain, &sender(number)))
            .collect();
        let runtime = runtime();
        let mut carried: Vec<(Quic, Client)> = (0..CONNECTIONS)
            .map(|number| {
                let own = config(&node.authority(), tls::PROTOCOL);
                let quic = Quic::connect(&runtime, node.secure, own);
                let client = quic.client(&sender(CONNECTIONS + number));
                (quic, client)
            })
            .collect();
        let mut tcp: Vec<&mut Client> = plain.iter_mut().collect();
        let mut quic: Vec<&mut Client> = carried.iter_mut().map(|(_, client)| client).collect();
        flow(&mut tcp, 5);
        flow(&mut quic, 5);
        let tcp = measured(&node, &mut tcp);
        let received = "forebay_quic_datagrams_total{event=\"received\"}";
        let sent = "forebay_quic_datagrams_total{event=\"sent\"}";
        let before = [received, sent].map(|series| metric(node.admin, series).unwrap());
        let quic = measured(&node, &mut quic);
        let after = [received, sent].map(|series| metric(node.admin, series).unwrap());
        let [received, sent] = [after[0] - before[0], after[1] - before[1]];
        let messages = (MESSAGES * FRAMES * CONNECTIONS) as f64 * ROUNDS as f64;
        tell(&format!("bulk/{turn}/tcp"), tcp, "ns/message");
        tell(&format!("bulk/{turn}/quic"), quic, "ns/message");
        tell(&format!("bulk/{turn}/quic-part"), quic - tcp, "ns/message");
        tell(
            &format!("bulk/{turn}/messages-a-datagram"),
            messages / received,
            "messages",
        );
        tell(
            &format!("bulk/{turn}/received-a-sent"),
            received / sent,
            "datagrams",
        );
    }
}

fn flow(clients: &mut [&mut Client], rounds: u64) {
    let bodies = [&BODY[..]; MESSAGES];
    for _ in 0..rounds {
        for client in clients.iter_mut() {
            (0..FRAMES).for_each(|_| client.put_send(&bodies));
            client.flush();
        }
        for client in clients.iter_mut() {
            client.wait_acked(client.sequence - 1);
        }
    }
}

/// Processor time of the node for a message.
fn measured(node: &Served, clients: &mut [&mut Client]) -> f64 {
    let before = shard_nanos(node);
    flow(clients, ROUNDS);
    let messages = (MESSAGES * FRAMES * clients.len()) as f64 * ROUNDS as f64;
    (shard_nanos(node) - before) / messages
}
