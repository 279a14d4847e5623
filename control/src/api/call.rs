//! One question to the API, taken apart, and its answer.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{
    AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
    LOCATION,
};
use axum::response::Response;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::BODY_BYTES_MAX;
use super::problem::Problem;
use super::routes::Route;
use crate::diagnosis::{AMOUNT, API_CONDITION, API_QUERY, CODES, TOKEN_UNKNOWN};
use crate::model::written::Table;
use crate::model::{Noun, Role, Thing};
use crate::plan::syntax::of_message;
use crate::quantity::parse_age;
use crate::service::{Caller, Outcome, Service};
use wire::diagnosis::Diagnosis;

/// Longest wait for the nodes.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What a header reads as that is no text.
const UNREADABLE: &str = "\u{fffd}";

/// A request as it came.
pub(super) struct Question {
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Question {
    /// The text of the bearer token.
    pub(super) fn bearer(&self) -> Result<&str, Problem> {
        bearer_of(self.headers.get(AUTHORIZATION)).ok_or_else(|| {
            let (what, seen) = ("the API takes no strangers", "no bearer token");
            let needed = "`Authorization: Bearer fbt_...`";
            Diagnosis::from_table(CODES, TOKEN_UNKNOWN, what, seen, needed).into()
        })
    }

    /// The text of a header. One that is no text, or is there twice, reads as a text that nothing accepts: a condition that cannot be
    /// read must not pass for one that was not made.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        let mut values = self.headers.get_all(name).into_iter();
        let first = values.next()?.to_str().unwrap_or(UNREADABLE);
        Some(match values.next() {
            None => first,
            Some(_) => UNREADABLE,
        })
    }
}

/// The text of the bearer token in this header.
pub(super) fn bearer_of(value: Option<&HeaderValue>) -> Option<&str> {
    let (kind, token) = value?.to_str().ok()?.split_once(' ')?;
    kind.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// A question with its caller.
pub(super) struct Call<'a> {
    pub(super) service: &'a Service,
    pub(super) route: &'a Route,
    pub(super) question: &'a Question,
    pub(super) caller: Caller,
    query: BTreeMap<String, String>,
    /// How long to wait for the nodes, if at all.
    wait: Option<Duration>,
}

impl<'a> Call<'a> {
    /// A question of somebody with a token.
    pub(super) fn new(
        service: &'a Service,
        route: &'a Route,
        question: &'a Question,
        caller: Caller,
    ) -> Result<Self, Problem> {
        let query = query(&question.query, route)?;
        // Before anything is changed: what is refused changes nothing.
        let wait = query.get("wait").map(|text| wait(text)).transpose()?;
        Ok(Self {
            service,
            route,
            question,
            caller,
            query,
            wait,
        })
    }

    /// A question of nobody in particular.
    pub(super) fn stranger(
        service: &'a Service,
        route: &'a Route,
        question: &'a Question,
    ) -> Result<Self, Problem> {
        let nobody = Caller {
            name: String::new(),
            role: Role::Viewer,
            account: Some(String::new()),
            expires: None,
            hash: None,
        };
        Self::new(service, route, question, nobody)
    }

    /// A part of the path.
    pub(super) fn part(&self, name: &str) -> &str {
        self.question
            .parameters
            .get(name)
            .map_or("", String::as_str)
    }

    /// The full name that the path gives, of its parts from `account` to `name`.
    pub(super) fn name(&self) -> String {
        let parts = ["account", "environment", "name"];
        let given = parts
            .iter()
            .filter_map(|part| self.question.parameters.get(*part));
        given.map(String::as_str).collect::<Vec<_>>().join("/")
    }

    /// A value of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A value of the query that is `true` or `false`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.query(name) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(seen) => Err(bad_query(name, seen, "true or false")),
        }
    }

    /// A number of the query, or what stands for it.
    pub(super) fn number(&self, name: &str, otherwise: u64, most: u64) -> Result<u64, Problem> {
        let Some(seen) = self.query(name) else {
            return Ok(otherwise);
        };
        let number = seen.parse().ok().filter(|number| *number <= most);
        number.ok_or_else(|| bad_query(name, seen, &format!("a number up to {most}")))
    }

    /// The version that the thing must have had: `If-Match`, or none at all with `If-None-Match: *`.
    pub(super) fn expected(&self) -> Result<Option<u64>, Problem> {
        let none = self.question.header(&IF_NONE_MATCH);
        let wanted = self.question.header(&IF_MATCH);
        match (wanted, none) {
            (None, None) | (Some("*"), None) => Ok(None),
            (None, Some("*")) => Ok(Some(0)),
            (Some(text), None) => {
                let number = text
                    .strip_prefix('"')
                    .and_then(|text| text.strip_suffix('"'));
                let number = number
                    .and_then(|text| text.parse().ok())
                    .filter(|one| *one > 0);
                number.map(Some).ok_or_else(|| bad_condition(text))
            }
            (_, Some(text)) => Err(bad_condition(text)),
        }
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, Problem> {
        self.kind()?;
        let read = serde_json::from_slice(&self.question.body);
        let mut value = read.map_err(|error| {
            Problem::body(format!(
                "line {} column {}: {error}",
                error.line(),
                error.column()
            ))
        })?;
        with_whole_numbers(&mut value);
        Ok(value)
    }

    /// Refuse a body of another kind than JSON, and none at all: what was left out by mistake must not pass for a thing without anything.
    fn kind(&self) -> Result<(), Problem> {
        if self.question.body.is_empty() {
            return Err(Problem::body("none".to_owned()));
        }
        let kind = self.question.header(&CONTENT_TYPE).unwrap_or("");
        let kind = kind.split(';').next().unwrap_or("").trim();
        let accepted = ["application/json", "application/merge-patch+json"];
        let accepted = accepted.iter().any(|one| kind.eq_ignore_ascii_case(one));
        match accepted {
            true => Ok(()),
            false => Err(Problem::kind(kind)),
        }
    }

    /// The body as what is wanted here.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.kind()?;
        // Without a JSON value of it in between, which takes many times the memory, if it is long.
        match serde_json::from_slice(&self.question.body) {
            Ok(Table(read)) => return Ok(read),
            Err(error) if self.question.body.len() > BODY_BYTES_MAX => {
                return Err(unreadable(&error).into());
            }
            Err(_) => {}
        }
        decode(self.json()?)
    }

    /// The answer to a change, which waits for the nodes if it was asked to.
    pub(super) fn changed(&self, outcome: &Outcome, status: u16) -> Result<Answer, Problem> {
        let mut body = json!({ "version": outcome.version });
        if let Some(within) = self.wait {
            let progress = self.service.wait(outcome, within);
            body["progress"] = serde_json::to_value(progress).expect("numbers and names");
        }
        // What did not change has the version that it had.
        let same = outcome.changed.is_empty();
        let catalog = same.then(|| self.service.catalog());
        let stored = catalog
            .as_ref()
            .and_then(|catalog| catalog.get(self.route.noun, &self.name()));
        let version = stored.map_or(outcome.version, |stored| stored.version);
        Ok(Answer::json(status, body).tagged(version))
    }
}

/// Write whole numbers as such: to JSON, and to our own document, 5.0 is the integer 5.
fn with_whole_numbers(value: &mut Value) {
    /// Up to here every whole number is one of floating point.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|one| one.fract() == 0.0);
            if let Some(whole) = whole.filter(|one| one.abs() < EXACT) {
                *value = (whole as i64).into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(with_whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(with_whole_numbers),
        _ => {}
    }
}

/// How long to wait for the nodes.
fn wait(text: &str) -> Result<Duration, Problem> {
    let bad = || {
        let (what, needed) = (
            "`wait` cannot be read",
            "a duration such as 5s, at most 60s",
        );
        Problem::from(Diagnosis::from_table(CODES, AMOUNT, what, text, needed))
    };
    // A bare number could be meant in any unit.
    let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
    let wait = parse_age(text).ok().filter(|_| has_unit);
    Ok(wait.ok_or_else(bad)?.min(WAIT_MAX))
}

/// JSON as what is wanted, or what is wrong with it.
pub(super) fn decode<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    let read = serde_json::from_value(value).map(|Table(read)| read);
    read.map_err(|error| unreadable(&error).into())
}

/// What the reader of JSON says, with the nearest known name.
pub(super) fn unreadable(error: &serde_json::Error) -> Diagnosis {
    let text = error.to_string();
    let mut fault = of_message(text.trim(), "");
    if fault.code == crate::diagnosis::SYNTAX {
        fault.what = "a value has the wrong type".to_owned();
        fault.seen = text;
        fault.needed = "what the OpenAPI document at /v1/openapi.json says".to_owned();
        fault.remedy = "correct the value".to_owned();
    }
    fault
}

fn query(text: &str, route: &Route) -> Result<BTreeMap<String, String>, Problem> {
    let mut values = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let read = |text: &str| {
            percent_decode(text).ok_or_else(|| bad_query(name, text, "percent-encoded UTF-8"))
        };
        let (name, value) = (read(name)?, read(value)?);
        if !route.query.contains(&name.as_str()) {
            let known = route.query.join(", ");
            let needed = match known.as_str() {
                "" => "no query here".to_owned(),
                known => format!("one of {known}"),
            };
            return Err(bad_query(&name, &value, &needed));
        }
        values.insert(name, value);
    }
    Ok(values)
}

/// Percent-encoded UTF-8 as text.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                (digit(rest.next())? * 16 + digit(rest.next())?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn bad_query(name: &str, seen: &str, needed: &str) -> Problem {
    let what = format!("`{name}` of the query is refused");
    Diagnosis::from_table(CODES, API_QUERY, what, format!("`{seen}`"), needed).into()
}

fn bad_condition(seen: &str) -> Problem {
    let what = "a condition cannot be read";
    let needed = "If-Match with an ETag in quotes, or If-None-Match: *";
    Diagnosis::from_table(CODES, API_CONDITION, what, format!("`{seen}`"), needed).into()
}

/// What is answered.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) headers: Vec<(HeaderName, String)>,
    /// The code of what is refused.
    pub(super) code: Option<u16>,
}

impl Answer {
    /// JSON.
    pub(super) fn json(status: u16, body: Value) -> Self {
        Self {
            status,
            kind: "application/json",
            body: body.to_string().into_bytes(),
            headers: Vec::new(),
            code: None,
        }
    }

    /// With the version of a thing as its ETag.
    pub(super) fn tagged(mut self, version: u64) -> Self {
        self.headers.push((ETAG, format!("\"{version}\"")));
        self
    }

    /// With the place of what was made.
    pub(super) fn at(mut self, place: String) -> Self {
        self.headers.push((LOCATION, place));
        self
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = axum::http::StatusCode::from_u16(self.status)
            .unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        let fixed = [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ];
        for (name, value) in fixed {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// A thing as it is answered.
pub(super) fn shown(thing: &Thing, version: u64) -> Value {
    let mut value = thing.shown();
    value["version"] = version.into();
    if thing.noun() == Noun::Token
        && let Some(token) = value.as_object_mut()
    {
        token.remove("fingerprint");
    }
    value
}
