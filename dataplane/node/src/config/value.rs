//! One value: from TOML or from a variable's text to a number, an address or a word, within the bounds of its setting.

use std::net::SocketAddr;
use std::time::Duration;

use toml::de::DeValue;

use super::setting::{Kind, Setting};
use crate::diagnosis::{ADDRESS_MALFORMED, Diagnosis, OUT_OF_BOUNDS, WRONG_KIND, diagnose};
use crate::placement::{SHARDS_MAX, Shards};

/// A value that fits its setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Address(SocketAddr),
    Count(u64),
    Bytes(u64),
    Duration(Duration),
}

impl Value {
    /// As it would be written in the file.
    pub(super) fn render(&self) -> String {
        match self {
            // A number of shards needs no quotes.
            Self::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.clone(),
            Self::Text(text) => format!("{text:?}"),
            Self::Address(address) => format!("\"{address}\""),
            Self::Count(count) => count.to_string(),
            Self::Bytes(bytes) => match UNITS.iter().find(|(_, unit)| bytes % unit == 0) {
                Some((name, unit)) if *bytes > 0 => format!("\"{}{name}\"", bytes / unit),
                _ => bytes.to_string(),
            },
            Self::Duration(time) => match time.as_millis() {
                millis if millis % 1000 == 0 => format!("\"{}s\"", millis / 1000),
                millis => format!("\"{millis}ms\""),
            },
        }
    }
}

/// Byte units, the greatest first.
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// What switches an address off.
pub(super) const NONE: &str = "none";

/// A value of the file. `place` names it for the reader: `node.listen on line 3`.
pub(super) fn from_toml(
    setting: &Setting,
    value: &DeValue<'_>,
    place: &str,
) -> Result<Value, Diagnosis> {
    match (setting.kind, value) {
        (_, DeValue::String(text))
            if !matches!(setting.kind, Kind::Count(..) | Kind::Power(..)) =>
        {
            from_text(setting, text, place)
        }
        (
            Kind::Count(..) | Kind::Power(..) | Kind::Bytes(..) | Kind::Shards,
            DeValue::Integer(number),
        ) => from_text(setting, &number.to_string(), place),
        _ => Err(wrong_kind(setting, value.type_str(), place)),
    }
}

/// A value written as text: in a variable, or between quotes in the file.
pub(super) fn from_text(setting: &Setting, text: &str, place: &str) -> Result<Value, Diagnosis> {
    match setting.kind {
        Kind::Text if text.is_empty() => Err(wrong_kind(setting, "empty text", place)),
        Kind::Text => Ok(Value::Text(text.into())),
        Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.into())),
        Kind::Choice(_) => Err(wrong_kind(setting, &format!("{text:?}"), place)),
        Kind::Shards => match Shards::parse(text) {
            Some(_) => Ok(Value::Text(text.trim().into())),
            None if text.trim().parse::<i128>().is_ok() => Err(bounds(setting, text, place)),
            None => Err(wrong_kind(setting, &format!("{text:?}"), place)),
        },
        Kind::AddressOrNone if text == NONE => Ok(Value::Text(text.into())),
        Kind::Address | Kind::AddressOrNone => text
            .parse()
            .map(Value::Address)
            .map_err(|_| malformed(text, place)),
        Kind::Count(min, max) => number(setting, text, place)
            .and_then(|count| within(setting, count, (min, max), place))
            .map(Value::Count),
        Kind::Power(min, max) => number(setting, text, place)
            .and_then(|count| within(setting, count, (min, max), place))
            .and_then(|count| power(setting, count, place))
            .map(Value::Count),
        Kind::Bytes(min, max) => {
            let bytes = bytes(text).ok_or_else(|| wrong_kind(setting, &format!("{text:?}"), place));
            within(setting, bytes?, (min, max), place).map(Value::Bytes)
        }
        Kind::Duration(min, max) => {
            let time = millis(text).ok_or_else(|| wrong_kind(setting, &format!("{text:?}"), place));
            within(setting, time?, (min, max), place)
                .map(|millis| Value::Duration(Duration::from_millis(millis)))
        }
    }
}

fn number(setting: &Setting, text: &str, place: &str) -> Result<u64, Diagnosis> {
    let digits = text.replace('_', "");
    match digits.parse::<i128>() {
        Ok(number) => u64::try_from(number).map_err(|_| bounds(setting, text, place)),
        Err(_) => Err(wrong_kind(setting, &format!("{text:?}"), place)),
    }
}

fn within(
    setting: &Setting,
    count: u64,
    (min, max): (u64, u64),
    place: &str,
) -> Result<u64, Diagnosis> {
    match (min..=max).contains(&count) {
        true => Ok(count),
        false => Err(bounds(setting, &count.to_string(), place)),
    }
}

fn power(setting: &Setting, count: u64, place: &str) -> Result<u64, Diagnosis> {
    match count.is_power_of_two() {
        true => Ok(count),
        false => Err(bounds(setting, &count.to_string(), place)),
    }
}

/// `65536`, `64KiB`, `16 MiB`.
fn bytes(text: &str) -> Option<u64> {
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| text.strip_suffix(name).map(|digits| (digits, *unit)))
        .unwrap_or((text, 1));
    let count: u64 = digits.trim_end().replace('_', "").parse().ok()?;
    count.checked_mul(unit)
}

/// `250ms`, `30s`, `5m`, `1h`, in milliseconds.
fn millis(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| text.strip_suffix(name).map(|digits| (digits, *unit)))?;
    let count: u64 = digits.trim_end().parse().ok()?;
    count.checked_mul(unit)
}

fn malformed(text: &str, place: &str) -> Diagnosis {
    diagnose(
        ADDRESS_MALFORMED,
        place,
        format!("{text:?}"),
        "ip:port, such as 127.0.0.1:7411 or [::1]:7411",
        "write the address as numbers; names are not looked up",
    )
}

fn wrong_kind(setting: &Setting, seen: &str, place: &str) -> Diagnosis {
    diagnose(
        WRONG_KIND,
        place,
        seen,
        needed(setting.kind),
        example(setting),
    )
}

fn bounds(setting: &Setting, seen: &str, place: &str) -> Diagnosis {
    diagnose(
        OUT_OF_BOUNDS,
        place,
        seen,
        needed(setting.kind),
        example(setting),
    )
}

fn example(setting: &Setting) -> String {
    match setting.default {
        Some(default) => format!("change it, or leave it out for the default {default}"),
        None => "change it, or leave it out".into(),
    }
}

/// What a kind asks for, in words.
fn needed(kind: Kind) -> String {
    match kind {
        Kind::Text => "text that is not empty".into(),
        Kind::Address => "ip:port".into(),
        Kind::AddressOrNone => "ip:port, or \"none\"".into(),
        Kind::Shards => {
            format!("\"auto\", a number from 1 to {SHARDS_MAX}, or processors such as \"0-3,6\"")
        }
        Kind::Count(min, max) => format!("a whole number from {min} to {max}"),
        Kind::Power(min, max) => format!("a power of two from {min} to {max}"),
        Kind::Bytes(min, max) => format!(
            "bytes from {} to {}, such as 65536 or \"64KiB\"",
            Value::Bytes(min).render().replace('"', ""),
            Value::Bytes(max).render().replace('"', "")
        ),
        Kind::Duration(min, max) => {
            let show = |millis| Value::Duration(Duration::from_millis(millis)).render();
            format!(
                "a duration from {} to {}, such as \"250ms\" or \"30s\"",
                show(min),
                show(max)
            )
        }
        Kind::Choice(words) => words
            .iter()
            .map(|word| format!("{word:?}"))
            .collect::<Vec<_>>()
            .join(" or "),
    }
}
