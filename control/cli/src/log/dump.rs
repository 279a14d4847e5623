//! `forebay log dump`.

use std::io::{BufWriter, Write};

use clap::ValueEnum;
use control::quantity::show_moment;
use partition::inspect::Entry;
use partition::record::{Record, RecordKind};
use wire::ids::{Offset, UnixNanos};
use wire::message::Message;
use wire::route::RouteTable;
use wire::send::Send;

use super::Folder;
use crate::fault::{Fault, output};

/// Arguments of `log dump`.
#[derive(clap::Args)]
pub(super) struct DumpArgs {
    #[command(flatten)]
    folder: Folder,
    /// First offset to print
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Most messages to print, per log
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// How bodies are printed
    #[arg(long, value_enum, default_value_t = Body::Text)]
    body: Body,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Body {
    /// As text when it is text, as hex when it is not
    Text,
    /// As hex
    Hex,
    /// Not at all
    None,
}

/// What is known about a message beside its bytes.
struct Place<'a> {
    log: String,
    offset: u64,
    stored: UnixNanos,
    sender: &'a str,
    channel: &'a str,
    sequence: u64,
}

/// Print the messages of the partitions asked for.
pub(super) fn run(args: &DumpArgs) -> Result<u8, Fault> {
    let table = args.folder.table()?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for view in args.folder.views()? {
        let mut left = args.count.unwrap_or(u64::MAX);
        for entry in view.entries_from(Offset(args.from)) {
            if left == 0 {
                break;
            }
            match entry {
                Entry::Damage(damage) => {
                    writeln!(
                        out,
                        "{}",
                        super::verify::damage_line(&damage, args.folder.json)
                    )
                    .map_err(|error| output(&error))?;
                }
                Entry::Record(record) => {
                    let Some(send) = stored_frame(&record) else {
                        continue;
                    };
                    let (sender, channel) = names(&send, table.as_ref());
                    let first = record.first().0;
                    for (index, message) in send.messages().enumerate() {
                        let offset = first + index as u64;
                        if offset < args.from || left == 0 {
                            continue;
                        }
                        left -= 1;
                        let place = Place {
                            log: view.log().to_string(),
                            offset,
                            stored: record.time(),
                            sender: &sender,
                            channel: &channel,
                            sequence: send.sequence().0,
                        };
                        let line = if args.folder.json {
                            json(&place, &message, args.body)
                        } else {
                            text(&place, &message, args.body)
                        };
                        writeln!(out, "{line}").map_err(|error| output(&error))?;
                    }
                }
            }
        }
    }
    out.flush().map_err(|error| output(&error))?;
    Ok(0)
}

/// The frame a record holds, if it holds one.
pub(super) fn stored_frame<'a>(record: &Record<'a>) -> Option<Send<'a>> {
    if record.kind() != RecordKind::Frame {
        return None;
    }
    let (frame, _) = wire::frame::split(record.payload()).ok()??;
    Send::parse(frame).ok()
}

/// Sender and channel by name, or by id when no plan knows them.
fn names(send: &Send<'_>, table: Option<&RouteTable>) -> (String, String) {
    let sender = table
        .and_then(|table| table.endpoint(send.endpoint()))
        .map(|endpoint| endpoint.name.to_string());
    let channel = table
        .and_then(|table| table.channel(send.channel()))
        .map(|channel| channel.name.to_string());
    (
        sender.unwrap_or_else(|| send.endpoint().to_string()),
        channel.unwrap_or_else(|| send.channel().to_string()),
    )
}

fn text(place: &Place<'_>, message: &Message<'_>, body: Body) -> String {
    let time = show_moment(place.stored.seconds());
    let head = format!(
        "{} {} {time} {} > {} #{}",
        place.log, place.offset, place.sender, place.channel, place.sequence
    );
    match body {
        Body::None => format!("{head} {} bytes", message.body.len()),
        _ => format!("{head} {}", show(message.body, body)),
    }
}

fn json(place: &Place<'_>, message: &Message<'_>, body: Body) -> String {
    let headers: serde_json::Map<String, serde_json::Value> = message
        .headers
        .map(|(key, value)| (key.to_owned(), show(value, Body::Text).into()))
        .collect();
    let mut line = serde_json::json!({
        "log": place.log, "offset": place.offset, "stored_unix_nanos": place.stored.0, "sender": place.sender,
        "channel": place.channel, "sequence": place.sequence, "timestamp_unix_nanos": message.timestamp.0,
        "headers": headers, "body_bytes": message.body.len(),
    });
    if body != Body::None {
        let key = if body == Body::Text && is_text(message.body) {
            "body"
        } else {
            "body_hex"
        };
        line[key] = show(
            message.body,
            if key == "body" { Body::Text } else { Body::Hex },
        )
        .into();
    }
    line.to_string()
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        !text
            .chars()
            .any(|c| c.is_control() && c != '\n' && c != '\t')
    })
}

fn show(bytes: &[u8], body: Body) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if body == Body::Text && is_text(bytes) => text.to_owned(),
        _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
