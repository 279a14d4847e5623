//! `forebay shards`: what each shard of a running node does, and all of them together.

use std::net::SocketAddr;

use node::view::NodeView;

use super::figures::{Figures, First, MeshRates};
use super::screen::{Line, Style};
use super::table::{Cell, cell, lines, marked, numbers, words};
use super::top::silent;
use super::{Shown, Watch, show};
use crate::fault::Fault;

/// From this on a shard has little left, and from this on it has nothing left.
const BUSY_HIGH: f64 = 0.7;
const BUSY_ALARM: f64 = 0.9;
/// The same for turns, in seconds: what waits behind one is late by as much.
const TURN_HIGH: f64 = 0.004;
const TURN_ALARM: f64 = 0.020;
/// The same for receive buffers and memory that are taken.
const TAKEN_HIGH: f64 = 0.75;
const TAKEN_ALARM: f64 = 0.95;
/// Columns for names.
const NAME_COLUMNS: usize = 29;

/// Arguments of `shards`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    watch: Watch,
}

/// Show the shards until told to stop.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    args.watch
        .run(|address, before, now| Some(shown(address, before?, now)))
}

fn shown(address: SocketAddr, before: &NodeView, now: &NodeView) -> Shown {
    let pairs = before.shards.iter().zip(&now.shards).enumerate();
    let figures: Vec<(usize, Option<Figures>)> = pairs
        .map(|(number, (before, now))| {
            let both = before.as_ref().zip(now.as_ref());
            (
                number,
                both.and_then(|(before, now)| Figures::of(before, now)),
            )
        })
        .collect();
    let told: Vec<Figures> = figures.iter().filter_map(|(_, one)| one.clone()).collect();
    let total = Figures::sum(&told, now);
    let silent = silent(now);
    let without = figures.iter().filter(|(_, one)| one.is_none());
    let fresh: Vec<usize> = without
        .map(|(number, _)| *number)
        .filter(|number| !silent.contains(number))
        .collect();
    let json = serde_json::json!({
        "node": address.to_string(), "forebay": now.forebay, "phase": now.phase, "resident_bytes": now.resident_bytes,
        "seconds": total.as_ref().map(|total| total.seconds), "shards": told, "silent": silent, "fresh": fresh, "total": total,
    });
    let mut lines = vec![heading(address, now, total.as_ref())];
    if let Some(total) = &total {
        for block in [load, traffic, state, hottest] {
            lines.push(Line::default());
            lines.extend(block(&told, total));
        }
    }
    for number in fresh {
        let text = format!("shard {number} answers again: its figures come with the next look");
        lines.push(Line::plain(text).in_style(Style::High));
    }
    for number in silent {
        let since = now.silent_seconds.get(number).copied().flatten();
        let since = since.map_or(String::new(), |seconds| {
            format!("; it last looked for work {seconds:.1} s ago")
        });
        let text = format!("shard {number} does not answer{since}");
        lines.push(Line::plain(text).in_style(Style::Alarm));
    }
    Shown { lines, json }
}

fn heading(address: SocketAddr, now: &NodeView, total: Option<&Figures>) -> Line {
    let mut line = Line::default();
    line.push(
        &format!("forebay {} at {address}", now.forebay),
        Style::Bold,
    );
    let shards = match now.shards.len() {
        1 => "1 shard".to_owned(),
        count => format!("{count} shards"),
    };
    line.push(&format!(", {}, {shards}", now.phase), Style::Plain);
    if let Some(bytes) = now.resident_bytes {
        let text = format!(", {} of memory in use", show::bytes(bytes as f64));
        line.push(&text, Style::Plain);
    }
    if let Some(total) = total {
        let text = format!("; the last {:.1} s", total.seconds);
        line.push(&text, Style::Plain);
    }
    line
}

/// Rows for all shards, and one for all together if there is more than one.
fn block(
    groups: &[super::table::Group],
    shards: &[Figures],
    total: &Figures,
    row: impl Fn(&Figures) -> Vec<Cell>,
) -> Vec<Line> {
    let rows: Vec<Vec<Cell>> = shards.iter().map(&row).collect();
    let total = (shards.len() > 1).then(|| row(total));
    lines(groups, &rows, total.as_ref())
}

fn number(of: &Figures) -> Cell {
    cell(
        of.shard
            .map_or("all".to_owned(), |number| number.to_string()),
    )
}

fn or_dash<T>(value: Option<T>, shown: impl Fn(T) -> String) -> Cell {
    cell(value.map_or("-".to_owned(), shown))
}

/// How busy shards are, how long their turns take, how much each turn takes on.
fn load(shards: &[Figures], total: &Figures) -> Vec<Line> {
    let groups = [
        numbers("", &["shard", "cpu"]),
        numbers("busy", &["thread", "in turns"]),
        numbers("turns", &["/s", "p50", "p99"]),
        numbers("batch p50", &["frames", "messages"]),
        numbers("refused", &["/s"]),
    ];
    block(&groups, shards, total, |one| {
        let cpu = match (one.shard, one.cpu) {
            (None, _) => cell(""),
            (_, cpu) => or_dash(cpu, |cpu| cpu.to_string()),
        };
        let long = one.turn_seconds_p99.unwrap_or(0.0);
        let nanos = |seconds: Option<f64>| {
            seconds.map_or("-".to_owned(), |seconds| show::nanos(seconds * 1e9))
        };
        vec![
            number(one),
            cpu,
            marked(
                show::share(one.busy_ratio),
                one.busy_ratio,
                BUSY_HIGH,
                BUSY_ALARM,
            ),
            cell(show::share(one.turns_ratio)),
            cell(show::count(one.turns_per_second)),
            cell(nanos(one.turn_seconds_p50)),
            marked(nanos(one.turn_seconds_p99), long, TURN_HIGH, TURN_ALARM),
            or_dash(one.batch_frames_p50, show::count),
            or_dash(one.batch_messages_p50, show::count),
            cell(show::count(one.received.refused_per_second)),
        ]
    })
}

/// What goes in and out, and what passes between shards.
fn traffic(shards: &[Figures], total: &Figures) -> Vec<Line> {
    let mut groups = vec![
        numbers("", &["shard"]),
        numbers("in /s", &["messages", "bytes"]),
        numbers("out /s", &["messages", "bytes"]),
    ];
    let meshed = total.mesh.is_some();
    if meshed {
        groups.push(numbers("mesh out /s", &["items", "frames"]));
        groups.push(numbers("mesh in /s", &["items", "frames"]));
        groups.push(numbers("mesh /s", &["bells", "full"]));
    }
    block(&groups, shards, total, |one| {
        let mut row = vec![
            number(one),
            cell(show::count(one.received.messages_per_second)),
            cell(show::bytes(one.received.bytes_per_second)),
            cell(show::count(one.sent.messages_per_second)),
            cell(show::bytes(one.sent.bytes_per_second)),
        ];
        if meshed {
            row.extend(mesh(&one.mesh.unwrap_or_default()));
        }
        row
    })
}

fn mesh(mesh: &MeshRates) -> Vec<Cell> {
    let numbers = [
        mesh.items_out_per_second,
        mesh.frames_out_per_second,
        mesh.items_in_per_second,
        mesh.frames_in_per_second,
        mesh.doorbells_per_second,
    ];
    let mut cells = numbers.map(|number| cell(show::count(number))).to_vec();
    let full = mesh.full_per_second;
    cells.push(marked(show::count(full), full, 0.05, 1_000.0));
    cells
}

/// What shards own and hold.
fn state(shards: &[Figures], total: &Figures) -> Vec<Line> {
    let groups = [
        numbers("", &["shard"]),
        numbers("owns", &["partitions", "queue groups"]),
        numbers("peers", &["connections", "sessions"]),
        numbers("receive buffers", &["free", "of"]),
        numbers("memory", &["bytes", "budget"]),
    ];
    block(&groups, shards, total, |one| {
        let taken = 1.0 - one.buffers_free as f64 / one.buffers.max(1) as f64;
        let memory = one.memory() as f64;
        let budget = one.memory_budget_bytes.map(|bytes| bytes as f64);
        let full = budget.map_or(0.0, |budget| memory / budget.max(1.0));
        vec![
            number(one),
            cell(one.partitions.to_string()),
            cell(one.queue_groups.to_string()),
            cell(one.connections.to_string()),
            cell(one.sessions.to_string()),
            marked(one.buffers_free.to_string(), taken, TAKEN_HIGH, TAKEN_ALARM),
            cell(one.buffers.to_string()),
            marked(show::bytes(memory), full, TAKEN_HIGH, TAKEN_ALARM),
            or_dash(budget, show::bytes),
        ]
    })
}

/// Who sends most.
fn hottest(shards: &[Figures], total: &Figures) -> Vec<Line> {
    let groups = [
        numbers("", &["shard"]),
        words("hottest endpoint", &["name"]),
        numbers("", &["messages/s", "share"]),
        words("hottest channel", &["name"]),
        numbers("", &["share"]),
    ];
    block(&groups, shards, total, |one| {
        let named = |first: &Option<First>| {
            let first = first
                .as_ref()
                .filter(|first| first.messages_per_second >= 0.05);
            let name = first.map_or("-".to_owned(), |first| {
                show::name(&first.name, NAME_COLUMNS)
            });
            let share = first.map_or(String::new(), |first| show::share(first.share));
            let rate = first.map_or(String::new(), |first| {
                show::count(first.messages_per_second)
            });
            (name, rate, share)
        };
        let (endpoint, rate, share) = named(&one.hottest_endpoint);
        let (channel, _, of_all) = named(&one.hottest_channel);
        vec![
            number(one),
            cell(endpoint),
            cell(rate),
            cell(share),
            cell(channel),
            cell(of_all),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{node, shard};
    use super::*;

    #[test]
    fn a_shard_is_silent_that_does_not_answer_now_whatever_it_did_before() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let later = |number| {
            let mut shard = shard(number);
            shard.seconds += 1.0;
            Some(shard)
        };
        let before = node(vec![Some(shard(0)), None, Some(shard(2)), None]);
        let now = node(vec![later(0), later(1), None, None]);
        let seen = shown(address, &before, &now);
        assert_eq!(seen.json["silent"], serde_json::json!([2, 3]));
        assert_eq!(seen.json["fresh"], serde_json::json!([1]));
        assert_eq!(seen.json["shards"].as_array().map(Vec::len), Some(1));
        let lines: Vec<String> = seen.lines.iter().map(Line::text).collect();
        let text = lines.join("\n");
        assert!(text.contains("shard 1 answers again"), "{text}");
        assert!(text.contains("shard 2 does not answer") && text.contains("shard 3 does not"));
        assert!(!text.contains("shard 1 does not"), "{text}");
    }
}
