//! REJECTs, signed two at a time: a forged frame is not to cost more than a good one, whose ACK is signed with others too.
//! Their bytes are put in their places at once; the signatures follow before anything else is done with the buffer or the key.

use wire::ack::{REJECT_BYTES, Reject};
use wire::signature::{SignJob, TAG_BYTES, sign_two};

use crate::io::ConnectionId;
use crate::peers::Peers;
use crate::session::SessionRef;

/// A REJECT in the buffer of its connection, with room for its signature.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsigned {
    connection: ConnectionId,
    session: SessionRef,
    frame_index: u64,
    /// Where it begins in the buffer.
    at: usize,
}

/// Bytes of a REJECT that are signed.
const SIGNED_BYTES: usize = REJECT_BYTES - TAG_BYTES;

impl Peers {
    /// Append a REJECT for a connection with an open session; its signature comes with [`Peers::sign_all`].
    pub(crate) fn say_unsigned(&mut self, id: ConnectionId, reject: &Reject) {
        self.list(id);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let Some(session) = connection.session() else {
            return;
        };
        if self.sessions.get(session).is_none() {
            return;
        }
        self.unsigned.push(Unsigned {
            connection: id,
            session,
            frame_index: connection.frames_out,
            at: connection.out.len(),
        });
        connection.frames_out += 1;
        connection.out.extend_from_slice(&reject.signed_bytes());
        connection.out.extend_from_slice(&[0; TAG_BYTES]);
    }

    /// Sign what waits for it.
    #[inline]
    pub(crate) fn sign_all(&mut self) {
        if !self.unsigned.is_empty() {
            self.sign_pairs();
        }
    }

    fn sign_pairs(&mut self) {
        let mut unsigned = std::mem::take(&mut self.unsigned);
        let (pairs, last) = unsigned.as_chunks::<2>();
        for pair in pairs {
            let [first, second] = pair.each_ref().map(|reject| self.job(reject));
            let tags = sign_two([&first, &second]);
            for (reject, tag) in pair.iter().zip(&tags) {
                self.put_tag(reject, tag);
            }
        }
        for reject in last {
            let tag = self.job(reject).sign();
            self.put_tag(reject, &tag);
        }
        unsigned.clear();
        self.unsigned = unsigned;
    }

    fn job(&self, reject: &Unsigned) -> SignJob<'_> {
        let connection = self.connections.get(reject.connection);
        let session = self.sessions.get(reject.session);
        let (connection, session) = connection
            .zip(session)
            .expect("signed before its connection or session goes");
        let signed = &connection.out[reject.at..reject.at + SIGNED_BYTES];
        SignJob::session(&session.keys.server, reject.frame_index, signed)
    }

    fn put_tag(&mut self, reject: &Unsigned, tag: &[u8; TAG_BYTES]) {
        if let Some(connection) = self.connections.get_mut(reject.connection) {
            connection.out[reject.at + SIGNED_BYTES..reject.at + REJECT_BYTES].copy_from_slice(tag);
        }
    }
}
