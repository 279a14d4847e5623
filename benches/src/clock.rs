//! The processor time of one thread, as criterion measures it: what neighbours on the machine take is not in it. And the
//! faults of the process.

use std::sync::OnceLock;
use std::time::Duration;

use criterion::Criterion;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// Processor time of the calling thread, user and kernel together.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadCpu;

/// Every bench's settings: thread time, and what the command line says.
pub fn criterion() -> Criterion<ThreadCpu> {
    Criterion::default().with_measurement(ThreadCpu)
}

/// The processor time of `work`, without that of reading the clock twice.
pub fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let reading = reading();
    let start = now();
    let result = work();
    ((now() - start).saturating_sub(reading), result)
}

/// Faults of this process so far that read nothing from a disk: the tenth field of `/proc/self/stat`; the second is a name in parentheses.
pub fn minor_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells it");
    let (_, fields) = stat
        .rsplit_once(") ")
        .expect("the name stands in parentheses");
    let field = fields.split(' ').nth(7).expect("it has fifty fields");
    field.parse().expect("a number")
}

/// Processor time of the calling thread so far.
pub fn thread_cpu() -> Duration {
    now()
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What two readings are apart when nothing happens between them: the median of many.
fn reading() -> Duration {
    static READING: OnceLock<Duration> = OnceLock::new();
    *READING.get_or_init(|| {
        let mut apart: Vec<Duration> = (0..1001)
            .map(|_| {
                let start = now();
                now() - start
            })
            .collect();
        apart.sort_unstable();
        apart[apart.len() / 2]
    })
}

impl Measurement for ThreadCpu {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        now()
    }

    fn end(&self, start: Duration) -> Duration {
        now() - start
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}
