//! Receive memory: one arena, lent to the kernel through one provided-buffer ring, and to the owner
//! as leases. Knows nothing of connections.
//!
//! The arena belongs to the ring for the ring's whole life. A buffer is with the kernel, or lent, never
//! both; the ledger decides. Buffers return to the kernel only in functions that take `&mut`, so
//! a slice borrowed from `&Buffers` cannot be written under its reader.

use std::cell::RefCell;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::error::RingError;
use crate::ledger::Ledger;
use crate::token::Key;

/// Bytes of buffers to keep published: what stays in a processor's nearer caches while it goes round.
const WARM_BYTES: usize = 1 << 20;

/// A received buffer, lent to the owner until `Ring::release`.
///
/// Cannot be cloned. One that is dropped instead of released is taken back at the next poll, counted
/// in `Counters::leases_dropped`, and found by `Ring::check`.
#[derive(Debug)]
#[must_use = "release the lease: until then the kernel cannot use its buffer"]
pub struct Lease {
    buffer: u16,
    returned: bool,
    bytes: u32,
    /// The connection whose bytes it holds; it may be gone.
    connection: Key,
    desk: Rc<Desk>,
}

/// Where buffers of dropped leases are left.
#[derive(Debug)]
struct Desk {
    dropped: RefCell<Vec<(u16, Key)>>,
}

impl Lease {
    /// Bytes received, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.bytes as usize
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.returned {
            let dropped = (self.buffer, self.connection);
            self.desk.dropped.borrow_mut().push(dropped);
        }
    }
}

/// The arena and the ring through which the kernel is given its buffers.
pub(crate) struct Buffers {
    arena: Mapping,
    shared: Mapping,
    buffer_bytes: u32,
    entries: u16,
    ledger: Ledger,
    desk: Rc<Desk>,
}

impl Buffers {
    /// Map the memory and publish the first buffers. Pages are touched only when used.
    pub(crate) fn new(entries: u16, buffer_bytes: u32) -> Result<Self, RingError> {
        let arena = Mapping::new(usize::from(entries) * buffer_bytes as usize)?;
        let shared = Mapping::new(usize::from(entries) * size_of::<BufRingEntry>())?;
        let desk = Desk {
            dropped: RefCell::new(Vec::with_capacity(usize::from(entries))),
        };
        let mut buffers = Self {
            arena,
            shared,
            buffer_bytes,
            entries,
            ledger: Ledger::new(entries, WARM_BYTES / buffer_bytes as usize),
            desk: Rc::new(desk),
        };
        buffers.stock();
        Ok(buffers)
    }

    /// Address and entries of the shared ring, for registering.
    pub(crate) fn shared(&self) -> (u64, u16) {
        (self.shared.base.as_ptr() as u64, self.entries)
    }

    /// Buffers not lent out. Those that are not published yet are before the kernel is entered.
    pub(crate) fn free(&self) -> usize {
        self.ledger.free()
    }

    /// A receive found no buffer. Returns whether that was only for want of published ones.
    pub(crate) fn missed(&mut self) -> bool {
        self.ledger.missed();
        self.ledger.free() > 0
    }

    /// The kernel filled `bytes` of `buffer` for a connection.
    pub(crate) fn lend(&mut self, buffer: u16, bytes: u32, connection: Key) -> Lease {
        assert!(
            bytes <= self.buffer_bytes,
            "{bytes} bytes in a buffer of {}",
            self.buffer_bytes
        );
        self.ledger.take(buffer);
        Lease {
            buffer,
            returned: false,
            bytes,
            connection,
            desk: Rc::clone(&self.desk),
        }
    }

    /// The kernel picked `buffer` and the owner has no use for it.
    pub(crate) fn pass_back(&mut self, buffer: u16) {
        self.ledger.take(buffer);
        self.ledger.give(buffer);
    }

    /// Take a lease back; returns whose it was.
    pub(crate) fn release(&mut self, mut lease: Lease) -> Key {
        assert!(
            Rc::ptr_eq(&lease.desk, &self.desk),
            "the lease is of another ring"
        );
        lease.returned = true;
        self.ledger.give(lease.buffer);
        lease.connection
    }

    /// Take back the buffer of a dropped lease; returns whose it was.
    pub(crate) fn collect_dropped(&mut self) -> Option<Key> {
        let (buffer, connection) = self.desk.dropped.borrow_mut().pop()?;
        self.ledger.give(buffer);
        Some(connection)
    }

    pub(crate) fn bytes(&self, lease: &Lease) -> &[u8] {
        assert!(
            Rc::ptr_eq(&lease.desk, &self.desk),
            "the lease is of another ring"
        );
        let start = usize::from(lease.buffer) * self.buffer_bytes as usize;
        let end = start + lease.bytes as usize;
        assert!(
            end <= self.arena.bytes,
            "lease ends at {end} of {}",
            self.arena.bytes
        );
        let first = self.arena.base.as_ptr().wrapping_add(start);
        // SAFETY: start..end lies in the mapping (asserted above), which lives as long as `self`. It was
        // mapped zero-filled, so every byte is initialised. The kernel wrote this buffer before its
        // completion was read (acquire) and does not write it until `stock`, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(first, end - start) }
    }

    /// Publish as many buffers as the receives of one enter are likely to need, the warm ones first.
    pub(crate) fn stock(&mut self) {
        self.ledger.end_round();
        while let Some((slot, buffer)) = self.ledger.publish() {
            self.publish(slot, buffer);
        }
    }

    fn publish(&mut self, slot: usize, buffer: u16) {
        let start = usize::from(buffer) * self.buffer_bytes as usize;
        assert!(
            start + self.buffer_bytes as usize <= self.arena.bytes,
            "buffer {buffer} is outside"
        );
        assert!(
            slot < usize::from(self.entries),
            "slot {slot} of {}",
            self.entries
        );
        let address = self.arena.base.as_ptr() as u64 + start as u64;
        let ring = self.shared.base.as_ptr().cast::<BufRingEntry>();
        let place = ring.wrapping_add(slot);
        // SAFETY: `slot` is below `entries` (asserted), so the entry lies in the mapping, which is page
        // aligned and zero-filled. The kernel reads entries only up to the published tail, and the
        // ledger never has more entries published than there are slots, so nobody reads this one.
        let entry = unsafe { &mut *place };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(buffer);
        // SAFETY: `ring` is the address of the first entry of a mapped, zero-filled ring, whose unused
        // last field is the tail.
        let tail = unsafe { BufRingEntry::tail(ring) };
        // SAFETY: the tail is an aligned u16 inside the mapping that lives as long as `self`; from here
        // on both sides use it only atomically (the kernel reads, this thread writes).
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.ledger.tail(), Ordering::Release);
    }

    pub(crate) fn check(&self) {
        self.ledger.check();
    }

    /// Never unmap: the kernel may still write here.
    pub(crate) fn leak(&mut self) {
        self.arena.leaked = true;
        self.shared.leaked = true;
    }
}

/// Private anonymous memory, page aligned and zero-filled.
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    leaked: bool,
}

impl Mapping {
    fn new(bytes: usize) -> Result<Self, RingError> {
        let failed = |errno| RingError::Memory {
            bytes: bytes as u64,
            errno,
        };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory in use.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(failed(
                std::io::Error::last_os_error().raw_os_error().unwrap_or(0),
            ));
        }
        let base = NonNull::new(base.cast()).ok_or(failed(libc::ENOMEM))?;
        Ok(Self {
            base,
            bytes,
            leaked: false,
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if !self.leaked {
            // SAFETY: `base` and `bytes` are those of the mapping made in `new`, unmapped nowhere else.
            // Slices of it borrow its owner, and the ring drops it only when no operation is in flight.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lease_is_taken_back_and_counted() {
        let mut buffers = Buffers::new(4, 64).expect("4 small buffers fit");
        let kept = buffers.lend(0, 10, 7);
        drop(buffers.lend(1, 10, 8));
        assert_eq!(buffers.free(), 2);
        assert_eq!(buffers.collect_dropped(), Some(8));
        assert_eq!(buffers.free(), 3);
        assert_eq!(buffers.release(kept), 7);
        assert_eq!((buffers.free(), buffers.collect_dropped()), (4, None));
    }

    #[test]
    #[should_panic(expected = "of another ring")]
    fn a_lease_of_another_ring_is_not_accepted() {
        let mut one = Buffers::new(1, 64).expect("a small buffer fits");
        let mut other = Buffers::new(1, 64).expect("a small buffer fits");
        let lease = one.lend(0, 1, 1);
        other.release(lease);
    }
}
