//! Accounts and environments, and the rule for full names.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use wire::limits::NAME_BYTES_MAX;

use super::faults::{Faults, did_you_mean};
use crate::diagnosis::{DUPLICATE, NAME, UNKNOWN_NAME};
use crate::plan::Plan;

/// Longest part of a name: three of them and two slashes fit the wire's limit.
const PART_BYTES_MAX: usize = 80;
const _: () = assert!(3 * PART_BYTES_MAX + 2 <= NAME_BYTES_MAX);

/// The declared environments, each with its place in the file.
pub(crate) struct Names<'a> {
    environments: BTreeMap<&'a str, Range<usize>>,
}

impl<'a> Names<'a> {
    /// Read accounts and environments of the plan.
    pub(crate) fn of(plan: &'a Plan, faults: &mut Faults<'_>) -> Self {
        let accounts = plan.accounts.iter().map(|account| &account.name);
        let accounts = declared(accounts, "account", 1, faults);
        let environments = plan.environments.iter().map(|named| &named.name);
        let environments = declared(environments, "environment", 2, faults);
        for (name, span) in &environments {
            let account = name.split('/').next().unwrap_or("");
            if !accounts.contains_key(account) {
                let remedy = did_you_mean(
                    account,
                    accounts.keys().copied(),
                    "declare it under [[accounts]]",
                );
                faults.add(
                    span.clone(),
                    UNKNOWN_NAME,
                    "an environment names an unknown account",
                    format!("`{account}`"),
                    "a declared account",
                    remedy,
                );
            }
        }
        Self { environments }
    }

    /// The environments in order.
    pub(crate) fn environments(&self) -> impl Iterator<Item = &str> {
        self.environments.keys().copied()
    }

    /// Where an environment is declared.
    pub(crate) fn span_of(&self, environment: &str) -> Range<usize> {
        self.environments.get(environment).cloned().unwrap_or(0..0)
    }

    /// Whether `name` is a full name in a declared environment; if not, the fault is noted.
    pub(crate) fn check_full(
        &self,
        name: &Spanned<String>,
        kind: &str,
        faults: &mut Faults<'_>,
    ) -> bool {
        if !well_formed(name, kind, 3, faults) {
            return false;
        }
        let environment = environment_of(name.get_ref());
        if self.environments.contains_key(environment) {
            return true;
        }
        let remedy = did_you_mean(
            environment,
            self.environments(),
            "declare it under [[environments]]",
        );
        let what = format!("a {kind} names an unknown environment");
        faults.add(
            name.span(),
            UNKNOWN_NAME,
            &what,
            format!("`{environment}`"),
            "a declared environment",
            remedy,
        );
        false
    }
}

/// `account/environment` of a full name.
pub(crate) fn environment_of(name: &str) -> &str {
    name.rsplit_once('/')
        .map_or("", |(environment, _)| environment)
}

fn declared<'a>(
    items: impl Iterator<Item = &'a Spanned<String>>,
    kind: &str,
    parts: usize,
    faults: &mut Faults<'_>,
) -> BTreeMap<&'a str, Range<usize>> {
    let mut names = BTreeMap::new();
    for name in items {
        if !well_formed(name, kind, parts, faults) {
            continue;
        }
        if names.insert(name.get_ref().as_str(), name.span()).is_some() {
            let seen = format!("`{}`", name.get_ref());
            let needed = format!("one {kind} of that name");
            faults.add(
                name.span(),
                DUPLICATE,
                &format!("an {kind} is declared twice"),
                seen,
                needed,
                "remove one",
            );
        }
    }
    names
}

/// Whether `name` has `parts` good parts; if not, the fault is noted.
fn well_formed(name: &Spanned<String>, kind: &str, parts: usize, faults: &mut Faults<'_>) -> bool {
    let text = name.get_ref();
    let good = text.split('/').count() == parts && text.split('/').all(is_part);
    if !good {
        let needed = match parts {
            1 => "a name",
            2 => "account/environment",
            _ => "account/environment/name",
        };
        let needed =
            format!("{needed} of letters, digits, '-', '_' and '.', at most {PART_BYTES_MAX} each");
        faults.add(
            name.span(),
            NAME,
            &format!("the name of the {kind} is malformed"),
            format!("`{text}`"),
            needed,
            "rename it",
        );
    }
    good
}

/// Whether `text` may stand between two slashes.
pub(crate) fn is_part(text: &str) -> bool {
    (1..=PART_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
