//! How a fault is told to a person: what failed, the value seen, the value needed, the remedy, a stable code.

use std::fmt;

/// One fault, ready to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The stable number behind `FB-`.
    pub code: u16,
    /// What failed.
    pub what: String,
    /// The value seen.
    pub seen: String,
    /// The value needed.
    pub needed: String,
    /// What to do about it.
    pub remedy: String,
}

impl Diagnosis {
    /// All five parts at once.
    pub fn new(
        code: u16,
        what: impl Into<String>,
        seen: impl Into<String>,
        needed: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            code,
            what: what.into(),
            seen: seen.into(),
            needed: needed.into(),
            remedy: remedy.into(),
        }
    }

    /// A fault whose remedy stands in its room's table of codes: number, name, meaning, remedy.
    ///
    /// # Panics
    /// When the table lacks the code: a room names only codes of its own table.
    pub fn from_table(
        table: &[(u16, &str, &str, &str)],
        code: u16,
        what: impl Into<String>,
        seen: impl Into<String>,
        needed: impl Into<String>,
    ) -> Self {
        let entry = table
            .iter()
            .find(|entry| entry.0 == code)
            .expect("every code used stands in its room's table");
        Self::new(code, what, seen, needed, entry.3)
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            what,
            seen,
            needed,
            remedy,
        } = self;
        write!(f, "FB-{code}: {what}: saw {seen}, need {needed}; {remedy}")
    }
}

impl std::error::Error for Diagnosis {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnosis_prints_on_one_line_with_its_code_first() {
        let fault = Diagnosis::new(2003, "[node] shards", "0", "1 to 64", "set shards = 1");
        assert_eq!(
            fault.to_string(),
            "FB-2003: [node] shards: saw 0, need 1 to 64; set shards = 1"
        );
    }
}
