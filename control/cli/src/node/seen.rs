//! `forebay node ls|show`: what the control plane knows of its nodes.

use serde_json::Value;

use crate::define::ask::{ApiArgs, escape};
use crate::define::{self, list};
use crate::fault::Fault;

pub(super) fn ls(api: &ApiArgs) -> Result<u8, Fault> {
    let page = api.ask("GET", "/v1/nodes", None)?;
    let items = page["items"].as_array().map_or(&[][..], Vec::as_slice);
    list(items, false, api.json);
    Ok(0)
}

pub(super) fn show(api: &ApiArgs, name: &str) -> Result<u8, Fault> {
    let node: Value = api.ask("GET", &format!("/v1/nodes/{}", escape(name)), None)?;
    define::show(&node, api.json);
    Ok(0)
}
