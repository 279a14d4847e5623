//! `forebay grant` and `forebay subscription`: what an endpoint may send to and receive from, and what comes to its queue.

use clap::{Subcommand, ValueEnum};
use control::diagnosis::FOREIGN;
use serde_json::{Value, json};
use wire::diagnosis::Diagnosis;

use super::ask::{ApiArgs, escape};
use super::{Noun, WaitArgs, changed, list, show, value};
use crate::fault::Fault;
use crate::say::say;

/// Arguments of `grant`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the grants of an endpoint
    Ls {
        /// The endpoint's full name
        endpoint: String,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Show a grant
    Show {
        #[command(flatten)]
        grant: GrantArgs,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Permit something that is not yet, under conditions
    Create(PermitArgs),
    /// Permit something, under conditions; what was permitted before is replaced
    Set(PermitArgs),
    /// Permit it no longer
    Delete {
        #[command(flatten)]
        grant: GrantArgs,
        #[command(flatten)]
        wait: WaitArgs,
        #[command(flatten)]
        api: ApiArgs,
    },
}

#[derive(clap::Args)]
struct PermitArgs {
    #[command(flatten)]
    grant: GrantArgs,
    /// Conditions, such as `addresses=["10.0.0.0/8"]` or `messages_per_second=100`
    values: Vec<String>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(clap::Args)]
struct GrantArgs {
    /// The endpoint's full name
    endpoint: String,
    /// What is permitted
    #[arg(value_enum)]
    allow: Allow,
    /// The channel's full name, or its last part in the endpoint's own environment
    channel: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Allow {
    Send,
    Receive,
}

impl GrantArgs {
    fn path(&self, collection: &str) -> Result<String, Fault> {
        let allow = match self.allow {
            Allow::Send => "send",
            Allow::Receive => "receive",
        };
        path_of(collection, &self.endpoint, allow, &self.channel)
    }
}

impl PermitArgs {
    fn permit(&self, condition: &str) -> Result<(), Fault> {
        let body = value::object(&self.values)?;
        let path = format!("{}{}", self.grant.path("grants")?, self.wait.query('?'));
        let done = self.api.ask_with("PUT", &path, condition, Some(&body))?;
        let GrantArgs {
            endpoint, channel, ..
        } = &self.grant;
        let what = format!("{endpoint} has the grant for {channel}");
        changed(&done, &what, self.api.json)
    }
}

/// The path of a grant. A channel of another environment of the account is written `environment:channel` there.
fn grant_path(endpoint: &str, allow: &str, channel: &str) -> Result<String, Fault> {
    path_of("grants", endpoint, allow, channel)
}

/// The same of another collection of the endpoint.
fn path_of(collection: &str, endpoint: &str, allow: &str, channel: &str) -> Result<String, Fault> {
    let parts: Vec<&str> = channel.split('/').collect();
    let channel = match parts[..] {
        [account, environment, channel] if endpoint.split('/').next() == Some(account) => {
            format!("{environment}:{channel}")
        }
        [_, _, _] => {
            let what = "the channel is of another account than the endpoint";
            let (seen, needed) = (
                format!("`{channel}`"),
                "a channel of the endpoint's account",
            );
            let codes = control::diagnosis::CODES;
            return Err(Diagnosis::from_table(codes, FOREIGN, what, seen, needed).into());
        }
        _ => channel.to_owned(),
    };
    let endpoint = Noun::Endpoint.path(endpoint)?;
    Ok(format!(
        "{endpoint}/{collection}/{allow}/{}",
        escape(&channel)
    ))
}

/// Ask or change.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    match &args.command {
        Command::Ls { endpoint, api } => {
            let path = format!("{}/grants", Noun::Endpoint.path(endpoint)?);
            let page = api.ask("GET", &path, None)?;
            list(
                page["items"].as_array().map_or(&[], Vec::as_slice),
                false,
                api.json,
            );
        }
        Command::Show { grant, api } => {
            show(&api.ask("GET", &grant.path("grants")?, None)?, api.json)
        }
        Command::Create(args) => args.permit("If-None-Match: *\r\n")?,
        Command::Set(args) => args.permit("")?,
        Command::Delete { grant, wait, api } => {
            let path = format!("{}{}", grant.path("grants")?, wait.query('?'));
            let done = api.ask("DELETE", &path, None)?;
            let what = format!(
                "{} has no grant for {} any more",
                grant.endpoint, grant.channel
            );
            changed(&done, &what, api.json)?;
        }
    }
    Ok(0)
}

/// Arguments of `subscription`.
#[derive(clap::Args)]
pub(crate) struct SubscriptionArgs {
    #[command(subcommand)]
    command: SubscriptionCommand,
}

#[derive(Subcommand)]
enum SubscriptionCommand {
    /// List what an endpoint may receive, and whether it comes to its queue
    Ls {
        /// The endpoint's full name
        endpoint: String,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Show whether a channel's messages come to the queue
    Show {
        /// The endpoint's full name
        endpoint: String,
        /// The channel
        channel: String,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Let a channel's messages come to the queue; the endpoint has a grant to receive it already
    #[command(visible_alias = "set")]
    Create(SubscribeArgs),
    /// Let them come no longer; the grant stays
    Delete(SubscribeArgs),
}

#[derive(clap::Args)]
struct SubscribeArgs {
    /// The endpoint's full name
    endpoint: String,
    /// The channel
    channel: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// Ask or change.
pub(crate) fn subscription(args: &SubscriptionArgs) -> Result<u8, Fault> {
    match &args.command {
        SubscriptionCommand::Ls { endpoint, api } => {
            let path = format!("{}/grants", Noun::Endpoint.path(endpoint)?);
            let page = api.ask("GET", &path, None)?;
            let grants = page["items"].as_array().map_or(&[][..], Vec::as_slice);
            let heard = grants.iter().filter(|grant| grant["allow"] == "receive");
            let rows: Vec<Value> = heard.map(subscribed_of).collect();
            list(&rows, false, api.json);
        }
        SubscriptionCommand::Show {
            endpoint,
            channel,
            api,
        } => {
            let path = grant_path(endpoint, "receive", channel)?;
            show(&subscribed_of(&api.ask("GET", &path, None)?), api.json);
        }
        SubscriptionCommand::Create(args) => subscribe(args, true)?,
        SubscriptionCommand::Delete(args) => subscribe(args, false)?,
    }
    Ok(0)
}

/// Whether the channel of a grant comes to the queue.
fn subscribed_of(grant: &Value) -> Value {
    let subscribed = grant["subscribed"].as_bool().unwrap_or(true);
    json!({ "channel": grant["channel"], "subscribed": subscribed })
}

fn subscribe(args: &SubscribeArgs, subscribed: bool) -> Result<(), Fault> {
    let path = grant_path(&args.endpoint, "receive", &args.channel)?;
    let (mut grant, unchanged) = args.api.seen(&path)?;
    grant["subscribed"] = subscribed.into();
    if let Some(grant) = grant.as_object_mut() {
        // The path names them.
        grant.remove("channel");
    }
    let path = format!("{path}{}", args.wait.query('?'));
    // Whoever changed the grant meanwhile, its addresses perhaps, is not overwritten.
    let done = args.api.ask_with("PUT", &path, &unchanged, Some(&grant))?;
    let what = match subscribed {
        true => format!("{} comes to the queue of {}", args.channel, args.endpoint),
        false => format!(
            "{} comes to the queue of {} no longer",
            args.channel, args.endpoint
        ),
    };
    changed(&done, &what, args.api.json)
}

/// Arguments of `why`.
#[derive(clap::Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    grant: GrantArgs,
    /// With this key; any good one will do unless it is named
    #[arg(long)]
    key: Option<String>,
    /// From this address
    #[arg(long, value_name = "IP")]
    address: Option<std::net::IpAddr>,
    /// From a page of this origin
    #[arg(long, value_name = "URL")]
    origin: Option<String>,
    /// A body so long
    #[arg(long, value_name = "BYTES")]
    body_bytes: Option<u64>,
    /// At this time, such as 2027-01-31T00:00:00Z; now unless it is said
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Over this transport: tcp, tls, quic or quic-datagram
    #[arg(long, value_name = "NAME")]
    transport: Option<String>,
    /// By a tunnel in which the certificate with this SHA-256 was shown
    #[arg(long, value_name = "HEX")]
    certificate: Option<String>,
    /// On this node; on the endpoint's home, or any, unless it is said
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

/// Say whether it is allowed, check by check; 1 when it is not.
pub(crate) fn why(args: &WhyArgs) -> Result<u8, Fault> {
    let given = [
        ("key", args.key.clone()),
        ("address", args.address.map(|address| address.to_string())),
        ("origin", args.origin.clone()),
        ("body_bytes", args.body_bytes.map(|bytes| bytes.to_string())),
        ("at", args.at.clone()),
        ("transport", args.transport.clone()),
        ("certificate", args.certificate.clone()),
        ("node", args.node.clone()),
    ];
    let given = given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let query: Vec<String> = given
        .map(|(name, value)| format!("{name}={}", escape(&value)))
        .collect();
    let path = args.grant.path("why")?;
    let reasons = args
        .api
        .ask("GET", &format!("{path}?{}", query.join("&")), None)?;
    let allowed = reasons["allowed"] == true;
    if args.api.json {
        show(&reasons, true);
    } else {
        say!("{}", if allowed { "allowed" } else { "refused" });
        for check in reasons["checks"].as_array().map_or(&[][..], Vec::as_slice) {
            let text = |key: &str| check[key].as_str().unwrap_or("").to_owned();
            let sign = if check["passed"] == true { "ok" } else { "NO" };
            say!(
                "{sign}  {}: {}, needs {}",
                text("check"),
                text("seen"),
                text("needed")
            );
        }
    }
    Ok(u8::from(!allowed))
}
