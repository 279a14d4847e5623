//! `forebay endpoint import`: many endpoints from a file, in transactions of many each, and a report with the keys that were made.
//!
//! The report is written before anything is asked for: what it says of an endpoint is what that endpoint gets, however often the import
//! is cut off and begun again. An endpoint that is there already is left as it is, and an import that would change one is refused.

use std::path::PathBuf;

use clap::Subcommand;
use control::keys::new_secret;
use serde_json::{Map, Value, json};
use wire::diagnosis::Diagnosis;

use super::ask::ApiArgs;
use super::lines::Lines;
use super::report::{Entry, Report};
use super::{Noun, WaitArgs, changed};
use crate::diagnosis::{BULK_FILE, CODES};
use crate::fault::Fault;

/// Arguments of `endpoint`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make many from a file, with keys of their own; goes on where it was cut off
    Import(ImportArgs),
    #[command(flatten)]
    One(super::Command),
}

#[derive(clap::Args)]
struct ImportArgs {
    /// The endpoints: a JSON object a line, or, in a file named *.csv, a row each behind one of names such as `name,queue.lock`
    file: PathBuf,
    /// The environment of names without one, such as `acme/prod`
    #[arg(long, value_name = "ACCOUNT/ENVIRONMENT")]
    within: Option<String>,
    /// What they have in common: a TOML file of an endpoint without its name; what a line says itself comes before it
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Where to write names and keys as they are made, for its owner alone; an import goes on from its own report
    #[arg(long, value_name = "FILE")]
    report: PathBuf,
    /// Endpoints in one transaction
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    chunk: u32,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// Import, or do something to one.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    match &args.command {
        Command::Import(args) => import(args),
        Command::One(command) => super::run_command(Noun::Endpoint, command),
    }
}

fn import(args: &ImportArgs) -> Result<u8, Fault> {
    let template = template(args)?;
    let mut lines = Lines::open(&args.file)?;
    let mut report = Report::open(&args.report)?;
    let (mut read, mut made) = (0, 0);
    loop {
        let mut chunk = Vec::new();
        while chunk.len() < args.chunk as usize {
            let Some(line) = lines.next() else { break };
            let (number, line) = line?;
            let value = endpoint(line, &template, args.within.as_deref());
            let mut value = value.map_err(|fault| at(fault, &args.file, number))?;
            let entry = entry(&mut value);
            let entry = entry.map_err(|fault| at(fault, &args.file, number))?;
            read += 1;
            let known = report.known(entry)?;
            use_keys(&mut value, &known);
            // What is behind a `done` of the report is in the store.
            if read > report.done() {
                chunk.push(value);
            }
        }
        if chunk.is_empty() {
            break;
        }
        report.keep()?;
        made += chunk.len();
        let body = json!({ "document": { "endpoints": chunk }, "create": true });
        let told = args.api.ask("POST", "/v1/apply", Some(&body))?;
        report.finish(read)?;
        if !args.api.json {
            eprintln!("{read} endpoints, version {}", told["version"]);
        }
    }
    let body = json!({ "document": {} });
    let path = format!("/v1/apply{}", args.wait.query('?'));
    let mut told = args.api.ask("POST", &path, Some(&body))?;
    told["endpoints"] = read.into();
    told["sent"] = made.into();
    let what = format!(
        "{read} endpoints of {} are defined, {made} of them sent now; keys in {}",
        args.file.display(),
        args.report.display()
    );
    changed(&told, &what, args.api.json)?;
    Ok(0)
}

/// What all of them have in common.
fn template(args: &ImportArgs) -> Result<Value, Fault> {
    let Some(path) = &args.template else {
        return Ok(json!({}));
    };
    let unread = |seen: String| {
        let what = format!("template {} cannot be read", path.display());
        let needed = "the values of an endpoint in TOML, without its name";
        Diagnosis::from_table(CODES, BULK_FILE, what, seen, needed)
    };
    let text = std::fs::read_to_string(path).map_err(|error| unread(error.to_string()))?;
    // Not the text around it, which may be a secret.
    let template = toml::from_str(&text).map_err(|error: toml::de::Error| {
        let before = &text[..error.span().map_or(0, |span| span.start)];
        let line = before.matches('\n').count() + 1;
        unread(format!("line {line}: {}", error.message()))
    });
    let template: Value = template?;
    match template.get("name") {
        None => Ok(template),
        Some(name) => Err(unread(format!("`name = {name}`")).into()),
    }
}

fn at(fault: Diagnosis, file: &std::path::Path, number: u64) -> Diagnosis {
    let what = format!("{} line {number}: {}", file.display(), fault.what);
    Diagnosis { what, ..fault }
}

fn refuse(what: &str, seen: String, needed: &str) -> Diagnosis {
    Diagnosis::from_table(CODES, BULK_FILE, what, seen, needed)
}

/// The endpoint that a line means: over the template, by its full name.
fn endpoint(line: Value, template: &Value, within: Option<&str>) -> Result<Value, Diagnosis> {
    let mut value = template.clone();
    merge(&mut value, line);
    let name = match value["name"].as_str() {
        Some(name) => name,
        None => return Err(refuse("no name", kind(&value["name"]).to_owned(), "`name`")),
    };
    let full = match (name.contains('/'), within) {
        (false, Some(within)) => format!("{within}/{name}"),
        _ => name.to_owned(),
    };
    value["name"] = full.into();
    Ok(value)
}

/// Tables within tables are merged, anything else is replaced.
fn merge(target: &mut Value, over: Value) {
    match (target, over) {
        (Value::Object(target), Value::Object(over)) => {
            for (key, value) in over {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, over) => *target = over,
    }
}

/// Name and keys of an endpoint, with what its file leaves open filled in: numbers, names and secrets.
fn entry(endpoint: &mut Value) -> Result<Entry, Diagnosis> {
    let name = endpoint["name"].as_str().unwrap_or_default().to_owned();
    let Some(keys) = endpoint.get_mut("keys") else {
        let keys = Vec::new();
        return Ok(Entry { name, keys });
    };
    // What they are and not what they hold, which is secrets.
    let malformed =
        |seen: String| refuse("keys are no list of tables", seen, "[{direction = ...}]");
    let seen = kind(keys);
    let list = keys.as_array_mut();
    let mut made = Vec::new();
    for (id, key) in (1u64..).zip(list.ok_or_else(|| malformed(seen.to_owned()))?) {
        let seen = kind(key);
        let key = key.as_object_mut();
        let key = key.ok_or_else(|| malformed(format!("{seen} as number {id} of the list")))?;
        fill(key, id);
        made.push(Value::Object(key.clone()));
    }
    Ok(Entry { name, keys: made })
}

/// What a value is, without what it holds.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

fn fill(key: &mut Map<String, Value>, id: u64) {
    let direction = key.get("direction").and_then(Value::as_str);
    let name = format!("{}-{id}", direction.unwrap_or("key"));
    key.entry("id").or_insert(id.into());
    key.entry("name").or_insert(name.into());
    if !key.contains_key("public") {
        let secret = || Value::from(new_secret().text());
        key.entry("secret").or_insert_with(secret);
    }
}

/// What the report says the keys are.
fn use_keys(endpoint: &mut Value, known: &Entry) {
    if !known.keys.is_empty() {
        endpoint["keys"] = Value::Array(known.keys.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_before_the_template_and_names_get_their_environment() {
        let template = json!({ "queue": { "lock": "30s", "messages_max": 5 }, "grants": [{}] });
        let line = json!({ "name": "x", "queue": { "lock": "1m" }, "grants": [] });
        let made = endpoint(line, &template, Some("a/e")).expect("good");
        let want =
            json!({ "name": "a/e/x", "queue": { "lock": "1m", "messages_max": 5 }, "grants": [] });
        assert_eq!(made, want);
        assert_eq!(
            endpoint(json!({}), &template, None)
                .expect_err("nameless")
                .code,
            BULK_FILE
        );
    }

    #[test]
    fn keys_get_what_their_file_leaves_open() {
        let keys = json!([{ "direction": "ingress" }, { "id": 7, "name": "own", "direction": "egress", "public": "x" }]);
        let mut value = json!({ "name": "a/e/x", "keys": keys });
        let entry = entry(&mut value).expect("good");
        assert_eq!(entry.keys[0]["name"], "ingress-1");
        assert_eq!(entry.keys[0]["secret"].as_str().map(str::len), Some(44));
        assert_eq!(entry.keys[1], keys_of(&value)[1]);
        assert!(entry.keys[1].get("secret").is_none());
    }

    fn keys_of(value: &Value) -> &Vec<Value> {
        value["keys"].as_array().expect("a list")
    }
}
