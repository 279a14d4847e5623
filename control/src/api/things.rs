//! Accounts, environments, hubs, channels, endpoints and nodes: listed, shown, created, replaced, changed and deleted alike.

use axum::http::header::IF_MATCH;
use serde_json::{Value, json};
use wire::diagnosis::Diagnosis;

use super::call::{Answer, Call, shown, unreadable};
use super::problem::Problem;
use crate::diagnosis::{API_BODY, CHANGED_MEANWHILE, CODES, NAME, VALUE};
use crate::model::{Endpoint, Noun, Thing};
use crate::service::{access, deleting, not_there, refused, setting, there};
use crate::store::{Catalog, Change, Stored};

/// Things on a page that does not say.
pub(super) const PAGE: u64 = 100;
/// Most things on a page.
pub(super) const PAGE_MAX: u64 = 1_000;

/// `GET` of a collection: those within what the path names, by name.
pub(super) fn list(call: &Call<'_>) -> Result<Answer, Problem> {
    let noun = call.route.noun;
    let within = call.name();
    if !within.is_empty() {
        let owner = match within.contains('/') {
            true => Noun::Environment,
            false => Noun::Account,
        };
        call.service.show(&call.caller, owner, &within)?;
    }
    let prefix = match within.as_str() {
        "" => String::new(),
        within => format!("{within}/"),
    };
    let catalog = call.service.catalog();
    let limit = call.number("limit", PAGE, PAGE_MAX)?.max(1) as usize;
    let after = call.query("after").unwrap_or("");
    let from = prefix.as_str().max(after);
    let mut found: Vec<(&String, &Stored)> = catalog
        .things
        .from(noun, from)
        .take_while(|((other, name), _)| *other == noun && name.starts_with(&prefix))
        .filter(|((_, name), stored)| {
            name.as_str() > after && access::may_see(&call.caller, &stored.thing).is_ok()
        })
        .map(|((_, name), stored)| (name, stored))
        .take(limit + 1)
        .collect();
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(name, _)| name.as_str());
    let items = found
        .iter()
        .map(|(_, stored)| shown(&stored.thing, stored.version));
    let items: Vec<Value> = items.collect();
    Ok(Answer::json(200, json!({ "items": items, "next": next })))
}

/// `GET` of one.
pub(super) fn show(call: &Call<'_>) -> Result<Answer, Problem> {
    let stored = call
        .service
        .show(&call.caller, call.route.noun, &call.name())?;
    let body = shown(&stored.thing, stored.version);
    Ok(Answer::json(200, body).tagged(stored.version))
}

/// `POST` to a collection: make what is not there.
pub(super) fn create(call: &Call<'_>) -> Result<Answer, Problem> {
    let noun = call.route.noun;
    let mut body = given(object(call.json()?)?);
    let within = call.name();
    let name = match body.get("name").and_then(Value::as_str) {
        Some(name) if within.is_empty() || name.contains('/') => name.to_owned(),
        Some(name) => format!("{within}/{name}"),
        None => {
            let (what, needed) = ("the body has no name", "`name`");
            return Err(Diagnosis::from_table(CODES, API_BODY, what, "none", needed).into());
        }
    };
    let own = name.rsplit_once('/').map_or("", |(within, _)| within);
    if own != within {
        return Err(named_elsewhere(&name, &format!("{within}/NAME")));
    }
    body["name"] = name.as_str().into();
    let outcome = call.service.edit(&call.caller, "create", |catalog, _| {
        access::may_look(&call.caller, noun, &name, call.route.role).map_err(refused)?;
        not_there(catalog, noun, &name).map_err(refused)?;
        let thing = thing_of(noun, body, None)?;
        Ok(vec![setting(thing, Some(0))])
    })?;
    let part = name.rsplit('/').next().unwrap_or(&name);
    let place = format!("{}/{part}", place_of(call));
    Ok(call.changed(&outcome, 201)?.at(place))
}

/// `PUT`: from now on it is what the body says.
pub(super) fn replace(call: &Call<'_>) -> Result<Answer, Problem> {
    let (noun, name) = (call.route.noun, call.name());
    let body = given(named(noun, object(call.json()?)?, &name)?);
    let expected = call.expected()?;
    let mut status = 200;
    let outcome = call.service.edit(&call.caller, "replace", |catalog, _| {
        access::may_look(&call.caller, noun, &name, call.route.role).map_err(refused)?;
        let old = catalog.get(noun, &name).map(|stored| &*stored.thing);
        status = if old.is_some() { 200 } else { 201 };
        if old.is_none() && call.question.header(&IF_MATCH) == Some("*") {
            let (what, needed) = ("there is nothing to replace", "anything");
            let seen = format!("no {noun} `{name}`");
            let fault = Diagnosis::from_table(CODES, CHANGED_MEANWHILE, what, seen, needed);
            return Err(refused(fault));
        }
        let thing = thing_of(noun, body, old)?;
        Ok(changes(catalog, thing, expected))
    })?;
    call.changed(&outcome, status)
}

/// `PATCH`: a JSON merge patch (RFC 7396); `null` takes a value away.
pub(super) fn merge(call: &Call<'_>) -> Result<Answer, Problem> {
    let (noun, name) = (call.route.noun, call.name());
    let patch = named(noun, object(call.json()?)?, &name)?;
    let expected = call.expected()?;
    let outcome = call.service.edit(&call.caller, "set", |catalog, _| {
        access::may_look(&call.caller, noun, &name, call.route.role).map_err(refused)?;
        let old = there(catalog, noun, &name).map_err(refused)?;
        let mut body = serde_json::to_value(&*old.thing).expect("it was stored");
        if let Some(body) = body.as_object_mut() {
            body.remove("keys");
        }
        merge_into(&mut body, patch);
        let thing = thing_of(noun, body, Some(&old.thing))?;
        Ok(changes(catalog, thing, expected))
    })?;
    call.changed(&outcome, 200)
}

/// `DELETE`: with `cascade`, also everything within it.
pub(super) fn delete(call: &Call<'_>) -> Result<Answer, Problem> {
    let (noun, name) = (call.route.noun, call.name());
    let (expected, cascade) = (call.expected()?, call.flag("cascade")?);
    let outcome = call.service.edit(&call.caller, "delete", |catalog, _| {
        access::may_look(&call.caller, noun, &name, call.route.role).map_err(refused)?;
        there(catalog, noun, &name).map_err(refused)?;
        let mut gone = Vec::new();
        let prefix = format!("{name}/");
        let within = catalog
            .things
            .iter()
            .rev()
            .filter(|((other, inner), stored)| {
                // Whoever gets an account of that name later is somebody else: its tokens go with it in any case.
                let token = matches!(&*stored.thing, Thing::Token(token)
                    if noun == Noun::Account && token.account.as_ref() == Some(&name));
                token || (cascade && *other > noun && inner.starts_with(&prefix))
            });
        gone.extend(within.map(|((noun, name), _)| deleting(*noun, name, None)));
        gone.push(deleting(noun, &name, expected));
        Ok(gone)
    });
    let outcome = outcome.map_err(|refusal| Problem::from(refusal).conflicting())?;
    call.changed(&outcome, 200)
}

/// The change to a thing, or none when it is as it was and nobody asked which version that was.
pub(super) fn changes(catalog: &Catalog, thing: Thing, expected: Option<u64>) -> Vec<Change> {
    match catalog.get(thing.noun(), thing.name()) {
        Some(old) if *old.thing == thing && expected.is_none() => Vec::new(),
        _ => vec![setting(thing, expected)],
    }
}

fn thing_of(
    noun: Noun,
    body: Value,
    old: Option<&Thing>,
) -> Result<Thing, crate::service::Refusal> {
    if noun == Noun::Endpoint && body.get("keys").is_some() {
        return Err(refused(Diagnosis::new(
            VALUE,
            "keys are not changed with their endpoint",
            "`keys`",
            "an endpoint without them",
            "use .../keys of the endpoint, or apply a document",
        )));
    }
    let json = body.to_string();
    let mut thing =
        Thing::from_json(noun, json.as_bytes()).map_err(|error| refused(unreadable(&error)))?;
    if let (Thing::Endpoint(new), Some(Thing::Endpoint(old))) = (&mut thing, old) {
        let Endpoint { keys, .. } = &**old;
        new.keys.clone_from(keys);
    }
    thing.follow(old);
    Ok(thing)
}

fn object(body: Value) -> Result<Value, Problem> {
    match body {
        Value::Object(_) => Ok(body),
        _ => Err(Problem::body(
            "another JSON value than an object".to_owned(),
        )),
    }
}

/// The body with the name that the path gives, which must be its own if it has one.
fn named(noun: Noun, mut body: Value, name: &str) -> Result<Value, Problem> {
    match body.get("name") {
        Some(Value::String(own)) if own != name => return Err(named_elsewhere(own, name)),
        Some(Value::String(_)) | None => {}
        Some(other) => return Err(named_elsewhere(&other.to_string(), name)),
    }
    if let Some(body) = body.as_object_mut() {
        // What a thing was shown with may be sent back.
        body.remove("version");
        if noun == Noun::Node {
            body.remove("defined");
            body.remove("status");
        }
    }
    body["name"] = name.into();
    Ok(body)
}

fn named_elsewhere(seen: &str, needed: &str) -> Problem {
    let what = "the name in the body is not the path's";
    let fault = Diagnosis::from_table(
        CODES,
        NAME,
        what,
        format!("`{seen}`"),
        format!("`{needed}`"),
    );
    fault.into()
}

/// What is given: as a patch of nothing, in which `null` is the same as nothing.
pub(super) fn given(body: Value) -> Value {
    let mut given = json!({});
    merge_into(&mut given, body);
    given
}

fn merge_into(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => {
                if let Some(target) = target.as_object_mut() {
                    target.remove(&key);
                }
            }
            value => merge_into(&mut target[key.as_str()], value),
        }
    }
}

/// The path that was asked for, its parameters filled in.
fn place_of(call: &Call<'_>) -> String {
    let parts = call.route.path.split('/').map(|part| {
        let name = part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'));
        name.map_or(part, |name| call.part(name))
    });
    parts.collect::<Vec<_>>().join("/")
}
