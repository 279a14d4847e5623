//! Memory for datagrams on their way through the protocol: a few pieces, each for many datagrams, used again when nothing of them is
//! held any more.
//!
//! Every datagram would otherwise cost two allocations. What waits in a stream for bytes before it holds its whole piece, so pieces are
//! few: when all are held, datagrams get memory of their own, and a small one that waits then holds no more than itself.

use bytes::BytesMut;

/// Bytes of a piece: eleven long datagrams.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces of one shard.
const PIECES_MAX: usize = 128;

/// The pieces of one shard. There is none until the first datagram.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    current: Option<BytesMut>,
    idle: Vec<BytesMut>,
    /// Full, and something of them is held, as far as is known.
    held: Vec<BytesMut>,
}

impl Memory {
    /// A copy of a datagram.
    pub(crate) fn copy(&mut self, datagram: &[u8]) -> BytesMut {
        let room = |piece: &mut BytesMut| piece.try_reclaim(datagram.len());
        if !self.current.as_mut().is_some_and(room) && !self.renew(datagram.len()) {
            return BytesMut::from(datagram);
        }
        let piece = self.current.as_mut().expect("it has room");
        piece.extend_from_slice(datagram);
        piece.split()
    }

    /// Go on in another piece. False if there is none with so much room.
    fn renew(&mut self, bytes: usize) -> bool {
        if bytes > PIECE_BYTES {
            return false;
        }
        let next = match self.idle.pop() {
            Some(piece) => piece,
            None if self.count() < PIECES_MAX => BytesMut::with_capacity(PIECE_BYTES),
            None => return false,
        };
        self.held.extend(self.current.replace(next));
        true
    }

    /// Find the pieces of which nothing is held any more. A good moment is when streams have been read.
    pub(crate) fn collect(&mut self) {
        let idle = &mut self.idle;
        self.held.retain_mut(|piece| {
            let free = piece.try_reclaim(PIECE_BYTES);
            if free {
                idle.push(std::mem::take(piece));
            }
            !free
        });
        if let Some(piece) = &mut self.current {
            // The next datagram goes where the processor has just been.
            let _ = piece.try_reclaim(PIECE_BYTES);
        }
    }

    /// Pieces there are.
    fn count(&self) -> usize {
        self.idle.len() + self.held.len() + usize::from(self.current.is_some())
    }

    /// Bytes of all pieces.
    pub(crate) fn bytes(&self) -> usize {
        self.count() * PIECE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn datagrams_are_copied_into_the_same_memory_again_once_nothing_of_it_is_held() {
        let mut memory = Memory::default();
        let (mut places, mut bytes) = (BTreeSet::new(), 0);
        for _ in 0..100 {
            let datagrams: Vec<BytesMut> =
                (0..40).map(|fill| memory.copy(&[fill; 1_400])).collect();
            for (fill, datagram) in datagrams.iter().enumerate() {
                assert!(datagram.iter().all(|byte| usize::from(*byte) == fill));
            }
            places.extend(datagrams.iter().map(|datagram| datagram.as_ptr()));
            drop(datagrams);
            memory.collect();
            bytes = memory.bytes();
        }
        assert!(places.len() <= 44, "{} places", places.len());
        assert_eq!(bytes, 4 * PIECE_BYTES, "40 datagrams, 11 in a piece");
    }

    #[test]
    fn who_holds_what_is_small_keeps_few_pieces_and_then_no_more_than_it() {
        let mut memory = Memory::default();
        let mut kept = Vec::new();
        for _ in 0..PIECES_MAX * 100 {
            let mut waits = memory.copy(&[1; 1_400]);
            kept.push(waits.split_to(1));
            (0..10).for_each(|_| drop(memory.copy(&[2; 1_400])));
            memory.collect();
        }
        assert_eq!(memory.bytes(), PIECES_MAX * PIECE_BYTES);
        assert_eq!(memory.copy(&[3; 5]), [3; 5][..], "memory of its own");
        kept.clear();
        memory.collect();
        assert_eq!(
            (memory.held.len(), memory.bytes()),
            (0, PIECES_MAX * PIECE_BYTES)
        );
        assert_eq!(memory.copy(&[4; PIECE_BYTES + 1]).len(), PIECE_BYTES + 1);
    }
}
