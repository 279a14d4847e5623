//! Every fault the load generator itself reports, with its stable code: 5201 to 5299.

use std::fmt::Display;
use wire::diagnosis::Diagnosis;

/// Code, name, meaning and remedy of each fault, for `forebay explain`.
pub const CODES: &[(u16, &str, &str, &str)] = &[
    (
        5201,
        "load_plan",
        "The load plan contradicts itself or leaves out what a run needs.",
        "Correct the option that the message names.",
    ),
    (
        5202,
        "message_bytes",
        "The body length is not a length, a range or a list of weighted lengths.",
        "Write 128, 64-1024 or 128:80,4096:20; a body has at most 262144 bytes.",
    ),
    (
        5203,
        "payload_unreadable",
        "The source of the message bodies cannot be read.",
        "Check that the file exists and may be read.",
    ),
    (
        5204,
        "payload_empty",
        "The source of the message bodies holds no line.",
        "Give a file with at least one line.",
    ),
    (
        5205,
        "line_too_long",
        "A line of the payload file is longer than a message body may be.",
        "Split the line: a body has at most 262144 bytes.",
    ),
    (
        5206,
        "thread",
        "A thread of the load generator could not be started.",
        "Raise the limit of tasks (ulimit -u).",
    ),
    (
        5207,
        "channel_not_granted",
        "A sender may not send to the channel that the plan gives it.",
        "Grant the channel to the endpoint, or name one of those that the message lists.",
    ),
    (
        5208,
        "connection_lost",
        "The server closed a connection of the running load, or stopped speaking the protocol.",
        "Read the server's log; run again when it stands.",
    ),
    (
        5209,
        "frame_too_long",
        "One frame of the plan would be longer than the server takes.",
        "Lower the messages per frame or the body length.",
    ),
    (
        5210,
        "missed_rate",
        "The load could not be sent at the rate that was asked for, so its latencies say nothing. Exit code 3.",
        "Ask for less, send larger batches, or give the generator more processor time.",
    ),
    (
        5211,
        "generator_late",
        "The generator was late by more than the allowed share of the latency it measured. Exit code 3.",
        "Free a processor for the generator, or ask for less.",
    ),
    (
        5212,
        "messages_unaccounted",
        "Messages were lost, duplicated, misordered, altered, or came from nowhere. Exit code 1.",
        "Keep the data folder and look at the evidence lines of the report.",
    ),
    (
        5213,
        "load_activity",
        "The activity of the senders is neither uniform nor a Zipf distribution with its exponent.",
        "Write uniform, or zipf:1.1: the exponent is above 0 and at most 10.",
    ),
];

/// A fault of the plan itself.
pub fn plan(what: &str, seen: impl Display, needed: &str) -> Diagnosis {
    make(
        5201,
        format!("load plan: {what}"),
        seen.to_string(),
        needed.to_owned(),
    )
}

/// A body length that cannot be understood.
pub fn message_bytes(text: &str) -> Diagnosis {
    make(
        5202,
        "message bytes".to_owned(),
        format!("\"{text}\""),
        "lengths of 0 to 262144 bytes".to_owned(),
    )
}

/// A payload source that cannot be read.
pub fn payload_unreadable(name: &str, error: &std::io::Error) -> Diagnosis {
    make(
        5203,
        format!("payload from {name}"),
        error.to_string(),
        "a readable text file".to_owned(),
    )
}

/// A payload source without a line.
pub fn payload_empty(name: &str) -> Diagnosis {
    make(
        5204,
        format!("payload from {name}"),
        "0 lines".to_owned(),
        "at least 1 line".to_owned(),
    )
}

/// A line that no message can carry.
pub fn line_too_long(name: &str, line: usize, bytes: usize) -> Diagnosis {
    make(
        5205,
        format!("payload from {name}, line {line}"),
        format!("{bytes} bytes"),
        "at most 262144 bytes".to_owned(),
    )
}

/// A thread that could not be started.
pub fn thread(error: &std::io::Error) -> Diagnosis {
    make(
        5206,
        "starting a load thread".to_owned(),
        error.to_string(),
        "one more thread".to_owned(),
    )
}

/// A channel that the sender's endpoint may not send to.
pub fn channel_not_granted(endpoint: &str, channel: &str, granted: &str) -> Diagnosis {
    make(
        5207,
        format!("{endpoint} sending to {channel}"),
        format!("grants for: {granted}"),
        format!("a grant for {channel}"),
    )
}

/// A connection that ended under load.
pub fn connection_lost(endpoint: &str, seen: impl Display) -> Diagnosis {
    make(
        5208,
        format!("connection of {endpoint}"),
        seen.to_string(),
        "an open connection until the run is over".to_owned(),
    )
}

/// An activity that cannot be understood.
pub fn activity(text: &str) -> Diagnosis {
    make(
        5213,
        "activity of the senders".to_owned(),
        format!("\"{text}\""),
        "uniform, or zipf: and an exponent above 0 and at most 10".to_owned(),
    )
}

/// A frame that would be longer than allowed.
pub fn frame_too_long(bytes: usize, most: usize) -> Diagnosis {
    make(
        5209,
        "longest frame of the plan".to_owned(),
        format!("{bytes} bytes"),
        format!("at most {most} bytes"),
    )
}

/// A rate that was not reached.
pub fn missed_rate(asked: f64, sent: f64) -> Diagnosis {
    make(
        5210,
        "rate".to_owned(),
        format!("{sent:.0} messages/s sent"),
        format!("{asked:.0} messages/s asked"),
    )
}

/// A generator whose own lateness spoils the latencies.
pub fn generator_late(lateness: f64, most: f64) -> Diagnosis {
    make(
        5211,
        "generator lateness p99".to_owned(),
        format!("{lateness:.3} ms"),
        format!("at most {most:.3} ms"),
    )
}

/// Messages that are not accounted for.
pub fn unaccounted(seen: String) -> Diagnosis {
    make(
        5212,
        "messages".to_owned(),
        seen,
        "every message delivered once, in order, unchanged".to_owned(),
    )
}

/// A fault of the environment as the ring names it.
pub fn ring(error: &ring::RingError) -> Diagnosis {
    Diagnosis {
        code: error.code(),
        what: error.what(),
        seen: error.seen(),
        needed: error.needed(),
        remedy: error.remedy(),
    }
}

fn make(code: u16, what: String, seen: String, needed: String) -> Diagnosis {
    Diagnosis::from_table(CODES, code, what, seen, needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_within_their_range_and_every_one_has_a_remedy() {
        assert!(CODES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(CODES.iter().all(|(code, name, meaning, remedy)| {
            (5201..5300).contains(code)
                && !name.is_empty()
                && !meaning.is_empty()
                && !remedy.is_empty()
        }));
    }
}
