//! Answers of the API as people read them: aligned columns, one line a value, and how far a change has come.

use std::collections::BTreeSet;

use serde_json::Value;

/// Columns that stand first, in this order.
const FIRST: [&str; 4] = ["number", "name", "channel", "id"];

/// A table of things: a column for each value that any of them has.
pub(super) fn rows(items: &[Value]) -> Vec<String> {
    let keys: BTreeSet<&String> = items
        .iter()
        .filter_map(Value::as_object)
        .flat_map(|item| item.keys())
        .collect();
    let first = FIRST
        .iter()
        .copied()
        .filter(|key| keys.iter().any(|one| one == key));
    let rest = keys.iter().map(|key| key.as_str());
    let rest = rest.filter(|key| !FIRST.contains(key));
    let columns: Vec<&str> = first.chain(rest).collect();
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|key| key.to_uppercase()).collect()];
    for item in items {
        lines.push(columns.iter().map(|key| cell(&item[*key])).collect());
    }
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max();
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| width(at).unwrap_or(0))
        .collect();
    let row = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    lines.iter().map(row).collect()
}

/// A line for each value of a thing.
pub(super) fn lines(value: &Value) -> Vec<String> {
    let Some(object) = value.as_object() else {
        return vec![cell(value)];
    };
    let width = object.keys().map(|key| key.len()).max().unwrap_or(0);
    let line = |(key, value): (&String, &Value)| match value.as_array() {
        Some(items) if items.iter().any(Value::is_object) => {
            let inner = items.iter().map(|item| format!("\n  {item}"));
            format!(
                "{key:<width$}  {}{}",
                items.len(),
                inner.collect::<String>()
            )
        }
        _ => format!("{key:<width$}  {}", cell(value)),
    };
    object.iter().map(line).collect()
}

/// A value in a few characters: lists of things by how many they are.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().any(Value::is_object) => items.len().to_string(),
        other => other.to_string(),
    }
}

/// `applied on 1/1 nodes, 8/8 shards in 4.1 ms`.
pub(super) fn progress(progress: &Value) -> Option<String> {
    let nodes = progress["nodes"].as_array()?;
    let sum = |key: &str| {
        nodes
            .iter()
            .filter_map(|node| node[key].as_u64())
            .sum::<u64>()
    };
    let done = nodes
        .iter()
        .filter(|node| node["applied"] == node["shards"])
        .count();
    Some(format!(
        "applied on {done}/{} nodes, {}/{} shards in {:.1} ms",
        nodes.len(),
        sum("applied"),
        sum("shards"),
        progress["milliseconds"].as_f64()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn things_of_different_values_share_their_columns() {
        let items = [
            json!({ "name": "a/e/x", "version": 3, "grants": [{}, {}] }),
            json!({ "name": "a/e/longer", "hub": "fast", "version": 12 }),
        ];
        let want = [
            "NAME        GRANTS  HUB   VERSION",
            "a/e/x       2       -     3",
            "a/e/longer  -       fast  12",
        ];
        assert_eq!(rows(&items), want);
    }

    #[test]
    fn progress_counts_nodes_and_shards() {
        let told = json!({ "milliseconds": 41.25, "nodes": [
            { "node": "one", "shards": 4, "applied": 4 }, { "node": "two", "shards": 4, "applied": 3 },
        ] });
        assert_eq!(
            progress(&told).as_deref(),
            Some("applied on 1/2 nodes, 7/8 shards in 41.2 ms")
        );
        assert_eq!(progress(&Value::Null), None);
    }
}
