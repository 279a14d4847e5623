//! Numbers as people read them, in few columns.

/// A rate or a count: `0`, `0.4`, `812`, `9,812`, `12.3k`, `1.24M`.
pub(super) fn count(value: f64) -> String {
    match value {
        ..0.05 => "0".to_owned(),
        0.05..9.95 if value.fract() > 0.05 && value.fract() < 0.95 => format!("{value:.1}"),
        ..999.5 => format!("{value:.0}"),
        ..9_999.5 => {
            let whole = value.round() as u64;
            format!("{},{:03}", whole / 1_000, whole % 1_000)
        }
        ..99_950.0 => format!("{:.1}k", value / 1e3),
        ..999_500.0 => format!("{:.0}k", value / 1e3),
        ..99.95e6 => format!("{:.2}M", value / 1e6),
        _ => format!("{:.0}M", value / 1e6),
    }
}

/// Bytes: `0 B`, `812 B`, `45.1 MiB`.
pub(super) fn bytes(value: f64) -> String {
    let mut unit = 0;
    let mut value = value;
    while value >= 999.5 && unit < 4 {
        value /= 1_024.0;
        unit += 1;
    }
    let name = ["B", "KiB", "MiB", "GiB", "TiB"][unit];
    match unit {
        0 => format!("{value:.0} B"),
        _ if value < 99.95 => format!("{value:.1} {name}"),
        _ => format!("{value:.0} {name}"),
    }
}

/// A time given in nanoseconds: `850 ns`, `118 µs`, `1.9 ms`, `2.1 s`.
pub(super) fn nanos(value: f64) -> String {
    let (value, unit) = match value {
        ..999.5 => (value, "ns"),
        ..999.5e3 => (value / 1e3, "µs"),
        ..999.5e6 => (value / 1e6, "ms"),
        _ => (value / 1e9, "s"),
    };
    match value {
        ..9.95 if unit != "ns" => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A share of one: `0 %`, `0.4 %`, `61 %`.
pub(super) fn share(value: f64) -> String {
    let percent = value * 100.0;
    match percent {
        0.05..0.95 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

/// A name in so many columns; its end says more than its beginning.
pub(super) fn name(name: &str, columns: usize) -> String {
    let length = name.chars().count();
    match length <= columns {
        true => name.to_owned(),
        false => {
            let rest: String = name.chars().skip(length + 1 - columns).collect();
            format!("…{rest}")
        }
    }
}

/// A text without control characters: a dot for each, so that it keeps its length.
pub(super) fn harmless(text: &str) -> String {
    let dot = |one: char| if one.is_control() { '.' } else { one };
    text.chars().map(dot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count_and_their_unit() {
        for (value, want) in [
            (0.0, "0"),
            (0.04, "0"),
            (0.44, "0.4"),
            (7.0, "7"),
            (9.97, "10"),
            (812.4, "812"),
            (999.7, "1,000"),
            (9_812.0, "9,812"),
            (12_345.0, "12.3k"),
            (312_345.0, "312k"),
            (999_700.0, "1.00M"),
            (123_456_789.0, "123M"),
        ] {
            assert_eq!(count(value), want, "{value}");
        }
        for (value, want) in [
            (0.0, "0 B"),
            (812.0, "812 B"),
            (1_024.0, "1.0 KiB"),
            (47_290_777.0, "45.1 MiB"),
            (1e12, "931 GiB"),
        ] {
            assert_eq!(bytes(value), want, "{value}");
        }
        for (value, want) in [
            (250.0, "250 ns"),
            (118_000.0, "118 µs"),
            (1_900_000.0, "1.9 ms"),
            (2.1e9, "2.1 s"),
        ] {
            assert_eq!(nanos(value), want, "{value}");
        }
        for (value, want) in [
            (0.0, "0 %"),
            (0.004, "0.4 %"),
            (0.613, "61 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(share(value), want, "{value}");
        }
    }

    #[test]
    fn of_a_long_name_the_end_is_shown() {
        assert_eq!(name("acme/prod/pump-7", 16), "acme/prod/pump-7");
        assert_eq!(name("acme/prod/pump-17", 16), "…me/prod/pump-17");
    }
}
