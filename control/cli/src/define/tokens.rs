//! `forebay tokens ls|create|delete`: who may ask the API, and what.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use control::model::{self, Moment, Token};
use control::service::Caller;
use serde_json::{Value, json};
use wire::diagnosis::Diagnosis;

use super::ask::{ApiArgs, path};
use super::{changed, list, show};
use crate::diagnosis::{CODES, NO_PLAN};
use crate::fault::Fault;
use crate::project::{Project, Source};
use crate::say::say;

/// Arguments of `tokens`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the tokens
    Ls {
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Show a token, without its text
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Make a token; it is shown once
    Create {
        /// Its name
        name: String,
        /// What its bearer may do
        #[arg(long, value_enum)]
        role: Role,
        /// In which account; in all of them unless given
        #[arg(long)]
        account: Option<String>,
        /// When it ends, such as 2027-01-31T00:00:00Z
        #[arg(long, value_name = "MOMENT")]
        expires: Option<String>,
        /// Write to the store of a control plane that does not run: for whoever has no token any more
        #[arg(long)]
        offline: bool,
        /// The configuration that names that store
        #[arg(
            long,
            value_name = "FILE",
            default_value = "forebay.toml",
            requires = "offline"
        )]
        config: PathBuf,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Forget a token: it opens nothing from then on
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        api: ApiArgs,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// Looks
    Viewer,
    /// Revokes, restores and rotates keys, switches endpoints on and off
    Operator,
    /// Defines everything within an account
    Admin,
    /// Accounts and tokens, too
    Owner,
}

impl Role {
    fn of(self) -> model::Role {
        match self {
            Self::Viewer => model::Role::Viewer,
            Self::Operator => model::Role::Operator,
            Self::Admin => model::Role::Admin,
            Self::Owner => model::Role::Owner,
        }
    }
}

/// Make a token in a store that no process has open.
fn create_offline(config: &Path, token: Token) -> Result<Value, Fault> {
    let Source::Control(files, _) = Project::read(config)?.source else {
        let (what, seen) = ("there is no store to write to", "no [control]");
        let (code, needed) = (NO_PLAN, "a configuration with [control]");
        return Err(Diagnosis::from_table(CODES, code, what, seen, needed).into());
    };
    let service = crate::control::offline(&files)?;
    let made = service.create_token(&Caller::local(), token);
    let (text, done) = made.map_err(crate::control::faults)?;
    Ok(json!({ "token": *text, "version": done.version }))
}

/// Ask or change.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    match &args.command {
        Command::Ls { api } => list(&api.all("/v1/tokens")?, false, api.json),
        Command::Show { name, api } => {
            let value = api.ask("GET", &path(&["tokens", name]), None)?;
            show(&value, api.json);
        }
        Command::Create {
            name,
            role,
            account,
            expires,
            offline,
            config,
            api,
        } => {
            let token = Token {
                name: name.clone(),
                role: role.of(),
                account: account.clone(),
                hash: String::new(),
                expires: expires.as_deref().map(Moment::new),
            };
            let done = if *offline {
                create_offline(config, token)?
            } else {
                let body = json!({ "name": name, "role": token.role, "account": account, "expires": expires });
                api.ask("POST", "/v1/tokens", Some(&body))?
            };
            if api.json {
                say!("{done}");
            } else {
                say!("{}", done["token"].as_str().unwrap_or(""));
            }
        }
        Command::Delete { name, api } => {
            let done = api.ask("DELETE", &path(&["tokens", name]), None)?;
            changed(&done, &format!("token `{name}` is forgotten"), api.json)?;
        }
    }
    Ok(0)
}
