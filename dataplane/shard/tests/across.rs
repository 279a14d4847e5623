//! Frames of a session whose log another shard owns: they are judged and answered as on a node of one shard.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "who runs a test says how much of it"
)]

mod support;

use std::time::Duration;

use partition::memory::{Crash, Disk};
use support::*;
use wire::ack::Ack;
use wire::handshake::Auth;
use wire::ids::*;
use wire::reason::Reason;

#[test]
fn an_endpoint_sends_to_hubs_of_different_shards_and_hops_only_for_logs_that_are_elsewhere() {
    for (ack, count) in [
        (AckMode::Durable, 2),
        (AckMode::Local, 2),
        (AckMode::Durable, 7),
    ] {
        let mut node = Node::on(Disk::new(1), two_hubs(ack), count);
        assert_ne!(node.home, node.owner);
        let mut client = Client::new(&mut node.shards[node.home], SENDER, secret(1).text_bytes());
        let said = node.greet(&mut client, Auth::Key(KeyId(1)));
        let Said::Welcome(_, entries) = &said[1] else {
            panic!("{said:?}")
        };
        let mut names: Vec<_> = entries.iter().map(|(channel, ..)| *channel).collect();
        names.sort_unstable();
        let mut want = [CHANNEL, FAR].map(ChannelId::of);
        want.sort_unstable();
        assert_eq!(names, want);
        let near = node.near;
        for number in 1..=20 {
            let frame = client.send_as(EndpointId::of(SENDER), near, number, &[b"near"]);
            assert_eq!(acks(&node.at_home(&mut client, &frame)), [number]);
        }
        assert_eq!(
            (node.mesh(node.home), node.mesh(node.owner)),
            ((0, 0), (0, 0))
        );
        for number in 1..=20 {
            let frame = node.send(&mut client, number, b"far");
            let said = node.exchange(&mut client, &frame);
            let [Said::Ack(told)] = said[..] else {
                panic!("{said:?}")
            };
            let want = Ack {
                partition: node.partition,
                sequence: Sequence(number),
                ack_mode: ack,
                offset: Offset(number - 1),
                ..told
            };
            assert_eq!(told, want);
        }
        assert_eq!(
            (node.mesh(node.home), node.mesh(node.owner)),
            ((20, 0), (0, 20))
        );
        assert_eq!(node.log().len(), 20);
        // Whose frames they are knows the shard that appended them.
        let world = &node.shards[node.owner];
        let hottest = world.shard.hottest(world.now.monotonic);
        let keys = hottest.endpoints_by_messages.rows.iter().map(|row| row.key);
        assert_eq!(keys.collect::<Vec<_>>(), [EndpointId::of(SENDER)]);
    }
}

#[test]
fn nothing_is_acked_before_it_is_durable_where_it_is() {
    let mut node = Node::new(2);
    let mut client = node.connect();
    let owner = node.owner;
    node.shards[owner].hold_syncs = true;
    let mut bytes = Vec::new();
    for number in 1..=5 {
        bytes.extend(node.send(&mut client, number, b"body"));
    }
    assert_eq!(node.exchange(&mut client, &bytes), []);
    node.shards[owner].hold_syncs = false;
    node.shards[owner].release_syncs();
    assert_eq!(acks(&node.exchange(&mut client, &[])), [5]);
}

#[test]
fn a_welcome_waits_for_what_is_under_way_and_for_its_commit_and_then_nothing_comes_twice() {
    for resumes in [false, true] {
        let mut node = Node::new(3);
        let mut client = node.connect();
        let (home, owner) = (node.home, node.owner);
        let mut bytes = Vec::new();
        for number in 1..=4 {
            bytes.extend(node.send(&mut client, number, &[number as u8]));
        }
        assert_eq!(node.at_home(&mut client, &bytes), [], "they are under way");
        node.shards[home].cut(client.connection);
        let mut next = match resumes {
            true => {
                let resume = client.keys.as_ref().unwrap().resume;
                Client::new(&mut node.shards[home], SENDER, &resume)
            }
            false => Client::new(&mut node.shards[home], SENDER, secret(1).text_bytes()),
        };
        let auth = match resumes {
            true => Auth::Resume(client.session),
            false => Auth::Key(KeyId(1)),
        };
        let hello = next.hello_bytes(auth, 0);
        let said = node.at_home(&mut next, &hello);
        assert!(matches!(said[..], [Said::Preface(_)]), "{said:?}");
        node.shards[owner].hold_syncs = true;
        assert_eq!(node.exchange(&mut next, &[]), [], "nothing is certain yet");
        node.shards[owner].hold_syncs = false;
        node.shards[owner].release_syncs();
        let said = node.exchange(&mut next, &[]);
        let [Said::Welcome(_, entries)] = &said[..] else {
            panic!("{said:?}")
        };
        let far = entries.iter().find(|entry| entry.1 == node.partition);
        assert_eq!(far.unwrap().2, Sequence(4), "resumes: {resumes}");
        // One that did not look at it sends all of them again, and one more.
        let mut bytes = Vec::new();
        for number in 1..=5 {
            bytes.extend(node.send(&mut next, number, &[number as u8]));
        }
        let said = node.exchange(&mut next, &bytes);
        assert_eq!((acks(&said).last(), rejects(&said)), (Some(&5), vec![]));
        let want: Vec<_> = (1..=5).map(|number| (number, vec![number as u8])).collect();
        assert_eq!(node.log(), want);
    }
}

#[test]
fn a_welcome_that_no_owner_answers_for_is_a_handshake_that_took_too_long() {
    let mut node = Node::new(2);
    let home = node.home;
    let mut client = Client::new(&mut node.shards[home], SENDER, secret(1).text_bytes());
    let hello = client.hello_bytes(Auth::Key(KeyId(1)), 0);
    let said = node.at_home(&mut client, &hello);
    assert!(matches!(said[..], [Said::Preface(_)]), "{said:?}");
    node.shards[home].pass(Duration::from_secs(11));
    let said = node.at_home(&mut client, &[]);
    assert_eq!(reason(&said), Reason::HandshakeTimeout);
    settle_all(&mut node.shards, usize::MAX);
    node.connect();
}

#[test]
fn the_newest_session_has_the_stream_and_an_earlier_one_is_told_at_its_next_frame() {
    let mut node = Node::new(2);
    let mut old = node.connect();
    let frame = node.send(&mut old, 1, b"one");
    assert_eq!(acks(&node.exchange(&mut old, &frame)), [1]);
    let mut new = node.connect();
    let frame = node.send(&mut old, 2, b"of the old one");
    assert_eq!(
        reason(&node.exchange(&mut old, &frame)),
        Reason::SessionUnknown
    );
    let frame = node.send(&mut new, 2, b"of the new one");
    assert_eq!(acks(&node.exchange(&mut new, &frame)), [2]);
    assert_eq!(node.log()[1].1, b"of the new one");
}

#[test]
fn a_full_way_is_told_to_those_who_want_to_go_there_and_one_leaves_room_for_others() {
    let mut setup = two_hubs(AckMode::Durable);
    setup.log_limits.segment_bytes = 2 << 20;
    let mut node = Node::on(Disk::new(1), setup, 2);
    let mut client = node.connect();
    let body = [7u8; 4_000];
    let mut taken = 0;
    let refused = loop {
        let frame = node.send(&mut client, taken + 1, &body);
        match &node.at_home(&mut client, &frame)[..] {
            [] => taken += 1,
            said => break reason(said),
        }
        assert!(taken < 1_000, "nothing bounds what waits");
    };
    assert_eq!(refused, Reason::Busy);
    assert!((100..140).contains(&taken), "{taken} frames wait");
    // What is at home is not touched by it, and neither is what another session has for the same way.
    let near = client.send_as(EndpointId::of(SENDER), node.near, 1, &[b"near"]);
    assert_eq!(acks(&node.at_home(&mut client, &near)), [1]);
    let home = node.home;
    let mut relay = Client::new(&mut node.shards[home], RELAY, secret(3).text_bytes());
    let hello = relay.hello_bytes(Auth::Key(KeyId(1)), 0);
    node.shards[home].receive(relay.connection, &hello);
    settle_all(&mut node.shards, usize::MAX);
    relay.read(&mut node.shards[home]);
    assert_eq!(acks(&node.exchange(&mut client, &[])).last(), Some(&taken));
    let again = node.send(&mut client, taken + 1, &body);
    assert_eq!(acks(&node.exchange(&mut client, &again)), [taken + 1]);
}

#[test]
fn envelopes_and_direct_frames_of_one_endpoint_share_a_stream_that_is_elsewhere() {
    let answers = |count: u16, repeats: u64| {
        let mut node = Node::new(count);
        let mut client = node.connect();
        let mut relay = Client::new(&mut node.shards[node.home], RELAY, secret(3).text_bytes());
        node.greet(&mut relay, Auth::Key(KeyId(1)));
        let key = secret(1);
        let far = ChannelId::of(node.far);
        let envelope = |number: u64, body: &[u8]| {
            let mut bytes = Vec::new();
            let sender = EndpointId::of(SENDER);
            let mut send =
                wire::send::SendBuilder::begin(&mut bytes, sender, far, Sequence(number));
            send.message(UnixNanos(0), &[], body).unwrap();
            let id = KeyId(1);
            let signer = wire::signature::Signer::Key { id, key: key.mac() };
            send.finish(signer).unwrap();
            bytes
        };
        let mut told = Vec::new();
        let mut number = 0;
        for (by_relay, sequence) in [
            (false, 1),
            (true, 2),
            (true, 5),
            (false, 3),
            (false, 5),
            (false, 4),
            (true, 4),
            (false, 6),
            (true, 1),
            (false, 8),
            (false, 7),
        ] {
            let body = [sequence as u8, u8::from(by_relay)];
            // What is in the log already can be relayed again, under numbers beyond all of its own.
            while by_relay && number < repeats {
                number += 1;
                let frame = relay.relay(number, &envelope(1, &[1, 0]));
                node.exchange(&mut relay, &frame);
            }
            let said = if by_relay {
                number += 1;
                let frame = relay.relay(number, &envelope(sequence, &body));
                node.exchange(&mut relay, &frame)
            } else {
                let frame = node.send(&mut client, sequence, &body);
                node.exchange(&mut client, &frame)
            };
            told.push(gist(&said));
        }
        let mut next = Client::new(&mut node.shards[node.home], SENDER, key.text_bytes());
        let said = node.greet(&mut next, Auth::Key(KeyId(1)));
        let Some(Said::Welcome(_, entries)) = said.get(1) else {
            panic!("{said:?}")
        };
        let far = entries.iter().find(|entry| entry.1 == node.partition);
        (told, node.log(), far.unwrap().2)
    };
    for repeats in [0, 20] {
        let alone = answers(1, repeats);
        assert_eq!(alone.1.len(), 7);
        let highest = alone.1.iter().map(|(sequence, _)| *sequence).max();
        assert_eq!(Some(alone.2.0), highest, "relays count by themselves");
        assert_eq!(answers(2, repeats), alone);
        assert_eq!(answers(5, repeats), alone);
    }
}

/// What an answer says, whatever it is signed with: refusals in order, and how far was acked at last.
fn gist(said: &[Said]) -> (Vec<String>, Option<Ack>) {
    let refusals = said.iter().filter_map(|said| match said {
        Said::Reject(reject) => Some(format!("{reject:?}")),
        Said::Goaway(notice) => Some(format!("{notice:?}")),
        Said::Welcome(_, entries) => Some(format!("{entries:?}")),
        _ => None,
    });
    let mut acks = said.iter().filter_map(|said| match said {
        Said::Ack(ack) => Some(*ack),
        _ => None,
    });
    (refusals.collect(), acks.next_back())
}

/// One frame of a script.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// With this number, this long.
    Send(u64, usize),
    /// To a channel without a grant.
    Shut(u64),
    /// Changed on the way.
    Tampered(u64),
}

/// What happens between two looks at the answers.
#[derive(Debug, Clone)]
enum Piece {
    Frames(Vec<Step>),
    Resume,
    Connect,
    /// The client before this one sends once more.
    Late(u64),
}

/// Carry out a piece; what was said.
fn carry_out(node: &mut Node, clients: &mut Vec<Client>, piece: &Piece) -> Vec<Said> {
    let mut client = clients.pop().unwrap();
    let (mut client, said) = match piece {
        Piece::Resume => {
            let (next, said) = node.resume(&client);
            clients.push(client);
            (next, said)
        }
        Piece::Connect => {
            let mut next = Client::new(&mut node.shards[node.home], SENDER, secret(1).text_bytes());
            let said = node.greet(&mut next, Auth::Key(KeyId(1)));
            clients.push(client);
            (next, said)
        }
        Piece::Late(number) => {
            let mut said = Vec::new();
            if let Some(mut before) = clients.pop() {
                let frame = node.send(&mut before, *number, b"late");
                said = node.exchange(&mut before, &frame);
            }
            (client, said)
        }
        Piece::Frames(steps) => {
            let mut bytes = Vec::new();
            for step in steps {
                bytes.extend(match *step {
                    Step::Send(number, long) => {
                        node.send(&mut client, number, &vec![number as u8; long])
                    }
                    Step::Shut(number) => {
                        client.send_as(EndpointId::of(SENDER), SHUT, number, &[b"x"])
                    }
                    Step::Tampered(number) => {
                        let mut frame = node.send(&mut client, number, b"tampered");
                        let at = frame.len() - 33;
                        frame[at] ^= 1;
                        frame
                    }
                });
            }
            let said = node.exchange(&mut client, &bytes);
            (client, said)
        }
    };
    let gone = said.iter().any(|said| matches!(said, Said::Goaway(_)));
    if gone && !matches!(piece, Piece::Late(_)) {
        clients.clear();
        client = node.connect();
    }
    clients.push(client);
    said
}

/// A piece that a client might send, or a careless or hostile one, as far as it knows the stream.
fn piece(random: &mut fastrand::Rng, last: u64, shut: bool) -> Piece {
    match random.u8(..20) {
        0 => return Piece::Resume,
        1 => return Piece::Connect,
        2 => return Piece::Late(last + 1),
        _ => {}
    }
    let mut next = last + 1;
    let steps = (0..random.u8(1..8)).map(|_| {
        let number = match random.u8(..13) {
            0 => next.saturating_sub(random.u64(1..4)),
            1 => next + random.u64(1..3),
            2 if random.bool() => 1 << 60,
            _ => next,
        };
        if number < 1 << 60 {
            next = number + 1;
        }
        match random.u8(..16) {
            0 if shut => Step::Shut(number),
            1 => Step::Tampered(number),
            // No record is that long: only the log's owner knows.
            2 => Step::Send(number, 9_000),
            _ => Step::Send(number, random.usize(1..50)),
        }
    });
    Piece::Frames(steps.collect())
}

fn pass_time(nodes: &mut [&mut Node], time: Duration) {
    let worlds = nodes.iter_mut().flat_map(|node| &mut node.shards);
    worlds.for_each(|world| world.pass(time));
}

/// Scripts that are compared, unless `FOREBAY_ACROSS_SCRIPTS` says otherwise.
const SCRIPTS: u64 = 60;

#[test]
fn several_shards_say_what_one_shard_says_whatever_a_client_sends() {
    let scripts = std::env::var("FOREBAY_ACROSS_SCRIPTS").ok();
    let scripts = scripts.map_or(SCRIPTS, |scripts| scripts.parse().unwrap());
    let (mut frames, mut refusals) = (0, 0);
    for seed in 0..scripts {
        let mut random = fastrand::Rng::with_seed(seed);
        let setup = || {
            let mut setup = two_hubs(AckMode::Durable);
            setup.limits.credit_frames = 12;
            setup.limits.bad_signatures_max = 4;
            if seed % 2 == 1 {
                let sender = endpoint_in(&mut setup.parts, SENDER);
                sender.rates.messages_per_second = Some(15);
            }
            setup
        };
        let mut alone = Node::on(Disk::new(1), setup(), 1);
        let mut several = Node::on(Disk::new(1), setup(), random.u16(2..=8));
        assert_ne!(several.home, several.owner);
        let mut clients = [vec![alone.connect()], vec![several.connect()]];
        for at in 0..40 {
            let last = alone.log().last().map_or(0, |(number, _)| *number);
            let piece = piece(&mut random, last, alone.far == FAR);
            let mut want = gist(&carry_out(&mut alone, &mut clients[0], &piece));
            let mut got = gist(&carry_out(&mut several, &mut clients[1], &piece));
            if want
                .0
                .iter()
                .any(|told| told.contains("TooManyBadSignatures"))
            {
                // What the owner of the log would say of what came before finds no connection any more.
                (want.1, got.1) = (None, None);
                want.0.drain(..want.0.len() - 1);
                got.0.drain(..got.0.len().saturating_sub(1));
            }
            assert_eq!(got, want, "seed {seed}, piece {at}: {piece:?}");
            refusals += want.0.len();
            pass_time(&mut [&mut alone, &mut several], Duration::from_millis(100));
        }
        assert_eq!(several.log(), alone.log(), "seed {seed}");
        frames += alone.log().len();
        // Nothing is under way any more, so a window is whole again; and so is what a second allows.
        pass_time(&mut [&mut alone, &mut several], Duration::from_secs(1));
        let [first, second] = &mut clients;
        for (node, clients) in [(&mut alone, first), (&mut several, second)] {
            let last = node.log().last().map_or(0, |(number, _)| *number);
            let steps = (1..=12).map(|more| Step::Send(last + more, 5));
            let said = carry_out(node, clients, &Piece::Frames(steps.collect()));
            assert_eq!(rejects(&said), [], "seed {seed}");
        }
    }
    eprintln!("{scripts} scripts: {frames} frames in the logs, {refusals} refusals, all the same");
    assert!(frames as u64 > scripts * 20, "{frames} frames are few");
}

/// Pairs of numbers of shards, one behind the other, unless `FOREBAY_SHARD_PAIRS` says otherwise.
const PAIRS: u64 = 50;

#[test]
fn both_streams_of_an_endpoint_go_on_whatever_number_of_shards_follows_which() {
    let pairs = std::env::var("FOREBAY_SHARD_PAIRS").ok();
    let pairs = pairs.map_or(PAIRS, |pairs| pairs.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(11);
    let mut disk = Disk::new(1);
    let (mut sent, mut crossed) = ([0u64; 2], 0);
    for pair in 0..=pairs {
        let mut node = Node::on(disk, two_hubs(AckMode::Durable), random.u16(1..=16));
        let mut client = Client::new(&mut node.shards[node.home], SENDER, secret(1).text_bytes());
        let said = node.greet(&mut client, Auth::Key(KeyId(1)));
        let Said::Welcome(_, entries) = &said[1] else {
            panic!("pair {pair}: {said:?}")
        };
        for (channel, sent) in [node.near, node.far].into_iter().zip(sent) {
            let mut entries = entries.iter();
            let entry = entries.find(|entry| entry.0 == ChannelId::of(channel));
            assert_eq!(entry.unwrap().2, Sequence(sent), "pair {pair}: {channel}");
        }
        for _ in 0..random.u64(1..20) {
            let to = random.usize(..2);
            sent[to] += 1;
            let channel = [node.near, node.far][to];
            let body = sent[to].to_le_bytes();
            let frame = client.send_as(EndpointId::of(SENDER), channel, sent[to], &[&body]);
            let said = node.exchange(&mut client, &frame);
            assert_eq!(acks(&said), [sent[to]], "pair {pair}: {said:?}");
        }
        // What was not acked is lost or kept; here all was. Some is on its way when the node ends.
        let late = node.send(&mut client, sent[1] + 1, b"late");
        node.at_home(&mut client, &late);
        crossed += node.mesh(node.home).0;
        let want: Vec<u64> = (1..=sent[1]).collect();
        let numbers = |node: &Node| node.log().iter().map(|frame| frame.0).collect::<Vec<_>>();
        let there = numbers(&node);
        assert_eq!(there[..want.len()], want, "pair {pair}");
        disk = node.shards[0].disk.crash(match random.bool() {
            true => Crash::Kept,
            false => Crash::Lost,
        });
        // On a node of one shard, or with both logs on one, the late one was taken.
        sent[1] = there.len() as u64;
    }
    eprintln!(
        "{pairs} pairs of 1 to 16 shards: {sent:?} in the logs, {crossed} crossed, 0 lost, 0 twice"
    );
    assert!(crossed > pairs, "{crossed} frames crossed");
}
