//! Endpoints in a file, one after another: a JSON object a line, or rows of CSV.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::Value;
use wire::diagnosis::Diagnosis;

use super::value;
use crate::diagnosis::{BULK_FILE, CODES};

/// Longest line.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What is in the file, read as it is asked for.
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    number: u64,
    /// Names of the columns, of CSV.
    columns: Option<Vec<String>>,
}

impl Lines {
    /// Begin to read.
    pub(super) fn open(path: &Path) -> Result<Self, Diagnosis> {
        let file = File::open(path).map_err(|error| unread(path, 0, error.to_string()))?;
        let mut lines = Self {
            path: path.to_owned(),
            reader: BufReader::with_capacity(1 << 16, file),
            number: 0,
            columns: None,
        };
        if path.extension().is_some_and(|extension| extension == "csv") {
            let head = lines.line()?.unwrap_or_default();
            lines.columns = Some(lines.fields(&head)?);
        }
        Ok(lines)
    }

    /// The next line that is not empty.
    fn line(&mut self) -> Result<Option<String>, Diagnosis> {
        use std::io::Read;
        loop {
            let mut text = String::new();
            let mut limited = self.reader.by_ref().take(LINE_BYTES_MAX);
            let count = limited.read_line(&mut text);
            self.number += 1;
            let count = count.map_err(|error| self.refuse(error.to_string()))?;
            if count == 0 {
                return Ok(None);
            }
            if count as u64 == LINE_BYTES_MAX {
                return Err(self.refuse(format!("a line above {LINE_BYTES_MAX} bytes")));
            }
            let text = text.trim();
            if !text.is_empty() {
                return Ok(Some(text.to_owned()));
            }
        }
    }

    fn read(&self, line: &str) -> Result<Value, Diagnosis> {
        let Some(columns) = &self.columns else {
            let read: Result<Value, _> = serde_json::from_str(line);
            let read = read.map_err(|error| self.refuse(error.to_string()))?;
            return match read.is_object() {
                true => Ok(read),
                false => Err(self.refuse("another JSON value than an object".to_owned())),
            };
        };
        let fields = self.fields(line)?;
        if fields.len() != columns.len() {
            let seen = format!("{} values in {} columns", fields.len(), columns.len());
            return Err(self.refuse(seen));
        }
        let given = columns
            .iter()
            .zip(&fields)
            .filter(|(_, field)| !field.is_empty());
        let pairs: Vec<String> = given
            .map(|(name, field)| format!("{name}={field}"))
            .collect();
        value::object(&pairs)
    }

    /// The fields of a row (RFC 4180), all of it on one line.
    fn fields(&self, line: &str) -> Result<Vec<String>, Diagnosis> {
        let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
        let mut letters = line.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '"' if quoted && letters.peek() == Some(&'"') => {
                    letters.next();
                    field.push('"');
                }
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(std::mem::take(&mut field)),
                letter => field.push(letter),
            }
        }
        fields.push(field);
        match quoted {
            false => Ok(fields),
            true => Err(self.refuse("a quote that does not end on its line".to_owned())),
        }
    }

    fn refuse(&self, seen: String) -> Diagnosis {
        unread(&self.path, self.number, seen)
    }
}

impl Iterator for Lines {
    /// The number of the line, and what it says.
    type Item = Result<(u64, Value), Diagnosis>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = match self.line() {
            Ok(line) => line?,
            Err(fault) => return Some(Err(fault)),
        };
        Some(self.read(&line).map(|value| (self.number, value)))
    }
}

fn unread(path: &Path, number: u64, seen: String) -> Diagnosis {
    let what = format!("{} line {number} cannot be read", path.display());
    let needed = "a JSON object a line, or rows of CSV in a file named *.csv";
    Diagnosis::from_table(CODES, BULK_FILE, what, seen, needed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(name: &str, text: &str) -> Vec<Result<(u64, Value), u16>> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        let lines = Lines::open(&path).expect("readable");
        lines.map(|line| line.map_err(|fault| fault.code)).collect()
    }

    #[test]
    fn rows_and_lines_say_the_same() {
        let want = [
            Ok((
                2,
                json!({ "name": "x", "queue": { "lock": "30s" }, "certificates": ["a,b"] }),
            )),
            Ok((4, json!({ "name": "7" }))),
        ];
        let rows = "name,queue.lock,certificates\nx,30s,\"[\"\"a,b\"\"]\"\n\n\"\"\"7\"\"\",,\n";
        assert_eq!(read("rows.csv", rows), want);
        let lines = "\n{\"name\":\"x\",\"queue\":{\"lock\":\"30s\"},\"certificates\":[\"a,b\"]}\n\n{\"name\":\"7\"}";
        assert_eq!(read("lines", lines), want);
    }

    #[test]
    fn what_is_no_endpoint_is_refused_by_its_line() {
        assert_eq!(read("rows.csv", "name,id\nx\n"), [Err(BULK_FILE)]);
        assert_eq!(read("rows.csv", "name\n\"x\n"), [Err(BULK_FILE)]);
        assert_eq!(read("lines", "[]\n{"), [Err(BULK_FILE), Err(BULK_FILE)]);
    }
}
