//! `forebay load`: the load generator, told whom and how much.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use control::quantity::parse_age;
use loadgen::{
    Arrival, LoadOptions, LoadPlan, PayloadSource, ReceiverCredential, SenderCredential, ServerCpu,
};
use wire::diagnosis::Diagnosis;
use wire::ids::Direction;
use wire::route::{Endpoint, RouteTable};

use crate::diagnosis::ARGUMENT;
use crate::fault::Fault;
use crate::project::{Project, endpoint, key, not_in_plan, read_plan};
use crate::say::say;

/// Arguments of `load`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Configuration of the node, for its address, plan, admin port and data folder
    #[arg(long, value_name = "FILE", default_value = "forebay.toml")]
    config: PathBuf,
    /// Plan with the keys, instead of the one the configuration names; then --addr is needed
    #[arg(long, value_name = "FILE", requires = "addr")]
    plan: Option<PathBuf>,
    /// Address of the node, instead of the one in the configuration
    #[arg(long, value_name = "IP:PORT")]
    addr: Option<String>,
    /// Sending endpoint; repeat for more; all that may send unless given
    #[arg(long, value_name = "ENDPOINT")]
    sender: Vec<String>,
    /// Receiving endpoint; repeat for more; all that hear the channels unless given
    #[arg(long, value_name = "ENDPOINT")]
    receiver: Vec<String>,
    /// Channel to send to; the sender's first unless given
    #[arg(long)]
    channel: Option<String>,
    /// Do not read anything back
    #[arg(long)]
    no_read_back: bool,
    /// Messages per second of all senders; 0 for as fast as credit allows
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// How long messages are due
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    duration: String,
    /// First part that is sent and verified, but not measured
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    warm_up: String,
    /// How long to wait for the last deliveries
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    drain: String,
    /// When messages are due
    #[arg(long, value_enum, default_value_t = Schedule::Constant)]
    schedule: Schedule,
    /// Messages per frame
    #[arg(long, default_value_t = 1)]
    batch: u16,
    /// Bytes of synthetic bodies: 128, 64-1024 or 128:80,4096:20
    #[arg(long, default_value = "128")]
    size: String,
    /// Where bodies come from
    #[arg(long, value_enum, default_value_t = Payload::Synthetic)]
    payload: Payload,
    /// File whose lines are the bodies, with --payload file
    #[arg(long, value_name = "FILE", required_if_eq("payload", "file"))]
    file: Option<PathBuf>,
    /// Connections that carry the senders; 0 for one each
    #[arg(long, default_value_t = 0)]
    connections: u32,
    /// Frames each connection may have unanswered; 0 for as many as the node's credit allows, 1 for lockstep
    #[arg(long, default_value_t = 0)]
    window: u32,
    /// Process whose processor time is the server's, instead of asking the node's admin port
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Seed of arrivals and bodies
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The run is void when the generator's own p99 lateness is beyond this share of the median ack latency
    #[arg(long, value_name = "SHARE", default_value_t = 0.10)]
    lateness: f64,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Schedule {
    Constant,
    Poisson,
}

#[derive(Clone, Copy, ValueEnum)]
enum Payload {
    /// Random bytes of --size
    Synthetic,
    /// The lines of --file
    File,
    /// The lines of standard input
    Stdin,
    /// Readings of this machine from /proc
    Host,
}

/// Run the load and print its report.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    let plan = plan(args)?;
    let mut progress = loadgen::for_terminal();
    let report = loadgen::run(plan, progress.as_mut())?;
    progress.finish();
    if args.json {
        say!("{}", report.to_json());
    } else {
        crate::say::write(format_args!("{report}"));
    }
    for reason in &report.reasons {
        eprintln!("forebay: {reason}");
    }
    Ok(report.exit_code())
}

fn plan(args: &Args) -> Result<LoadPlan, Fault> {
    let project = if args.plan.is_none() {
        Some(Project::read(&args.config)?)
    } else {
        None
    };
    let table = match (&args.plan, &project) {
        (Some(plan), _) => read_plan(plan, 1)?,
        (None, Some(project)) => project.table(1)?,
        (None, None) => unreachable!("one of the two was read"),
    };
    let addr = match (&args.addr, &project) {
        (Some(text), _) => address(text)?,
        (None, Some(project)) => project.node.listen,
        (None, None) => unreachable!("clap requires --addr with --plan"),
    };
    let senders = senders(args, &table)?;
    let receivers = if args.no_read_back {
        Vec::new()
    } else {
        receivers(args, &table, &senders)?
    };
    let server_cpu = match &project {
        _ if let Some(pid) = args.server_pid => ServerCpu::Process(pid),
        Some(project) if project.node.admin.port() != 0 => ServerCpu::Metrics(project.node.admin),
        _ => ServerCpu::Unknown,
    };
    let data = project.map(|project| project.node.data);
    Ok(LoadPlan {
        addr,
        senders,
        receivers,
        options: options(args)?,
        server_cpu,
        data,
    })
}

fn address(text: &str) -> Result<SocketAddr, Diagnosis> {
    text.parse().map_err(|_| {
        let needed = "an address and a port, such as 127.0.0.1:7411";
        Diagnosis::new(
            ARGUMENT,
            "--addr cannot be read",
            format!("`{text}`"),
            needed,
            "use the address that `forebay run` prints",
        )
    })
}

fn options(args: &Args) -> Result<LoadOptions, Diagnosis> {
    let length = |flag: &str, text: &str| {
        parse_age(text).map_err(|needed| {
            Diagnosis::new(
                ARGUMENT,
                format!("{flag} cannot be read"),
                format!("`{text}`"),
                needed,
                format!("use {flag} 10s"),
            )
        })
    };
    let duration: Duration = length("--duration", &args.duration)?;
    Ok(LoadOptions {
        rate: args.rate,
        duration,
        warm_up: length("--warm-up", &args.warm_up)?,
        drain: length("--drain", &args.drain)?,
        arrival: match args.schedule {
            Schedule::Constant => Arrival::Constant,
            Schedule::Poisson => Arrival::Poisson,
        },
        batch: args.batch,
        message_bytes: args.size.parse()?,
        payload: match (args.payload, &args.file) {
            (Payload::File, Some(file)) => PayloadSource::Lines(file.clone()),
            (Payload::Stdin, _) => PayloadSource::Stdin,
            (Payload::Host, _) => PayloadSource::Host,
            _ => PayloadSource::Synthetic,
        },
        connections: args.connections,
        window: args.window,
        seed: args.seed,
        lateness_share_max: args.lateness,
    })
}

fn senders(args: &Args, table: &RouteTable) -> Result<Vec<SenderCredential>, Diagnosis> {
    let chosen: Vec<&Endpoint> = if args.sender.is_empty() {
        table
            .endpoints()
            .iter()
            .filter(|endpoint| endpoint.enabled && !endpoint.send.is_empty())
            .collect()
    } else {
        args.sender
            .iter()
            .map(|name| endpoint(table, name))
            .collect::<Result<_, _>>()?
    };
    chosen
        .into_iter()
        .map(|endpoint| sender(args, table, endpoint))
        .collect()
}

fn sender(
    args: &Args,
    table: &RouteTable,
    endpoint: &Endpoint,
) -> Result<SenderCredential, Diagnosis> {
    let (key, text) = key(endpoint, None, Direction::Ingress)?;
    let names = table.channels().iter().map(|channel| &*channel.name);
    let channel = match &args.channel {
        Some(name) => {
            let suffix = format!("/{name}");
            let found = names
                .clone()
                .find(|channel| channel == name || channel.ends_with(&suffix));
            found
                .ok_or_else(|| not_in_plan("channel", name, names))?
                .to_owned()
        }
        None => {
            let first = endpoint
                .send
                .first()
                .and_then(|grant| table.channel(grant.channel));
            first
                .map(|channel| channel.name.to_string())
                .ok_or_else(|| {
                    let what = format!("{} may not send anywhere", endpoint.name);
                    Diagnosis::new(
                        crate::diagnosis::KEY_UNFIT,
                        what,
                        "0 grants to send",
                        "1 or more",
                        "grant it a channel in the plan",
                    )
                })?
        }
    };
    Ok(SenderCredential {
        endpoint: endpoint.name.to_string(),
        key_id: key.id.0,
        key: text.to_owned(),
        channel,
    })
}

/// The receivers named, or every enabled endpoint that hears a channel sent to.
fn receivers(
    args: &Args,
    table: &RouteTable,
    senders: &[SenderCredential],
) -> Result<Vec<ReceiverCredential>, Diagnosis> {
    let chosen: Vec<&Endpoint> = if args.receiver.is_empty() {
        let hears = |endpoint: &&Endpoint| {
            endpoint
                .receive
                .iter()
                .filter_map(|grant| table.channel(grant.channel))
                .any(|channel| {
                    senders
                        .iter()
                        .any(|sender| *sender.channel == *channel.name)
                })
        };
        table
            .endpoints()
            .iter()
            .filter(|endpoint| endpoint.enabled)
            .filter(hears)
            .collect()
    } else {
        args.receiver
            .iter()
            .map(|name| endpoint(table, name))
            .collect::<Result<_, _>>()?
    };
    chosen
        .into_iter()
        .map(|endpoint| {
            let (key, text) = key(endpoint, None, Direction::Egress)?;
            Ok(ReceiverCredential {
                endpoint: endpoint.name.to_string(),
                key_id: key.id.0,
                key: text.to_owned(),
            })
        })
        .collect()
}
