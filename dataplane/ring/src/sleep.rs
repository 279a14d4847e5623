//! Whether a ring's owner sleeps, as two threads agree on it. One atomic and no system call: who wakes is told which descriptor
//! it has to write, if any. Under the feature `interleavings` the atomic is loom's, and `tests/interleavings.rs` runs this file
//! through every order of events.

#[cfg(not(feature = "interleavings"))]
use std::sync::atomic::{AtomicU8, Ordering};

#[cfg(feature = "interleavings")]
use loom::sync::atomic::{AtomicU8, Ordering};

/// Has never waited in the ring: if it sleeps, then by awaiting the first eventfd.
const AWAITS: u8 = 0;
/// Waits in the ring, and is at work now.
const AWAKE: u8 = 1;
/// Sleeps in the ring, or is about to.
const ASLEEP: u8 = 2;
/// Was told to look again and has not done so yet.
const RUNG: u8 = 3;

/// What is left to do for whoever wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Nothing: the owner is at work and looks again before it sleeps.
    Nobody,
    /// Write the eventfd that owners await.
    Completions,
    /// Write the eventfd that owners read in `Ring::wait`.
    Waits,
}

/// The owner's state. Every change of it is a read and a write in one, so that of a wake and of getting up the later one has
/// seen all that was done before the earlier one.
#[derive(Debug)]
pub struct Sleep {
    owner: AtomicU8,
}

impl Default for Sleep {
    fn default() -> Self {
        Self {
            owner: AtomicU8::new(AWAITS),
        }
    }
}

impl Sleep {
    /// Let the owner look again, and say what has to be written for it: what was done before this call it will see before it
    /// sleeps.
    pub fn wake(&self) -> Call {
        let owner = &self.owner;
        // Merely reading that the owner awaits is not enough: it may have left that state, looked and found nothing before
        // what this thread did earlier became visible, and it will not be looking at the eventfd that is written for it.
        let awaits = owner.load(Ordering::Relaxed) == AWAITS
            && owner
                .compare_exchange(AWAITS, AWAITS, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if awaits {
            return Call::Completions;
        }
        match owner.swap(RUNG, Ordering::AcqRel) {
            ASLEEP => Call::Waits,
            _ => Call::Nobody,
        }
    }

    /// The owner wants to sleep in the ring. Whether it may: not before it has looked again, if it was
    /// told to, nor at the first time, when a wake may have gone to the other eventfd.
    #[must_use]
    pub fn fall_asleep(&self) -> bool {
        let slept = self
            .owner
            .compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Relaxed);
        slept.is_ok()
    }

    /// The owner is about to look at everything.
    pub fn get_up(&self) {
        self.owner.swap(AWAKE, Ordering::AcqRel);
    }
}
