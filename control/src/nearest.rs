//! The nearest known name to one that is not known, for every message that says "did you mean".

/// Longest text that may be meant for a name.
const SEEN_BYTES_MAX: usize = 300;

/// The candidate with the fewest edits to `seen`, if it is near enough to be meant.
///
/// An edit is one character put in, left out or replaced, or two neighbours swapped. At most a third of the
/// longer name (and at least two edits) may differ; the first of equally near candidates wins.
pub fn nearest<'a>(seen: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    // What is longer than every name is none of them misspelt, and would cost the square of its length.
    if seen.len() > SEEN_BYTES_MAX {
        return None;
    }
    let length = seen.chars().count();
    for candidate in candidates {
        let other = candidate.chars().count();
        let limit = (length.max(other) / 3).max(2);
        // Each edit makes one character more or less at most.
        if length.abs_diff(other) > limit {
            continue;
        }
        let edits = edits(seen, candidate);
        if edits <= limit && best.is_none_or(|(fewest, _)| edits < fewest) {
            best = Some((edits, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance.
fn edits(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut rows: [Vec<usize>; 3] = [Vec::new(), (0..=to.len()).collect(), Vec::new()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut fewest = replaced.min(rows[1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                fewest = fewest.min(rows[0][j - 2] + 1);
            }
            row.push(fewest);
        }
        rows[0] = std::mem::take(&mut rows[1]);
        rows[1] = row;
    }
    rows[1][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let names = ["partitions", "segment_bytes", "ack", "hub"];
        for (seen, want) in [
            ("partition", Some("partitions")),
            ("segmnet_bytes", Some("segment_bytes")),
            ("akc", Some("ack")),
            ("hub", Some("hub")),
            ("weather", None),
            ("", None),
            (&"hub".repeat(101), None),
        ] {
            let got = nearest(seen, names);
            if seen.is_empty() {
                assert_ne!(got, Some("partitions"));
            } else {
                assert_eq!(got, want, "{seen}");
            }
        }
    }
}
