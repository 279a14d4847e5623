//! Log lines: one event, one line, as text or JSON, and never more than a few of one kind in a second.

use std::fmt::{Display, Write as _};
use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::LogFormat;

/// Lines of one event in one window; more are counted and told with the next line.
const LINES_PER_WINDOW: u32 = 5;
const WINDOW: Duration = Duration::from_secs(1);

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

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Where lines go.
pub struct Log {
    format: LogFormat,
    inner: Mutex<Inner>,
}

struct Inner {
    out: Box<dyn Write + Send>,
    line: String,
    windows: Vec<Window>,
}

/// How often an event was told since `began`.
struct Window {
    event: &'static str,
    began: Instant,
    lines: u32,
    held: u64,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Lines to standard error.
    pub fn stderr(format: LogFormat) -> Self {
        Self::new(format, Box::new(std::io::stderr()))
    }

    /// Lines to `out`.
    pub fn new(format: LogFormat, out: Box<dyn Write + Send>) -> Self {
        let inner = Inner {
            out,
            line: String::new(),
            windows: Vec::new(),
        };
        Self {
            format,
            inner: Mutex::new(inner),
        }
    }

    /// Tell one event. `fields` are names and values; names are words of ours, values may be anything.
    pub fn event(&self, level: Level, event: &'static str, fields: &[(&str, &dyn Display)]) {
        let mut inner = match self.inner.lock() {
            Ok(inner) => inner,
            Err(poisoned) => poisoned.into_inner(),
        };
        let Some(held) = inner.admit(event, Instant::now()) else {
            return;
        };
        let Inner { out, line, .. } = &mut *inner;
        line.clear();
        let time = timestamp(SystemTime::now());
        match self.format {
            LogFormat::Text => text_line(line, &time, level, event, fields, held),
            LogFormat::Json => json_line(line, &time, level, event, fields, held),
        }
        // A log that cannot be written has nobody to tell.
        let _ = out.write_all(line.as_bytes());
    }
}

impl Inner {
    /// How many lines of this event were held back before this one, or `None` to hold it back too.
    fn admit(&mut self, event: &'static str, now: Instant) -> Option<u64> {
        let found = self.windows.iter().position(|window| window.event == event);
        let place = found.unwrap_or_else(|| {
            self.windows.push(Window {
                event,
                began: now,
                lines: 0,
                held: 0,
            });
            self.windows.len() - 1
        });
        let window = &mut self.windows[place];
        if now.duration_since(window.began) >= WINDOW {
            (window.began, window.lines) = (now, 0);
        }
        if window.lines >= LINES_PER_WINDOW {
            window.held += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.held))
    }
}

fn text_line(
    line: &mut String,
    time: &str,
    level: Level,
    event: &str,
    fields: &[(&str, &dyn Display)],
    held: u64,
) {
    let _ = write!(line, "{time} {:<7} {event}", level.name());
    for (name, value) in fields {
        let value = value.to_string();
        let plain = !value.is_empty() && !value.contains([' ', '"', '=', '\n', '\r']);
        let _ = match plain {
            true => write!(line, " {name}={value}"),
            false => write!(line, " {name}={value:?}"),
        };
    }
    if held > 0 {
        let _ = write!(line, " held_back={held}");
    }
    line.push('\n');
}

fn json_line(
    line: &mut String,
    time: &str,
    level: Level,
    event: &str,
    fields: &[(&str, &dyn Display)],
    held: u64,
) {
    let name = level.name();
    let _ = write!(
        line,
        "{{\"time\":\"{time}\",\"level\":\"{name}\",\"event\":\"{event}\""
    );
    for (name, value) in fields {
        let _ = write!(line, ",\"{name}\":");
        json_text(line, &value.to_string());
    }
    if held > 0 {
        let _ = write!(line, ",\"held_back\":{held}");
    }
    line.push_str("}\n");
}

fn json_text(line: &mut String, text: &str) {
    line.push('"');
    for letter in text.chars() {
        match letter {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            control if control.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(control));
            }
            letter => line.push(letter),
        }
    }
    line.push('"');
}

/// `2026-01-31T23:59:59.123Z`.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs(), since.subsec_millis());
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a number of days since 1970 (Hinnant's `civil_from_days`, for days from 1970 on).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A place for lines that a test can look into.
    #[derive(Clone, Default)]
    pub(crate) struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no test panics here").write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no test panics here").clone())
                .expect("lines are text")
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(timestamp(time), want, "{seconds}");
        }
    }

    #[test]
    fn a_line_cannot_be_broken_by_what_it_tells() {
        for (format, want) in [
            (
                LogFormat::Text,
                " error   stopped why=\"a \\\"b\\\"\\nc\"\n",
            ),
            (
                LogFormat::Json,
                "\"level\":\"error\",\"event\":\"stopped\",\"why\":\"a \\\"b\\\"\\nc\"}\n",
            ),
        ] {
            let page = Page::default();
            let log = Log::new(format, Box::new(page.clone()));
            log.event(Level::Error, "stopped", &[("why", &"a \"b\"\nc")]);
            assert!(page.text().ends_with(want), "{}", page.text());
        }
    }

    #[test]
    fn a_flood_of_one_event_is_held_back_and_others_are_not() {
        let page = Page::default();
        let log = Log::new(LogFormat::Text, Box::new(page.clone()));
        for _ in 0..100 {
            log.event(Level::Warning, "flood", &[]);
        }
        log.event(Level::Info, "other", &[]);
        assert_eq!(page.text().matches("flood").count(), 5);
        assert_eq!(page.text().matches("other").count(), 1);
        let mut inner = log.inner.lock().expect("no test panics here");
        let later = Instant::now() + WINDOW;
        assert_eq!(inner.admit("flood", later), Some(95));
    }
}
