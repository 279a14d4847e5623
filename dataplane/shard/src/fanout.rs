//! Stage 7, fan-out: committed records go to the queues of everyone who hears their channel. Nothing is
//! refused here: a queue group that cannot take more reads the rest from the log later, from its watermark.

use partition::{ReadError, RecordKind, Segment};
use wire::frame::SignatureKind;
use wire::ids::{ChannelId, Offset, PartitionId};
use wire::route::RouteTable;
use wire::send::MESSAGES_AT;

use crate::commit::{Committed, TOGETHER_BYTES_MAX};
use crate::log::Group;
use crate::peers::Peers;
use crate::queue::{FanOut, QueueGroup, Span};
use crate::reading::{LogReader, Logs};

/// Stage 7: bring every queue group up to what is committed, within the bounds of a turn. Returns whether
/// there is more to do at once.
pub(crate) fn fanout<S: Segment>(
    peers: &mut Peers,
    logs: Logs<'_, S>,
    groups: &mut [Group<S>],
    committed: &[Committed],
    spans: &mut Vec<Span>,
) -> bool {
    let mut more = false;
    let mut budget = peers.limits.fanout_records_per_turn;
    for group in groups.iter_mut().map(|group| &mut group.queues) {
        let mut rest = committed;
        for log in logs.own {
            // The records of a log stand together, in order of the logs.
            let count = rest
                .iter()
                .take_while(|record| record.partition() == log.id)
                .count();
            let (fresh, after) = rest.split_at(count);
            rest = after;
            let source = (log.id, LogReader::Own(&log.partition));
            more |= catch_up_with(peers, source, group, fresh, spans, &mut budget);
        }
        for log in logs.followed {
            let source = (log.partition, LogReader::Followed(&log.follower));
            more |= catch_up_with(peers, source, group, &log.fresh, spans, &mut budget);
        }
        more |= group.catch_up(&peers.table, peers.now.unix, |id| logs.whole(id));
    }
    more
}

/// Bring one group up to one log. Returns whether there is more to do at once.
fn catch_up_with<S: Segment>(
    peers: &mut Peers,
    (id, log): (PartitionId, LogReader<'_, S>),
    group: &mut QueueGroup<S>,
    fresh: &[Committed],
    spans: &mut Vec<Span>,
    budget: &mut usize,
) -> bool {
    let (from, end) = (group.watermark(id), log.committed());
    if from >= end {
        return false;
    }
    spans.clear();
    take_fresh(peers, fresh, from, end, spans);
    if spans.is_empty() {
        read_back(peers, id, log, from, end, spans, budget);
    }
    let table = std::sync::Arc::clone(&peers.table);
    match group.fan_out(spans, &table, peers.now.unix) {
        FanOut::Taken(taken) if taken > 0 => group.watermark(id) < end,
        FanOut::Taken(_) => *budget == 0,
        FanOut::Paused => {
            peers.counters.fanout.stalls += 1;
            false
        }
    }
}

/// Take what just became committed, as far as it goes on from the watermark without a gap.
fn take_fresh(
    peers: &mut Peers,
    fresh: &[Committed],
    mut from: Offset,
    end: Offset,
    spans: &mut Vec<Span>,
) {
    for records in fresh {
        let next = records.first().plus(u64::from(records.count()));
        if records.first() > from || next > end {
            return;
        }
        peers.counters.fanout.records += u64::from(records.records());
        spans.extend(above(span(records), from));
        from = from.max(next);
    }
}

fn span(record: &Committed) -> Span {
    Span {
        partition: record.partition(),
        channel: record.channel(),
        first: record.first(),
        count: record.count(),
        bytes: record.message_bytes(),
    }
}

/// What of a span lies at or above the watermark; bytes go in proportion.
fn above(mut span: Span, from: Offset) -> Option<Span> {
    let below = u32::try_from(from.0.saturating_sub(span.first.0)).unwrap_or(u32::MAX);
    if below >= span.count {
        return None;
    }
    if below > 0 {
        span.bytes -= span.bytes / u64::from(span.count) * u64::from(below);
        span.first = from;
        span.count -= below;
    }
    Some(span)
}

/// Read records from the log for a group that is behind: after a restart, or when it could not take more.
fn read_back<S: Segment>(
    peers: &mut Peers,
    id: PartitionId,
    log: LogReader<'_, S>,
    mut from: Offset,
    end: Offset,
    spans: &mut Vec<Span>,
    budget: &mut usize,
) {
    let counters = &mut peers.counters.fanout;
    while from < end && *budget > 0 {
        *budget -= 1;
        let next = match log.read(from) {
            Ok(record) if record.kind() == RecordKind::Frame => {
                counters.records_read_back += 1;
                let signature =
                    SignatureKind::from_u8(record.signature_kind()).map_or(0, SignatureKind::bytes);
                let bytes = record
                    .payload()
                    .len()
                    .saturating_sub(MESSAGES_AT + signature) as u64;
                let (first, count) = (record.first(), u32::from(record.count()));
                let channel = record.channel();
                let span = Span {
                    partition: id,
                    channel,
                    first,
                    count,
                    bytes,
                };
                match spans.last_mut() {
                    Some(last) if last.continued_by(&span, TOGETHER_BYTES_MAX) => {
                        last.extend(&span)
                    }
                    _ => spans.push(span),
                }
                record.next()
            }
            Ok(record) => record.next(),
            Err(ReadError::NotYet) => return,
            Err(ReadError::Expired { first: next } | ReadError::Damaged { next }) => {
                counters.records_lost += 1;
                pass_over(&peers.table, id, from, next.min(end), spans);
                next
            }
        };
        from = next.max(from.plus(1));
    }
}

/// Spans that nobody hears move the watermark past what cannot be read.
fn pass_over(
    table: &RouteTable,
    partition: PartitionId,
    from: Offset,
    to: Offset,
    spans: &mut Vec<Span>,
) {
    let nobodys = (0..=u32::MAX)
        .map(ChannelId)
        .find(|id| table.channel(*id).is_none());
    let channel = nobodys.expect("no table has all four billion channels");
    let mut first = from;
    while first < to {
        let count = u32::try_from(to.0 - first.0).unwrap_or(u32::MAX);
        spans.push(Span {
            partition,
            channel,
            first,
            count,
            bytes: 0,
        });
        first = first.plus(u64::from(count));
    }
}
