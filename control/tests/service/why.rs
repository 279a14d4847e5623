//! Why something is allowed or not.

use std::sync::atomic::Ordering;

use control::diagnosis as codes;
use control::model::{Allow, Role};
use control::service::{Apply, Caller, Question};

use super::{World, caller, empty, read};

const PLAN: &str = r#"
[[accounts]]
name = "a"
[[environments]]
name = "a/e"
[[environments]]
name = "a/f"
[[channels]]
name = "a/e/readings"
[[channels]]
name = "a/f/orders"
[[endpoints]]
name = "a/e/pump"
[[endpoints.keys]]
id = 1
name = "in"
direction = "ingress"
secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
expires = 1970-01-01T01:00:00Z
[[endpoints.keys]]
id = 2
name = "out"
direction = "egress"
secret = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
[[endpoints.grants]]
channel = "readings"
allow = "send"
addresses = ["10.0.0.0/8"]
origins = ["https://a.example"]
body_bytes_max = "1KiB"
[[endpoints.grants]]
channel = "a/f/orders"
allow = "receive"
subscribed = false
"#;

fn world() -> World {
    let world = empty([7; 32]);
    let model = read(PLAN);
    world
        .service
        .apply(
            &Caller::local(),
            &Apply {
                model,
                prune: false,
            },
        )
        .expect("applied");
    world
}

fn good() -> Question {
    Question {
        endpoint: "a/e/pump".into(),
        allow: Allow::Send,
        channel: "readings".into(),
        key: Some("in".into()),
        address: Some([10, 1, 2, 3].into()),
        origin: Some("https://a.example".into()),
        body_bytes: Some(1_024),
    }
}

/// The checks that fail.
fn fails(world: &World, question: &Question) -> Vec<&'static str> {
    let reasons = world
        .service
        .why(&Caller::local(), question)
        .expect("answered");
    let failed = reasons.checks.iter().filter(|check| !check.passed);
    let failed: Vec<_> = failed.map(|check| check.check).collect();
    assert_eq!(reasons.allowed, failed.is_empty());
    failed
}

#[test]
fn each_condition_is_checked_and_named_when_it_fails() {
    let world = world();
    type Alter = fn(&mut Question);
    let cases: [(&str, Alter, &[&str]); 12] = [
        ("all is well", |_| {}, &[]),
        (
            "by its full name",
            |question| question.channel = "a/e/readings".into(),
            &[],
        ),
        ("any good key", |question| question.key = None, &[]),
        (
            "a key of the other way",
            |question| question.key = Some("out".into()),
            &["key"],
        ),
        (
            "no such key",
            |question| question.key = Some("none".into()),
            &["key"],
        ),
        (
            "another address",
            |question| question.address = Some([11, 1, 2, 3].into()),
            &["address"],
        ),
        (
            "no address",
            |question| question.address = None,
            &["address"],
        ),
        (
            "another origin",
            |question| question.origin = Some("https://b.example".into()),
            &["origin"],
        ),
        ("no origin", |question| question.origin = None, &["origin"]),
        (
            "a longer body",
            |question| question.body_bytes = Some(1_025),
            &["body"],
        ),
        (
            "a channel without a grant",
            |question| question.channel = "a/f/orders".into(),
            &["grant"],
        ),
        (
            "the other way",
            |question| question.allow = Allow::Receive,
            &["key", "grant"],
        ),
    ];
    for (why, alter, want) in cases {
        let mut question = good();
        alter(&mut question);
        assert_eq!(fails(&world, &question), want, "{why}");
    }
    let heard = Question {
        allow: Allow::Receive,
        channel: "a/f/orders".into(),
        key: None,
        ..good()
    };
    assert_eq!(fails(&world, &heard), ["subscribed"]);
    world.now.store(3_600, Ordering::Relaxed);
    assert_eq!(fails(&world, &good()), ["key"], "it has expired");
}

#[test]
fn a_key_that_is_revoked_and_an_endpoint_that_is_off_are_told() {
    let world = world();
    let local = Caller::local();
    world
        .service
        .set_revoked(&local, "a/e/pump", "in", true, None)
        .expect("revoked");
    assert_eq!(fails(&world, &good()), ["key"]);
    let off = world
        .service
        .edit_endpoint(&local, "set", "a/e/pump", None, |pump| {
            pump.enabled = Some(false);
            Ok(())
        });
    off.expect("changed");
    assert_eq!(fails(&world, &good()), ["enabled", "key"]);
}

#[test]
fn nobody_is_told_of_another_account_why() {
    let world = world();
    let foreign = caller(Role::Owner, Some("b"));
    let fault = world.service.why(&foreign, &good()).expect_err("foreign");
    assert_eq!(fault.code, codes::SCOPE);
    let none = Question {
        endpoint: "a/e/none".into(),
        ..good()
    };
    let fault = world
        .service
        .why(&Caller::local(), &none)
        .expect_err("not there");
    assert_eq!(fault.code, codes::NOT_THERE);
}
