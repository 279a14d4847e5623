//! What the measured steps say: what limits each of them, and how many shards are worth having. Pure arithmetic.

use super::calibration::Calibration;
use super::chart::thousands;
use super::law::{Fit, fit};
use super::steps::Run;

/// From this share on something counts as full.
const FULL: f64 = 0.9;
const SYNC_FULL: f64 = 0.5;
const LOOPBACK_FULL: f64 = 0.7;
/// Fewer shards are as good when they carry this share of the most.
const AS_GOOD: f64 = 0.95;
/// Runs that are so far off the curve say nothing about counts that were not measured.
const OFF_MOST: f64 = 0.1;
/// How far beyond what was measured, in times of it, a peak of the curve is told.
const PEAK_BEYOND: f64 = 4.0;
/// From this share of the processors on, what others use spoils the figures.
const OTHERS_MOST: f64 = 0.1;
/// Senders elsewhere are worth a word when they make at least so much of a difference.
const WORTH_MORE: f64 = 1.1;

const LOADED: &str = "The generator or other processes were the limit of a step: the curve is that of this machine with them on it, and \
                      contention and coherency are theirs, too.";
const SHARED: &str = "The generator shares this machine with the server and was the limit of a step: with senders on other \
                      machines more shards could carry more than was seen here.";

/// What keeps a step from carrying more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Limit {
    /// The shards have no processor time left.
    Cpu,
    /// The partitions wait for their syncs.
    Sync,
    /// The loopback interface carries no more.
    Network,
    /// The generator has no processor time left, or uses what the shards would need.
    Generator,
    /// Other processes use the processors.
    Others,
    /// Nothing that was measured is full.
    Waiting,
}

/// A step: all runs at one count of shards.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Step {
    pub(super) shards: u16,
    /// Medians of the runs.
    pub(super) median: Run,
    /// The least and the most messages per second.
    pub(super) least_per_s: f64,
    pub(super) most_per_s: f64,
    /// The same without the outer quarter of the runs at either end.
    low_per_s: f64,
    high_per_s: f64,
    pub(super) limit: Limit,
    /// The shares that say so.
    pub(super) because: String,
}

/// The machine, and who generated.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Machine {
    /// Processors' worth of time that server and generator may use: all of those below, or what a quota leaves of them.
    pub(super) cores: usize,
    /// Processors that they may run on.
    pub(super) processors: usize,
    pub(super) generators: usize,
}

impl Machine {
    /// Processors that were neither the server's nor the generator's.
    pub(super) fn others(&self, run: &Run) -> f64 {
        let busy = run.machine_share * self.processors as f64;
        (busy - run.server_cores - run.generator_cores).max(0.0)
    }

    /// Processors that others had of those that server and generator may use: with a quota there may be enough for all.
    fn taken(&self, run: &Run) -> f64 {
        (self.others(run) - self.processors.saturating_sub(self.cores) as f64).max(0.0)
    }
}

/// Everything that is told in the end.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Advice {
    pub(super) steps: Vec<Step>,
    pub(super) runs: Vec<Run>,
    pub(super) fit: Option<Fit>,
    /// The recommended count of shards, as measured.
    pub(super) shards: u16,
    /// Why, in whole sentences.
    pub(super) reasons: Vec<String>,
}

/// Look at all runs; `runs` has at least one.
pub(super) fn advise(runs: Vec<Run>, machine: &Machine, calibration: &Calibration) -> Advice {
    let mut counts: Vec<u16> = runs.iter().map(|run| run.shards).collect();
    counts.sort_unstable();
    counts.dedup();
    let steps: Vec<Step> = counts
        .iter()
        .map(|shards| {
            let of = runs.iter().filter(|run| run.shards == *shards);
            step(&of.collect::<Vec<_>>(), machine, calibration)
        })
        .collect();
    let points: Vec<(f64, f64)> = runs
        .iter()
        .map(|run| (f64::from(run.shards), run.per_s))
        .collect();
    let fit = fit(&points);
    let chosen = choose(&steps);
    let reasons = reasons(&steps, chosen, fit.as_ref(), machine);
    Advice {
        shards: steps[chosen].shards,
        steps,
        runs,
        fit,
        reasons,
    }
}

fn step(runs: &[&Run], machine: &Machine, calibration: &Calibration) -> Step {
    let middle = |pick: fn(&Run) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(|run| pick(run)).collect();
        values.sort_by(f64::total_cmp);
        let half = values.len() / 2;
        match values.len() % 2 {
            0 => (values[half - 1] + values[half]) / 2.0,
            _ => values[half],
        }
    };
    let mut rates: Vec<f64> = runs.iter().map(|run| run.per_s).collect();
    rates.sort_by(f64::total_cmp);
    let outer = rates.len() / 4;
    let median = Run {
        shards: runs[0].shards,
        per_s: middle(|run| run.per_s),
        server_ns: middle(|run| run.server_ns),
        generator_ns: middle(|run| run.generator_ns),
        server_cores: middle(|run| run.server_cores),
        shard_cores: middle(|run| run.shard_cores),
        generator_cores: middle(|run| run.generator_cores),
        machine_share: middle(|run| run.machine_share),
        sync_share: middle(|run| run.sync_share),
        bytes_per_s: middle(|run| run.bytes_per_s),
    };
    let (limit, because) = limit(&median, machine, calibration);
    Step {
        shards: median.shards,
        least_per_s: rates[0],
        most_per_s: rates[rates.len() - 1],
        low_per_s: rates[outer],
        high_per_s: rates[rates.len() - 1 - outer],
        median,
        limit,
        because,
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Decide from the shares; the first that is full is the limit.
fn limit(run: &Run, machine: &Machine, calibration: &Calibration) -> (Limit, String) {
    let cores = machine.cores as f64;
    let shards = f64::from(run.shards).min(cores);
    let of_shards = run.shard_cores / shards;
    let of_generator = run.generator_cores / machine.generators as f64;
    // What one core received is measured against what each of the shards' cores received.
    let of_loopback = run.bytes_per_s / shards / calibration.loopback_bytes_per_s;
    if of_shards >= FULL {
        return (
            Limit::Cpu,
            format!("the shards were busy {} of the time", percent(of_shards)),
        );
    }
    if of_generator >= FULL {
        let share = percent(of_generator);
        return (
            Limit::Generator,
            format!("the generator was busy {share} of the time"),
        );
    }
    if of_loopback >= LOOPBACK_FULL {
        let share = percent(of_loopback);
        return (
            Limit::Network,
            format!("each shard received {share} of what one core alone received over loopback"),
        );
    }
    if run.machine_share >= FULL || run.server_cores + run.generator_cores >= FULL * cores {
        let shared = format!(
            "of {cores:.0} processors the server had {:.2}, the generator {:.2}, all others {:.2}",
            run.server_cores,
            run.generator_cores,
            machine.others(run)
        );
        return match machine.taken(run) > run.generator_cores {
            true => (Limit::Others, shared),
            false => (Limit::Generator, shared),
        };
    }
    if run.sync_share >= SYNC_FULL {
        let share = percent(run.sync_share);
        return (
            Limit::Sync,
            format!("each partition waited for its disk {share} of the time"),
        );
    }
    let nothing = format!(
        "shards {} busy, generator {}, machine {}, partitions in a sync {}",
        percent(of_shards),
        percent(of_generator),
        percent(run.machine_share),
        percent(run.sync_share)
    );
    (Limit::Waiting, nothing)
}

/// The fewest shards that carry about as much as any, or of which the runs do not say that they carry less.
fn choose(steps: &[Step]) -> usize {
    let most = steps
        .iter()
        .max_by(|one, other| one.median.per_s.total_cmp(&other.median.per_s));
    let good = |step: &Step| most.is_none_or(|most| as_good(step, most) || overlap(step, most));
    steps.iter().position(good).unwrap_or(0)
}

fn as_good(step: &Step, most: &Step) -> bool {
    step.median.per_s >= AS_GOOD * most.median.per_s
}

fn overlap(step: &Step, most: &Step) -> bool {
    step.high_per_s >= most.low_per_s
}

fn reasons(steps: &[Step], chosen: usize, fit: Option<&Fit>, machine: &Machine) -> Vec<String> {
    let best = &steps[chosen];
    let mut out = vec![measured(steps, best)];
    out.extend(of_law(steps, fit));
    let some = |limit| steps.iter().any(|step| step.limit == limit);
    if fit.is_some() && (some(Limit::Generator) || some(Limit::Others)) {
        out.push(LOADED.to_owned());
    }
    if let Some(disturbed) = disturbed(steps, machine) {
        out.insert(0, disturbed);
    }
    if some(Limit::Generator) {
        out.push(SHARED.to_owned());
        out.extend(elsewhere(steps, best, machine));
    }
    out
}

/// What others had of the processors, if that is enough to spoil the figures, whatever limited the steps.
fn disturbed(steps: &[Step], machine: &Machine) -> Option<String> {
    let taken = steps.iter().map(|step| machine.taken(&step.median));
    let most = taken.fold(0.0, f64::max);
    let cores = machine.cores;
    (most > OTHERS_MOST * cores as f64).then(|| {
        format!(
            "Others than server and generator (processes, guests of the host, the kernel) had {most:.2} of {cores} processors at a \
             step: the figures say as much about them as about shards. Measure again when they are gone, before following this advice."
        )
    })
}

fn measured(steps: &[Step], best: &Step) -> String {
    let others = steps.iter().filter(|step| step.shards != best.shards);
    let most = others.max_by(|one, other| one.median.per_s.total_cmp(&other.median.per_s));
    let Some(other) = most else {
        return format!("Only {} shard was measured.", best.shards);
    };
    let ratio = other.median.per_s / best.median.per_s;
    let what = match other.shards > best.shards {
        true => "the most that more shards carried is",
        false => "the most that fewer shards carried is",
    };
    let why = match other.shards > best.shards && !as_good(best, other) {
        true => format!(
            "The runs of both overlap ({} to {}, {} to {}, the outer quarters left out): that more shards carry more is not shown.",
            thousands(best.low_per_s),
            thousands(best.high_per_s),
            thousands(other.low_per_s),
            thousands(other.high_per_s)
        ),
        false => "The fewest shards within 5 % of the most are enough.".to_owned(),
    };
    format!(
        "{} carried {} messages/s; {what} {} ({:.2} times as much, with {}). {why}",
        shards(best.shards),
        thousands(best.median.per_s),
        thousands(other.median.per_s),
        ratio,
        shards(other.shards)
    )
}

/// What the curve adds, if there is one.
fn of_law(steps: &[Step], fit: Option<&Fit>) -> Option<String> {
    let fit = fit?;
    let most = f64::from(steps.last()?.shards);
    if !fit.told_apart {
        return Some(
            "With two counts of shards contention and coherency cannot be told apart: the whole loss is called contention, \
             and the curve says nothing about more shards. --shards-max 4 measures more."
                .to_owned(),
        );
    }
    Some(match fit.law.peak() {
        _ if fit.off_share > OFF_MOST => format!(
            "The runs are {} off the curve: it says nothing about counts that were not measured.",
            percent(fit.off_share)
        ),
        Some(peak) if peak < 1.0 => {
            "By the curve one shard carries most: a second one costs more than it adds.".to_owned()
        }
        Some(peak) if peak <= most => {
            format!("The curve has its peak at {peak:.1} shards: beyond it more shards carry less.")
        }
        Some(peak) if peak <= PEAK_BEYOND * most => format!(
            "The curve would have its peak at {peak:.1} shards, which is more than was measured."
        ),
        Some(_) => "The curve has no peak near the counts that were measured.".to_owned(),
        None => "The curve has no peak: no cost of agreement between shards was seen.".to_owned(),
    })
}

/// What processor time alone would allow with the senders on other machines.
fn elsewhere(steps: &[Step], best: &Step, machine: &Machine) -> Option<String> {
    let capacity = |step: &Step| f64::from(step.shards) * 1e9 / step.median.server_ns;
    let fits = steps
        .iter()
        .filter(|step| usize::from(step.shards) <= machine.cores);
    let most = fits.max_by(|one, other| capacity(one).total_cmp(&capacity(other)))?;
    let gain = capacity(most) / capacity(best);
    if most.shards <= best.shards || gain < WORTH_MORE {
        return Some(format!(
            "By processor time per message alone ({:.0} ns of the server) more shards than {} would not pay either.",
            best.median.server_ns, best.shards
        ));
    }
    Some(format!(
        "By processor time per message alone ({:.0} ns with {}, {:.0} ns with {}) {} would carry {gain:.1} times as much as \
         {}, about {} messages/s: with senders on other machines begin with {}, and measure there with \
         `forebay load --sweep shards=...`.",
        best.median.server_ns,
        shards(best.shards),
        most.median.server_ns,
        shards(most.shards),
        shards(most.shards),
        best.shards,
        thousands(capacity(most)),
        most.shards
    ))
}

/// `1 shard`, `2 shards`.
pub(super) fn shards(count: u16) -> String {
    match count {
        1 => "1 shard".to_owned(),
        more => format!("{more} shards"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::tune) fn calibration() -> Calibration {
        Calibration {
            verifications_per_s: 4e6,
            sync_p50_s: 0.000_8,
            sync_p99_s: 0.004,
            syncs: 1_000,
            memory_bytes_per_s: 8e9,
            loopback_bytes_per_s: 3e9,
        }
    }

    pub(in crate::tune) fn run(shards: u16, per_s: f64, server_ns: f64, generator_ns: f64) -> Run {
        let (server_cores, generator_cores) = (server_ns * per_s / 1e9, generator_ns * per_s / 1e9);
        Run {
            shards,
            per_s,
            server_ns,
            generator_ns,
            server_cores,
            shard_cores: server_cores,
            generator_cores,
            machine_share: ((server_cores + generator_cores) / 8.0).min(1.0),
            sync_share: 0.1,
            bytes_per_s: per_s * 116.0,
        }
    }

    fn machine() -> Machine {
        Machine {
            cores: 8,
            processors: 8,
            generators: 4,
        }
    }

    fn reasons_of(rates: &[&[f64]], spoil: impl Fn(&mut Run)) -> (u16, String) {
        let numbered = rates.iter().zip(1..);
        let runs = numbered.flat_map(|(rates, shards)| {
            rates
                .iter()
                .map(move |rate| run(shards, *rate, 500.0, 400.0))
        });
        let mut runs: Vec<Run> = runs.collect();
        runs.iter_mut().for_each(spoil);
        let advice = advise(runs, &machine(), &calibration());
        (advice.shards, advice.reasons.join("\n"))
    }

    #[test]
    fn each_limit_is_named_by_the_share_that_is_full() {
        let easy = run(2, 1e6, 500.0, 500.0);
        type Spoil = fn(&mut Run);
        let cases: [(Limit, &str, Spoil); 9] = [
            (Limit::Waiting, "shards 25 % busy", |_| {}),
            (Limit::Cpu, "busy 95 %", |run| {
                (run.server_cores, run.shard_cores) = (2.4, 1.9)
            }),
            (Limit::Waiting, "shards 75 % busy", |run| {
                // The rest of the process writes and syncs; that is not the shards' time.
                (run.server_cores, run.shard_cores) = (1.9, 1.5)
            }),
            (Limit::Generator, "busy 92 %", |run| {
                run.generator_cores = 3.68
            }),
            (Limit::Sync, "80 %", |run| run.sync_share = 0.8),
            (Limit::Network, "each shard received 75 %", |run| {
                run.bytes_per_s = 4.5e9
            }),
            (Limit::Cpu, "busy 95 %", |run| {
                // Busy shards are the limit, whatever they receive.
                (run.shard_cores, run.bytes_per_s) = (1.9, 4.5e9)
            }),
            (Limit::Others, "all others 6.60", |run| {
                run.machine_share = 0.95
            }),
            (
                Limit::Generator,
                "the server had 1.70, the generator 3.50",
                |run| (run.server_cores, run.generator_cores, run.machine_share) = (1.7, 3.5, 0.95),
            ),
        ];
        for (want, because, spoil) in cases {
            let mut run = easy.clone();
            spoil(&mut run);
            let (limit, text) = limit(&run, &machine(), &calibration());
            assert_eq!(limit, want, "{text}");
            assert!(text.contains(because), "{want:?}: {text}");
        }
    }

    #[test]
    fn the_fewest_shards_that_carry_about_the_most_are_recommended() {
        for (why, rates, want) in [
            ("each shard counts", &[1e6, 1.9e6, 2.7e6][..], 3),
            ("the third adds nothing", &[1e6, 1.9e6, 1.95e6], 2),
            ("the second costs", &[1e6, 0.8e6, 0.7e6], 1),
            ("one alone", &[1e6], 1),
        ] {
            let numbered = rates.iter().zip(1..);
            let runs = numbered.map(|(rate, shards)| run(shards, *rate, 500.0, 400.0));
            let advice = advise(runs.collect(), &machine(), &calibration());
            assert_eq!(advice.shards, want, "{why}: {:?}", advice.reasons);
            assert!(!advice.reasons.is_empty(), "{why}");
        }
    }

    #[test]
    fn figures_taken_beside_other_work_are_called_that_before_anything_is_advised() {
        let mut run = run(1, 1e6, 500.0, 300.0);
        run.machine_share = 0.99;
        let advice = advise(vec![run.clone()], &machine(), &calibration());
        assert_eq!(advice.steps[0].limit, Limit::Others);
        assert!(
            advice.reasons[0].contains("Measure again"),
            "{:?}",
            advice.reasons
        );
        // They matter as much where something else is found full first: a compiler had half of the machine.
        (run.shard_cores, run.machine_share) = (0.95, 0.6);
        let advice = advise(vec![run], &machine(), &calibration());
        assert_eq!(advice.steps[0].limit, Limit::Cpu);
        assert!(
            advice.reasons[0].contains("had 4.00 of 8 processors"),
            "{:?}",
            advice.reasons
        );
    }

    #[test]
    fn a_quota_is_full_when_server_and_generator_use_it_up_and_others_count_where_they_leave_too_little()
     {
        let machine = Machine {
            cores: 4,
            processors: 64,
            generators: 2,
        };
        let mut run = run(4, 1e6, 2_400.0, 1_300.0);
        // All others have 46.3 processors, and there is room for 4 more.
        run.machine_share = 50.0 / 64.0;
        let (full, text) = limit(&run, &machine, &calibration());
        assert_eq!(full, Limit::Generator, "{text}");
        let advice = advise(vec![run.clone()], &machine, &calibration());
        assert!(!advice.reasons.join("").contains("Measure again"));
        (run.generator_cores, run.machine_share) = (0.6, 1.0);
        let advice = advise(vec![run], &machine, &calibration());
        assert_eq!(advice.steps[0].limit, Limit::Others);
        assert!(
            advice.reasons[0].contains("had 1.00 of 4 processors"),
            "{:?}",
            advice.reasons
        );
    }

    #[test]
    fn fewer_shards_are_recommended_while_runs_overlap_and_that_is_said() {
        let (shards, text) = reasons_of(&[&[2.6e6, 3.2e6], &[2.5e6, 3.7e6]], |_| {});
        assert_eq!(shards, 1, "{text}");
        assert!(text.contains("The runs of both overlap"), "{text}");
        let (shards, text) = reasons_of(&[&[2.6e6, 3.2e6], &[3.3e6, 3.7e6]], |_| {});
        assert_eq!(shards, 2, "{text}");
        assert!(!text.contains("overlap"), "{text}");
        // One run of seven that went wrong makes no overlap.
        let (one, mut two) = ([2e6; 7], [3e6; 7]);
        two[3] = 1.9e6;
        assert_eq!(reasons_of(&[&one, &two], |_| {}).0, 2);
    }

    #[test]
    fn a_peak_is_told_only_where_the_curve_says_something_about_it() {
        let law = |sigma: f64, kappa: f64| {
            let at = |n: f64| 1e6 * n / (1.0 + sigma * (n - 1.0) + kappa * n * (n - 1.0));
            [1.0, 2.0, 3.0, 4.0].map(at)
        };
        for (why, rates, part) in [
            (
                "the second costs",
                [1e6, 0.8e6, 0.7e6, 0.63e6],
                "one shard carries most",
            ),
            ("inside", law(0.02, 0.1), "has its peak at 3.1 shards"),
            ("near", law(0.02, 0.01), "would have its peak at 9.9 shards"),
            ("nowhere near", law(0.02, 1e-6), "no peak near"),
            ("none", law(0.02, 0.0), "no peak"),
            (
                "noise",
                [1e6, 3e6, 0.9e6, 3e6],
                "off the curve: it says nothing",
            ),
        ] {
            let rates = rates.map(|rate| [rate]);
            let rates = rates.each_ref().map(|rate| &rate[..]);
            let (_, text) = reasons_of(&rates, |_| {});
            assert!(text.contains(part), "{why}: {text}");
            assert!(
                !text.contains("peak at 0.") && !text.contains("with them on it"),
                "{why}: {text}"
            );
        }
        let rates = law(0.02, 0.01).map(|rate| [rate]);
        let rates = rates.each_ref().map(|rate| &rate[..]);
        let (_, text) = reasons_of(&rates, |run| run.generator_cores = 3.9);
        assert!(text.contains("of this machine with them on it"), "{text}");
    }

    #[test]
    fn a_generator_on_the_same_two_processors_is_said_to_be_the_limit_and_what_that_means() {
        let machine = Machine {
            cores: 2,
            processors: 2,
            generators: 1,
        };
        let mut runs = Vec::new();
        for rate in [1.0e6, 1.02e6, 0.98e6] {
            for (shards, factor) in [(1, 1.0), (2, 1.03)] {
                let mut run = run(shards, rate * factor, 800.0, 850.0);
                run.machine_share = 0.91;
                runs.push(run);
            }
        }
        let advice = advise(runs, &machine, &calibration());
        let text = advice.reasons.join("\n");
        assert_eq!(
            (advice.shards, advice.steps[1].limit),
            (1, Limit::Generator)
        );
        assert!(text.contains("cannot be told apart"), "{text}");
        assert!(
            text.contains("shares this machine with the server"),
            "{text}"
        );
        assert!(
            text.contains("2 shards would carry 2.0 times as much"),
            "{text}"
        );
        assert!(!text.contains("Measure again"), "{text}");
        assert_eq!(advice.steps[0].median.per_s, 1.0e6);
        assert_eq!(
            (advice.steps[0].least_per_s, advice.steps[0].most_per_s),
            (0.98e6, 1.02e6)
        );
    }
}
