//! What a turn asked for: bytes leave, connections close or move, files are worked on. And the empty buffers that the next one may need.

use std::time::Instant;

use shard::{ConnectionId, Opened};

use super::Loop;
use crate::between::Moved;
use crate::diagnosis::Diagnosis;

/// Send buffers handed to the shard beyond those of open connections.
const BUFFERS_MIN: usize = 64;
/// Send buffers handed to the shard at most.
const BUFFERS_MAX: usize = 1024;
/// Bytes these buffers may have room for, and in how many turns that is looked at once.
const BUFFERS_BYTES_MAX: usize = 16 << 20;
const BUFFERS_LOOK_TURNS: u64 = 1024;

impl Loop {
    /// Keep as many empty send buffers ready as the turn may need.
    pub(super) fn top_up(&mut self) {
        let connections = (self.ring.connections()).max(self.shard.connections() as usize);
        let wanted = (connections + BUFFERS_MIN).min(BUFFERS_MAX);
        self.batch.turns += 1;
        if self.batch.turns.is_multiple_of(BUFFERS_LOOK_TURNS) {
            bound(&mut self.output.buffers, BUFFERS_BYTES_MAX);
        }
        while self.output.buffers.len() < wanted {
            self.output.buffers.push(self.ring.take_buffer());
        }
    }

    pub(super) fn carry_out(&mut self) {
        for outgoing in self.output.sends.drain(..) {
            if let Some(quic) = &mut self.quic
                && quic.owns(outgoing.connection)
            {
                quic.send(Instant::now(), outgoing.connection, outgoing.bytes);
                continue;
            }
            let connection = ring::ConnectionId(outgoing.connection.0);
            self.tunnels
                .send(&mut self.ring, connection, outgoing.bytes);
        }
        for connection in self.output.closes.drain(..) {
            if let Some(quic) = &mut self.quic
                && quic.owns(connection)
            {
                quic.close(Instant::now(), connection, &self.shard);
                continue;
            }
            let connection = ring::ConnectionId(connection.0);
            self.tunnels.finish(&mut self.ring, connection);
            self.ring.close(connection);
        }
        for request in self.output.storage.drain(..) {
            self.files.begin(&mut self.ring, request);
        }
        if self.between.is_some() {
            self.pass_on();
        }
    }

    /// What goes to other shards leaves, and connections that have come from them join.
    fn pass_on(&mut self) {
        let Self {
            ring,
            between,
            batch,
            output,
            tunnels,
            ..
        } = self;
        let Some(between) = between else { return };
        for mut leaves in output.hand_over.drain(..) {
            // What waits for its turn goes with it.
            batch.fair.empty(leaves.connection, &mut batch.leases);
            let connection = ring::ConnectionId(leaves.connection.0);
            let mut good = true;
            for (_, lease) in batch.leases.drain(..) {
                good &= tunnels.take_along(connection, ring.bytes(&lease), &mut leaves.bytes);
                ring.release(lease);
            }
            between.leaves(leaves);
            match good {
                true => ring.detach(connection),
                false => ring.close(connection),
            }
        }
        between.send(output);
    }

    /// Take in connections that have come from other shards: they are opened in the next turn, and what was received of them comes
    /// first. Not while it has still to be told which connections are gone: they may have had the same slots.
    pub(super) fn admit(&mut self) -> Result<(), Diagnosis> {
        let Some(between) = &mut self.between else {
            return Ok(());
        };
        if !self.batch.events.is_empty() {
            return Ok(());
        }
        for Moved {
            socket,
            bytes,
            tunnel,
        } in between.moved.drain(..)
        {
            let peer = socket.peer();
            // Without room for it the connection is closed, as one more would be that is accepted.
            let Ok(connection) = self.ring.adopt(socket) else {
                self.batch.refused_moves += 1;
                continue;
            };
            self.tunnels.adopt(connection, tunnel, &mut self.ring);
            let connection = ConnectionId(connection.0);
            self.batch.opened.push(Opened {
                connection,
                peer,
                random: self.random.piece()?,
                handed_over: true,
            });
            self.batch.brought.push((connection, bytes));
        }
        Ok(())
    }

    /// What QUIC has to send goes to the ring, and with it to the kernel.
    pub(super) fn flush_lanes(&mut self) {
        if let Some(quic) = &mut self.quic {
            quic.flush(Instant::now(), &mut self.ring);
        }
    }
}

/// Free buffers so that the rest has room for so many bytes at most: those at the bottom, which were used longest ago.
pub(super) fn bound(buffers: &mut Vec<Vec<u8>>, bytes_max: usize) {
    let mut left = bytes_max;
    let fits = |buffer: &&Vec<u8>| {
        let rest = left.checked_sub(buffer.capacity());
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    let kept = buffers.iter().rev().take_while(fits).count();
    buffers.drain(..buffers.len() - kept);
}
