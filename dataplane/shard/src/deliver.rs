//! Stage 8, deliver: what waits in a queue goes out, by credit, as far as its consumer's connection can take it.
//! The bytes of messages are copied once, from the log to the connection's buffer.

use partition::{ReadError, Segment};
use wire::delivery::{DeliverBuilder, GroupHeader};
use wire::frame::SignatureKind;
use wire::ids::{Offset, Sequence, UnixNanos};
use wire::message::message_bytes;
use wire::route::EndpointView;
use wire::send::MESSAGES_AT;
use wire::signature::Signer;

use crate::consume::{Consumers, ListKey, source_at, wake_ready};
use crate::io::ConnectionId;
use crate::log::Group;
use crate::peers::Peers;
use crate::planted::{Bug, active};
use crate::queue::{Piece, QueueGroup, SkipReason};
use crate::reading::Logs;
use crate::session::SessionRef;

/// Records passed over in one attempt to deliver, and what each of them costs of the turn's bytes: giving up
/// messages is work, too.
const SKIPS_MAX: usize = 64;
const SKIP_BYTES: usize = 1 << 10;

/// Bytes of messages in a DELIVER, or one message, while all connections together have too much unsent.
const CROWDED_BYTES: usize = 16 << 10;

/// Stage 8: send what waits, one DELIVER frame a consumer in turn. Returns whether there is more to do at once.
pub(crate) fn deliver<S: Segment>(
    peers: &mut Peers,
    logs: Logs<'_, S>,
    groups: &mut [Group<S>],
    consumers: &mut Consumers,
) -> bool {
    wake_ready(peers, groups, consumers);
    let mut budget = peers.limits.deliver_bytes_per_turn;
    while let Some(key) = consumers.ready.pop_front() {
        let Some(consumer) = consumers.consumers.get_mut(&key) else {
            continue;
        };
        consumer.ready = false;
        let session = consumer.session;
        match deliver_to(peers, logs, groups, key, session) {
            Step::Nothing => {}
            Step::Stalled => consumers.stall(key),
            Step::Sent(bytes) => {
                consumers.wake(key);
                budget = budget.saturating_sub(bytes);
                if budget == 0 {
                    return true;
                }
            }
        }
    }
    false
}

/// What one attempt to deliver came to.
enum Step {
    /// No credit, or nothing waits.
    Nothing,
    /// The connection has too much unsent.
    Stalled,
    /// A frame of so many bytes, or as much work on messages that cannot be delivered.
    Sent(usize),
}

fn deliver_to<S: Segment>(
    peers: &mut Peers,
    logs: Logs<'_, S>,
    groups: &mut [Group<S>],
    key: ListKey,
    reference: SessionRef,
) -> Step {
    if !peers.hold_receiver(reference) {
        return Step::Nothing;
    }
    let Some(session) = peers.sessions.get(reference) else {
        return Step::Nothing;
    };
    let credit = session.credit(key.1);
    let Some(id) = session.connection else {
        return Step::Nothing;
    };
    if credit.messages == 0 || credit.bytes == 0 {
        return Step::Nothing;
    }
    let Some(connection) = peers
        .connections
        .get(id)
        .filter(|connection| connection.listens())
    else {
        return Step::Nothing;
    };
    let unsent = connection.unsent + connection.out.len();
    let crowded = peers.crowded();
    let waits = unsent >= peers.limits.unsent_bytes_high || (crowded && unsent > 0);
    if waits || peers.used_up() {
        peers.counters.deliver.backpressure += 1;
        return Step::Stalled;
    }
    let number = peers.table.queue_group_of(key.0);
    let Some(group) = groups
        .iter_mut()
        .map(|group| &mut group.queues)
        .find(|queues| queues.number() == number)
    else {
        return Step::Nothing;
    };
    write_frame(peers, logs, group, key, reference, id)
}

/// Write one DELIVER of as many messages as credit, the queue and the frame allow.
fn write_frame<S: Segment>(
    peers: &mut Peers,
    logs: Logs<'_, S>,
    group: &mut QueueGroup<S>,
    key: ListKey,
    reference: SessionRef,
    id: ConnectionId,
) -> Step {
    if group.next_piece(key.0, source_at(key.1).0).is_none() {
        return Step::Nothing;
    }
    let table = std::sync::Arc::clone(&peers.table);
    let Some(endpoint) = table.endpoint(key.0) else {
        return Step::Nothing;
    };
    let mut out = peers.take_out(id);
    let start = out.len();
    let (source, wire_source) = source_at(key.1);
    let mut builder = DeliverBuilder::begin(&mut out, wire_source);
    let (mut messages, mut skips) = (0, 0);
    let mut left = match peers.crowded() {
        true => CROWDED_BYTES as u64,
        false => u64::MAX,
    };
    while let Some(piece) = group.next_piece(key.0, source) {
        let Some(session) = peers.sessions.get_mut(reference) else {
            break;
        };
        let credit = session.credit_mut(key.1);
        if credit.messages == 0 || credit.bytes == 0 || left == 0 {
            break;
        }
        match find(
            logs,
            &piece,
            &endpoint,
            credit.messages,
            credit.bytes.min(left),
            builder.room(),
            peers.now.unix,
        ) {
            Found::Messages(header, bytes) => {
                if !builder.group(&header, bytes) {
                    break;
                }
                let count = u32::from(header.count);
                credit.messages -= u64::from(count);
                credit.bytes = credit.bytes.saturating_sub(bytes.len() as u64);
                left = left.saturating_sub(bytes.len() as u64);
                group.delivered(
                    key.0,
                    source,
                    piece.number,
                    count,
                    peers.now.monotonic,
                    endpoint.queue().lock,
                );
                messages += u64::from(count);
            }
            Found::NoRoom => break,
            Found::Skip(count, why) => {
                peers.counters.deliver.messages_lost += u64::from(count);
                group.skip(key.0, source, piece.number, count, why);
                skips += 1;
                if skips == SKIPS_MAX {
                    break;
                }
            }
        }
    }
    let signed = peers.sign_with(id, reference, |signer: Signer<'_>| builder.finish(signer));
    let bytes = out.len() - start;
    peers.put_out(id, out);
    if !signed {
        return match skips {
            0 => Step::Nothing,
            _ => Step::Sent(skips * SKIP_BYTES),
        };
    }
    peers.delivered(bytes);
    let counters = &mut peers.counters.deliver;
    counters.frames += 1;
    counters.messages += messages;
    counters.bytes += bytes as u64;
    Step::Sent(bytes + skips * SKIP_BYTES)
}

/// What was found for a piece.
enum Found<'a> {
    /// Messages of one record.
    Messages(GroupHeader, &'a [u8]),
    /// The frame cannot take another message.
    NoRoom,
    /// So many messages cannot be delivered.
    Skip(u32, SkipReason),
}

/// The first messages of a piece: those of one record, as many as fit.
fn find<'a, S: Segment>(
    logs: Logs<'a, S>,
    piece: &Piece,
    endpoint: &EndpointView<'_>,
    messages: u64,
    bytes: u64,
    room: usize,
    now: UnixNanos,
) -> Found<'a> {
    let Some(log) = logs.get(piece.partition) else {
        return Found::Skip(piece.count, SkipReason::Expired);
    };
    let until = |next: Offset| {
        let gone = next.0.saturating_sub(piece.offset.0).max(1);
        u32::try_from(gone).unwrap_or(u32::MAX).min(piece.count)
    };
    let record = match log.read(piece.offset) {
        Ok(record) => record,
        Err(ReadError::NotYet) => return Found::NoRoom,
        Err(ReadError::Expired { first }) => {
            return Found::Skip(until(first), SkipReason::Expired);
        }
        Err(ReadError::Damaged { next }) => {
            return Found::Skip(until(next), SkipReason::Damaged);
        }
    };
    let here = until(record.next());
    let heard = endpoint.hears(record.channel(), now);
    if !heard && !active(Bug::IgnoreGrants) {
        return Found::Skip(here, SkipReason::Withdrawn);
    }
    let signature = SignatureKind::from_u8(record.signature_kind()).map_or(0, SignatureKind::bytes);
    let payload = record.payload();
    let end = payload.len().saturating_sub(signature);
    let skipped = piece.offset.0 - record.first().0;
    let Some(rest) = payload
        .get(MESSAGES_AT..end)
        .and_then(|all| skip(all, skipped))
    else {
        return Found::Skip(here, SkipReason::Damaged);
    };
    let (count, length) = take(rest, u64::from(here).min(messages), bytes, room);
    if count == 0 {
        let whole = message_bytes(rest).is_some();
        return if whole {
            Found::NoRoom
        } else {
            Found::Skip(1, SkipReason::Damaged)
        };
    }
    let header = GroupHeader {
        number: Sequence(piece.number + 1),
        sender: record.endpoint(),
        offset: piece.offset,
        append_time: record.time(),
        partition: piece.partition,
        channel: record.channel(),
        count,
        attempt: piece.attempt,
    };
    Found::Messages(header, &rest[..length])
}

/// The bytes behind the first `count` messages.
fn skip(bytes: &[u8], count: u64) -> Option<&[u8]> {
    (0..count).try_fold(bytes, |rest, _| rest.get(message_bytes(rest)?..))
}

/// How many messages to take, and their bytes: at most `count`, while `credit` bytes are left, within `room`.
fn take(bytes: &[u8], count: u64, credit: u64, room: usize) -> (u16, usize) {
    let (mut taken, mut length) = (0u16, 0usize);
    while u64::from(taken) < count && taken < u16::MAX && (length as u64) < credit {
        let Some(next) = message_bytes(&bytes[length..]) else {
            break;
        };
        if length + next > room {
            break;
        }
        length += next;
        taken += 1;
    }
    (taken, length)
}
