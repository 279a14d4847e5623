//! Keys of an endpoint. A secret is in the answer that makes it, and never again.

use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Answer, Call};
use super::problem::Problem;
use crate::diagnosis::{CODES, NOT_THERE};
use crate::model::{Direction, Endpoint, Key, Moment, Noun, Thing, is_part};
use crate::quantity::Age;
use crate::service::{KeyOrder, NewKey, Rotation};
use wire::diagnosis::Diagnosis;

/// What `POST .../keys` takes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    name: Option<String>,
    direction: Direction,
    public: Option<String>,
    expires: Option<Moment>,
}

/// What `POST .../rotate` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    direction: Direction,
    overlap: Age,
    name: Option<String>,
}

/// What `POST .../expire` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    /// `null` for never; left out it would be a mistake.
    #[serde(deserialize_with = "Option::deserialize")]
    expires: Option<Moment>,
}

/// `GET .../keys`.
pub(super) fn list(call: &Call<'_>) -> Result<Answer, Problem> {
    let (endpoint, version) = endpoint(call)?;
    let now = call.service.now();
    let keys = endpoint.keys.iter().map(|key| shown(&endpoint, key, now));
    let items: Vec<Value> = keys.collect();
    let body = json!({ "items": items, "next": null });
    Ok(Answer::json(200, body).tagged(version))
}

/// `GET .../keys/{key}`.
pub(super) fn show(call: &Call<'_>) -> Result<Answer, Problem> {
    let (endpoint, version) = endpoint(call)?;
    let key = endpoint
        .key(call.part("key"))
        .ok_or_else(|| missing(call))?;
    let body = shown(&endpoint, key, call.service.now());
    Ok(Answer::json(200, body).tagged(version))
}

/// `POST .../keys`.
pub(super) fn create(call: &Call<'_>) -> Result<Answer, Problem> {
    let order: Order = call.read()?;
    well_named(order.name.as_deref())?;
    let order = KeyOrder {
        name: order.name,
        direction: order.direction,
        public: order.public,
        expires: order.expires,
    };
    let expected = call.expected()?;
    let new = call
        .service
        .add_key(&call.caller, &call.name(), &order, expected)?;
    made(call, &new)
}

/// `POST .../rotate`.
pub(super) fn rotate(call: &Call<'_>) -> Result<Answer, Problem> {
    let turn: Turn = call.read()?;
    well_named(turn.name.as_deref())?;
    let rotation = Rotation {
        direction: turn.direction,
        overlap_seconds: turn.overlap.0.as_secs(),
        name: turn.name,
    };
    let expected = call.expected()?;
    let new = call
        .service
        .rotate(&call.caller, &call.name(), &rotation, expected)?;
    made(call, &new)
}

/// `POST .../keys/{key}/revoke`.
pub(super) fn revoke(call: &Call<'_>) -> Result<Answer, Problem> {
    set_revoked(call, true)
}

/// `POST .../keys/{key}/restore`.
pub(super) fn restore(call: &Call<'_>) -> Result<Answer, Problem> {
    set_revoked(call, false)
}

fn set_revoked(call: &Call<'_>, revoked: bool) -> Result<Answer, Problem> {
    let (name, key, expected) = (call.name(), call.part("key"), call.expected()?);
    let outcome = call
        .service
        .set_revoked(&call.caller, &name, key, revoked, expected)?;
    call.changed(&outcome, 200)
}

/// `POST .../keys/{key}/expire`.
pub(super) fn expire(call: &Call<'_>) -> Result<Answer, Problem> {
    let End { expires } = call.read()?;
    let (name, key, expected) = (call.name(), call.part("key"), call.expected()?);
    let outcome = call
        .service
        .set_expiry(&call.caller, &name, key, expires, expected)?;
    call.changed(&outcome, 200)
}

/// `DELETE .../keys/{key}`.
pub(super) fn delete(call: &Call<'_>) -> Result<Answer, Problem> {
    let (name, key, expected) = (call.name(), call.part("key"), call.expected()?);
    let outcome = call
        .service
        .delete_key(&call.caller, &name, key, expected)?;
    call.changed(&outcome, 200)
}

/// Refuse a name that no key can have. Without one it is named after its direction.
fn well_named(name: Option<&str>) -> Result<(), Problem> {
    match name {
        Some(name) if !is_part(name) => Err(Problem::name("key", name)),
        _ => Ok(()),
    }
}

/// The answer to a new key: with its secret.
fn made(call: &Call<'_>, new: &NewKey) -> Result<Answer, Problem> {
    let mut answer = call.changed(&new.outcome, 201)?;
    let mut body: Value = serde_json::from_slice(&answer.body).expect("it was just written");
    body["key"] = json!({
        "id": new.key.id,
        "name": new.key.name,
        "direction": new.key.direction,
    });
    if let Some(secret) = &new.secret {
        body["secret"] = secret.reveal().into();
    }
    answer.body = body.to_string().into_bytes();
    Ok(answer)
}

/// The endpoint that the path names, and the version that changed it last.
pub(super) fn endpoint(call: &Call<'_>) -> Result<(Endpoint, u64), Problem> {
    let stored = call
        .service
        .show(&call.caller, Noun::Endpoint, &call.name())?;
    match &*stored.thing {
        Thing::Endpoint(endpoint) => Ok(((**endpoint).clone(), stored.version)),
        other => unreachable!("{} under the name of an endpoint", other.noun()),
    }
}

fn shown(endpoint: &Endpoint, key: &Key, now: u64) -> Value {
    let mut one = endpoint.clone();
    one.keys = vec![key.clone()];
    let mut value = Thing::Endpoint(Box::new(one)).shown();
    let mut key_value = value["keys"][0].take();
    key_value["state"] = serde_json::to_value(key.state(now)).expect("a word");
    key_value
}

/// There is no such key.
fn missing(call: &Call<'_>) -> Problem {
    let (what, needed) = ("there is no such key", "a key of the endpoint");
    let seen = format!("`{}`", call.part("key"));
    Diagnosis::from_table(CODES, NOT_THERE, what, seen, needed).into()
}
