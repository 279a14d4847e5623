//! What others are told of the loop: its numbers, and in the log what is shed for want of memory.

use shard::Pressure;

use super::Loop;
use crate::accept::quic::door::Door;
use crate::between::Between;
use crate::log::Level;
use crate::status::{PartitionNumbers, Snapshot, sum_queues, thread_cpu};

/// Bans that are told when numbers are asked for.
const BANNED_TOLD_MAX: usize = 1024;

impl Loop {
    /// Go on reading when there is memory again, and say when messages begin to be refused for want of it, and when nothing is.
    pub(super) fn look_at_memory(&mut self) {
        let memory = self.shard.memory();
        if memory.pressure < Pressure::All {
            self.batch.fair.hold_back(None);
        }
        let told = &mut self.batch.pressure_told;
        let (level, event) = match memory.pressure {
            Pressure::None if *told > Pressure::None => (Level::Info, "memory_eased"),
            pressure if pressure >= Pressure::LowPriority && pressure > *told => {
                (Level::Warning, "memory_short")
            }
            _ => return,
        };
        *told = memory.pressure;
        let fields: [(&str, &dyn std::fmt::Display); 4] = [
            ("shard", &self.number),
            ("sheds", &memory.pressure.name()),
            ("used_bytes", &memory.used.total()),
            ("budget_bytes", &memory.budget_bytes),
        ];
        self.log.event(level, event, &fields);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let crowded_out = self.between.as_ref().map_or(0, Between::crowded_out);
        let at = self.clock.now().monotonic;
        Snapshot {
            at,
            cpu: thread_cpu(),
            counters: self.shard.counters().clone(),
            queues: sum_queues(self.shard.queue_counters()),
            ring: self.ring.counters(),
            files: self.files.counters(),
            connections: self.shard.connections(),
            strangers: self.shard.strangers(),
            sessions: self.shard.sessions(),
            assembly_bytes: self.shard.assembly_bytes(),
            banned: self.shard.banned(BANNED_TOLD_MAX),
            memory: self.shard.memory(),
            buffers_free: self.ring.buffers_free(),
            buffers: self.ring.limits().buffers as usize,
            epoch: self.shard.epoch(),
            partitions: PartitionNumbers::of(&self.shard),
            turns_cut_short: self.batch.cut_short,
            idle_waits: self.batch.idle_waits,
            turns: self.batch.took,
            batch_frames: self.batch.frames,
            batch_messages: self.batch.messages,
            hottest: self.shard.hottest(at),
            fair: self.batch.fair.counters(),
            mesh: self.between.as_ref().map(Between::counters),
            refused_moves: self.batch.refused_moves + crowded_out,
            tunnels: self.tunnels.count(),
            tunnel_counters: self.tunnels.counters(),
            quic: self.quic.as_ref().map(Door::counters),
        }
    }
}
