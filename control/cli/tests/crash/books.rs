//! What was acknowledged and what came out, compared to the byte.

use std::collections::BTreeMap;

/// The body of message `number` of `sender`: its name and number, then bytes that follow from both.
pub(crate) fn body(sender: usize, number: u64) -> Vec<u8> {
    let mut bytes = format!("{sender}/{number}/").into_bytes();
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ sender as u64;
    for _ in 0..state % 400 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.push((state >> 33) as u8);
    }
    bytes
}

/// Sender and number that a body names, if every byte of it is as it was sent.
fn read(bytes: &[u8]) -> Option<(usize, u64)> {
    let text: Vec<&[u8]> = bytes.splitn(3, |byte| *byte == b'/').collect();
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u64>().ok();
    let (sender, number) = (number(text.first()?)? as usize, number(text.get(1)?)?);
    (body(sender, number) == bytes).then_some((sender, number))
}

/// The deliveries that one receiver was given.
#[derive(Default)]
pub(crate) struct Seen {
    last: BTreeMap<usize, u64>,
    count: BTreeMap<usize, u64>,
    faults: Vec<String>,
}

impl Seen {
    /// Note one delivery; `hears` are the senders whose channel the receiver is granted.
    pub(crate) fn note(&mut self, bytes: &[u8], hears: &[usize]) {
        let Some((sender, number)) = read(bytes) else {
            self.faults.push(format!(
                "altered: {:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(40)])
            ));
            return;
        };
        if !hears.contains(&sender) {
            self.faults.push(format!("stray: {sender}/{number}"));
        }
        let last = self.last.insert(sender, number);
        if last.is_some_and(|last| last >= number) {
            self.faults.push(format!(
                "again or out of order: {sender}/{number} after {last:?}"
            ));
        }
        *self.count.entry(sender).or_default() += 1;
    }

    /// The newest number of a sender that came.
    pub(crate) fn last(&self, sender: usize) -> Option<u64> {
        self.last.get(&sender).copied()
    }

    /// Nothing altered, stray, twice or out of order, and for each sender exactly `acked[sender]` messages.
    pub(crate) fn check(&self, receiver: &str, acked: &[u64], hears: &[usize]) {
        assert!(
            self.faults.is_empty(),
            "{receiver}: {:#?}",
            &self.faults[..self.faults.len().min(20)]
        );
        for &sender in hears {
            let count = self.count.get(&sender).copied().unwrap_or_default();
            assert_eq!(
                count, acked[sender],
                "{receiver}: messages of sender {sender}"
            );
        }
    }
}
