//! `forebay tokens ls|create|delete`: who may ask the API, and what.

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::ask::{ApiArgs, path};
use super::{changed, list, show};
use crate::fault::Fault;
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
            api,
        } => {
            let role = match role {
                Role::Viewer => "viewer",
                Role::Operator => "operator",
                Role::Admin => "admin",
                Role::Owner => "owner",
            };
            let body =
                json!({ "name": name, "role": role, "account": account, "expires": expires });
            let done = api.ask("POST", "/v1/tokens", Some(&body))?;
            if api.json {
                say!("{done}");
            } else {
                say!("{}", done["token"].as_str().unwrap_or(""));
            }
        }
        Command::Delete { name, api } => {
            let done = api.ask("DELETE", &path(&["tokens", name]), None)?;
            changed(&done, &format!("token `{name}` is forgotten"), api.json);
        }
    }
    Ok(0)
}
