//! `forebay node ls|show|delete`: what the control plane has defined of its nodes and knows of them.

use serde_json::{Map, Value};

use crate::define::ask::{ApiArgs, path};
use crate::define::{self, WaitArgs, changed, list};
use crate::fault::Fault;

pub(super) fn ls(api: &ApiArgs, names: bool) -> Result<u8, Fault> {
    let items = api.all(&path(&["nodes"]))?;
    match api.json || names {
        true => list(&items, names, api.json),
        false => list(&items.iter().map(joined).collect::<Vec<_>>(), false, false),
    }
    Ok(0)
}

pub(super) fn show(api: &ApiArgs, name: &str) -> Result<u8, Fault> {
    let node = api.ask("GET", &path(&["nodes", name]), None)?;
    match api.json {
        true => define::show(&node, true),
        false => define::show(&joined(&node), false),
    }
    Ok(0)
}

pub(super) fn delete(api: &ApiArgs, name: &str, wait: &WaitArgs) -> Result<(), Fault> {
    let path = format!("{}{}", path(&["nodes", name]), wait.query('?'));
    let done = api.ask("DELETE", &path, None)?;
    changed(&done, &format!("{name} is deleted"), api.json)
}

/// What is defined and what was seen as one row. Both have an address, and both a version: there they are those of the link, and of the
/// table; where clients reach the node is `serves_at`.
fn joined(node: &Value) -> Value {
    let mut row = Map::new();
    let defined = node["defined"] == true;
    let enabled = node["enabled"].as_bool().unwrap_or(true);
    row.insert("name".into(), node["name"].clone());
    row.insert("defined".into(), defined.into());
    if defined {
        row.insert("enabled".into(), enabled.into());
        row.insert("serves_at".into(), node["address"].clone());
    }
    match node["status"].as_object() {
        Some(status) => row.extend(status.clone()),
        None if !enabled => drop(row.insert("connected".into(), false.into())),
        None => {}
    }
    Value::Object(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_has_what_is_defined_and_what_was_seen() {
        let status =
            json!({ "connected": true, "address": "192.0.2.1:5", "version": 9, "shards": [9, 9] });
        let north = json!({ "name": "north", "version": 3, "defined": true, "address": "north.example:7411", "status": status });
        let want = json!({
            "name": "north", "defined": true, "enabled": true, "serves_at": "north.example:7411",
            "connected": true, "address": "192.0.2.1:5", "version": 9, "shards": [9, 9],
        });
        assert_eq!(joined(&north), want);
        let listed = json!({ "name": "west", "defined": false, "status": { "connected": false } });
        let want = json!({ "name": "west", "defined": false, "connected": false });
        assert_eq!(joined(&listed), want);
        let away = json!({ "name": "south", "version": 4, "defined": true, "enabled": false });
        let want = json!({ "name": "south", "defined": true, "enabled": false, "serves_at": null, "connected": false });
        assert_eq!(joined(&away), want);
    }
}
