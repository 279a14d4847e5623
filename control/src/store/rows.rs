//! What all rows of a store count as, together: a sum that is kept up with every change and sealed with the end of the audit log. Whoever puts a row in,
//! alters one, takes one out or brings an older one back makes another sum.

use crate::seal::MasterKey;

/// Ids of what is no more are rows, too: their kinds count from here.
pub(super) const GONE: u8 = 128;
/// So are hubs that are remembered, by their id.
pub(super) const HUB: u8 = 127;

/// A sum, modulo 2^256, of what rows count as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rows([u8; 32]);

impl Rows {
    /// No rows.
    pub(super) const NONE: Self = Self([0; 32]);

    /// From what was kept.
    pub(super) const fn new(sum: [u8; 32]) -> Self {
        Self(sum)
    }

    /// What is kept.
    pub(super) const fn sum(&self) -> &[u8; 32] {
        &self.0
    }

    /// With a row more.
    pub(super) fn add(
        &mut self,
        master: &MasterKey,
        (kind, name): (u8, &str),
        number: u64,
        value: &[u8],
    ) {
        self.carry(&master.row(kind, name, number, value), 0);
    }

    /// With a row less.
    pub(super) fn remove(
        &mut self,
        master: &MasterKey,
        (kind, name): (u8, &str),
        number: u64,
        value: &[u8],
    ) {
        let row = master.row(kind, name, number, value);
        self.carry(&row.map(|byte| !byte), 1);
    }

    fn carry(&mut self, row: &[u8; 32], first: u16) {
        let mut over = first;
        for (byte, more) in self.0.iter_mut().zip(row) {
            let sum = u16::from(*byte) + u16::from(*more) + over;
            *byte = sum as u8;
            over = sum >> 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_count_in_any_order_and_each_for_itself() {
        let master = MasterKey::new(&[7; 32]);
        let (one, two): (&[u8], &[u8]) = (b"one", b"two");
        let (mut here, mut there) = (Rows::NONE, Rows::NONE);
        here.add(&master, (6, "a/e/x"), 1, one);
        here.add(&master, (6, "a/e/y"), 2, two);
        there.add(&master, (6, "a/e/y"), 2, two);
        there.add(&master, (6, "a/e/x"), 1, one);
        assert_eq!(here, there);
        for (kind, name, number, value) in [
            (5, "a/e/x", 1, one),
            (6, "a/e/z", 1, one),
            (6, "a/e/x", 2, one),
            (6, "a/e/x", 1, two),
        ] {
            let mut other = here;
            other.remove(&master, (6, "a/e/x"), 1, one);
            other.add(&master, (kind, name), number, value);
            assert_ne!(other, here);
        }
        here.remove(&master, (6, "a/e/x"), 1, one);
        here.remove(&master, (6, "a/e/y"), 2, two);
        assert_eq!(here, Rows::NONE);
    }
}
