//! What a process has used so far, as the kernel counts it.

/// One thread of a process.
pub(crate) struct Thread {
    pub(crate) id: u32,
    pub(crate) name: String,
}

impl Thread {
    /// Whether it is a shard's.
    pub(crate) fn is_shard(&self) -> bool {
        self.name.starts_with("shard-")
    }

    /// Whether it works for the node: the admin thread works for the one who measures.
    pub(crate) fn is_at_work(&self) -> bool {
        !self.name.starts_with("admin")
    }
}

pub(crate) fn threads(pid: u32) -> Vec<Thread> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let named = tasks.filter_map(|task| {
        let id = task.unwrap().file_name().to_str()?.parse().ok()?;
        // A thread may end while the list is read.
        let name = std::fs::read_to_string(format!("/proc/{pid}/task/{id}/comm")).ok()?;
        Some(Thread {
            id,
            name: name.trim().into(),
        })
    });
    named.collect()
}

/// Processor time of a thread.
pub(crate) fn thread_nanos(pid: u32, thread: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat"));
    text.map_or(0, |text| text.split(' ').next().unwrap().parse().unwrap())
}

/// Processor time of the threads of a process that are counted.
pub(crate) fn process_nanos(pid: u32, counted: impl Fn(&Thread) -> bool) -> u64 {
    let counted = threads(pid).into_iter().filter(counted);
    counted.map(|thread| thread_nanos(pid, thread.id)).sum()
}

/// Resident bytes of a process that belong to nobody else.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.unwrap().trim().trim_end_matches("kB").trim();
    kib.parse::<u64>().unwrap() * 1024
}
