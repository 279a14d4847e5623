//! `forebay tune`: measures this machine with nodes of its own and says how many shards are worth having.
//!
//! It only advises. A node that runs, its data and its ports are not touched; everything is done in a temporary folder
//! beside the data folder, on the same disk, and removed.

mod advice;
mod calibration;
mod chart;
mod law;
mod page;
mod steps;

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use control::quantity::{parse_age, show_bytes};
use wire::diagnosis::Diagnosis;
use wire::ids::AckMode;

use crate::diagnosis::{
    ARGUMENT, BENCH_BUSY, BENCH_FOLDER, BENCH_ROOM, BENCH_TIME, CANNOT_WRITE, CONFIG_UNREADABLE,
};
use crate::fault::Fault;
use crate::project::Project;
use crate::say::say;
use crate::workbench::Folder;
use advice::{Machine, advise};
use calibration::calibrate;
use page::{Facts, page, text};
use steps::{Bench, Processors, Run, disk_bytes};

/// Arguments of `tune`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Configuration of the node: the disk of its data folder is measured, with its settings and its acknowledgement mode
    #[arg(long, value_name = "FILE", default_value = "forebay.toml")]
    config: PathBuf,
    /// How long it may take
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    within: String,
    /// Most shards to measure; as many as there are processors unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    shards_max: Option<u16>,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Measure although other processes keep the machine busy
    #[arg(long)]
    even_if_busy: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const LOOK_AROUND: Duration = Duration::from_millis(500);
/// Share of the processors this process may use that may be busy before.
const BUSY_MAX: f64 = 0.25;
/// Seconds of a run around the part that is measured: start, handshakes, warm-up, last answers, stop.
const AROUND_S: f64 = 2.5;
const WARM_UP_S: f64 = 1.0;
const MEASURED_S: (f64, f64) = (0.5, 4.0);
const CALIBRATION_S: f64 = 5.0;
/// Of the time allowed, so much is planned for: some runs take longer.
const PLANNED_SHARE: f64 = 0.8;
const REPEATS: (usize, usize) = (2, 7);

/// Measure, advise, write the page.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    let began = Instant::now();
    let within = within(&args.within)?;
    let project = Project::read(&args.config)?;
    let table = project.table(1)?;
    let ack = match table.hubs().first().map(|hub| hub.ack) {
        Some(AckMode::Local) => "local",
        _ => "durable",
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shards_max = args
        .shards_max
        .unwrap_or(u16::try_from(cores).unwrap_or(u16::MAX).min(256));
    let counts = counts(shards_max);
    let plan = Plan::new(counts.len(), within)?;
    if let Some(path) = &args.html {
        // Better now than after the measurement.
        try_writing(path).map_err(|error| cannot_write(path, &error))?;
    }
    let before = Processors::now();
    let processors = before.count().max(cores);
    if !args.even_if_busy {
        std::thread::sleep(LOOK_AROUND);
        let share = before.busy_until(&Processors::now());
        check_quiet(taken_share(share, processors, cores))?;
    }
    let folder = Folder::beside(&project.node.data)?;
    check_room(folder.path(), disk_bytes(shards_max))?;
    let tell = |line: &str| {
        if !args.json {
            eprintln!("{line}");
        }
    };
    tell("calibrating");
    let calibration =
        calibrate(folder.path()).map_err(|error| cannot_use(folder.path(), &error))?;
    let settings = settings(&args.config)?;
    let bench = Bench::new(folder, &settings, ack, (shards_max, cores))?;
    let runs = measure(&bench, &counts, plan, began + within, tell)?;
    let machine = Machine {
        cores,
        processors,
        generators: bench.generators,
    };
    drop(bench);
    let advice = advise(runs, &machine, &calibration);
    let facts = Facts {
        machine: &machine,
        calibration: &calibration,
        ack,
        about: &about(),
        seconds: began.elapsed().as_secs_f64(),
    };
    if let Some(path) = &args.html {
        std::fs::write(path, page(&advice, &facts)).map_err(|error| cannot_write(path, &error))?;
    }
    if args.json {
        say!(
            "{}",
            serde_json::json!({
                "shards": advice.shards, "advice": advice, "calibration": calibration, "machine": machine, "ack_mode": ack,
                "about": facts.about, "seconds": facts.seconds, "html": args.html,
            })
        );
    } else {
        crate::say::write(format_args!("{}", text(&advice, &facts)));
        if let Some(path) = &args.html {
            say!("page        {}", path.display());
        }
        say!("Nothing was changed; it took {:.0} s.", facts.seconds);
    }
    Ok(0)
}

/// How many runs of how many seconds fit.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Plan {
    repeats: usize,
    measured_s: f64,
}

impl Plan {
    /// Longer runs before more of them, within their bounds.
    fn new(counts: usize, within: Duration) -> Result<Self, Diagnosis> {
        let seconds = (within.as_secs_f64() * PLANNED_SHARE - CALIBRATION_S).max(0.0);
        let each = |repeats: usize| seconds / (counts * repeats) as f64 - AROUND_S;
        for repeats in (REPEATS.0..=REPEATS.1).rev() {
            let wanted = match repeats {
                least if least == REPEATS.0 => MEASURED_S.0,
                _ => 2.0,
            };
            if each(repeats) >= wanted {
                return Ok(Self {
                    repeats,
                    measured_s: each(repeats).min(MEASURED_S.1),
                });
            }
        }
        let least = (counts * REPEATS.0) as f64 * (AROUND_S + MEASURED_S.0) + CALIBRATION_S;
        Err(Diagnosis::new(
            BENCH_TIME,
            format!("{counts} counts of shards cannot be measured in that time"),
            format!("--within {:.0}s", within.as_secs_f64()),
            format!("at least {:.0}s", (least / PLANNED_SHARE).ceil()),
            "allow more time, or measure fewer with --shards-max",
        ))
    }
}

/// Every count up to eight, then about each half more, and the last.
fn counts(most: u16) -> Vec<u16> {
    let mut counts: Vec<u16> = (1..=most.min(8)).collect();
    let mut next = 12;
    while next < most {
        counts.push(next);
        next += next / 2 - next / 2 % 4;
    }
    if counts.last() != Some(&most) {
        counts.push(most);
    }
    counts
}

/// All runs, the counts by turns so that a slow minute spoils none of them alone.
fn measure(
    bench: &Bench,
    counts: &[u16],
    plan: Plan,
    deadline: Instant,
    tell: impl Fn(&str),
) -> Result<Vec<Run>, Fault> {
    let mut runs = Vec::new();
    let mut round_time = Duration::ZERO;
    for round in 0..plan.repeats {
        let began = Instant::now();
        if round >= REPEATS.0 && began + round_time > deadline {
            tell("the machine is slower than expected: fewer runs than planned");
            break;
        }
        let mut order = counts.to_vec();
        if round % 2 == 1 {
            order.reverse();
        }
        for shards in order {
            let run = bench.run(shards, plan.measured_s, WARM_UP_S)?;
            tell(&format!(
                "run {} of {}: {}, {} messages/s",
                runs.len() + 1,
                plan.repeats * counts.len(),
                advice::shards(shards),
                chart::thousands(run.per_s)
            ));
            runs.push(run);
        }
        round_time = round_time.max(began.elapsed());
    }
    Ok(runs)
}

fn within(text: &str) -> Result<Duration, Diagnosis> {
    parse_age(text).map_err(|needed| {
        Diagnosis::new(
            ARGUMENT,
            "--within cannot be read",
            format!("`{text}`"),
            needed,
            "use --within 2m",
        )
    })
}

/// The configuration as it is written.
fn settings(config: &Path) -> Result<toml::Table, Diagnosis> {
    let text = std::fs::read_to_string(config).map_err(|error| error.to_string());
    let table = text.and_then(|text| {
        text.parse::<toml::Table>()
            .map_err(|error| error.to_string())
    });
    table.map_err(|seen| {
        Diagnosis::new(
            CONFIG_UNREADABLE,
            format!("configuration {} cannot be read", config.display()),
            seen,
            "a readable TOML file",
            "check --config",
        )
    })
}

/// Whether a page can be written there. A file that was not there before is not there afterwards.
fn try_writing(path: &Path) -> std::io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => std::fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            OpenOptions::new().append(true).open(path).map(drop)
        }
        Err(error) => Err(error),
    }
}

/// The share of what this process may use that is not idle. With a quota others may be busy and leave enough.
fn taken_share(busy_share: f64, processors: usize, cores: usize) -> f64 {
    let idle = (1.0 - busy_share) * processors as f64;
    (1.0 - idle / cores as f64).max(0.0)
}

/// Figures taken beside other work say little; refuse rather than advise on them.
fn check_quiet(share: f64) -> Result<(), Diagnosis> {
    if share <= BUSY_MAX {
        return Ok(());
    }
    Err(Diagnosis::new(
        BENCH_BUSY,
        "other processes keep this machine busy",
        format!("{:.0} % of all processors busy", share * 100.0),
        format!("at most {:.0} %", BUSY_MAX * 100.0),
        "wait, stop them, or measure all the same with --even-if-busy",
    ))
}

fn check_room(folder: &Path, needed: u64) -> Result<(), Diagnosis> {
    let found = rustix::fs::statvfs(folder).map_err(|error| cannot_use(folder, &error.into()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free >= needed {
        return Ok(());
    }
    Err(Diagnosis::new(
        BENCH_ROOM,
        format!(
            "the disk of {} has no room for the load steps",
            folder.display()
        ),
        format!("{} free", show_bytes(free)),
        format!("{}, all of it given back", show_bytes(needed)),
        "free space, or measure fewer shards with --shards-max",
    ))
}

fn cannot_use(folder: &Path, error: &std::io::Error) -> Diagnosis {
    Diagnosis::new(
        BENCH_FOLDER,
        format!("{} cannot be used for a measurement", folder.display()),
        error.to_string(),
        "a folder that may be written and a loopback interface",
        "let the user write beside the data folder",
    )
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Diagnosis {
    Diagnosis::new(
        CANNOT_WRITE,
        format!("{} cannot be written", path.display()),
        error.to_string(),
        "a file in a folder that may be written",
        "give another with --html",
    )
}

/// Kernel and processor.
fn about() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let processors = read("/proc/cpuinfo");
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, model)| model.trim());
    format!("{model}, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_is_measured_up_to_eight_and_then_about_each_half_more() {
        for (most, want) in [
            (1, &[1][..]),
            (2, &[1, 2]),
            (8, &[1, 2, 3, 4, 5, 6, 7, 8]),
            (10, &[1, 2, 3, 4, 5, 6, 7, 8, 10]),
            (32, &[1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32]),
        ] {
            assert_eq!(counts(most), want, "{most}");
        }
        assert_eq!(counts(256).last(), Some(&256));
    }

    #[test]
    fn runs_fit_into_the_time_allowed_or_are_refused_with_the_time_they_need() {
        for (counts, seconds) in [(1, 20), (2, 120), (2, 25), (4, 120), (12, 120), (3, 3_600)] {
            let plan = Plan::new(counts, Duration::from_secs(seconds)).expect("time enough");
            let all = (counts * plan.repeats) as f64 * (plan.measured_s + AROUND_S) + CALIBRATION_S;
            assert!(
                all <= seconds as f64 * PLANNED_SHARE + 0.001,
                "{counts}: {plan:?}"
            );
            assert!(
                plan.repeats >= REPEATS.0 && plan.measured_s >= MEASURED_S.0,
                "{plan:?}"
            );
        }
        let refused = Plan::new(20, Duration::from_secs(60)).expect_err("too short");
        assert_eq!(
            (refused.code, &*refused.needed),
            (BENCH_TIME, "at least 157s")
        );
        assert!(Plan::new(20, Duration::from_secs(157)).is_ok());
        assert!(Plan::new(1, Duration::ZERO).is_err());
    }

    #[test]
    fn a_busy_machine_is_refused_by_how_busy_it_is() {
        assert!(check_quiet(0.0).is_ok() && check_quiet(BUSY_MAX).is_ok());
        let refused = check_quiet(0.6).expect_err("too busy");
        assert_eq!(
            (refused.code, &*refused.seen),
            (BENCH_BUSY, "60 % of all processors busy")
        );
        assert!(refused.remedy.contains("--even-if-busy"), "{refused}");
    }

    #[test]
    fn with_a_quota_others_may_be_busy_as_long_as_they_leave_enough() {
        for (why, busy_share, processors, cores, want) in [
            ("no quota", 0.3, 8, 8, 0.3),
            ("room for all", 0.9, 64, 4, 0.0),
            ("half of it left", 62.0 / 64.0, 64, 4, 0.5),
            ("nothing left", 1.0, 64, 4, 1.0),
        ] {
            let share = taken_share(busy_share, processors, cores);
            assert!((share - want).abs() < 1e-9, "{why}: {share}");
        }
    }

    #[test]
    fn trying_whether_a_page_can_be_written_leaves_nothing_and_changes_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tune.html");
        try_writing(&path).expect("it can");
        assert!(!path.exists());
        std::fs::write(&path, "an older page").expect("writable");
        try_writing(&path).expect("it can");
        let text = std::fs::read_to_string(&path).expect("it is there");
        assert_eq!(text, "an older page");
        assert!(try_writing(&folder.path().join("none/tune.html")).is_err());
    }

    #[test]
    fn a_disk_without_room_is_refused_by_what_is_free_and_what_is_needed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(check_room(folder.path(), 1).is_ok());
        let refused = check_room(folder.path(), u64::MAX).expect_err("nobody has that");
        assert_eq!(refused.code, BENCH_ROOM);
        assert!(refused.seen.ends_with("free"), "{refused}");
    }
}
