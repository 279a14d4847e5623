//! Lines on standard output: redrawn in place on a terminal, one look after the other anywhere else.

use std::fmt::Write;
use std::io::IsTerminal;

use terminal_size::{Height, Width, terminal_size_of};

use super::show;

/// How a part of a line looks on a terminal with colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Style {
    #[default]
    Plain,
    Dim,
    Bold,
    High,
    Alarm,
}

/// A line: parts, each in its style.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Line(Vec<(String, Style)>);

/// Where looks go.
pub(super) struct Screen {
    terminal: bool,
    colours: bool,
    /// Lines of the last look that are on the screen.
    drawn: usize,
    looks: usize,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
            Self::High => "\x1b[33m",
            Self::Alarm => "\x1b[1;31m",
        }
    }
}

impl Line {
    /// A line of one part.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        let mut line = Self::default();
        line.push(&text.into(), Style::Plain);
        line
    }

    /// Add a part. What it says may come from anybody: control characters are shown as dots.
    pub(super) fn push(&mut self, text: &str, style: Style) {
        let text = show::harmless(text);
        match self.0.last_mut() {
            Some((last, same)) if *same == style => last.push_str(&text),
            _ => self.0.push((text, style)),
        }
    }

    /// The same line, with what is plain in another style.
    pub(super) fn in_style(mut self, style: Style) -> Self {
        for part in &mut self.0 {
            if part.1 == Style::Plain {
                part.1 = style;
            }
        }
        self
    }

    /// Without styles, and without blanks at its end.
    pub(super) fn text(&self) -> String {
        let text: String = self.0.iter().map(|part| part.0.as_str()).collect();
        text.trim_end().to_owned()
    }

    /// The first `columns` of it, with styles if there are colours.
    fn draw(&self, columns: usize, colours: bool) -> String {
        let (mut out, mut left) = (String::new(), columns);
        for (text, style) in &self.0 {
            let part: String = text.chars().take(left).collect();
            left -= part.chars().count();
            match colours && *style != Style::Plain {
                true => {
                    let _ = write!(out, "{}{part}\x1b[0m", style.code());
                }
                false => out.push_str(&part),
            }
        }
        out
    }
}

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let no_colours = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            terminal,
            colours: terminal && !no_colours,
            drawn: 0,
            looks: 0,
        }
    }

    /// Show a look in place of the last one.
    pub(super) fn show(&mut self, lines: &[Line]) {
        let text = match self.terminal {
            true => {
                let (columns, rows) = match terminal_size_of(std::io::stdout()) {
                    Some((Width(columns), Height(rows))) => (columns.into(), rows.into()),
                    None => (100, usize::MAX),
                };
                self.redraw(lines, columns, rows)
            }
            false => self.append(lines),
        };
        crate::say::write(format_args!("{text}"));
        self.looks += 1;
    }

    /// Over the last look, as much as fits: a line that wraps or scrolls would leave rests behind.
    fn redraw(&mut self, lines: &[Line], columns: usize, rows: usize) -> String {
        let mut text = match self.drawn {
            0 => String::new(),
            drawn => format!("\x1b[{drawn}F"),
        };
        let room = rows.saturating_sub(1).max(1);
        self.drawn = lines.len().min(room);
        for line in &lines[..self.drawn] {
            text.push_str(&line.draw(columns, self.colours));
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        text
    }

    fn append(&self, lines: &[Line]) -> String {
        let mut text = String::new();
        if self.looks > 0 {
            text.push('\n');
        }
        for line in lines {
            let _ = writeln!(text, "{}", line.text());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(terminal: bool) -> Screen {
        Screen {
            terminal,
            colours: false,
            drawn: 0,
            looks: 0,
        }
    }

    #[test]
    fn on_a_terminal_a_look_takes_the_place_of_the_last_one_and_never_wraps() {
        let mut screen = screen(true);
        let lines: Vec<Line> = ["first line", "second", "third"].map(Line::plain).to_vec();
        assert_eq!(
            screen.redraw(&lines, 5, 10),
            "first\x1b[K\nsecon\x1b[K\nthird\x1b[K\n\x1b[J"
        );
        assert_eq!(
            screen.redraw(&lines, 80, 3),
            "\x1b[3Ffirst line\x1b[K\nsecond\x1b[K\n\x1b[J"
        );
        assert_eq!(
            screen.redraw(&lines[..1], 80, 10),
            "\x1b[2Ffirst line\x1b[K\n\x1b[J"
        );
    }

    #[test]
    fn anywhere_else_there_is_nothing_but_text() {
        let mut line = Line::plain("busy ");
        line.push("97 %", Style::Alarm);
        line.push("   ", Style::Plain);
        let mut screen = screen(false);
        assert_eq!(screen.append(&[line.clone()]), "busy 97 %\n");
        screen.looks = 1;
        assert_eq!(screen.append(&[line.clone()]), "\nbusy 97 %\n");
        assert_eq!(line.draw(7, true), "busy \x1b[1;31m97\x1b[0m");
    }

    #[test]
    fn names_cannot_steer_a_terminal() {
        let mut line = Line::plain("a\x1b[2Jb");
        line.push("\u{9b}31m\r\n\x07c", Style::Alarm);
        assert_eq!(line.text(), "a.[2Jb.31m...c");
        assert_eq!(line.draw(80, true), "a.[2Jb\x1b[1;31m.31m...c\x1b[0m");
    }
}
