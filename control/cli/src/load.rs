//! `forebay load`: the load generator, told whom and how much.

mod carried;
mod sweep;
mod who;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use control::quantity::parse_age;
use loadgen::{Arrival, LoadOptions, LoadPlan, PayloadSource, Report, ServerCpu};
use wire::diagnosis::Diagnosis;

use crate::diagnosis::ARGUMENT;
use crate::fault::Fault;
use crate::project::{Project, read_plan};
use crate::say::say;
use carried::Carried;
use sweep::Sweep;
use who::who;

/// Arguments of `load`.
#[derive(clap::Args, Clone)]
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
    #[command(flatten)]
    carried: Carried,
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
    /// How the rate is divided among the senders: uniform, or zipf:1.1 with the first sender the most active
    #[arg(long, value_name = "ACTIVITY", default_value = "uniform")]
    activity: String,
    /// So many of the senders, the last ones, send as fast as they may, beyond their credit and beyond BUSY
    #[arg(long, value_name = "N", default_value_t = 0)]
    flooders: usize,
    /// So many of the receivers, the last ones, take no more than --slow-rate
    #[arg(long, value_name = "N", default_value_t = 0)]
    slow_receivers: usize,
    /// Messages per second that each slow receiver takes; 0 for one that never reads
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    slow_rate: f64,
    /// Sessions opened and left per second, with the keys of the receivers, beside the load
    #[arg(long, value_name = "N/s")]
    storm: Option<String>,
    /// Run once for each value, as in shards=1,2,4 or batch=1,16,256; repeat for every combination of several. With
    /// shards each run has a node of its own, in a temporary folder beside the data folder
    #[arg(long, value_name = "WHAT=VALUES")]
    sweep: Vec<String>,
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
    /// Senders that share one QUIC connection, each on a lane of its own; 0 for a connection each
    #[arg(long, default_value_t = 0)]
    lanes: u32,
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
    if !args.sweep.is_empty() {
        return Sweep::parse(args)?.run(args);
    }
    let report = measure(plan(args)?)?;
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

/// One run.
fn measure(plan: LoadPlan) -> Result<Report, Fault> {
    let mut progress = loadgen::for_terminal();
    let report = loadgen::run(plan, progress.as_mut());
    progress.finish();
    Ok(report?)
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
        (None, Some(project)) => args.carried.address(&project.node)?,
        (None, None) => unreachable!("clap requires --addr with --plan"),
    };
    let transport = args
        .carried
        .transport(project.as_ref().map(|project| &project.node))?;
    let who = who(args, &table)?;
    let server_cpu = match &project {
        _ if let Some(pid) = args.server_pid => ServerCpu::Process(pid),
        Some(project) if project.node.admin.port() != 0 => ServerCpu::Metrics(project.node.admin),
        _ => ServerCpu::Unknown,
    };
    let data = project.map(|project| project.node.data);
    Ok(LoadPlan {
        addr,
        transport,
        senders: who.senders,
        receivers: who.receivers,
        others: who.others,
        options: options(args)?,
        server_cpu,
        data,
    })
}

/// The number in `500/s` or `500`; none is 0.
fn per_second(text: Option<&str>) -> Result<f64, Diagnosis> {
    let Some(text) = text else { return Ok(0.0) };
    let number = text.strip_suffix("/s").unwrap_or(text);
    let good = number.parse().ok();
    good.filter(|number: &f64| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| {
            Diagnosis::new(
                ARGUMENT,
                "--storm cannot be read",
                format!("`{text}`"),
                "sessions per second, such as 500/s",
                "use --storm 100/s",
            )
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
        activity: args.activity.parse()?,
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
        lanes: args.lanes,
        datagrams: args.carried.datagrams(),
        seed: args.seed,
        lateness_share_max: args.lateness,
    })
}
