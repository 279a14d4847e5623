//! Windows of the week in which something holds, in UTC. Knows no clock, time is an argument.

use std::fmt;
use std::str::FromStr;

use crate::ids::UnixNanos;

const DAY: u64 = 24 * 60 * 60;
const WEEK: u64 = 7 * DAY;
const DAY_MINUTES: u16 = 24 * 60;
const EVERY_DAY: u8 = 0x7F;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// 1970 began on a Thursday.
const FIRST_DAY: u64 = 3 * DAY;

/// On these days of the week from this minute up to, and without, that one: `mon-fri 08:00-17:30`. One that ends at or before the time
/// at which it begins goes on over midnight: `sat,sun 22:00-06:00` ends on Sunday and on Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    days: u8,
    from: u16,
    to: u16,
}

/// A text or a number that is no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Not days, a blank, and two times.
    #[error("not DAYS HH:MM-HH:MM")]
    Malformed,
    /// Something that is no day of the week, or no day at all.
    #[error("days are mon, tue, wed, thu, fri, sat and sun, or daily")]
    Days,
    /// No time of a day, or an end at 00:00.
    #[error("times are 00:00 to 23:59, an end 00:01 to 24:00")]
    Time,
    /// It would end when it begins.
    #[error("it ends when it begins; a whole day is 00:00-24:00")]
    Empty,
}

impl Window {
    /// On the days of these bits, Monday the lowest, from one minute of the day to another one.
    ///
    /// # Errors
    /// When there is no such day or minute, or the window would be empty.
    pub fn new(days: u8, from: u16, to: u16) -> Result<Self, WindowError> {
        if days == 0 || days > EVERY_DAY {
            return Err(WindowError::Days);
        }
        if from >= DAY_MINUTES || to == 0 || to > DAY_MINUTES {
            return Err(WindowError::Time);
        }
        match from == to {
            true => Err(WindowError::Empty),
            false => Ok(Self { days, from, to }),
        }
    }

    /// The days on which it begins, Monday the lowest bit.
    pub fn days(self) -> u8 {
        self.days
    }

    /// The minute of the day at which it begins.
    pub fn from(self) -> u16 {
        self.from
    }

    /// The minute of a day at which it ends.
    pub fn to(self) -> u16 {
        self.to
    }

    /// Whether any of these is open at this moment. None at all: always.
    #[inline]
    pub fn any_open(windows: &[Self], now: UnixNanos) -> bool {
        windows.is_empty() || Self::longest_left(windows, now.seconds()).is_some()
    }

    /// When the last of these that are open, or that open before, closes: `now` when none is open, nothing if that never comes.
    pub fn all_close_at(windows: &[Self], now: UnixNanos) -> Option<UnixNanos> {
        if windows.is_empty() {
            return None;
        }
        let (begin, mut at) = (now.seconds(), now.seconds());
        while at < begin + WEEK {
            match Self::longest_left(windows, at) {
                Some(left) => at += left,
                None if at == begin => return Some(now),
                None => return Some(UnixNanos::from_seconds(at)),
            }
        }
        None
    }

    /// When the first of these opens again: `now` when one is open, or when there are none.
    pub fn next_opening(windows: &[Self], now: UnixNanos) -> UnixNanos {
        if Self::any_open(windows, now) {
            return now;
        }
        let second = second_of_week(now.seconds());
        let openings = windows.iter().flat_map(|window| window.openings());
        let waits = openings.map(|opening| (opening + WEEK - second) % WEEK);
        UnixNanos::from_seconds(now.seconds() + waits.min().unwrap_or(0))
    }

    /// Seconds until that of these which is open now, and longest, closes.
    fn longest_left(windows: &[Self], seconds: u64) -> Option<u64> {
        let second = second_of_week(seconds);
        let left = |window: &Self| window.left(second);
        windows.iter().filter_map(left).max()
    }

    /// Seconds until it closes, if it is open at this second of the week.
    #[inline]
    fn left(&self, second: u64) -> Option<u64> {
        let (day, second) = (second / DAY, second % DAY);
        let (from, to) = (u64::from(self.from) * 60, u64::from(self.to) * 60);
        let begins_on = |day: u64| self.days & 1 << day != 0;
        let over_midnight = to < from;
        if begins_on(day) && second >= from && (over_midnight || second < to) {
            return Some(if over_midnight {
                DAY - second + to
            } else {
                to - second
            });
        }
        let of_yesterday = over_midnight && begins_on((day + 6) % 7) && second < to;
        of_yesterday.then(|| to - second)
    }

    /// The seconds of the week at which it opens.
    fn openings(&self) -> impl Iterator<Item = u64> + use<> {
        let (days, from) = (self.days, u64::from(self.from) * 60);
        let open = (0..7).filter(move |day| days & 1 << day != 0);
        open.map(move |day| day * DAY + from)
    }
}

/// From Monday, 00:00.
fn second_of_week(seconds: u64) -> u64 {
    (seconds % WEEK + FIRST_DAY) % WEEK
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let (days, times) = text.split_once(' ').ok_or(WindowError::Malformed)?;
        let (from, to) = times.split_once('-').ok_or(WindowError::Malformed)?;
        Self::new(read_days(days)?, read_minute(from)?, read_minute(to)?)
    }
}

/// `mon`, `mon-fri`, `fri-mon`, several of them after commas, or `daily`.
fn read_days(text: &str) -> Result<u8, WindowError> {
    if text == "daily" {
        return Ok(EVERY_DAY);
    }
    let day = |name: &str| {
        let at = DAYS.iter().position(|day| *day == name);
        at.ok_or(WindowError::Days)
    };
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + 7 - first) % 7 + 1;
        days |= (first..first + count).fold(0, |days, day| days | 1 << (day % 7));
    }
    Ok(days)
}

fn read_minute(text: &str) -> Result<u16, WindowError> {
    let number =
        |digits: &str| match digits.len() == 2 && digits.bytes().all(|c| c.is_ascii_digit()) {
            true => digits.parse::<u16>().map_err(|_| WindowError::Time),
            false => Err(WindowError::Time),
        };
    let (hour, minute) = text.split_once(':').ok_or(WindowError::Malformed)?;
    let (hour, minute) = (number(hour)?, number(minute)?);
    match minute < 60 {
        true => Ok(hour * 60 + minute),
        false => Err(WindowError::Time),
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days == EVERY_DAY {
            f.write_str("daily")?;
        } else {
            let names = (0..7).filter(|day| self.days & 1 << day != 0);
            let names: Vec<&str> = names.map(|day: usize| DAYS[day]).collect();
            f.write_str(&names.join(","))?;
        }
        let Self { from, to, .. } = self;
        let (hours, minutes) = ((from / 60, to / 60), (from % 60, to % 60));
        write!(
            f,
            " {:02}:{:02}-{:02}:{:02}",
            hours.0, minutes.0, hours.1, minutes.1
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 2027-01-04, 00:00 UTC.
    const MONDAY: u64 = 1_799_020_800;

    fn windows(texts: &[&str]) -> Vec<Window> {
        let read = |text: &&str| text.parse().expect("the test writes windows");
        texts.iter().map(read).collect()
    }

    fn at(day: u64, hour: u64, minute: u64) -> UnixNanos {
        UnixNanos::from_seconds(MONDAY + day * DAY + hour * 3_600 + minute * 60)
    }

    #[test]
    fn a_window_is_open_on_its_days_and_between_its_times_and_at_no_other_second() {
        let office = windows(&["mon-fri 08:00-17:30"]);
        let seconds = (0..WEEK)
            .filter(|second| Window::any_open(&office, UnixNanos::from_seconds(MONDAY + second)));
        assert_eq!(seconds.count(), 5 * (9 * 3_600 + 1_800));
        assert!(!Window::any_open(&office, UnixNanos(at(0, 8, 0).0 - 1)));
        assert!(Window::any_open(&office, at(0, 8, 0)));
        assert!(Window::any_open(&office, UnixNanos(at(4, 17, 30).0 - 1)));
        assert!(!Window::any_open(&office, at(4, 17, 30)));
        assert!(!Window::any_open(&office, at(5, 12, 0)));
    }

    #[test]
    fn a_window_over_midnight_ends_on_the_day_after_even_over_the_end_of_a_week() {
        let night = windows(&["sun 22:00-06:00"]);
        for (moment, open) in [
            (at(6, 21, 59), false),
            (at(6, 22, 0), true),
            (at(7, 5, 59), true),
            (at(0, 5, 59), true),
            (at(0, 6, 0), false),
            (at(5, 23, 0), false),
        ] {
            assert_eq!(Window::any_open(&night, moment), open, "{moment}");
        }
        assert_eq!(
            Window::all_close_at(&night, at(6, 23, 0)),
            Some(at(7, 6, 0))
        );
    }

    #[test]
    fn what_touches_or_overlaps_closes_together_and_what_has_no_gap_never_does() {
        let joined = windows(&["mon 08:00-24:00", "tue 00:00-10:00", "tue 09:00-12:00"]);
        assert_eq!(
            Window::all_close_at(&joined, at(0, 9, 0)),
            Some(at(1, 12, 0))
        );
        let closed = at(1, 12, 0);
        assert_eq!(Window::all_close_at(&joined, closed), Some(closed));
        assert_eq!(Window::next_opening(&joined, closed), at(7, 8, 0));
        for always in [
            &windows(&["daily 00:00-24:00"]),
            &windows(&["daily 07:00-06:00", "daily 05:00-08:00"]),
        ] {
            assert_eq!(Window::all_close_at(always, at(3, 3, 3)), None);
        }
        assert!(Window::any_open(&[], closed));
        assert_eq!(Window::all_close_at(&[], closed), None);
    }

    #[test]
    fn a_window_is_read_as_it_is_shown_and_other_texts_are_refused() {
        for (text, shown) in [
            ("daily 00:00-24:00", "daily 00:00-24:00"),
            ("fri-mon 22:00-06:00", "mon,fri,sat,sun 22:00-06:00"),
            ("wed,mon-tue 01:02-03:04", "mon,tue,wed 01:02-03:04"),
        ] {
            let window: Window = text.parse().expect(text);
            assert_eq!(window.to_string(), shown);
            assert_eq!(shown.parse(), Ok(window));
        }
        for (text, want) in [
            ("", WindowError::Malformed),
            ("mon", WindowError::Malformed),
            ("mon 08:00", WindowError::Malformed),
            ("mon 8-17", WindowError::Malformed),
            ("mo 08:00-17:00", WindowError::Days),
            (" 08:00-17:00", WindowError::Days),
            ("mon 8:00-17:00", WindowError::Time),
            ("mon 08:60-17:00", WindowError::Time),
            ("mon 24:00-17:00", WindowError::Time),
            ("mon 08:00-00:00", WindowError::Time),
            ("mon 08:00-24:01", WindowError::Time),
            ("mon 08:00-08:00", WindowError::Empty),
        ] {
            assert_eq!(text.parse::<Window>(), Err(want), "{text}");
        }
        assert_eq!(Window::new(0, 0, 1), Err(WindowError::Days));
        assert_eq!(Window::new(0x80, 0, 1), Err(WindowError::Days));
    }
}
