//! From configuration to the limits of ring, shard and logs; checked here, so that a bad one is named before anything is opened.

use std::time::Duration;

use partition::PartitionLimits;
use ring::RingLimits;
use wire::route::Hub;

use crate::config::NodeConfig;
use crate::diagnosis::{Diagnosis, OUT_OF_BOUNDS, diagnose};

/// A ring fault in the common shape. Its numbers, 30xx, are the ring's own.
pub(crate) fn ring_fault(error: &ring::RingError) -> Diagnosis {
    diagnose(
        error.code(),
        error.what(),
        error.seen(),
        error.needed(),
        error.remedy(),
    )
}

/// The ring's limits. A close may take as long as a drain.
pub(crate) fn ring_limits(config: &NodeConfig) -> Result<RingLimits, Diagnosis> {
    let limits = RingLimits {
        entries: config.ring.entries,
        buffers: config.ring.buffers,
        buffer_bytes: config.ring.buffer_bytes,
        // One connection leaves most buffers to the others, whatever becomes of it.
        leases_max: (config.ring.buffers / 4).max(1),
        connections_max: config.ring.connections_max,
        sends_bytes_max: usize::try_from(config.ring.sends_bytes_max).unwrap_or(usize::MAX),
        close_timeout: config.timeouts.drain.min(Duration::from_secs(5)),
        ..RingLimits::default()
    };
    limits.check().map_err(|error| ring_fault(&error))?;
    Ok(limits)
}

/// The shard's limits.
pub(crate) fn shard_limits(config: &NodeConfig) -> Result<shard::Limits, Diagnosis> {
    let defaults = shard::Limits::default();
    let high = usize::try_from(config.shard.unsent_bytes_high).unwrap_or(usize::MAX);
    let limits = shard::Limits {
        shards: config.shards,
        connections_max: config.ring.connections_max,
        sessions_max: config.shard.sessions_max,
        credit_frames: config.shard.credit_frames,
        credit_bytes: config.shard.credit_bytes,
        unsent_bytes_high: high,
        unsent_bytes_max: defaults
            .unsent_bytes_max
            .max(high.saturating_add(2 * wire::limits::FRAME_BYTES_MAX)),
        unsent_bytes_total: usize::try_from(config.shard.unsent_bytes_total).unwrap_or(usize::MAX),
        handshake_timeout: config.timeouts.handshake,
        idle_timeout: config.timeouts.idle,
        slow_receiver_after: config.timeouts.slow_receiver,
        linger: config.timeouts.linger,
        ..defaults
    };
    limits.check().map_err(|error| {
        diagnose(
            OUT_OF_BOUNDS,
            format!("shard limit {}", error.name),
            error.seen.to_string(),
            error.needed,
            "change the setting it is made from",
        )
    })?;
    Ok(limits)
}

/// A partition's limits, as its hub says.
pub(crate) fn partition_limits(hub: &Hub) -> Result<PartitionLimits, Diagnosis> {
    let limits = PartitionLimits {
        segment_bytes: hub.segment_bytes,
        retention_bytes: hub.retention_bytes,
        retention_age: hub.retention_age,
        ..PartitionLimits::default()
    };
    fitting(limits, format!("segment_bytes of hub {}", hub.name))
}

/// A queue journal's limits.
pub(crate) fn journal_limits(config: &NodeConfig) -> Result<PartitionLimits, Diagnosis> {
    let limits = PartitionLimits {
        segment_bytes: config.disk.journal_segment_bytes,
        ..PartitionLimits::default()
    };
    fitting(limits, "node.disk.journal_segment_bytes".into())
}

fn fitting(limits: PartitionLimits, what: String) -> Result<PartitionLimits, Diagnosis> {
    match limits.fit() {
        true => Ok(limits),
        false => Err(diagnose(
            OUT_OF_BOUNDS,
            what,
            limits.segment_bytes.to_string(),
            "a multiple of 8 that holds two of the longest frames, up to 1 GiB",
            "use 64 MiB, or 2 MiB for small disks",
        )),
    }
}
