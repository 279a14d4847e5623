//! Where the link's log lines go: its room knows no log.

use std::fmt::Display;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What an operator expects to see.
    Info,
    /// Something an operator should look at.
    Warning,
    /// Something broke.
    Error,
}

/// Takes log lines.
pub trait Tell: Send + Sync {
    /// One event, with names and values.
    fn tell(&self, level: Level, event: &'static str, fields: &[(&str, &dyn Display)]);
}
