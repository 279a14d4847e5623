//! What the TOML reader says, put into the words of a diagnosis: unknown keys get the nearest known one.

use wire::diagnosis::Diagnosis;

use crate::compile::did_you_mean;
use crate::diagnosis::{AMOUNT, MISSING_KEY, SYNTAX, UNKNOWN_KEY, VALUE};

/// The reader's `error`, without its place.
pub(super) fn diagnosis(error: &toml::de::Error, text: &str) -> Diagnosis {
    let seen = text.get(error.span().unwrap_or(0..0));
    let seen = seen.and_then(|seen| seen.lines().next()).unwrap_or("");
    of_message(error.message().trim(), seen)
}

/// What a reader says of a text in which it saw this.
pub(crate) fn of_message(message: &str, seen: &str) -> Diagnosis {
    let names = quoted(message);
    let first = names.first().copied().unwrap_or("");
    let rest = || names.iter().skip(1).copied();
    if message.starts_with("unknown field") {
        let known = rest().collect::<Vec<_>>().join(", ");
        let remedy = did_you_mean(first, rest(), "remove the line");
        Diagnosis::new(
            UNKNOWN_KEY,
            "a key is not known here",
            format!("`{first}`"),
            format!("one of {known}"),
            remedy,
        )
    } else if message.starts_with("missing field") {
        let remedy = format!("add `{first} = ...` to this table");
        Diagnosis::new(
            MISSING_KEY,
            "a key is missing",
            "nothing",
            format!("`{first}`"),
            remedy,
        )
    } else if message.starts_with("unknown variant") {
        let known = rest()
            .map(|name| format!("\"{name}\""))
            .collect::<Vec<_>>()
            .join(" or ");
        let remedy = did_you_mean(first, rest(), "choose one of these values");
        Diagnosis::new(
            VALUE,
            "a value is not in its list",
            format!("\"{first}\""),
            known,
            remedy,
        )
    } else if message.starts_with("amount ") {
        let needed = message
            .split_once("expected ")
            .map_or("an amount", |(_, needed)| needed);
        let remedy = "write the number and its unit together, in quotes";
        Diagnosis::new(
            AMOUNT,
            "an amount cannot be read",
            format!("\"{first}\""),
            needed,
            remedy,
        )
    } else {
        let seen = if seen.is_empty() {
            "the end of the line".to_owned()
        } else {
            format!("`{seen}`")
        };
        Diagnosis::new(
            SYNTAX,
            "the plan cannot be read",
            seen,
            message.replace('\n', "; "),
            "correct this line",
        )
    }
}

/// The texts between back quotes in `message`.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}
