//! `forebay account|env|hub|channel|endpoint ls|show|create|set|delete`, and what else asks the API.

pub(crate) mod ask;
pub(crate) mod backup;
pub(crate) mod bulk;
pub(crate) mod context;
pub(crate) mod document;
pub(crate) mod grant;
pub(crate) mod keys;
mod lines;
mod place;
mod report;
mod table;
pub(crate) mod tokens;
mod value;

use clap::Subcommand;
use serde_json::{Value, json};
use wire::diagnosis::Diagnosis;

use crate::diagnosis::{ARGUMENT, CODES, NOT_APPLIED};
use crate::fault::Fault;
use crate::say::say;
use ask::{ApiArgs, path};

/// What may be defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noun {
    /// Who owns.
    Account,
    /// Where it runs.
    Environment,
    /// A set of partitions.
    Hub,
    /// What a route leads to.
    Channel,
    /// The boundary of one outside party.
    Endpoint,
    /// Where endpoints are served.
    Node,
}

/// Arguments of a noun.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

/// What may be done to things of a noun.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List those within an account or environment
    Ls {
        /// What they belong to, such as `acme/prod`; nothing for accounts
        within: Option<String>,
        /// Print names alone
        #[arg(long)]
        names: bool,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Show one
    Show {
        /// Its full name
        name: String,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Make one
    Create {
        /// Its full name
        name: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Change one
    Set {
        /// Its full name
        name: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Delete one
    Delete {
        /// Its full name
        name: String,
        /// Delete everything within it, too
        #[arg(long)]
        cascade: bool,
        #[command(flatten)]
        wait: WaitArgs,
        #[command(flatten)]
        api: ApiArgs,
    },
}

/// Values, and how to ask.
#[derive(clap::Args)]
pub(crate) struct ChangeArgs {
    /// Values, `KEY=VALUE`; a dot leads into a table, nothing behind `=` takes a value away
    values: Vec<String>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// Whether to wait for the nodes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WaitArgs {
    /// Wait until every shard of every node has it, at most so long
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "10s")]
    wait: Option<String>,
}

impl WaitArgs {
    /// The query that asks for it, behind `first`.
    pub(crate) fn query(&self, first: char) -> String {
        let wait = self.wait.as_deref().map(ask::escape);
        wait.map_or_else(String::new, |wait| format!("{first}wait={wait}"))
    }
}

impl Noun {
    const fn plural(self) -> &'static str {
        match self {
            Self::Account => "accounts",
            Self::Environment => "environments",
            Self::Hub => "hubs",
            Self::Channel => "channels",
            Self::Endpoint => "endpoints",
            Self::Node => "nodes",
        }
    }

    /// Parts of a full name.
    const fn depth(self) -> usize {
        match self {
            Self::Account | Self::Node => 1,
            Self::Environment => 2,
            Self::Hub | Self::Channel | Self::Endpoint => 3,
        }
    }

    /// The path of one.
    pub(crate) fn path(self, name: &str) -> Result<String, Fault> {
        let parts: Vec<&str> = name.split('/').collect();
        match (parts.len() == self.depth(), &parts[..]) {
            (true, [name]) => Ok(path(&[self.plural(), name])),
            (true, [account, environment]) => {
                Ok(path(&["accounts", account, "environments", environment]))
            }
            (true, [account, environment, name]) => {
                let own = ["accounts", account, "environments", environment];
                Ok(path(&[&own[..], &[self.plural(), name]].concat()))
            }
            _ => {
                let what = "a name has another number of parts";
                let needed = ["a name", "account/environment", "account/environment/name"];
                let needed = needed[self.depth() - 1];
                Err(
                    Diagnosis::from_table(CODES, ARGUMENT, what, format!("`{name}`"), needed)
                        .into(),
                )
            }
        }
    }

    /// The path of all within.
    fn collection(self, within: Option<&str>) -> Result<String, Fault> {
        let parts = within.map_or(0, |within| within.split('/').count());
        if parts + 1 != self.depth() {
            let what = "what is listed has another place";
            let seen = within.map_or("nothing".to_owned(), |within| format!("`{within}`"));
            let needed = ["nothing", "an account", "account/environment"][self.depth() - 1];
            return Err(Diagnosis::from_table(CODES, ARGUMENT, what, seen, needed).into());
        }
        let name = match within {
            None => "x".to_owned(),
            Some(within) => format!("{within}/x"),
        };
        let one = self.path(&name)?;
        Ok(one.trim_end_matches("/x").to_owned())
    }
}

/// Ask or change.
pub(crate) fn run(noun: Noun, args: &Args) -> Result<u8, Fault> {
    run_command(noun, &args.command)
}

fn run_command(noun: Noun, command: &Command) -> Result<u8, Fault> {
    match command {
        Command::Ls { within, names, api } => {
            let items = api.all(&noun.collection(within.as_deref())?)?;
            list(&items, *names, api.json);
        }
        Command::Show { name, api } => {
            let value = api.ask("GET", &noun.path(name)?, None)?;
            show(&value, api.json);
        }
        Command::Create { name, change } => create(noun, name, change)?,
        Command::Set { name, change } => set(noun, name, change)?,
        Command::Delete {
            name,
            cascade,
            wait,
            api,
        } => {
            let path = format!("{}?cascade={cascade}{}", noun.path(name)?, wait.query('&'));
            let done = api.ask("DELETE", &path, None)?;
            changed(&done, &format!("{name} is deleted"), api.json)?;
        }
    }
    Ok(0)
}

/// Make one.
pub(crate) fn create(noun: Noun, name: &str, change: &ChangeArgs) -> Result<(), Fault> {
    let mut body = value::object(&change.values)?;
    body["name"] = name.into();
    let within = name.rsplit_once('/').map(|(within, _)| within);
    // A name of the wrong depth is refused before anybody is asked.
    noun.path(name)?;
    let path = format!("{}{}", noun.collection(within)?, change.wait.query('?'));
    let done = change.api.ask("POST", &path, Some(&body))?;
    changed(&done, &format!("{name} is defined"), change.api.json)
}

/// Change one.
pub(crate) fn set(noun: Noun, name: &str, change: &ChangeArgs) -> Result<(), Fault> {
    let body = value::object(&change.values)?;
    let path = format!("{}{}", noun.path(name)?, change.wait.query('?'));
    let done = change.api.ask("PATCH", &path, Some(&body))?;
    changed(&done, &format!("{name} is changed"), change.api.json)
}

/// Print a list.
pub(crate) fn list(items: &[Value], names: bool, as_json: bool) {
    if as_json {
        say!("{}", json!({ "items": items }));
    } else if names {
        let names = items.iter().filter_map(|item| item["name"].as_str());
        names.for_each(|name| say!("{name}"));
    } else {
        table::rows(items).iter().for_each(|row| say!("{row}"));
    }
}

/// Print one thing.
pub(crate) fn show(value: &Value, as_json: bool) {
    if as_json {
        say!("{value}");
    } else {
        table::lines(value).iter().for_each(|line| say!("{line}"));
    }
}

/// Print what a change came to: what is done, on how many nodes and shards, after how long.
///
/// # Errors
/// When it was to be waited for and a node has not got it.
pub(crate) fn changed(done: &Value, what: &str, as_json: bool) -> Result<(), Fault> {
    let progress = &done["progress"];
    match table::progress(progress) {
        _ if as_json => say!("{done}"),
        Some(progress) => say!("{what}, version {}; {progress}", done["version"]),
        None => say!("{what}, version {}", done["version"]),
    }
    match progress["complete"] == false {
        true => Err(behind(progress).into()),
        false => Ok(()),
    }
}

/// A change that holds, and that not every node has.
fn behind(progress: &Value) -> Diagnosis {
    let nodes = progress["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let late = nodes
        .iter()
        .filter(|node| node["applied"] != node["shards"]);
    let late: Vec<&str> = late.filter_map(|node| node["node"].as_str()).collect();
    let what = "the change is made, and not every node has it";
    let seen = format!("without it: {}", late.join(", "));
    Diagnosis::from_table(CODES, NOT_APPLIED, what, seen, "every shard of every node")
}
