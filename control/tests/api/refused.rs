//! What is refused for want of a right leaves a trace: a count by reason, and a line that tells nothing it should not.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use control::api::{Listen, Serving, Tell, serve};
use control::model::Role;
use serde_json::{Value, json};

use super::{World, world};

/// Stands where a caller may put what it likes.
const CANARY: &str = "canary";

/// A served control plane that tells its lines to the test.
fn telling() -> (World, Serving, Receiver<String>) {
    let mut world = world();
    let (sender, lines) = channel();
    let tell: Tell = Arc::new(
        move |event: &'static str, fields: &[(&str, &dyn Display)]| {
            let fields = fields
                .iter()
                .map(|(name, value)| format!(" {name}={value}"));
            let line = format!("{event}{}", fields.collect::<String>());
            // The test may be done.
            let _ = sender.send(line);
        },
    );
    let address: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let listen = Listen {
        tell: Some(tell),
        ..address.into()
    };
    let serving = serve(listen, Arc::clone(&world.service)).expect("served");
    world.address = serving.address();
    (world, serving, lines)
}

fn next(lines: &Receiver<String>) -> String {
    let line = lines.recv_timeout(Duration::from_secs(60));
    line.expect("a line")
}

#[test]
fn each_refusal_is_told_by_who_whence_and_what_for_and_no_word_of_the_caller_s() {
    let (world, serving, lines) = telling();
    let viewer = world.token("looks", Role::Viewer, Some("a"));
    let all = world.token("all", Role::Owner, None);
    let made_up = format!("fbt_{CANARY}");
    let no_token = world.raw(
        "GET",
        "/v1/accounts/canary?canary=canary",
        "canary: canary\r\n",
        b"",
    );
    assert_eq!(no_token.status, 401);
    for (token, method, path, body, told) in [
        (
            &made_up,
            "GET",
            "/v1/accounts/canary",
            Value::Null,
            (401, "reason=token code=FB-2150 who=-"),
        ),
        (
            &viewer,
            "PUT",
            "/v1/accounts/a/environments/e/channels/canary",
            json!({ "canary": "canary" }),
            (403, "reason=role code=FB-2151 who=looks"),
        ),
        (
            &viewer,
            "GET",
            "/v1/accounts/canary",
            Value::Null,
            (403, "reason=scope code=FB-2152 who=looks"),
        ),
    ] {
        let answer = world.ask(token, method, path, body);
        assert_eq!(answer.status, told.0, "{path}");
        let line = loop {
            let line = next(&lines);
            if !line.contains("no_token") {
                break line;
            }
            assert_eq!(
                line,
                "api_refused reason=no_token code=FB-2150 who=- address=127.0.0.1 method=GET route=/v1/accounts/{account}"
            );
        };
        assert!(line.contains(told.1), "{line}");
        assert!(
            line.contains(&format!("method={method} route=/v1/")),
            "{line}"
        );
        assert!(!line.contains(CANARY), "{line}");
    }
    // What is answered, or refused for another reason, leaves none.
    assert_eq!(
        world
            .ask(&viewer, "GET", "/v1/accounts/a", Value::Null)
            .status,
        200
    );
    assert_eq!(
        world
            .ask(&all, "GET", "/v1/accounts/none", Value::Null)
            .status,
        404
    );
    let status = world.ask(&all, "GET", "/v1/status", Value::Null).body;
    let counts = json!({ "no_token": 1, "token": 1, "role": 1, "scope": 1 });
    assert_eq!(status["refused"], counts);
    let own = world.ask(&viewer, "GET", "/v1/status", Value::Null).body;
    assert_eq!(own["refused"], Value::Null, "they are of all accounts");
    // Whose a token was is told, though it opens nothing any more.
    world.now.store(3_000, Ordering::Relaxed);
    assert_eq!(
        world
            .ask(&viewer, "GET", "/v1/accounts/a", Value::Null)
            .status,
        401
    );
    let line = next(&lines);
    assert!(
        line.contains("reason=token code=FB-2150 who=looks"),
        "{line}"
    );
    serving.end();
    assert!(lines.try_recv().is_err(), "nothing else was told");
}

#[test]
fn of_a_flood_every_refusal_is_told_or_counted() {
    let (world, serving, lines) = telling();
    let asked = 60;
    for _ in 0..asked {
        assert_eq!(world.raw("GET", "/v1/status", "", b"").status, 401);
    }
    let (mut told, mut counted) = (0, 0);
    while told + counted < asked {
        let line = next(&lines);
        match line.split_once("count=") {
            None => told += 1,
            Some((_, count)) => counted += count.parse::<u64>().expect("a count"),
        }
    }
    assert_eq!(told + counted, asked);
    serving.end();
}
