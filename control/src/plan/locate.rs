//! Where in a text a place of the model stands. Looked for only when something is wrong there.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// The line, from 1, on which `span` begins.
pub(super) fn line(text: &str, span: Range<usize>) -> usize {
    let upto = span.start.min(text.len());
    let breaks = text.as_bytes()[..upto].iter();
    1 + breaks.filter(|byte| **byte == b'\n').count()
}

/// Where the value of this JSON pointer is written, or what it would stand in; `None` for the whole text.
pub(super) fn span(text: &str, pointer: &str) -> Option<Range<usize>> {
    let root = DeTable::parse(text).ok()?;
    let mut steps = pointer.split('/').skip(1);
    let mut at = root.get_ref().get(steps.next()?)?;
    for step in steps {
        let within = match at.get_ref() {
            DeValue::Table(table) => table.get(step),
            DeValue::Array(array) => step.parse().ok().and_then(|index: usize| array.get(index)),
            _ => None,
        };
        let Some(within) = within else { break };
        at = within;
    }
    Some(at.span())
}
