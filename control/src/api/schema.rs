//! Schemas of what is sent and answered, for the OpenAPI document. A test holds them to the types.

use serde_json::{Map, Value, json};

use super::routes::Route;
use crate::model::{Noun, PART_BYTES_MAX};

/// Where a schema stands.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// A part of a name.
fn part() -> Value {
    json!({ "type": "string", "pattern": format!("^[A-Za-z0-9._-]{{1,{PART_BYTES_MAX}}}$") })
}

/// A parameter of a path.
pub(super) fn parameter(name: &str) -> Value {
    match name {
        "allow" => json!({ "enum": ["send", "receive"] }),
        "channel" => json!({ "type": "string", "pattern": "^[A-Za-z0-9._:-]{1,161}$" }),
        _ => part(),
    }
}

/// A value of the query.
pub(super) fn query(route: &Route, name: &str) -> Value {
    match name {
        "limit" => json!({ "type": "integer", "minimum": 0, "maximum": 1000 }),
        "after" if route.noun == Noun::Settings => json!({ "type": "integer", "minimum": 0 }),
        "wait" => {
            json!({ "type": "string", "examples": ["5s"], "description": "wait until every shard of every node has it" })
        }
        "body_bytes" => json!({ "type": "integer", "minimum": 0 }),
        "at" => moment(),
        "transport" => transport(),
        "certificate" => json!({ "type": "string", "pattern": "^[0-9A-Fa-f:]{64,95}$" }),
        "cascade" => json!({ "type": "boolean" }),
        "secrets" => json!({ "enum": ["none", "sealed", "plain"] }),
        _ => json!({ "type": "string" }),
    }
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn whole() -> Value {
    json!({ "type": "integer" })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn bytes() -> Value {
    json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "examples": ["64MiB"] }] })
}

fn age() -> Value {
    json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "examples": ["30s"] }] })
}

fn moment() -> Value {
    json!({ "type": "string", "examples": ["2027-01-31T00:00:00Z"] })
}

fn transport() -> Value {
    json!({ "enum": ["tcp", "tls", "quic", "quic-datagram"] })
}

fn list(of: Value) -> Value {
    json!({ "type": "array", "items": of })
}

fn maybe(of: Value) -> Value {
    json!({ "anyOf": [of, { "type": "null" }] })
}

/// An object with these properties and no others.
fn object(required: &[&str], properties: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> = (properties.iter())
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
        .collect();
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

/// The properties of each kind of thing, besides its name.
fn things() -> Vec<(&'static str, Vec<(&'static str, Value)>)> {
    let rates = [
        ("messages_per_second", whole()),
        ("bytes_per_second", bytes()),
    ];
    vec![
        ("Account", rates.to_vec()),
        ("Environment", Vec::new()),
        (
            "Hub",
            vec![
                ("id", whole()),
                ("partitions", whole()),
                ("ack", json!({ "enum": ["durable", "local"] })),
                ("segment_bytes", bytes()),
                ("retention_bytes", bytes()),
                ("retention_age", age()),
            ],
        ),
        (
            "Channel",
            vec![
                ("id", whole()),
                ("hub", text()),
                ("priority", json!({ "enum": ["normal", "low"] })),
            ],
        ),
        (
            "Endpoint",
            [
                &[
                    ("id", whole()),
                    ("enabled", flag()),
                    ("relay", flag()),
                    ("certificates", list(text())),
                    ("transports", list(transport())),
                    ("hours", list(text())),
                    ("expires", moment()),
                    ("queue", reference("Queue")),
                    ("grants", list(reference("Grant"))),
                ][..],
                &rates,
            ]
            .concat(),
        ),
    ]
}

/// Every schema by its name.
pub(super) fn schemas() -> Value {
    let mut all = Map::new();
    for (name, properties) in things() {
        let version = ("version", json!({ "type": "integer", "readOnly": true }));
        let mut own = vec![("name", text()), version];
        own.extend(properties.clone());
        if name == "Endpoint" {
            own.push((
                "keys",
                json!({ "type": "array", "items": reference("Key"), "readOnly": true }),
            ));
        }
        all.insert(name.into(), object(&["name"], &own));
        let patch = properties
            .into_iter()
            .map(|(name, schema)| (name, maybe(schema)));
        all.insert(
            format!("{name}Patch"),
            object(&[], &patch.collect::<Vec<_>>()),
        );
    }
    for name in [
        "Account",
        "Environment",
        "Hub",
        "Channel",
        "Endpoint",
        "Key",
        "Grant",
        "Token",
    ] {
        all.insert(format!("{name}Page"), page(reference(name), maybe(text())));
    }
    all.insert(
        "AuditPage".into(),
        page(reference("AuditLine"), maybe(whole())),
    );
    for (name, schema) in parts().into_iter().chain(orders()).chain(answers()) {
        all.insert(name.into(), schema);
    }
    Value::Object(all)
}

fn page(item: Value, next: Value) -> Value {
    object(&["items", "next"], &[("items", list(item)), ("next", next)])
}

/// What things are made of.
fn parts() -> Vec<(&'static str, Value)> {
    let direction = json!({ "enum": ["ingress", "egress"] });
    vec![
        (
            "Queue",
            object(
                &[],
                &[
                    ("messages_max", whole()),
                    ("bytes_max", bytes()),
                    ("age_max", age()),
                    ("on_full", json!({ "enum": ["park", "drop-oldest"] })),
                    ("lock", age()),
                    ("deliveries_max", whole()),
                ],
            ),
        ),
        (
            "Grant",
            object(
                &[],
                &[
                    ("channel", text()),
                    ("allow", json!({ "enum": ["send", "receive"] })),
                    ("subscribed", flag()),
                    ("addresses", list(text())),
                    ("origins", list(text())),
                    ("hours", list(text())),
                    ("expires", moment()),
                    ("messages_per_second", whole()),
                    ("bytes_per_second", bytes()),
                    ("body_bytes_max", bytes()),
                ],
            ),
        ),
        (
            "Key",
            object(
                &["id", "name", "direction"],
                &[
                    ("id", whole()),
                    ("name", text()),
                    ("direction", direction),
                    ("kind", json!({ "enum": ["hmac-sha256", "ed25519"] })),
                    ("public", text()),
                    ("fingerprint", text()),
                    ("expires", moment()),
                    ("revoked", flag()),
                    (
                        "state",
                        json!({ "enum": ["live", "expiring", "expired", "revoked"] }),
                    ),
                ],
            ),
        ),
        (
            "Token",
            object(
                &["name", "role"],
                &[
                    ("name", text()),
                    ("role", role()),
                    ("account", text()),
                    ("expires", moment()),
                    ("version", whole()),
                ],
            ),
        ),
    ]
}

fn role() -> Value {
    json!({ "enum": ["viewer", "operator", "admin", "owner"] })
}

/// What is asked for.
fn orders() -> Vec<(&'static str, Value)> {
    let direction = json!({ "enum": ["ingress", "egress"] });
    vec![
        (
            "KeyOrder",
            object(
                &["direction"],
                &[
                    ("name", maybe(text())),
                    ("direction", direction.clone()),
                    ("public", maybe(text())),
                    ("expires", maybe(moment())),
                ],
            ),
        ),
        (
            "KeyEnd",
            object(&["expires"], &[("expires", maybe(moment()))]),
        ),
        (
            "Rotation",
            object(
                &["direction", "overlap"],
                &[
                    ("direction", direction),
                    ("overlap", age()),
                    ("name", maybe(text())),
                ],
            ),
        ),
        (
            "TokenOrder",
            object(
                &["name", "role"],
                &[
                    ("name", part()),
                    ("role", role()),
                    ("account", maybe(part())),
                    ("expires", maybe(moment())),
                ],
            ),
        ),
        (
            "Apply",
            object(
                &["document"],
                &[
                    ("document", reference("Model")),
                    ("prune", flag()),
                    ("create", flag()),
                    ("dry_run", flag()),
                ],
            ),
        ),
        (
            "Model",
            json!({ "type": "object", "description": "everything in one document, in the form of a plan file" }),
        ),
    ]
}

/// What is answered.
fn answers() -> Vec<(&'static str, Value)> {
    let progress = ("progress", reference("Progress"));
    let version = ("version", whole());
    vec![
        (
            "Change",
            object(&["version"], &[version.clone(), progress.clone()]),
        ),
        (
            "NewKey",
            object(
                &["version", "key"],
                &[
                    version.clone(),
                    progress.clone(),
                    ("key", reference("Key")),
                    ("secret", text()),
                ],
            ),
        ),
        (
            "NewToken",
            object(
                &["version", "token"],
                &[version.clone(), progress.clone(), ("token", text())],
            ),
        ),
        (
            "Applied",
            object(
                &["version"],
                &[
                    version.clone(),
                    progress,
                    ("changed", list(json!({ "type": "object" }))),
                    ("differences", list(json!({ "type": "object" }))),
                ],
            ),
        ),
        (
            "Progress",
            object(
                &["version", "complete", "milliseconds", "nodes"],
                &[
                    version.clone(),
                    ("complete", flag()),
                    ("milliseconds", json!({ "type": "number" })),
                    ("nodes", list(reference("NodeProgress"))),
                ],
            ),
        ),
        (
            "NodeProgress",
            object(
                &["node", "shards", "applied"],
                &[("node", text()), ("shards", whole()), ("applied", whole())],
            ),
        ),
        (
            "Reasons",
            object(
                &["allowed", "checks"],
                &[
                    ("allowed", flag()),
                    ("checks", list(json!({ "type": "object" }))),
                ],
            ),
        ),
        (
            "Status",
            json!({ "type": "object", "required": ["version", "digest"] }),
        ),
        ("Backup", json!({ "type": "string", "format": "binary" })),
        (
            "Document",
            json!({ "type": "object", "required": ["openapi", "paths"] }),
        ),
        (
            "AuditLine",
            json!({ "type": "object", "required": ["number", "version", "at", "actor", "action", "noun", "name"] }),
        ),
        (
            "Verdict",
            object(
                &["lines", "version", "head", "faults"],
                &[
                    ("lines", whole()),
                    version,
                    ("head", text()),
                    ("faults", list(text())),
                ],
            ),
        ),
        (
            "Problem",
            json!({
                "type": "object",
                "required": ["type", "title", "status", "code", "detail", "seen", "needed", "remedy", "errors"],
            }),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::plan;

    /// Every value that a thing can have, once.
    const FULL: &str = r#"
[[accounts]]
name = "a"
messages_per_second = 1
bytes_per_second = 1
[[environments]]
name = "a/e"
[[hubs]]
name = "a/e/h"
id = 1
partitions = 1
ack = "local"
segment_bytes = 1
retention_bytes = 1
retention_age = 1
[[channels]]
name = "a/e/c"
id = 1
hub = "h"
priority = "low"
[[endpoints]]
name = "a/e/x"
id = 1
enabled = true
relay = true
certificates = ["x"]
transports = ["x"]
hours = ["x"]
expires = 2027-01-31T00:00:00Z
messages_per_second = 1
bytes_per_second = 1
queue = { messages_max = 1, bytes_max = 1, age_max = 1, on_full = "park", lock = 1, deliveries_max = 1 }
[[endpoints.keys]]
id = 1
name = "k"
direction = "ingress"
kind = "ed25519"
public = "x"
sealed = "x"
expires = 2027-01-31T00:00:00Z
revoked = true
[[endpoints.grants]]
channel = "c"
allow = "receive"
subscribed = true
addresses = ["::1"]
origins = ["x"]
hours = ["x"]
expires = 2027-01-31T00:00:00Z
bytes_per_second = 1
messages_per_second = 1
body_bytes_max = 1
"#;

    fn keys(value: &Value) -> Vec<&String> {
        let mut keys: Vec<&String> = value.as_object().expect("an object").keys().collect();
        keys.sort();
        keys
    }

    #[test]
    fn schemas_name_exactly_what_things_have() {
        let model: Model = plan::read(FULL, "full").expect("a plan");
        let schemas = schemas();
        for thing in model.into_things() {
            let mut shown = thing.shown();
            shown["version"] = 1.into();
            let mut name = thing.noun().name().to_owned();
            name[..1].make_ascii_uppercase();
            assert_eq!(keys(&shown), keys(&schemas[&name]["properties"]), "{name}");
            if name == "Endpoint" {
                shown["keys"][0]["state"] = "live".into();
                for (part, value) in [
                    ("Queue", &shown["queue"]),
                    ("Grant", &shown["grants"][0]),
                    ("Key", &shown["keys"][0]),
                ] {
                    assert_eq!(keys(value), keys(&schemas[part]["properties"]), "{part}");
                }
            }
        }
    }
}
