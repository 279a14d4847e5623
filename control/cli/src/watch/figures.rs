//! What shards did between two looks, and all of them together. The names of the fields are those of the JSON output.

use std::collections::BTreeMap;

use node::view::{MeshView, NodeView, RankingView, ShardView};
use serde::Serialize;

use super::quantile::Between;

/// A shard, or all of them together, between two looks.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figures {
    /// `all` for all together.
    pub(super) shard: Option<usize>,
    pub(super) cpu: Option<usize>,
    /// Between the two moments of which the numbers are.
    pub(super) seconds: f64,
    /// Processor time over time; of all shards on average.
    pub(super) busy_ratio: f64,
    /// Time in turns over time.
    pub(super) turns_ratio: f64,
    pub(super) turns_per_second: f64,
    pub(super) turn_seconds_p50: Option<f64>,
    pub(super) turn_seconds_p99: Option<f64>,
    pub(super) batch_frames_p50: Option<f64>,
    pub(super) batch_messages_p50: Option<f64>,
    #[serde(rename = "in")]
    pub(super) received: ReceivedRates,
    #[serde(rename = "out")]
    pub(super) sent: SentRates,
    /// Not on a node of one shard.
    pub(super) mesh: Option<MeshRates>,
    pub(super) partitions: usize,
    pub(super) queue_groups: usize,
    pub(super) connections: u64,
    pub(super) strangers: u64,
    pub(super) sessions: u64,
    pub(super) buffers_free: usize,
    pub(super) buffers: usize,
    pub(super) memory_bytes: BTreeMap<String, u64>,
    pub(super) memory_budget_bytes: Option<u64>,
    pub(super) hottest_endpoint: Option<First>,
    pub(super) hottest_channel: Option<First>,
    /// Since the shards began.
    pub(super) since_start: Totals,
    #[serde(skip)]
    turns: Between,
    #[serde(skip)]
    frames: Between,
    #[serde(skip)]
    messages: Between,
}

/// Into a shard.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct ReceivedRates {
    pub(super) messages_per_second: f64,
    pub(super) frames_per_second: f64,
    pub(super) bytes_per_second: f64,
    pub(super) refused_per_second: f64,
}

/// Out of a shard.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct SentRates {
    pub(super) messages_per_second: f64,
    pub(super) bytes_per_second: f64,
}

/// Between shards.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct MeshRates {
    pub(super) items_out_per_second: f64,
    pub(super) items_in_per_second: f64,
    pub(super) frames_out_per_second: f64,
    pub(super) frames_in_per_second: f64,
    pub(super) connections_out_per_second: f64,
    pub(super) connections_in_per_second: f64,
    pub(super) doorbells_per_second: f64,
    /// Times something began to wait because the queue to its shard was full.
    pub(super) full_per_second: f64,
}

/// Who had most, and what part of all that was.
#[derive(Debug, Clone, Serialize)]
pub(super) struct First {
    pub(super) name: String,
    pub(super) share: f64,
    pub(super) messages_per_second: f64,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Totals {
    pub(super) messages_in: u64,
    pub(super) messages_committed: u64,
    pub(super) frames_in: u64,
    pub(super) bytes_in: u64,
    pub(super) refused: u64,
    pub(super) messages_out: u64,
    pub(super) bytes_out: u64,
    pub(super) acks: u64,
}

impl Figures {
    /// Of one shard. None if the second look is not later.
    pub(super) fn of(before: &ShardView, after: &ShardView) -> Option<Self> {
        let seconds = after.seconds - before.seconds;
        if seconds <= 0.0 {
            return None;
        }
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        let (had, has) = (&before.received, &after.received);
        let (gave, gives) = (&before.sent, &after.sent);
        let turns = Between::new(&before.turns, &after.turns);
        Some(
            Self {
                shard: Some(after.shard),
                cpu: after.cpu,
                seconds,
                busy_ratio: ((after.cpu_seconds - before.cpu_seconds) / seconds).max(0.0),
                turns_ratio: turns.sum as f64 / 1e9 / seconds,
                turns_per_second: turns.count as f64 / seconds,
                turn_seconds_p50: None,
                turn_seconds_p99: None,
                batch_frames_p50: None,
                batch_messages_p50: None,
                received: ReceivedRates {
                    messages_per_second: rate(had.messages_committed, has.messages_committed),
                    frames_per_second: rate(had.frames, has.frames),
                    bytes_per_second: rate(had.bytes, has.bytes),
                    refused_per_second: rate(had.refused, has.refused),
                },
                sent: SentRates {
                    messages_per_second: rate(gave.messages, gives.messages),
                    bytes_per_second: rate(gave.bytes, gives.bytes),
                },
                mesh: mesh(before.mesh.as_ref(), after.mesh.as_ref(), rate),
                partitions: after.partitions,
                queue_groups: after.queue_groups,
                connections: after.connections.into(),
                strangers: after.strangers.into(),
                sessions: after.sessions as u64,
                buffers_free: after.buffers_free,
                buffers: after.buffers,
                memory_bytes: after.memory_bytes.clone(),
                memory_budget_bytes: after.memory_budget_bytes,
                hottest_endpoint: first([&after.hottest.endpoints_by_messages].into_iter()),
                hottest_channel: first([&after.hottest.channels_by_messages].into_iter()),
                since_start: Totals {
                    messages_in: has.messages,
                    messages_committed: has.messages_committed,
                    frames_in: has.frames,
                    bytes_in: has.bytes,
                    refused: has.refused,
                    messages_out: gives.messages,
                    bytes_out: gives.bytes,
                    acks: gives.acks,
                },
                turns,
                frames: Between::new(&before.batch_frames, &after.batch_frames),
                messages: Between::new(&before.batch_messages, &after.batch_messages),
            }
            .with_quantiles(),
        )
    }

    fn with_quantiles(mut self) -> Self {
        let seconds = |share| self.turns.quantile(share).map(|nanos| nanos / 1e9);
        (self.turn_seconds_p50, self.turn_seconds_p99) = (seconds(0.5), seconds(0.99));
        self.batch_frames_p50 = self.frames.quantile(0.5);
        self.batch_messages_p50 = self.messages.quantile(0.5);
        self
    }

    /// All memory counted, of all kinds.
    pub(super) fn memory(&self) -> u64 {
        self.memory_bytes.values().sum()
    }

    /// Of all shards together: rates and counts are sums, ratios are averages, quantiles are those of all turns.
    pub(super) fn sum(shards: &[Self], now: &NodeView) -> Option<Self> {
        let (one, rest) = shards.split_first()?;
        let mut sum = one.clone();
        rest.iter().for_each(|other| sum.add(other));
        let count = shards.len() as f64;
        (sum.shard, sum.cpu) = (None, None);
        sum.seconds /= count;
        sum.busy_ratio /= count;
        sum.turns_ratio /= count;
        let hot = || now.shards.iter().flatten().map(|one| &one.hottest);
        sum.hottest_endpoint = first(hot().map(|one| &one.endpoints_by_messages));
        sum.hottest_channel = first(hot().map(|one| &one.channels_by_messages));
        Some(sum.with_quantiles())
    }

    fn add(&mut self, other: &Self) {
        self.seconds += other.seconds;
        self.busy_ratio += other.busy_ratio;
        self.turns_ratio += other.turns_ratio;
        self.turns_per_second += other.turns_per_second;
        self.received.add(&other.received);
        self.sent.messages_per_second += other.sent.messages_per_second;
        self.sent.bytes_per_second += other.sent.bytes_per_second;
        if let (Some(here), Some(there)) = (&mut self.mesh, &other.mesh) {
            here.add(there);
        }
        self.partitions += other.partitions;
        self.queue_groups += other.queue_groups;
        self.connections += other.connections;
        self.strangers += other.strangers;
        self.sessions += other.sessions;
        self.buffers_free += other.buffers_free;
        self.buffers += other.buffers;
        for (kind, bytes) in &other.memory_bytes {
            *self.memory_bytes.entry(kind.clone()).or_default() += bytes;
        }
        let budgets = self.memory_budget_bytes.zip(other.memory_budget_bytes);
        self.memory_budget_bytes = budgets.map(|(here, there)| here + there);
        self.since_start.add(&other.since_start);
        self.turns.add(&other.turns);
        self.frames.add(&other.frames);
        self.messages.add(&other.messages);
    }
}

impl ReceivedRates {
    fn add(&mut self, other: &Self) {
        self.messages_per_second += other.messages_per_second;
        self.frames_per_second += other.frames_per_second;
        self.bytes_per_second += other.bytes_per_second;
        self.refused_per_second += other.refused_per_second;
    }
}

impl MeshRates {
    fn add(&mut self, other: &Self) {
        self.items_out_per_second += other.items_out_per_second;
        self.items_in_per_second += other.items_in_per_second;
        self.frames_out_per_second += other.frames_out_per_second;
        self.frames_in_per_second += other.frames_in_per_second;
        self.connections_out_per_second += other.connections_out_per_second;
        self.connections_in_per_second += other.connections_in_per_second;
        self.doorbells_per_second += other.doorbells_per_second;
        self.full_per_second += other.full_per_second;
    }
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.messages_in += other.messages_in;
        self.messages_committed += other.messages_committed;
        self.frames_in += other.frames_in;
        self.bytes_in += other.bytes_in;
        self.refused += other.refused;
        self.messages_out += other.messages_out;
        self.bytes_out += other.bytes_out;
        self.acks += other.acks;
    }
}

fn mesh(
    before: Option<&MeshView>,
    after: Option<&MeshView>,
    rate: impl Fn(u64, u64) -> f64,
) -> Option<MeshRates> {
    let (had, has) = before.zip(after)?;
    Some(MeshRates {
        items_out_per_second: rate(had.items_out, has.items_out),
        items_in_per_second: rate(had.items_in, has.items_in),
        frames_out_per_second: rate(had.frames_out, has.frames_out),
        frames_in_per_second: rate(had.frames_in, has.frames_in),
        connections_out_per_second: rate(had.connections_out, has.connections_out),
        connections_in_per_second: rate(had.connections_in, has.connections_in),
        doorbells_per_second: rate(had.doorbells, has.doorbells),
        full_per_second: rate(had.full, has.full),
    })
}

/// The first of one or more rankings by messages, taken together.
fn first<'a>(rankings: impl Iterator<Item = &'a RankingView>) -> Option<First> {
    let merged = super::top::merge(&rankings.collect::<Vec<_>>(), |row| row.messages);
    let hot = merged.rows.first()?;
    Some(First {
        name: hot.name.clone(),
        share: hot.share,
        messages_per_second: hot.messages_per_second,
    })
}
