//! The model as a plan file, as JSON and compiled: whatever way it takes, the table says the same.

use control::compile::{Compiled, compile};
use control::diagnosis as codes;
use control::keys::new_secret;
use control::model::{Model, Secret};
use control::plan;
use control::seal::MasterKey;
use wire::ids::ChannelId;

const EVERYTHING: &str = r#"
queue_groups = 9
[[nodes]]
name = "north"
id = 5
enabled = false
address = "north.example:7411"
[[nodes]]
name = "south"
[[accounts]]
name = "a"
messages_per_second = 70
[[accounts]]
name = "b"
bytes_per_second = "1MiB"
[[environments]]
name = "a/e"
[[environments]]
name = "b/e"
[[hubs]]
name = "a/e/fast"
id = 12
partitions = 2
ack = "local"
segment_bytes = "8MiB"
retention_bytes = "1GiB"
retention_age = "90s"
[[channels]]
name = "a/e/readings"
id = 77
hub = "fast"
priority = "low"
[[channels]]
name = "b/e/readings"
[[endpoints]]
name = "a/e/pump"
home = "north"
relay = true
enabled = false
messages_per_second = 50
bytes_per_second = "64KiB"
transports = ["tls", "quic"]
hours = ["mon-fri 08:00-17:30"]
expires = 2028-01-01T00:00:00Z
certificates = ["0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"]
[[endpoints.keys]]
id = 3
name = "old"
direction = "ingress"
secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
expires = 2027-01-01T01:00:00+01:00
revoked = true
[[endpoints.keys]]
id = 4
name = "new"
direction = "egress"
secret = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
[[endpoints.grants]]
channel = "a/e/readings"
allow = "send"
addresses = ["10.0.0.0/8", "::1"]
origins = ["https://example.org"]
hours = ["daily 06:00-22:00", "sat 22:00-23:00"]
expires = 2028-02-01T00:00:00Z
bytes_per_second = "32KiB"
messages_per_second = 100
body_bytes_max = "1KiB"
[[endpoints.grants]]
channel = "readings"
allow = "receive"
[endpoints.queue]
messages_max = 10
bytes_max = "1MiB"
age_max = "1h"
on_full = "drop-oldest"
lock = "500ms"
deliveries_max = 0
"#;

fn master() -> MasterKey {
    MasterKey::new(&[7; 32])
}

fn read(text: &str) -> Model {
    plan::read(text, "plan.toml").expect("the test writes plans")
}

fn compiled(model: &Model) -> Compiled {
    compile(model, 1, Some(&master())).expect("a good model")
}

fn sealed(mut model: Model) -> Model {
    for endpoint in &mut model.endpoints {
        endpoint.seal(&master());
    }
    model
}

#[test]
fn a_sealed_model_written_as_toml_or_json_and_read_again_gives_the_same_table() {
    let plain = read(EVERYTHING);
    let want = compiled(&plain).digest;
    let model = sealed(plain);
    let text = plan::write(&model).expect("it has a form in TOML");
    assert!(!text.contains("AAAA="), "no secret is written: {text}");
    assert_eq!(read(&text), model);
    let json = serde_json::to_string(&model).expect("it has a form in JSON");
    let back: Model = serde_json::from_str(&json).expect("what was written is read");
    assert_eq!(back, model);
    assert_eq!(compiled(&back).digest, want);
}

#[test]
fn the_order_of_writing_does_not_change_the_digest_and_every_value_does() {
    let model = sealed(read(EVERYTHING));
    let want = compiled(&model).digest;
    let mut turned = model.clone();
    turned.nodes.reverse();
    turned.accounts.reverse();
    turned.environments.reverse();
    turned.channels.reverse();
    turned.endpoints[0].keys.reverse();
    turned.endpoints[0].grants.reverse();
    turned.endpoints[0].grants[1].addresses.reverse();
    turned.endpoints[0].grants[1].hours.reverse();
    turned.endpoints[0].transports.reverse();
    assert_eq!(compiled(&turned).digest, want);
    let other = compile(&model, 2, Some(&master())).expect("good").digest;
    assert_eq!(other, want, "an epoch is not what a table says");
    for (from, to) in [
        ("queue_groups = 9", "queue_groups = 8"),
        ("id = 5", "id = 6"),
        ("north.example:7411", "north.example:7412"),
        ("home = \"north\"", "home = \"south\""),
        ("home = \"north\"\n", ""),
        ("messages_per_second = 70", "messages_per_second = 71"),
        ("\"1MiB\"\n[[env", "\"2MiB\"\n[[env"),
        ("id = 12", "id = 13"),
        ("partitions = 2", "partitions = 3"),
        ("\"local\"", "\"durable\""),
        ("\"8MiB\"", "\"16MiB\""),
        ("\"1GiB\"", "\"2GiB\""),
        ("\"90s\"", "\"91s\""),
        ("id = 77", "id = 78"),
        ("hub = \"fast\"", "hub = \"default\""),
        ("\"low\"", "\"normal\""),
        ("relay = true", "relay = false"),
        ("enabled = false", "enabled = true"),
        ("messages_per_second = 50", "messages_per_second = 51"),
        ("\"64KiB\"", "\"65KiB\""),
        ("[\"0a0a", "[\"0b0a"),
        ("\"quic\"]", "\"quic\", \"tcp\"]"),
        ("mon-fri", "mon-sat"),
        ("08:00", "07:59"),
        ("17:30", "17:31"),
        ("2028-01-01", "2028-01-02"),
        ("06:00-22:00", "06:00-22:01"),
        ("2028-02-01", "2028-02-02"),
        ("\"32KiB\"", "\"33KiB\""),
        ("id = 3", "id = 5"),
        ("\"old\"", "\"older\""),
        ("\"egress\"", "\"ingress\""),
        ("\"AQAA", "\"AgAA"),
        ("01:00:00+01:00", "01:00:01+01:00"),
        ("revoked = true", "revoked = false"),
        (
            "allow = \"receive\"",
            "allow = \"receive\"\nsubscribed = false",
        ),
        ("10.0.0.0/8", "10.0.0.0/9"),
        ("example.org", "example.com"),
        ("messages_per_second = 100", "messages_per_second = 101"),
        ("\"1KiB\"", "\"2KiB\""),
        ("messages_max = 10", "messages_max = 11"),
        ("bytes_max = \"1MiB\"\nage", "bytes_max = \"2MiB\"\nage"),
        ("\"1h\"", "\"2h\""),
        ("\"drop-oldest\"", "\"park\""),
        ("\"500ms\"", "\"501ms\""),
        ("deliveries_max = 0", "deliveries_max = 1"),
    ] {
        let text = EVERYTHING.replace(from, to);
        assert_ne!(text, EVERYTHING, "{from} is written");
        assert_ne!(compiled(&read(&text)).digest, want, "{to}");
    }
}

#[test]
fn a_grant_into_another_account_is_refused() {
    for name in ["b/e/readings", "b/e/none"] {
        let text = EVERYTHING.replace("\"readings\"\nallow", &format!("\"{name}\"\nallow"));
        let found = compile(&read(&text), 1, None).expect_err(name);
        assert_eq!(found[0].pointer, "/endpoints/0/grants/1/channel");
        assert_eq!(found[0].fault.code, codes::FOREIGN, "{}", found[0].fault);
    }
}

#[test]
fn a_channel_cannot_be_in_a_hub_of_another_environment() {
    let text = EVERYTHING.replace(
        "name = \"b/e/readings\"",
        "name = \"b/e/readings\"\nhub = \"a/e/fast\"",
    );
    let found = compile(&read(&text), 1, None).expect_err("foreign hub");
    assert_eq!(found[0].fault.code, codes::UNKNOWN_NAME);
}

#[test]
fn who_is_not_subscribed_hears_nothing_though_it_may() {
    let text = EVERYTHING.replace(
        "allow = \"receive\"",
        "allow = \"receive\"\nsubscribed = false",
    );
    let heard = |text: &str| {
        let table = compiled(&read(text)).table;
        assert!(table.channel(ChannelId(77)).is_some());
        table.subscribers(ChannelId(77)).count()
    };
    assert_eq!((heard(EVERYTHING), heard(&text)), (1, 0));
    let text = EVERYTHING.replace("allow = \"send\"", "allow = \"send\"\nsubscribed = true");
    let found = compile(&read(&text), 1, None).expect_err("nothing to subscribe");
    assert_eq!(found[0].fault.code, codes::VALUE);
}

#[test]
fn a_bound_that_holds_for_nothing_is_refused_on_a_grant_to_receive() {
    for bound in [
        "messages_per_second = 1",
        "bytes_per_second = 2048",
        "body_bytes_max = 1",
    ] {
        let written = format!("allow = \"receive\"\n{bound}");
        let text = EVERYTHING.replace("allow = \"receive\"", &written);
        let found = compile(&read(&text), 1, None).expect_err(bound);
        let name = bound.split(' ').next().unwrap_or_default();
        assert_eq!(found[0].fault.code, codes::VALUE, "{bound}");
        assert!(found[0].pointer.ends_with(name), "{}", found[0].pointer);
    }
}

#[test]
fn a_sealed_secret_compiles_under_its_own_master_key_alone() {
    let model = sealed(read(EVERYTHING));
    let other = MasterKey::new(&[8; 32]);
    for (why, master) in [("none", None), ("another", Some(&other))] {
        let found = compile(&model, 1, master).expect_err(why);
        assert_eq!(found.len(), 2, "{why}: each key is named");
        assert_eq!(found[0].pointer, "/endpoints/0/keys/0/sealed");
        assert_eq!(found[0].fault.code, codes::SEALED, "{why}");
    }
    let mut moved = model.clone();
    moved.endpoints[0].keys[0].sealed = model.endpoints[0].keys[1].sealed.clone();
    let found = compile(&moved, 1, Some(&master())).expect_err("of another key");
    assert_eq!(found[0].fault.code, codes::SEALED);
}

#[test]
fn no_secret_is_in_what_a_model_shows_of_itself() {
    let mut model = read(EVERYTHING);
    let canary = new_secret();
    model.endpoints[0].keys[0].secret = Some(Secret::new(canary.text()));
    let shown = format!("{model:?} {}", serde_json::to_string(&model).expect("JSON"));
    assert!(!shown.contains(canary.text()));
    let compiled = compiled(&model);
    let endpoint = compiled.table.endpoints().next().expect("declared");
    assert!(!endpoint.keys.is_empty());
    assert!(!format!("{endpoint:?} {:?}", compiled.table).contains(canary.text()));
}

#[test]
fn hours_that_say_the_same_in_other_words_compile_to_the_same_few_windows() {
    let with = |hours: &str| {
        let text = EVERYTHING.replace(
            "hours = [\"mon-fri 08:00-17:30\"]",
            &format!("hours = {hours}"),
        );
        assert_ne!(text, EVERYTHING);
        let compiled = compiled(&read(&text));
        let windows = compiled.table.endpoint_at(0).windows().len();
        (compiled.digest, windows)
    };
    let (want, count) = with(r#"["mon,tue 00:00-12:00", "sun 23:00-24:00"]"#);
    assert_eq!(count, 2);
    for same in [
        r#"["sun 23:00-12:00", "mon 11:00-12:00", "tue 00:00-12:00"]"#,
        r#"["mon,tue 00:00-06:00", "tue,mon 06:00-12:00", "sun 23:00-23:30", "sun 23:15-24:00"]"#,
        r#"["mon 00:00-12:00", "sun 23:00-01:00", "mon 22:00-24:00", "tue 00:00-12:00"]"#,
    ] {
        let (digest, count) = with(same);
        let longer = same.contains("mon 22:00");
        assert_eq!(
            (digest == want, count),
            (!longer, if longer { 3 } else { 2 }),
            "{same}"
        );
    }
    // Minute after minute is one window, and so is looked at once.
    let minute = |at: usize| {
        format!(
            "\"daily {:02}:{:02}-{:02}:{:02}\"",
            at / 60,
            at % 60,
            (at + 1) / 60,
            (at + 1) % 60
        )
    };
    let minutes: Vec<String> = (600..630).map(minute).collect();
    assert_eq!(with(&format!("[{}]", minutes.join(", "))).1, 1);
}
