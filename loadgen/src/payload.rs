//! What the messages carry: synthetic bodies, lines of a file or of stdin, or this machine's own readings.
//!
//! Bodies are made before the run (or, for `host`, beside it) and only looked up while it is under way.

use crate::diagnosis;
use crate::host;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::mpsc::Receiver;
use wire::diagnosis::Diagnosis;
use wire::limits::BODY_BYTES_MAX;

const SYNTHETIC_COUNT: usize = 1_024;
const SYNTHETIC_BYTES_MAX: usize = 32 << 20;
const LINES_BYTES_MAX: u64 = 64 << 20;
const HOST_COUNT_MAX: usize = 4_096;

/// Where bodies come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayloadSource {
    /// Pseudo-random bytes with the lengths of `LoadOptions::message_bytes`.
    #[default]
    Synthetic,
    /// The lines of a text file, one message each, again from the top when they run out.
    Lines(PathBuf),
    /// The lines of standard input, read to its end (or 64 MiB) before the run.
    Stdin,
    /// CPU, memory, disk and network readings of this machine from /proc, as JSON.
    Host,
}

/// How long synthetic bodies are: `128`, `64-1024` (uniform) or `128:80,4096:20` (bytes:weight).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BodySizes {
    /// Always the same length.
    Fixed(u32),
    /// Every length between the two, both included, equally often.
    Uniform(u32, u32),
    /// Lengths with weights.
    Mixed(Vec<(u32, u32)>),
}

impl BodySizes {
    fn pick(&self, random: &mut fastrand::Rng) -> usize {
        let bytes = match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform(least, most) => random.u32(*least..=*most),
            Self::Mixed(parts) => {
                let total: u64 = parts.iter().map(|(_, weight)| u64::from(*weight)).sum();
                let mut at = random.u64(0..total);
                let mut chosen = parts[0].0;
                for (bytes, weight) in parts {
                    chosen = *bytes;
                    if at < u64::from(*weight) {
                        break;
                    }
                    at -= u64::from(*weight);
                }
                chosen
            }
        };
        bytes as usize
    }
}

impl FromStr for BodySizes {
    type Err = Diagnosis;

    fn from_str(text: &str) -> Result<Self, Diagnosis> {
        let refuse = || diagnosis::message_bytes(text);
        let bytes = |text: &str| match text.trim().parse::<u32>() {
            Ok(bytes) if bytes as usize <= BODY_BYTES_MAX => Ok(bytes),
            _ => Err(refuse()),
        };
        if text.contains(':') {
            let mut parts = Vec::new();
            for part in text.split(',') {
                let (length, weight) = part.split_once(':').ok_or_else(refuse)?;
                let weight: u32 = weight
                    .trim()
                    .trim_end_matches('%')
                    .parse()
                    .map_err(|_| refuse())?;
                parts.push((bytes(length)?, weight));
            }
            if parts.iter().all(|(_, weight)| *weight == 0) {
                return Err(refuse());
            }
            return Ok(Self::Mixed(parts));
        }
        match text.split_once('-') {
            Some((least, most)) if bytes(least)? <= bytes(most)? => {
                Ok(Self::Uniform(bytes(least)?, bytes(most)?))
            }
            Some(_) => Err(refuse()),
            None => Ok(Self::Fixed(bytes(text)?)),
        }
    }
}

impl fmt::Display for BodySizes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(out, "{bytes}"),
            Self::Uniform(least, most) => write!(out, "{least}-{most}"),
            Self::Mixed(parts) => {
                for (index, (bytes, weight)) in parts.iter().enumerate() {
                    write!(out, "{}{bytes}:{weight}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl TryFrom<String> for BodySizes {
    type Error = Diagnosis;
    fn try_from(text: String) -> Result<Self, Diagnosis> {
        text.parse()
    }
}

impl From<BodySizes> for String {
    fn from(sizes: BodySizes) -> String {
        sizes.to_string()
    }
}

/// The bodies of a run, looked up by index.
#[derive(Debug)]
pub struct Bodies {
    bodies: Vec<Box<[u8]>>,
    /// Whether the first bytes of a long enough body may be overwritten by the stamp.
    stamped_inside: bool,
    /// New readings; `None` when all bodies are there from the start.
    readings: Option<Receiver<Box<[u8]>>>,
    latest: usize,
}

impl Bodies {
    /// Make or read the bodies.
    ///
    /// # Errors
    /// A 52xx diagnosis when a file cannot be read, holds no line, or holds a line longer than a message body may be.
    pub fn open(source: &PayloadSource, sizes: &BodySizes, seed: u64) -> Result<Self, Diagnosis> {
        let fixed = |bodies, stamped_inside| Self {
            bodies,
            stamped_inside,
            readings: None,
            latest: 0,
        };
        match source {
            PayloadSource::Synthetic => Ok(fixed(synthetic(sizes, seed), true)),
            PayloadSource::Lines(path) => {
                let name = path.display().to_string();
                let file = std::fs::File::open(path)
                    .map_err(|error| diagnosis::payload_unreadable(&name, &error))?;
                Ok(fixed(lines(&name, BufReader::new(file))?, false))
            }
            PayloadSource::Stdin => Ok(fixed(lines("stdin", std::io::stdin().lock())?, false)),
            PayloadSource::Host => {
                let (first, readings) = host::start()?;
                Ok(Self {
                    bodies: vec![first],
                    stamped_inside: false,
                    readings: Some(readings),
                    latest: 0,
                })
            }
        }
    }

    /// The index of the body for message `number`; for `host` the newest reading.
    pub fn pick(&self, number: u64) -> u32 {
        let index = if self.readings.is_some() {
            self.latest
        } else {
            (number % self.bodies.len() as u64) as usize
        };
        index as u32
    }

    /// The body at an index that [`Bodies::pick`] gave.
    pub fn body(&self, index: u32) -> &[u8] {
        &self.bodies[index as usize]
    }

    /// Whether this body may carry the stamp in its own first bytes.
    pub fn stamped_inside(&self) -> bool {
        self.stamped_inside
    }

    /// The longest body, in bytes.
    pub fn longest(&self) -> usize {
        self.bodies.iter().map(|body| body.len()).max().unwrap_or(0)
    }

    /// Take over readings that were made since the last call. Cheap when there are none.
    pub fn refresh(&mut self) {
        let Some(readings) = &self.readings else {
            return;
        };
        while let Ok(reading) = readings.try_recv() {
            if self.bodies.len() < HOST_COUNT_MAX {
                self.latest = self.bodies.len();
                self.bodies.push(reading);
            } else {
                self.latest = (self.latest + 1) % HOST_COUNT_MAX;
                self.bodies[self.latest] = reading;
            }
        }
    }
}

fn synthetic(sizes: &BodySizes, seed: u64) -> Vec<Box<[u8]>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bodies: Vec<Box<[u8]>> = Vec::new();
    let mut total = 0;
    while bodies.len() < SYNTHETIC_COUNT && (bodies.is_empty() || total < SYNTHETIC_BYTES_MAX) {
        let mut body = vec![0; sizes.pick(&mut random)];
        random.fill(&mut body);
        total += body.len();
        bodies.push(body.into());
    }
    bodies
}

fn lines(name: &str, input: impl BufRead) -> Result<Vec<Box<[u8]>>, Diagnosis> {
    let mut bodies: Vec<Box<[u8]>> = Vec::new();
    for line in input.take(LINES_BYTES_MAX).split(b'\n') {
        let mut line = line.map_err(|error| diagnosis::payload_unreadable(name, &error))?;
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.len() > BODY_BYTES_MAX {
            return Err(diagnosis::line_too_long(name, bodies.len() + 1, line.len()));
        }
        bodies.push(line.into());
    }
    if bodies.is_empty() {
        return Err(diagnosis::payload_empty(name));
    }
    Ok(bodies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_sizes_are_read_and_shown_in_one_notation() {
        for (text, want) in [
            ("0", Some(BodySizes::Fixed(0))),
            ("128", Some(BodySizes::Fixed(128))),
            ("262144", Some(BodySizes::Fixed(262_144))),
            ("262145", None),
            ("64-1024", Some(BodySizes::Uniform(64, 1024))),
            ("1024-64", None),
            (
                "128:80,4096:20",
                Some(BodySizes::Mixed(vec![(128, 80), (4096, 20)])),
            ),
            ("128:0", None),
            ("128:1,", None),
            ("", None),
            ("-5", None),
            ("big", None),
        ] {
            let got = text.parse::<BodySizes>().ok();
            assert_eq!(got, want, "{text}");
            if let Some(sizes) = got {
                assert_eq!(sizes.to_string(), text);
            }
        }
    }

    #[test]
    fn synthetic_bodies_follow_their_distribution_and_their_seed() {
        let sizes: BodySizes = "10:75,20:25".parse().expect("valid");
        let bodies = synthetic(&sizes, 5);
        let short = bodies.iter().filter(|body| body.len() == 10).count();
        assert_eq!(bodies.len(), SYNTHETIC_COUNT);
        assert!((700..840).contains(&short), "{short} of 1024 are short");
        assert_eq!(bodies, synthetic(&sizes, 5));
        assert_ne!(bodies, synthetic(&sizes, 6));
    }

    #[test]
    fn lines_become_bodies_without_their_line_ends() {
        let long = vec![b'x'; BODY_BYTES_MAX + 1];
        for (why, input, want) in [
            (
                "two lines",
                &b"one\ntwo\r\n"[..],
                Some(vec![&b"one"[..], b"two"]),
            ),
            (
                "no last line end",
                b"one\n\nthree",
                Some(vec![b"one", b"", b"three"]),
            ),
            ("nothing", b"", None),
            ("one byte more than a body may hold", &long, None),
            (
                "exactly what a body may hold",
                &long[1..],
                Some(vec![&long[1..]]),
            ),
        ] {
            let got = lines("test", input).ok();
            let got: Option<Vec<&[u8]>> = got
                .as_ref()
                .map(|all| all.iter().map(|body| &**body).collect());
            assert!(got == want, "{why}");
        }
    }

    #[test]
    fn host_readings_replace_each_other_as_they_come() {
        let (put, readings) = std::sync::mpsc::channel();
        let first: Box<[u8]> = b"1".as_slice().into();
        let mut bodies = Bodies {
            bodies: vec![first],
            stamped_inside: false,
            readings: Some(readings),
            latest: 0,
        };
        assert_eq!(bodies.body(bodies.pick(9)), b"1");
        put.send(b"2".as_slice().into()).expect("receiver lives");
        bodies.refresh();
        assert_eq!(bodies.body(bodies.pick(9)), b"2");
        assert_eq!(
            bodies.body(0),
            b"1",
            "earlier readings stay for frames that carry them"
        );
    }
}
