//! Collects what is wrong with a plan, each fault with the line it stands on.

use std::ops::Range;

use wire::diagnosis::Diagnosis;

use crate::nearest::nearest;

/// The faults found so far in one plan text.
pub(crate) struct Faults<'a> {
    text: &'a str,
    file: &'a str,
    found: Vec<Diagnosis>,
}

impl<'a> Faults<'a> {
    pub(crate) fn new(text: &'a str, file: &'a str) -> Self {
        Self {
            text,
            file,
            found: Vec::new(),
        }
    }

    /// Note a fault at the bytes `span` of the text.
    pub(crate) fn add(
        &mut self,
        span: Range<usize>,
        code: u16,
        what: &str,
        seen: impl Into<String>,
        needed: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let upto = span.start.min(self.text.len());
        let line = 1 + self.text.as_bytes()[..upto]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        self.found.push(Diagnosis {
            code,
            what: format!("{} line {line}: {what}", self.file),
            seen: seen.into(),
            needed: needed.into(),
            remedy: remedy.into(),
        });
    }

    /// Note a fault of the whole file.
    pub(crate) fn whole(
        &mut self,
        code: u16,
        what: &str,
        seen: String,
        needed: &str,
        remedy: &str,
    ) {
        self.found.push(Diagnosis {
            code,
            what: format!("{}: {what}", self.file),
            seen,
            needed: needed.to_owned(),
            remedy: remedy.to_owned(),
        });
    }

    /// Everything found; empty when the plan is good.
    pub(crate) fn take(self) -> Vec<Diagnosis> {
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
