//! `forebay token new`.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Subcommand, ValueEnum};
use control::quantity::{parse_age, show_moment};
use wire::diagnosis::Diagnosis;
use wire::ids::Direction;

use crate::diagnosis::ARGUMENT;
use crate::fault::Fault;
use crate::project::{PlanArgs, endpoint, key};
use crate::say::say;

/// Arguments of `token`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a token with which an endpoint can open sessions until it expires
    New(NewArgs),
}

#[derive(clap::Args)]
struct NewArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// The endpoint, by full name or by its last part
    #[arg(long)]
    endpoint: String,
    /// What the token shall open
    #[arg(long, value_enum, default_value_t = Way::Ingress)]
    direction: Way,
    /// Name of the key to sign with; the first active one unless given
    #[arg(long)]
    key: Option<String>,
    /// How long it shall be good
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    valid: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    Ingress,
    Egress,
}

/// Mint a token from a key of the plan.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    let Command::New(args) = &args.command;
    let table = args.plan.table()?;
    let endpoint = endpoint(&table, &args.endpoint)?;
    let direction = match args.direction {
        Way::Ingress => Direction::Ingress,
        Way::Egress => Direction::Egress,
    };
    let (key, secret) = key(&endpoint, args.key.as_deref(), direction)?;
    let valid = parse_age(&args.valid).map_err(|needed| {
        Diagnosis::new(
            ARGUMENT,
            "--valid cannot be read",
            format!("`{}`", args.valid),
            needed,
            "use --valid 1h",
        )
    })?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let expires = now.saturating_add(valid.as_secs());
    let token = control::token::mint(endpoint.name(), key.name(), secret.text(), expires, now)?;
    if args.json {
        let at = show_moment(expires);
        say!(
            "{}",
            serde_json::json!({ "endpoint": endpoint.name(), "key": key.name(), "expires": at, "token": token })
        );
    } else {
        say!("{token}");
    }
    Ok(0)
}
