//! What lanes have for one turn: the bytes of each in one piece, however many packets they came in, so that few frames straddle pieces
//! and have to be put together. The memory is used again for every turn.

use shard::ConnectionId;

/// Bytes of lanes, one lane behind the other.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    bytes: Vec<u8>,
    /// Whose bytes end where.
    ends: Vec<(ConnectionId, usize)>,
}

impl Heard {
    /// Put more behind what was heard of this lane, if it was the last one, or begin with another.
    pub(crate) fn put(&mut self, lane: ConnectionId, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        match self.ends.last_mut().filter(|(last, _)| *last == lane) {
            Some((_, end)) => *end = self.bytes.len(),
            None => self.ends.push((lane, self.bytes.len())),
        }
    }

    /// Lane by lane.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (ConnectionId, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |(lane, end)| {
            let piece = &self.bytes[start..*end];
            start = *end;
            (*lane, piece)
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}
