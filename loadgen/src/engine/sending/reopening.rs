//! What becomes of a connection that the server ended: its sender opens another one, which knows where the log ends, and
//! so every frame is either booked or sent again.

use client::handshake::Opened;
use wire::ids::Sequence;

use super::Sending;

impl Sending {
    /// Go on over a new session, whose WELCOME names `last` as the last frame in the log.
    ///
    /// Only a lane that carries one sender's own frames can: relay numbers end with their connection.
    pub fn reopen(&mut self, lane: usize, opened: Opened, last: Sequence, now: u64) {
        debug_assert!(!self.lanes[lane].relays(), "lane {lane} relays");
        if self.lanes[lane].logs != opened.terms.logs {
            return self.lanes[lane].end("the node has other logs than before".to_owned());
        }
        while self.lanes[lane].last < last.0 {
            let Some(item) = self.lanes[lane].answer_next() else {
                return self.lanes[lane].end("another session sends as this endpoint".to_owned());
            };
            self.book_acked(&item, now);
        }
        let unsent = self.lanes[lane].ready.len();
        self.lanes[lane].reopen(opened);
        let back = self.lanes[lane].ready.len() - unsent;
        self.signed_bytes += self.lanes[lane]
            .ready
            .range(..back)
            .map(|item| item.frame_bytes)
            .sum::<usize>();
        self.sign_again(lane);
        self.touched.push(lane);
    }

    /// Whether a lane has frames that wait for their answer, or to be sent.
    pub fn waits(&self, lane: usize) -> bool {
        !self.lanes[lane].wire.is_empty() || !self.lanes[lane].ready.is_empty()
    }
}
