//! Nodes by the API: defined, looked at, changed, and not deleted while somebody is at home there.

use control::model::Role;
use serde_json::{Value, json};

use super::world;

#[test]
fn a_node_is_defined_changed_made_a_home_and_deleted_when_it_is_none() {
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    let ask = |method: &str, path: &str, body: Value, want: u16| {
        world.answered(&owner, method, path, body, want)
    };
    let once = "idempotency-key: one\r\n";
    let order = json!({ "name": "north", "address": "north.example:7411" });
    let made = world.ask_with(&owner, "POST", "/v1/nodes", once, order.clone());
    assert_eq!(made.header("location"), Some("/v1/nodes/north"), "{made:?}");
    let again = world.ask_with(&owner, "POST", "/v1/nodes", once, order.clone());
    assert_eq!((again.status, again.body), (201, made.body));
    let twice = ask("POST", "/v1/nodes", order, 409);
    assert_eq!(twice.code(), "FB-2142");
    let shown = ask("GET", "/v1/nodes/north", Value::Null, 200);
    let version = shown.body["version"].clone();
    let want = json!({ "name": "north", "address": "north.example:7411", "defined": true, "version": version });
    assert_eq!(shown.body, want, "nobody has connected");
    let tag = shown.header("etag").expect("a tag").to_owned();
    // What was shown may be sent back, with another address.
    let mut body = shown.body;
    body["status"] = json!({ "connected": true });
    body["address"] = json!("[::1]:7411");
    let when = format!("if-match: {tag}\r\n");
    let put = world.ask_with(&owner, "PUT", "/v1/nodes/north", &when, body.clone());
    assert_eq!(put.status, 200, "{put:?}");
    let late = world.ask_with(&owner, "PUT", "/v1/nodes/north", &when, body);
    assert_eq!((late.status, late.code()), (412, "FB-2140"));
    ask(
        "PATCH",
        "/v1/nodes/north",
        json!({ "address": null, "enabled": false }),
        200,
    );
    let shown = ask("GET", "/v1/nodes/north", Value::Null, 200);
    assert_eq!(
        (&shown.body["address"], &shown.body["enabled"]),
        (&Value::Null, &json!(false))
    );
    ask("PUT", "/v1/nodes/south", json!({}), 201);
    let pump = "/v1/accounts/a/environments/e/endpoints/pump";
    let wrong = ask("PATCH", pump, json!({ "home": "nroth" }), 409);
    assert_eq!(wrong.code(), "FB-2107");
    assert_eq!(wrong.body["errors"][0]["pointer"], "/home");
    assert_eq!(wrong.body["remedy"], "did you mean `north`?");
    ask("PATCH", pump, json!({ "home": "north" }), 200);
    assert_eq!(ask("GET", pump, Value::Null, 200).body["home"], "north");
    let home = ask("DELETE", "/v1/nodes/north", Value::Null, 409);
    assert_eq!(home.code(), "FB-2146");
    assert_eq!(home.body["seen"], "endpoint `a/e/pump`");
    let path = format!("{pump}/why/send/readings?node=south");
    let why = ask("GET", &path, Value::Null, 200);
    let checks = why.body["checks"].as_array().expect("checks");
    let home = checks.iter().find(|check| check["check"] == "home");
    assert_eq!(
        home.map(|home| &home["needed"]),
        Some(&json!("node `north`, its home"))
    );
    ask("GET", &path.replace("south", "west"), Value::Null, 404);
    ask("PATCH", pump, json!({ "home": null }), 200);
    ask("DELETE", "/v1/nodes/north", Value::Null, 200);
    let gone = ask("GET", "/v1/nodes/north", Value::Null, 404);
    assert_eq!(gone.code(), "FB-2141");
    let lines = ask("GET", "/v1/audit?limit=1000", Value::Null, 200);
    let lines = lines.body["items"].as_array().expect("lines").clone();
    let of_north = lines
        .iter()
        .filter(|line| line["noun"] == "node" && line["name"] == "north");
    let actions: Vec<_> = of_north.map(|line| line["action"].clone()).collect();
    assert_eq!(actions, ["create", "replace", "set", "delete"]);
}

#[test]
fn a_name_or_an_address_that_none_can_have_is_refused_by_its_place() {
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    for (method, path, body, code, pointer) in [
        ("PUT", "/v1/nodes/North", json!({}), "FB-2105", "/name"),
        ("PUT", "/v1/nodes/77", json!({}), "FB-2105", "/name"),
        (
            "PUT",
            "/v1/nodes/n",
            json!({ "address": "n" }),
            "FB-2104",
            "/address",
        ),
        (
            "PUT",
            "/v1/nodes/n",
            json!({ "adress": "n:1" }),
            "FB-2102",
            "",
        ),
        ("PUT", "/v1/nodes/n", json!({ "id": -1 }), "FB-2104", "/id"),
        ("POST", "/v1/nodes", json!({ "name": "a/b" }), "FB-2105", ""),
        (
            "DELETE",
            "/v1/nodes/n?cascade=true",
            Value::Null,
            "FB-2161",
            "",
        ),
    ] {
        let answer = world.ask(&owner, method, path, body);
        let told = (
            answer.code(),
            answer.body["errors"][0]["pointer"].as_str().unwrap_or(""),
        );
        assert_eq!(told, (code, pointer), "{path}: {}", answer.body);
    }
}

#[test]
fn every_account_knows_the_names_and_none_changes_them_and_pages_hold_each_once() {
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    let names: Vec<String> = (10..15).map(|number| format!("n{number}")).collect();
    for name in &names {
        let made = world.ask(&owner, "POST", "/v1/nodes", json!({ "name": name }));
        assert_eq!(made.status, 201, "{made:?}");
    }
    for (role, account) in [(Role::Viewer, "a"), (Role::Owner, "b")] {
        let token = world.token(&format!("of-{account}"), role, Some(account));
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/nodes?limit=2{after}");
            let page = world.ask(&token, "GET", &path, Value::Null).body;
            let items = page["items"].as_array().expect("items");
            found.extend(
                items
                    .iter()
                    .map(|one| one["name"].as_str().expect("a name").to_owned()),
            );
            assert!(
                items.iter().all(|one| one.get("status").is_none()),
                "{page}"
            );
            let Some(next) = page["next"].as_str() else {
                break;
            };
            after = format!("&after={next}");
        }
        assert_eq!(found, names);
        for (method, path) in [
            ("PUT", "/v1/nodes/n10"),
            ("PUT", "/v1/nodes/new"),
            ("DELETE", "/v1/nodes/n10"),
        ] {
            let answer = world.ask(&token, method, path, json!({}));
            assert_eq!(answer.status, 403, "{method} {path}: {answer:?}");
        }
    }
    let status = world.ask(&owner, "GET", "/v1/status", Value::Null);
    assert_eq!(status.body["nodes"], 5);
}
