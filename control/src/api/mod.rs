//! The API of the control plane: HTTP and JSON, `/v1`.
//!
//! [`routes`] lists everything there is; the router, the OpenAPI document and the tests are made from it. Every route but
//! the document itself takes a bearer token. A handler is a plain function: it asks the [`Service`] and answers.

mod call;
mod doors;
mod grants;
mod keys;
mod linger;
mod nodes;
mod openapi;
mod problem;
mod refusals;
mod replies;
mod routes;
mod scalar;
mod schema;
mod serve;
mod system;
mod things;
mod tokens;
mod tunnelled;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawPathParams, Request};
use axum::http::header::{CONNECTION, EXPECT};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::{Noun, Role};
use crate::service::{Caller, Service, access};
use call::{Answer, Call, Question};
use problem::Problem;
use refusals::Asked;
pub use refusals::Tell;
use replies::Replies;
pub use routes::{Method, Route, routes};
pub use serve::{Listen, Serving, serve};
pub use tunnelled::{Secure, Tunnel};

/// Longest body of a request, except of a document.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest document.
const DOCUMENT_BYTES_MAX: usize = 256 << 20;
/// Longest document of those of one account.
const DOCUMENT_OF_ONE_BYTES_MAX: usize = 16 << 20;
/// KiB of long bodies that come or are held at once, all requests together; others wait until there is room.
const LONG_KIB_MAX: u32 = 512 << 10;
/// Bytes of a body that nobody wants, up to which it is passed over for the sake of the connection.
const UNWANTED_BYTES_MAX: usize = 64 << 10;
/// How long that may take.
const UNWANTED_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Documents that are read or answered at once; others wait their turn.
const DOCUMENTS_MAX: usize = 2;

/// What all handlers share.
struct Shared {
    service: Arc<Service>,
    tell: Option<Tell>,
    replies: Replies,
    documents: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

/// The API of a service; what is refused for want of a right is told to `tell`.
pub fn router(service: Arc<Service>, tell: Option<Tell>) -> Router {
    let replies = Replies::default();
    let documents = Arc::new(Semaphore::new(DOCUMENTS_MAX));
    let long = Arc::new(Semaphore::new(LONG_KIB_MAX as usize));
    let shared = Arc::new(Shared {
        service,
        tell,
        replies,
        documents,
        long,
    });
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

/// Answer a request, and leave a trace of what is refused for want of a right.
async fn respond(
    shared: Arc<Shared>,
    route: &'static Route,
    parameters: &RawPathParams,
    request: Request,
) -> Response {
    let asked = Asked::of(route, &request);
    let (parts, mut body) = request.into_parts();
    // Who asks first whether to go on is not told so by a look at what comes.
    let waits = parts.headers.contains_key(EXPECT);
    let parameters = parameters
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let question = Question {
        parameters,
        query: parts.uri.query().unwrap_or("").to_owned(),
        headers: parts.headers,
        body: Bytes::new(),
    };
    let answered = attend(Arc::clone(&shared), route, question, &mut body).await;
    let mut answer = answered.unwrap_or_else(|problem| problem.answer());
    asked.answered(&shared, &answer);
    if !body.is_end_stream() && (waits || !is_over(body).await) {
        answer.headers.push((CONNECTION, "close".to_owned()));
    }
    answer.into_response()
}

/// Look who asks, read the whole request, then answer it on a thread that may wait for the disk. Strangers are not listened to: not a
/// byte of a body is kept of those who may not ask.
async fn attend(
    shared: Arc<Shared>,
    route: &'static Route,
    mut question: Question,
    body: &mut Body,
) -> Result<Answer, Problem> {
    let caller = caller(&shared, route, &question)?;
    // What strangers send where they may ask is not looked at.
    let room = match &caller {
        None => None,
        Some(caller) => {
            let longest = longest(route, caller);
            let room = Room::of(&shared, body.size_hint().upper(), longest).await?;
            question.body = whole(body, longest).await?;
            *body = Body::empty();
            Some(room)
        }
    };
    // The turn comes behind the body: a slow one keeps nobody waiting.
    let turn = match route.document {
        true => Arc::clone(&shared.documents).acquire_owned().await.ok(),
        false => None,
    };
    // Both last as long as the work, also when whoever asked hangs up.
    let answering = Arc::clone(&shared);
    let answered = tokio::task::spawn_blocking(move || {
        let answer =
            answer(&answering, route, &question).unwrap_or_else(|problem| problem.answer());
        drop((question, turn, room));
        answer
    });
    answered.await.map_err(|_| Problem::broken())
}

/// Whether a body is at its end, or a short rest of it could be passed over, so that another request can follow on the connection.
async fn is_over(body: Body) -> bool {
    let said = body.size_hint().upper();
    if said.is_none_or(|bytes| bytes > UNWANTED_BYTES_MAX as u64) {
        return false;
    }
    let rest = Limited::new(body, UNWANTED_BYTES_MAX).collect();
    matches!(
        tokio::time::timeout(UNWANTED_TIMEOUT, rest).await,
        Ok(Ok(_))
    )
}

/// Who asks, if it may ask this at all; nobody for what is told to strangers.
fn caller(shared: &Shared, route: &Route, question: &Question) -> Result<Option<Caller>, Problem> {
    if route.open {
        return Ok(None);
    }
    let caller = shared.service.caller(question.bearer()?)?;
    access::may(&caller, route.role, route.summary)?;
    // Before anything of it is read: an account that is not the caller's is refused whatever is asked of it.
    if let Some(account) = question.parameters.get("account") {
        access::may_look(&caller, Noun::Account, account, route.role)?;
    }
    Ok(Some(caller))
}

/// The longest body of this caller. Whoever may only look has no long documents to compare.
fn longest(route: &Route, caller: &Caller) -> usize {
    if !route.document || caller.role < Role::Admin {
        return BODY_BYTES_MAX;
    }
    match caller.account {
        None => DOCUMENT_BYTES_MAX,
        Some(_) => DOCUMENT_OF_ONE_BYTES_MAX,
    }
}

/// Room for a long body.
struct Room {
    _room: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Room for what is said to come, or for the longest where nothing is said.
    async fn of(shared: &Shared, said: Option<u64>, longest: usize) -> Result<Self, Problem> {
        let bytes = said.unwrap_or(longest as u64);
        if bytes > longest as u64 {
            return Err(Problem::too_long(bytes, longest));
        }
        if bytes <= BODY_BYTES_MAX as u64 {
            return Ok(Self { _room: None });
        }
        let long = Arc::clone(&shared.long).acquire_many_owned((bytes >> 10) as u32);
        match tokio::time::timeout(BODY_TIMEOUT, long).await {
            Ok(room) => Ok(Self { _room: room.ok() }),
            Err(_) => {
                let seen = "no room for another long body";
                Err(Problem::body(seen.to_owned()))
            }
        }
    }
}

async fn whole(body: &mut Body, longest: usize) -> Result<Bytes, Problem> {
    let collected = Limited::new(body, longest).collect();
    match tokio::time::timeout(BODY_TIMEOUT, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::too_long("more", longest)),
        Ok(Err(_)) => Err(Problem::body("one that breaks off".to_owned())),
        Err(_) => {
            let seconds = BODY_TIMEOUT.as_secs();
            Err(Problem::body(format!("one that takes {seconds} s")))
        }
    }
}

/// What becomes of a question. Who asks is looked at again: a token may have been deleted while the body came.
fn answer(shared: &Shared, route: &Route, question: &Question) -> Result<Answer, Problem> {
    let service = &shared.service;
    let Some(caller) = caller(shared, route, question)? else {
        return (route.handler)(&Call::stranger(service, route, question)?);
    };
    let call = Call::new(service, route, question, caller)?;
    if route.method != Method::Post {
        return (route.handler)(&call);
    }
    shared.replies.once(&call, route.handler)
}
