//! Whoever has no good token, or one of a lesser role, changes nothing by any route.

use std::sync::atomic::Ordering;

use control::api::{Method, routes};
use control::model::Role;
use serde_json::{Value, json};

use super::{World, fill, world};

/// A body that every route which takes one would read.
fn body(schema: Option<&str>) -> Value {
    match schema {
        None => Value::Null,
        Some("KeyOrder") => json!({ "direction": "ingress" }),
        Some("KeyEnd") => json!({ "expires": null }),
        Some("Rotation") => json!({ "direction": "ingress", "overlap": "1h" }),
        Some("TokenOrder") => json!({ "name": "t", "role": "viewer" }),
        Some("Apply") => json!({ "document": { "hubs": [{ "name": "a/e/new" }] } }),
        Some("Grant" | "Patch") => json!({}),
        Some(put) if put.ends_with("Put") => json!({}),
        Some(patch) if patch.ends_with("Patch") => json!({ "id": 5 }),
        Some(_) => json!({ "name": "new" }),
    }
}

/// Ask everything there is; status of each route.
fn walk(world: &World, headers: &str) -> Vec<(String, bool, u16)> {
    routes()
        .map(|route| {
            let body = match body(route.body) {
                Value::Null => Vec::new(),
                body => body.to_string().into_bytes(),
            };
            let headers = format!("content-type: application/json\r\n{headers}");
            let answer = world.raw(route.method.name(), &fill(route.path), &headers, &body);
            let name = format!("{} {}", route.method.name(), route.path);
            (name, route.open, answer.status)
        })
        .collect()
}

#[test]
fn without_a_good_token_every_route_is_refused_and_nothing_changes() {
    let world = world();
    let good = world.token("owner", Role::Owner, None);
    let expired = format!("authorization: Bearer {good}\r\n");
    let before = world.service.catalog();
    world.now.store(2_000, Ordering::Relaxed);
    let basic = format!("authorization: Basic {good}\r\n");
    let altered = format!("authorization: Bearer {}x\r\n", &good[..good.len() - 1]);
    for (why, headers) in [
        ("none", ""),
        ("empty", "authorization: Bearer \r\n"),
        ("another kind", &basic),
        ("altered", &altered),
        ("expired", &expired),
    ] {
        for (route, open, status) in walk(&world, headers) {
            let want = if open { 200 } else { 401 };
            assert_eq!(status, want, "{why}: {route}");
        }
    }
    assert_eq!(world.service.catalog(), before);
}

#[test]
fn the_body_of_who_may_not_ask_is_not_waited_for() {
    use std::io::{Read, Write};
    let world = world();
    let viewer = world.token("viewer", Role::Viewer, None);
    let as_viewer = format!("authorization: Bearer {viewer}\r\n");
    for (path, headers, want) in [
        ("/v1/apply", "", "HTTP/1.1 401"),
        ("/v1/accounts", &*as_viewer, "HTTP/1.1 403"),
    ] {
        let mut stream = world.connect();
        // Long before any body would be given up.
        let patience = std::time::Duration::from_secs(50);
        stream.set_read_timeout(Some(patience)).expect("set");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: here\r\ncontent-length: 200000000\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("answered");
        assert_eq!(std::str::from_utf8(&status), Ok(want), "{path}");
    }
}

#[test]
fn a_viewer_may_look_by_every_route_and_change_nothing_by_any() {
    let world = world();
    let viewer = world.token("viewer", Role::Viewer, None);
    let before = world.service.catalog();
    let headers = format!("authorization: Bearer {viewer}\r\n");
    for ((name, _, status), route) in walk(&world, &headers).into_iter().zip(routes()) {
        let looks = route.method == Method::Get && route.role == Role::Viewer;
        match looks {
            true => assert!(status == 200 || status == 404, "{name}: {status}"),
            false => assert_eq!(status, 403, "{name}"),
        }
    }
    assert_eq!(world.service.catalog(), before);
}

#[test]
fn an_owner_of_another_account_reads_and_changes_nothing_of_this_one() {
    let world = world();
    let foreign = world.token("foreign", Role::Owner, Some("b"));
    let viewer = world.token("viewer", Role::Viewer, None);
    let before = world.service.catalog();
    for route in routes().filter(|route| route.path.contains("{account}")) {
        let path = fill(route.path);
        let answer = world.ask(&foreign, route.method.name(), &path, body(route.body));
        assert_eq!(
            answer.status,
            403,
            "{} {path}: {:?}",
            route.method.name(),
            answer.body
        );
    }
    let all = world.ask(&foreign, "GET", "/v1/accounts", Value::Null);
    assert_eq!(all.body["items"].as_array().map(Vec::len), Some(1));
    let lines = world
        .ask(&foreign, "GET", "/v1/audit", Value::Null)
        .body
        .to_string();
    assert!(
        lines.contains("b/e/readings") && !lines.contains("a/e"),
        "{lines}"
    );
    let exported = world.ask(&foreign, "GET", "/v1/export?secrets=plain", Value::Null);
    assert!(
        !exported.body.to_string().contains("a/e"),
        "{}",
        exported.body
    );
    let status = world.ask(&foreign, "GET", "/v1/status", Value::Null);
    assert_eq!(status.body["endpoints"], 0, "it has none");
    assert_eq!(status.body["digest"], Value::Null, "it is of all accounts");
    let lines = world.ask(&viewer, "GET", "/v1/audit", Value::Null);
    let lines = lines.body.to_string();
    assert!(
        lines.contains("a/e/readings") && !lines.contains(r#""noun":"token""#),
        "tokens are for owners: {lines}"
    );
    let verdict = world.ask(&foreign, "GET", "/v1/audit/verify", Value::Null);
    assert_eq!(
        verdict.status, 403,
        "the whole log is for those of all accounts"
    );
    assert_eq!(world.service.catalog(), before);
}

#[test]
fn whoever_fetches_a_backup_is_in_the_audit_log() {
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    let backup = world.ask(&owner, "GET", "/v1/backup", Value::Null);
    assert_eq!(backup.status, 200);
    let lines = world.ask(&owner, "GET", "/v1/audit", Value::Null);
    let last = lines.body["items"]
        .as_array()
        .and_then(|lines| lines.last());
    let last = last.expect("a line");
    assert_eq!(
        (&last["action"], &last["actor"]),
        (&json!("backup"), &json!("owner"))
    );
}

#[test]
fn no_secret_is_in_any_answer_but_the_one_that_makes_it() {
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    let canary = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for route in routes().filter(|route| route.method == Method::Get) {
        let path = fill(route.path);
        let answer = world.ask(&owner, "GET", &path, Value::Null);
        let text = answer.body.to_string();
        assert!(
            !text.contains(canary)
                && !text.contains("sealed\":\"")
                && !text.contains("\"hash\":\""),
            "{path}: {text}"
        );
    }
    let plain = world.ask(&owner, "GET", "/v1/export?secrets=plain", Value::Null);
    assert!(
        plain.body.to_string().contains(canary),
        "asked for by its name"
    );
}
