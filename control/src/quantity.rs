//! Amounts as people write them: `"64MiB"` and `"30s"`, or plain numbers of bytes and seconds.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// A number of bytes, written as an integer or as text with a unit (B, KiB, MiB, GiB, TiB, kB, MB, GB, TB).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// A length of time, written as an integer of seconds or as text with a unit (ms, s, m, h, d).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age(pub Duration);

/// Most bytes: as many as every reader of JSON and TOML counts exactly.
pub const BYTES_MAX: u64 = (1 << 53) - 1;

const BYTE_UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

const AGE_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Read an amount of bytes such as `64MiB`, `1.5 GiB` or `4096`.
///
/// # Errors
/// A sentence that shows the accepted form.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let amount = amount(text, &BYTE_UNITS, 1).filter(|bytes| *bytes <= BYTES_MAX);
    amount.ok_or_else(|| {
        "a byte count such as 4096, \"512KiB\", \"64MiB\" or \"2GiB\", below 8192 TiB".to_owned()
    })
}

/// Read a length of time such as `30s`, `250ms` or `7d`; a bare number is seconds.
///
/// # Errors
/// A sentence that shows the accepted form.
pub fn parse_age(text: &str) -> Result<Duration, String> {
    amount(text, &AGE_UNITS, 1_000)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            "a duration such as \"250ms\", \"30s\", \"15m\", \"12h\" or \"7d\"".to_owned()
        })
}

/// `text` as a whole number of smallest units; `None` when it is malformed or does not fit.
fn amount(text: &str, units: &[(&str, u64)], bare: u64) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let scale = match unit {
        "" => bare,
        _ => units
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, scale)| *scale)?,
    };
    let number = number.replace('_', "");
    let (whole, part) = number.split_once('.').unwrap_or((&number, ""));
    let whole: u64 = whole.parse().ok()?;
    let mut total = whole.checked_mul(scale)?;
    if !part.is_empty() {
        let value: u64 = part.parse().ok()?;
        let divisor = 10u64.checked_pow(u32::try_from(part.len()).ok()?)?;
        total = total.checked_add(
            u64::try_from(u128::from(value) * u128::from(scale) / u128::from(divisor)).ok()?,
        )?;
    }
    Some(total)
}

/// Bytes as people read them: the largest unit that leaves a number of at least one.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    let (unit, scale) = match bytes {
        0..1_024 => return format!("{bytes} B"),
        1_024..1_048_576 => ("KiB", 1u64 << 10),
        1_048_576..1_073_741_824 => ("MiB", 1 << 20),
        _ => ("GiB", 1 << 30),
    };
    if bytes.is_multiple_of(scale) {
        return format!("{} {unit}", bytes / scale);
    }
    let tenths = u128::from(bytes) * 10 / u128::from(scale);
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// A duration in its largest whole unit.
#[must_use]
pub fn show_age(age: Duration) -> String {
    let milliseconds = age.as_millis();
    for (unit, scale) in AGE_UNITS.iter().rev() {
        let scale = u128::from(*scale);
        if milliseconds >= scale && milliseconds.is_multiple_of(scale) {
            return format!("{}{unit}", milliseconds / scale);
        }
    }
    format!("{milliseconds}ms")
}

/// Seconds since 1970 of a date and time with an offset; `None` without one, or before 1970.
#[must_use]
pub fn unix_seconds(moment: &toml::value::Datetime) -> Option<u64> {
    let (date, time) = (moment.date?, moment.time?);
    let offset = match moment.offset? {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes) * 60,
    };
    let days = days_since_1970(
        i64::from(date.year),
        i64::from(date.month),
        i64::from(date.day),
    );
    let clock = i64::from(time.hour) * 3_600
        + i64::from(time.minute) * 60
        + i64::from(time.second.unwrap_or(0));
    u64::try_from(days * 86_400 + clock - offset).ok()
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; years are counted from March, so that the leap
/// day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A moment as text, to the second, in UTC.
#[must_use]
pub fn show_moment(seconds: u64) -> String {
    let days = (seconds / 86_400) as i64 + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let clock = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        clock / 3_600,
        clock / 60 % 60,
        clock % 60
    )
}

/// Reads an integer or a text with a unit.
struct Amount<T>(fn(&str) -> Result<T, String>, &'static str);

impl<T> Visitor<'_> for Amount<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.1)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
        (self.0)(value)
            .map_err(|needed| E::custom(format_args!("amount `{value}`, expected {needed}")))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Amount(
                parse_bytes,
                "a byte count such as 4096 or \"64MiB\"",
            ))
            .map(Bytes)
    }
}

impl Serialize for Bytes {
    /// A number, or text where readers could not hold the number.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(self.0) {
            Ok(bytes) => serializer.serialize_i64(bytes),
            Err(_) => serializer.serialize_str(&format!("{}B", self.0)),
        }
    }
}

impl Serialize for Age {
    /// Text with its unit.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show_age(self.0))
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Amount(parse_age, "a duration such as 30 or \"30s\""))
            .map(Age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts_are_read_with_their_units() {
        for (text, want) in [
            ("0", Some(0)),
            ("4096", Some(4_096)),
            ("64MiB", Some(64 << 20)),
            ("64 MiB", Some(64 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("10MB", Some(10_000_000)),
            ("1_000B", Some(1_000)),
            ("64Mib", None),
            ("MiB", None),
            ("-1", None),
            ("99999999999TiB", None),
            ("1.2.3B", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn durations_are_read_with_their_units_and_bare_numbers_are_seconds() {
        for (text, want) in [
            ("30", Some(30_000)),
            ("30s", Some(30_000)),
            ("250ms", Some(250)),
            ("1.5h", Some(5_400_000)),
            ("7d", Some(604_800_000)),
            ("7 weeks", None),
            ("s", None),
        ] {
            assert_eq!(
                parse_age(text).ok(),
                want.map(Duration::from_millis),
                "{text}"
            );
        }
    }

    #[test]
    fn moments_become_seconds_and_come_back() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2026-11-21T05:00:00+05:00", Some(1_795_219_200)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-11-21T05:00:00", None),
            ("2026-11-21", None),
        ] {
            let moment = text.parse().expect("a TOML date");
            assert_eq!(unix_seconds(&moment), want, "{text}");
            if let (Some(seconds), true) = (want, text.ends_with('Z')) {
                assert_eq!(show_moment(seconds), text);
            }
        }
    }

    #[test]
    fn amounts_are_shown_in_their_largest_unit() {
        for (bytes, want) in [
            (12, "12 B"),
            (1_536, "1.5 KiB"),
            (64 << 20, "64 MiB"),
            (3 << 30, "3 GiB"),
        ] {
            assert_eq!(show_bytes(bytes), want);
        }
        for (age, want) in [
            (250, "250ms"),
            (30_000, "30s"),
            (90_000, "90s"),
            (86_400_000, "1d"),
        ] {
            assert_eq!(show_age(Duration::from_millis(age)), want);
        }
    }
}
