//! From nothing to an endpoint that works, and back to nothing, by the API alone.

use control::model::{Noun, Role};
use serde_json::{Value, json};

use super::world;

#[test]
fn a_script_does_the_whole_life_of_an_endpoint_through_the_api_alone() {
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    let ask = |method: &str, path: &str, body: Value, want: u16| {
        world.answered(&owner, method, path, body, want)
    };
    ask("POST", "/v1/accounts", json!({ "name": "acme" }), 201);
    let made = ask(
        "POST",
        "/v1/accounts/acme/environments",
        json!({ "name": "prod" }),
        201,
    );
    assert_eq!(
        made.header("location"),
        Some("/v1/accounts/acme/environments/prod")
    );
    let at = "/v1/accounts/acme/environments/prod";
    ask(
        "POST",
        &format!("{at}/hubs"),
        json!({ "name": "fast", "partitions": 2.0 }),
        201,
    );
    ask(
        "PUT",
        &format!("{at}/channels/readings"),
        json!({ "hub": "fast" }),
        201,
    );
    ask(
        "POST",
        &format!("{at}/endpoints"),
        json!({ "name": "pump" }),
        201,
    );
    let pump = format!("{at}/endpoints/pump");
    ask(
        "PUT",
        &format!("{pump}/grants/send/readings"),
        json!({ "addresses": ["10.0.0.0/8"] }),
        200,
    );
    let key = ask(
        "POST",
        &format!("{pump}/keys"),
        json!({ "direction": "ingress" }),
        201,
    );
    assert_eq!(key.body["secret"].as_str().map(str::len), Some(44));
    let model = world.service.catalog().model();
    let table =
        control::compile::compile(&model, 1, Some(&control::seal::MasterKey::new(&[7; 32])));
    let table = table.expect("a good model").table;
    let compiled = table.endpoint_by_name("acme/prod/pump").expect("there");
    assert_eq!((compiled.keys.len(), compiled.send.len()), (1, 1));
    ask(
        "POST",
        &format!("{pump}/keys/ingress-1/revoke?wait=5s"),
        Value::Null,
        200,
    );
    let shown = ask("GET", &format!("{pump}/keys/ingress-1"), Value::Null, 200);
    assert_eq!(shown.body["state"], "revoked");
    ask(
        "POST",
        &format!("{pump}/keys/ingress-1/restore"),
        Value::Null,
        200,
    );
    let rotation = json!({ "direction": "ingress", "overlap": "1h" });
    ask("POST", &format!("{pump}/rotate"), rotation, 201);
    let keys = ask("GET", &format!("{pump}/keys"), Value::Null, 200);
    let states: Vec<_> = keys.body["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|key| key["state"].clone())
        .collect();
    assert_eq!(states, ["expiring", "live"]);
    ask(
        "PATCH",
        &pump,
        json!({ "enabled": false, "queue": { "messages_max": 5 } }),
        200,
    );
    ask("PATCH", &pump, json!({ "enabled": null }), 200);
    let shown = ask("GET", &pump, Value::Null, 200);
    assert_eq!(
        (&shown.body["enabled"], &shown.body["queue"]["messages_max"]),
        (&Value::Null, &json!(5))
    );
    assert_eq!(
        shown.body["keys"].as_array().map(Vec::len),
        Some(2),
        "a patch keeps the keys"
    );
    ask(
        "DELETE",
        &format!("{pump}/grants/send/readings"),
        Value::Null,
        200,
    );
    ask("DELETE", "/v1/accounts/acme", Value::Null, 409);
    ask("DELETE", "/v1/accounts/acme?cascade=true", Value::Null, 200);
    let catalog = world.service.catalog();
    let left: Vec<_> = catalog
        .things
        .keys()
        .filter(|(_, name)| name.starts_with("acme"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn null_is_as_good_as_left_out() {
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    let (hubs, e) = ("/v1/accounts/a/environments/e/hubs", "a/e");
    let hub = json!({ "name": "new", "id": null, "partitions": 2, "ack": null });
    world.answered(&owner, "POST", hubs, hub, 201);
    let all_left_out = json!({ "limits": null, "messages_per_second": null });
    world.answered(&owner, "PUT", "/v1/accounts/a", all_left_out, 200);
    let endpoint =
        json!({ "name": format!("{e}/x"), "grants": null, "hours": null, "queue": null });
    let document = json!({ "document": { "endpoints": [endpoint], "channels": null } });
    world.answered(&owner, "POST", "/v1/apply", document, 200);
    let there = "/v1/accounts/a/environments/e/endpoints/x";
    let shown = world.answered(&owner, "GET", there, Value::Null, 200);
    assert!(shown.body.get("grants").is_none(), "{}", shown.body);
}

#[test]
fn an_edit_of_what_somebody_else_changed_is_refused() {
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    let path = "/v1/accounts/a/environments/e/channels/readings";
    let seen = world.ask(&owner, "GET", path, Value::Null);
    let tag = seen.header("etag").expect("a version").to_owned();
    let set = |tag: &str, priority: &str| {
        let condition = format!("if-match: {tag}\r\n");
        world.ask_with(
            &owner,
            "PATCH",
            path,
            &condition,
            json!({ "priority": priority }),
        )
    };
    let first = set(&tag, "low");
    assert_eq!(first.status, 200, "{}", first.body);
    let second = set(&tag, "normal");
    assert_eq!((second.status, second.code()), (412, "FB-2140"));
    let tag = first.header("etag").expect("the new version").to_owned();
    assert_eq!(set(&tag, "normal").status, 200);
    assert_eq!(set("7", "low").status, 400, "an ETag has quotes");
    // A condition that cannot be read is not one that was not made.
    for unreadable in ["\"\u{e9}\"".to_owned(), format!("{tag}\r\nif-match: {tag}")] {
        assert_eq!(set(&unreadable, "low").status, 400, "{unreadable}");
    }
    let none = world.ask_with(&owner, "PUT", path, "if-none-match: *\r\n", json!({}));
    assert_eq!(none.status, 412, "{}", none.body);
}

#[test]
fn pages_hold_everything_once_in_order() {
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    let within = "/v1/accounts/a/environments/e";
    for at in 0..7 {
        let body = json!({ "name": format!("c{at}") });
        assert_eq!(
            world
                .ask(&owner, "POST", &format!("{within}/channels"), body)
                .status,
            201
        );
    }
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("{within}/channels?limit=3&after={after}");
        let page = world.ask(&owner, "GET", &path, Value::Null);
        assert_eq!(page.status, 200, "{}", page.body);
        let items = page.body["items"].as_array().expect("a list").clone();
        assert!(items.len() <= 3);
        found.extend(
            items
                .iter()
                .map(|item| item["name"].as_str().expect("a name").to_owned()),
        );
        match page.body["next"].as_str() {
            None => break,
            Some(next) => after = next.replace('/', "%2F"),
        }
    }
    let catalog = world.service.catalog();
    let things = catalog.things.keys();
    let want: Vec<_> = things
        .filter(|(noun, name)| *noun == Noun::Channel && name.starts_with("a/e/"))
        .map(|(_, name)| name.clone())
        .collect();
    assert_eq!((found.len(), found), (8, want));
}

#[test]
fn a_request_sent_again_under_its_name_is_carried_out_once() {
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    let path = "/v1/accounts/a/environments/e/endpoints/pump/keys";
    let post = |name: &str, direction: &str| {
        let header = format!("idempotency-key: {name}\r\n");
        world.ask_with(
            &owner,
            "POST",
            path,
            &header,
            json!({ "direction": direction }),
        )
    };
    let (first, again) = (post("one", "egress"), post("one", "egress"));
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.body, again.body, "the same secret");
    let other = post("one", "ingress");
    assert_eq!((other.status, other.code()), (409, "FB-2166"));
    for malformed in ["two words", "caf\u{e9}", &"x".repeat(201)] {
        let refused = post(malformed, "egress");
        assert_eq!(refused.code(), "FB-2166", "{malformed}");
    }
    let second = post("two", "egress");
    assert_ne!(second.body["secret"], first.body["secret"]);
    world.now.store(1_700, std::sync::atomic::Ordering::Relaxed);
    let later = post("one", "egress");
    assert_eq!(
        (later.status, later.code()),
        (409, "FB-2112"),
        "forgotten, and carried out: one too many"
    );
    let keys = world.ask(&owner, "GET", path, Value::Null);
    assert_eq!(keys.body["items"].as_array().map(Vec::len), Some(3));
}

#[test]
fn what_is_refused_makes_no_key_and_what_changes_nothing_keeps_its_tag() {
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    let keys = "/v1/accounts/a/environments/e/endpoints/pump/keys";
    let before = world.service.catalog();
    let body = json!({ "direction": "egress" });
    let refused = world.ask(&owner, "POST", &format!("{keys}?wait=banana"), body);
    assert_eq!(refused.code(), "FB-2115", "{}", refused.body);
    assert_eq!(world.service.catalog(), before);
    let channel = "/v1/accounts/a/environments/e/channels/readings";
    let first = world.ask(&owner, "PATCH", channel, json!({ "priority": "low" }));
    world.ask(&owner, "POST", "/v1/accounts", json!({ "name": "c" }));
    let same = world.ask(&owner, "PATCH", channel, json!({ "priority": "low" }));
    assert_eq!(same.header("etag"), first.header("etag"));
    let made = world.ask(
        &owner,
        "POST",
        "/v1/tokens",
        json!({ "name": "c", "role": "owner", "account": "c", "expires": "1970-01-01T00:30:00Z" }),
    );
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(
        world
            .ask(&owner, "DELETE", "/v1/accounts/c", Value::Null)
            .status,
        200
    );
    let gone = world.ask(&owner, "GET", "/v1/tokens/c", Value::Null);
    assert_eq!(gone.status, 404, "its token goes with it: {}", gone.body);
}

#[test]
fn another_token_of_the_same_name_is_not_told_the_answers_of_the_first() {
    let world = world();
    let ask = |token: &str| {
        let body = json!({ "name": "new", "role": "viewer", "expires": "1970-01-01T00:30:00Z" });
        world.ask_with(
            token,
            "POST",
            "/v1/tokens",
            "idempotency-key: one\r\n",
            body,
        )
    };
    let first = world.token("ops", Role::Owner, None);
    assert_eq!(ask(&first).status, 201);
    assert_eq!(ask(&first).status, 201, "the same one is");
    let other = world.token("other", Role::Owner, None);
    let deleted = world.ask(&other, "DELETE", "/v1/tokens/ops", Value::Null);
    assert_eq!(deleted.status, 200);
    let second = world.token("ops", Role::Owner, Some("b"));
    let told = ask(&second);
    assert_eq!(told.code(), "FB-2152", "{}", told.body);
    assert!(told.body["token"].is_null());
}

#[test]
fn a_document_is_compared_and_applied_and_the_log_tells_of_it() {
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    let document = world
        .ask(&owner, "GET", "/v1/export?secrets=sealed", Value::Null)
        .body;
    let mut changed = document.clone();
    changed["channels"][0]["priority"] = "low".into();
    let body = |document: &Value, dry: bool| json!({ "document": document, "dry_run": dry });
    let same = world.ask(&owner, "POST", "/v1/apply", body(&document, true));
    assert_eq!(same.body["differences"], json!([]), "{}", same.body);
    let told = world.ask(&owner, "POST", "/v1/apply", body(&changed, true));
    let differences = told.body["differences"].as_array().expect("a list");
    assert_eq!(
        (differences.len(), &differences[0]["action"]),
        (1, &json!("change"))
    );
    let before = world.service.catalog().version;
    let applied = world.ask(&owner, "POST", "/v1/apply", body(&changed, false));
    assert_eq!(
        applied.body["version"],
        json!(before + 1),
        "{}",
        applied.body
    );
    let lines = world
        .ask(&owner, "GET", "/v1/audit?limit=1000", Value::Null)
        .body;
    let last = lines["items"]
        .as_array()
        .and_then(|lines| lines.last())
        .expect("a line")
        .clone();
    assert_eq!(
        (&last["actor"], &last["action"], &last["name"]),
        (&json!("owner"), &json!("apply"), &json!("a/e/readings"))
    );
    assert_eq!(
        (&last["before"]["priority"], &last["after"]["priority"]),
        (&Value::Null, &json!("low"))
    );
    let verdict = world.ask(&owner, "GET", "/v1/audit/verify", Value::Null);
    assert_eq!(verdict.body["faults"], json!([]));
}

#[test]
fn a_document_is_applied_at_the_version_it_was_compared_with_or_not_at_all() {
    let world = world();
    let token = world.token("t", Role::Admin, Some("a"));
    let apply = |more: Value| {
        let mut order = json!({ "document": { "accounts": [{ "name": "a" }] }, "prune": true });
        for (key, value) in more.as_object().expect("a table") {
            order[key] = value.clone();
        }
        world.ask(&token, "POST", "/v1/apply", order)
    };
    let looked = apply(json!({ "dry_run": true }));
    let version = looked.body["version"].clone();
    let made = world.ask(
        &token,
        "POST",
        "/v1/accounts/a/environments/e/endpoints",
        json!({ "name": "a/e/new" }),
    );
    assert_eq!(made.status, 201, "{:?}", made.body);
    let refused = apply(json!({ "if_version": version }));
    assert_eq!((refused.status, refused.code()), (412, "FB-2140"));
    let there = "/v1/accounts/a/environments/e/endpoints/new";
    assert_eq!(world.ask(&token, "GET", there, Value::Null).status, 200);
    let now = apply(json!({ "dry_run": true })).body["version"].clone();
    assert_eq!(apply(json!({ "if_version": now })).status, 200);
    assert_eq!(world.ask(&token, "GET", there, Value::Null).status, 404);
}
