//! What every measurement of a real node needs: scenarios by their names, one figure a line, the node in a process of its own, what
//! that uses, and what its connections cost while they say nothing.

pub(crate) mod idle;
pub(crate) mod node;
pub(crate) mod process;

/// One figure, one line.
pub(crate) fn tell(what: &str, value: f64, unit: &str) {
    println!("{{\"what\":\"{what}\",\"value\":{value:.4},\"unit\":\"{unit}\"}}");
}

/// A name, and what runs when it is asked for.
pub(crate) type Scenario = (&'static str, fn());
/// The name of another part of a measurement, which is a process of its own, and what that does with the words behind it.
pub(crate) type Part = (&'static str, fn(&[String]));

/// Be the part that the first word names, or run the scenarios that words name; without words all of them.
pub(crate) fn run(scenarios: &[Scenario], parts: &[Part]) {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let first = words.first().map(String::as_str);
    if let Some((_, part)) = parts.iter().find(|(name, _)| Some(*name) == first) {
        return part(&words[1..]);
    }
    if !words.iter().any(|word| word == "--bench") {
        // `cargo test --benches` builds and starts this too; there is nothing to test.
        return;
    }
    let asked: Vec<&str> = (words.iter().map(String::as_str))
        .filter(|word| !word.starts_with('-'))
        .collect();
    for word in &asked {
        let known = scenarios.iter().any(|(name, _)| name == word);
        assert!(known, "no scenario {word:?}");
    }
    for (name, run) in scenarios {
        if asked.is_empty() || asked.contains(name) {
            run();
        }
    }
}
