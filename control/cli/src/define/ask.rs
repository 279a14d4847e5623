//! Questions to the API of a control plane: HTTP/1, one request a connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use wire::diagnosis::Diagnosis;

use crate::control::section::LISTEN;
use crate::diagnosis::{API_SILENT, API_STRANGE, CODES, NO_TOKEN};
use crate::fault::Fault;

/// Longer than any question may wait for the nodes.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Longest answer: a document of a million endpoints fits.
const ANSWER_BYTES_MAX: u64 = 2 << 30;

/// Which control plane to ask, and as whom. Tokens come from files or the environment: arguments can be seen by others.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ApiArgs {
    /// Address of the API
    #[arg(long, value_name = "IP:PORT", env = "FOREBAY_API", default_value = LISTEN)]
    api: SocketAddr,
    /// File with the token; FOREBAY_TOKEN may hold the token itself
    #[arg(long, value_name = "FILE", env = "FOREBAY_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
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
        let token = self.token()?;
        let body = body.map_or_else(String::new, Value::to_string);
        let kind = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            self.api,
            token.trim(),
            body.len(),
        );
        let answer = self.exchange(request.as_bytes());
        let answer = answer.map_err(|error| self.silent(&error))?;
        self.read(&answer)
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

    fn token(&self) -> Result<String, Fault> {
        let no_token = |seen: String| {
            let needed = "a file with a token, or the token in FOREBAY_TOKEN";
            Diagnosis::from_table(
                CODES,
                NO_TOKEN,
                "there is no token for the API",
                seen,
                needed,
            )
        };
        if let Some(file) = &self.token_file {
            let read = std::fs::read_to_string(file);
            return read.map_err(|error| no_token(format!("{}: {error}", file.display())).into());
        }
        let variable = std::env::var("FOREBAY_TOKEN");
        variable.map_err(|_| no_token("neither --token-file nor FOREBAY_TOKEN".to_owned()).into())
    }

    fn exchange(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&self.api, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.write_all(request)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    }

    fn read(&self, answer: &[u8]) -> Result<Value, Fault> {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let head = end.and_then(|end| std::str::from_utf8(&answer[..end]).ok());
        let status = head
            .and_then(|head| head.strip_prefix("HTTP/1.1 "))
            .and_then(|head| head.get(..3));
        let body = end.and_then(|end| serde_json::from_slice(&answer[end + 4..]).ok());
        let (Some(status), Some(body)) = (status, body) else {
            return Err(self.strange("something else than JSON over HTTP").into());
        };
        match status.as_bytes()[0] {
            b'2' => Ok(body),
            _ => Err(told(&body).unwrap_or_else(|| self.strange(status).into())),
        }
    }

    fn silent(&self, error: &std::io::Error) -> Fault {
        let what = format!("no control plane answers at {}", self.api);
        let needed = "the API of a running `forebay run` with [control]";
        Diagnosis::from_table(CODES, API_SILENT, what, error.to_string(), needed).into()
    }

    fn strange(&self, seen: &str) -> Diagnosis {
        let what = format!(
            "what answers at {} is not the API of this version",
            self.api
        );
        Diagnosis::from_table(CODES, API_STRANGE, what, seen, "an answer of the API")
    }
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
    fn the_faults_of_a_problem_are_told_as_they_came() {
        let problem = serde_json::json!({ "errors": [{ "code": "FB-2141", "detail": "w", "seen": "s", "needed": "n", "remedy": "r" }] });
        let fault = told(&problem).expect("a fault");
        assert_eq!(fault.found, [Diagnosis::new(2141, "w", "s", "n", "r")]);
        assert!(told(&serde_json::json!({})).is_none());
    }
}
