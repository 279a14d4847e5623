//! Why the server refuses something: stable codes, and the notice that carries one to the peer.

mod table;
mod words;

pub use table::Reason;

use std::fmt;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::diagnosis::Diagnosis;
use crate::frame::{self, FrameKind, ParseError};

/// What the project knows about one reason: the row of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// The word for it.
    pub name: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What the notice's `seen` holds.
    pub seen: &'static str,
    /// What the notice's `needed` holds.
    pub needed: &'static str,
    /// Whether the same request may succeed later, unchanged.
    pub retryable: bool,
    /// What to do.
    pub remedy: &'static str,
}

impl Reason {
    /// The reason with this number, if this version knows it.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL
            .binary_search_by_key(&code, |reason| reason.code())
            .ok()
            .map(|at| Self::ALL[at])
    }

    /// The word for it, as counters and documents use it.
    pub fn name(self) -> &'static str {
        self.explanation().name
    }

    /// Whether the same request may succeed later, unchanged.
    pub fn retryable(self) -> bool {
        self.explanation().retryable
    }

    /// What it means.
    pub fn meaning(self) -> &'static str {
        self.explanation().meaning
    }

    /// What to do.
    pub fn remedy(self) -> &'static str {
        self.explanation().remedy
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FB-{} {}", self.code(), self.name())
    }
}

/// A notice: in REFUSED, BYE and GOAWAY at 16, in REJECT at 24.
///
/// | offset | bytes | field            | meaning                                                |
/// |-------:|------:|------------------|--------------------------------------------------------|
/// |      0 |     2 | `reason`         | a [`Reason`]                                           |
/// |      2 |     2 | `reserved`       | zero; anything else is refused                         |
/// |      4 |     4 | `retry_after_ms` | when to try again; zero: not as it is                  |
/// |      8 |     8 | `seen`           | the value seen, see the reason                         |
/// |     16 |     8 | `needed`         | the value needed, see the reason                       |
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct NoticeFixed {
    reason: U16,
    reserved: U16,
    retry_after_ms: U32,
    seen: U64,
    needed: U64,
}
const _: () = assert!(size_of::<NoticeFixed>() == 24);

/// A reason with its values: what the peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// Why.
    pub reason: Reason,
    /// When to try again; 0: not as it is.
    pub retry_after_ms: u32,
    /// The value seen.
    pub seen: u64,
    /// The value needed.
    pub needed: u64,
}

impl Notice {
    /// Without a time to try again.
    pub const fn new(reason: Reason, seen: u64, needed: u64) -> Self {
        Self {
            reason,
            retry_after_ms: 0,
            seen,
            needed,
        }
    }

    /// The same, to be tried again after so many milliseconds.
    pub const fn retry_after(self, retry_after_ms: u32) -> Self {
        Self {
            retry_after_ms,
            ..self
        }
    }

    /// The same for a person.
    pub fn diagnosis(&self) -> Diagnosis {
        let row = self.reason.explanation();
        let words = self.reason.words();
        let value = |what: &str, value: u64, words: &str| match what {
            "0" => words.to_owned(),
            _ => format!("{value} ({what})"),
        };
        let seen = value(row.seen, self.seen, words.0);
        let needed = value(row.needed, self.needed, words.1);
        Diagnosis::new(self.reason.code(), row.meaning, seen, needed, row.remedy)
    }

    pub(crate) fn to_fixed(self) -> NoticeFixed {
        NoticeFixed {
            reason: U16::new(self.reason.code()),
            reserved: U16::ZERO,
            retry_after_ms: U32::new(self.retry_after_ms),
            seen: U64::new(self.seen),
            needed: U64::new(self.needed),
        }
    }

    /// Read the notice at `at` of a frame of this kind. Code 0 is none; any other stands, known or not.
    pub(crate) fn from_fixed(
        fixed: &NoticeFixed,
        kind: FrameKind,
        at: usize,
    ) -> Result<Self, ParseError> {
        let code = fixed.reason.get();
        if code == 0 {
            return Err(ParseError::Field {
                kind: kind as u8,
                at,
                value: 0,
                need: 1101,
            });
        }
        // A later version may have codes that this one does not know: they are carried, not refused.
        let reason = Reason::from_code(code).unwrap_or(Reason::Unknown(code));
        frame::zero(at + 2, fixed.reserved.as_bytes())?;
        Ok(Self {
            reason,
            retry_after_ms: fixed.retry_after_ms.get(),
            seen: fixed.seen.get(),
            needed: fixed.needed.get(),
        })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: saw {}, need {}",
            self.reason, self.seen, self.needed
        )?;
        if self.retry_after_ms > 0 {
            write!(f, ", retry after {} ms", self.retry_after_ms)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_leads_to_its_reason_and_no_other_does() {
        assert!(Reason::ALL.is_sorted_by(|a, b| a.code() < b.code()));
        let known: Vec<u16> = (0..=u16::MAX)
            .filter(|code| Reason::from_code(*code).is_some())
            .collect();
        assert_eq!(
            known,
            Reason::ALL
                .iter()
                .map(|reason| reason.code())
                .collect::<Vec<_>>()
        );
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
        }
    }

    #[test]
    fn a_code_of_a_later_version_is_carried_and_is_a_refusal() {
        for code in [1, 1199, 1999, 65_535] {
            let told = Notice::new(Reason::Unknown(code), 7, 9).retry_after(20);
            let read = Notice::from_fixed(&told.to_fixed(), FrameKind::Reject, 24);
            assert_eq!(read, Ok(told), "{code}");
            assert!(!told.reason.retryable() && told.reason.code() == code);
            let shown = told.diagnosis().to_string();
            assert!(shown.starts_with(&format!("FB-{code}: ")), "{shown}");
        }
        let none = Notice::new(Reason::Unknown(0), 0, 0).to_fixed();
        assert!(Notice::from_fixed(&none, FrameKind::Goaway, 16).is_err());
    }

    #[test]
    fn names_are_unique_and_every_row_is_full() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let row = reason.explanation();
            for text in [row.meaning, row.seen, row.needed, row.remedy] {
                assert!(
                    !text.is_empty() && !text.ends_with('.'),
                    "{reason}: {text:?}"
                );
            }
        }
    }

    #[test]
    fn a_notice_reads_as_a_diagnosis() {
        let notice = Notice::new(Reason::BodyTooLong, 300_000, 262_144);
        assert_eq!(
            notice.to_string(),
            "FB-1207 body_too_long: saw 300000, need 262144"
        );
        assert!(
            notice.diagnosis().to_string().starts_with("FB-1207: "),
            "{}",
            notice.diagnosis()
        );
        assert_eq!(
            Notice::new(Reason::Busy, 1, 0).retry_after(20).to_string(),
            "FB-1501 busy: saw 1, need 0, retry after 20 ms"
        );
    }
}
