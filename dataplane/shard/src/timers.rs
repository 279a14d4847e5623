//! What ends by time: late handshakes, idle peers, credentials, receivers that do not read, lingering sessions.

use std::time::Duration;

use partition::Segment;
use wire::ids::UnixNanos;
use wire::reason::{Notice, Reason};

use crate::connection::{Goodbye, Phase};
use crate::io::{ConnectionId, Output};
use crate::peers::{Peers, millis};
use crate::session::SessionRef;
use crate::terms::{ended, first_end};

/// How often a session is looked at that ends at some time, should the clock be set.
const END_LOOK: Duration = Duration::from_secs(4);

impl Peers {
    /// Put a connection into the timers for the first time.
    pub(crate) fn arm(&mut self, id: ConnectionId) {
        let due = self.now.monotonic + self.limits.handshake_timeout;
        if let Some(connection) = self.connections.get_mut(id) {
            connection.timer = due;
            self.timers.insert((due, id));
        }
    }

    /// Act on every timer that is due: late handshakes, idle peers, ended credentials, stuck receivers,
    /// lingering sessions. A connection stands in the timers once; its true deadline is looked at only when
    /// that entry is due, so that traffic costs nothing here.
    pub(crate) fn tick<S: Segment>(&mut self, output: &mut Output<S>) {
        let now = self.now.monotonic;
        while let Some((due, id)) = self.timers.first().copied() {
            if due > now {
                break;
            }
            self.timers.pop_first();
            let next = self.look_at(id, output);
            if let Some(connection) = self.connections.get_mut(id) {
                connection.timer = next;
                self.timers.insert((next, id));
            }
        }
        while let Some(reference) = self.sessions.overdue(now) {
            self.end_session(reference);
        }
    }

    /// End a connection whose time is over, and say when to look again.
    fn look_at<S: Segment>(&mut self, id: ConnectionId, output: &mut Output<S>) -> Duration {
        let now = self.now.monotonic;
        let step = self.limits.slow_receiver_after;
        let Some(connection) = self.connections.get(id) else {
            return now + step;
        };
        let slow_at = connection.progress_at + step;
        let (limit, reason, since) = match connection.phase {
            Phase::Closing => {
                let at = connection.received_at + step;
                if at <= now {
                    // Named again: what was sent to it does not leave, the caller is to break it off.
                    output.closes.push(id);
                    return now + step;
                }
                return at;
            }
            _ if connection.goodbye.is_some() => return now + step,
            Phase::Open(_) => (
                self.limits.idle_timeout,
                Reason::IdleTimeout,
                connection.received_at,
            ),
            _ => (
                self.limits.handshake_timeout,
                Reason::HandshakeTimeout,
                connection.since,
            ),
        };
        if since + limit <= now {
            // Who has proven who they are waits for a WELCOME that is late, and whose HELLO waits has said it: no fault of theirs.
            let late = connection.stranger && !connection.kept_waiting;
            if reason == Reason::HandshakeTimeout && late {
                self.note_failure(id);
            }
            self.goaway(id, reason, millis(now.saturating_sub(since)), millis(limit));
            return now + step;
        }
        if connection.unsent > 0 && slow_at <= now {
            self.goaway(id, Reason::SlowReceiver, connection.unsent as u64, 0);
            return now + step;
        }
        let mut next = (since + limit).min(now + step);
        if connection.unsent > 0 {
            next = next.min(slow_at);
        }
        if let Some(reference) = connection.session() {
            match self.end_in_time(id, reference) {
                Some(at) => next = next.min(at),
                None => return now + step,
            }
        }
        next
    }

    /// End a session of which something has ended that it needs; otherwise say when to look again. Wall time may jump, so one that
    /// is to end is looked at more often than that.
    fn end_in_time(&mut self, id: ConnectionId, reference: SessionRef) -> Option<Duration> {
        let never = self.now.monotonic + self.limits.slow_receiver_after;
        let Some(session) = self.sessions.get(reference) else {
            return Some(never);
        };
        let Some(endpoint) = self.endpoint_of(session) else {
            // The walk that is under way ends it.
            return Some(never);
        };
        let UnixNanos(now) = self.now.unix;
        let Some((at, reason)) = first_end(session, session.shown(), &endpoint, self.now.unix)
        else {
            return Some(never);
        };
        if at.0 > now {
            let wait = Duration::from_nanos(at.0 - now).min(END_LOOK);
            return Some(self.now.monotonic + wait);
        }
        let notice = ended((at, reason), &endpoint, session.direction, self.now.unix);
        self.withdraw(id, reference, notice);
        None
    }

    /// End a session and its connection because its credential is no longer good.
    pub(crate) fn withdraw(&mut self, id: ConnectionId, reference: SessionRef, notice: Notice) {
        self.goodbye(id, Goodbye::Goaway(notice));
        self.last_word_now(id);
        self.end_session(reference);
    }

    /// Say the last word before the session that signs it ends or changes its keys.
    pub(crate) fn last_word_now(&mut self, id: ConnectionId) {
        self.last_word(id);
        if let Some(connection) = self.connections.get_mut(id)
            && connection.goodbye.is_some()
        {
            connection.goodbye = Some(Goodbye::Silent);
        }
    }

    /// Look at a connection's deadlines in the next turn: they have changed.
    pub(crate) fn rearm(&mut self, id: ConnectionId) {
        let now = self.now.monotonic;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        self.timers.remove(&(connection.timer, id));
        connection.timer = now;
        self.timers.insert((now, id));
    }

    /// When the next timer is due.
    pub(crate) fn next_timer(&self) -> Option<Duration> {
        let timer = self.timers.first().map(|(due, _)| *due);
        [timer, self.sessions.next_linger()]
            .into_iter()
            .flatten()
            .min()
    }
}
