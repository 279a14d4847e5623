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
/// Senders elsewhere are worth a word when they make at least so much of a difference.
const WORTH_MORE: f64 = 1.1;

const OTHERS: &str = "Other processes used the processors during the measurement: the figures say as much about them as about \
                      shards. Measure again when they are gone, before following this advice.";
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
    pub(super) limit: Limit,
    /// The shares that say so.
    pub(super) because: String,
}

/// The machine, and who generated.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) generators: usize,
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
    let rates = runs.iter().map(|run| run.per_s);
    let median = Run {
        shards: runs[0].shards,
        per_s: middle(|run| run.per_s),
        server_ns: middle(|run| run.server_ns),
        generator_ns: middle(|run| run.generator_ns),
        server_cores: middle(|run| run.server_cores),
        generator_cores: middle(|run| run.generator_cores),
        machine_share: middle(|run| run.machine_share),
        sync_share: middle(|run| run.sync_share),
        bytes_per_s: middle(|run| run.bytes_per_s),
    };
    let (limit, because) = limit(&median, machine, calibration);
    Step {
        shards: median.shards,
        least_per_s: rates.clone().fold(f64::INFINITY, f64::min),
        most_per_s: rates.fold(0.0, f64::max),
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
    let of_shards = run.server_cores / f64::from(run.shards).min(cores);
    let of_generator = run.generator_cores / machine.generators as f64;
    let others = (run.machine_share * cores - run.server_cores - run.generator_cores).max(0.0);
    let of_loopback = run.bytes_per_s / calibration.loopback_bytes_per_s;
    if of_loopback >= LOOPBACK_FULL {
        let share = percent(of_loopback);
        return (
            Limit::Network,
            format!("{share} of what the loopback interface carried alone"),
        );
    }
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
    if run.machine_share >= FULL {
        let shared = format!(
            "of {cores:.0} processors the server had {:.2}, the generator {:.2}, all others {others:.2}",
            run.server_cores, run.generator_cores
        );
        return match others > run.generator_cores {
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

/// The fewest shards that carry about as much as any.
fn choose(steps: &[Step]) -> usize {
    let most = steps
        .iter()
        .map(|step| step.median.per_s)
        .fold(0.0, f64::max);
    steps
        .iter()
        .position(|step| step.median.per_s >= AS_GOOD * most)
        .unwrap_or(0)
}

fn reasons(steps: &[Step], chosen: usize, fit: Option<&Fit>, machine: &Machine) -> Vec<String> {
    let best = &steps[chosen];
    let mut out = vec![measured(steps, best)];
    out.extend(of_law(steps, fit));
    let some = |limit| steps.iter().any(|step| step.limit == limit);
    if some(Limit::Others) {
        out.insert(0, OTHERS.to_owned());
    }
    if some(Limit::Generator) {
        out.push(SHARED.to_owned());
        out.extend(elsewhere(steps, best, machine));
    }
    out
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
    format!(
        "{} carried {} messages/s; {what} {} ({:.2} times as much, with {}). The fewest shards within 5 % of the \
         most are enough.",
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
    match fit.law.peak() {
        Some(peak) if peak <= most => Some(format!(
            "The curve has its peak at {peak:.1} shards: beyond it more shards carry less."
        )),
        Some(peak) => Some(format!(
            "The curve would have its peak at {peak:.1} shards, which is more than was measured."
        )),
        None => {
            Some("The curve has no peak: no cost of agreement between shards was seen.".to_owned())
        }
    }
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
            generator_cores,
            machine_share: ((server_cores + generator_cores) / 8.0).min(1.0),
            sync_share: 0.1,
            bytes_per_s: per_s * 116.0,
        }
    }

    fn machine() -> Machine {
        Machine {
            cores: 8,
            generators: 4,
        }
    }

    #[test]
    fn each_limit_is_named_by_the_share_that_is_full() {
        let easy = run(2, 1e6, 500.0, 500.0);
        type Spoil = fn(&mut Run);
        let cases: [(Limit, &str, Spoil); 7] = [
            (Limit::Waiting, "shards 25 % busy", |_| {}),
            (Limit::Cpu, "busy 95 %", |run| run.server_cores = 1.9),
            (Limit::Generator, "busy 92 %", |run| {
                run.generator_cores = 3.68
            }),
            (Limit::Sync, "80 %", |run| run.sync_share = 0.8),
            (Limit::Network, "75 %", |run| run.bytes_per_s = 2.25e9),
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
        let advice = advise(vec![run], &machine(), &calibration());
        assert_eq!(advice.steps[0].limit, Limit::Others);
        assert!(
            advice.reasons[0].contains("Measure again"),
            "{:?}",
            advice.reasons
        );
    }

    #[test]
    fn a_generator_on_the_same_two_processors_is_said_to_be_the_limit_and_what_that_means() {
        let machine = Machine {
            cores: 2,
            generators: 1,
        };
        let mut runs = Vec::new();
        for rate in [1.0e6, 1.02e6, 0.98e6] {
            for (shards, factor) in [(1, 1.0), (2, 1.03)] {
                let mut run = run(shards, rate * factor, 800.0, 850.0);
                run.machine_share = 0.97;
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
