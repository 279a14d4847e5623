//! What a run shall do: who sends, who receives, how much, how long, and where the server's costs can be read.

use crate::activity::Activity;
use crate::diagnosis;
use crate::payload::{BodySizes, PayloadSource};
use crate::schedule::Arrival;
use client::Transport;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use wire::diagnosis::Diagnosis;
use wire::limits::MESSAGES_MAX;

/// One sending endpoint.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SenderCredential {
    /// Full name: `account/environment/endpoint`.
    pub endpoint: String,
    /// Id of the ingress key.
    pub key_id: u32,
    /// The key's text.
    pub key: String,
    /// Full name of the channel it sends to.
    pub channel: String,
}

/// One receiving endpoint.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverCredential {
    /// Full name: `account/environment/endpoint`.
    pub endpoint: String,
    /// Id of the egress key.
    pub key_id: u32,
    /// The key's text.
    pub key: String,
}

impl std::fmt::Debug for SenderCredential {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{} (key {}) to {}",
            self.endpoint, self.key_id, self.channel
        )
    }
}

impl std::fmt::Debug for ReceiverCredential {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} (key {})", self.endpoint, self.key_id)
    }
}

/// Where the server's processor time can be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ServerCpu {
    /// Nowhere: the report leaves it out.
    #[default]
    Unknown,
    /// All threads of another process on this machine.
    Process(u32),
    /// The threads of this process whose names begin so.
    Threads(String),
    /// `process_cpu_seconds_total` of the node's admin port.
    Metrics(SocketAddr),
}

/// Everything a run needs.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// The node's address.
    pub addr: SocketAddr,
    /// What carries the connections to it, and whom to trust then.
    pub transport: Transport,
    /// Sending endpoints, one session each unless `options.connections` says otherwise.
    pub senders: Vec<SenderCredential>,
    /// Receiving endpoints; may be empty, then nothing is read back.
    pub receivers: Vec<ReceiverCredential>,
    /// Rate, length, payload and the like.
    pub options: LoadOptions,
    /// Who else is there.
    pub others: Others,
    /// Where the server's processor time can be read.
    pub server_cpu: ServerCpu,
    /// The server's data folder, to report bytes on disk.
    pub data: Option<PathBuf>,
}

/// Peers that are there besides the senders and receivers of a run, each kind with a thread and a row of the report of
/// its own. Without any, a run is as it would be without this type.
#[derive(Debug, Clone, Default)]
pub struct Others {
    /// Senders that send as fast as they may and go on beyond their credit and beyond BUSY, one connection each. When
    /// the server ends one, it comes back.
    pub flooders: Vec<SenderCredential>,
    /// Receivers that take no more than `slow_per_s` messages each. They are checked like others, but what they have
    /// not read at the end is not lost.
    pub slow_receivers: Vec<ReceiverCredential>,
    /// Messages per second that each of them takes; 0 asks for everything and never reads a byte.
    pub slow_per_s: f64,
    /// Who opens and leaves sessions, in turns; their queues are not touched.
    pub storm: Vec<ReceiverCredential>,
    /// Sessions that are due to be opened per second; 0 for no storm.
    pub storm_per_s: f64,
}

/// The settings of a run that do not name anybody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadOptions {
    /// Messages per second of all senders together; 0 sends as fast as credit allows and claims no latency.
    pub rate: f64,
    /// How long messages become due, warm-up included.
    #[serde(with = "seconds")]
    pub duration: Duration,
    /// Messages due in this first part are sent and verified, but not measured.
    #[serde(with = "seconds")]
    pub warm_up: Duration,
    /// How long to wait for answers and deliveries after the last message was due.
    #[serde(with = "seconds")]
    pub drain: Duration,
    /// Constant gaps or Poisson arrivals.
    pub arrival: Arrival,
    /// How the rate is divided among the senders.
    pub activity: Activity,
    /// Messages per frame, 1 to 4096. A frame is due when its last message is.
    pub batch: u16,
    /// Lengths of synthetic bodies.
    pub message_bytes: BodySizes,
    /// Where bodies come from.
    pub payload: PayloadSource,
    /// Connections that carry the senders: 0 for one each. With fewer connections than senders, the first senders
    /// relay envelopes that the others' own keys have signed, which the plan of the node must allow them.
    pub connections: u32,
    /// Frames that each connection may have unanswered, if the server's credit allows as many; 0 leaves it to the
    /// server's credit, 1 is lockstep.
    pub window: u32,
    /// Sessions of senders that share one QUIC connection, each on a lane of its own; 0 or 1 for a connection each.
    pub lanes: u32,
    /// Whether frames of senders go as QUIC datagrams, of which some may be lost: that is no fault of a run, and told.
    pub datagrams: bool,
    /// Seed of arrivals and synthetic bodies.
    pub seed: u64,
    /// The run is void when the p99 of the generator's own lateness is beyond this share of the median ack latency.
    pub lateness_share_max: f64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            rate: 10_000.0,
            duration: Duration::from_secs(10),
            warm_up: Duration::from_secs(1),
            drain: Duration::from_secs(30),
            arrival: Arrival::Constant,
            activity: Activity::Uniform,
            batch: 1,
            message_bytes: BodySizes::Fixed(128),
            payload: PayloadSource::Synthetic,
            connections: 0,
            window: 0,
            lanes: 0,
            datagrams: false,
            seed: 1,
            lateness_share_max: 0.10,
        }
    }
}

impl LoadPlan {
    /// Check everything that can be checked without a connection.
    ///
    /// # Errors
    /// `FB-5201` with the option, the value seen and the value needed.
    pub fn check(&self) -> Result<(), Diagnosis> {
        let options = &self.options;
        let senders = self.senders.len();
        let quic = matches!(self.transport, Transport::Quic(_));
        let rate_good = options.rate.is_finite() && (0.0..=1e9).contains(&options.rate);
        let share_good = options.lateness_share_max.is_finite() && options.lateness_share_max > 0.0;
        let rules = [
            (
                "senders",
                senders.to_string(),
                (1..=1 << 20).contains(&senders),
                "1 to 1048576 sending endpoints",
            ),
            (
                "rate",
                options.rate.to_string(),
                rate_good,
                "0 to 1000000000 messages per second",
            ),
            (
                "duration",
                format!("{:?}", options.duration),
                !options.duration.is_zero(),
                "more than 0 s",
            ),
            (
                "warm_up",
                format!("{:?}", options.warm_up),
                options.warm_up < options.duration,
                "less than the duration",
            ),
            (
                "batch",
                options.batch.to_string(),
                (1..=MESSAGES_MAX).contains(&(options.batch as usize)),
                "1 to 4096 messages per frame",
            ),
            (
                "connections",
                options.connections.to_string(),
                options.connections as usize <= senders,
                "at most one per sending endpoint: a sender's sequence lives in one session",
            ),
            (
                "lanes",
                options.lanes.to_string(),
                options.lanes <= 1 || quic,
                "0 or 1 but over QUIC",
            ),
            (
                "datagrams",
                format!("{} connections", self.connections()),
                !options.datagrams || (quic && self.connections() == senders),
                "QUIC, and a session for each sender",
            ),
            (
                "activity",
                options.activity.to_string(),
                options.activity == Activity::Uniform || options.rate > 0.0,
                "uniform with rate 0: who sends as fast as it may has no share",
            ),
            (
                "slow_per_s",
                self.others.slow_per_s.to_string(),
                self.others.slow_per_s.is_finite() && self.others.slow_per_s >= 0.0,
                "0 or more messages per second",
            ),
            (
                "storm_per_s",
                self.others.storm_per_s.to_string(),
                (0.0..=1e6).contains(&self.others.storm_per_s),
                "0 to 1000000 sessions per second",
            ),
            (
                "storm",
                format!("{} endpoints", self.others.storm.len()),
                self.others.storm_per_s == 0.0 || !self.others.storm.is_empty(),
                "an endpoint with an egress key to open sessions with",
            ),
            (
                "lateness_share_max",
                options.lateness_share_max.to_string(),
                share_good,
                "more than 0",
            ),
        ];
        for (what, seen, good, needed) in rules {
            if !good {
                return Err(diagnosis::plan(what, seen, needed));
            }
        }
        self.check_names()
    }

    fn check_names(&self) -> Result<(), Diagnosis> {
        let senders = self.senders.iter().chain(&self.others.flooders);
        once("senders", senders.map(|sender| sender.endpoint.as_str()))?;
        let receivers = self.receivers.iter().chain(&self.others.slow_receivers);
        once(
            "receivers",
            receivers.map(|receiver| receiver.endpoint.as_str()),
        )
    }

    /// What carries the frames, as reports name it.
    pub fn transport_name(&self) -> &'static str {
        match self.options.datagrams {
            true => "quic-datagram",
            false => self.transport.name(),
        }
    }

    /// Connections that will be opened for sending.
    pub fn connections(&self) -> usize {
        match self.options.connections {
            0 => self.senders.len(),
            some => some as usize,
        }
    }
}

/// Nobody twice.
fn once<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Diagnosis> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(diagnosis::plan(
            what,
            format!("{} twice", pair[0]),
            "each endpoint once",
        )),
        None => Ok(()),
    }
}

/// Durations as seconds with a fraction.
mod seconds {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(value: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_f64(value.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(input)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan(senders: usize) -> LoadPlan {
        let sender = |index| SenderCredential {
            endpoint: format!("a/e/sender-{index}"),
            key_id: 1,
            key: "k".repeat(44),
            channel: "a/e/readings".to_owned(),
        };
        LoadPlan {
            addr: "127.0.0.1:1".parse().expect("valid"),
            transport: Transport::Tcp,
            senders: (0..senders).map(sender).collect(),
            receivers: Vec::new(),
            options: LoadOptions::default(),
            others: Others::default(),
            server_cpu: ServerCpu::Unknown,
            data: None,
        }
    }

    #[test]
    fn a_plan_is_refused_with_the_option_the_value_seen_and_the_value_needed() {
        type Break = fn(&mut LoadPlan);
        let cases: [(&str, &str, Break); 14] = [
            ("senders", "saw 0", |plan| plan.senders.clear()),
            ("senders", "a/e/sender-0 twice", |plan| {
                plan.senders[1] = plan.senders[0].clone()
            }),
            ("rate", "saw -1", |plan| plan.options.rate = -1.0),
            ("rate", "saw NaN", |plan| plan.options.rate = f64::NAN),
            ("duration", "saw 0ns", |plan| {
                plan.options.duration = Duration::ZERO
            }),
            ("warm_up", "saw 10s", |plan| {
                plan.options.warm_up = Duration::from_secs(10)
            }),
            ("batch", "saw 0", |plan| plan.options.batch = 0),
            ("batch", "saw 4097", |plan| plan.options.batch = 4097),
            ("connections", "saw 3", |plan| plan.options.connections = 3),
            ("senders", "a/e/sender-1 twice", |plan| {
                plan.others.flooders = plan.senders.split_off(1);
                plan.senders.push(plan.others.flooders[0].clone());
            }),
            ("slow_per_s", "saw -1", |plan| plan.others.slow_per_s = -1.0),
            ("storm_per_s", "saw NaN", |plan| {
                plan.others.storm_per_s = f64::NAN
            }),
            ("storm", "saw 0 endpoints", |plan| {
                plan.others.storm_per_s = 5.0
            }),
            ("activity", "saw zipf:1.1", |plan| {
                (plan.options.activity, plan.options.rate) = (Activity::Zipf(1.1), 0.0)
            }),
        ];
        assert!(plan(2).check().is_ok());
        for (what, seen, spoil) in cases {
            let mut plan = plan(2);
            spoil(&mut plan);
            let text = plan.check().expect_err(what).to_string();
            assert!(text.contains(what) && text.contains(seen), "{text}");
        }
    }

    #[test]
    fn options_read_back_as_they_were_written_and_unknown_ones_are_refused() {
        let options = LoadOptions {
            rate: 12.5,
            ..LoadOptions::default()
        };
        let text = serde_json::to_string(&options).expect("plain values");
        assert_eq!(
            serde_json::from_str::<LoadOptions>(&text).expect("just written"),
            options
        );
        assert!(serde_json::from_str::<LoadOptions>(r#"{"rates": 1}"#).is_err());
        assert!(serde_json::from_str::<LoadOptions>(r#"{"message_bytes": "300000"}"#).is_err());
    }

    #[test]
    fn credentials_do_not_show_their_keys() {
        assert!(!format!("{:?}", plan(1)).contains("kkk"));
    }
}
