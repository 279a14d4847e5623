//! Real frames, altered: none is appended, each is answered or ends its connection.

use std::time::Duration;

use fastrand::Rng;
use wire::ids::*;
use wire::reason::Reason;

use crate::number;
use crate::support::*;

#[derive(Debug, Default)]
struct Tally {
    altered: u64,
    rejected: u64,
    ended: u64,
    /// Ended for want of more bytes: it was the length that was altered.
    timed_out: u64,
}

#[test]
fn no_altered_frame_is_appended_and_none_is_ignored() {
    let wanted = number("FOREBAY_MUTATIONS", 10_000);
    let seed = number("FOREBAY_MUTATION_SEED", 1);
    let mut random = Rng::with_seed(seed);
    let mut world = World::with_ack(AckMode::Local);
    let mut tally = Tally::default();
    let mut bit = 0;
    while tally.altered < wanted {
        bit = one_connection(&mut world, &mut random, bit, &mut tally);
    }
    let frame_bits = Client::connect(&mut world, SENDER, 1).send(&BODIES).len() * 8;
    eprintln!(
        "{tally:?}, {} times every bit of a SEND; 0 appended; again with FOREBAY_MUTATIONS={wanted} \
         FOREBAY_MUTATION_SEED={seed} cargo test -p forebay-shard --test torture altered_frame",
        bit / frame_bits
    );
    assert!(bit >= frame_bits, "not every bit was turned over");
    assert_eq!(
        tally.altered,
        tally.rejected + tally.ended + tally.timed_out
    );
}

const BODIES: [&[u8]; 2] = [b"a real message", b"and another one"];

/// One altered frame on a connection that has sent a good one; goes on at `bit`.
fn one_connection(world: &mut World, random: &mut Rng, mut bit: usize, tally: &mut Tally) -> usize {
    let mut client = Client::connect(world, SENDER, 1);
    // Fewer than the bad signatures that end a connection.
    for _ in 0..12 {
        let appended = world.shard.counters().append.frames;
        let good = client.send_number(client.sequence, &BODIES);
        let altered = match random.u8(..4) {
            0 => several(&good, random),
            _ => {
                let mut altered = good.clone();
                let at = bit % (good.len() * 8);
                altered[at / 8] ^= 1 << (at % 8);
                bit += 1;
                altered
            }
        };
        if altered == good {
            continue;
        }
        tally.altered += 1;
        let said = client.exchange(world, &altered);
        assert_eq!(
            world.shard.counters().append.frames,
            appended,
            "bit {bit}: {altered:?} was appended"
        );
        assert_eq!(acks(&said), [], "bit {bit}");
        if world.closed(client.connection) {
            tally.ended += 1;
            break;
        }
        match said.first() {
            Some(Said::Reject(reject)) => {
                assert_ne!(reject.notice.reason, Reason::Busy);
                tally.rejected += 1;
            }
            None => {
                world.pass(Duration::from_secs(61));
                world.settle();
                assert!(world.closed(client.connection), "bit {bit}: ignored");
                tally.timed_out += 1;
                break;
            }
            other => panic!("bit {bit}: {other:?}"),
        }
    }
    world.cut(client.connection);
    world.settle();
    bit
}

/// Several bytes overwritten, cut off, doubled, moved or made up.
fn several(good: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut altered = good.to_vec();
    let (one, two) = (random.usize(..good.len()), random.usize(..good.len()));
    let (from, to) = (one.min(two), one.max(two));
    match random.u8(..4) {
        0 => random.fill(&mut altered[from..to]),
        1 => altered[from..to].fill(0),
        2 => altered[from..to].reverse(),
        _ => {
            for _ in 0..random.u8(1..9) {
                let at = random.usize(..altered.len());
                altered[at] = random.u8(..);
            }
        }
    }
    altered
}
