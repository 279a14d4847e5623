//! The outbox against rules one by one, then against an oracle of the server over random interleavings.

use super::*;
use wire::frame::split;
use wire::ids::EndpointId;
use wire::send::{Send, SendBuilder};
use wire::signature::{SessionKeys, verify_session};

const PARTITION: PartitionId = PartitionId(7);
const CHANNEL: ChannelId = ChannelId(8);
const RETRY_FOR: Duration = Duration::from_secs(10);

fn channels(last: u64) -> Vec<ChannelTerms> {
    vec![ChannelTerms {
        id: CHANNEL,
        name: "a/e/c".to_owned(),
        partition: PARTITION,
        last_sequence: Sequence(last),
        ack_mode: AckMode::Durable,
    }]
}

fn frame(number: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut builder = SendBuilder::begin(&mut out, EndpointId(5), CHANNEL, Sequence(0));
    let body = number.to_le_bytes();
    builder
        .message(wire::ids::UnixNanos(0), &[], &body)
        .expect("short");
    out[6..8].copy_from_slice(&1u16.to_le_bytes());
    out
}

fn ack(sequence: u64, credit_frames: u32) -> Ack {
    Ack {
        partition: PARTITION,
        sequence: Sequence(sequence),
        ack_mode: AckMode::Durable,
        offset: Offset(sequence),
        credit_frames,
        credit_bytes: 1 << 20,
    }
}

fn reject(sequence: u64, notice: Notice) -> Reject {
    Reject {
        partition: PARTITION,
        sequence: Sequence(sequence),
        notice,
    }
}

struct Bench {
    outbox: Outbox<u32>,
    seal: Seal,
    keys: SessionKeys,
    received: u64,
    answered: Vec<Answered<u32>>,
}

impl Bench {
    fn new(frames: u32, credit: u32) -> Self {
        let (seal, keys) = Seal::for_tests();
        let mut bench = Self {
            outbox: Outbox::new(RETRY_FOR),
            seal,
            keys,
            received: 0,
            answered: Vec::new(),
        };
        bench
            .outbox
            .opened(channels(0), credit, 1 << 20, &mut bench.answered);
        (0..frames).for_each(|number| {
            bench
                .outbox
                .push(CHANNEL, frame(number), number)
                .expect("granted")
        });
        bench
    }

    fn reopened(&mut self, last: u64, credit: u32) {
        (self.seal, self.keys) = Seal::for_tests();
        self.received = 0;
        self.outbox
            .opened(channels(last), credit, 1 << 20, &mut self.answered);
    }

    /// Sequence and number of each frame that goes out at `now`.
    fn pump(&mut self, now: Duration) -> Vec<(u64, u32)> {
        let mut out = Vec::new();
        self.outbox.pump(now, &mut self.seal, &mut out);
        let (mut rest, mut sent) = (&out[..], Vec::new());
        while let Some((frame, after)) = split(rest).expect("well formed") {
            assert!(verify_session(&self.keys.client, self.received, &frame));
            self.received += 1;
            let send = Send::parse(frame).expect("a SEND");
            let body = send.messages().next().expect("one message").body;
            sent.push((
                send.sequence().0,
                u32::from_le_bytes(body.try_into().expect("4 bytes")),
            ));
            rest = after;
        }
        sent
    }

    fn answers(&mut self) -> Vec<(u32, Option<Reason>)> {
        let each = self.answered.drain(..);
        each.map(|answered| {
            (
                answered.ticket,
                answered.result.err().map(|rejected| rejected.notice.reason),
            )
        })
        .collect()
    }
}

const NOW: Duration = Duration::from_secs(1);

#[test]
fn no_more_frames_are_out_than_credit_allows() {
    let mut bench = Bench::new(5, 2);
    assert_eq!(bench.pump(NOW), [(1, 0), (2, 1)]);
    assert_eq!(bench.pump(NOW), [], "the window is full");
    bench.outbox.acked(&ack(1, 2), &mut bench.answered);
    assert_eq!(bench.pump(NOW), [(3, 2)]);
    bench.outbox.acked(&ack(3, 1), &mut bench.answered);
    assert_eq!(bench.pump(NOW), [(4, 3)], "the server narrowed the window");
    assert_eq!(bench.answers(), [(0, None), (1, None), (2, None)]);
}

#[test]
fn a_stream_whose_pause_is_over_and_that_finds_no_credit_waits_for_no_time() {
    // Streams take turns in coming first: this has to hold whichever does.
    for rounds in 0..2 {
        let mut bench = Bench::new(3, 1);
        let mut both = channels(0);
        both.push(ChannelTerms {
            id: ChannelId(9),
            partition: PartitionId(9),
            ..both[0].clone()
        });
        let answered = &mut bench.answered;
        bench.outbox.opened(both, 1, 1 << 20, answered);
        let pushed = bench.outbox.push(ChannelId(9), frame(100), 100);
        pushed.expect("granted");
        // The lone frame of one stream is refused for now, the first of the other's three takes all the credit.
        assert_eq!(bench.pump(NOW), [(1, 100)]);
        let busy = Notice::new(Reason::Busy, 0, 0).retry_after(100);
        let refused = Reject {
            partition: PartitionId(9),
            ..reject(1, busy)
        };
        bench.outbox.rejected(&refused, NOW, &mut bench.answered);
        assert_eq!(bench.pump(NOW), [(1, 0)]);
        assert!(bench.outbox.wake_at().is_some_and(|at| at > NOW));
        (0..rounds).for_each(|_| assert_eq!(bench.pump(NOW), []));
        let later = NOW + Duration::from_secs(1);
        assert_eq!(bench.pump(later), [], "no credit");
        assert_eq!(bench.outbox.wake_at(), None, "an answer is awaited");
        bench.outbox.acked(&ack(1, 3), &mut bench.answered);
        let mut sent = bench.pump(later);
        sent.sort_unstable();
        assert_eq!(sent, [(1, 100), (2, 1), (3, 2)]);
    }
}

#[test]
fn a_frame_refused_for_now_waits_longer_each_time_and_fails_in_the_end() {
    let mut bench = Bench::new(2, 8);
    let busy = Notice::new(Reason::Busy, 0, 0).retry_after(100);
    let (mut now, mut pauses) = (NOW, Vec::new());
    while bench.answered.is_empty() {
        assert_eq!(bench.pump(now), [(1, 0), (2, 1)]);
        bench
            .outbox
            .rejected(&reject(1, busy), now, &mut bench.answered);
        let wake = bench.outbox.wake_at().unwrap_or(now);
        if wake > now {
            assert_eq!(
                bench.pump(wake - Duration::from_nanos(1)),
                [],
                "not before the pause is over"
            );
            pauses.push((wake - now).as_millis());
        }
        now = wake;
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000]);
    assert_eq!(bench.answers(), [(0, Some(Reason::Busy))]);
    assert_eq!(
        bench.pump(now),
        [(1, 1)],
        "the next frame takes the number that was not spent"
    );
}

#[test]
fn a_frame_that_a_sealed_partition_refused_keeps_its_number() {
    let sealed = |at| reject(at, Notice::new(Reason::PartitionSealed, 0, 0));
    let mut bench = Bench::new(3, 2);
    assert_eq!(bench.pump(NOW), [(1, 0), (2, 1)]);
    let mut now = NOW;
    while bench.answered.is_empty() {
        bench.outbox.rejected(&sealed(1), now, &mut bench.answered);
        assert_eq!(bench.pump(now), [], "not before a pause");
        now = bench.outbox.wake_at().expect("it is tried again");
        assert_eq!(bench.pump(now), [(1, 0)], "the same frame, alone");
    }
    assert!(now >= NOW + RETRY_FOR, "the tickets waited for retry_for");
    let reason = Some(Reason::PartitionSealed);
    assert_eq!(
        bench.answers(),
        [(0, reason), (1, reason), (2, reason)],
        "everything on the stream has its answer"
    );
    assert!(bench.outbox.is_empty() && bench.outbox.bytes() == 0);

    // What comes now waits behind the frames in doubt and is told so at the next refusal.
    bench.outbox.push(CHANNEL, frame(3), 3).expect("granted");
    assert_eq!(bench.outbox.len(), 1);
    bench.outbox.rejected(&sealed(1), now, &mut bench.answered);
    assert_eq!(bench.answers(), [(3, reason)]);

    // The node started again and its log has the first frame but not the second.
    bench.outbox.push(CHANNEL, frame(4), 4).expect("granted");
    bench.reopened(1, 8);
    assert_eq!(bench.pump(now), [(2, 1), (3, 4)]);
    bench.outbox.acked(&ack(3, 8), &mut bench.answered);
    assert_eq!(bench.answers(), [(4, None)], "each ticket is answered once");
    assert_eq!(bench.outbox.len(), 0);
}

#[test]
fn the_servers_idea_of_the_next_number_is_followed() {
    let unexpected = |seen, needed| Notice::new(Reason::OutOfSequence, seen, needed);
    let mut bench = Bench::new(4, 8);
    bench.reopened(10, 8);
    assert_eq!(bench.pump(NOW), [(11, 0), (12, 1), (13, 2), (14, 3)]);
    bench.outbox.acked(&ack(11, 8), &mut bench.answered);
    bench
        .outbox
        .rejected(&reject(14, unexpected(14, 13)), NOW, &mut bench.answered);
    assert_eq!(bench.pump(NOW), [(13, 2), (14, 3)], "one frame was missed");
    bench
        .outbox
        .rejected(&reject(12, unexpected(12, 5)), NOW, &mut bench.answered);
    assert_eq!(
        bench.pump(NOW),
        [(5, 1), (6, 2), (7, 3)],
        "the server lost its tail"
    );
    assert_eq!(bench.answers(), [(0, None)]);
}

#[test]
fn a_stream_that_another_session_took_over_fails_and_does_not_spin() {
    let mut bench = Bench::new(2, 8);
    let lost = Notice::new(Reason::OutOfSequence, 1, 9);
    for _ in 0..4 {
        let Some((sequence, _)) = bench.pump(NOW).first().copied() else {
            break;
        };
        bench
            .outbox
            .rejected(&reject(sequence, lost), NOW, &mut bench.answered);
    }
    let reason = Some(Reason::OutOfSequence);
    assert_eq!(bench.answers(), [(0, reason), (1, reason)]);
}

#[test]
fn a_frame_without_a_stream_is_dropped_by_its_number_and_a_replay_changes_nothing() {
    let mut bench = Bench::new(3, 8);
    assert_eq!(bench.pump(NOW).len(), 3);
    bench.outbox.rejected(
        &reject(1, Notice::new(Reason::Replayed, 0, 0)),
        NOW,
        &mut bench.answered,
    );
    assert_eq!(bench.pump(NOW), []);
    let unknown = Reject {
        partition: NO_STREAM,
        ..reject(2, Notice::new(Reason::UnknownChannel, 0, 0))
    };
    bench.outbox.rejected(&unknown, NOW, &mut bench.answered);
    assert_eq!(bench.pump(NOW), [(2, 2)]);
    assert_eq!(bench.answers(), [(1, Some(Reason::UnknownChannel))]);
}

#[test]
fn what_the_server_has_is_answered_at_resumption_and_the_rest_goes_out_again() {
    let mut bench = Bench::new(5, 8);
    assert_eq!(bench.pump(NOW).len(), 5);
    bench.reopened(3, 8);
    assert_eq!(bench.answers(), [(0, None), (1, None), (2, None)]);
    assert_eq!(bench.pump(NOW), [(4, 3), (5, 4)]);
    bench
        .outbox
        .opened(Vec::new(), 8, 1 << 20, &mut bench.answered);
    assert_eq!(
        bench.answers(),
        [(3, Some(Reason::NotGranted)), (4, Some(Reason::NotGranted))]
    );
    assert!(bench.outbox.is_empty() && bench.outbox.bytes() == 0);
}

#[test]
fn answers_to_what_was_never_sent_change_nothing() {
    let mut bench = Bench::new(1, 8);
    bench.outbox.rejected(
        &reject(1, Notice::new(Reason::Busy, 0, 0)),
        NOW,
        &mut bench.answered,
    );
    bench.outbox.acked(&ack(1, 8), &mut bench.answered);
    assert_eq!(bench.answers(), []);
    assert_eq!(bench.pump(NOW), [(1, 0)]);
    bench.outbox.acked(
        &Ack {
            partition: PartitionId(99),
            ..ack(1, 8)
        },
        &mut bench.answered,
    );
    assert_eq!(bench.answers(), []);
}

/// The server's rules for one stream: go-back-N after a refusal, re-sent frames appended once.
#[derive(Default)]
struct Oracle {
    log: Vec<u32>,
    committed: usize,
    discard: Option<u64>,
    refused: Vec<u32>,
}

impl Oracle {
    fn receive(
        &mut self,
        (sequence, number): (u64, u32),
        random: &mut fastrand::Rng,
    ) -> Option<Reject> {
        if self.discard.is_some_and(|from| sequence > from) {
            return None;
        }
        self.discard = None;
        let last = self.log.len() as u64;
        if sequence <= last {
            assert_eq!(
                self.log[sequence as usize - 1],
                number,
                "a number was given to another frame"
            );
            return None;
        }
        let notice = match random.u32(0..20) {
            0 => Notice::new(Reason::Busy, 0, 0).retry_after(1),
            1 if !self.refused.contains(&number) => {
                self.refused.push(number);
                Notice::new(Reason::RestrictedBody, 0, 0)
            }
            _ if sequence > last + 1 => Notice::new(Reason::OutOfSequence, sequence, last + 1),
            _ => {
                self.log.push(number);
                return None;
            }
        };
        self.discard = Some(sequence);
        Some(reject(sequence, notice))
    }
}

#[test]
fn over_random_refusals_and_lost_connections_every_frame_is_appended_once_or_refused() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut bench, mut oracle) = (Bench::new(60, 8), Oracle::default());
        let (mut now, mut flight) = (NOW, VecDeque::new());
        for _ in 0..100_000 {
            if bench.outbox.is_empty() {
                break;
            }
            now += Duration::from_millis(random.u64(0..20));
            flight.extend(bench.pump(now));
            for _ in 0..random.usize(0..=flight.len()) {
                let Some(next) = flight.pop_front() else {
                    break;
                };
                if let Some(reject) = oracle.receive(next, &mut random) {
                    bench.outbox.rejected(&reject, now, &mut bench.answered);
                }
            }
            oracle.committed = random.usize(oracle.committed..=oracle.log.len());
            if random.u32(0..3) > 0 && oracle.committed > 0 {
                bench.outbox.acked(
                    &ack(oracle.committed as u64, random.u32(1..9)),
                    &mut bench.answered,
                );
            }
            if random.u32(0..25) == 0 {
                flight.clear();
                oracle.discard = None;
                bench.reopened(oracle.committed as u64, 8);
            }
        }
        let answers = bench.answers();
        assert_eq!(answers.len(), 60, "seed {seed}");
        let want: Vec<u32> = (0..60)
            .filter(|number| !oracle.refused.contains(number))
            .collect();
        assert_eq!(oracle.log, want, "seed {seed}");
        for (number, reason) in answers {
            assert_eq!(
                reason.is_some(),
                oracle.refused.contains(&number),
                "seed {seed}: {number} {reason:?}"
            );
        }
    }
}
