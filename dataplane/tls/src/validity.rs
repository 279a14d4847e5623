//! From when until when a certificate is good: the one field of X.509 that rustls does not tell.
//!
//! Walks DER (X.690) as far as RFC 5280, section 4.1 puts the validity, and no further. Any bytes may come in.

/// From when until when a certificate is good, in unix seconds, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Its first second.
    pub from: i64,
    /// Its last second.
    pub until: i64,
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;

impl Validity {
    /// Of a certificate in DER; `None` if it is none.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = take(certificate, SEQUENCE)?;
        let (signed, _) = take(certificate, SEQUENCE)?;
        let signed = take(signed, VERSION).map_or(signed, |(_, rest)| rest);
        let (_, signed) = take(signed, INTEGER)?;
        let (_, signed) = take(signed, SEQUENCE)?;
        let (_, signed) = take(signed, SEQUENCE)?;
        let (validity, _) = take(signed, SEQUENCE)?;
        let (from, rest) = take_time(validity)?;
        let (until, _) = take_time(rest)?;
        Some(Self { from, until })
    }
}

/// The content of the first element, if it has this tag, and what follows it.
fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7F => (usize::from(length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7F))?;
            let value = digits
                .iter()
                .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            (value, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (first == tag).then_some((content, rest))
}

fn take_time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    if let Some((text, rest)) = take(bytes, UTC_TIME) {
        let (year, text) = number(text, 2)?;
        let century = if year < 50 { 2000 } else { 1900 };
        return Some((unix(century + year, text)?, rest));
    }
    let (text, rest) = take(bytes, GENERALIZED_TIME)?;
    let (year, text) = number(text, 4)?;
    Some((unix(year, text)?, rest))
}

/// `MMDDHHMMSSZ` of a year, as unix seconds.
fn unix(year: i64, text: &[u8]) -> Option<i64> {
    let (month, text) = number(text, 2)?;
    let (day, text) = number(text, 2)?;
    let (hour, text) = number(text, 2)?;
    let (minute, text) = number(text, 2)?;
    let (second, text) = number(text, 2)?;
    let good = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    (good && second <= 60 && text == b"Z")
        .then(|| days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days since 1970-01-01 in the Gregorian calendar: years begin in March, so that the odd day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year
        - 719_468
}

fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (digits, rest) = text.split_at_checked(digits)?;
    let value = |sum: Option<i64>, digit: &u8| {
        let digit = char::from(*digit).to_digit(10)?;
        Some(sum? * 10 + i64::from(digit))
    };
    Some((digits.iter().fold(Some(0), value)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag, 0x82];
        out.extend_from_slice(&(content.len() as u16).to_be_bytes());
        out.extend_from_slice(content);
        out
    }

    fn certificate(from: (u8, &str), until: (u8, &str)) -> Vec<u8> {
        let validity = [from, until]
            .map(|(tag, text)| element(tag, text.as_bytes()))
            .concat();
        let signed = [
            element(VERSION, &element(INTEGER, &[2])),
            element(INTEGER, &[7; 20]),
            element(SEQUENCE, &[5, 0]),
            element(SEQUENCE, &[]),
            element(SEQUENCE, &validity),
            element(SEQUENCE, b"whatever follows"),
        ]
        .concat();
        element(SEQUENCE, &element(SEQUENCE, &signed))
    }

    #[test]
    fn both_ends_of_a_certificate_are_read_in_either_form_of_time() {
        for (why, from, until, want) in [
            (
                "the epoch",
                (UTC_TIME, "700101000000Z"),
                (GENERALIZED_TIME, "19700102000000Z"),
                Some((0, 86_400)),
            ),
            (
                "a leap day",
                (UTC_TIME, "240229120000Z"),
                (UTC_TIME, "240301120000Z"),
                Some((1_709_208_000, 1_709_294_400)),
            ),
            (
                "beyond 2050",
                (UTC_TIME, "491231235959Z"),
                (GENERALIZED_TIME, "99991231235959Z"),
                Some((2_524_607_999, 253_402_300_799)),
            ),
            (
                "no such month",
                (UTC_TIME, "241301000000Z"),
                (UTC_TIME, "240301120000Z"),
                None,
            ),
            (
                "no zone",
                (UTC_TIME, "2401010000000"),
                (UTC_TIME, "240301120000Z"),
                None,
            ),
            (
                "letters",
                (UTC_TIME, "24o101000000Z"),
                (UTC_TIME, "240301120000Z"),
                None,
            ),
            (
                "an integer for a time",
                (INTEGER, "240101000000Z"),
                (UTC_TIME, "240301120000Z"),
                None,
            ),
        ] {
            let seen = Validity::of(&certificate(from, until));
            let want = want.map(|(from, until)| Validity { from, until });
            assert_eq!(seen, want, "{why}");
        }
    }

    #[test]
    fn a_certificate_that_ends_anywhere_is_refused_and_none_panics() {
        let whole = certificate((UTC_TIME, "240101000000Z"), (UTC_TIME, "340101000000Z"));
        assert!(Validity::of(&whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(Validity::of(&whole[..end]), None, "{end} bytes");
        }
        for at in 0..whole.len() {
            for value in [0, 0x7F, 0x80, 0x84, 0x85, 0xFF] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                // Any answer is good, as long as there is one.
                let _ = Validity::of(&bytes);
            }
        }
    }
}
