//! What `/shards` answers, as JSON: the numbers of every shard since it began, each shard's of one moment between two of its turns,
//! and who sent most in the last seconds, by name. Rates come from two answers.
//!
//! Both ends of the admin port use these types. Names are in here and in no metric: this is for the operator of this machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
pub use shard::HALF_LIFE;
use shard::{Hottest, Ranking};
use wire::route::RouteTable;

use crate::distribution::Distribution;
use crate::mesh::PeerCounters;
use crate::status::{Snapshot, Status};

/// A node at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// The version that runs.
    pub forebay: String,
    /// Its process.
    pub process: u32,
    /// `recovering`, `ready`, `draining` or `stopped`.
    pub phase: String,
    /// Logs that are open, and all of them.
    pub logs_open: [usize; 2],
    /// Memory of the process in use, if it can be read.
    pub resident_bytes: Option<u64>,
    /// By number. None for a shard that does not answer; nothing at all before the node serves.
    pub shards: Vec<Option<ShardView>>,
    /// By number, how long ago each looked for work; one that serves does so every second. None for one that does not serve.
    #[serde(default)]
    pub silent_seconds: Vec<Option<f64>>,
}

/// A shard between two of its turns. Counts and sums are of the time since it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardView {
    /// Its number, from 0.
    pub shard: usize,
    /// The processor it is pinned to, if it is.
    pub cpu: Option<usize>,
    /// Since it began to serve.
    pub seconds: f64,
    /// Processor time of its thread, recovery included.
    pub cpu_seconds: f64,
    /// Nanoseconds that turns took, what they asked for included.
    pub turns: Buckets,
    /// Frames that a turn found, of turns that found any.
    pub batch_frames: Buckets,
    /// Messages that a turn appended, of turns that appended any.
    pub batch_messages: Buckets,
    /// What came in.
    pub received: Received,
    /// What went out.
    pub sent: Sent,
    /// What passed between it and other shards; none on a node of one.
    pub mesh: Option<MeshView>,
    /// Partitions it owns.
    pub partitions: usize,
    /// Queue groups it owns.
    pub queue_groups: usize,
    /// Connections open.
    pub connections: u32,
    /// Of these, those whose peer has not proven who they are.
    pub strangers: u32,
    /// Sessions, connected or lingering.
    pub sessions: usize,
    /// Receive buffers the kernel may fill, and all of them.
    pub buffers_free: usize,
    /// See there.
    pub buffers: usize,
    /// Memory that grows with load, in bytes, by kind.
    pub memory_bytes: BTreeMap<String, u64>,
    /// What all of it together may be, if that is bounded.
    pub memory_budget_bytes: Option<u64>,
    /// Who had most.
    pub hottest: HottestView,
}

/// Into a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Received {
    /// Bytes received.
    pub bytes: u64,
    /// Whole frames found.
    pub frames: u64,
    /// Messages appended.
    pub messages: u64,
    /// Messages that became as safe as their ACK promises.
    pub messages_committed: u64,
    /// Refusals: REJECT, REFUSED and GOAWAY.
    pub refused: u64,
}

/// Out of a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Bytes sent.
    pub bytes: u64,
    /// Messages delivered.
    pub messages: u64,
    /// ACK frames.
    pub acks: u64,
}

/// Between a shard and all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct MeshView {
    /// Things said to other shards: each is a batch, a mark or a connection.
    pub items_out: u64,
    /// Things that others said to it.
    pub items_in: u64,
    /// Times an item began to wait because the queue to its shard was full.
    pub full: u64,
    /// Frames that came here, envelopes among them, and went to the shard that owns their log.
    pub frames_out: u64,
    /// Frames for logs of this shard, envelopes among them, that came to another one.
    pub frames_in: u64,
    /// Connections that went to the shard of their endpoint.
    pub connections_out: u64,
    /// Connections that came from other shards.
    pub connections_in: u64,
    /// Times another shard was told that there is something for it.
    pub doorbells: u64,
    /// Of these, the times it was awake, and no system call was needed.
    pub doorbells_awake: u64,
}

/// How values are distributed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Buckets {
    /// Of all values.
    pub sum: u64,
    /// What the values of a bucket are above, what they are not above, and how many there are.
    pub buckets: Vec<(u64, u64, u64)>,
}

/// Who had most in the last seconds, by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HottestView {
    /// One in so many frames is looked at just now.
    pub one_in: u32,
    /// Endpoints that sent most messages.
    pub endpoints_by_messages: RankingView,
    /// Endpoints that sent most bytes.
    pub endpoints_by_bytes: RankingView,
    /// Channels that most messages were sent to.
    pub channels_by_messages: RankingView,
    /// Channels that most bytes were sent to.
    pub channels_by_bytes: RankingView,
}

/// A ranking by messages or bytes, per second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RankingView {
    /// Of all together.
    pub total: f64,
    /// What one that is not in `rows` has at most.
    pub absent_max: f64,
    /// The greatest first.
    pub rows: Vec<HotView>,
}

/// A row of a ranking, per second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HotView {
    /// Full name; the id of one that the plan does not name any more.
    pub name: String,
    /// Messages.
    pub messages: f64,
    /// Bytes of frames.
    pub bytes: f64,
    /// By how much what it is ranked by may be too high.
    pub too_high_max: f64,
    /// Twice the standard deviation of what it is ranked by, because frames are sampled.
    pub spread: f64,
}

impl NodeView {
    pub(super) fn new(
        status: &Status,
        table: &RouteTable,
        resident_bytes: Option<u64>,
        shards: &[Option<Snapshot>],
    ) -> Self {
        let (done, all) = status.progress();
        let view = |(number, shard): (usize, &Option<Snapshot>)| {
            let cpu = status.cpu(number);
            shard
                .as_ref()
                .map(|one| ShardView::new(number, cpu, one, table))
        };
        Self {
            forebay: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            phase: status.phase().name().to_owned(),
            logs_open: [done, all],
            resident_bytes,
            shards: shards.iter().enumerate().map(view).collect(),
            silent_seconds: (0..status.shards())
                .map(|shard| Some(status.silent(shard)?.as_secs_f64()))
                .collect(),
        }
    }
}

impl ShardView {
    fn new(shard: usize, cpu: Option<usize>, of: &Snapshot, table: &RouteTable) -> Self {
        let counters = &of.counters;
        let memory = of.memory().into_iter();
        Self {
            shard,
            cpu,
            seconds: of.at.as_secs_f64(),
            cpu_seconds: of.cpu.as_secs_f64(),
            turns: Buckets::new(&of.turns),
            batch_frames: Buckets::new(&of.batch_frames),
            batch_messages: Buckets::new(&of.batch_messages),
            received: Received {
                bytes: counters.accept.bytes,
                frames: counters.parse.frames,
                messages: counters.append.messages,
                messages_committed: counters.commit.messages,
                refused: counters.reasons.values().sum(),
            },
            sent: Sent {
                bytes: of.ring.sent_bytes,
                messages: counters.deliver.messages,
                acks: counters.commit.acks,
            },
            mesh: of.mesh.map(|mesh| MeshView::new(&mesh, of)),
            partitions: of.partitions_owned(),
            queue_groups: of.partitions.len() - of.partitions_owned(),
            connections: of.connections,
            strangers: of.strangers,
            sessions: of.sessions,
            buffers_free: of.buffers_free,
            buffers: of.buffers,
            memory_bytes: memory
                .map(|(kind, bytes)| (kind.to_owned(), bytes))
                .collect(),
            memory_budget_bytes: of.memory_budget_bytes(),
            hottest: HottestView::new(&of.hottest, table),
        }
    }
}

impl MeshView {
    fn new(mesh: &PeerCounters, of: &Snapshot) -> Self {
        let counters = &of.counters.mesh;
        Self {
            items_out: mesh.sent,
            items_in: mesh.received,
            full: mesh.full,
            frames_out: counters.frames_out + counters.envelopes_out,
            frames_in: counters.frames_in + counters.envelopes_in,
            connections_out: counters.handed_over_out,
            connections_in: counters.handed_over_in,
            doorbells: mesh.doorbells,
            doorbells_awake: mesh.doorbells_awake,
        }
    }
}

impl Buckets {
    fn new<const UNIT: u64>(of: &Distribution<UNIT>) -> Self {
        Self {
            sum: of.sum(),
            buckets: of.buckets().collect(),
        }
    }
}

impl HottestView {
    fn new(of: &Hottest, table: &RouteTable) -> Self {
        let endpoint = |id| match table.endpoint(id) {
            Some(endpoint) => endpoint.name().to_owned(),
            None => id.to_string(),
        };
        let channel = |id| match table.channel(id) {
            Some(channel) => channel.name.to_string(),
            None => id.to_string(),
        };
        Self {
            one_in: of.one_in,
            endpoints_by_messages: RankingView::new(&of.endpoints_by_messages, endpoint),
            endpoints_by_bytes: RankingView::new(&of.endpoints_by_bytes, endpoint),
            channels_by_messages: RankingView::new(&of.channels_by_messages, channel),
            channels_by_bytes: RankingView::new(&of.channels_by_bytes, channel),
        }
    }
}

impl RankingView {
    fn new<K: Copy>(of: &Ranking<K>, name: impl Fn(K) -> String) -> Self {
        let rows = of.rows.iter().map(|row| HotView {
            name: name(row.key),
            messages: row.messages,
            bytes: row.bytes,
            too_high_max: row.too_high_max,
            spread: row.spread,
        });
        Self {
            total: of.total,
            absent_max: of.absent_max,
            rows: rows.collect(),
        }
    }
}
