//! Sessions that stay open while time passes and things change, or linger without a connection; and what the documents say about them.

use super::node::Open;
use super::plan::Defined;
use super::reference::{Fail, Fails, Proof, Question, Way, of_queue, of_session};

/// One of them, and by what it was opened.
pub(crate) struct Kept {
    pub(crate) open: Open,
    pub(crate) by: Question,
    /// Which secret it was opened with.
    secret: Option<usize>,
    pub(crate) connected: bool,
    /// Something was refused on it: numbers behind that are not taken before it comes again.
    pub(crate) refused: bool,
    /// Something of it was not good while it lingered: it may be gone.
    pub(crate) unsure: bool,
}

impl Kept {
    pub(crate) fn new(open: Open, by: &Question, defined: &Defined) -> Self {
        let keys = &defined.endpoints[by.endpoint].keys;
        let key = keys.iter().find(|key| key.id == by.key);
        Self {
            open,
            by: by.clone(),
            secret: key.map(|key| key.secret),
            connected: true,
            refused: false,
            unsure: false,
        }
    }

    /// What speaks against it at this second.
    pub(crate) fn fails(&self, defined: &Defined, at: u64) -> Fails {
        let endpoint = &defined.endpoints[self.by.endpoint];
        let mut question = self.by.clone();
        question.at = at;
        if question.way == Way::Datagram {
            // The session needs no datagrams; whoever sends one does.
            question.way = Way::Quic;
        }
        let mut fails = of_session(endpoint, &question);
        let key = endpoint.keys.iter().find(|key| key.id == self.by.key);
        if key.map(|key| key.secret) != self.secret {
            fails.insert(Fail::KeyOver);
        }
        if !self.by.sends {
            fails.extend(of_queue(endpoint, self.by.address, at));
        }
        fails
    }

    /// The same question on this session, about another channel and other bodies.
    pub(crate) fn question(&self, channel: String, bodies: Vec<usize>, at: u64) -> Question {
        Question {
            channel,
            bodies,
            at,
            origin: None,
            poses_as: None,
            ..self.by.clone()
        }
    }

    /// When its token ends.
    pub(crate) fn token_ends(&self) -> Option<u64> {
        match self.by.proof {
            Proof::Token { expires, .. } => Some(expires),
            _ => None,
        }
    }
}
