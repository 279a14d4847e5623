//! What is remembered of a stream that goes to another shard, whatever its client sends.

use wire::ids::{Direction, KeyId, SessionId};
use wire::signature::SessionKeys;

use super::*;

const ID: ConnectionId = ConnectionId(1 << 32);

/// A session with one stream, which the owner of its log has answered for.
fn session() -> (Peers, SessionRef) {
    let mut peers = crate::empty::peers(2);
    let id = SessionId([1; 16]);
    let reference = peers.sessions.insert(|reference| Session {
        reference,
        connection: Some(ID),
        endpoint: wire::ids::EndpointId(7),
        direction: Direction::Ingress,
        unacked_frames: 0,
        streams: Vec::new(),
        keys: SessionKeys::derive(b"secret", &[0; 32], &[0; 32], id, &[]),
        routes: Vec::new(),
        unacked_bytes: 0,
        id,
        endpoint_index: 0,
        key: KeyId(1),
        presented: None,
        transport: wire::route::Transport::Tcp,
        key_mark: 0,
        linger_until: 0,
        walk: 0,
        credit: None,
    });
    let mut away = Away::default();
    let session = peers.sessions.get_mut(reference).expect("inserted");
    claim_away(&mut away, session, 0, PartitionId::new(1, 0));
    (peers, reference)
}

/// A frame with this number goes to the owner.
fn go(peers: &mut Peers, reference: SessionRef, number: u64) -> Mark {
    let session = peers.sessions.get_mut(reference).expect("it has not ended");
    session.unacked_frames += 1;
    session.unacked_bytes += 100;
    session.streams[0].go(Sequence(number), 100)
}

fn answer(peers: &mut Peers, session: SessionRef, said: Said) {
    let answered = Answered {
        connection: ID,
        session,
        stream: 0,
        items: 1,
        taken: Taken {
            frames: 1,
            bytes: 100,
        },
        said,
    };
    take_answer(peers, &answered);
}

/// How many rounds are remembered.
fn rounds(peers: &Peers, session: SessionRef) -> usize {
    let session = peers.sessions.get(session).expect("it has not ended");
    let across = session.streams[0].across.as_ref();
    across.expect("its log is elsewhere").firsts.len()
}

#[test]
fn who_repeats_numbers_without_end_makes_nothing_grow_however_the_owner_answers() {
    let notice = Notice::new(Reason::Replayed, 1, 2);
    let rejected = |number, mark| Said::Rejected {
        number: Sequence(number),
        notice,
        gap: false,
        mark: Some(mark),
    };
    let acked = |number, mark: Mark| Said::Acked {
        last: Sequence(number),
        offset: Offset(number),
        ack_mode: AckMode::Durable,
        round: mark.round,
    };
    let discarded = |_, mark: Mark| Said::Discarded(mark.round);
    let answers: [&dyn Fn(u64, Mark) -> Said; 3] = [&rejected, &acked, &discarded];
    for said in answers {
        let (mut peers, reference) = session();
        // Its answer never comes: something is always under way.
        go(&mut peers, reference, 100);
        let mut under_way = VecDeque::new();
        for at in 0..50_000 {
            // Up, and back again to a number that is higher each time: none of the rounds makes up for an earlier one.
            let number = if at % 2 == 0 { 101 + at } else { 1 + at / 2 };
            under_way.push_back((number, go(&mut peers, reference, number)));
            if under_way.len() > 8 {
                let (number, mark) = under_way.pop_front().expect("9 are under way");
                answer(&mut peers, reference, said(number, mark));
            }
            let rounds = rounds(&peers, reference);
            assert!(rounds <= under_way.len() + 2, "{rounds} rounds at {at}");
        }
        let session = peers.sessions.get(reference).expect("it has not ended");
        assert_eq!((session.unacked_frames, session.unacked_bytes), (9, 900));
    }
}
