//! Collects what is wrong with a model, each fault with its place in it.

use std::fmt;

use wire::diagnosis::Diagnosis;

use crate::nearest::nearest;

/// A place in a model: a path from its root, kept on the stack and written out only when something is wrong there.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    within: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    /// The root's value of this key.
    pub(crate) const fn root(key: &'a str) -> Self {
        Self {
            within: None,
            step: Step::Key(key),
        }
    }

    /// The value of this key in here.
    pub(crate) const fn key(&'a self, key: &'a str) -> Place<'a> {
        Place {
            within: Some(self),
            step: Step::Key(key),
        }
    }

    /// The element with this index in here.
    pub(crate) const fn index(&'a self, index: usize) -> Place<'a> {
        Place {
            within: Some(self),
            step: Step::Index(index),
        }
    }
}

impl fmt::Display for Place<'_> {
    /// As a JSON pointer (RFC 6901); no key of the model has a character to escape.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(within) = self.within {
            within.fmt(f)?;
        }
        match self.step {
            Step::Key(key) => write!(f, "/{key}"),
            Step::Index(index) => write!(f, "/{index}"),
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// JSON pointer into the model; empty for the whole of it.
    pub pointer: String,
    /// What is wrong.
    pub fault: Diagnosis,
}

/// Most faults that are told of one model; how many more there are is told with the last.
const FAULTS_MAX: usize = 1_000;
/// Names that are looked at for hints in one model: a document that is wrong in every line must not cost the square of its length.
const HINT_NAMES_MAX: usize = 2_000;

/// The faults found so far in one model.
pub(crate) struct Faults {
    found: Vec<Found>,
    /// Faults behind the most that are told.
    more: usize,
    /// Names that may still be looked at for hints.
    names_left: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            found: Vec::new(),
            more: 0,
            names_left: HINT_NAMES_MAX,
        }
    }
}

impl Faults {
    /// Note a fault at this place.
    pub(crate) fn add(
        &mut self,
        place: &Place<'_>,
        code: u16,
        what: &str,
        seen: impl Into<String>,
        needed: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if self.found.len() >= FAULTS_MAX {
            self.more += 1;
            return;
        }
        self.found.push(Found {
            pointer: place.to_string(),
            fault: Diagnosis::new(code, what, seen, needed, remedy),
        });
    }

    /// What to do about an unknown name: the nearest known one, or `otherwise`; also `otherwise` when many were looked at already.
    pub(crate) fn did_you_mean<'n>(
        &mut self,
        seen: &str,
        known: impl IntoIterator<Item = &'n str>,
        otherwise: &str,
    ) -> String {
        if self.found.len() >= FAULTS_MAX {
            return otherwise.to_owned();
        }
        let most = self.names_left;
        let known = known.into_iter().take(most);
        did_you_mean(seen, known.inspect(|_| self.names_left -= 1), otherwise)
    }

    /// Note a fault of the whole model.
    pub(crate) fn whole(&mut self, fault: Diagnosis) {
        let pointer = String::new();
        self.found.push(Found { pointer, fault });
    }

    /// Everything found; empty when the model is good.
    pub(crate) fn take(mut self) -> Vec<Found> {
        if let (Some(last), 1..) = (self.found.last_mut(), self.more) {
            let told = format!("; {} more faults are not listed", self.more);
            last.fault.remedy.push_str(&told);
        }
        self.found
    }

    /// True when nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

/// What to do about an unknown name: the nearest known one, or `otherwise`.
pub(crate) fn did_you_mean<'a>(
    seen: &str,
    known: impl IntoIterator<Item = &'a str>,
    otherwise: &str,
) -> String {
    match nearest(seen, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None => otherwise.to_owned(),
    }
}
