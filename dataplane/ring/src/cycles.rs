//! A counter that goes on by itself and costs next to nothing to read: for saying where a turn's time went.

/// The processor's time stamp counter: reference cycles, at the same rate on every core.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn cycles() -> u64 {
    // SAFETY: RDTSC reads a register and touches no memory. Every x86-64 processor has it, and Linux lets processes use it
    // unless they asked not to, by prctl(PR_SET_TSC).
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds since the first reading, where no cycle counter can be read without a kernel call.
#[cfg(not(target_arch = "x86_64"))]
#[must_use]
pub fn cycles() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;

    static FIRST: OnceLock<Instant> = OnceLock::new();
    let since = FIRST.get_or_init(Instant::now).elapsed();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::cycles;

    #[test]
    fn the_counter_goes_on() {
        let before = cycles();
        let work: u64 = (0..100_000u64).map(std::hint::black_box).sum();
        assert!(cycles() > before, "{work} summed up in no cycle");
    }
}
