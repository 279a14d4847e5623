//! The one binary: `forebay`.
//!
//! Every subcommand is its own file: it reads its arguments and files, calls the room that knows how, and prints.
//! Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 a load run whose figures are void.

mod cert;
mod completions;
mod config;
mod control;
mod define;
mod diagnosis;
mod explain;
mod fault;
mod keys;
mod load;
mod log;
mod looking;
mod node;
mod project;
mod quickstart;
mod run;
mod say;
mod token;
mod tune;
mod watch;
mod workbench;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};

use define::Noun;
use fault::Fault;

/// Guarded ingress for untrusted senders: signed messages in, durable logs, private queues out.
#[derive(Parser)]
#[command(name = "forebay", version, about, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 load run void (rate missed).\n\
Every error carries a code such as FB-2102; `forebay explain FB-2102` says more.";

#[derive(Subcommand)]
enum Command {
    /// Make a folder, keys and a plan, run a node, drive it for ten seconds and read everything back
    Quickstart(quickstart::Args),
    /// Run a node until SIGTERM or SIGINT; SIGHUP reads the plan again
    Run(run::Args),
    /// Run a control plane alone: its store, its API, and where nodes connect
    Control(control::Args),
    /// Run a node whose tables come from a control plane; list and show nodes
    Node(node::Args),
    /// Put a node under load at a fixed rate and account for every message
    Load(Box<load::Args>),
    /// Measure this machine with nodes of its own and advise how many shards to run; changes nothing
    Tune(tune::Args),
    /// Show what the shards of a running node do, live
    Shards(watch::ShardsArgs),
    /// Show who sends most to a running node, live
    Top(watch::TopArgs),
    /// Look into a data folder offline; never changes a byte
    Log(log::Args),
    /// Check or show the configuration
    Config(config::Args),
    /// Make certificates for tests
    Cert(cert::Args),
    /// Make keys, and rotate, revoke and restore those of endpoints
    Keys(keys::Args),
    /// Accounts: who owns
    Account(define::Args),
    /// Environments: where it runs
    Env(define::Args),
    /// Hubs: sets of partitions
    Hub(define::Args),
    /// Channels: what a route leads to
    Channel(define::Args),
    /// Endpoints: the boundary of one outside party each
    Endpoint(define::bulk::Args),
    /// What endpoints may send to and receive from
    Grant(define::grant::Args),
    /// What comes to the queues of endpoints
    Subscription(define::grant::SubscriptionArgs),
    /// Whether an endpoint may send to or receive from a channel, and why not
    Why(define::grant::WhyArgs),
    /// Tokens of the API
    Tokens(define::tokens::Args),
    /// Control planes by name, so that commands need not be told where and as whom
    Context(define::context::Args),
    /// Fetch a copy of everything that is defined
    Backup(define::backup::BackupArgs),
    /// Make a store of a backup
    Restore(define::backup::RestoreArgs),
    /// Give a store another master key, while nobody has it open
    Store(control::rekey::Args),
    /// Make what a document says hold, after showing what differs
    Apply(define::document::ApplyArgs),
    /// Print everything as a document
    Export(define::document::ExportArgs),
    /// Who changed what, and whether that was altered
    Audit(define::document::AuditArgs),
    /// Make tokens
    Token(token::Args),
    /// Say what an error code means and what to do
    Explain(explain::Args),
    /// Print shell completions
    Completions(completions::Args),
}

fn main() -> ExitCode {
    leave_no_core();
    // What is no text is refused by the reader of arguments, with a code.
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    let result = match Cli::try_parse() {
        Ok(cli) => run(cli.command),
        Err(error) if error.use_stderr() => Err(fault::usage(&error)),
        Err(help) => help
            .print()
            .map(|()| 0)
            .map_err(|error| fault::output(&error)),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(fault) => fault.report(wants_json),
    }
}

/// Have no core written of this process, whose memory holds secrets, whatever it was asked for: of commands, too, which
/// read tokens and plans. With a limit of one byte the kernel neither writes a file nor calls the
/// program of a piped core pattern, which a limit of 0 would not keep from running. Whoever wants cores raises it again: `prlimit --core`.
fn leave_no_core() {
    let mut limit = getrlimit(Resource::Core);
    if limit.current != Some(0) || limit.maximum != Some(0) {
        limit.current = Some(1);
        // A limit that cannot be lowered is one that somebody else decides.
        let _ = setrlimit(Resource::Core, limit);
    }
}

/// Run one subcommand; its exit code.
fn run(command: Command) -> Result<u8, Fault> {
    match command {
        Command::Quickstart(args) => quickstart::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Control(args) => control::serve_alone(&args),
        Command::Node(args) => node::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Shards(args) => watch::shards(&args),
        Command::Top(args) => watch::top(&args),
        Command::Log(args) => log::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Cert(args) => cert::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Account(args) => define::run(Noun::Account, &args),
        Command::Env(args) => define::run(Noun::Environment, &args),
        Command::Hub(args) => define::run(Noun::Hub, &args),
        Command::Channel(args) => define::run(Noun::Channel, &args),
        Command::Endpoint(args) => define::bulk::run(&args),
        Command::Grant(args) => define::grant::run(&args),
        Command::Subscription(args) => define::grant::subscription(&args),
        Command::Why(args) => define::grant::why(&args),
        Command::Tokens(args) => define::tokens::run(&args),
        Command::Context(args) => define::context::run(&args),
        Command::Backup(args) => define::backup::backup(&args),
        Command::Restore(args) => define::backup::restore(&args),
        Command::Store(args) => control::rekey::run(&args),
        Command::Apply(args) => define::document::apply(&args),
        Command::Export(args) => define::document::export(&args),
        Command::Audit(args) => define::document::audit(&args),
        Command::Token(args) => token::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Completions(args) => completions::run(&args, &mut Cli::command()),
    }
}
