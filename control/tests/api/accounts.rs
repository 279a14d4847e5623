//! What one account's tokens learn and change of another account: nothing. Every operation of the served document is asked with names of
//! things that the other account has, and with names that nobody has, and the answers are the same, letter by letter.

use control::model::Role;
use control::plan;
use control::service::{Apply, Caller};
use serde_json::{Value, json};

use super::{Answer, World, world};

/// Another account: its names, and those that stand for them where there is nothing, are alike but for one word each.
const THEIRS: &str = r#"
[[accounts]]
name = "bravo"
[[environments]]
name = "bravo/live"
[[hubs]]
name = "bravo/live/hub-secret"
[[channels]]
name = "bravo/live/channel-secret"
id = 777
[[endpoints]]
name = "bravo/live/endpoint-secret"
id = 888
[[endpoints.keys]]
id = 1
name = "key-secret"
direction = "ingress"
secret = "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
[[endpoints.grants]]
channel = "channel-secret"
allow = "send"
"#;

/// Whose names are asked for: something that is there, nothing within the same account or environment, an account that is not there.
const ASKED: [[&str; 3]; 4] = [
    ["bravo", "live", "secret"],
    ["bravo", "live", "absent"],
    ["bravo", "none", "absent"],
    ["never", "live", "absent"],
];

const ROLES: [Role; 4] = [Role::Viewer, Role::Operator, Role::Admin, Role::Owner];

/// Conditions of a change, which would tell of the state of what is there.
const HEADERS: [&str; 4] = [
    "",
    "if-match: *\r\n",
    "if-match: \"999\"\r\n",
    "if-none-match: *\r\n",
];

fn with_theirs() -> World {
    let world = world();
    let model = plan::read(THEIRS, "plan").expect("a plan");
    let apply = Apply {
        model,
        prune: false,
        create: false,
    };
    let applied = world.service.apply(&Caller::local(), &apply);
    applied.expect("applied");
    world.token("token-secret", Role::Owner, Some("bravo"));
    world
}

/// An operation of the document.
struct Operation {
    method: String,
    path: String,
    body: Option<String>,
}

/// All of them, as the document has them.
fn operations(world: &World) -> Vec<Operation> {
    let document = world.raw("GET", "/v1/openapi.json", "", b"").body;
    let paths = document["paths"].as_object().expect("paths");
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item.as_object().expect("operations");
        let known = ["get", "post", "put", "patch", "delete"];
        let methods = methods
            .iter()
            .filter(|(name, _)| known.contains(&name.as_str()));
        let one = |(method, operation): (&String, &Value)| {
            let content = operation["requestBody"]["content"].as_object();
            let first = content.and_then(|content| content.values().next());
            let schema = first.and_then(|one| one["schema"]["$ref"].as_str());
            let body = schema.and_then(|name| name.rsplit('/').next());
            Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                body: body.map(str::to_owned),
            }
        };
        methods.map(one).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

fn fill(path: &str, [account, environment, word]: [&str; 3]) -> String {
    let noun = match path {
        path if path.contains("/hubs") => "hub",
        path if path.contains("/channels") => "channel",
        path if path.starts_with("/v1/tokens") => "token",
        _ => "endpoint",
    };
    path.replace("{account}", account)
        .replace("{environment}", environment)
        .replace("{name}", &format!("{noun}-{word}"))
        .replace("{node}", &format!("node-{word}"))
        .replace("{key}", &format!("key-{word}"))
        .replace("{allow}", "send")
        .replace("{channel}", &format!("channel-{word}"))
}

fn body(schema: Option<&str>, word: &str) -> Value {
    match schema {
        None => Value::Null,
        Some("KeyOrder") => json!({ "direction": "ingress", "name": format!("key-{word}") }),
        Some("KeyEnd") => json!({ "expires": null }),
        Some("Rotation") => json!({ "direction": "ingress", "overlap": "1h" }),
        Some("TokenOrder") => json!({ "name": "mine", "role": "viewer", "account": "a" }),
        Some("Apply") => json!({ "document": {} }),
        Some(patch) if patch.ends_with("Patch") => json!({ "id": 5 }),
        Some(put) if put.ends_with("Put") => json!({}),
        Some(_) => json!({ "name": format!("thing-{word}") }),
    }
}

/// What was said, but for the names that were asked for, and the moment.
fn said(answer: &Answer) -> String {
    let lines = answer.head.lines();
    let head: Vec<&str> = lines
        .filter(|line| !line.to_lowercase().starts_with("date:"))
        .collect();
    let mut text = format!("{}\n{}", head.join("\n"), answer.body);
    for word in ["bravo", "never", "live", "none", "secret", "absent"] {
        text = text.replace(word, "*");
    }
    text
}

#[test]
fn by_no_operation_do_things_of_another_account_differ_from_things_that_are_not_there() {
    let world = with_theirs();
    let before = world.service.catalog();
    let operations = operations(&world);
    assert_eq!(operations.len(), control::api::routes().count());
    let mut asked = 0;
    for role in ROLES {
        let token = world.token(&format!("of-a-{}", role.name()), role, Some("a"));
        let tokens = world.service.catalog();
        let named =
            |one: &&Operation| one.path.contains("{account}") || one.path.contains("{name}");
        for operation in operations.iter().filter(named) {
            for headers in HEADERS {
                let ask = |names: [&str; 3]| {
                    let (method, path) = (&operation.method, fill(&operation.path, names));
                    let body = body(operation.body.as_deref(), names[2]);
                    let answer = world.ask_with(&token, method, &path, headers, body);
                    assert!(answer.status >= 400, "{method} {path}: {answer:?}");
                    said(&answer)
                };
                let theirs = ask(ASKED[0]);
                for nobodys in &ASKED[1..] {
                    let (method, path) = (&operation.method, &operation.path);
                    assert_eq!(theirs, ask(*nobodys), "{role:?} {headers}{method} {path}");
                    asked += 1;
                }
            }
        }
        assert_eq!(world.service.catalog(), tokens, "{role:?}: nothing changed");
    }
    assert!(asked > 1_000, "{asked}");
    let untouched = |name: &str| !name.starts_with("of-a-");
    let after = world.service.catalog();
    let things = after.things.iter();
    let things = things.filter(|((_, name), _)| untouched(name));
    assert!(things.eq(before.things.iter()));
}

#[test]
fn what_is_listed_exported_or_told_names_nothing_of_another_account() {
    let world = with_theirs();
    for role in ROLES {
        let token = world.token(&format!("of-a-{}", role.name()), role, Some("a"));
        for operation in operations(&world) {
            if operation.method != "GET" || operation.path == "/v1/openapi.json" {
                continue;
            }
            let path = operation
                .path
                .replace("{account}", "a")
                .replace("{environment}", "e")
                .replace("{channel}", "readings")
                .replace("{allow}", "send")
                .replace("{key}", "primary")
                .replace("{name}", "pump")
                .replace("{node}", "north");
            for query in ["", "?limit=1000", "?limit=1", "?within=bravo", "?after=0"] {
                let answer = world.ask(&token, "GET", &format!("{path}{query}"), Value::Null);
                let text = answer.body.to_string();
                let asked = query.contains("bravo") && answer.status >= 400;
                let names = text.contains("secret\"") || text.contains("-secret");
                let told = names || (text.contains("bravo") && !asked);
                assert!(!told, "{role:?} {path}{query}: {text}");
            }
        }
    }
}

#[test]
fn nothing_of_one_s_own_leads_to_a_channel_hub_or_token_of_another_account_or_tells_that_it_is_there()
 {
    let world = with_theirs();
    let owner = world.token("owner-of-a", Role::Owner, Some("a"));
    let before = world.service.catalog();
    type Ask = fn(&str) -> (&'static str, String, Value);
    let asks: [(&str, Ask); 9] = [
        ("a grant", |word| {
            let channel = format!("bravo%2Flive%2Fchannel-{word}");
            let path = "/v1/accounts/a/environments/e/endpoints/pump/grants/receive/";
            ("PUT", format!("{path}{channel}"), json!({}))
        }),
        ("a question", |word| {
            let channel = format!("bravo%2Flive%2Fchannel-{word}");
            let path = "/v1/accounts/a/environments/e/endpoints/pump/why/receive/";
            ("GET", format!("{path}{channel}"), Value::Null)
        }),
        ("an endpoint with a grant", |word| {
            let channel = format!("bravo/live/channel-{word}");
            let path = "/v1/accounts/a/environments/e/endpoints";
            let grants = json!([{ "channel": channel, "allow": "receive" }]);
            let body = json!({ "name": "spy", "grants": grants });
            ("POST", path.to_owned(), body)
        }),
        ("a channel in a hub", |word| {
            let path = "/v1/accounts/a/environments/e/channels";
            let body = json!({ "name": "spy", "hub": format!("bravo/live/hub-{word}") });
            ("POST", path.to_owned(), body)
        }),
        ("a document with a channel", |word| {
            let name = format!("bravo/live/channel-{word}");
            let body = json!({ "document": { "channels": [{ "name": name }] } });
            ("POST", "/v1/apply".to_owned(), body)
        }),
        ("a document with an endpoint, to be compared", |word| {
            let name = format!("bravo/live/endpoint-{word}");
            let body = json!({ "document": { "endpoints": [{ "name": name }] } });
            ("POST", "/v1/apply?dry_run=true".to_owned(), body)
        }),
        ("a document that prunes", |word| {
            let name = match word {
                "secret" => "bravo",
                _ => "never",
            };
            let accounts = json!([{ "name": name }]);
            let body = json!({ "document": { "accounts": accounts }, "prune": true });
            ("POST", "/v1/apply".to_owned(), body)
        }),
        ("a token of an account", |word| {
            let account = match word {
                "secret" => "bravo",
                _ => "never",
            };
            let body = json!({ "name": "spy", "role": "viewer", "account": account });
            ("POST", "/v1/tokens".to_owned(), body)
        }),
        ("a token's end", |word| {
            ("DELETE", format!("/v1/tokens/token-{word}"), Value::Null)
        }),
    ];
    for (what, ask) in asks {
        let answers = ["secret", "absent"].map(|word| {
            let (method, path, body) = ask(word);
            let answer = world.ask(&owner, method, &path, body);
            let looks = method == "GET";
            assert!(looks || answer.status >= 400, "{what}: {answer:?}");
            if looks {
                assert_eq!(answer.body["allowed"], false, "{what}: {answer:?}");
            }
            said(&answer)
        });
        assert_eq!(answers[0], answers[1], "{what}");
    }
    assert_eq!(world.service.catalog(), before);
}

#[test]
fn an_answer_that_is_remembered_for_one_token_is_given_to_no_other() {
    let world = with_theirs();
    let theirs = world.token("owner-of-bravo", Role::Owner, Some("bravo"));
    let own = world.token("owner-of-a", Role::Owner, Some("a"));
    let once = "idempotency-key: the-same\r\n";
    let path = "/v1/accounts/bravo/environments/live/endpoints/endpoint-secret/keys";
    let order = json!({ "direction": "egress" });
    let made = world.ask_with(&theirs, "POST", path, once, order.clone());
    assert_eq!(made.status, 201, "{made:?}");
    let secret = made.body["secret"].as_str().expect("shown once").to_owned();
    let again = world.ask_with(&theirs, "POST", path, once, order.clone());
    assert_eq!(again.body["secret"].as_str(), Some(&*secret), "its own");
    for path in [path, "/v1/accounts/a/environments/e/endpoints/pump/keys"] {
        let answer = world.ask_with(&own, "POST", path, once, order.clone());
        let text = answer.body.to_string();
        assert!(!text.contains(&secret), "{path}: {text}");
        assert_eq!(
            answer.status,
            if path.contains("bravo") { 403 } else { 201 }
        );
    }
}
