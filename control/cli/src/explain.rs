//! `forebay explain CODE`: every code of every room.

use wire::diagnosis::Diagnosis;
use wire::reason::Reason;

use crate::diagnosis::UNKNOWN_CODE;
use crate::fault::Fault;
use crate::say::say;

/// Arguments of `explain`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The code, as `FB-2102` or `2102`
    #[arg(required_unless_present = "all")]
    code: Option<String>,
    /// List every code
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is known about one code.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Entry {
    pub(crate) code: u16,
    pub(crate) name: String,
    pub(crate) meaning: String,
    pub(crate) remedy: String,
}

/// Explain one code, or list all.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    let entries = all();
    if args.all {
        for entry in &entries {
            if args.json {
                say!("{}", serde_json::json!(entry));
            } else {
                say!("FB-{}  {}", entry.code, entry.name);
            }
        }
        return Ok(0);
    }
    let asked = args.code.as_deref().unwrap_or_default();
    let Some(entry) =
        number(asked).and_then(|code| entries.iter().find(|entry| entry.code == code))
    else {
        return Err(unknown(asked, &entries).into());
    };
    if args.json {
        say!("{}", serde_json::json!(entry));
    } else {
        say!(
            "FB-{} {}\n\n{}\n\nWhat to do: {}",
            entry.code,
            entry.name,
            entry.meaning,
            entry.remedy
        );
    }
    Ok(0)
}

/// The number in `FB-2102`, `fb2102` or `2102`.
fn number(text: &str) -> Option<u16> {
    let text = text
        .trim()
        .trim_start_matches(['F', 'f'])
        .trim_start_matches(['B', 'b'])
        .trim_start_matches('-');
    text.parse().ok()
}

fn unknown(asked: &str, entries: &[Entry]) -> Diagnosis {
    let nearest = match number(asked) {
        Some(code) => entries.iter().min_by_key(|entry| entry.code.abs_diff(code)),
        None => {
            let name =
                control::nearest::nearest(asked, entries.iter().map(|entry| entry.name.as_str()));
            name.and_then(|name| entries.iter().find(|entry| entry.name == name))
        }
    };
    let remedy = match nearest {
        Some(entry) => format!("the nearest is FB-{} ({})", entry.code, entry.name),
        None => "`forebay explain --all` lists every code".to_owned(),
    };
    Diagnosis::new(
        UNKNOWN_CODE,
        "no such code",
        format!("`{asked}`"),
        "a code such as FB-2102",
        remedy,
    )
}

/// Every code of every room, by number.
pub(crate) fn all() -> Vec<Entry> {
    let mut entries: Vec<Entry> = Reason::ALL
        .iter()
        .map(|reason| of_reason(*reason))
        .collect();
    let rooms = [
        control::diagnosis::CODES,
        link::diagnosis::CODES,
        client::diagnosis::CODES,
        loadgen::diagnosis::CODES,
        crate::diagnosis::CODES,
        crate::diagnosis::STORAGE_CODES,
    ];
    for (code, name, meaning, remedy) in rooms.into_iter().flatten() {
        entries.push(entry(*code, name, meaning, remedy));
    }
    for (code, name, meaning) in node::diagnosis::CODES {
        entries.push(entry(
            *code,
            name,
            meaning,
            "do what the error line says behind the semicolon",
        ));
    }
    entries.sort_by_key(|entry| entry.code);
    entries
}

fn entry(code: u16, name: &str, meaning: &str, remedy: &str) -> Entry {
    Entry {
        code,
        name: name.to_owned(),
        meaning: meaning.to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn of_reason(reason: Reason) -> Entry {
    let known = reason.explanation();
    let again = if known.retryable {
        "The same request may succeed later."
    } else {
        "The same request will not succeed unchanged."
    };
    let mut meaning = known.meaning.to_owned();
    for (word, text) in [("seen", known.seen), ("needed", known.needed)] {
        if !matches!(text, "" | "0" | "-") {
            meaning.push_str(&format!("\nValue {word}: {text}."));
        }
    }
    meaning.push('\n');
    meaning.push_str(again);
    entry(reason.code(), known.name, &meaning, known.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("the workspace can be read") {
            let path = entry.expect("the workspace can be read").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if path.is_dir() && !["tests", "target", "fuzz", "examples"].contains(&name) {
                sources(&path, found);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }

    fn digits(text: &str) -> Option<u16> {
        let code: u16 = text.get(..4)?.parse().ok()?;
        let longer = text[4..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        (1_101..=5_999)
            .contains(&code)
            .then_some(code)
            .filter(|_| !longer)
    }

    /// The codes that one line of source names: `FB-1234`, a constant, a match arm, a line of its own.
    fn named(line: &str) -> Vec<u16> {
        let mut codes: Vec<u16> = line.split("FB-").skip(1).filter_map(digits).collect();
        let line = line.trim();
        let constant = line
            .split_once(": u16 = ")
            .map(|(_, value)| value)
            .filter(|_| line.contains("const "));
        let arm = line
            .split_once("=> ")
            .map(|(_, value)| value)
            .filter(|value| value.len() == 5 && value.ends_with(','));
        let alone = Some(line).filter(|line| line.len() == 5 && line.ends_with(','));
        codes.extend(
            [constant, arm, alone]
                .into_iter()
                .flatten()
                .filter_map(digits),
        );
        codes
    }

    #[test]
    fn every_code_in_the_sources_of_every_room_is_explained() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let known: BTreeSet<u16> = all().iter().map(|entry| entry.code).collect();
        let mut files = Vec::new();
        for room in ["dataplane", "control", "loadgen"] {
            sources(&root.join(room), &mut files);
        }
        let (mut seen, mut missing) = (0, Vec::new());
        for file in files {
            let text = std::fs::read_to_string(&file).expect("sources are text");
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (number, line) in text.lines().enumerate() {
                for code in named(line) {
                    seen += 1;
                    if !known.contains(&code) {
                        missing.push(format!("{}:{} FB-{code}", file.display(), number + 1));
                    }
                }
            }
        }
        assert!(seen > 100, "only {seen} codes found: the search is broken");
        assert!(missing.is_empty(), "not explained:\n{}", missing.join("\n"));
    }

    #[test]
    fn every_code_has_one_meaning_and_a_remedy() {
        let entries = all();
        for pair in entries.windows(2) {
            assert!(
                pair[0].code < pair[1].code,
                "FB-{} has two meanings",
                pair[1].code
            );
        }
        for entry in &entries {
            assert!(
                !entry.name.is_empty() && !entry.meaning.is_empty() && !entry.remedy.is_empty(),
                "FB-{}",
                entry.code
            );
        }
    }

    #[test]
    fn codes_are_read_in_every_form_people_type() {
        for text in ["FB-2102", "fb-2102", "FB2102", "2102", " 2102 "] {
            assert_eq!(number(text), Some(2102), "{text}");
        }
        assert_eq!(number("FB-21o2"), None);
    }

    #[test]
    fn an_unknown_code_or_a_name_gets_the_nearest() {
        let entries = all();
        let last = entries.iter().map(|entry| entry.code).max().expect("codes");
        let (beyond, last) = ((last + 5).to_string(), format!("FB-{last}"));
        for (asked, want) in [
            (beyond.as_str(), last.as_str()),
            ("bad_credentail", "FB-1104"),
            ("weather", "--all"),
        ] {
            assert!(unknown(asked, &entries).remedy.contains(want), "{asked}");
        }
    }
}
