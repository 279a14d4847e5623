//! Random bytes for accepted connections, drawn in blocks so that an accept costs no system call.

use shard::HashSeed;
use wire::ids::LogsId;

use crate::diagnosis::{Diagnosis, RANDOM_FAILED, diagnose};

/// Bytes one connection takes: a session id and a nonce.
const PIECE_BYTES: usize = 48;
const PIECES: usize = 64;

/// A seed for the maps of a process.
pub(crate) fn hash_seed() -> Result<HashSeed, Diagnosis> {
    number().map(HashSeed)
}

/// Logs that there have not been before. Those without a number are nobody's.
pub(crate) fn logs() -> Result<LogsId, Diagnosis> {
    number().map(|number| LogsId(number.max(1)))
}

fn number() -> Result<u64, Diagnosis> {
    getrandom::u64().map_err(|error| refused(&error))
}

fn refused(error: &getrandom::Error) -> Diagnosis {
    diagnose(
        RANDOM_FAILED,
        "getrandom",
        error.to_string(),
        "random bytes",
        "allow the getrandom system call",
    )
}

/// A block of random bytes, used up piece by piece. Used bytes are overwritten.
pub(crate) struct Random {
    block: Box<[u8; PIECE_BYTES * PIECES]>,
    next: usize,
}

impl Random {
    pub(crate) fn new() -> Result<Self, Diagnosis> {
        let mut random = Self {
            block: Box::new([0; PIECE_BYTES * PIECES]),
            next: 0,
        };
        random.refill()?;
        Ok(random)
    }

    /// Bytes nobody has been given before.
    pub(crate) fn piece(&mut self) -> Result<[u8; PIECE_BYTES], Diagnosis> {
        if self.next == self.block.len() {
            self.refill()?;
        }
        let range = self.next..self.next + PIECE_BYTES;
        let mut piece = [0; PIECE_BYTES];
        piece.copy_from_slice(&self.block[range.clone()]);
        self.block[range].fill(0);
        self.next += PIECE_BYTES;
        Ok(piece)
    }

    fn refill(&mut self) -> Result<(), Diagnosis> {
        self.next = 0;
        getrandom::fill(&mut self.block[..]).map_err(|error| refused(&error))
    }
}
