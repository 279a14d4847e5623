//! `forebay quickstart`: from nothing to every message read back, in one command and without a file to edit.

mod files;
mod report;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use loadgen::{
    BodySizes, LoadOptions, LoadPlan, Others, PayloadSource, ReceiverCredential, Report, Security,
    SenderCredential, ServerCpu, Transport,
};
use node::NodeHandle;
use node::log::Log;
use wire::diagnosis::Diagnosis;
use wire::ids::{AckMode, Direction};
use wire::route::RouteTable;

use crate::diagnosis::NOT_READ_BACK;
use crate::fault::Fault;
use crate::project::{Project, endpoint, key};
use crate::say::say;
use files::Made;
use report::Outcome;

/// Arguments of `quickstart`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder for configuration, plan and logs; made if it does not exist
    #[arg(long, value_name = "FOLDER", default_value = "forebay-data")]
    data: PathBuf,
    /// How long to send
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// Messages per second of the synthetic load
    #[arg(long, default_value_t = 20_000.0, value_parser = rate)]
    rate: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Messages per second of the telemetry part.
const HOST_RATE: f64 = 500.0;
/// Share of the time that belongs to telemetry.
const HOST_SHARE: f64 = 0.2;
/// Messages per frame of the synthetic load.
const BATCH: u16 = 16;
/// How the names of the node's shard threads begin; its own costs are read from them.
const SHARD_THREADS: &str = "shard-";

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| "a number of seconds is needed".to_owned())?;
    if (1.0..=3_600.0).contains(&value) {
        Ok(value)
    } else {
        Err("1 to 3600 seconds are possible".to_owned())
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| "a number of messages per second is needed".to_owned())?;
    if (1.0..=10_000_000.0).contains(&value) {
        Ok(value)
    } else {
        Err("1 to 10000000 are possible".to_owned())
    }
}

/// Make the files, run the node, send, read back, report.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    let made = files::prepare(&args.data)?;
    let project = Project::read(&made.config)?;
    let table = Arc::new(project.table(1)?);
    let mut config = project.node;
    config.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.admin = SocketAddr::from(([127, 0, 0, 1], 0));
    // A folder of an earlier version has a configuration without tunnels.
    config.listen_tls = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.listen_quic = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.tls = Some(made.certificate.clone());
    if !args.json {
        say!("folder      {}", made.folder.display());
        say!(
            "plan        {} (endpoints, keys and grants; mode 0600)",
            made.plan.display()
        );
        say!(
            "endpoints   {} send, {} receives, channel {}",
            files::SENDERS.join(", "),
            files::RECEIVER,
            files::CHANNEL
        );
        say!(
            "certificate {} (authority for clients: {})\n",
            made.certificate.certificate.display(),
            made.ca.display()
        );
    }
    let logs = config.data.clone();
    let log = Arc::new(Log::new(
        config.log_format,
        Box::new(files::node_log(&made)?),
    ));
    let reload = Box::new(crate::run::reload(project.source.file().to_owned()));
    let handle = node::start_logged(config, Arc::clone(&table), reload, log)?;
    let target = Target {
        ways: ways(&handle, &made)?,
        table: &table,
        logs,
    };
    let runs = target.drive(args);
    handle.stop();
    let stopped = handle.join();
    let ack = table.hubs().first().map_or(AckMode::Local, |hub| hub.ack);
    let outcome = Outcome::new(made, target.logs.clone(), runs?, ack);
    stopped?;
    if args.json {
        say!("{}", outcome.to_json());
    } else {
        crate::say::write(format_args!("{outcome}"));
    }
    match outcome.complete() {
        true => Ok(0),
        false => Err(Diagnosis::new(
            NOT_READ_BACK,
            "not everything was read back",
            outcome.faults(),
            "every message once, in order, unchanged",
            outcome.remedy(),
        )
        .into()),
    }
}

/// One way to reach the node.
struct Way {
    addr: SocketAddr,
    transport: Transport,
}

/// All ways to reach it. Whoever comes through a tunnel trusts the authority that was made for it, and nobody else.
fn ways(node: &NodeHandle, made: &Made) -> Result<Vec<Way>, Diagnosis> {
    let authority = std::fs::read(&made.ca);
    let authority = authority.map_err(|error| files::unreadable(&made.ca, &error))?;
    let trusting = || Security::authority(authority.clone());
    let plain = Some((node.listen_addr(), Transport::Tcp));
    let tls = node.listen_tls_addr();
    let tls = tls.map(|addr| (addr, Transport::Tls(trusting())));
    let quic = node.listen_quic_addr();
    let quic = quic.map(|addr| (addr, Transport::Quic(trusting())));
    let all = [plain, tls, quic].into_iter().flatten();
    Ok(all
        .map(|(addr, transport)| Way { addr, transport })
        .collect())
}

/// The node to drive.
struct Target<'a> {
    ways: Vec<Way>,
    table: &'a RouteTable,
    logs: PathBuf,
}

impl Target<'_> {
    /// Telemetry first, then the synthetic load over every transport; each is read back in full.
    fn drive(&self, args: &Args) -> Result<Vec<Report>, Fault> {
        let (first, others) = files::SENDERS.split_at(1);
        let host = LoadOptions {
            rate: HOST_RATE,
            batch: 1,
            payload: PayloadSource::Host,
            ..self.options(args.seconds * HOST_SHARE)
        };
        let encrypted = self.ways.last().expect("there is always plain TCP");
        let mut reports = vec![self.load(encrypted, first, host)?];
        let each = (1.0 - HOST_SHARE) / self.ways.len() as f64;
        for way in &self.ways {
            let synthetic = LoadOptions {
                rate: args.rate,
                batch: BATCH,
                message_bytes: BodySizes::Uniform(64, 512),
                ..self.options(args.seconds * each)
            };
            reports.push(self.load(way, others, synthetic)?);
        }
        Ok(reports)
    }

    fn options(&self, seconds: f64) -> LoadOptions {
        LoadOptions {
            duration: Duration::from_secs_f64(seconds),
            warm_up: Duration::from_secs_f64((seconds / 10.0).min(1.0)),
            drain: Duration::from_secs(30),
            // Node and generator share this machine: lateness is reported here, not a reason to fail.
            lateness_share_max: 1e6,
            ..LoadOptions::default()
        }
    }

    fn load(&self, way: &Way, senders: &[&str], options: LoadOptions) -> Result<Report, Fault> {
        let sender = |name: &&str| -> Result<SenderCredential, Diagnosis> {
            let endpoint = endpoint(self.table, name)?;
            let (key, secret) = key(&endpoint, None, Direction::Ingress)?;
            let (key_id, key) = (key.id.0, secret.text().to_owned());
            let channel = format!("{}/{}", files::ENVIRONMENT, files::CHANNEL);
            Ok(SenderCredential {
                endpoint: endpoint.name().to_owned(),
                key_id,
                key,
                channel,
            })
        };
        let reader = endpoint(self.table, files::RECEIVER)?;
        let (reader_key, secret) = key(&reader, None, Direction::Egress)?;
        let receiver = ReceiverCredential {
            endpoint: reader.name().to_owned(),
            key_id: reader_key.id.0,
            key: secret.text().to_owned(),
        };
        let plan = LoadPlan {
            addr: way.addr,
            transport: way.transport.clone(),
            senders: senders.iter().map(sender).collect::<Result<_, _>>()?,
            receivers: vec![receiver],
            options,
            server_cpu: ServerCpu::Threads(SHARD_THREADS.to_owned()),
            others: Others::default(),
            data: Some(self.logs.clone()),
        };
        let mut progress = loadgen::for_terminal();
        let report = loadgen::run(plan, progress.as_mut());
        progress.finish();
        Ok(report?)
    }
}
