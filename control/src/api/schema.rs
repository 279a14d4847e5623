//! Schemas of what is sent and answered, for the OpenAPI document. A test holds them to the types.

use serde_json::{Map, Value, json};

use super::routes::Route;
use super::scalar::{
    address, addresses, age, body_bytes, byte_rate, channel, fingerprint, flag, hours, list, maybe,
    moment, name_of, node_address, node_name, part, public, queue_bytes, range, rate,
    retention_bytes, secret, segment_bytes, text, transport, transports, wait, whole,
};
use crate::compile::{PARTITIONS_MAX, QUEUE_GROUPS_MAX};
use crate::model::Noun;

/// Where a schema stands.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// A parameter of a path.
pub(super) fn parameter(route: &Route, name: &str) -> Value {
    match name {
        "name" if route.noun == Noun::Node => node_name(),
        "allow" => json!({ "enum": ["send", "receive"] }),
        // Of the endpoint's own environment; `environment:channel` for another one of the account is taken, too.
        "channel" => part(),
        _ => part(),
    }
}

/// A value of the query.
pub(super) fn query(route: &Route, name: &str) -> Value {
    match name {
        "limit" => range(0, 1_000),
        "after" if route.noun == Noun::Settings => whole(),
        "wait" => wait(),
        "body_bytes" => whole(),
        "at" => moment(),
        "address" => address(),
        "transport" => transport(),
        "certificate" => fingerprint(),
        "cascade" => flag(),
        "secrets" => json!({ "enum": ["none", "sealed", "plain"] }),
        "node" => node_name(),
        _ => text(),
    }
}

/// Names of requests.
pub(super) fn idempotency_key() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]{1,200}$", "description": "the same request again is answered alike and not carried out again" })
}

/// An ETag, or any.
pub(super) fn condition() -> Value {
    json!({ "type": "string", "pattern": r#"^("[1-9][0-9]{0,8}"|\*)$"#, "description": "an ETag: change only what is still of that version" })
}

/// An object with these properties and no others.
fn object(required: &[&str], properties: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> = (properties.iter())
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
        .collect();
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

/// These properties, of which each may be `null`, which is as good as left out.
fn nullable(properties: &[(&'static str, Value)]) -> Vec<(&'static str, Value)> {
    let properties = properties.iter().cloned();
    properties
        .map(|(name, schema)| (name, maybe(schema)))
        .collect()
}

/// The properties of each kind of thing, besides its name.
fn things() -> Vec<(&'static str, Vec<(&'static str, Value)>)> {
    let rates = [
        ("messages_per_second", rate()),
        ("bytes_per_second", byte_rate()),
    ];
    vec![
        (
            "Account",
            [&rates[..], &[("limits", reference("WrittenLimits"))]].concat(),
        ),
        ("Environment", Vec::new()),
        (
            "Hub",
            vec![
                ("id", range(0, u64::from(u16::MAX) - 1)),
                ("partitions", range(1, PARTITIONS_MAX as u64)),
                ("ack", json!({ "enum": ["durable", "local"] })),
                ("segment_bytes", segment_bytes()),
                ("retention_bytes", retention_bytes()),
                ("retention_age", age()),
            ],
        ),
        (
            "Channel",
            vec![
                ("id", range(0, u64::from(u32::MAX))),
                ("hub", part()),
                ("priority", json!({ "enum": ["normal", "low"] })),
            ],
        ),
        (
            "Endpoint",
            [
                &[
                    ("id", range(1, i64::MAX as u64)),
                    ("enabled", flag()),
                    ("home", node_name()),
                    ("relay", flag()),
                    ("certificates", list(fingerprint())),
                    ("transports", transports()),
                    ("hours", list(hours())),
                    ("expires", moment()),
                    ("queue", reference("WrittenQueue")),
                    ("grants", list(reference("WrittenGrant"))),
                    ("last_key", range(1, u64::from(u32::MAX))),
                ][..],
                &rates,
            ]
            .concat(),
        ),
        (
            "Node",
            vec![
                ("id", range(0, u64::from(u32::MAX))),
                ("enabled", flag()),
                ("address", node_address()),
            ],
        ),
    ]
}

/// The name of a thing, within what it belongs to.
fn own_name(name: &str) -> Value {
    match name {
        "Node" => node_name(),
        _ => part(),
    }
}

/// The full name of a thing.
fn full_name(name: &str) -> Value {
    match name {
        "Node" => node_name(),
        _ => name_of(depth(name)),
    }
}

/// How many parts the full name of a thing has.
fn depth(name: &str) -> usize {
    match name {
        "Account" => 1,
        "Environment" => 2,
        _ => 3,
    }
}

/// Every schema by its name.
pub(super) fn schemas() -> Value {
    let mut all = Map::new();
    for (name, properties) in things() {
        let version = ("version", json!({ "type": "integer", "readOnly": true }));
        let full = ("name", full_name(name));
        let mut own = vec![full.clone(), version];
        own.extend(
            properties
                .iter()
                .map(|(name, schema)| (*name, loosened(schema))),
        );
        let any = nullable(&properties);
        let new = [&[("name", own_name(name))], &any[..]].concat();
        all.insert(format!("New{name}"), object(&["name"], &new));
        all.insert(format!("{name}Put"), object(&[], &any));
        all.insert(format!("{name}Patch"), object(&[], &any));
        let mut written = [&[full], &any[..]].concat();
        if name == "Endpoint" {
            written.push(("keys", maybe(list(reference("WrittenKey")))));
        }
        all.insert(format!("Written{name}"), object(&["name"], &written));
        if name == "Endpoint" {
            own.push((
                "keys",
                json!({ "type": "array", "items": reference("Key"), "readOnly": true }),
            ));
        }
        if name == "Node" {
            let status = reference("NodeStatus");
            own.extend([("defined", flag()), ("status", status)]);
        }
        all.insert(name.into(), object(&["name"], &own));
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
        "Node",
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

/// What is shown: what was taken in any form.
fn loosened(schema: &Value) -> Value {
    const RULES: [&str; 7] = [
        "pattern",
        "minimum",
        "maximum",
        "multipleOf",
        "contains",
        "minLength",
        "maxLength",
    ];
    match schema {
        Value::Object(object) => {
            let kept = object
                .iter()
                .filter(|(key, _)| !RULES.contains(&key.as_str()));
            let kept = kept.map(|(key, value)| (key.clone(), loosened(value)));
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.iter().map(loosened).collect(),
        Value::String(text) => text.replace("/Written", "/").into(),
        other => other.clone(),
    }
}

fn queue() -> Value {
    object(
        &[],
        &nullable(&[
            ("messages_max", range(1, 1 << 53)),
            ("bytes_max", queue_bytes()),
            ("age_max", age()),
            ("on_full", json!({ "enum": ["park", "drop-oldest"] })),
            ("lock", age()),
            ("deliveries_max", range(0, u64::from(u16::MAX))),
        ]),
    )
}

/// How many things an account may define.
fn limits() -> Value {
    let count = || range(0, u64::from(u32::MAX));
    object(
        &[],
        &nullable(&[
            ("environments", count()),
            ("hubs", count()),
            ("partitions", count()),
            ("channels", count()),
            ("endpoints", count()),
            ("grants_per_endpoint", count()),
            ("tokens", count()),
        ]),
    )
}

/// The conditions of a grant.
fn conditions() -> Vec<(&'static str, Value)> {
    vec![
        ("addresses", list(addresses())),
        ("origins", list(text())),
        ("hours", list(hours())),
        ("expires", moment()),
    ]
}

/// What of a grant is about what is sent.
fn bounds() -> Vec<(&'static str, Value)> {
    vec![
        ("messages_per_second", rate()),
        ("bytes_per_second", byte_rate()),
        ("body_bytes_max", body_bytes()),
    ]
}

/// A grant within an endpoint: one to send is not subscribed, and one to receive has no bounds.
fn written_grant() -> Value {
    let way = |allow: &str, more: &[(&'static str, Value)]| {
        let own = [("channel", channel()), ("allow", json!({ "const": allow }))];
        let more = nullable(&[&conditions()[..], more].concat());
        object(&["channel", "allow"], &[&own, &more[..]].concat())
    };
    json!({ "anyOf": [way("send", &bounds()), way("receive", &[("subscribed", flag())])] })
}

/// A key within a document: of a shared secret, or the public half of a pair, which opens no queue.
fn written_key() -> Value {
    let with = |direction: Value, material: (&'static str, Value)| {
        let name = material.0;
        let own = [
            ("id", range(1, u64::from(u32::MAX))),
            ("name", part()),
            ("direction", direction),
            ("expires", maybe(moment())),
            ("revoked", maybe(flag())),
            material,
        ];
        object(&["id", "name", "direction", name], &own)
    };
    let any = json!({ "enum": ["ingress", "egress"] });
    json!({ "anyOf": [with(any, ("secret", secret())), with(json!({ "const": "ingress" }), ("public", public()))] })
}

/// What things are made of.
fn parts() -> Vec<(&'static str, Value)> {
    let direction = json!({ "enum": ["ingress", "egress"] });
    let shown = [
        ("channel", text()),
        ("allow", json!({ "enum": ["send", "receive"] })),
        ("subscribed", flag()),
    ];
    let shown = [&shown[..], &conditions(), &bounds()].concat();
    vec![
        ("WrittenLimits", limits()),
        ("Limits", loosened(&limits())),
        ("WrittenQueue", queue()),
        ("Queue", loosened(&queue())),
        ("WrittenGrant", written_grant()),
        ("WrittenKey", written_key()),
        ("Grant", loosened(&object(&[], &shown))),
        (
            "GrantPut",
            object(
                &[],
                &nullable(&[&[("subscribed", flag())], &conditions()[..], &bounds()].concat()),
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
                    ("expires", text()),
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
                    ("expires", text()),
                    ("version", whole()),
                ],
            ),
        ),
    ]
}

fn role() -> Value {
    json!({ "enum": ["viewer", "operator", "admin", "owner"] })
}

/// A key that is asked for: the public half of a pair opens no queue.
fn key_order() -> Value {
    let of = |direction: &str, more: &[(&'static str, Value)]| {
        let own = [
            ("name", maybe(part())),
            ("direction", json!({ "const": direction })),
            ("expires", maybe(moment())),
        ];
        object(&["direction"], &[&own, more].concat())
    };
    json!({ "anyOf": [of("ingress", &[("public", maybe(public()))]), of("egress", &[])] })
}

/// Everything in one document, in the form of a plan file.
fn document() -> Value {
    let lists = [
        ("accounts", "WrittenAccount"),
        ("environments", "WrittenEnvironment"),
        ("hubs", "WrittenHub"),
        ("channels", "WrittenChannel"),
        ("endpoints", "WrittenEndpoint"),
        ("nodes", "WrittenNode"),
    ];
    let lists = lists.map(|(name, schema)| (name, list(reference(schema))));
    let groups = ("queue_groups", range(1, QUEUE_GROUPS_MAX as u64));
    object(&[], &nullable(&[&[groups], &lists[..]].concat()))
}

/// What is asked for.
fn orders() -> Vec<(&'static str, Value)> {
    let direction = json!({ "enum": ["ingress", "egress"] });
    vec![
        ("KeyOrder", key_order()),
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
                    ("name", maybe(part())),
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
                    ("document", reference("Document")),
                    ("prune", flag()),
                    ("create", flag()),
                    ("dry_run", flag()),
                    ("if_version", maybe(whole())),
                ],
            ),
        ),
        ("Document", document()),
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
            "OpenApi",
            json!({ "type": "object", "required": ["openapi", "paths"] }),
        ),
        (
            "NodeStatus",
            object(
                &["connected", "current", "shards"],
                &[
                    ("connected", flag()),
                    ("address", maybe(text())),
                    ("heard_seconds", maybe(json!({ "type": "number" }))),
                    ("version", maybe(whole())),
                    ("current", flag()),
                    ("kept", maybe(whole())),
                    ("refused", maybe(text())),
                    ("hubs_unopened", whole()),
                    ("unopened", maybe(text())),
                    ("shards", list(whole())),
                    ("snapshots", whole()),
                    ("deltas", whole()),
                ],
            ),
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
[[nodes]]
name = "n"
id = 1
enabled = true
address = "n:1"
[[accounts]]
name = "a"
messages_per_second = 1
bytes_per_second = 1
limits = { environments = 1, hubs = 1, partitions = 1, channels = 1, endpoints = 1, grants_per_endpoint = 1, tokens = 1 }
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
home = "n"
relay = true
certificates = ["x"]
transports = ["x"]
hours = ["x"]
expires = 2027-01-31T00:00:00Z
messages_per_second = 1
bytes_per_second = 1
last_key = 2
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
            if name == "Node" {
                (shown["defined"], shown["status"]) = (true.into(), json!({}));
            }
            assert_eq!(keys(&shown), keys(&schemas[&name]["properties"]), "{name}");
            if name == "Account" {
                let named = &schemas["Limits"]["properties"];
                assert_eq!(keys(&shown["limits"]), keys(named), "limits");
            }
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
