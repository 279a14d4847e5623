//! Where each value comes from: the default, then the file, then the environment, the later one in force.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::setting::{self, PREFIX, SETTINGS, Setting};
use super::value::{self, NONE, Value};
use crate::diagnosis::{Diagnosis, NOT_TOML, UNKNOWN_KEY, UNKNOWN_VARIABLE, WRONG_KIND, diagnose};

/// Tables of the same file that other rooms read.
const FOREIGN_TABLES: [&str; 4] = ["plan", "control", "link", "client"];

/// Who gave a setting its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: the default is in force.
    Default,
    /// The file, on this line.
    File(usize),
    /// This environment variable.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(line) => write!(f, "file, line {line}"),
            Self::Environment(name) => write!(f, "environment, {name}"),
        }
    }
}

/// One setting as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Its key below `node`.
    pub key: &'static str,
    /// Its value as TOML; `None` if it is not set.
    pub value: Option<String>,
    /// Who gave it.
    pub origin: Origin,
}

/// Every setting's value and origin, in the order of [`SETTINGS`].
#[derive(Debug)]
pub(super) struct Values(Vec<(&'static Setting, Option<Value>, Origin)>);

impl Values {
    pub(super) fn defaults() -> Self {
        let default = |setting: &'static Setting| {
            let value = setting.default.map(|text| {
                value::from_text(setting, text, setting.key)
                    .expect("every default fits its own setting")
            });
            (setting, value, Origin::Default)
        };
        Self(SETTINGS.iter().map(default).collect())
    }

    fn put(&mut self, setting: &'static Setting, value: Value, origin: Origin) {
        let row = self
            .0
            .iter_mut()
            .find(|(known, _, _)| known.key == setting.key)
            .expect("the list holds every setting");
        (row.1, row.2) = (Some(value), origin);
    }

    /// Replace a default by other text that is known to fit.
    pub(super) fn put_text(&mut self, key: &'static str, text: &str) {
        let setting = setting::find(key).expect("the caller names a setting");
        let value = value::from_text(setting, text, key).expect("the caller gives a fitting value");
        self.put(setting, value, Origin::Default);
    }

    fn get(&self, key: &'static str) -> Option<&Value> {
        let row = self.0.iter().find(|(known, _, _)| known.key == key);
        row.expect("the caller names a setting").1.as_ref()
    }

    pub(super) fn text(&self, key: &'static str) -> &str {
        match self.get(key) {
            Some(Value::Text(text)) => text,
            other => unreachable!("{key} is text by its kind, not {other:?}"),
        }
    }

    pub(super) fn optional_text(&self, key: &'static str) -> Option<&str> {
        self.get(key).map(|_| self.text(key))
    }

    pub(super) fn optional_address(&self, key: &'static str) -> Option<SocketAddr> {
        let off = |value: &&Value| **value != Value::Text(NONE.to_owned());
        self.get(key).filter(off).map(|_| self.address(key))
    }

    pub(super) fn address(&self, key: &'static str) -> SocketAddr {
        match self.get(key) {
            Some(Value::Address(address)) => *address,
            other => unreachable!("{key} is an address by its kind, not {other:?}"),
        }
    }

    pub(super) fn optional_count(&self, key: &'static str) -> Option<u64> {
        match self.get(key) {
            Some(Value::Count(count) | Value::Bytes(count)) => Some(*count),
            None => None,
            other => unreachable!("{key} is a number by its kind, not {other:?}"),
        }
    }

    pub(super) fn count(&self, key: &'static str) -> u64 {
        self.optional_count(key)
            .expect("every other number has a default")
    }

    /// A number whose greatest value fits the narrower type.
    pub(super) fn narrow<T: TryFrom<u64>>(&self, key: &'static str) -> T {
        T::try_from(self.count(key))
            .ok()
            .expect("the setting's greatest value fits the type it is read into")
    }

    pub(super) fn optional_duration(&self, key: &'static str) -> Option<Duration> {
        match self.get(key) {
            Some(Value::Duration(time)) => Some(*time),
            None => None,
            other => unreachable!("{key} is a duration by its kind, not {other:?}"),
        }
    }

    pub(super) fn duration(&self, key: &'static str) -> Duration {
        self.optional_duration(key)
            .expect("every other duration has a default")
    }

    pub(super) fn effective(&self) -> Vec<Effective> {
        let show =
            |(setting, value, origin): &(&'static Setting, Option<Value>, Origin)| Effective {
                key: setting.key,
                value: value.as_ref().map(Value::render),
                origin: origin.clone(),
            };
        self.0.iter().map(show).collect()
    }
}

/// Lay the file's `[node]` table over `values`.
pub(super) fn read_file(text: &str, values: &mut Values) -> Result<(), Diagnosis> {
    let document = DeTable::parse(text).map_err(|error| not_toml(text, &error))?;
    for (key, value) in document.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("node", DeValue::Table(table)) => read_table(text, "", table, values)?,
            ("node", other) => {
                return Err(diagnose(
                    WRONG_KIND,
                    format!("node on line {}", line_of(text, key)),
                    other.type_str(),
                    "a table",
                    "begin it with a line [node]",
                ));
            }
            (name, _) if FOREIGN_TABLES.contains(&name) => {}
            (name, _) => {
                let known = FOREIGN_TABLES.into_iter().chain(["node"]);
                return Err(unknown_key(name, name, line_of(text, key), known));
            }
        }
    }
    Ok(())
}

/// Read one table; `inside` is its key below `node`, empty for `[node]` itself.
fn read_table(
    text: &str,
    inside: &str,
    table: &DeTable<'_>,
    values: &mut Values,
) -> Result<(), Diagnosis> {
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let path = match inside {
            "" => name.to_owned(),
            _ => format!("{inside}.{name}"),
        };
        let line = line_of(text, key);
        let place = format!("node.{path} on line {line}");
        match (setting::find(&path), value.get_ref()) {
            (Some(setting), value) => {
                let value = value::from_toml(setting, value, &place)?;
                values.put(setting, value, Origin::File(line));
            }
            (None, DeValue::Table(table)) if inside.is_empty() && is_table(name) => {
                read_table(text, name, table, values)?;
            }
            (None, _) if inside.is_empty() && is_table(name) => {
                let seen = value.get_ref().type_str();
                let remedy = format!("begin it with a line [node.{name}]");
                return Err(diagnose(WRONG_KIND, place, seen, "a table", remedy));
            }
            (None, _) => {
                return Err(unknown_key(
                    &path,
                    &format!("node.{path}"),
                    line,
                    known_names(),
                ));
            }
        }
    }
    Ok(())
}

/// Lay the variables that begin with our prefix over `values`.
pub(super) fn read_environment(
    env: impl IntoIterator<Item = (String, String)>,
    values: &mut Values,
) -> Result<(), Diagnosis> {
    for (name, text) in env {
        if !name.starts_with(PREFIX) {
            continue;
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) else {
            return Err(unknown_variable(&name));
        };
        let value = value::from_text(setting, &text, &name)?;
        values.put(setting, value, Origin::Environment(name));
    }
    Ok(())
}

/// Whether some setting lies in the table of this name.
fn is_table(name: &str) -> bool {
    SETTINGS.iter().any(|setting| {
        setting
            .key
            .split_once('.')
            .is_some_and(|(table, _)| table == name)
    })
}

/// Every key and every table below `node`.
fn known_names() -> impl Iterator<Item = &'static str> {
    let tables = SETTINGS
        .iter()
        .filter_map(|setting| setting.key.split_once('.'));
    let keys = SETTINGS.iter().map(|setting| setting.key);
    keys.chain(tables.map(|(table, _)| table))
}

fn unknown_key<'a>(
    name: &str,
    shown: &str,
    line: usize,
    known: impl Iterator<Item = &'a str>,
) -> Diagnosis {
    let remedy = match setting::nearest(name, known) {
        Some(near) => format!("did you mean {near}?"),
        None => "take it out".into(),
    };
    let what = format!("configuration, line {line}");
    let seen = format!("the key {shown}");
    diagnose(UNKNOWN_KEY, what, seen, "a key that exists", remedy)
}

fn unknown_variable(name: &str) -> Diagnosis {
    let variables: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    let remedy = match setting::nearest(name, variables.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => "unset it".into(),
    };
    let needed = "a variable that overrides a setting";
    diagnose(UNKNOWN_VARIABLE, "environment", name, needed, remedy)
}

fn not_toml(text: &str, error: &toml::de::Error) -> Diagnosis {
    let line = error.span().map_or(1, |span| line_at(text, span.start));
    diagnose(
        NOT_TOML,
        format!("configuration, line {line}"),
        error.message(),
        "TOML",
        "mend that line; keys are written as name = value, tables as [node.ring]",
    )
}

fn line_of<T>(text: &str, spanned: &Spanned<T>) -> usize {
    line_at(text, spanned.span().start)
}

/// The line of a byte position, from 1.
fn line_at(text: &str, position: usize) -> usize {
    let before = text.as_bytes().iter().take(position);
    1 + before.filter(|byte| **byte == b'\n').count()
}
