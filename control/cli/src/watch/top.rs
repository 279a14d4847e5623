//! `forebay top`: who sends most, over all shards, by name. An estimate, and it says how good a one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clap::ValueEnum;
use node::view::{HotView, NodeView, RankingView};
use serde::Serialize;

use super::screen::{Line, Style};
use super::table::{Cell, cell, lines, numbers, words};
use super::{Shown, Watch, show};
use crate::fault::Fault;

/// Columns for names.
const NAME_COLUMNS: usize = 44;

/// Arguments of `top`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    watch: Watch,
    /// What makes one the first
    #[arg(long, value_enum, default_value_t = By::Messages)]
    by: By,
    /// Endpoints and channels shown, of each
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=64))]
    rows: u16,
}

/// What rankings are by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    /// Messages per second
    Messages,
    /// Bytes of frames per second
    Bytes,
}

/// Rankings of all shards together.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Merged {
    /// Of all together, per second.
    pub(super) total: f64,
    /// What one that is not listed has at most, per second.
    absent_max: f64,
    pub(super) rows: Vec<Row>,
}

/// An endpoint or a channel.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) messages_per_second: f64,
    bytes_per_second: f64,
    /// The part of all that it has.
    pub(super) share: f64,
    /// By how much what it is ranked by may be too high, and too low, because places ran out.
    too_high_max: f64,
    too_low_max: f64,
    /// Twice the standard deviation of what it is ranked by, because frames are sampled.
    spread: f64,
    /// Shards on which it is among the first.
    shards: Vec<usize>,
}

/// Show who sends most until told to stop.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    let rows = usize::from(args.rows);
    args.watch
        .run(|address, _, now| Some(shown(address, now, args.by, rows)))
}

/// Rankings of several shards as one, by what `by` takes from a row. Where one has no place on a shard it may still have had as much
/// as the last one there.
pub(super) fn merge(rankings: &[&RankingView], by: impl Fn(&HotView) -> f64) -> Merged {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let absent_max: f64 = rankings.iter().map(|ranking| ranking.absent_max).sum();
    for (shard, ranking) in rankings.iter().enumerate() {
        for hot in &ranking.rows {
            let row = rows.entry(&hot.name).or_insert_with(|| Row {
                name: hot.name.clone(),
                too_low_max: absent_max,
                ..Row::default()
            });
            row.messages_per_second += hot.messages;
            row.bytes_per_second += hot.bytes;
            row.too_high_max += hot.too_high_max;
            row.too_low_max -= ranking.absent_max;
            // Variances add up.
            row.spread = row.spread.hypot(hot.spread);
            row.share += by(hot);
            row.shards.push(shard);
        }
    }
    let total: f64 = rankings.iter().map(|ranking| ranking.total).sum();
    let mut rows: Vec<Row> = rows.into_values().collect();
    rows.sort_by(|a, b| {
        b.share
            .total_cmp(&a.share)
            .then_with(|| a.name.cmp(&b.name))
    });
    for row in &mut rows {
        row.share = if total > 0.0 { row.share / total } else { 0.0 };
        row.too_low_max = row.too_low_max.max(0.0);
    }
    Merged {
        total,
        absent_max,
        rows,
    }
}

/// Shards that do not answer.
pub(super) fn silent(now: &NodeView) -> Vec<usize> {
    let shards = now.shards.iter().enumerate();
    shards
        .filter(|(_, one)| one.is_none())
        .map(|(number, _)| number)
        .collect()
}

fn shown(address: SocketAddr, now: &NodeView, by: By, rows_max: usize) -> Shown {
    let silent = silent(now);
    let answering = || now.shards.iter().flatten().map(|shard| &shard.hottest);
    let (endpoints, channels): (Vec<_>, Vec<_>) = match by {
        By::Messages => answering()
            .map(|hot| (&hot.endpoints_by_messages, &hot.channels_by_messages))
            .unzip(),
        By::Bytes => answering()
            .map(|hot| (&hot.endpoints_by_bytes, &hot.channels_by_bytes))
            .unzip(),
    };
    let rank = |row: &HotView| match by {
        By::Messages => row.messages,
        By::Bytes => row.bytes,
    };
    let (mut endpoints, mut channels) = (merge(&endpoints, rank), merge(&channels, rank));
    // Shards that do not answer leave no place behind.
    let numbers: Vec<usize> = now
        .shards
        .iter()
        .flatten()
        .map(|shard| shard.shard)
        .collect();
    for merged in [&mut endpoints, &mut channels] {
        for row in &mut merged.rows {
            row.shards
                .iter_mut()
                .for_each(|place| *place = numbers[*place]);
        }
    }
    let one_in = answering().map(|hot| hot.one_in).max().unwrap_or(1);
    let mut lines = vec![heading(address, now, by)];
    for (title, merged) in [("endpoint", &endpoints), ("channel", &channels)] {
        lines.push(Line::default());
        lines.extend(ranking(title, merged, by, rows_max, silent.is_empty()));
    }
    lines.push(Line::default());
    lines.extend(bound(&endpoints, one_in, by, silent.is_empty()));
    for number in &silent {
        let text = format!("shard {number} does not answer: who sends to it is not in here");
        lines.push(Line::plain(text).in_style(Style::Alarm));
    }
    for merged in [&mut endpoints, &mut channels] {
        merged.rows.truncate(rows_max);
    }
    Shown {
        lines,
        json: serde_json::json!({
            "node": address.to_string(), "forebay": now.forebay, "phase": now.phase,
            "by": match by { By::Messages => "messages", By::Bytes => "bytes" },
            "silent": silent, "sampled_one_in": one_in, "half_life_seconds": shard_half_life(),
            "endpoints": endpoints, "channels": channels,
        }),
    }
}

fn shard_half_life() -> f64 {
    node::view::HALF_LIFE.as_secs_f64()
}

fn heading(address: SocketAddr, now: &NodeView, by: By) -> Line {
    let by = match by {
        By::Messages => "messages",
        By::Bytes => "bytes",
    };
    let shards = now.shards.len();
    let shards = if shards == 1 {
        "1 shard".to_owned()
    } else {
        format!("{shards} shards")
    };
    let mut line = Line::default();
    line.push(
        &format!("forebay {} at {address}", now.forebay),
        Style::Bold,
    );
    let text = format!(
        ", {}, {shards}: who sends most {by}, in the last seconds",
        now.phase
    );
    line.push(&text, Style::Plain);
    line
}

fn ranking(
    title: &'static str,
    merged: &Merged,
    by: By,
    rows_max: usize,
    complete: bool,
) -> Vec<Line> {
    let groups = [
        words("", &[title]),
        match by {
            By::Messages => numbers("", &["messages/s", "±", "share", "bytes/s"]),
            By::Bytes => numbers("", &["bytes/s", "±", "share", "messages/s"]),
        },
        words("", &["shard"]),
    ];
    // Below this it is what has not faded yet.
    let lives = |row: &&Row| row.messages_per_second >= 0.05 || row.bytes_per_second >= 0.5;
    let shown = merged.rows.iter().filter(lives).take(rows_max);
    let rows: Vec<Vec<Cell>> = shown.map(|row| cells(row, by)).collect();
    if rows.is_empty() {
        let whom = if complete {
            ""
        } else {
            " to the shards that answer"
        };
        return vec![Line::plain(format!("no {title} sent anything{whom}"))];
    }
    let amount = match by {
        By::Messages => show::count(merged.total),
        By::Bytes => show::bytes(merged.total),
    };
    let all = if complete { "all" } else { "all that answer" };
    let total = [all, &amount, "", "100 %", "", ""].map(cell).to_vec();
    lines(&groups, &rows, Some(&total))
}

fn cells(row: &Row, by: By) -> Vec<Cell> {
    let off = row.too_high_max.max(row.too_low_max) + row.spread;
    let (messages, bytes) = (
        show::count(row.messages_per_second),
        show::bytes(row.bytes_per_second),
    );
    let (first, off, second) = match by {
        By::Messages => (messages, show::count(off), bytes),
        By::Bytes => (bytes, show::bytes(off), messages),
    };
    let shards: Vec<String> = row.shards.iter().map(usize::to_string).collect();
    let name = format!("{:NAME_COLUMNS$}", show::name(&row.name, NAME_COLUMNS));
    [
        name,
        first,
        off,
        show::share(row.share),
        second,
        shards.join(","),
    ]
    .map(cell)
    .to_vec()
}

/// What the figures are worth.
fn bound(endpoints: &Merged, one_in: u32, by: By, complete: bool) -> Vec<Line> {
    let amount = |value: f64| match by {
        By::Messages => format!("{} messages/s", show::count(value)),
        By::Bytes => format!("{}/s", show::bytes(value)),
    };
    let sampled = match one_in {
        1 => "every frame is counted".to_owned(),
        _ => format!("1 frame in {one_in} is counted"),
    };
    let absent = match (complete, endpoints.absent_max > 0.0) {
        (false, _) => "not all shards answer".to_owned(),
        (true, true) => format!(
            "an endpoint not kept has at most {}",
            amount(endpoints.absent_max)
        ),
        (true, false) => "no endpoint is left out".to_owned(),
    };
    let half = shard_half_life();
    [
        format!("An estimate: what was {half:.0} s ago counts half, {sampled}; {absent}."),
        "± holds what places that ran out can do, and twice the standard deviation of the sample."
            .to_owned(),
    ]
    .map(|text| Line::plain(text).in_style(Style::Dim))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use node::view::ShardView;

    use super::super::tests::{node, shard};
    use super::*;

    fn hot(name: &str, messages: f64, too_high_max: f64, spread: f64) -> HotView {
        HotView {
            name: name.to_owned(),
            messages,
            bytes: messages * 100.0,
            too_high_max,
            spread,
        }
    }

    fn ranking(total: f64, absent_max: f64, rows: Vec<HotView>) -> RankingView {
        RankingView {
            total,
            absent_max,
            rows,
        }
    }

    /// Name, messages, too high, too low, spread, shards.
    type Seen<'a> = (&'a str, f64, f64, f64, f64, &'a [usize]);

    #[test]
    fn rankings_of_shards_add_up_and_their_bounds_too() {
        let one = ranking(
            100.0,
            2.0,
            vec![hot("a", 50.0, 1.0, 3.0), hot("b", 30.0, 0.0, 0.0)],
        );
        let other = ranking(
            60.0,
            5.0,
            vec![hot("c", 40.0, 5.0, 0.0), hot("a", 20.0, 0.0, 4.0)],
        );
        let merged = merge(&[&one, &other], |row| row.messages);
        assert_eq!((merged.total, merged.absent_max), (160.0, 7.0));
        let seen: Vec<_> = merged
            .rows
            .iter()
            .map(|row| {
                (
                    &*row.name,
                    row.messages_per_second,
                    row.too_high_max,
                    row.too_low_max,
                    row.spread,
                    &*row.shards,
                )
            })
            .collect();
        let want: [Seen<'_>; 3] = [
            ("a", 70.0, 1.0, 0.0, 5.0, &[0, 1]),
            ("c", 40.0, 5.0, 2.0, 0.0, &[1]),
            ("b", 30.0, 0.0, 5.0, 0.0, &[0]),
        ];
        assert_eq!(seen, want);
        assert!((merged.rows[0].share - 70.0 / 160.0).abs() < 1e-9);
    }

    #[test]
    fn shards_that_do_not_answer_are_named_and_nothing_is_claimed_for_them() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut one = shard(0);
        one.hottest.endpoints_by_messages = ranking(9.0, 0.0, vec![hot("a", 9.0, 0.0, 0.0)]);
        let look = |shards: Vec<Option<ShardView>>| {
            let seen = shown(address, &node(shards), By::Messages, 10);
            let lines: Vec<String> = seen.lines.iter().map(Line::text).collect();
            (lines.join("\n"), seen.json["silent"].clone())
        };
        let (text, silent) = look(vec![Some(one.clone()), None]);
        assert!(text.contains("shard 1 does not answer"), "{text}");
        assert!(!text.contains("left out"), "{text}");
        assert!(text.contains("all that answer"), "{text}");
        assert_eq!(silent, serde_json::json!([1]));
        let (text, silent) = look(vec![None]);
        assert!(
            text.contains("no endpoint sent anything to the shards that answer"),
            "{text}"
        );
        assert_eq!(silent, serde_json::json!([0]));
        let (text, silent) = look(vec![Some(one)]);
        assert!(
            text.contains("no endpoint is left out") && !text.contains("answer"),
            "{text}"
        );
        assert_eq!(silent, serde_json::json!([]));
    }

    #[test]
    fn of_nothing_nobody_is_first() {
        let nothing = RankingView::default();
        let merged = merge(&[&nothing, &nothing], |row| row.bytes);
        assert!(merged.rows.is_empty() && merged.total == 0.0);
    }
}
