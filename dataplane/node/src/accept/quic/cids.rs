//! Connection IDs that name their shard: the first byte modulo the number of shards is the shard's number, otherwise random.
//!
//! The kernel steers a datagram by that byte (`ring::steer_by_connection_id`), so a connection stays on its shard wherever its
//! client moves.

use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator};

/// Bytes of every ID that this node makes.
pub(crate) const ID_BYTES: usize = 8;
/// Random bytes drawn at once.
const BLOCK_BYTES: usize = 64 * ID_BYTES;
/// Shards that one byte can name.
pub(crate) const SHARDS_MAX: u16 = 256;

/// Draws random bytes.
pub(crate) type Draw = fn(&mut [u8]);

/// Makes the IDs of one shard.
pub(crate) struct ShardIds {
    shard: u16,
    shards: u16,
    draw: Draw,
    block: Box<[u8; BLOCK_BYTES]>,
    next: usize,
}

impl ShardIds {
    /// Of shard `shard` of `shards`.
    pub(crate) fn new(shard: u16, shards: u16, draw: Draw) -> Self {
        assert!(
            shard < shards && shards <= SHARDS_MAX,
            "shard {shard} of {shards}"
        );
        Self {
            shard,
            shards,
            draw,
            block: Box::new([0; BLOCK_BYTES]),
            next: BLOCK_BYTES,
        }
    }
}

/// The shard that an ID names.
pub(crate) fn shard_of(id: &[u8], shards: u16) -> u16 {
    id.first().map_or(0, |byte| u16::from(*byte) % shards)
}

/// Whether the connection ID of a datagram names another shard than this one of so many.
pub(crate) fn is_astray(datagram: &[u8], (shard, shards): (u16, u16)) -> bool {
    let long = datagram.first().is_some_and(|first| first & 0x80 != 0);
    let id = datagram.get(if long { 6 } else { 1 }..);
    id.is_some_and(|id| !id.is_empty() && shard_of(id, shards) != shard)
}

/// Of all bytes that name a shard, the one that a random byte chooses.
pub(crate) fn naming_byte(random: u8, shard: u16, shards: u16) -> u8 {
    let bytes = (SHARDS_MAX - shard).div_ceil(shards);
    let byte = shard + shards * (u16::from(random) % bytes);
    u8::try_from(byte).expect("shard and bytes are below 256")
}

impl ConnectionIdGenerator for ShardIds {
    fn generate_cid(&mut self) -> ConnectionId {
        if self.next == BLOCK_BYTES {
            (self.draw)(&mut self.block[..]);
            self.next = 0;
        }
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&self.block[self.next..self.next + ID_BYTES]);
        self.next += ID_BYTES;
        id[0] = naming_byte(id[0], self.shard, self.shards);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_names_its_shard_and_all_bytes_that_do_are_used() {
        for shards in [1, 2, 3, 4, 7, 16, 255, 256] {
            for shard in [0, shards / 2, shards - 1] {
                let all = |random| naming_byte(random, shard, shards);
                let mut bytes: Vec<u8> = (0..=255).map(all).collect();
                bytes.sort_unstable();
                bytes.dedup();
                let named = |byte: &u8| shard_of(&[*byte], shards) == shard;
                assert!(bytes.iter().all(named), "shard {shard} of {shards}");
                let wanted = (0..=255_u8).filter(named).count();
                assert_eq!(bytes.len(), wanted, "shard {shard} of {shards}");
            }
        }
    }

    #[test]
    fn ids_are_as_random_as_what_they_are_made_from() {
        let draw = |bytes: &mut [u8]| getrandom::fill(bytes).expect("random bytes");
        let mut ids = ShardIds::new(2, 3, draw);
        let mut made: Vec<ConnectionId> = (0..1000).map(|_| ids.generate_cid()).collect();
        assert!(made.iter().all(|id| shard_of(id, 3) == 2));
        assert!(made.iter().all(|id| id.len() == ids.cid_len()));
        made.sort_by_key(|id| id.to_vec());
        made.dedup();
        assert_eq!(made.len(), 1000);
    }
}
