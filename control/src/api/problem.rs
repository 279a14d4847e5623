//! What went wrong, as `application/problem+json` (RFC 9457): all five parts of every fault, and a status that fits.

use axum::http::header::WWW_AUTHENTICATE;
use axum::response::Response;
use serde_json::{Value, json};
use wire::diagnosis::Diagnosis;

use super::call::Answer;
use crate::compile::Found;
use crate::diagnosis as codes;
use crate::diagnosis::CODES;
use crate::model::NAME_NEEDED;
use crate::service::Refusal;

/// A refused question.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: u16,
    found: Vec<Found>,
}

impl From<Diagnosis> for Problem {
    fn from(fault: Diagnosis) -> Self {
        let pointer = String::new();
        vec![Found { pointer, fault }].into()
    }
}

impl From<Refusal> for Problem {
    fn from(found: Refusal) -> Self {
        let status = found
            .first()
            .map_or(500, |first| status_of(first.fault.code));
        Self { status, found }
    }
}

/// The status of a code.
fn status_of(code: u16) -> u16 {
    match code {
        codes::API_BODY | codes::API_QUERY | codes::API_CONDITION => 400,
        codes::TOKEN_UNKNOWN => 401,
        codes::ROLE | codes::SCOPE => 403,
        codes::NOT_THERE | codes::API_ROUTE => 404,
        codes::API_METHOD => 405,
        codes::ALREADY_THERE | codes::API_REPEATED => 409,
        // Well formed, and at odds with what is defined beside it.
        codes::DUPLICATE | codes::UNKNOWN_NAME | codes::ID_COLLISION | codes::TOO_MANY_KEYS => 409,
        codes::KEY_KIND
        | codes::KEY_ID_USED
        | codes::NODE_IS_HOME
        | codes::TABLE
        | codes::LIMIT
        | codes::FOREIGN => 409,
        codes::CHANGED_MEANWHILE => 412,
        codes::API_TOO_LONG => 413,
        codes::API_KIND => 415,
        codes::STORE_FAILED..=codes::BACKUP_EXISTS => 503,
        codes::API_BROKEN => 500,
        // A node would not take it.
        3_000.. => 409,
        _ => 422,
    }
}

impl Problem {
    fn told(code: u16, what: &str, seen: impl Into<String>, needed: &str) -> Self {
        Diagnosis::from_table(CODES, code, what, seen, needed).into()
    }

    /// A body that is none.
    pub(super) fn body(seen: String) -> Self {
        Self::told(
            codes::API_BODY,
            "the body cannot be read",
            seen,
            "one JSON value",
        )
    }

    /// A body of more bytes than may come.
    pub(super) fn too_long(seen: impl std::fmt::Display, most: usize) -> Self {
        let (what, needed) = ("the body is too long", format!("at most {most} bytes"));
        Self::told(codes::API_TOO_LONG, what, format!("{seen} bytes"), &needed)
    }

    /// A name that none of a kind of thing can have.
    pub(super) fn name(kind: &str, seen: &str) -> Self {
        let what = format!("no {kind} can have this name");
        Self::told(codes::NAME, &what, format!("`{seen}`"), NAME_NEEDED)
    }

    /// A body of another kind.
    pub(super) fn kind(seen: &str) -> Self {
        let (what, needed) = (
            "the body is of another kind",
            "Content-Type: application/json",
        );
        Self::told(codes::API_KIND, what, format!("`{seen}`"), needed)
    }

    /// A path that leads nowhere.
    pub(super) fn route() -> Self {
        let needed = "a path of the OpenAPI document at /v1/openapi.json";
        Self::told(
            codes::API_ROUTE,
            "there is no such path",
            "another path",
            needed,
        )
    }

    /// A method that a path has not.
    pub(super) fn method() -> Self {
        let needed = "a method of the OpenAPI document at /v1/openapi.json";
        Self::told(
            codes::API_METHOD,
            "the path has no such method",
            "another method",
            needed,
        )
    }

    /// Our own mistake.
    pub(super) fn broken() -> Self {
        Self::told(
            codes::API_BROKEN,
            "the question was not answered",
            "a panic",
            "none",
        )
    }

    /// As a conflict with what is defined.
    pub(super) fn conflicting(mut self) -> Self {
        if self.status == 422 {
            self.status = 409;
        }
        self
    }

    pub(super) fn answer(&self) -> Answer {
        let first = self.found.first();
        let number = first.map_or(codes::API_BROKEN, |first| first.fault.code);
        let name = CODES.iter().find(|entry| entry.0 == number);
        let mut body = first.map_or_else(|| json!({}), as_json);
        body["type"] = format!("urn:forebay:{}", name.map_or("unknown", |entry| entry.1)).into();
        body["title"] = name.map_or("", |entry| entry.2).into();
        body["status"] = self.status.into();
        body["errors"] = self.found.iter().map(as_json).collect();
        let mut answer = Answer::json(self.status, body);
        answer.kind = "application/problem+json";
        answer.code = Some(number);
        if self.status == 401 {
            answer.headers.push((WWW_AUTHENTICATE, "Bearer".to_owned()));
        }
        answer
    }

    pub(super) fn into_response(self) -> Response {
        self.answer().into_response()
    }
}

fn as_json(found: &Found) -> Value {
    let Found { pointer, fault } = found;
    let mut value = json!({
        "code": format!("FB-{}", fault.code),
        "detail": fault.what,
        "seen": fault.seen,
        "needed": fault.needed,
        "remedy": fault.remedy,
    });
    if !pointer.is_empty() {
        value["pointer"] = pointer.as_str().into();
    }
    value
}
