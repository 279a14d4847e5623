//! Rows under headings, every column as wide as its widest cell. Numbers stand to the right, words to the left.

use super::screen::{Line, Style};

/// Blanks between columns, and between groups of columns.
const GAP: usize = 2;
const GROUP_GAP: usize = 3;

/// A column: its heading, and whether it holds words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) words: bool,
}

/// A heading over several columns.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) columns: Vec<Column>,
}

/// A cell: what it says, and whether it stands out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) style: Style,
}

/// Columns of numbers under a heading.
pub(super) fn numbers(title: &'static str, columns: &[&'static str]) -> Group {
    group(title, columns, false)
}

/// Columns of words under a heading.
pub(super) fn words(title: &'static str, columns: &[&'static str]) -> Group {
    group(title, columns, true)
}

fn group(title: &'static str, columns: &[&'static str], words: bool) -> Group {
    let column = |title: &&'static str| Column { title, words };
    Group {
        title,
        columns: columns.iter().map(column).collect(),
    }
}

/// An ordinary cell.
pub(super) fn cell(text: impl Into<String>) -> Cell {
    Cell {
        text: text.into(),
        style: Style::Plain,
    }
}

/// A cell that stands out the more, the nearer `value` comes to what it may be.
pub(super) fn marked(text: impl Into<String>, value: f64, high: f64, alarm: f64) -> Cell {
    let style = match value {
        _ if value >= alarm => Style::Alarm,
        _ if value >= high => Style::High,
        _ => Style::Plain,
    };
    Cell {
        text: text.into(),
        style,
    }
}

/// The lines of a table: headings, rows, and a row for all together.
pub(super) fn lines(groups: &[Group], rows: &[Vec<Cell>], total: Option<&Vec<Cell>>) -> Vec<Line> {
    let columns: Vec<Column> = groups
        .iter()
        .flat_map(|group| group.columns.clone())
        .collect();
    let mut widths: Vec<usize> = columns.iter().map(|column| length(column.title)).collect();
    for row in rows.iter().chain(total) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = length(&cell.text).max(*width);
        }
    }
    make_room(groups, &mut widths);
    let mut lines = Vec::new();
    if groups.iter().any(|group| !group.title.is_empty()) {
        lines.push(titles(groups, &widths));
    }
    let heads: Vec<Cell> = columns.iter().map(|column| cell(column.title)).collect();
    lines.push(line(groups, &widths, &heads).in_style(Style::Dim));
    lines.extend(rows.iter().map(|row| line(groups, &widths, row)));
    if let Some(total) = total {
        lines.push(line(groups, &widths, total).in_style(Style::Bold));
    }
    lines
}

/// The first column of a group takes what its title needs.
fn make_room(groups: &[Group], widths: &mut [usize]) {
    let mut first = 0;
    for group in groups {
        let end = first + group.columns.len();
        let width = width(&widths[first..end]);
        widths[first] += length(group.title).saturating_sub(width);
        first = end;
    }
}

fn width(columns: &[usize]) -> usize {
    columns.iter().sum::<usize>() + GAP * columns.len().saturating_sub(1)
}

/// Titles of groups, each with a rule over its columns.
fn titles(groups: &[Group], widths: &[usize]) -> Line {
    let (mut text, mut first) = (String::new(), 0);
    for group in groups {
        let end = first + group.columns.len();
        let width = width(&widths[first..end]);
        if first > 0 {
            text.push_str(&" ".repeat(GROUP_GAP));
        }
        let rest = width - length(group.title);
        text.push_str(group.title);
        let rule = match group.title.is_empty() || rest < 2 {
            true => " ".repeat(rest),
            false => format!(" {}", "─".repeat(rest - 1)),
        };
        text.push_str(&rule);
        first = end;
    }
    Line::plain(text.trim_end().to_owned()).in_style(Style::Dim)
}

fn line(groups: &[Group], widths: &[usize], cells: &[Cell]) -> Line {
    let mut line = Line::default();
    let mut column = 0;
    for (number, group) in groups.iter().enumerate() {
        for place in 0..group.columns.len() {
            let gap = match (number, place) {
                (0, 0) => 0,
                (_, 0) => GROUP_GAP,
                _ => GAP,
            };
            let cell = &cells[column];
            let pad = widths[column].saturating_sub(length(&cell.text));
            let (before, after) = match group.columns[place].words {
                true => (gap, pad),
                false => (gap + pad, 0),
            };
            line.push(&" ".repeat(before), Style::Plain);
            line.push(&cell.text, cell.style);
            line.push(&" ".repeat(after), Style::Plain);
            column += 1;
        }
    }
    line
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_titles_stand_over_theirs() {
        let groups = [
            numbers("", &["shard"]),
            numbers("in, a second", &["messages", "bytes"]),
            words("hottest", &["channel", "share"]),
        ];
        let row = |cells: [&str; 5]| cells.map(cell).to_vec();
        let rows = [
            row(["0", "1", "12 B", "acme/prod/readings", "100 %"]),
            row(["1", "312k", "45.1 MiB", "a", "1 %"]),
        ];
        let total = row(["all", "312k", "45.1 MiB", "", ""]);
        let shown: Vec<String> = lines(&groups, &rows, Some(&total))
            .iter()
            .map(Line::text)
            .collect();
        let want = [
            "        in, a second ─────   hottest ─────────────────",
            "shard   messages     bytes   channel             share",
            "    0          1      12 B   acme/prod/readings  100 %",
            "    1       312k  45.1 MiB   a                   1 %",
            "  all       312k  45.1 MiB",
        ];
        assert_eq!(shown, want);
    }
}
