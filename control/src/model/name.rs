//! The rule for names: parts of letters, digits, `-`, `_` and `.`, joined by `/`.

use wire::limits::NAME_BYTES_MAX;

/// Longest part of a name: three of them and two slashes fit the wire's limit.
pub const PART_BYTES_MAX: usize = 80;
const _: () = assert!(3 * PART_BYTES_MAX + 2 <= NAME_BYTES_MAX);

/// The rule for a part, as messages state it.
pub const NAME_NEEDED: &str = "letters, digits, '-', '_' and '.', at most 80 each";

/// Whether `text` may stand between two slashes. `.` and `..` may not: names are parts of addresses of the API.
#[must_use]
pub fn is_part(text: &str) -> bool {
    (1..=PART_BYTES_MAX).contains(&text.len())
        && text != "."
        && text != ".."
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The parts of a name that has `N` of them, all well formed.
#[must_use]
pub fn parts_of<const N: usize>(name: &str) -> Option<[&str; N]> {
    let mut parts = name.split('/');
    let mut found = [""; N];
    for part in &mut found {
        *part = parts.next().filter(|part| is_part(part))?;
    }
    parts.next().is_none().then_some(found)
}

/// The account of a name: its first part, which is all of an account's own.
#[must_use]
pub fn account_of(name: &str) -> &str {
    name.split_once('/').map_or(name, |(account, _)| account)
}

/// `account/environment` of a full name.
#[must_use]
pub fn environment_of(name: &str) -> &str {
    name.rsplit_once('/')
        .map_or("", |(environment, _)| environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_only_when_every_part_is_well_formed() {
        assert_eq!(parts_of("a/e/pump-7"), Some(["a", "e", "pump-7"]));
        for name in [
            "", "a", "a/e", "a/e/", "a/e/x/y", "a/ /x", "a/../x", "a/e/é",
        ] {
            assert_eq!(parts_of::<3>(name), None, "{name}");
        }
        let long = "x".repeat(PART_BYTES_MAX + 1);
        assert!(!is_part(&long) && is_part(&long[1..]));
    }
}
