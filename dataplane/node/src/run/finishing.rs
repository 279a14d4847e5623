//! Connections whose peer will send no more: each is closed once it has its answers. Knows neither sockets nor sessions.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ring::ConnectionId;

/// How long a peer that will send no more is left alone before its connection is closed, and how often it is asked whether it is
/// still owed an answer.
const GRACE: Duration = Duration::from_millis(200);
/// How long an answer may take in all: longer than disks do that are at work at all.
const GRACE_MAX: Duration = Duration::from_secs(30);

/// In the order in which they are looked at.
#[derive(Debug, Default)]
pub(super) struct Finishing {
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    look_at: Instant,
    close_by: Instant,
    connection: ConnectionId,
}

impl Finishing {
    /// The peer of a connection has just said that it will send no more.
    pub(super) fn begin(&mut self, now: Instant, connection: ConnectionId) {
        self.waiting.push_back(Waiting {
            look_at: now + GRACE,
            close_by: now + GRACE_MAX,
            connection,
        });
    }

    /// The next connection to close, if one is: its time has come and it is owed nothing, or has waited for too long.
    pub(super) fn next_to_close(
        &mut self,
        now: Instant,
        owed: impl Fn(ConnectionId) -> bool,
    ) -> Option<ConnectionId> {
        let due = |waiting: &mut Waiting| waiting.look_at <= now;
        while let Some(mut first) = self.waiting.pop_front_if(due) {
            if first.close_by <= now || !owed(first.connection) {
                return Some(first.connection);
            }
            first.look_at = (now + GRACE).min(first.close_by);
            self.waiting.push_back(first);
        }
        None
    }

    /// When there may be one to close.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.waiting.front().map(|first| first.look_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_owed_an_answer_is_closed_when_it_has_it_or_never_gets_it_and_others_at_once() {
        let (began, mut finishing) = (Instant::now(), Finishing::default());
        let [prompt, slow, never] = [1, 2, 3].map(ConnectionId);
        for connection in [slow, never, prompt] {
            finishing.begin(began, connection);
        }
        let mut closed = Vec::new();
        let mut now = began;
        while let Some(at) = finishing.next_at() {
            assert!(at > now, "nobody is looked at without end");
            now = at;
            let late = now >= began + Duration::from_secs(2);
            let owed = |connection| connection == never || connection == slow && !late;
            while let Some(connection) = finishing.next_to_close(now, owed) {
                closed.push((connection, now - began));
            }
        }
        let want = [
            (prompt, GRACE),
            (slow, Duration::from_secs(2)),
            (never, GRACE_MAX),
        ];
        assert_eq!(closed, want);
    }
}
