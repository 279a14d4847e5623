//! From configuration to the limits of ring, shard and logs; checked here, so that a bad one is named before anything is opened.

use std::time::Duration;

use partition::PartitionLimits;
use ring::{DatagramLimits, RingLimits};
use wire::route::{Hub, RouteTable};

use crate::accept::quic::admission::AdmissionLimits;
use crate::accept::quic::settings::{CONNECTION_BYTES, QuicLimits};
use crate::accept::tls::TUNNEL_BYTES;
use crate::certificates::Ask;
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

/// Descriptors of a log: its open segment, spares ready and in the making, and one to sync each of them by.
pub(crate) const FILES_PER_LOG: usize = 8;
/// Descriptors of everything else: rings, eventfds, folders, the admin port and its connections.
const FILES_OTHER: usize = 128;

/// Connections of one shard, when the node may have `all` of them: its share, and an eighth more, since endpoints are never dealt
/// out quite evenly.
fn connections_max(all: u32, shards: usize) -> u32 {
    match u32::try_from(shards) {
        Ok(1) | Err(_) => all,
        Ok(shards) => (u64::from(all) * 9).div_ceil(u64::from(shards) * 8) as u32,
    }
}

/// The ring's limits. A close may take as long as a drain. However many connections are open, the logs can open files.
pub(crate) fn ring_limits(
    config: &NodeConfig,
    table: &RouteTable,
    shards: usize,
) -> Result<RingLimits, Diagnosis> {
    let logs = table.partitions().count() + usize::from(table.queue_groups());
    let connections_max = connections_max(config.ring.connections_max, shards);
    let others = connections_max as usize * (shards - 1);
    let files = FILES_OTHER + FILES_PER_LOG * logs + others;
    let limits = RingLimits {
        entries: config.ring.entries,
        buffers: config.ring.buffers,
        buffer_bytes: config.ring.buffer_bytes,
        // One connection leaves most buffers to the others, whatever becomes of it.
        leases_max: (config.ring.buffers / 16).max(1),
        connections_max,
        files_reserved: u32::try_from(files).unwrap_or(u32::MAX),
        sends_bytes_max: usize::try_from(config.ring.sends_bytes_max).unwrap_or(usize::MAX),
        close_timeout: config.timeouts.drain.min(Duration::from_secs(5)),
        ..RingLimits::default()
    };
    limits.check().map_err(|error| ring_fault(&error))?;
    Ok(limits)
}

/// The shard's limits.
pub(crate) fn shard_limits(config: &NodeConfig, shards: usize) -> Result<shard::Limits, Diagnosis> {
    let defaults = shard::Limits::default();
    let high = usize::try_from(config.shard.unsent_bytes_high).unwrap_or(usize::MAX);
    let mut limits = shard::Limits {
        receive_bytes: usize::from(config.ring.buffers) * config.ring.buffer_bytes as usize,
        shards: u16::try_from(shards).unwrap_or(u16::MAX),
        connections_max: connections_max(config.ring.connections_max, shards),
        sessions_max: config.shard.sessions_max,
        strangers_max: config.shard.strangers_max,
        connections_per_address_max: config.shard.connections_per_address_max,
        pings_per_second: config.shard.pings_per_second,
        accepts_per_second: config.shard.accepts_per_second,
        loopback_exempt: config.shard.loopback_exempt,
        bans: shard::BanLimits {
            window: config.bans.window,
            address_connections_max: config.bans.address_connections_max,
            address_failures_max: config.bans.address_failures_max,
            key_sessions_max: config.bans.key_sessions_max,
            first: config.bans.first,
            longest: config.bans.longest,
            ..defaults.bans
        },
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
        node: config.name.clone(),
        ..defaults
    };
    let shown = match config.clients.ask {
        Ask::Off => 0,
        Ask::Asked | Ask::Required => tls::SHOWN_BYTES_MAX,
    };
    let tunnels = match config.listen_tls {
        Some(_) => u64::from(limits.connections_max) * (TUNNEL_BYTES + shown) as u64,
        None => 0,
    };
    // A lane is a connection like any other.
    let lanes = match config.listen_quic {
        Some(_) => connections_max(config.quic.connections_max, shards),
        None => 0,
    };
    limits.connections_max = limits.connections_max.saturating_add(lanes);
    let windows = match config.listen_quic {
        Some(_) => quic_limits(config, shards).window_bytes() as u64,
        None => 0,
    };
    let quic = u64::from(lanes) * (CONNECTION_BYTES + shown) as u64 + windows;
    let suits = limits.memory_parts().total() + tunnels + quic;
    limits.memory_bytes = config.shard.memory_bytes.unwrap_or(suits);
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

/// What QUIC may hold of one shard.
pub(crate) fn quic_limits(config: &NodeConfig, shards: usize) -> QuicLimits {
    let defaults = QuicLimits::default();
    let connections_max = connections_max(config.quic.connections_max, shards) as usize;
    QuicLimits {
        admission: AdmissionLimits {
            per_second: config.quic.handshakes_per_second,
            retry_above: config.quic.retry_above as usize,
            ..defaults.admission
        },
        connections_max,
        lanes_max: connections_max,
        streams_max: config.quic.streams_max,
        // A session that says nothing is ended by the shard, with a reason; its connection only then.
        idle: config.timeouts.idle + defaults.unused,
        unused: config.timeouts.handshake,
        loopback_exempt: config.shard.loopback_exempt,
        ..defaults
    }
}

/// The ring's buffers for datagrams.
pub(crate) fn datagram_limits() -> DatagramLimits {
    DatagramLimits::default()
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

#[cfg(test)]
mod tests {
    use super::*;
    use wire::route::TableParts;

    #[test]
    fn a_plan_of_many_logs_leaves_them_descriptors_when_all_connections_are_open() {
        let config = NodeConfig::new("unused");
        for groups in [1, 200, 5_000] {
            let parts = TableParts {
                queue_groups: groups,
                ..TableParts::default()
            };
            let table = RouteTable::build(parts).expect("a table of queues alone");
            let limits = ring_limits(&config, &table, 1).expect("the defaults fit together");
            let spare = limits.files_needed() - u64::from(limits.connections_max);
            // The journal's open file, the one to sync it by, and two spares.
            assert!(spare >= 64 + 4 * u64::from(groups), "{spare} for {groups}");
            let four = ring_limits(&config, &table, 4).expect("so do they for each of four shards");
            assert_eq!(
                four.connections_max, 4608,
                "16,384 and an eighth more, by four"
            );
            let connections = 4 * u64::from(four.connections_max);
            assert_eq!(
                four.files_needed() - connections,
                spare,
                "of all shards together"
            );
        }
    }
}
