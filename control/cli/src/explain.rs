//! `forebay explain CODE`: every code of every room.

use wire::diagnosis::Diagnosis;
use wire::reason::Reason;

use crate::diagnosis::UNKNOWN_CODE;
use crate::fault::Fault;

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
                println!("{}", serde_json::json!(entry));
            } else {
                println!("FB-{}  {}", entry.code, entry.name);
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
        println!("{}", serde_json::json!(entry));
    } else {
        println!(
            "FB-{} {}\n\n{}\n\nWhat to do: {}",
            entry.code, entry.name, entry.meaning, entry.remedy
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
        client::diagnosis::CODES,
        loadgen::diagnosis::CODES,
        crate::diagnosis::CODES,
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
        if !text.is_empty() {
            meaning.push_str(&format!("\nValue {word}: {text}."));
        }
    }
    meaning.push('\n');
    meaning.push_str(again);
    entry(reason.code(), known.name, &meaning, known.remedy)
}
