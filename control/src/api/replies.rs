//! Answers kept for a while, so that a POST that is sent again with the same `Idempotency-Key` is carried out once.
//!
//! They are kept in memory: after a restart what was made is told by `already_there`. Bounded in number, bytes and age; answers may
//! hold the secret of a new key, which is why they are forgotten soon, and why only the very token that asked is answered again:
//! another one of the same name is somebody else.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::HeaderName;
use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use wire::diagnosis::Diagnosis;

use super::call::{Answer, Call};
use super::problem::Problem;
use super::routes::Handler;
use crate::diagnosis::{API_REPEATED, CODES};
use crate::model::Token;
use crate::seal::digest_text;

/// The header that names a request for good.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest name of a request.
const KEY_BYTES_MAX: usize = 200;
/// Answers kept.
const REPLIES_MAX: usize = 1_024;
/// Answers kept of one token.
const REPLIES_OF_ONE_MAX: usize = 32;
/// Bytes of all answers kept; the newest is kept whatever it has.
const REPLIES_BYTES_MAX: usize = 16 << 20;
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
    /// Of all answers.
    bytes: usize,
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
        self.kept().forget(call.service.now());
        let Some(key) = call.question.header(&KEY) else {
            return handler(call);
        };
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !visible {
            let seen = format!("{} characters", key.len());
            return Err(repeated("the name of the request is malformed", &seen));
        }
        let name = format!("{}\0{key}", Token::hash_of(call.question.bearer()?));
        let asked = asked(call);
        if let Some(answer) = self.begin(&name, &asked, call.service.now())? {
            return Ok(answer);
        }
        let begun = Begun {
            replies: self,
            name: &name,
        };
        let answer = handler(call).unwrap_or_else(|problem| problem.answer());
        begun.end(&answer);
        Ok(answer)
    }

    /// The answer that was given, if one was.
    fn begin(&self, name: &str, asked: &str, now: u64) -> Result<Option<Answer>, Problem> {
        let mut kept = self.kept();
        kept.forget(now);
        match kept.replies.get(name) {
            None => {
                if !kept.make_room_of(name) {
                    let seen = "as many requests as are remembered, all of them under way";
                    return Err(repeated(
                        "there is no room for the name of the request",
                        seen,
                    ));
                }
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

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What is kept is whole, whoever panicked beside it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being carried out. One that comes to no answer leaves nothing behind: it may be sent again.
struct Begun<'a> {
    replies: &'a Replies,
    name: &'a str,
}

impl Begun<'_> {
    /// Keep the answer, unless it says that we could not.
    fn end(self, answer: &Answer) {
        if answer.status < 500 {
            self.replies.kept().keep(self.name, answer);
        }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let mut kept = self.replies.kept();
        let under_way = |reply: &Reply| reply.answer.is_none();
        if kept.replies.get(self.name).is_some_and(under_way) {
            kept.replies.remove(self.name);
            kept.order.retain(|(_, name)| name != self.name);
        }
    }
}

impl Kept {
    /// Forget what is old, and the oldest of too many.
    fn forget(&mut self, now: u64) {
        while let Some(at) = self.oldest(|_| true) {
            let old = self.order[at].0.saturating_add(KEPT_SECONDS) <= now;
            if !old && self.order.len() < REPLIES_MAX {
                return;
            }
            self.forget_at(at);
        }
    }

    /// The oldest one of these that is answered. What is under way is not forgotten: sent again, it would be carried out twice.
    fn oldest(&self, of: impl Fn(&str) -> bool) -> Option<usize> {
        let answered = |name: &str| {
            let reply = self.replies.get(name);
            reply.is_some_and(|reply| reply.answer.is_some())
        };
        let mut order = self.order.iter();
        order.position(|(_, name)| of(name) && answered(name))
    }

    /// Of too many of one token, forget its oldest: it crowds out nobody else's. Whether there is room then.
    fn make_room_of(&mut self, name: &str) -> bool {
        let own = name.split('\0').next();
        let of_own = |other: &str| other.split('\0').next() == own;
        let names = self.order.iter().map(|(_, other)| other.as_str());
        if names.filter(|other| of_own(other)).count() < REPLIES_OF_ONE_MAX {
            return true;
        }
        let oldest = self.oldest(of_own);
        oldest.inspect(|at| self.forget_at(*at)).is_some()
    }

    fn forget_at(&mut self, at: usize) {
        if let Some((_, name)) = self.order.remove(at) {
            let gone = self.replies.remove(&name);
            let answer = gone.and_then(|reply| reply.answer);
            self.bytes -= answer.map_or(0, |answer| answer.body.len());
        }
    }

    /// Keep an answer, and forget the oldest ones that it leaves no room for.
    fn keep(&mut self, name: &str, answer: &Answer) {
        let Some(reply) = self.replies.get_mut(name) else {
            return;
        };
        reply.answer = Some(answer.clone());
        self.bytes += answer.body.len();
        while self.bytes > REPLIES_BYTES_MAX {
            let Some(at) = self.oldest(|other| other != name) else {
                return;
            };
            self.forget_at(at);
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
    for condition in [&IF_MATCH, &IF_NONE_MATCH] {
        let wanted = question.header(condition).unwrap_or_default();
        text.extend_from_slice(format!("{wanted}\0").as_bytes());
    }
    text.extend_from_slice(&question.body);
    digest_text(&text)
}

fn repeated(what: &str, seen: &str) -> Problem {
    let needed = "an Idempotency-Key of 1 to 200 characters for each request";
    Diagnosis::from_table(CODES, API_REPEATED, what, seen, needed).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn long(bytes: usize) -> Answer {
        Answer::json(200, json!("x".repeat(bytes)))
    }

    fn begun<'a>(replies: &'a Replies, name: &'a str) -> Begun<'a> {
        assert!(matches!(replies.begin(name, "asked", 0), Ok(None)));
        Begun { replies, name }
    }

    #[test]
    fn what_is_under_way_is_not_forgotten_for_what_comes_behind_it() {
        let replies = Replies::default();
        let first = begun(&replies, "one\0first");
        let others = (0..2 * REPLIES_MAX).map(|at| format!("{}\0{at}", at % 64));
        for name in others {
            begun(&replies, &name).end(&long(1));
        }
        let own: Vec<String> = (0..2 * REPLIES_OF_ONE_MAX)
            .map(|at| format!("one\0{at}"))
            .collect();
        for name in &own {
            begun(&replies, name).end(&long(1));
        }
        assert!(
            replies.begin("one\0first", "asked", 0).is_err(),
            "under way"
        );
        let more: Vec<String> = own.iter().map(|name| format!("{name}+")).collect();
        let waiting = more[1..REPLIES_OF_ONE_MAX].iter();
        let waiting: Vec<_> = waiting.map(|name| begun(&replies, name)).collect();
        assert!(
            replies.begin("one\0more", "asked", 0).is_err(),
            "all of them are"
        );
        drop((first, waiting));
        assert!(matches!(replies.begin("one\0more", "asked", 0), Ok(None)));
    }

    #[test]
    fn answers_are_bounded_in_bytes_and_the_newest_is_kept() {
        let replies = Replies::default();
        let names: Vec<String> = (0..40).map(|at| format!("{at}\0name")).collect();
        for name in &names {
            begun(&replies, name).end(&long(1 << 20));
            let kept = replies.kept();
            let sum = kept
                .replies
                .values()
                .filter_map(|reply| reply.answer.as_ref());
            assert_eq!(
                kept.bytes,
                sum.map(|answer| answer.body.len()).sum::<usize>()
            );
            assert!(kept.bytes <= REPLIES_BYTES_MAX, "{}", kept.bytes);
            assert_eq!(kept.replies.len(), kept.order.len());
        }
        begun(&replies, "longest").end(&long(REPLIES_BYTES_MAX));
        assert_eq!(replies.kept().replies.len(), 1);
        let again = replies.begin("longest", "asked", 0);
        assert!(again.is_ok_and(|answer| answer.is_some()));
    }

    #[test]
    fn one_token_crowds_out_its_own_answers_alone() {
        let replies = Replies::default();
        begun(&replies, "first\0key").end(&long(1));
        for at in 0..2 * REPLIES_MAX {
            begun(&replies, &format!("second\0{at}")).end(&long(1));
        }
        assert_eq!(replies.kept().order.len(), 1 + REPLIES_OF_ONE_MAX);
        let again = replies.begin("first\0key", "asked", 0);
        assert!(again.is_ok_and(|answer| answer.is_some()));
    }

    #[test]
    fn what_came_to_no_answer_may_be_sent_again() {
        let replies = Replies::default();
        drop(begun(&replies, "a panic"));
        begun(&replies, "our fault").end(&Answer::json(503, json!({})));
        for name in ["a panic", "our fault"] {
            assert!(
                matches!(replies.begin(name, "asked", 0), Ok(None)),
                "{name}"
            );
        }
        let kept = replies.kept();
        assert_eq!(
            (kept.order.len(), kept.replies.len(), kept.bytes),
            (2, 2, 0)
        );
    }
}
