//! A connection whose endpoint lives on another shard goes there, once, as soon as its HELLO is whole and before anything
//! in it is judged. There it is like any other, but for its preface, which has been answered here.
//!
//! A connection that cannot go is served here: its frames for logs of other shards cross (`across.rs`), and who would receive from a
//! queue of another shard is told which one that is, once it has proven who it is (`handshake.rs`).

use wire::frame::split;
use wire::handshake::{Auth, Hello};
use wire::ids::{EndpointId, SessionId};
use wire::reason::{Notice, Reason};
use wire::route::{EndpointView, RouteTable};
use wire::token::Token;

use crate::connection::Goodbye;
use crate::io::{ConnectionId, HandOver, Outgoing, Output};
use crate::peers::Peers;
use crate::planted::{Bug, active};
use partition::Segment;

/// A connection that leaves at the end of the turn, and what is still to be sent to it from here.
#[derive(Debug)]
pub(crate) struct Leaving {
    hand_over: HandOver,
    said: Vec<u8>,
}

/// A session's id says on which shard it lives, so that who resumes it is sent there.
pub(crate) fn stamp(id: &mut SessionId, shard: u16, shards: u16) {
    if shards > 1 {
        id.0[14..].copy_from_slice(&shard.to_le_bytes());
    }
}

fn stamped(id: SessionId) -> u16 {
    u16::from_le_bytes([id.0[14], id.0[15]])
}

/// The endpoint of this name, and its index. Nearly all have the id that follows from their name, and are found by one look; names
/// that are nobody's, and those whose id was picked, are looked for among all.
pub(crate) fn named<'t>(table: &'t RouteTable, name: &str) -> Option<(u32, EndpointView<'t>)> {
    let at = |index| (index, table.endpoint_at(index));
    let derived = table.endpoint_index(EndpointId::of(name)).map(at);
    derived
        .filter(|(_, endpoint)| endpoint.name() == name)
        .or_else(|| {
            let endpoint = table.endpoint_by_name(name)?;
            table.endpoint_index(endpoint.id).map(at)
        })
}

impl Peers {
    /// `hello` is whole, and `rest` came behind it: hand the connection over if its endpoint lives elsewhere. Returns
    /// whether it is gone; one that was handed over before is refused instead.
    pub(crate) fn hand_over(&mut self, id: ConnectionId, hello: &[u8], rest: &[u8]) -> bool {
        let Some(to) = self.elsewhere(hello) else {
            return false;
        };
        let Some(connection) = self.connections.get_mut(id) else {
            return false;
        };
        let stays = connection.start.as_ref().is_some_and(|start| start.stays);
        if stays && !active(Bug::LaneIsHandedOver) {
            return false;
        }
        if connection.handed_over {
            // Two shards have two tables, for a moment.
            let notice = Notice::new(Reason::Busy, 0, 0).retry_after(self.retry_after_ms());
            self.goodbye(id, Goodbye::Refused(notice));
            return false;
        }
        let assembled = connection.assembly.begun();
        let said = std::mem::take(&mut connection.out);
        let mut bytes = Vec::with_capacity(hello.len() + rest.len());
        if !(assembled && active(Bug::HandOverForgetsStart)) {
            bytes.extend_from_slice(hello);
        }
        bytes.extend_from_slice(rest);
        self.closed(id);
        self.counters.mesh.handed_over_out += 1;
        let hand_over = HandOver {
            connection: id,
            to,
            bytes,
        };
        self.leaving.push(Leaving { hand_over, said });
        true
    }

    /// Where the endpoint of a HELLO lives, if that is not here.
    fn elsewhere(&self, hello: &[u8]) -> Option<u16> {
        if self.limits.shards == 1 || self.draining {
            return None;
        }
        let (frame, _) = split(hello).ok()??;
        let fields = Hello::parse(frame).ok()?.fields;
        let table = &self.table;
        let endpoint = || named(table, fields.name).map(|(_, endpoint)| endpoint);
        let (endpoint, key) = match fields.auth {
            Auth::Resume(session) => {
                let home = stamped(session);
                let known = home < self.limits.shards && home != self.limits.shard;
                return known.then_some(home);
            }
            Auth::Key(id) => {
                let endpoint = endpoint()?;
                (endpoint, endpoint.key(id)?)
            }
            Auth::Token(text) => {
                let token = Token::parse(text).ok()?;
                let endpoint = endpoint()?;
                (endpoint, endpoint.key_by_name(token.key_name())?)
            }
        };
        let home = self.ownership.home(table, &endpoint, key.direction);
        (home != self.limits.shard).then_some(home)
    }

    /// More bytes of a connection that is not there any more: they go with it, if it leaves in this turn.
    #[cold]
    pub(crate) fn follow(&mut self, id: ConnectionId, bytes: &[u8]) {
        let mut leaving = self.leaving.iter_mut();
        if let Some(leaving) = leaving.find(|leaving| leaving.hand_over.connection == id) {
            leaving.hand_over.bytes.extend_from_slice(bytes);
        }
    }

    /// A connection that was to leave has ended.
    pub(crate) fn stay_away(&mut self, id: ConnectionId) {
        self.leaving
            .retain(|leaving| leaving.hand_over.connection != id);
    }

    /// Let the connections of this turn leave.
    pub(crate) fn leave<S: Segment>(&mut self, output: &mut Output<S>) {
        for Leaving { hand_over, said } in self.leaving.drain(..) {
            if !said.is_empty() {
                output.sends.push(Outgoing {
                    connection: hand_over.connection,
                    bytes: said,
                });
            }
            output.hand_over.push(hand_over);
        }
    }
}
