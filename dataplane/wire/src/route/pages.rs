//! Memory for what is looked up at random in a large table: in pages of 2 MiB, where the kernel gives such. With pages of 4 KiB
//! each endpoint lies on one of its own, and to find where that page is costs as much as to read it.

use memmap2::{Advice, MmapMut, MmapOptions};

/// A large page of x86-64, and of ARM64 with small pages of 4 KiB.
const PAGE_BYTES: usize = 2 << 20;
/// From here on it is worth it.
pub(super) const LARGE_BYTES: usize = 2 * PAGE_BYTES;

/// Zeros to begin with, which are written once and then only read.
pub(super) enum Room {
    /// Few, or as many as the kernel had no mapping left for.
    Anywhere(Vec<u8>),
    /// Many, from a place on where a large page begins.
    Large {
        map: MmapMut,
        from: usize,
        bytes: usize,
    },
}

impl Room {
    /// For so many bytes.
    pub(super) fn zeroed(bytes: usize) -> Self {
        Self::large(bytes).unwrap_or_else(|| Self::Anywhere(vec![0; bytes]))
    }

    /// The same, if they are many and there is a mapping left.
    pub(super) fn large(bytes: usize) -> Option<Self> {
        if bytes < LARGE_BYTES {
            return None;
        }
        let room = bytes.checked_add(PAGE_BYTES)?;
        let map = MmapOptions::new().len(room).map_anon().ok()?;
        let from = map.as_ptr().align_offset(PAGE_BYTES);
        // Only whole ones, so that no memory is spent on what lies behind. Where the kernel has none, small ones do as well.
        let whole = bytes / PAGE_BYTES * PAGE_BYTES;
        let _unknown = map.advise_range(Advice::HugePage, from, whole);
        (from < PAGE_BYTES).then_some(Self::Large { map, from, bytes })
    }

    /// Where to write.
    pub(super) fn get_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Anywhere(bytes) => bytes,
            Self::Large { map, from, bytes } => &mut map[*from..*from + *bytes],
        }
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Anywhere(bytes) => bytes,
            Self::Large { map, from, bytes } => &map[*from..*from + *bytes],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_memory_begins_at_a_large_page_and_little_does_not() {
        assert!(Room::large(LARGE_BYTES - 1).is_none());
        assert!(Room::large(usize::MAX).is_none());
        for (bytes, large) in [(0, false), (17, false), (LARGE_BYTES + 3, true)] {
            let mut room = Room::zeroed(bytes);
            assert_eq!(matches!(room, Room::Large { .. }), large, "{bytes} bytes");
            assert_eq!(room.as_ref().len(), bytes);
            assert!(room.as_ref().iter().all(|byte| *byte == 0));
            let skipped = room.as_ref().as_ptr().align_offset(PAGE_BYTES);
            assert!(!large || skipped == 0, "{skipped} bytes behind a page");
            room.get_mut().fill(7);
            assert!(room.as_ref().iter().all(|byte| *byte == 7));
        }
    }
}
