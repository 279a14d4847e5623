//! Schemas of single values: as tight as the rules behind them, so that what they allow is taken.
//!
//! Where a rule is about two values at once, or about bits of a number, the schema allows a part of what is taken and its description says so.

use serde_json::{Value, json};
use wire::limits::BODY_BYTES_MAX;
use wire::route::NODE_NAME_BYTES_MAX;

use crate::compile::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::model::PART_BYTES_MAX;
use crate::quantity::BYTES_MAX;

/// Largest whole number that every reader of JSON reads exactly.
pub(super) const EXACT_MAX: u64 = BYTES_MAX;

/// A part of a name: not `.` and not `..`.
pub(super) fn part() -> Value {
    json!({
        "type": "string",
        "minLength": 1,
        "maxLength": PART_BYTES_MAX,
        "pattern": r"^([A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*|\.{3,80})$",
    })
}

/// A name of so many parts.
pub(super) fn name_of(parts: usize) -> Value {
    let part = format!("[A-Za-z0-9._-]{{1,{PART_BYTES_MAX}}}");
    let all = vec![part; parts].join("/");
    json!({ "type": "string", "pattern": format!("^{all}$") })
}

/// The name of a node: a label of DNS in small letters, and no number.
pub(super) fn node_name() -> Value {
    json!({
        "type": "string",
        "minLength": 1,
        "maxLength": NODE_NAME_BYTES_MAX,
        "pattern": "^([a-z]|[a-z][a-z0-9-]*[a-z0-9]|[0-9][0-9-]*[a-z]|[0-9][0-9-]*[a-z][a-z0-9-]*[a-z0-9])$",
    })
}

/// Where clients reach a node.
pub(super) fn node_address() -> Value {
    json!({
        "type": "string",
        "pattern": "^[A-Za-z0-9._-]{1,200}:[1-9][0-9]{0,3}$",
        "description": "host and port; ports up to 65535 and addresses of IPv6 in brackets are taken, too",
    })
}

/// A channel: in the endpoint's own environment, or by its full name.
pub(super) fn channel() -> Value {
    json!({ "anyOf": [part(), name_of(3)] })
}

pub(super) fn text() -> Value {
    json!({ "type": "string" })
}

pub(super) fn flag() -> Value {
    json!({ "type": "boolean" })
}

/// Any whole number that we count.
pub(super) fn whole() -> Value {
    range(0, EXACT_MAX)
}

/// A whole number within bounds.
pub(super) fn range(least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

/// Messages per second.
pub(super) fn rate() -> Value {
    range(1, u64::from(u32::MAX))
}

/// Bytes from this many on, as a number or with one of these units behind one to four digits, or TiB behind one to three.
pub(super) fn bytes_from(least: u64, units: &str) -> Value {
    json!({
        "anyOf": [
            { "type": "integer", "minimum": least, "maximum": EXACT_MAX },
            { "type": "string", "pattern": format!("^([1-9][0-9]{{0,3}}({units})|[1-9][0-9]{{0,2}}TiB)$") },
        ],
        "description": "bytes; text may have B, KiB, MiB, GiB, TiB, kB, MB, GB or TB and a fraction",
    })
}

/// Bytes of frames per second.
pub(super) fn byte_rate() -> Value {
    bytes_from(1 << 10, "KiB|MiB|GiB")
}

pub(super) fn segment_bytes() -> Value {
    json!({
        "anyOf": [
            {
                "type": "integer",
                "minimum": SEGMENT_BYTES_MIN,
                "maximum": SEGMENT_BYTES_MAX,
                "multipleOf": 65_536,
            },
            { "type": "string", "pattern": "^(([2-9]|[1-9][0-9]{1,2})MiB|1GiB)$" },
        ],
    })
}

/// At least a segment: of the longest segment here, of shorter ones less is taken.
pub(super) fn retention_bytes() -> Value {
    let mut schema = bytes_from(SEGMENT_BYTES_MAX, "GiB");
    schema["description"] = "at least segment_bytes, which may be less than this says".into();
    schema
}

pub(super) fn body_bytes() -> Value {
    json!({
        "anyOf": [range(0, BODY_BYTES_MAX as u64), { "type": "string", "pattern": "^[1-9][0-9]?KiB$" }],
        "description": format!("at most {BODY_BYTES_MAX} bytes, in any unit"),
    })
}

/// At least the longest body.
pub(super) fn queue_bytes() -> Value {
    bytes_from(BODY_BYTES_MAX as u64, "MiB|GiB")
}

pub(super) fn age() -> Value {
    json!({
        "anyOf": [range(0, u64::from(u32::MAX)), { "type": "string", "pattern": "^[1-9][0-9]{0,3}(ms|s|m|h|d)$" }],
        "description": "seconds, or text with ms, s, m, h or d",
    })
}

/// How long to wait.
pub(super) fn wait() -> Value {
    json!({
        "type": "string",
        "pattern": "^([1-9][0-9]{0,2}ms|[1-9]s)$",
        "description": "wait until every shard of every node has it; at most 60s",
    })
}

/// A date and time of this century.
pub(super) fn moment() -> Value {
    let days = "(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])";
    let clock = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]";
    json!({
        "type": "string",
        "pattern": format!("^20[0-9]{{2}}-{days}T{clock}Z$"),
        "description": "a date and time as in RFC 3339; another offset than Z and any day of the calendar are taken, too",
    })
}

/// Hours of days in UTC.
pub(super) fn hours() -> Value {
    let days = "(daily|mon|tue|wed|thu|fri|sat|sun|mon-fri|sat,sun)";
    let day = "0[0-9]:[0-5][0-9]-1[0-9]:[0-5][0-9]";
    let night = "2[0-3]:[0-5][0-9]-0[0-9]:[0-5][0-9]";
    json!({
        "type": "string",
        "pattern": format!("^{days} ({day}|{night})$"),
        "description": "days and two different times of day in UTC, such as `mon-fri 08:00-17:30` or `sat,sun 22:00-06:00`",
    })
}

/// Transports: datagrams belong to a session over QUIC.
pub(super) fn transports() -> Value {
    let sessions = json!({ "enum": ["tcp", "tls", "quic"] });
    json!({
        "anyOf": [
            list(sessions),
            { "type": "array", "items": transport(), "contains": { "const": "quic" } },
        ],
    })
}

pub(super) fn transport() -> Value {
    json!({ "enum": ["tcp", "tls", "quic", "quic-datagram"] })
}

/// SHA-256 of a certificate.
pub(super) fn fingerprint() -> Value {
    json!({ "type": "string", "pattern": "^([0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31})$" })
}

/// An address, or a range whose other bits are zero.
pub(super) fn addresses() -> Value {
    let byte = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
    let four = format!(r"^{byte}\.{byte}\.{byte}\.{byte}(/32)?$");
    let ranges = format!(r"^{byte}\.(0\.0\.0/8|{byte}\.(0\.0/16|{byte}\.0/24))$");
    let six = "^[1-9a-f][0-9a-f]{3}(::/16|:[1-9a-f][0-9a-f]{3}(::/32|::1))$";
    let forms = [four, ranges, six.to_owned()];
    let forms = forms.map(|pattern| json!({ "type": "string", "pattern": pattern }));
    json!({
        "anyOf": forms,
        "description": "an address, or any range in CIDR form whose other bits are zero",
    })
}

/// One address.
pub(super) fn address() -> Value {
    json!({ "anyOf": [{ "type": "string", "format": "ipv4" }, { "type": "string", "format": "ipv6" }] })
}

/// An Ed25519 key: not every text of this form is a point of the curve.
pub(super) fn public() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$" })
}

/// The base64 of 32 bytes.
pub(super) fn secret() -> Value {
    public()
}

pub(super) fn list(of: Value) -> Value {
    json!({ "type": "array", "items": of })
}

pub(super) fn maybe(of: Value) -> Value {
    json!({ "anyOf": [of, { "type": "null" }] })
}
