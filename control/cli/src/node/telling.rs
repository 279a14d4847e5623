//! Log lines of the link, in the shape that the configuration asks for.

use std::fmt::Display;

use node::config::LogFormat;
use node::log::{self, Log};

/// Takes them to standard error.
pub(crate) struct Telling(Log);

impl Telling {
    pub(crate) fn new(format: LogFormat) -> Self {
        Self(Log::stderr(format))
    }
}

impl link::Tell for Telling {
    fn tell(&self, level: link::Level, event: &'static str, fields: &[(&str, &dyn Display)]) {
        let level = match level {
            link::Level::Info => log::Level::Info,
            link::Level::Warning => log::Level::Warning,
            link::Level::Error => log::Level::Error,
        };
        self.0.event(level, event, fields);
    }
}
