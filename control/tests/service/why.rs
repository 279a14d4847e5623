//! Why something is allowed or not.

use std::sync::atomic::Ordering;

use control::diagnosis as codes;
use control::model::{Allow, Grant, Moment, Role};
use control::service::{Caller, KeyOrder, Question};
use wire::ids::Fingerprint;
use wire::route::Transport;

use super::{World, caller, document, empty};

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
transports = ["tls"]
certificates = ["0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"]
hours = ["thu 00:00-04:00", "fri 00:00-01:00"]
expires = 1970-01-02T00:30:00Z
[[endpoints.keys]]
id = 1
name = "in"
direction = "ingress"
secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
expires = 1970-01-01T01:00:00Z
[[endpoints.keys]]
id = 3
name = "late"
direction = "ingress"
secret = "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
[[endpoints.keys]]
id = 2
name = "out"
direction = "egress"
secret = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
[[endpoints.grants]]
channel = "readings"
allow = "send"
addresses = ["10.0.0.0/8"]
body_bytes_max = "1KiB"
hours = ["daily 00:00-02:00"]
expires = 1970-01-01T03:00:00Z
[[endpoints.grants]]
channel = "a/f/orders"
allow = "receive"
subscribed = false
"#;

fn world() -> World {
    let world = empty([7; 32]);
    let applied = world.service.apply(&Caller::local(), &document(PLAN));
    applied.expect("applied");
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
        at: None,
        transport: Some(Transport::Tls),
        certificate: Fingerprint::parse(&"0a".repeat(32)),
        node: None,
    }
}

/// At another time, by a key that has no end.
fn late(question: &mut Question, seconds: u64) {
    question.at = Some(seconds);
    question.key = Some("late".into());
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
    let cases: [(&str, Alter, &[&str]); 19] = [
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
            "a longer body",
            |question| question.body_bytes = Some(1_025),
            &["body"],
        ),
        (
            "another transport",
            |question| question.transport = Some(Transport::Tcp),
            &["transport"],
        ),
        (
            "another certificate",
            |question| question.certificate = Fingerprint::parse(&"0b".repeat(32)),
            &["certificate"],
        ),
        (
            "no certificate",
            |question| question.certificate = None,
            &["certificate"],
        ),
        (
            "when its key has ended",
            |question| question.at = Some(3_600),
            &["key"],
        ),
        (
            "in hours of the endpoint that are none of its grant",
            |question| late(question, 2 * 3_600),
            &["hours"],
        ),
        (
            "when its grant has ended",
            |question| late(question, 3 * 3_600),
            &["expires", "hours"],
        ),
        (
            "in hours of neither",
            |question| late(question, 4 * 3_600),
            &["hours", "expires", "hours"],
        ),
        (
            "in a good hour of the day behind it",
            |question| late(question, 24 * 3_600),
            &["expires"],
        ),
        (
            "when the endpoint has ended",
            |question| late(question, 24 * 3_600 + 1_800),
            &["expires", "expires"],
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

#[test]
fn who_receives_keeps_the_conditions_of_everything_that_comes_to_its_queue() {
    let world = world();
    let grant = |channel: &str, allow| Grant {
        channel: channel.into(),
        allow,
        ..Grant::default()
    };
    let change = |alter: fn(&mut Grant)| {
        let orders = grant("a/f/orders", Allow::Receive);
        let mut readings = grant("readings", Allow::Receive);
        alter(&mut readings);
        let local = Caller::local();
        let edit = world
            .service
            .edit_endpoint(&local, "set", "a/e/pump", None, |pump| {
                pump.grants = vec![orders, readings];
                Ok(())
            });
        edit.expect("changed");
    };
    let question = Question {
        allow: Allow::Receive,
        channel: "a/f/orders".into(),
        key: None,
        ..good()
    };
    change(|_| {});
    assert_eq!(fails(&world, &question), [""; 0]);
    change(|readings| readings.addresses = vec!["192.0.2.0/24".into()]);
    assert_eq!(fails(&world, &question), ["address"]);
    change(|readings| readings.hours = vec!["mon 00:00-01:00".into()]);
    assert_eq!(fails(&world, &question), ["hours"]);
    change(|readings| {
        readings.origins = vec!["https://b.example".into()];
        readings.subscribed = Some(false);
    });
    assert_eq!(fails(&world, &question), [""; 0], "it does not come");
    change(|readings| {
        readings.hours = vec!["mon 00:00-01:00".into()];
        readings.expires = Some(Moment::from_seconds(0));
    });
    assert_eq!(fails(&world, &question), [""; 0], "it has ended");
}

#[test]
fn a_grant_for_origins_is_refused_as_no_transport_tells_a_node_of_one() {
    let world = world();
    let local = Caller::local();
    let set = world
        .service
        .edit_endpoint(&local, "set", "a/e/pump", None, |pump| {
            pump.grants[0].origins = vec!["https://a.example".into()];
            Ok(())
        });
    set.expect("changed");
    assert_eq!(fails(&world, &good()), ["origin"]);
    let none = Question {
        origin: None,
        ..good()
    };
    assert_eq!(fails(&world, &none), ["origin"]);
}

#[test]
fn a_pair_may_sign_what_a_relay_brings_and_opens_no_session() {
    let world = world();
    let order = KeyOrder {
        name: Some("pair".into()),
        // The point of RFC 8032, section 7.1, test 1.
        public: Some("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".into()),
        ..KeyOrder::default()
    };
    let local = Caller::local();
    (world.service)
        .delete_key(&local, "a/e/pump", "late", None)
        .expect("deleted");
    (world.service)
        .add_key(&local, "a/e/pump", &order, None)
        .expect("made");
    let by_pair = Question {
        key: Some("pair".into()),
        ..good()
    };
    assert_eq!(fails(&world, &by_pair), ["key"]);
    let relayed = Question {
        transport: None,
        ..by_pair
    };
    assert_eq!(fails(&world, &relayed), [""; 0]);
}

#[test]
fn who_is_at_home_on_another_node_is_told_which_and_who_has_no_home_is_served_by_any() {
    use control::model::{Node, Thing};
    use control::service::setting;
    let world = world();
    let local = Caller::local();
    let on = |node: &str| Question {
        node: Some(node.to_owned()),
        ..good()
    };
    let unknown = world.service.why(&local, &on("north"));
    assert_eq!(unknown.expect_err("no such node").code, codes::NOT_THERE);
    for name in ["north", "south"] {
        let node = Node {
            name: name.to_owned(),
            ..Node::default()
        };
        let made = |_: &_, _: &_| Ok(vec![setting(Thing::Node(node), None)]);
        world.service.edit(&local, "create", made).expect("made");
        assert_eq!(fails(&world, &on(name)), [""; 0], "any serves it");
    }
    let set = world
        .service
        .edit_endpoint(&local, "set", "a/e/pump", None, |pump| {
            pump.home = Some("north".to_owned());
            Ok(())
        });
    set.expect("changed");
    assert_eq!(fails(&world, &good()), [""; 0], "wherever that is");
    assert_eq!(fails(&world, &on("north")), [""; 0]);
    let reasons = world.service.why(&local, &on("south")).expect("answered");
    let home = reasons.checks.iter().find(|check| check.check == "home");
    let home = home.expect("it is looked at");
    assert!(!home.passed && !reasons.allowed);
    assert_eq!(
        (&*home.seen, &*home.needed),
        ("node `south`", "node `north`, its home")
    );
}
