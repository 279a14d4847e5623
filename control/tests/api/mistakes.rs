//! Mistakes, each answered with what failed, what was seen, what is needed, the remedy and a code; and nonsense.

use control::api::routes;
use control::model::{Moment, Role, Token};
use control::service::Caller;
use serde_json::{Value, json};

use super::{fill, world};

/// Why, token, method, path, body; status, code, pointer.
type Case<'a> = (
    &'a str,
    &'a str,
    &'a str,
    String,
    Value,
    u16,
    &'a str,
    &'a str,
);

#[test]
fn thirty_mistakes_are_each_told_with_all_five_parts() {
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    let scoped = world.token("scoped", Role::Owner, Some("a"));
    let operator = world.token("operator", Role::Operator, None);
    let ended = Token {
        name: "ended".into(),
        role: Role::Owner,
        account: None,
        hash: String::new(),
        expires: Some(Moment::from_seconds(1_000)),
    };
    let expired = world.service.create_token(&Caller::local(), ended);
    let expired = expired.expect("made").0;
    let e = "/v1/accounts/a/environments/e";
    let pump = &format!("{e}/endpoints/pump");
    let post = "POST";
    let cases: Vec<Case<'_>> = vec![
        (
            "no such path",
            &owner,
            "GET",
            "/v1/nothing".into(),
            Value::Null,
            404,
            "FB-2163",
            "",
        ),
        (
            "no such method",
            &owner,
            "DELETE",
            "/v1/status".into(),
            Value::Null,
            405,
            "FB-2164",
            "",
        ),
        (
            "no token",
            "",
            "GET",
            "/v1/status".into(),
            Value::Null,
            401,
            "FB-2150",
            "",
        ),
        (
            "an unknown token",
            "fbt_x",
            "GET",
            "/v1/status".into(),
            Value::Null,
            401,
            "FB-2150",
            "",
        ),
        (
            "an expired token",
            &expired,
            "GET",
            "/v1/status".into(),
            Value::Null,
            401,
            "FB-2150",
            "",
        ),
        (
            "a low role",
            &operator,
            post,
            "/v1/accounts".into(),
            json!({ "name": "c" }),
            403,
            "FB-2151",
            "",
        ),
        (
            "a low role for a grant",
            &operator,
            "PATCH",
            pump.clone(),
            json!({ "grants": [] }),
            403,
            "FB-2151",
            "",
        ),
        (
            "another account",
            &scoped,
            "GET",
            "/v1/accounts/b".into(),
            Value::Null,
            403,
            "FB-2152",
            "",
        ),
        (
            "an account of one's own",
            &scoped,
            post,
            "/v1/accounts".into(),
            json!({ "name": "c" }),
            403,
            "FB-2152",
            "",
        ),
        (
            "an unknown account",
            &owner,
            "GET",
            "/v1/accounts/c".into(),
            Value::Null,
            404,
            "FB-2141",
            "",
        ),
        (
            "a slip in a name",
            &owner,
            "GET",
            format!("{e}/channels/raedings"),
            Value::Null,
            404,
            "FB-2141",
            "",
        ),
        (
            "an unknown key",
            &owner,
            post,
            format!("{pump}/keys/primry/revoke"),
            Value::Null,
            404,
            "FB-2141",
            "",
        ),
        (
            "an unknown grant",
            &owner,
            "DELETE",
            format!("{pump}/grants/receive/readings"),
            Value::Null,
            404,
            "FB-2141",
            "",
        ),
        (
            "a name that is taken",
            &owner,
            post,
            format!("{e}/channels"),
            json!({ "name": "readings" }),
            409,
            "FB-2142",
            "",
        ),
        (
            "no name",
            &owner,
            post,
            format!("{e}/channels"),
            json!({}),
            400,
            "FB-2160",
            "",
        ),
        (
            "a name with a blank",
            &owner,
            post,
            format!("{e}/channels"),
            json!({ "name": "a b" }),
            422,
            "FB-2105",
            "/name",
        ),
        (
            "another name than the path's",
            &owner,
            "PUT",
            format!("{e}/channels/x"),
            json!({ "name": "a/e/y" }),
            422,
            "FB-2105",
            "",
        ),
        (
            "an unknown field",
            &owner,
            post,
            format!("{e}/hubs"),
            json!({ "name": "h", "partition": 3 }),
            422,
            "FB-2102",
            "",
        ),
        (
            "a word for a number",
            &owner,
            post,
            format!("{e}/hubs"),
            json!({ "name": "h", "partitions": "3" }),
            422,
            "FB-2101",
            "",
        ),
        (
            "a number out of range",
            &owner,
            post,
            format!("{e}/hubs"),
            json!({ "name": "h", "partitions": 0 }),
            422,
            "FB-2104",
            "/partitions",
        ),
        (
            "a word out of its list",
            &owner,
            post,
            format!("{e}/hubs"),
            json!({ "name": "h", "ack": "durabel" }),
            422,
            "FB-2104",
            "",
        ),
        (
            "an amount that is none",
            &owner,
            post,
            format!("{e}/hubs"),
            json!({ "name": "h", "retention_age": "7 weeks" }),
            422,
            "FB-2115",
            "",
        ),
        (
            "a channel in no hub",
            &owner,
            post,
            format!("{e}/channels"),
            json!({ "name": "c", "hub": "none" }),
            409,
            "FB-2107",
            "/hub",
        ),
        (
            "a grant to a missing channel",
            &owner,
            "PUT",
            format!("{pump}/grants/send/raedings"),
            json!({}),
            409,
            "FB-2107",
            "/grants/1/channel",
        ),
        (
            "a bad address range",
            &owner,
            "PUT",
            format!("{pump}/grants/send/readings"),
            json!({ "addresses": ["10.0.0.1/8"] }),
            422,
            "FB-2114",
            "/grants/0/addresses/0",
        ),
        (
            "a grant into another account",
            &owner,
            "PATCH",
            pump.clone(),
            json!({ "grants": [{ "channel": "b/e/readings", "allow": "send" }] }),
            409,
            "FB-2119",
            "/grants/0/channel",
        ),
        (
            "a public key that is none",
            &owner,
            post,
            format!("{pump}/keys"),
            json!({ "direction": "ingress", "public": "x" }),
            422,
            "FB-2111",
            "/keys/1/public",
        ),
        (
            "an expiry that is none",
            &owner,
            post,
            format!("{pump}/keys/primary/expire"),
            json!({ "expires": "soon" }),
            422,
            "FB-2116",
            "/keys/0/expires",
        ),
        (
            "keys with their endpoint",
            &owner,
            "PATCH",
            pump.clone(),
            json!({ "keys": [] }),
            422,
            "FB-2104",
            "",
        ),
        (
            "what is still needed",
            &owner,
            "DELETE",
            format!("{e}/channels/readings"),
            Value::Null,
            409,
            "FB-2107",
            "/grants/0/channel",
        ),
        (
            "a query that is not known",
            &owner,
            "GET",
            "/v1/accounts?page=2".into(),
            Value::Null,
            400,
            "FB-2161",
            "",
        ),
        (
            "a flag that is none",
            &owner,
            "DELETE",
            "/v1/accounts/a?cascade=perhaps".into(),
            Value::Null,
            400,
            "FB-2161",
            "",
        ),
        (
            "a token for an unknown account",
            &owner,
            post,
            "/v1/tokens".into(),
            json!({ "name": "t", "role": "viewer", "account": "c", "expires": "1970-01-01T00:30:00Z" }),
            409,
            "FB-2107",
            "",
        ),
        (
            "nothing where everything is replaced",
            &owner,
            "PUT",
            "/v1/accounts/a".into(),
            Value::Null,
            400,
            "FB-2160",
            "",
        ),
        (
            "an end of a key that is not said",
            &owner,
            post,
            format!("{pump}/keys/primary/expire"),
            json!({}),
            422,
            "FB-2103",
            "",
        ),
        (
            "values by their place",
            &owner,
            "PUT",
            "/v1/accounts/a".into(),
            json!({ "limits": [1, 2] }),
            422,
            "FB-2101",
            "",
        ),
        (
            "a grant by places within a document",
            &owner,
            post,
            "/v1/apply".into(),
            json!({ "document": { "endpoints": [{ "name": "a/e/x", "grants": [["readings", "send"]] }] } }),
            422,
            "FB-2101",
            "",
        ),
        (
            "a key with an empty name",
            &owner,
            post,
            format!("{pump}/keys"),
            json!({ "direction": "ingress", "name": "" }),
            422,
            "FB-2105",
            "",
        ),
        (
            "a wait of any unit",
            &owner,
            "PATCH",
            "/v1/accounts/a?wait=5".into(),
            json!({}),
            422,
            "FB-2115",
            "",
        ),
        (
            "more bytes than are counted exactly",
            &owner,
            "PATCH",
            "/v1/accounts/a".into(),
            json!({ "bytes_per_second": 1_u64 << 53 }),
            422,
            "FB-2115",
            "",
        ),
        (
            "why not, with a name that no channel can have",
            &owner,
            "GET",
            "/v1/accounts/a/environments/e/endpoints/pump/why/send/a%2Cb".into(),
            Value::Null,
            422,
            "FB-2105",
            "",
        ),
        (
            "a list for a body",
            &owner,
            post,
            "/v1/accounts".into(),
            json!([]),
            400,
            "FB-2160",
            "",
        ),
    ];
    let before = world.service.catalog();
    assert!(cases.len() >= 30, "{} mistakes", cases.len());
    println!("{} mistakes", cases.len());
    for (why, token, method, path, body, status, code, pointer) in cases {
        let answer = world.ask(token, method, &path, body);
        assert_eq!(
            (answer.status, answer.code()),
            (status, code),
            "{why}: {}",
            answer.body
        );
        assert_eq!(
            answer.body["pointer"].as_str().unwrap_or(""),
            pointer,
            "{why}"
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{why}"
        );
        for part in ["type", "title", "detail", "seen", "needed", "remedy"] {
            let text = answer.body[part].as_str().unwrap_or("");
            assert!(!text.is_empty(), "{why}: no {part} in {}", answer.body);
        }
        assert_eq!(answer.body["status"], json!(status), "{why}");
    }
    assert_eq!(
        world.service.catalog(),
        before,
        "nothing of all this was done"
    );
}

#[test]
fn a_body_that_is_no_json_or_of_another_kind_is_refused() {
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    let headers = |kind: &str| format!("authorization: Bearer {owner}\r\ncontent-type: {kind}\r\n");
    for (kind, body, status) in [
        ("application/json", &b"{"[..], 400),
        ("application/json", b"\xff", 400),
        ("text/plain", b"{\"name\": \"c\"}", 415),
        ("application/json; charset=utf-8", b"{\"name\": \"c\"}", 201),
    ] {
        let answer = world.raw("POST", "/v1/accounts", &headers(kind), body);
        assert_eq!(answer.status, status, "{kind}: {}", answer.body);
    }
}

/// How many bodies each route is sent.
const BODIES: &str = "FOREBAY_API_FUZZ_BODIES";

#[test]
fn no_nonsense_breaks_a_route() {
    let bodies = std::env::var(BODIES).map_or(20, |count| count.parse().expect("a count"));
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    let replay = format!(
        "seed {seed}; {BODIES}={bodies} cargo test -p forebay-control --test api no_nonsense"
    );
    let world = world();
    let owner = world.token("owner", Role::Owner, None);
    let mut asked = 0;
    for route in routes().filter(|route| route.body.is_some()) {
        for _ in 0..bodies {
            let body = nonsense(3);
            let answer = world.ask(&owner, route.method.name(), &fill(route.path), body.clone());
            let (method, path) = (route.method.name(), route.path);
            assert!(
                answer.status < 500,
                "{method} {path} {body}: {}; {replay}",
                answer.body
            );
            asked += 1;
        }
    }
    let verdict = world
        .service
        .with_store(|store| store.verify_audit())
        .expect("readable");
    assert_eq!(verdict.faults, Vec::<String>::new(), "{replay}");
    println!("{asked} bodies, {replay}");
}

/// A JSON value of the words that the API knows.
fn nonsense(depth: u8) -> Value {
    const WORDS: [&str; 24] = [
        "name",
        "id",
        "hub",
        "ack",
        "grants",
        "keys",
        "channel",
        "allow",
        "send",
        "direction",
        "ingress",
        "expires",
        "document",
        "accounts",
        "a",
        "a/e/x",
        "queue",
        "overlap",
        "1h",
        "partitions",
        "role",
        "owner",
        "enabled",
        "",
    ];
    let word = || fastrand::choice(WORDS).expect("some");
    match fastrand::u8(..if depth == 0 { 5 } else { 8 }) {
        0 => Value::Null,
        1 => fastrand::bool().into(),
        2 => fastrand::i64(..).into(),
        3 => fastrand::f64().into(),
        4 => word().into(),
        5 => (0..fastrand::usize(..4))
            .map(|_| nonsense(depth - 1))
            .collect(),
        _ => {
            let fields =
                (0..fastrand::usize(..6)).map(|_| (word().to_owned(), nonsense(depth - 1)));
            Value::Object(fields.collect())
        }
    }
}
