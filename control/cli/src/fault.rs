//! How this program fails: one line per diagnosis on stderr, or one JSON object, and an exit code.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use wire::diagnosis::Diagnosis;

use crate::diagnosis::{OUTPUT, USAGE};
use crate::say::say;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Fault {
    /// What is wrong; empty only when the reader of the output went away.
    pub(crate) found: Vec<Diagnosis>,
    /// The exit code.
    pub(crate) exit: u8,
}

impl From<Diagnosis> for Fault {
    /// Wrong use and configuration exit with 2, everything else with 1.
    fn from(diagnosis: Diagnosis) -> Self {
        Self::from(vec![diagnosis])
    }
}

impl From<Vec<Diagnosis>> for Fault {
    fn from(found: Vec<Diagnosis>) -> Self {
        let misused = found.iter().all(|diagnosis| is_misuse(diagnosis.code));
        let exit = if misused { 2 } else { 1 };
        Self { found, exit }
    }
}

/// Whether whoever asked is to ask otherwise: the codes of configuration and its like, 2xxx, without those of what the disk, other callers
/// and mistakes of ours bring about.
fn is_misuse(code: u16) -> bool {
    use control::diagnosis as codes;
    let environment = [
        codes::STORE_FAILED,
        codes::STORE_IN_USE,
        codes::STORE_DAMAGED,
        codes::AUDIT_BROKEN,
        codes::BACKUP_EXISTS,
        codes::CHANGED_MEANWHILE,
        codes::API_BROKEN,
        codes::API_FAILED,
    ];
    code / 1_000 == 2 && !environment.contains(&code)
}

impl Fault {
    /// Print and give the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        if json {
            let errors: Vec<serde_json::Value> = self.found.iter().map(as_json).collect();
            say!("{}", serde_json::json!({ "errors": errors }));
        }
        for diagnosis in &self.found {
            eprintln!("forebay: {diagnosis}");
        }
        ExitCode::from(self.exit)
    }
}

/// The five parts of a diagnosis.
pub(crate) fn as_json(diagnosis: &Diagnosis) -> serde_json::Value {
    serde_json::json!({
        "code": format!("FB-{}", diagnosis.code),
        "what": diagnosis.what,
        "seen": diagnosis.seen,
        "needed": diagnosis.needed,
        "remedy": diagnosis.remedy,
    })
}

/// What the argument reader says, as a diagnosis.
pub(crate) fn usage(error: &clap::Error) -> Fault {
    let text = error.to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Diagnosis::new(
            USAGE,
            "there is no command",
            "nothing",
            usage_line(&text),
            "see --help, or begin with `forebay quickstart`",
        )
        .into();
    }
    let first = text
        .lines()
        .next()
        .unwrap_or("")
        .trim_start_matches("error: ")
        .to_owned();
    let of = |kind| error.get(kind).map(show);
    let seen = of(ContextKind::InvalidValue)
        .filter(|value| !value.is_empty())
        .or_else(|| of(ContextKind::InvalidSubcommand))
        .or_else(|| of(ContextKind::InvalidArg))
        .unwrap_or_else(|| "nothing".to_owned());
    let needed = of(ContextKind::ValidValue)
        .or_else(|| of(ContextKind::ValidSubcommand))
        .filter(|value| !value.is_empty())
        .unwrap_or_else(|| usage_line(&text));
    let suggested = of(ContextKind::SuggestedArg)
        .or_else(|| of(ContextKind::SuggestedSubcommand))
        .or_else(|| of(ContextKind::SuggestedValue));
    let remedy = suggested.map_or_else(
        || "see --help".to_owned(),
        |name| format!("did you mean `{name}`?"),
    );
    Fault {
        found: vec![Diagnosis::new(
            USAGE,
            first,
            format!("`{seen}`"),
            needed,
            remedy,
        )],
        exit: 2,
    }
}

/// The usage line of a message, which says what is needed.
fn usage_line(text: &str) -> String {
    let usage = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Usage: "));
    let tip = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("[possible values: "));
    match (tip, usage) {
        (Some(values), _) => values.trim_end_matches(']').to_owned(),
        (None, Some(usage)) => format!("`{usage}`"),
        (None, None) => "a value of that kind".to_owned(),
    }
}

fn show(value: &ContextValue) -> String {
    value.to_string()
}

/// Standard output failed; a reader that went away is no failure.
pub(crate) fn output(error: &std::io::Error) -> Fault {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return Fault {
            found: Vec::new(),
            exit: 0,
        };
    }
    Diagnosis::new(
        OUTPUT,
        "standard output cannot be written",
        error.to_string(),
        "an open, writable output",
        "check the disk or the pipe",
    )
    .into()
}
