//! Nodes: what is defined of each, and how it was seen.

use serde_json::{Map, Value, json};

use super::call::{Answer, Call, shown};
use super::problem::Problem;
use super::things::{PAGE, PAGE_MAX};
use crate::service::NodeTold;

/// `GET /v1/nodes`: those that are defined, and those that are let in without.
pub(super) fn list(call: &Call<'_>) -> Result<Answer, Problem> {
    let limit = call.number("limit", PAGE, PAGE_MAX)?.max(1) as usize;
    let after = call.query("after").unwrap_or("");
    let mut nodes = call.service.nodes(&call.caller)?;
    nodes.retain(|node| node.name.as_str() > after);
    let more = nodes.len() > limit;
    nodes.truncate(limit);
    let next = nodes.last().filter(|_| more).map(|node| node.name.clone());
    let items: Vec<Value> = nodes.iter().map(told).collect();
    Ok(Answer::json(200, json!({ "items": items, "next": next })))
}

/// `GET /v1/nodes/{name}`: with an ETag if it is defined.
pub(super) fn show(call: &Call<'_>) -> Result<Answer, Problem> {
    let node = call.service.node(&call.caller, &call.name())?;
    let answer = Answer::json(200, told(&node));
    Ok(match &node.defined {
        Some(stored) => answer.tagged(stored.version),
        None => answer,
    })
}

/// What is defined, `defined` whether anything is, and `status`, which has a name by its node alone.
fn told(node: &NodeTold) -> Value {
    let mut value = match &node.defined {
        Some(stored) => shown(&stored.thing, stored.version),
        None => json!({ "name": node.name }),
    };
    value["defined"] = node.defined.is_some().into();
    if let Some(seen) = &node.seen {
        let mut status = serde_json::to_value(seen).expect("texts and numbers");
        status
            .as_object_mut()
            .and_then(|status: &mut Map<_, _>| status.remove("name"));
        value["status"] = status;
    }
    value
}
