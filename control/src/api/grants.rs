//! Grants of an endpoint, one by one. They can also be changed with the endpoint.

use serde_json::{Value, json};

use super::call::{Answer, Call, decode, unreadable};
use super::keys::endpoint;
use super::problem::Problem;
use super::scalar::EXACT_MAX;
use super::things::given;
use crate::diagnosis::{ALREADY_THERE, API_QUERY, CODES, NOT_THERE, VALUE};
use crate::model::{Allow, Endpoint, Grant, Moment, environment_of, is_part, parts_of};
use crate::service::Question;
use wire::diagnosis::Diagnosis;
use wire::ids::Fingerprint;
use wire::route::Transport;

/// `GET .../grants`.
pub(super) fn list(call: &Call<'_>) -> Result<Answer, Problem> {
    let (endpoint, version) = endpoint(call)?;
    let items = serde_json::to_value(&endpoint.grants).expect("texts and numbers");
    let body = json!({ "items": items, "next": null });
    Ok(Answer::json(200, body).tagged(version))
}

/// `GET .../grants/{allow}/{channel}`.
pub(super) fn show(call: &Call<'_>) -> Result<Answer, Problem> {
    let (endpoint, version) = endpoint(call)?;
    let at = place(call, &endpoint)?.ok_or_else(|| missing(call))?;
    let body = serde_json::to_value(&endpoint.grants[at]).expect("texts and numbers");
    Ok(Answer::json(200, body).tagged(version))
}

/// `PUT .../grants/{allow}/{channel}`: permit it, under the conditions of the body.
pub(super) fn put(call: &Call<'_>) -> Result<Answer, Problem> {
    let mut body = call.json()?;
    let Some(object) = body.as_object_mut() else {
        return Err(Problem::body(
            "another JSON value than an object".to_owned(),
        ));
    };
    let own = [
        ("channel", channel(call)),
        ("allow", call.part("allow").to_owned()),
    ];
    for (key, value) in own {
        match object.insert(key.to_owned(), value.clone().into()) {
            Some(Value::String(given)) if given == value => {}
            None => {}
            Some(given) => {
                let what = format!("`{key}` of the body is not the path's");
                let (seen, needed) = (given.to_string(), format!("`{value}`"));
                return Err(Diagnosis::from_table(CODES, VALUE, what, seen, needed).into());
            }
        }
    }
    let grant: Grant = decode(given(body))?;
    if grant.allow == Allow::Send && grant.subscribed.is_some() {
        let (what, needed) = ("a grant to send cannot be subscribed", "a grant to receive");
        let fault = Diagnosis::from_table(CODES, VALUE, what, "`subscribed`", needed);
        return Err(Problem::from(fault).conflicting());
    }
    // `If-None-Match: *` is about the grant, any version about its endpoint.
    let (name, expected) = (call.name(), call.expected()?);
    let (expected, only_new) = match expected {
        Some(0) => (None, true),
        expected => (expected, false),
    };
    let set = call
        .service
        .edit_endpoint(&call.caller, "grant set", &name, expected, |endpoint| {
            match find(endpoint, &grant.channel, grant.allow) {
                Some(_) if only_new => return Err(there_already(&grant.channel)),
                Some(at) => endpoint.grants[at] = grant,
                None => endpoint.grants.push(grant),
            }
            Ok(())
        });
    call.changed(&set?, 200)
}

/// `DELETE .../grants/{allow}/{channel}`.
pub(super) fn delete(call: &Call<'_>) -> Result<Answer, Problem> {
    let (channel, allow) = (channel(call), allow(call)?);
    let (name, expected) = (call.name(), call.expected()?);
    let done =
        call.service
            .edit_endpoint(&call.caller, "grant delete", &name, expected, |endpoint| {
                let at = find(endpoint, &channel, allow).ok_or_else(|| no_grant(&channel))?;
                endpoint.grants.remove(at);
                Ok(())
            });
    call.changed(&done?, 200)
}

/// `GET .../why/{allow}/{channel}`: whether it is allowed, check by check.
pub(super) fn why(call: &Call<'_>) -> Result<Answer, Problem> {
    let one_of = |name: &str| Transport::ALL.into_iter().find(|one| one.name() == name);
    let body_bytes = match call.query("body_bytes") {
        Some(_) => Some(call.number("body_bytes", 0, EXACT_MAX)?),
        None => None,
    };
    let question = Question {
        endpoint: call.name(),
        allow: allow(call)?,
        channel: well_named(channel(call))?,
        key: call.query("key").map(str::to_owned),
        address: read(call, "address", "an address", |text| text.parse().ok())?,
        origin: call.query("origin").map(str::to_owned),
        body_bytes,
        at: read(
            call,
            "at",
            "a date and time like 2027-01-31T00:00:00Z",
            |text| Moment::new(text).seconds(),
        )?,
        transport: read(call, "transport", "tcp, tls, quic or quic-datagram", one_of)?,
        certificate: read(
            call,
            "certificate",
            "the SHA-256 of a certificate in hexadecimal",
            Fingerprint::parse,
        )?,
        node: call.query("node").map(str::to_owned),
    };
    let reasons = call.service.why(&call.caller, &question)?;
    let body = serde_json::to_value(reasons).expect("words and truth values");
    Ok(Answer::json(200, body))
}

/// A value of the query, if it is given.
fn read<T>(
    call: &Call<'_>,
    name: &str,
    needed: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Problem> {
    let refused = |text: &str| {
        let what = format!("`{name}` of the query is refused");
        Problem::from(Diagnosis::from_table(CODES, API_QUERY, what, text, needed))
    };
    let given = call.query(name);
    given
        .map(|text| parse(text).ok_or_else(|| refused(text)))
        .transpose()
}

/// The channel of the path: its last part in the endpoint's environment, or `environment:channel` for another one of the account.
fn channel(call: &Call<'_>) -> String {
    let written = call.part("channel");
    match written.split_once(':') {
        Some((environment, channel)) => {
            format!("{}/{environment}/{channel}", call.part("account"))
        }
        None => written.to_owned(),
    }
}

/// The name, if a channel can have it: of one that cannot it is idle to say why nobody may.
fn well_named(channel: String) -> Result<String, Problem> {
    let is_name = match channel.contains('/') {
        true => parts_of::<3>(&channel).is_some(),
        false => is_part(&channel),
    };
    match is_name {
        true => Ok(channel),
        false => Err(Problem::name("channel", &channel)),
    }
}

fn allow(call: &Call<'_>) -> Result<Allow, Problem> {
    let read = serde_json::from_value(call.part("allow").into());
    read.map_err(|error| unreadable(&error).into())
}

fn place(call: &Call<'_>, endpoint: &Endpoint) -> Result<Option<usize>, Problem> {
    Ok(find(endpoint, &channel(call), allow(call)?))
}

/// Where the grant for this channel stands, however its channel is written.
fn find(endpoint: &Endpoint, channel: &str, allow: Allow) -> Option<usize> {
    let environment = environment_of(&endpoint.name);
    let full = |channel: &str| match channel.contains('/') {
        true => channel.to_owned(),
        false => format!("{environment}/{channel}"),
    };
    let wanted = full(channel);
    let same = |grant: &Grant| grant.allow == allow && full(&grant.channel) == wanted;
    endpoint.grants.iter().position(same)
}

fn missing(call: &Call<'_>) -> Problem {
    no_grant(&channel(call)).into()
}

fn there_already(channel: &str) -> Diagnosis {
    let (what, needed) = ("the grant is there already", "a channel without one");
    Diagnosis::from_table(CODES, ALREADY_THERE, what, format!("`{channel}`"), needed)
}

fn no_grant(channel: &str) -> Diagnosis {
    let (what, needed) = ("there is no such grant", "a grant of the endpoint");
    Diagnosis::from_table(CODES, NOT_THERE, what, format!("`{channel}`"), needed)
}
