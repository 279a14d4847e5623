//! Answers kept for a while, so that a POST that is sent again with the same `Idempotency-Key` is carried out once.
//!
//! They are kept in memory: after a restart what was made is told by `already_there`. Bounded in number and age; answers may hold
//! the secret of a new key, which is why they are forgotten soon.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use axum::http::HeaderName;
use wire::diagnosis::Diagnosis;

use super::call::{Answer, Call};
use super::problem::Problem;
use super::routes::Handler;
use crate::diagnosis::{API_REPEATED, CODES};
use crate::seal::digest_text;

/// The header that names a request for good.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest name of a request.
const KEY_BYTES_MAX: usize = 200;
/// Answers kept.
const REPLIES_MAX: usize = 1_024;
/// How long each is kept, in seconds.
const KEPT_SECONDS: u64 = 600;

/// The answers kept.
#[derive(Default)]
pub(super) struct Replies(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    replies: HashMap<String, Reply>,
    /// In the order in which they came.
    order: VecDeque<(u64, String)>,
}

struct Reply {
    /// Digest of what was asked.
    asked: String,
    /// Nothing yet while it is carried out.
    answer: Option<Answer>,
}

impl Replies {
    /// Carry a question out, unless its name was seen already.
    pub(super) fn once(&self, call: &Call<'_>, handler: Handler) -> Result<Answer, Problem> {
        let Some(key) = call.question.header(&KEY) else {
            return handler(call);
        };
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let seen = format!("{} characters", key.len());
            return Err(repeated("the name of the request is malformed", &seen));
        }
        let name = format!("{}\0{key}", call.caller.name);
        let asked = asked(call);
        if let Some(answer) = self.begin(&name, &asked, call.service.now())? {
            return Ok(answer);
        }
        let answer = handler(call).unwrap_or_else(|problem| problem.answer());
        self.end(&name, &answer);
        Ok(answer)
    }

    /// The answer that was given, if one was.
    fn begin(&self, name: &str, asked: &str, now: u64) -> Result<Option<Answer>, Problem> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget(now);
        match kept.replies.get(name) {
            None => {
                let reply = Reply {
                    asked: asked.to_owned(),
                    answer: None,
                };
                kept.replies.insert(name.to_owned(), reply);
                kept.order.push_back((now, name.to_owned()));
                Ok(None)
            }
            Some(reply) if reply.asked != asked => {
                let seen = "another request of that name";
                Err(repeated("the name of the request is taken", seen))
            }
            Some(Reply { answer: None, .. }) => {
                let seen = "the same one, under way";
                Err(repeated("the request is being carried out", seen))
            }
            Some(Reply { answer, .. }) => Ok(answer.clone()),
        }
    }

    fn end(&self, name: &str, answer: &Answer) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answer.status >= 500 {
            kept.replies.remove(name);
        } else if let Some(reply) = kept.replies.get_mut(name) {
            reply.answer = Some(answer.clone());
        }
    }
}

impl Kept {
    /// Forget what is old, and the oldest of too many.
    fn forget(&mut self, now: u64) {
        while let Some((since, name)) = self.order.front() {
            let old = since.saturating_add(KEPT_SECONDS) <= now;
            if !old && self.order.len() < REPLIES_MAX {
                return;
            }
            self.replies.remove(name);
            self.order.pop_front();
        }
    }
}

/// Everything that makes two requests the same.
fn asked(call: &Call<'_>) -> String {
    let question = call.question;
    let mut text = format!("{}\0{}\0", call.route.path, question.query).into_bytes();
    for (name, value) in &question.parameters {
        text.extend_from_slice(format!("{name}={value}\0").as_bytes());
    }
    text.extend_from_slice(&question.body);
    digest_text(&text)
}

fn repeated(what: &str, seen: &str) -> Problem {
    let needed = "an Idempotency-Key of 1 to 200 characters for each request";
    Diagnosis::from_table(CODES, API_REPEATED, what, seen, needed).into()
}
