//! Which processor each shard runs on: the setting `shards`, and what the machine is made of.
//!
//! One shard per physical core, since two shards on the halves of one core share what a shard needs most; cores of one memory node
//! first, since shards talk to each other. The second halves are taken when there are more shards than cores.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use rustix::thread::{CpuSet, Pid, sched_getaffinity};

use crate::diagnosis::{CPU_ABSENT, Diagnosis, diagnose};

/// Shards of one node at most: a connection ID has a byte for them.
pub(crate) const SHARDS_MAX: usize = 256;

/// What the setting `shards` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shards {
    /// One for each physical core that this process may use, as far as its quota goes.
    Auto,
    /// So many.
    Count(u16),
    /// One on each of these processors.
    On(Vec<usize>),
}

impl Shards {
    /// Read `auto`, a number, or a list of processors such as `0-3,6`. A list of one is written `2,`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "auto" {
            return Some(Self::Auto);
        }
        if let Ok(count) = text.parse::<u16>() {
            let known = (1..=SHARDS_MAX).contains(&usize::from(count));
            return known.then_some(Self::Count(count));
        }
        let cpus = cpu_list(text)?;
        let mut once = cpus.clone();
        once.sort_unstable();
        once.dedup();
        let known = (1..=SHARDS_MAX).contains(&cpus.len()) && once.len() == cpus.len();
        known.then_some(Self::On(cpus))
    }
}

/// `0-3,6` as the kernel writes it. `None` if it is anything else.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (
            first.trim().parse::<usize>().ok()?,
            last.trim().parse::<usize>().ok()?,
        );
        if first > last || last >= 4096 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// A processor and what it shares with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cpu {
    /// Memory node.
    node: usize,
    /// Which of its core's processors it is.
    sibling: usize,
    /// The first processor of its core.
    core: usize,
    cpu: usize,
}

/// The processors that this process may use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    cpus: Vec<Cpu>,
    /// Whole processors that its quota comes to, if it has one.
    quota: Option<usize>,
}

impl Machine {
    /// The machine this process runs on.
    pub(crate) fn here() -> Self {
        Self::read(Path::new("/"), schedulable())
    }

    /// Read it below `root`, which is `/` but for tests; `schedulable` is what the scheduler says this process may use. What cannot
    /// be read counts as not there: a processor without a core known is one of its own, all are on one memory node, nothing is
    /// forbidden.
    fn read(root: &Path, schedulable: Option<Vec<usize>>) -> Self {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).ok();
        let list = |path: &str| text(path).and_then(|text| cpu_list(&text));
        let status = text("proc/self/status").unwrap_or_default();
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let listed = || {
            let online = list("sys/devices/system/cpu/online");
            usable(allowed.and_then(cpu_list), online)
        };
        let usable = schedulable.unwrap_or_else(listed);
        let mut nodes = BTreeMap::new();
        for node in list("sys/devices/system/node/online").unwrap_or_default() {
            for cpu in
                list(&format!("sys/devices/system/node/node{node}/cpulist")).unwrap_or_default()
            {
                nodes.insert(cpu, node);
            }
        }
        let of = |cpu: usize| {
            let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            let together = list(&path)
                .filter(|all| all.contains(&cpu))
                .unwrap_or_else(|| vec![cpu]);
            let sibling = together
                .iter()
                .filter(|other| **other < cpu && usable.contains(other))
                .count();
            Cpu {
                node: nodes.get(&cpu).copied().unwrap_or(0),
                sibling,
                core: together[0],
                cpu,
            }
        };
        let cpus = usable.iter().map(|cpu| of(*cpu)).collect();
        let quota = text("proc/self/cgroup").and_then(|groups| {
            quota(&groups, |group| {
                text(&format!("sys/fs/cgroup{group}/cpu.max"))
            })
        });
        Self { cpus, quota }
    }

    fn cores(&self) -> usize {
        self.cpus.iter().filter(|cpu| cpu.sibling == 0).count()
    }

    /// Processors in the order in which shards take them: a memory node's cores, the next node's, then the cores' other halves.
    fn order(&self) -> Vec<Cpu> {
        let mut cpus = self.cpus.clone();
        cpus.sort_unstable_by_key(|cpu| (cpu.sibling, cpu.node, cpu.core, cpu.cpu));
        cpus
    }

    /// A place for every shard.
    ///
    /// # Errors
    /// A processor that was named may not be used.
    pub(crate) fn place(&self, shards: &Shards) -> Result<Placement, Diagnosis> {
        let order = self.order();
        let places = match shards {
            Shards::Auto => {
                let most = self
                    .quota
                    .unwrap_or(usize::MAX)
                    .min(self.cores())
                    .clamp(1, SHARDS_MAX);
                order.iter().take(most).copied().map(Some).collect()
            }
            // Alone it may run wherever there is room, as any process.
            Shards::Count(1) => vec![None],
            Shards::Count(count) => order
                .iter()
                .copied()
                .map(Some)
                .cycle()
                .take(usize::from(*count))
                .collect(),
            Shards::On(named) => named
                .iter()
                .map(|cpu| self.find(*cpu).map(Some))
                .collect::<Result<_, _>>()?,
        };
        Ok(Placement(places))
    }

    fn find(&self, cpu: usize) -> Result<Cpu, Diagnosis> {
        let found = self.cpus.iter().find(|known| known.cpu == cpu);
        found.copied().ok_or_else(|| {
            let known: Vec<String> = self.cpus.iter().map(|cpu| cpu.cpu.to_string()).collect();
            let needed = format!("processors this process may use: {}", known.join(","));
            diagnose(
                CPU_ABSENT,
                "node.shards",
                cpu.to_string(),
                needed,
                "change node.shards; `taskset -p` shows what is allowed",
            )
        })
    }
}

/// Processors that this process may run on and that are there. `None` when the kernel does not tell, or has more than fit.
fn schedulable() -> Option<Vec<usize>> {
    // Of the first thread: the one that asks may have been bound to a part of them.
    let process = Pid::from_raw(i32::try_from(std::process::id()).ok()?)?;
    let set = sched_getaffinity(Some(process)).ok()?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect();
    (!cpus.is_empty()).then_some(cpus)
}

/// The same by the kernel's files, which call processors allowed that are switched off, or only possible.
fn usable(allowed: Option<Vec<usize>>, online: Option<Vec<usize>>) -> Vec<usize> {
    match (allowed, online) {
        (Some(allowed), Some(online)) if allowed.iter().any(|cpu| online.contains(cpu)) => {
            let there = allowed.into_iter();
            there.filter(|cpu| online.contains(cpu)).collect()
        }
        (one, other) => one.or(other).unwrap_or_else(|| vec![0]),
    }
}

/// Whole processors that the strictest of a process's groups leaves it, by `cpu.max` of each of them.
fn quota(groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<usize> {
    let path = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))?
        .trim_end_matches('/');
    let ends = path
        .match_indices('/')
        .map(|(at, _)| at)
        .chain([path.len()]);
    let of = |end: usize| {
        let text = read(&path[..end])?;
        let (quota, period) = text.trim().split_once(' ')?;
        let (quota, period) = (quota.parse::<usize>().ok()?, period.parse::<usize>().ok()?);
        Some((quota / period.max(1)).max(1))
    };
    ends.filter_map(of).min()
}

/// Where each shard runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement(Vec<Option<Cpu>>);

impl Placement {
    pub(crate) fn shards(&self) -> usize {
        self.0.len()
    }

    /// The processor of a shard; `None` leaves it to the scheduler.
    pub(crate) fn cpu(&self, shard: usize) -> Option<usize> {
        self.0[shard].map(|cpu| cpu.cpu)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shard, place) in self.0.iter().enumerate() {
            let gap = if shard > 0 { " " } else { "" };
            match place {
                Some(Cpu {
                    cpu, core, node, ..
                }) => write!(f, "{gap}{shard}:cpu{cpu}/core{core}/node{node}")?,
                None => write!(f, "{gap}{shard}:anywhere")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of two memory nodes with two cores of two processors each, numbered as kernels do: first halves first.
    fn machine(allowed: &str, quota: &str) -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let put = |path: String, text: String| {
            let path = folder.path().join(path);
            let parent = path.parent().expect("it lies in a folder");
            std::fs::create_dir_all(parent).expect("a temporary folder has room");
            std::fs::write(path, text).expect("a temporary folder has room");
        };
        let system = "sys/devices/system";
        put(format!("{system}/cpu/online"), "0-7\n".into());
        put(format!("{system}/node/online"), "0-1\n".into());
        put(format!("{system}/node/node0/cpulist"), "0,2,4,6\n".into());
        put(format!("{system}/node/node1/cpulist"), "1,3,5,7\n".into());
        for cpu in 0..8 {
            let path = format!("{system}/cpu/cpu{cpu}/topology/thread_siblings_list");
            put(path, format!("{},{}\n", cpu % 4, cpu % 4 + 4));
        }
        put(
            "proc/self/status".into(),
            format!("Name:\tx\nCpus_allowed_list:\t{allowed}\n"),
        );
        put("proc/self/cgroup".into(), "0::/a/b\n".into());
        put("sys/fs/cgroup/a/cpu.max".into(), "max 100000\n".into());
        put("sys/fs/cgroup/a/b/cpu.max".into(), format!("{quota}\n"));
        let machine = Machine::read(folder.path(), None);
        (folder, machine)
    }

    fn cpus(machine: &Machine, shards: &str) -> Vec<Option<usize>> {
        let shards = Shards::parse(shards).expect("a setting");
        let placement = machine.place(&shards).expect("it can be placed");
        (0..placement.shards())
            .map(|shard| placement.cpu(shard))
            .collect()
    }

    fn some(cpus: &[usize]) -> Vec<Option<usize>> {
        cpus.iter().copied().map(Some).collect()
    }

    #[test]
    fn shards_take_a_nodes_cores_first_and_second_halves_last() {
        let (_folder, machine) = machine("0-7", "max 100000");
        assert_eq!(cpus(&machine, "auto"), some(&[0, 2, 1, 3]));
        assert_eq!(cpus(&machine, "2"), some(&[0, 2]));
        assert_eq!(cpus(&machine, "6"), some(&[0, 2, 1, 3, 4, 6]));
        assert_eq!(cpus(&machine, "10"), some(&[0, 2, 1, 3, 4, 6, 5, 7, 0, 2]));
        assert_eq!(cpus(&machine, "1"), [None]);
        let placement = machine.place(&Shards::Count(2)).expect("it can be placed");
        assert_eq!(
            placement.to_string(),
            "0:cpu0/core0/node0 1:cpu2/core2/node0"
        );
    }

    #[test]
    fn what_is_not_allowed_is_not_used_and_a_quota_bounds_the_automatic_count() {
        let (_folder, some_only) = machine("1,4-5", "max 100000");
        assert_eq!(
            cpus(&some_only, "auto"),
            some(&[4, 1]),
            "cpu 4 stands for its core"
        );
        assert_eq!(cpus(&some_only, "3"), some(&[4, 1, 5]));
        assert_eq!(cpus(&some_only, "5,"), some(&[5]));
        let refused = some_only
            .place(&Shards::On(vec![5, 2]))
            .expect_err("2 is not allowed");
        assert_eq!((refused.seen.as_str(), refused.code), ("2", CPU_ABSENT));
        let (_folder, quoted) = machine("0-7", "250000 100000");
        assert_eq!(cpus(&quoted, "auto"), some(&[0, 2]), "two whole processors");
        assert_eq!(
            cpus(&quoted, "3"),
            some(&[0, 2, 1]),
            "who says a number gets it"
        );
        let (_folder, little) = machine("0-7", "10000 100000");
        assert_eq!(cpus(&little, "auto"), some(&[0]));
    }

    #[test]
    fn processors_that_are_allowed_and_offline_are_not_used() {
        // As a kernel lists them that could have 128 processors and has 8.
        let (folder, machine) = machine("0-127", "max 100000");
        assert_eq!(cpus(&machine, "auto"), some(&[0, 2, 1, 3]));
        assert_eq!(
            cpus(&machine, "9"),
            some(&[0, 2, 1, 3, 4, 6, 5, 7, 0]),
            "the ninth shares, it does not take cpu 8"
        );
        let refused = machine.place(&Shards::On(vec![8]));
        let refused = refused.expect_err("8 is offline");
        assert_eq!((refused.seen.as_str(), refused.code), ("8", CPU_ABSENT));
        let told = Machine::read(folder.path(), Some(vec![1, 2]));
        assert_eq!(cpus(&told, "auto"), some(&[2, 1]), "the scheduler knows");
    }

    #[test]
    fn a_machine_that_tells_nothing_has_a_processor() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(
            cpus(&Machine::read(folder.path(), None), "auto"),
            some(&[0])
        );
    }

    #[test]
    fn this_machine_has_a_place_for_every_shard() {
        let machine = Machine::here();
        let processors = std::thread::available_parallelism()
            .expect("it can be asked")
            .get();
        assert!(machine.cpus.len() >= processors, "{machine:?}");
        assert_eq!(Some(machine.cpus.len()), schedulable().map(|all| all.len()));
        let placement = machine.place(&Shards::Auto).expect("it can be placed");
        assert!(
            (1..=machine.cpus.len()).contains(&placement.shards()),
            "{placement}"
        );
    }

    #[test]
    fn the_setting_is_a_word_a_number_or_a_list() {
        let on = |cpus: &[usize]| Some(Shards::On(cpus.to_vec()));
        let cases = [
            ("auto", Some(Shards::Auto)),
            ("4", Some(Shards::Count(4))),
            ("256", Some(Shards::Count(256))),
            ("0-3,6", on(&[0, 1, 2, 3, 6])),
            ("7,", on(&[7])),
            ("5,1-2", on(&[5, 1, 2])),
            ("0", None),
            ("257", None),
            ("", None),
            (",", None),
            ("3-1", None),
            ("1,1", None),
            ("0-1,1", None),
            ("-1", None),
            ("a", None),
            ("0-4999", None),
        ];
        for (text, want) in cases {
            assert_eq!(Shards::parse(text), want, "{text:?}");
        }
    }
}
