//! What is refused for want of a right leaves a trace: a count by reason, and a line, unless there are too many of them.
//!
//! A line has nothing in it that a caller chose and that is not bounded: the name of a token that is known, an address, the route as the document has it,
//! and a code. Of the token itself, of the path and of the body it has nothing.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, HeaderValue};

use super::Shared;
use super::call::{Answer, bearer_of};
use super::routes::Route;
use crate::diagnosis::{ROLE, SCOPE};
use crate::service::refused::{Reason, Told, WITHIN};

/// Takes log lines: what happened, with names and values.
pub type Tell = Arc<dyn Fn(&'static str, &[(&str, &dyn Display)]) + Send + Sync>;

/// Where a request comes from.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// What was asked, and by whom.
pub(super) struct Asked {
    route: &'static Route,
    peer: Option<Peer>,
    authorization: Option<HeaderValue>,
}

impl Asked {
    /// What is needed of a request when it is refused.
    pub(super) fn of(route: &'static Route, request: &Request) -> Self {
        Self {
            route,
            peer: request.extensions().get::<Peer>().copied(),
            authorization: request.headers().get(AUTHORIZATION).cloned(),
        }
    }

    /// Leave a trace if the answer says no.
    pub(super) fn answered(&self, shared: &Arc<Shared>, answer: &Answer) {
        let Some(reason) = self.reason(answer) else {
            return;
        };
        match shared.service.refused().note(reason, Instant::now()) {
            Told::Now => self.tell(shared, reason, answer.code.unwrap_or(0)),
            Told::FirstLater => {
                tokio::spawn(tell_untold(Arc::clone(shared), reason));
            }
            Told::Later => {}
        }
    }

    fn reason(&self, answer: &Answer) -> Option<Reason> {
        match (answer.status, answer.code) {
            (401, _) if self.token().is_none() => Some(Reason::NoToken),
            (401, _) => Some(Reason::Token),
            (403, Some(ROLE)) => Some(Reason::Role),
            (403, Some(SCOPE)) => Some(Reason::Scope),
            _ => None,
        }
    }

    fn token(&self) -> Option<&str> {
        bearer_of(self.authorization.as_ref())
    }

    fn tell(&self, shared: &Shared, reason: Reason, code: u16) {
        let Some(tell) = &shared.tell else { return };
        let who = self
            .token()
            .and_then(|text| shared.service.token_name(text));
        let peer = self.peer.map(|peer| peer.0.to_canonical().to_string());
        tell(
            "api_refused",
            &[
                ("reason", &reason.name()),
                ("code", &format!("FB-{code}")),
                ("who", &who.as_deref().unwrap_or("-")),
                ("address", &peer.as_deref().unwrap_or("-")),
                ("method", &self.route.method.name()),
                ("route", &self.route.path),
            ],
        );
    }
}

/// Tell how many were not told one by one.
async fn tell_untold(shared: Arc<Shared>, reason: Reason) {
    tokio::time::sleep(WITHIN).await;
    let count = shared.service.refused().take_untold(reason);
    if let Some(tell) = &shared.tell {
        let fields: [(&str, &dyn Display); 2] = [("reason", &reason.name()), ("count", &count)];
        tell("api_refused_more", &fields);
    }
}
