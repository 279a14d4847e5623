//! What each operation carries through the kernel and back: its kind and whom it belongs to.

/// Generation in bits 32 to 55, slot in the lower 32 bits. Never zero.
pub(crate) type Key = u64;

/// Largest generation, so that a kind fits above it.
pub(crate) const GENERATION_MAX: u32 = (1 << 24) - 1;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Accept = 1,
    AcceptTimer = 2,
    AcceptCancel = 3,
    Receive = 4,
    Send = 5,
    CloseTimer = 6,
    CloseCancel = 7,
    Wake = 8,
    WakeCancel = 9,
    Sync = 10,
    ReceiveCancel = 11,
    /// The ring receives datagrams.
    DatagramReceive = 12,
    /// Cancels that receive.
    DatagramCancel = 13,
    /// A train of datagrams is sent.
    DatagramSend = 14,
}

const KINDS: [Kind; 14] = [
    Kind::Accept,
    Kind::AcceptTimer,
    Kind::AcceptCancel,
    Kind::Receive,
    Kind::Send,
    Kind::CloseTimer,
    Kind::CloseCancel,
    Kind::Wake,
    Kind::WakeCancel,
    Kind::Sync,
    Kind::ReceiveCancel,
    Kind::DatagramReceive,
    Kind::DatagramCancel,
    Kind::DatagramSend,
];

/// The `user_data` of an operation.
pub(crate) fn pack(kind: Kind, key: Key) -> u64 {
    debug_assert!(key >> 56 == 0, "key {key:#x} reaches into the kind");
    u64::from(kind as u8) << 56 | key
}

/// Kind and key of a completion; `None` for what this crate never submitted.
pub(crate) fn unpack(user_data: u64) -> Option<(Kind, Key)> {
    let kind = (user_data >> 56) as usize;
    let kind = *KINDS.get(kind.checked_sub(1)?)?;
    Some((kind, user_data & ((1 << 56) - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_with_its_key() {
        for kind in KINDS {
            for key in [1, 0xFFFF_FFFF, (u64::from(GENERATION_MAX) << 32) | 7] {
                assert_eq!(unpack(pack(kind, key)), Some((kind, key)));
            }
        }
    }

    #[test]
    fn a_kind_never_submitted_is_not_understood() {
        for user_data in [0, 15 << 56, u64::MAX] {
            assert_eq!(unpack(user_data), None, "{user_data:#x}");
        }
    }
}
