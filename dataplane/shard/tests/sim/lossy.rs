//! A stream as QUIC carries it: packets are lost, come twice, late and in any order, and are sent again until they came. What is read is in
//! order and stands still where a packet is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;

/// Bytes of a packet at most.
const PACKET_BYTES_MAX: usize = 400;
/// When a packet that has not been acknowledged is sent again, first.
const AGAIN: Duration = Duration::from_millis(30);
/// It is sent again later each time, so many times.
const TRIES_MAX: u32 = 6;

/// What has to come.
struct Packet {
    at: Duration,
    offset: u64,
    bytes: Vec<u8>,
    tries: u32,
}

/// One direction of a lane.
#[derive(Default)]
pub(crate) struct Lossy {
    /// Not acknowledged, by when it is sent next.
    unacked: Vec<Packet>,
    /// On its way, by when it comes.
    coming: Vec<Packet>,
    /// What came behind a gap.
    beyond: BTreeMap<u64, Vec<u8>>,
    put: u64,
    read: u64,
}

impl Lossy {
    pub(crate) fn put(&mut self, mut bytes: Vec<u8>, now: Duration, random: &mut Rng) {
        while !bytes.is_empty() {
            let most = bytes.len().min(PACKET_BYTES_MAX);
            let rest = bytes.split_off(random.usize(1..=most));
            let offset = self.put;
            self.put += bytes.len() as u64;
            self.unacked.push(Packet {
                at: now,
                offset,
                bytes: std::mem::replace(&mut bytes, rest),
                tries: 0,
            });
        }
    }

    /// What can be read now, of a lane whose path is silent until a time.
    pub(crate) fn take(&mut self, now: Duration, silent: Duration, random: &mut Rng) -> Vec<u8> {
        self.send(now, silent, random);
        let due: Vec<_> = self
            .coming
            .extract_if(.., |packet| packet.at <= now)
            .collect();
        for packet in due {
            // Of two that begin at one place the longer one counts.
            let known = self.beyond.entry(packet.offset).or_default();
            if known.len() < packet.bytes.len() {
                *known = packet.bytes;
            }
        }
        let mut out = Vec::new();
        while let Some((offset, bytes)) = self.beyond.pop_first() {
            if offset > self.read {
                self.beyond.insert(offset, bytes);
                break;
            }
            let known = (self.read - offset) as usize;
            if let Some(fresh) = bytes.get(known..) {
                self.read += fresh.len() as u64;
                out.extend_from_slice(fresh);
            }
        }
        out
    }

    /// Send what is due: it is lost, or comes, and a few come twice.
    fn send(&mut self, now: Duration, silent: Duration, random: &mut Rng) {
        let mut later = Vec::new();
        for mut packet in self.unacked.extract_if(.., |packet| packet.at <= now) {
            let lost = packet.at < silent || random.u8(..6) == 0;
            let spurious = !lost && random.u8(..12) == 0;
            if !lost {
                let slow = if random.u8(..15) == 0 { 60_000 } else { 4_000 };
                self.coming.push(Packet {
                    at: packet.at + Duration::from_micros(random.u64(..slow)),
                    bytes: packet.bytes.clone(),
                    ..packet
                });
            }
            if lost || spurious {
                packet.at += AGAIN * (1 << packet.tries.min(TRIES_MAX));
                packet.tries += 1;
                later.push(packet);
            }
        }
        for mut packet in later {
            // What is sent again may be cut elsewhere.
            if packet.bytes.len() > 1 && random.u8(..4) == 0 {
                let rest = packet.bytes.split_off(random.usize(1..packet.bytes.len()));
                let offset = packet.offset + packet.bytes.len() as u64;
                self.unacked.push(Packet {
                    offset,
                    bytes: rest,
                    ..packet
                });
            }
            self.unacked.push(packet);
        }
    }

    /// Whether all that was put has been read.
    pub(crate) fn is_empty(&self) -> bool {
        self.read == self.put
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_lost_late_or_twice_a_stream_is_read_whole_and_in_order() {
        let mut stood_still = 0;
        for seed in 0..50 {
            let mut random = Rng::with_seed(seed);
            let (mut stream, mut now) = (Lossy::default(), Duration::ZERO);
            let (mut said, mut heard) = (Vec::new(), Vec::new());
            for turn in 0.. {
                if turn < 50 {
                    let bytes: Vec<u8> = (0..random.usize(..900)).map(|_| random.u8(..)).collect();
                    said.extend_from_slice(&bytes);
                    stream.put(bytes, now, &mut random);
                } else if stream.is_empty() {
                    break;
                }
                now += Duration::from_micros(random.u64(..3_000));
                let silent = Duration::from_millis(if turn % 40 < 4 { 1_000 } else { 0 });
                let read = stream.take(now, silent, &mut random);
                stood_still += u32::from(read.is_empty() && !stream.beyond.is_empty());
                heard.extend(read);
            }
            assert!(heard == said, "seed {seed}");
        }
        assert!(stood_still > 100, "nothing was ever missing");
    }
}
