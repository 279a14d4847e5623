//! The API of the control plane: HTTP and JSON, `/v1`.
//!
//! [`routes`] lists everything there is; the router, the OpenAPI document and the tests are made from it. Every route but
//! the document itself takes a bearer token. A handler is a plain function: it asks the [`Service`] and answers.

mod call;
mod grants;
mod keys;
mod openapi;
mod problem;
mod replies;
mod routes;
mod schema;
mod serve;
mod system;
mod things;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawPathParams, Request};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use http_body_util::{BodyExt, Limited};

use crate::model::Noun;
use crate::service::{Service, access};
use call::{Answer, Call, Question};
use problem::Problem;
use replies::Replies;
pub use routes::{Method, Route, routes};
pub use serve::{Serving, serve};

/// Longest body of a request, except of a document.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest document.
const DOCUMENT_BYTES_MAX: usize = 256 << 20;

/// What all handlers share.
struct Shared {
    service: Arc<Service>,
    replies: Replies,
}

/// The API of a service.
pub fn router(service: Arc<Service>) -> Router {
    let replies = Replies::default();
    let shared = Arc::new(Shared { service, replies });
    let mut router = Router::new();
    for route in routes() {
        let shared = Arc::clone(&shared);
        let handle = move |parameters: RawPathParams, request: Request| {
            let shared = Arc::clone(&shared);
            async move { respond(shared, route, &parameters, request).await }
        };
        let filter = match route.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
            Method::Put => MethodFilter::PUT,
            Method::Patch => MethodFilter::PATCH,
            Method::Delete => MethodFilter::DELETE,
        };
        router = router.route(route.path, on(filter, handle));
    }
    router
        .method_not_allowed_fallback(|| async { Problem::method().into_response() })
        .fallback(|| async { Problem::route().into_response() })
}

/// Read the whole request, then answer it on a thread that may wait for the disk.
async fn respond(
    shared: Arc<Shared>,
    route: &'static Route,
    parameters: &RawPathParams,
    request: Request,
) -> Response {
    let parameters = parameters
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let (parts, body) = request.into_parts();
    let longest = match route.document {
        true => DOCUMENT_BYTES_MAX,
        false => BODY_BYTES_MAX,
    };
    let body = match whole(body, longest).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let question = Question {
        parameters,
        query: parts.uri.query().unwrap_or("").to_owned(),
        headers: parts.headers,
        body,
    };
    let answered = tokio::task::spawn_blocking(move || {
        answer(&shared, route, &question).unwrap_or_else(|problem| problem.answer())
    });
    match answered.await {
        Ok(answer) => answer.into_response(),
        Err(_) => Problem::broken().into_response(),
    }
}

async fn whole(body: Body, longest: usize) -> Result<Bytes, Problem> {
    let collected = Limited::new(body, longest).collect().await;
    collected
        .map(|collected| collected.to_bytes())
        .map_err(|_| Problem::body(format!("a body that breaks off, or above {longest} bytes")))
}

/// Who asks, may it, and what becomes of it. Nothing but the document is told to strangers.
fn answer(shared: &Shared, route: &Route, question: &Question) -> Result<Answer, Problem> {
    let service = &shared.service;
    if route.open {
        return (route.handler)(&Call::stranger(service, route, question)?);
    }
    let caller = service.caller(question.bearer()?)?;
    access::may(&caller, route.role, route.summary)?;
    // Before anything of it is read: an account that is not the caller's is refused whatever is asked of it.
    if let Some(account) = question.parameters.get("account") {
        access::may_look(&caller, Noun::Account, account, route.role)?;
    }
    let call = Call::new(service, route, question, caller)?;
    if route.method != Method::Post {
        return (route.handler)(&call);
    }
    shared.replies.once(&call, route.handler)
}
