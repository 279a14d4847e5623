//! The whole of it: what is in force, the audit log, documents, and this API's own description.

use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Answer, Call};
use super::openapi;
use super::problem::Problem;
use super::scalar::EXACT_MAX;
use crate::diagnosis::{API_QUERY, CODES};
use crate::model::{Model, Noun, Role, written};
use crate::service::refused::Reason;
use crate::service::{Apply, Secrets, access};
use wire::diagnosis::Diagnosis;

/// What a backup is sent as.
pub(super) const BACKUP_KIND: &str = "application/octet-stream";
/// Lines of the audit log on a page that does not say.
const LINES: u64 = 100;
/// Most lines on a page.
const LINES_MAX: u64 = 1_000;

/// `GET /v1/openapi.json`.
pub(super) fn document(_: &Call<'_>) -> Result<Answer, Problem> {
    static DOCUMENT: OnceLock<Vec<u8>> = OnceLock::new();
    let mut answer = Answer::json(200, Value::Null);
    let made = || openapi::document().to_string().into_bytes();
    answer.body = DOCUMENT.get_or_init(made).clone();
    Ok(answer)
}

/// `GET /v1/status`.
pub(super) fn status(call: &Call<'_>) -> Result<Answer, Problem> {
    let catalog = call.service.catalog();
    let count = |noun: Noun| {
        let things = catalog.things.keys();
        let own = things.filter(|(other, name)| *other == noun && call.caller.reaches(noun, name));
        own.count()
    };
    // It is of all accounts: from how it changes one could tell what others have.
    let digest = match call.caller.account {
        None => Some(call.service.digest().to_string()),
        Some(_) => None,
    };
    // So are these.
    let refused = call.caller.account.is_none().then(|| {
        let counts = Reason::ALL.map(|reason| {
            let count = call.service.refused().count(reason);
            (reason.name().to_owned(), Value::from(count))
        });
        Value::Object(counts.into_iter().collect())
    });
    Ok(Answer::json(
        200,
        json!({
            "version": catalog.version,
            "digest": digest,
            "refused": refused,
            "accounts": count(Noun::Account),
            "environments": count(Noun::Environment),
            "hubs": count(Noun::Hub),
            "channels": count(Noun::Channel),
            "endpoints": count(Noun::Endpoint),
            "nodes": catalog.nodes().count(),
            "caller": { "name": call.caller.name, "role": call.caller.role, "account": call.caller.account },
        }),
    ))
}

/// `GET /v1/audit`: lines about what the caller reaches, oldest first.
pub(super) fn audit(call: &Call<'_>) -> Result<Answer, Problem> {
    let after = call.number("after", 0, EXACT_MAX)?;
    let limit = call.number("limit", LINES, LINES_MAX)?.max(1) as usize;
    let lines = call
        .service
        .with_store(|store| store.audit_lines(after, limit))?;
    let next = lines.last().filter(|_| lines.len() == limit);
    let next = next.map(|line| line.number);
    // Tokens are told to owners, and those of one account hear of none here.
    let whole = call.caller.account.is_none();
    let tokens = whole && call.caller.role >= Role::Owner;
    let told = lines.iter().filter(|line| match line.noun {
        Noun::Token => tokens,
        noun => whole || call.caller.reaches(noun, &line.name),
    });
    let items: Vec<Value> = told
        .map(|line| serde_json::to_value(line).expect("texts and numbers"))
        .collect();
    Ok(Answer::json(200, json!({ "items": items, "next": next })))
}

/// `GET /v1/audit/verify`.
pub(super) fn verify(call: &Call<'_>) -> Result<Answer, Problem> {
    whole(call)?;
    let verdict = call.service.with_store(crate::store::Store::verify_audit)?;
    Ok(Answer::json(
        200,
        json!({
            "lines": verdict.lines,
            "version": verdict.version,
            "head": verdict.head,
            "faults": verdict.faults,
        }),
    ))
}

/// `GET /v1/backup`: a copy of the store, which has the line about itself. Its secrets are sealed.
pub(super) fn backup(call: &Call<'_>) -> Result<Answer, Problem> {
    whole(call)?;
    call.service.note(&call.caller, "backup")?;
    let body = call.service.with_store(crate::store::Store::copy)?;
    Ok(Answer {
        status: 200,
        kind: BACKUP_KIND,
        body,
        headers: Vec::new(),
        code: None,
    })
}

/// `GET /v1/export`.
pub(super) fn export(call: &Call<'_>) -> Result<Answer, Problem> {
    let secrets = match call.query("secrets") {
        None | Some("none") => Secrets::None,
        Some("sealed") => Secrets::Sealed,
        Some("plain") => Secrets::Plain,
        Some(seen) => {
            let (what, needed) = ("`secrets` of the query is refused", "none, sealed or plain");
            return Err(Diagnosis::from_table(CODES, API_QUERY, what, seen, needed).into());
        }
    };
    let model = call.service.export(&call.caller, secrets)?;
    let mut answer = Answer::json(200, Value::Null);
    answer.body = serde_json::to_vec(&model).expect("texts and numbers");
    Ok(answer)
}

/// What `POST /v1/apply` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    #[serde(deserialize_with = "written::table")]
    document: Model,
    #[serde(default)]
    prune: bool,
    /// Change nothing that is there already.
    #[serde(default)]
    create: bool,
    /// Say what would change, and change nothing.
    #[serde(default)]
    dry_run: bool,
    /// Change nothing unless everything is at this version, which a dry run tells.
    if_version: Option<u64>,
}

/// `POST /v1/apply`.
pub(super) fn apply(call: &Call<'_>) -> Result<Answer, Problem> {
    let order: Order = call.read()?;
    let apply = Apply {
        model: order.document,
        prune: order.prune,
        create: order.create,
    };
    if order.dry_run {
        let (version, differences) = call.service.compare(&call.caller, &apply)?;
        let body = json!({ "version": version, "differences": differences });
        return Ok(Answer::json(200, body));
    }
    access::may(&call.caller, Role::Admin, "apply")?;
    let outcome = call
        .service
        .apply_at(&call.caller, &apply, order.if_version)?;
    let mut answer = call.changed(&outcome, 200)?;
    let mut body: Value = serde_json::from_slice(&answer.body).expect("it was just written");
    let changed = outcome.changed.iter();
    body["changed"] = changed
        .map(|(noun, name)| json!({ "noun": noun, "name": name }))
        .collect();
    answer.body = body.to_string().into_bytes();
    Ok(answer)
}

/// Refuse those of one account what is about all of them.
fn whole(call: &Call<'_>) -> Result<(), Problem> {
    match &call.caller.account {
        None => Ok(()),
        Some(_) => Ok(access::may_look(
            &call.caller,
            Noun::Settings,
            "",
            Role::Viewer,
        )?),
    }
}
