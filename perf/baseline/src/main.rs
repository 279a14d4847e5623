//! A well-made ingress server on tokio, to compare with: it speaks the protocol, checks every signature, looks up every
//! grant, keeps every sender's sequence, appends to a log and acknowledges what one sync for all connections has made
//! durable. One thread serves, one writes and syncs.
//!
//! It is no part of the data plane. It leaves out what the compared scenarios do not use: queues and delivery, relays,
//! tokens, resuming, retention, recovery.

mod halves;
mod log;
mod peer;
mod server;
mod session;

use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// A tokio server that does the work of a node, for comparison
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the senders of a plan until killed
    Serve {
        /// The plan, as `forebay run` takes it; the acknowledgement mode is that of its first hub
        #[arg(long, value_name = "FILE")]
        plan: PathBuf,
        /// Where to listen
        #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Where to speak QUIC, as quinn does, if at all
        #[arg(long, value_name = "IP:PORT", requires_all = ["certificate", "key"])]
        listen_quic: Option<SocketAddr>,
        /// The certificate for QUIC, as PEM
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        /// Its key
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Threads that serve: with more than one, sessions are on the first, sockets and packets of QUIC on the others
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        threads: usize,
        /// A folder without a log of an earlier run
        #[arg(long, value_name = "FOLDER")]
        data: PathBuf,
    },
    /// Read a log back: check every record and print how many messages there are
    Count {
        /// The folder of the log
        #[arg(long, value_name = "FOLDER")]
        data: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Serve {
            plan,
            listen,
            listen_quic,
            certificate,
            key,
            threads,
            data,
        } => {
            let pair = certificate
                .zip(key)
                .map(|(certificate, key)| [certificate, key]);
            let quic = listen_quic.zip(pair);
            let quic = quic.map(|(listen, pair)| server::Quic { listen, pair });
            server::run(&plan, (listen, quic), &data, threads)
        }
        Command::Count { data } => log::count(&data).map(|messages| println!("{messages}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay-baseline: {error}");
            ExitCode::FAILURE
        }
    }
}
