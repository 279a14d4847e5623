//! `forebay shards` and `forebay top`: a running node, looked at through its admin port. They only read.

mod ask;
mod figures;
mod quantile;
mod screen;
mod shards;
mod show;
mod table;
mod top;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use control::quantity::parse_age;
use node::view::NodeView;
use wire::diagnosis::Diagnosis;

use crate::diagnosis::{ARGUMENT, NODE_GONE, NOT_SERVING};
use crate::fault::Fault;
use crate::project::Project;
use crate::say::say;
use screen::{Line, Screen};

pub(crate) use shards::{Args as ShardsArgs, run as shards};
pub(crate) use top::{Args as TopArgs, run as top};

/// The shortest time between two looks: a look costs each shard a copy of its numbers.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Which node is looked at, how often, and for whom.
#[derive(clap::Args)]
pub(crate) struct Watch {
    /// Configuration of the node, for its admin address
    #[arg(long, value_name = "FILE", default_value = "forebay.toml")]
    config: PathBuf,
    /// Admin address of the node, instead of the one in the configuration
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<String>,
    /// Show it once and end
    #[arg(long)]
    once: bool,
    /// Print JSON, one object a look
    #[arg(long)]
    json: bool,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    interval: String,
}

/// A node at one address.
struct Node {
    address: SocketAddr,
    interval: Duration,
}

impl Watch {
    fn node(&self) -> Result<Node, Fault> {
        let address = match &self.admin {
            Some(text) => address(text)?,
            None => self.configured()?,
        };
        Ok(Node {
            address,
            interval: interval(&self.interval)?,
        })
    }

    /// The admin address of the configuration.
    fn configured(&self) -> Result<SocketAddr, Fault> {
        let project = Project::read(&self.config).map_err(|mut fault| {
            for diagnosis in &mut fault.found {
                diagnosis.remedy.push_str("; or give --admin IP:PORT");
            }
            fault
        })?;
        let admin = project.node.admin;
        if admin.port() == 0 {
            let needed = "an address with a port, such as 127.0.0.1:7412";
            let what = "the configuration leaves the admin port to the kernel";
            let remedy = "give --admin with the address that `forebay run` prints";
            return Err(Diagnosis::new(ARGUMENT, what, admin.to_string(), needed, remedy).into());
        }
        Ok(admin)
    }
}

fn address(text: &str) -> Result<SocketAddr, Diagnosis> {
    let unreadable = || {
        Diagnosis::new(
            ARGUMENT,
            "--admin cannot be read",
            format!("`{text}`"),
            "an address and a port, such as 127.0.0.1:7412",
            "use the address that `forebay run` prints behind `admin on`",
        )
    };
    let address: SocketAddr = text.parse().map_err(|_| unreadable())?;
    match address.port() {
        0 => Err(unreadable()),
        _ => Ok(address),
    }
}

fn interval(text: &str) -> Result<Duration, Diagnosis> {
    let refuse = |needed: String| {
        let seen = format!("`{text}`");
        Diagnosis::new(
            ARGUMENT,
            "--interval cannot be used",
            seen,
            needed,
            "use --interval 1s",
        )
    };
    let interval = parse_age(text).map_err(refuse)?;
    match interval >= INTERVAL_MIN {
        true => Ok(interval),
        false => Err(refuse("100ms or more".to_owned())),
    }
}

/// What is made of a look at a node: the lines of a screen, or one JSON object.
struct Shown {
    lines: Vec<Line>,
    json: serde_json::Value,
}

impl Watch {
    /// Look at the node again and again, or until there is something to show once. `make` gets the look before, if there was one of
    /// the same process, and the new one; it returns nothing where it needs one more.
    fn run(
        &self,
        mut make: impl FnMut(SocketAddr, Option<&NodeView>, &NodeView) -> Option<Shown>,
    ) -> Result<u8, Fault> {
        let node = self.node()?;
        let mut screen = Screen::new();
        let mut before: Option<NodeView> = None;
        loop {
            let looked = Instant::now();
            let now = match (ask::view(node.address), &before) {
                (Ok(now), _) => now,
                (Err(fault), None) => return Err(fault.into()),
                (Err(fault), Some(_)) => return Err(gone(node.address, &fault).into()),
            };
            let known = before.as_ref().filter(|one| one.process == now.process);
            let shown = match now.shards.is_empty() {
                true if self.once => return Err(not_serving(&now).into()),
                true => Some(waiting(node.address, &now)),
                false => make(node.address, known, &now),
            };
            if let Some(shown) = shown {
                match self.json {
                    true => say!("{}", shown.json),
                    false => screen.show(&shown.lines),
                }
                if self.once {
                    return Ok(0);
                }
            }
            before = Some(now);
            std::thread::sleep(node.interval.saturating_sub(looked.elapsed()));
        }
    }
}

/// A node that does not serve, or not yet.
fn waiting(address: SocketAddr, now: &NodeView) -> Shown {
    let [done, all] = now.logs_open;
    let text = format!(
        "forebay {} at {address}: {}, {done} of {all} logs open",
        now.forebay, now.phase
    );
    Shown {
        lines: vec![Line::plain(text)],
        json: serde_json::json!({ "node": address.to_string(), "forebay": now.forebay, "phase": now.phase, "logs_open": now.logs_open,
            "shards": [] }),
    }
}

fn not_serving(now: &NodeView) -> Diagnosis {
    let [done, all] = now.logs_open;
    Diagnosis::new(
        NOT_SERVING,
        "the node does not serve",
        format!("{}, {done} of {all} logs open", show::harmless(&now.phase)),
        "ready",
        "wait until /ready of its admin port answers 200, or look without --once",
    )
}

fn gone(address: SocketAddr, fault: &Diagnosis) -> Diagnosis {
    Diagnosis::new(
        NODE_GONE,
        format!("the node at {address} went away while it was looked at"),
        fault.seen.clone(),
        "an answer",
        "see what it logged; start it again with `forebay run`",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use node::view::{Buckets, HottestView, Received, Sent, ShardView};

    use super::*;

    /// A node with these shards.
    pub(super) fn node(shards: Vec<Option<ShardView>>) -> NodeView {
        NodeView {
            forebay: "1.0".to_owned(),
            process: 1,
            phase: "ready".to_owned(),
            logs_open: [1, 1],
            resident_bytes: None,
            shards,
            silent_seconds: Vec::new(),
        }
    }

    /// A shard that has done nothing for a second.
    pub(super) fn shard(number: usize) -> ShardView {
        ShardView {
            shard: number,
            cpu: None,
            seconds: 1.0,
            cpu_seconds: 0.0,
            turns: Buckets::default(),
            batch_frames: Buckets::default(),
            batch_messages: Buckets::default(),
            received: Received::default(),
            sent: Sent::default(),
            mesh: None,
            partitions: 0,
            queue_groups: 0,
            connections: 0,
            strangers: 0,
            sessions: 0,
            buffers_free: 1,
            buffers: 1,
            memory_bytes: BTreeMap::new(),
            memory_budget_bytes: None,
            hottest: HottestView {
                one_in: 1,
                ..HottestView::default()
            },
        }
    }

    #[test]
    fn what_a_stranger_calls_himself_cannot_steer_the_terminal() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let evil = "\u{1b}]52;c;AAAA\u{7}\u{9b}2J";
        let mut seen = node(Vec::new());
        (seen.forebay, seen.phase) = (evil.to_owned(), evil.to_owned());
        let waiting = waiting(address, &seen);
        let refused = not_serving(&seen).to_string();
        for text in [waiting.lines[0].text(), refused] {
            assert!(!text.contains(char::is_control), "{text:?}");
            assert!(text.contains("]52;c;AAAA"), "{text:?}");
        }
    }
}
