//! `forebay keys new`, and keys of endpoints.

use clap::{Subcommand, ValueEnum};

use crate::fault::Fault;
use crate::say::say;

/// Arguments of `keys`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a new key; what goes into the plan is named as the plan names it
    New {
        /// Shared secret, or a pair whose private half never leaves the sender
        #[arg(long, value_enum, default_value_t = Kind::HmacSha256)]
        kind: Kind,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Of(Box<crate::define::keys::Command>),
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    HmacSha256,
    Ed25519,
}

/// Make a key and print it once, or do something to one of an endpoint.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    let (kind, json) = match &args.command {
        Command::New { kind, json } => (kind, json),
        Command::Of(command) => return crate::define::keys::run(command),
    };
    match (kind, json) {
        (Kind::HmacSha256, false) => {
            say!("secret = \"{}\"", control::keys::new_secret().text())
        }
        (Kind::HmacSha256, true) => {
            say!(
                "{}",
                serde_json::json!({ "kind": "hmac-sha256", "secret": control::keys::new_secret().text() })
            );
        }
        (Kind::Ed25519, json) => {
            let pair = control::keys::new_pair();
            if *json {
                say!(
                    "{}",
                    serde_json::json!({ "kind": "ed25519", "public": pair.public, "private": pair.private })
                );
            } else {
                say!(
                    "kind = \"ed25519\"\npublic = \"{}\"\n# keep at the sender: private = \"{}\"",
                    pair.public,
                    pair.private
                );
            }
        }
    }
    Ok(0)
}
