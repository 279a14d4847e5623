//! `forebay config check|show`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::fault::Fault;
use crate::project::{Project, Source};
use crate::say::say;

/// Arguments of `config`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check configuration and plan; list everything that is wrong
    Check {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = "forebay.toml")]
        config: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the settings in force and where each comes from; never shows a secret
    Show {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = "forebay.toml")]
        config: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Check or show.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    match &args.command {
        Command::Check { config, json } => check(config.clone(), *json),
        Command::Show { config, json } => show(config.clone(), *json),
    }
}

fn check(config: PathBuf, json: bool) -> Result<u8, Fault> {
    let project = Project::read(&config)?;
    let table = project.table(1)?;
    let partitions = table.partitions().count();
    let (hubs, channels, endpoints) = (
        table.hubs().len(),
        table.channels().len(),
        table.endpoint_count(),
    );
    if json {
        say!(
            "{}",
            serde_json::json!({ "ok": true, "config": config, "plan": project.source.file(), "hubs": hubs,
                "partitions": partitions, "channels": channels, "endpoints": endpoints })
        );
    } else {
        say!(
            "{} and {} are good:",
            config.display(),
            project.source.file().display()
        );
        say!("{hubs} hubs, {partitions} partitions, {channels} channels, {endpoints} endpoints");
    }
    Ok(0)
}

fn show(config: PathBuf, json: bool) -> Result<u8, Fault> {
    let project = Project::read(&config)?;
    if json {
        let settings: Vec<serde_json::Value> = project
            .node
            .effective()
            .iter()
            .map(|setting| serde_json::json!({ "key": format!("node.{}", setting.key), "value": setting.value, "source": setting.origin.to_string() }))
            .collect();
        say!(
            "{}",
            serde_json::json!({ "settings": settings, "plan": project.source.file(), "data": project.node.data })
        );
        return Ok(0);
    }
    crate::say::write(format_args!("{}", project.node.render()));
    let file = project.source.file().display().to_string();
    let (table, key) = match project.source {
        Source::Plan(_) => ("plan", "file"),
        Source::Control(..) => ("control", "folder"),
        Source::Link(_) => ("link", "table"),
    };
    say!("\n[{table}]\n{key} = {}", toml::Value::from(file));
    let table = project.table(1)?;
    for hub in table.hubs() {
        say!(
            "# hub {}: {} partitions, ack {} ({})",
            hub.name,
            hub.partitions,
            hub.ack,
            meaning(hub.ack)
        );
    }
    Ok(0)
}

/// What an ack mode promises, in plain words.
pub(crate) fn meaning(ack: wire::ids::AckMode) -> &'static str {
    match ack {
        wire::ids::AckMode::Local => "survives a process crash, not power loss",
        wire::ids::AckMode::Durable => "survives a process crash and power loss on an intact disk",
    }
}
