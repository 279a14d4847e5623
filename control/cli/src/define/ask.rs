//! Questions to the API of a control plane: HTTP/1, one request a connection.

use std::path::PathBuf;

use serde_json::Value;
use wire::diagnosis::Diagnosis;

use super::context::Context;
use super::place::Place;
use crate::control::own;
use crate::control::section::LISTEN;
use crate::diagnosis::{API_STRANGE, CODES, NO_TOKEN};
use crate::fault::Fault;

/// Which control plane to ask, and as whom. Tokens come from files or the environment: arguments can be seen by others. What is not
/// given is the context's; `--api` sets the whole context aside, so that its token goes nowhere else.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ApiArgs {
    /// Where the API is: https://HOST:PORT, or HOST:PORT; http:// and this machine for one that is served in the clear
    #[arg(long, value_name = "URL", env = "FOREBAY_API")]
    api: Option<String>,
    /// File with the token; FOREBAY_TOKEN may hold the token itself
    #[arg(long, value_name = "FILE", env = "FOREBAY_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Authorities that may have signed the API's certificate, as PEM; unless given, `api.pem` beside the token is trusted alone, or, without
    /// one, those of this machine
    #[arg(long, value_name = "FILE", env = "FOREBAY_API_CA")]
    ca: Option<PathBuf>,
    /// SHA-256 of the API's certificate, which is trusted then and no other
    #[arg(long, value_name = "FINGERPRINT", env = "FOREBAY_API_PIN")]
    pin: Option<String>,
    /// Context to use, see `forebay context`
    #[arg(long, value_name = "NAME", env = "FOREBAY_CONTEXT")]
    context: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was answered.
pub(crate) struct Answer {
    /// The bytes of its body.
    pub(crate) body: Vec<u8>,
    /// Who answered.
    place: String,
    /// Its ETag.
    tag: Option<String>,
}

/// Where to ask, and as whom.
struct Asked {
    place: Place,
    token: String,
}

/// The path of a thing of this noun with this full name, or of the things within it.
pub(crate) fn path(parts: &[&str]) -> String {
    let mut path = String::from("/v1");
    for part in parts {
        path.push('/');
        path.push_str(&escape(part));
    }
    path
}

/// Text as a part of a path or a query.
pub(crate) fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~:".contains(&byte);
    let escaped = text.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    escaped.collect()
}

impl ApiArgs {
    /// Ask, and give the answer, or the faults that were answered.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Fault> {
        self.ask_with(method, path, "", body)
    }

    /// The same with more headers, each with its end.
    pub(crate) fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: Option<&Value>,
    ) -> Result<Value, Fault> {
        let answer = self.fetch(method, path, headers, body)?;
        let read = serde_json::from_slice(&answer.body);
        read.map_err(|_| strange(&answer.place, "something else than JSON over HTTP").into())
    }

    /// What is there, and the header of a change that is made only while it is so still.
    pub(crate) fn seen(&self, path: &str) -> Result<(Value, String), Fault> {
        let Answer { body, place, tag } = self.fetch("GET", path, "", None)?;
        let read = serde_json::from_slice(&body).ok().zip(tag);
        let (value, tag) = read.ok_or_else(|| strange(&place, "no JSON with an ETag over HTTP"))?;
        Ok((value, format!("If-Match: {tag}\r\n")))
    }

    /// The answer, or the faults that were answered.
    pub(crate) fn fetch(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Fault> {
        let Asked { place, token } = self.asked()?;
        let body = body.map_or_else(String::new, Value::to_string);
        let kind = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: {kind}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            token.trim(),
            body.len(),
        );
        let answer = place.exchange(request.as_bytes())?;
        let place = place.to_string();
        let (status, tag, body) =
            taken_apart(answer).ok_or_else(|| strange(&place, "something else than HTTP"))?;
        if status / 100 == 2 {
            return Ok(Answer { body, place, tag });
        }
        let problem = serde_json::from_slice(&body).ok();
        let told = problem.and_then(|problem| told(&problem));
        Err(told.unwrap_or_else(|| strange(&place, &format!("status {status}")).into()))
    }

    /// Everything in a collection, page after page.
    pub(crate) fn all(&self, path: &str) -> Result<Vec<Value>, Fault> {
        let (mut items, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.ask("GET", &format!("{path}?limit=1000{after}"), None)?;
            items.extend(page["items"].as_array().cloned().unwrap_or_default());
            let next = match &page["next"] {
                Value::String(text) => escape(text),
                Value::Number(number) => number.to_string(),
                _ => return Ok(items),
            };
            after = format!("&after={next}");
        }
    }

    fn asked(&self) -> Result<Asked, Fault> {
        let context = match &self.api {
            Some(_) => Context::default(),
            None => Context::chosen(self.context.as_deref())?.unwrap_or_default(),
        };
        let api = self.api.as_deref().or(context.api.as_deref());
        // Whoever says whom to trust sets both ways of the context aside.
        let (ca, pin) = match (&self.ca, &self.pin) {
            (None, None) => (context.ca.as_deref(), context.pin.as_deref()),
            (ca, pin) => (ca.as_deref(), pin.as_deref()),
        };
        let variable = || std::env::var("FOREBAY_TOKEN").ok();
        let (token, file) = match (self.token_file.clone(), context.token_file) {
            (Some(file), _) => (read_token(&file)?, Some(file)),
            (None, of_context) => match (variable(), of_context) {
                (Some(token), _) => (token, None),
                (None, Some(file)) => (read_token(&file)?, Some(file)),
                (None, None) => {
                    let seen = "neither --token-file, FOREBAY_TOKEN nor a context with one";
                    return Err(no_token(seen.to_owned()).into());
                }
            },
        };
        let beside = match (ca, pin, &file) {
            (None, None, Some(file)) => own::beside(file)?,
            _ => None,
        };
        let beside = beside.map(|own| own.to_string());
        let place = Place::read(api.unwrap_or(LISTEN), ca, pin.or(beside.as_deref()))?;
        Ok(Asked { place, token })
    }
}

fn read_token(file: &std::path::Path) -> Result<String, Diagnosis> {
    let read = std::fs::read_to_string(file);
    read.map_err(|error| no_token(format!("{}: {error}", file.display())))
}

fn no_token(seen: String) -> Diagnosis {
    let what = "there is no token for the API";
    let needed = "a file with a token, or the token in FOREBAY_TOKEN";
    Diagnosis::from_table(CODES, NO_TOKEN, what, seen, needed)
}

/// The status of an answer, its ETag and its body.
fn taken_apart(mut answer: Vec<u8>) -> Option<(u16, Option<String>, Vec<u8>)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let of = |wanted: &'static str| values(head, wanted);
    let tag = of("etag").next().map(str::to_owned);
    let bytes = answer.len() - end - 4;
    // An answer that was cut off is none.
    let whole = of("content-length")
        .filter_map(|length| length.parse::<usize>().ok())
        .all(|length| length == bytes);
    whole.then(|| (status, tag, answer.split_off(end + 4)))
}

/// What a head says behind this name.
fn values<'a>(head: &'a str, wanted: &'static str) -> impl Iterator<Item = &'a str> {
    head.lines().filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim())
    })
}

fn strange(place: &str, seen: &str) -> Diagnosis {
    let what = format!("what answers at {place} is not the API of this version");
    Diagnosis::from_table(CODES, API_STRANGE, what, seen, "an answer of the API")
}

/// The faults that a problem lists.
fn told(problem: &Value) -> Option<Fault> {
    let fault = |one: &Value| {
        let text = |key: &str| one[key].as_str().map(str::to_owned);
        Some(Diagnosis {
            code: one["code"].as_str()?.strip_prefix("FB-")?.parse().ok()?,
            what: text("detail")?,
            seen: text("seen")?,
            needed: text("needed")?,
            remedy: text("remedy")?,
        })
    };
    let found: Vec<Diagnosis> = problem["errors"]
        .as_array()?
        .iter()
        .filter_map(fault)
        .collect();
    (!found.is_empty()).then(|| found.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_parts_of_a_path() {
        assert_eq!(path(&["accounts", "a b/ü"]), "/v1/accounts/a%20b%2F%C3%BC");
    }

    #[test]
    fn an_answer_that_was_cut_off_is_none() {
        let answer = |text: &str| taken_apart(text.as_bytes().to_vec());
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(answer(whole), Some((200, None, b"{}".to_vec())));
        for text in [
            "",
            "HTTP/1.1 200 OK\r\n",
            &whole[..whole.len() - 1],
            "SSH-2.0\r\n\r\n",
        ] {
            assert_eq!(answer(text), None, "{text}");
        }
    }

    #[test]
    fn the_faults_of_a_problem_are_told_as_they_came() {
        let problem = serde_json::json!({ "errors": [{ "code": "FB-2141", "detail": "w", "seen": "s", "needed": "n", "remedy": "r" }] });
        let fault = told(&problem).expect("a fault");
        assert_eq!(fault.found, [Diagnosis::new(2141, "w", "s", "n", "r")]);
        assert!(told(&serde_json::json!({})).is_none());
    }
}
