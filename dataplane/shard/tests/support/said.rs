//! What the server said, and how a test asks for a part of it.

use wire::ack::{Ack, Reject};
use wire::delivery::{Deliver, GroupHeader, Source};
use wire::frame::FrameKind;
use wire::handshake::{Welcome, WelcomeFields, parse_refused};
use wire::home::Home;
use wire::ids::*;
use wire::link::{parse_goaway, parse_pong};
use wire::preface::Preface;
use wire::reason::{Notice, Reason};
use wire::signature::{SessionKeys, verify_session};

use super::Client;

/// A message as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    pub header: GroupHeader,
    pub number: u64,
    pub body: Vec<u8>,
}

/// What the server said.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Preface(Preface),
    Welcome(
        Box<WelcomeFields>,
        Vec<(ChannelId, PartitionId, Sequence, AckMode)>,
    ),
    Refused(Notice),
    Ack(Ack),
    Reject(Reject),
    Deliver(Source, Vec<Delivered>),
    Pong(Sequence),
    Goaway(Notice),
}

impl Client {
    pub(super) fn understand(&mut self, frame: wire::Frame<'_>) -> Said {
        if let Some(home) = Home::told(frame) {
            self.home = Some(home.to_string());
        }
        if frame.kind() == FrameKind::Refused {
            return Said::Refused(parse_refused(frame).unwrap());
        }
        if frame.signature().is_empty() {
            return Said::Goaway(parse_goaway(frame).unwrap());
        }
        if frame.kind() == FrameKind::Welcome {
            let fields = Welcome::parse(frame).unwrap().fields;
            let (ours, theirs) = (&self.nonce, &fields.server_nonce);
            self.keys = Some(SessionKeys::derive(
                &self.secret,
                ours,
                theirs,
                fields.session_id,
                &self.exporter,
            ));
            self.session = fields.session_id;
        }
        let key = &self.keys.as_ref().unwrap().server;
        assert!(
            verify_session(key, self.frames_in, &frame),
            "frame {} of the server: {frame:?}",
            self.frames_in
        );
        self.frames_in += 1;
        match frame.kind() {
            FrameKind::Welcome => {
                let welcome = Welcome::parse(frame).unwrap();
                let entry = |entry: wire::handshake::WelcomeEntry<'_>| {
                    (
                        entry.channel,
                        entry.partition,
                        entry.last_sequence,
                        entry.ack_mode,
                    )
                };
                Said::Welcome(
                    Box::new(welcome.fields),
                    welcome.entries().map(entry).collect(),
                )
            }
            FrameKind::Ack => Said::Ack(Ack::parse(frame).unwrap()),
            FrameKind::Reject => Said::Reject(Reject::parse(frame).unwrap()),
            FrameKind::Deliver => deliveries(Deliver::parse(frame).unwrap()),
            FrameKind::Pong => Said::Pong(parse_pong(frame).unwrap()),
            FrameKind::Goaway => Said::Goaway(parse_goaway(frame).unwrap()),
            other => panic!("{other:?} from the server"),
        }
    }
}

fn deliveries(deliver: Deliver<'_>) -> Said {
    let mut messages = Vec::new();
    for group in deliver.groups() {
        for (at, message) in group.messages().enumerate() {
            let number = group.header.number.0 + at as u64;
            messages.push(Delivered {
                header: group.header,
                number,
                body: message.body.to_vec(),
            });
        }
    }
    Said::Deliver(deliver.source(), messages)
}

/// The reason of the only frame in `said`, which refuses something.
pub fn reason(said: &[Said]) -> Reason {
    match said
        .iter()
        .find(|said| !matches!(said, Said::Preface(_) | Said::Ack(_)))
    {
        Some(Said::Refused(notice) | Said::Goaway(notice)) => notice.reason,
        Some(Said::Reject(reject)) => reject.notice.reason,
        other => panic!("{other:?} refuses nothing; all: {said:?}"),
    }
}

/// The numbers acknowledged in `said`.
pub fn acks(said: &[Said]) -> Vec<u64> {
    said.iter()
        .filter_map(|said| {
            if let Said::Ack(ack) = said {
                Some(ack.sequence.0)
            } else {
                None
            }
        })
        .collect()
}

/// The numbers and reasons rejected in `said`.
pub fn rejects(said: &[Said]) -> Vec<(u64, Reason)> {
    said.iter()
        .filter_map(|said| match said {
            Said::Reject(reject) => Some((reject.sequence.0, reject.notice.reason)),
            _ => None,
        })
        .collect()
}

/// The bodies delivered in `said`.
pub fn bodies(said: &[Said]) -> Vec<Vec<u8>> {
    said.iter()
        .flat_map(|said| match said {
            Said::Deliver(_, messages) => messages
                .iter()
                .map(|message| message.body.clone())
                .collect(),
            _ => Vec::new(),
        })
        .collect()
}
