//! `forebay log dump`.

use std::io::{BufWriter, Write};

use clap::ValueEnum;
use control::quantity::show_moment;
use node::inspect::Entry;
use wire::ids::{Offset, UnixNanos};
use wire::message::Message;
use wire::route::RouteTable;
use wire::send::Send;

use super::Folder;
use super::verify::Harm;
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
    log: &'a str,
    offset: u64,
    stored: UnixNanos,
    sender: &'a str,
    channel: &'a str,
    sequence: u64,
}

/// The kind of record that holds a sender's frame.
const FRAME: u8 = 1;

/// Print the messages of the logs asked for.
pub(super) fn run(args: &DumpArgs) -> Result<u8, Fault> {
    let table = args.folder.table()?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for view in args.folder.views()? {
        let log = view.log().to_string();
        let mut left = args.count.unwrap_or(u64::MAX);
        for entry in view.entries_from(Offset(args.from)) {
            if left == 0 {
                break;
            }
            if let Some(harm) = Harm::of(&entry) {
                writeln!(out, "{}", harm.line(args.folder.json)).map_err(|error| output(&error))?;
            }
            for line in lines(&entry, &log, table.as_ref(), args)
                .take(usize::try_from(left).unwrap_or(usize::MAX))
            {
                left -= 1;
                writeln!(out, "{line}").map_err(|error| output(&error))?;
            }
        }
    }
    out.flush().map_err(|error| output(&error))?;
    Ok(0)
}

/// One line for each message of an entry from the first offset asked for.
fn lines<'a>(
    entry: &Entry<'a>,
    log: &'a str,
    table: Option<&RouteTable>,
    args: &'a DumpArgs,
) -> impl Iterator<Item = String> + use<'a> {
    let stored =
        stored_frame(entry).map(|(send, first, time)| (names(&send, table), send, first, time));
    stored
        .into_iter()
        .flat_map(move |((sender, channel), send, first, stored)| {
            let messages = send
                .messages()
                .zip(first.0..)
                .filter(|(_, offset)| *offset >= args.from);
            messages.map(move |(message, offset)| {
                let (sender, channel, sequence) =
                    (sender.as_str(), channel.as_str(), send.sequence().0);
                let place = Place {
                    log,
                    offset,
                    stored,
                    sender,
                    channel,
                    sequence,
                };
                if args.folder.json {
                    json(&place, &message, args.body)
                } else {
                    text(&place, &message, args.body)
                }
            })
        })
}

/// The frame an entry holds, with its first offset and when it was stored.
pub(super) fn stored_frame<'a>(entry: &Entry<'a>) -> Option<(Send<'a>, Offset, UnixNanos)> {
    let Entry::Record(record) = entry else {
        return None;
    };
    if record.kind() as u8 != FRAME {
        return None;
    }
    let (frame, _) = wire::frame::split(record.payload()).ok()??;
    Some((Send::parse(frame).ok()?, record.first(), record.time()))
}

/// Sender and channel by name, or by id when no plan knows them.
fn names(send: &Send<'_>, table: Option<&RouteTable>) -> (String, String) {
    let sender = table
        .and_then(|table| table.endpoint(send.endpoint()))
        .map(|endpoint| endpoint.name().to_owned());
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
