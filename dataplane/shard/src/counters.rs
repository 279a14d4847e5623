//! What a shard counts: one group for each stage, and one for sessions. Plain numbers that only grow;
//! the node reads them between two turns.

use std::collections::BTreeMap;

use wire::reason::Reason;

/// Connections and bytes in.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AcceptCounters {
    /// Connections that came in.
    pub connections: u64,
    /// Connections refused because the table was full.
    pub connections_refused: u64,
    /// Connections refused because their address had as many as one may have.
    pub addresses_crowded: u64,
    /// Connections closed because too many others, later ones, had not proven who they are either.
    pub strangers_crowded_out: u64,
    /// Bytes received.
    pub bytes: u64,
}

/// Bytes to frames.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ParseCounters {
    /// Frames found in the stream, HELLO among them.
    pub frames: u64,
    /// Frames that straddled receive buffers and were assembled once.
    pub assembled_frames: u64,
    /// Bytes copied for that.
    pub assembled_bytes: u64,
    /// Connections closed because the assembly budget was used up.
    pub assembly_full: u64,
    /// Faults in framing: the connection was closed.
    pub framing_faults: u64,
    /// SEND frames refused for their content.
    pub refused: u64,
}

/// Signatures and senders.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct VerifyCounters {
    /// Frames with a good session signature.
    pub session_frames: u64,
    /// Envelopes with a good HMAC.
    pub key_envelopes: u64,
    /// Envelopes with a good Ed25519 signature.
    pub ed25519_envelopes: u64,
    /// Frames and envelopes with a bad signature.
    pub bad_signatures: u64,
    /// Frames refused for another reason: sender, kind of signature, key.
    pub refused: u64,
}

/// Grants and restrictions.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RouteCounters {
    /// Frames that may go where they want to.
    pub frames: u64,
    /// Frames refused.
    pub refused: u64,
}

/// Sequences, credit and the log.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AppendCounters {
    /// Frames written.
    pub frames: u64,
    /// Messages written.
    pub messages: u64,
    /// Bytes of frames written.
    pub bytes: u64,
    /// Re-sent frames that were already there: acked, not written.
    pub duplicates: u64,
    /// Frames discarded behind a refused one (go-back-N).
    pub discarded: u64,
    /// Frames refused.
    pub refused: u64,
}

/// Durability and acks.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CommitCounters {
    /// Syncs asked for.
    pub syncs: u64,
    /// Syncs that failed; each seals its log.
    pub sync_failures: u64,
    /// Frames that became committed.
    pub frames: u64,
    /// Messages that became committed.
    pub messages: u64,
    /// ACK frames sent.
    pub acks: u64,
    /// Frames whose log was sealed before they were durable; told so, never acked.
    pub sealed_frames: u64,
    /// Spare segments that could not be prepared.
    pub prepare_failures: u64,
    /// Segments retired by retention.
    pub retired_segments: u64,
}

/// Committed records to queues.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FanoutCounters {
    /// Records handed to queue groups as they were committed.
    pub records: u64,
    /// Records read back from the log because a queue group was behind.
    pub records_read_back: u64,
    /// Records that could not be read back: damaged or expired.
    pub records_lost: u64,
    /// Times a queue group's journal refused to take more for now.
    pub stalls: u64,
}

/// Queues to consumers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DeliverCounters {
    /// FETCH frames taken.
    pub fetches: u64,
    /// DELIVER frames written.
    pub frames: u64,
    /// Messages written.
    pub messages: u64,
    /// Bytes of DELIVER frames.
    pub bytes: u64,
    /// Messages whose record was gone or damaged and which were skipped.
    pub messages_lost: u64,
    /// SETTLE frames taken.
    pub settles: u64,
    /// FETCH and SETTLE frames refused.
    pub refused: u64,
    /// Queues that moved to a newer consumer.
    pub takeovers: u64,
    /// Times a consumer with credit was skipped because its connection had too much unsent.
    pub backpressure: u64,
}

/// Handshakes and sessions.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SessionCounters {
    /// Sessions welcomed with a key or token.
    pub welcomed: u64,
    /// Sessions resumed on a new connection.
    pub resumed: u64,
    /// HELLOs refused.
    pub refused: u64,
    /// Sessions that ended: by BYE, linger, revocation or room.
    pub ended: u64,
    /// Connections closed by us, with a reason.
    pub goaways: u64,
    /// Route tables taken over.
    pub tables: u64,
}

/// What shards of one node say to each other.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MeshCounters {
    /// Messages to other shards.
    pub sent: u64,
    /// Messages from other shards.
    pub received: u64,
    /// Turns in which something could not be said because the way to its shard was full; it was said later.
    pub blocked: u64,
    /// Connections given to the shard where their endpoint lives.
    pub handed_over_out: u64,
    /// Connections that came from another shard.
    pub handed_over_in: u64,
    /// Envelopes that came here and went to the shard that owns their log.
    pub envelopes_out: u64,
    /// Envelopes for logs of this shard that came to another one.
    pub envelopes_in: u64,
    /// Direct frames that came here and went to the shard that owns their log. Of a session whose logs are all at home: none.
    pub frames_out: u64,
    /// Direct frames for logs of this shard that came to another one.
    pub frames_in: u64,
}

/// Frames that came in datagrams. Each that was received is counted once below it, `left_out` not among them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DatagramCounters {
    /// Frames that came in datagrams of a lane.
    pub received: u64,
    /// Frames appended.
    pub appended: u64,
    /// Dropped: its lane has no session.
    pub strangers: u64,
    /// Dropped: no whole SEND, or more than that, or one with a fault.
    pub malformed: u64,
    /// Dropped: not signed by the session, or not its endpoint's.
    pub unverified: u64,
    /// Dropped: not granted, beyond a rate or the credit, or there is no room.
    pub refused: u64,
    /// Dropped: its log is another shard's.
    pub elsewhere: u64,
    /// Dropped: it is in the log already.
    pub duplicates: u64,
    /// Dropped: one with a higher number had come before.
    pub late: u64,
    /// Dropped: a newer session has the endpoint's streams.
    pub superseded: u64,
    /// Numbers below one that was appended that had not come by then: lost, or late.
    pub left_out: u64,
}

/// What was refused or ended because memory was short, and who was kept out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ShedCounters {
    /// Connections that were not let in because memory was short.
    pub connections: u64,
    /// Connections without a session that made room, or HELLOs refused, because memory was short.
    pub strangers: u64,
    /// Frames for channels of low priority refused because memory was short.
    pub low_priority_frames: u64,
    /// Frames for other channels refused because memory was short.
    pub normal_frames: u64,
    /// Connections closed because memory was short and they took nothing of what they were sent.
    pub stuck: u64,
    /// Times memory reached high water: all new messages were refused from then on.
    pub high_waters: u64,
    /// Connections beyond what is taken in a second.
    pub accepts: u64,
    /// Bans of addresses.
    pub address_bans: u64,
    /// Connections from banned addresses that were not let in.
    pub banned_addresses: u64,
    /// Bans of keys.
    pub key_bans: u64,
    /// HELLOs with banned keys that were refused.
    pub banned_keys: u64,
}

/// Everything a shard counts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counters {
    /// Turns made.
    pub turns: u64,
    /// Stage 1.
    pub accept: AcceptCounters,
    /// Stage 2.
    pub parse: ParseCounters,
    /// Stage 3.
    pub verify: VerifyCounters,
    /// Stage 4.
    pub route: RouteCounters,
    /// Stage 5.
    pub append: AppendCounters,
    /// Stage 6.
    pub commit: CommitCounters,
    /// Stage 7.
    pub fanout: FanoutCounters,
    /// Stage 8.
    pub deliver: DeliverCounters,
    /// Handshakes and sessions.
    pub session: SessionCounters,
    /// What was said between shards.
    pub mesh: MeshCounters,
    /// Frames that came in datagrams.
    pub datagram: DatagramCounters,
    /// What was shed, and who was kept out.
    pub shed: ShedCounters,
    /// REJECT, REFUSED and GOAWAY by reason code; bounded by the number of codes.
    pub reasons: BTreeMap<u16, u64>,
    /// Where the time of the turns went.
    #[cfg(feature = "cycles")]
    pub cycles: crate::StageCycles,
}

impl Counters {
    /// Count an answer with a reason.
    pub(crate) fn reason(&mut self, reason: Reason) {
        *self.reasons.entry(reason.code()).or_default() += 1;
    }

    /// How often a reason was given.
    #[must_use]
    pub fn of(&self, reason: Reason) -> u64 {
        self.reasons.get(&(reason.code())).copied().unwrap_or(0)
    }
}

/// Counts of two shards, together: every count of a group, and none can be forgotten.
macro_rules! sums {
    ($($group:ident { $($count:ident),* $(,)? })*) => {$(
        impl std::ops::AddAssign<&$group> for $group {
            fn add_assign(&mut self, other: &Self) {
                let Self { $($count),* } = other;
                $(self.$count += $count;)*
            }
        }
    )*};
}

sums! {
    AcceptCounters { connections, connections_refused, addresses_crowded, strangers_crowded_out, bytes }
    ParseCounters { frames, assembled_frames, assembled_bytes, assembly_full, framing_faults, refused }
    VerifyCounters { session_frames, key_envelopes, ed25519_envelopes, bad_signatures, refused }
    RouteCounters { frames, refused }
    AppendCounters { frames, messages, bytes, duplicates, discarded, refused }
    CommitCounters { syncs, sync_failures, frames, messages, acks, sealed_frames, prepare_failures, retired_segments }
    DatagramCounters { received, appended, strangers, malformed, unverified, refused, elsewhere, duplicates, late, superseded, left_out }
    FanoutCounters { records, records_read_back, records_lost, stalls }
    DeliverCounters { fetches, frames, messages, bytes, messages_lost, settles, refused, takeovers, backpressure }
    ShedCounters { connections, strangers, low_priority_frames, normal_frames, stuck, high_waters, accepts, address_bans, banned_addresses, key_bans, banned_keys }
    SessionCounters { welcomed, resumed, refused, ended, goaways, tables }
    MeshCounters { sent, received, blocked, handed_over_out, handed_over_in, envelopes_out, envelopes_in, frames_out, frames_in }
}

impl std::ops::AddAssign<&Self> for Counters {
    fn add_assign(&mut self, other: &Self) {
        // Named one by one, so that none can be forgotten.
        let Self {
            turns,
            accept,
            parse,
            verify,
            route,
            append,
            commit,
            fanout,
            deliver,
            session,
            mesh,
            datagram,
            shed,
            reasons,
            #[cfg(feature = "cycles")]
            cycles,
        } = other;
        self.turns += turns;
        self.accept += accept;
        self.parse += parse;
        self.verify += verify;
        self.route += route;
        self.append += append;
        self.commit += commit;
        self.fanout += fanout;
        self.deliver += deliver;
        self.session += session;
        self.mesh += mesh;
        self.datagram += datagram;
        self.shed += shed;
        for (code, count) in reasons {
            *self.reasons.entry(*code).or_default() += count;
        }
        #[cfg(feature = "cycles")]
        {
            self.cycles += *cycles;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_of_another_shard_is_counted_too() {
        let mut one = Counters {
            turns: 1,
            ..Counters::default()
        };
        one.accept.bytes = 1;
        one.parse.frames = 1;
        one.verify.refused = 1;
        one.route.frames = 1;
        one.append.bytes = 1;
        one.commit.syncs = 1;
        one.fanout.stalls = 1;
        one.deliver.fetches = 1;
        one.session.welcomed = 1;
        one.mesh.handed_over_out = 1;
        one.datagram.late = 1;
        one.shed.high_waters = 1;
        one.reason(Reason::Busy);
        let mut sum = one.clone();
        sum += &one;
        let figures = |counters: &Counters| {
            [
                counters.turns,
                counters.accept.bytes,
                counters.parse.frames,
                counters.verify.refused,
                counters.route.frames,
                counters.append.bytes,
                counters.commit.syncs,
                counters.fanout.stalls,
                counters.deliver.fetches,
                counters.session.welcomed,
                counters.mesh.handed_over_out,
                counters.datagram.late,
                counters.shed.high_waters,
                counters.of(Reason::Busy),
            ]
        };
        assert_eq!(figures(&sum), figures(&one).map(|one| 2 * one));
    }
}
