//! What the hot path must not do: allocate.

use allocation_counter::measure;
use wire::signature::{KeyMaterial, verify_envelope, verify_session};
use wire::{split, token::Token};

use crate::accepted::{bytes, send};
use crate::parties::*;
use wire::ack::Ack;
use wire::send::{Relay, Send};
use wire::signature::Signer;

fn allocations(work: impl FnOnce()) -> u64 {
    measure(work).count_total
}

#[test]
fn a_send_is_split_parsed_verified_and_read_without_allocating() {
    let connection = Connection::ingress();
    let signer = Signer::Session {
        key: &connection.keys.client,
        frame_index: 5,
    };
    let messages: Vec<Content<'_>> = vec![(&crate::accepted::HEADERS, b"21.5"); 100];
    let bytes = send(&messages, signer);
    let spent = allocations(|| {
        let (frame, _) = split(&bytes)
            .expect("a good header")
            .expect("a whole frame");
        let send = Send::parse(frame).expect("a good body");
        assert!(verify_session(&connection.keys.client, 5, &frame));
        assert!(!verify_session(&connection.keys.client, 6, &frame));
        let read: usize = send
            .messages()
            .map(|message| message.headers.count() + message.body.len())
            .sum();
        assert_eq!(read, 600);
    });
    assert_eq!(spent, 0);
}

#[test]
fn a_relayed_frame_with_a_symmetric_key_allocates_nothing() {
    let key = KeyMaterial::Symmetric(sender_secret());
    let bytes = bytes("relay of an envelope with a key");
    let spent = allocations(|| {
        let (frame, _) = split(&bytes)
            .expect("a good header")
            .expect("a whole frame");
        let relay = Relay::parse(frame).expect("a good body");
        assert!(verify_envelope(&key, relay.inner()));
    });
    assert_eq!(spent, 0);
}

#[test]
fn refusing_and_answering_into_a_recycled_buffer_allocate_nothing() {
    let connection = Connection::ingress();
    let mut broken = bytes("send of one message");
    broken[38] = 1;
    let golden = bytes("ack of a partition");
    let (frame, _) = split(&golden)
        .expect("a good header")
        .expect("a whole frame");
    let ack = Ack::parse(frame).expect("a good body");
    let mut out = Vec::with_capacity(256);
    let spent = allocations(|| {
        let (frame, _) = split(&broken)
            .expect("a good header")
            .expect("a whole frame");
        let notice = Send::parse(frame).expect_err("reserved bits").notice();
        let reject = wire::ack::Reject {
            partition: ack.partition,
            sequence: ack.sequence,
            notice,
        };
        reject.encode(
            &mut out,
            Signer::Session {
                key: &connection.keys.server,
                frame_index: 1,
            },
        );
        ack.encode(
            &mut out,
            Signer::Session {
                key: &connection.keys.server,
                frame_index: 2,
            },
        );
    });
    assert_eq!((spent, out.len()), (0, 152));
}

#[test]
fn the_counter_does_count() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1u8; 64]))) > 0);
    let text = receiver_token().replace("skn=primary", "skn=%70");
    assert!(allocations(|| drop(Token::parse(&text))) > 0);
}

#[test]
fn a_frame_is_taken_out_of_every_rate_that_holds_for_it_without_allocating() {
    let mut parts = crate::routes::parts();
    parts.accounts = vec![wire::route::Account {
        name: "a".into(),
        rates: wire::route::Rates {
            messages_per_second: Some(1_000),
            bytes_per_second: Some(1 << 20),
        },
    }];
    let two = &mut parts.endpoints[0];
    two.rates.messages_per_second = Some(10);
    two.send[0].restriction.messages_per_second = Some(9);
    let (id, channel) = (two.id, two.send[0].channel);
    let table = wire::route::RouteTable::build(parts).expect("no contradiction");
    let index = table.endpoint_index(id).expect("it is there");
    assert_eq!(table.allowances(index, channel).count(), 4);
    let spent = allocations(|| {
        let given = (0..20)
            .filter(|_| wire::route::take(table.allowances(index, channel), 1, 100, 1).is_ok());
        assert_eq!(given.count(), 9);
    });
    assert_eq!(spent, 0);
}
