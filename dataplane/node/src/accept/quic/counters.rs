//! What QUIC did on one shard: totals since it began, and how many of what there are now.

/// Totals of one shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct QuicCounters {
    /// Connections there are, those in their handshake included.
    pub(crate) connections: u64,
    /// Of them in their handshake.
    pub(crate) handshaking: u64,
    /// Lanes there are.
    pub(crate) lanes: u64,
    /// 1 while addresses have to be proven.
    pub(crate) retrying: u64,
    /// Times that began.
    pub(crate) retry_began: u64,
    /// Datagrams received; those of them that belong to nothing.
    pub(crate) datagrams_in: u64,
    pub(crate) datagrams_dropped: u64,
    /// Those whose connection ID names another shard.
    pub(crate) datagrams_astray: u64,
    /// Datagrams sent; trains that found no room and were given up.
    pub(crate) datagrams_out: u64,
    pub(crate) datagrams_unsent: u64,
    /// Those that were too many for an address that is not proven; some of them were sent later.
    pub(crate) datagrams_held_back: u64,
    /// Stateless resets and version negotiations.
    pub(crate) resets_and_versions: u64,
    /// Answers without a connection that found no room.
    pub(crate) responses_dropped: u64,
    /// Handshakes begun, not answered because there were too many, ended to make room for others, and failed.
    pub(crate) handshakes: u64,
    pub(crate) handshakes_ignored: u64,
    pub(crate) handshakes_crowded_out: u64,
    pub(crate) handshakes_failed: u64,
    /// Proofs of an address asked for.
    pub(crate) retries: u64,
    /// Handshakes that ended well.
    pub(crate) connected: u64,
    /// Connections refused because there were too many.
    pub(crate) connections_refused: u64,
    /// Connections over and forgotten; because nothing came; because of a fault in what came; because they had no lane with a
    /// session; because their address is banned; because they said too much that leads to nothing.
    pub(crate) connections_ended: u64,
    pub(crate) connections_timed_out: u64,
    pub(crate) connections_faulty: u64,
    pub(crate) connections_unused: u64,
    pub(crate) connections_banned: u64,
    pub(crate) connections_excessive: u64,
    /// Lanes opened, and those for which there was no room.
    pub(crate) lanes_opened: u64,
    pub(crate) lanes_refused: u64,
    /// Frames in datagrams that name no lane there is, and those for which there was no room.
    pub(crate) loose_without_lane: u64,
    pub(crate) loose_crowded_out: u64,
    /// Bytes of lanes.
    pub(crate) lane_bytes_in: u64,
    pub(crate) lane_bytes_out: u64,
}

impl std::ops::AddAssign for QuicCounters {
    /// What two shards counted, together.
    fn add_assign(&mut self, other: Self) {
        let Self {
            connections,
            handshaking,
            lanes,
            retrying,
            retry_began,
            datagrams_in,
            datagrams_dropped,
            datagrams_astray,
            datagrams_out,
            datagrams_unsent,
            datagrams_held_back,
            resets_and_versions,
            responses_dropped,
            handshakes,
            handshakes_ignored,
            handshakes_crowded_out,
            handshakes_failed,
            retries,
            connected,
            connections_refused,
            connections_ended,
            connections_timed_out,
            connections_faulty,
            connections_unused,
            connections_banned,
            connections_excessive,
            lanes_opened,
            lanes_refused,
            loose_without_lane,
            loose_crowded_out,
            lane_bytes_in,
            lane_bytes_out,
        } = other;
        self.connections += connections;
        self.handshaking += handshaking;
        self.lanes += lanes;
        self.retrying += retrying;
        self.retry_began += retry_began;
        self.datagrams_in += datagrams_in;
        self.datagrams_dropped += datagrams_dropped;
        self.datagrams_astray += datagrams_astray;
        self.datagrams_out += datagrams_out;
        self.datagrams_unsent += datagrams_unsent;
        self.datagrams_held_back += datagrams_held_back;
        self.resets_and_versions += resets_and_versions;
        self.responses_dropped += responses_dropped;
        self.handshakes += handshakes;
        self.handshakes_ignored += handshakes_ignored;
        self.handshakes_crowded_out += handshakes_crowded_out;
        self.handshakes_failed += handshakes_failed;
        self.retries += retries;
        self.connected += connected;
        self.connections_refused += connections_refused;
        self.connections_ended += connections_ended;
        self.connections_timed_out += connections_timed_out;
        self.connections_faulty += connections_faulty;
        self.connections_unused += connections_unused;
        self.connections_banned += connections_banned;
        self.connections_excessive += connections_excessive;
        self.lanes_opened += lanes_opened;
        self.lanes_refused += lanes_refused;
        self.loose_without_lane += loose_without_lane;
        self.loose_crowded_out += loose_crowded_out;
        self.lane_bytes_in += lane_bytes_in;
        self.lane_bytes_out += lane_bytes_out;
    }
}
