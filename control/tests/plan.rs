//! Tables of plans: what is refused, with which code, at which line, with which remedy; and what a good one gives.

use control::diagnosis as codes;
use control::keys::{new_pair, new_secret};
use control::render::{NewEndpoint, NewPlan, render};
use wire::ids::{
    AckMode, ChannelId, Direction, EndpointId, Fingerprint, KeyId, NodeId, PartitionId,
};
use wire::route::{Priority, RouteTable};

const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

const HEAD: &str = "[[accounts]]\nname = \"a\"\n[[environments]]\nname = \"a/e\"\n";

fn compile(body: &str) -> Result<RouteTable, Vec<wire::diagnosis::Diagnosis>> {
    control::compile(&format!("{HEAD}{body}"), "plan.toml")
}

fn endpoint(inner: &str) -> String {
    format!("[[channels]]\nname = \"a/e/readings\"\n[[endpoints]]\nname = \"a/e/pump\"\n{inner}")
}

fn key(inner: &str) -> String {
    endpoint(&format!(
        "[[endpoints.keys]]\nid = 1\nname = \"k\"\ndirection = \"ingress\"\n{inner}"
    ))
}

fn keys(count: usize, last: &str) -> String {
    let mut text = endpoint("");
    for id in 1..=count {
        let extra = if id == count { last } else { "" };
        text += &format!(
            "[[endpoints.keys]]\nid = {id}\nname = \"k{id}\"\ndirection = \"ingress\"\nsecret = \"{SECRET}\"\n{extra}"
        );
    }
    text
}

#[test]
fn a_wrong_plan_is_refused_with_code_line_and_remedy() {
    let grant = |text: &str| {
        endpoint(&format!(
            "[[endpoints.grants]]\nallow = \"send\"\nchannel = \"readings\"\n{text}"
        ))
    };
    let cases: Vec<(&str, String, u16, &[&str])> = vec![
        ("not TOML", "[[hubs\n".into(), codes::SYNTAX, &["line 5"]),
        (
            "a certificate that is none",
            endpoint("certificates = [\"8f1c\"]\n"),
            codes::VALUE,
            &["line 9", "`8f1c`", "64 hexadecimal digits", "openssl"],
        ),
        (
            "wrong type",
            "[[hubs]]\nname = 7\n".into(),
            codes::SYNTAX,
            &["line 6", "`7`"],
        ),
        (
            "unknown table",
            "[[chanels]]\nname = \"a/e/x\"\n".into(),
            codes::UNKNOWN_KEY,
            &["line 5", "`chanels`", "`channels`"],
        ),
        (
            "unknown key",
            "[[hubs]]\nname = \"a/e/h\"\npartition = 4\n".into(),
            codes::UNKNOWN_KEY,
            &["line 7", "did you mean `partitions`?"],
        ),
        (
            "unknown nested key",
            key("secrets = \"x\"\n"),
            codes::UNKNOWN_KEY,
            &["line 13", "did you mean `secret`?"],
        ),
        (
            "missing name",
            "[[channels]]\nhub = \"x\"\n".into(),
            codes::MISSING_KEY,
            &["`name`"],
        ),
        (
            "unknown ack",
            "[[hubs]]\nname = \"a/e/h\"\nack = \"durabel\"\n".into(),
            codes::VALUE,
            &["line 7", "durabel", "did you mean `durable`?"],
        ),
        (
            "no partitions",
            "[[hubs]]\nname = \"a/e/h\"\npartitions = 0\n".into(),
            codes::VALUE,
            &["line 7", "saw 0", "1 to 1024"],
        ),
        (
            "segment too short",
            "[[hubs]]\nname = \"a/e/h\"\nsegment_bytes = \"64KiB\"\n".into(),
            codes::VALUE,
            &["line 7", "65536"],
        ),
        (
            "retention below a segment",
            "[[hubs]]\nname = \"a/e/h\"\nretention_bytes = \"1MiB\"\n".into(),
            codes::VALUE,
            &["retention_bytes"],
        ),
        (
            "amount",
            "[[hubs]]\nname = \"a/e/h\"\nretention_age = \"7 weeks\"\n".into(),
            codes::AMOUNT,
            &["line 7", "7 weeks", "\"7d\""],
        ),
        (
            "short name",
            "[[channels]]\nname = \"readings\"\n".into(),
            codes::NAME,
            &["line 6", "account/environment/name"],
        ),
        (
            "blank in a name",
            "[[channels]]\nname = \"a/e/two words\"\n".into(),
            codes::NAME,
            &["two words"],
        ),
        (
            "a node in capitals",
            "[[nodes]]\nname = \"North\"\n".into(),
            codes::NAME,
            &["line 6", "`North`", "small letters"],
        ),
        (
            "a node without a port",
            "[[nodes]]\nname = \"north\"\naddress = \"north.example\"\n".into(),
            codes::VALUE,
            &["line 7", "`north.example`", "host:port"],
        ),
        (
            "a node twice",
            "[[nodes]]\nname = \"north\"\n[[nodes]]\nname = \"north\"\n".into(),
            codes::DUPLICATE,
            &["line 8", "`north`"],
        ),
        (
            "two nodes with one id",
            "[[nodes]]\nname = \"north\"\nid = 1\n[[nodes]]\nname = \"south\"\nid = 1\n".into(),
            codes::ID_COLLISION,
            &["line 9", "north", "south", "id = 2"],
        ),
        (
            "a home that is no node",
            format!(
                "[[nodes]]\nname = \"north\"\n{}",
                endpoint("home = \"nroth\"\n")
            ),
            codes::UNKNOWN_NAME,
            &["line 11", "`nroth`", "did you mean `north`?"],
        ),
        (
            "unknown account",
            "[[environments]]\nname = \"b/e\"\n".into(),
            codes::UNKNOWN_NAME,
            &["`b`"],
        ),
        (
            "unknown environment",
            "[[channels]]\nname = \"a/x/readings\"\n".into(),
            codes::UNKNOWN_NAME,
            &["`a/x`", "did you mean `a/e`?"],
        ),
        (
            "unknown hub",
            "[[channels]]\nname = \"a/e/x\"\nhub = \"defualt\"\n".into(),
            codes::UNKNOWN_NAME,
            &["line 7", "did you mean `default`?"],
        ),
        (
            "dangling grant",
            grant("").replace("\"readings\"\n", "\"raedings\"\n"),
            codes::UNKNOWN_NAME,
            &["line 11", "`raedings`", "did you mean `readings`?"],
        ),
        (
            "duplicate channel",
            endpoint("").replace(
                "[[endpoints]]",
                "[[channels]]\nname = \"a/e/readings\"\n[[endpoints]]",
            ),
            codes::DUPLICATE,
            &["line 8"],
        ),
        (
            "duplicate grant",
            grant("[[endpoints.grants]]\nallow = \"send\"\nchannel = \"a/e/readings\"\n"),
            codes::DUPLICATE,
            &["line 14"],
        ),
        (
            "id collision",
            "[[channels]]\nname = \"a/e/x\"\nid = 7\n[[channels]]\nname = \"a/e/y\"\nid = 7\n"
                .into(),
            codes::ID_COLLISION,
            &["line 9", "a/e/x", "a/e/y", "id = "],
        ),
        (
            "no secret",
            key(""),
            codes::SECRET_MISSING,
            &["line 11", "`k`", "forebay keys new"],
        ),
        (
            "bad base64",
            key("secret = \"AAAA-not-base64\"\n"),
            codes::SECRET_MALFORMED,
            &["line 13", "44 characters"],
        ),
        (
            "31 bytes",
            key(&format!("secret = \"{}\"\n", &SECRET[..40])),
            codes::SECRET_MALFORMED,
            &["40 characters"],
        ),
        (
            "bad public key",
            key(&format!("public = \"{SECRET}\"\n")),
            codes::PUBLIC_MALFORMED,
            &["line 13", "Ed25519"],
        ),
        (
            "both",
            key(&format!("secret = \"{SECRET}\"\npublic = \"{SECRET}\"\n")),
            codes::KEY_KIND,
            &["both"],
        ),
        (
            "kind and secret",
            key(&format!("kind = \"ed25519\"\nsecret = \"{SECRET}\"\n")),
            codes::KEY_KIND,
            &["`public` for ed25519"],
        ),
        (
            "egress Ed25519",
            key(&format!("public = \"{}\"\n", new_pair().public)).replace("ingress", "egress"),
            codes::KEY_KIND,
            &["ed25519"],
        ),
        (
            "three active keys",
            keys(3, ""),
            codes::TOO_MANY_KEYS,
            &["saw 3", "revoked = true"],
        ),
        (
            "two keys, one id",
            keys(2, "").replace("id = 2", "id = 1"),
            codes::DUPLICATE,
            &["key 1"],
        ),
        (
            "key id 0",
            keys(1, "").replace("id = 1", "id = 0"),
            codes::VALUE,
            &["id of a key"],
        ),
        (
            "expiry without offset",
            keys(1, "expires = 2027-01-01T00:00:00\n"),
            codes::EXPIRY,
            &["2027-01-31T00:00:00Z", "offset"],
        ),
        (
            "bad range",
            grant("addresses = [\"10.0.0.0/40\"]\n"),
            codes::ADDRESS,
            &["line 12", "10.0.0.0/40"],
        ),
        (
            "host bits",
            grant("addresses = [\"10.0.0.1/8\"]\n"),
            codes::ADDRESS,
            &["10.0.0.1/8"],
        ),
        (
            "rate 0",
            grant("messages_per_second = 0\n"),
            codes::VALUE,
            &["messages_per_second"],
        ),
        (
            "an endpoint's byte rate too low",
            endpoint("bytes_per_second = 1000\n"),
            codes::VALUE,
            &["bytes_per_second", "1024"],
        ),
        (
            "an account's rate 0",
            "[[accounts]]\nname = \"b\"\nmessages_per_second = 0\n".into(),
            codes::VALUE,
            &["messages_per_second"],
        ),
        (
            "a priority that is none",
            "[[channels]]\nname = \"a/e/x\"\npriority = \"high\"\n".into(),
            codes::VALUE,
            &["high", "low"],
        ),
        (
            "hours without days",
            grant("hours = [\"08:00-17:00\"]\n"),
            codes::VALUE,
            &["08:00-17:00", "mon-fri"],
        ),
        (
            "hours of an endpoint that are empty",
            endpoint("hours = [\"mon 08:00-08:00\"]\n"),
            codes::VALUE,
            &["mon 08:00-08:00", "whole day"],
        ),
        (
            "more hours than shards look through",
            grant(&format!("hours = {:?}\n", ["mon 08:00-09:00"; 33])),
            codes::VALUE,
            &["33", "at most 32"],
        ),
        (
            "more addresses than shards look through",
            grant(&format!("addresses = {:?}\n", ["10.0.0.1"; 65])),
            codes::VALUE,
            &["65", "at most 64"],
        ),
        (
            "more certificates than one can tell apart",
            endpoint(&format!("certificates = {:?}\n", vec!["0a".repeat(32); 9])),
            codes::VALUE,
            &["9", "at most 8"],
        ),
        (
            "a transport that is none",
            endpoint("transports = [\"tls\", \"qiuc\"]\n"),
            codes::VALUE,
            &["qiuc", "quic"],
        ),
        (
            "datagrams without a session",
            endpoint("transports = [\"tls\", \"quic-datagram\"]\n"),
            codes::VALUE,
            &["quic-datagram"],
        ),
        (
            "an endpoint's end without an offset",
            endpoint("expires = 2027-01-31T00:00:00\n"),
            codes::EXPIRY,
            &["2027-01-31T00:00:00", "offset"],
        ),
        (
            "a grant's end that is none",
            grant("expires = \"soon\"\n"),
            codes::EXPIRY,
            &["soon"],
        ),
        (
            "a grant's byte rate too low",
            grant("bytes_per_second = 1000\n"),
            codes::VALUE,
            &["bytes_per_second", "1024"],
        ),
        (
            "body bound",
            grant("body_bytes_max = \"1MiB\"\n"),
            codes::VALUE,
            &["1048576", "262144"],
        ),
        (
            "queue bound",
            endpoint("queue = { bytes_max = \"1KiB\" }\n"),
            codes::VALUE,
            &["bytes_max"],
        ),
        (
            "bad account",
            "[[accounts]]
name = \"b c\"
"
            .into(),
            codes::NAME,
            &["line 6", "account"],
        ),
    ];
    for (why, body, code, parts) in cases {
        let faults = compile(&body).expect_err(why);
        assert_eq!(faults[0].code, code, "{why}: {}", faults[0]);
        let text = faults[0].to_string();
        assert!(text.contains("plan.toml line "), "{why}: {text}");
        for part in parts {
            assert!(text.contains(part), "{why}: `{part}` is not in: {text}");
        }
        for (name, value) in [
            ("seen", &faults[0].seen),
            ("needed", &faults[0].needed),
            ("remedy", &faults[0].remedy),
        ] {
            assert!(!value.is_empty(), "{why}: {name} is empty");
        }
        assert!(
            codes::CODES.iter().any(|entry| entry.0 == code),
            "{why}: {code} is explained"
        );
    }
}

#[test]
fn all_faults_are_listed_not_only_the_first() {
    let faults = compile("[[channels]]\nname = \"x\"\n[[channels]]\nname = \"y\"\n")
        .expect_err("two bad names");
    assert_eq!(faults.len(), 2);
}

#[test]
fn a_small_plan_gets_the_defaults() {
    let table = compile(&keys(
        1,
        "[[endpoints.grants]]\nallow = \"send\"\nchannel = \"readings\"\n",
    ))
    .expect("good");
    let hub = &table.hubs()[0];
    assert_eq!(
        (&*hub.name, hub.partitions, hub.ack, hub.segment_bytes),
        ("a/e/default", 4, AckMode::Durable, 64 << 20)
    );
    assert_eq!((table.epoch(), table.queue_groups()), (1, 4));
    let pump = table.endpoint_by_name("a/e/pump").expect("declared");
    assert_eq!(pump.id, EndpointId::of("a/e/pump"));
    assert!(pump.enabled && !pump.relay);
    let channel = ChannelId::of("a/e/readings");
    assert!(pump.send_grant(channel).is_some() && pump.receive_grant(channel).is_none());
    assert_eq!(
        pump.key(KeyId(1)).expect("declared").direction,
        Direction::Ingress
    );
}

#[test]
fn everything_written_arrives_in_the_table() {
    let pair = new_pair();
    let text = format!(
        r#"
queue_groups = 9
[[nodes]]
name = "north"
id = 7
address = "[2001:db8::7]:7411"
[[accounts]]
name = "a"
messages_per_second = 70
[[environments]]
name = "a/e"
[[hubs]]
name = "a/e/fast"
id = 12
partitions = 2
ack = "local"
segment_bytes = "8MiB"
retention_bytes = "1GiB"
retention_age = "7d"
[[channels]]
name = "a/e/readings"
id = 77
hub = "fast"
priority = "low"
[[endpoints]]
name = "a/e/pump"
home = "north"
relay = true
enabled = false
messages_per_second = 50
bytes_per_second = "64KiB"
[[endpoints.keys]]
id = 3
name = "signing"
direction = "ingress"
kind = "ed25519"
public = "{}"
expires = 2027-01-01T00:00:00Z
revoked = true
[[endpoints.grants]]
channel = "a/e/readings"
allow = "receive"
addresses = ["10.0.0.0/8", "::1"]
origins = ["https://example.org"]
[[endpoints.grants]]
channel = "a/e/readings"
allow = "send"
messages_per_second = 100
body_bytes_max = "1KiB"
[endpoints.queue]
messages_max = 10
bytes_max = "1MiB"
age_max = "1h"
on_full = "drop-oldest"
lock = "5s"
deliveries_max = 0
"#,
        pair.public
    );
    let table = control::compile_epoch(&text, "plan.toml", 5).expect("good");
    let node = table.node_by_name("north").expect("declared");
    let address = node.address.as_deref();
    assert_eq!((node.id, address), (NodeId(7), Some("[2001:db8::7]:7411")));
    let homes: Vec<_> = table.endpoints().map(|one| one.home()).collect();
    assert_eq!(homes, [Some(NodeId(7))]);
    let channel = table.channel(ChannelId(77)).expect("declared");
    assert_eq!(channel.priority, Priority::Low);
    let hub = table.hub_of(channel);
    assert_eq!(
        (hub.id, hub.partitions, hub.ack, hub.segment_bytes),
        (12, 2, AckMode::Local, 8 << 20)
    );
    assert_eq!(
        (
            hub.retention_bytes,
            hub.retention_age.map(|age| age.as_secs())
        ),
        (Some(1 << 30), Some(604_800))
    );
    assert_eq!((table.epoch(), table.queue_groups()), (5, 9));
    let pump = table.endpoint_by_name("a/e/pump").expect("declared");
    assert_eq!(
        table.partition_of(pump.id, channel),
        PartitionId::new(12, (pump.id.0 % 2) as u16)
    );
    assert!(pump.relay && !pump.enabled);
    let rates = pump.rates();
    assert_eq!(
        (rates.messages_per_second, rates.bytes_per_second),
        (Some(50), Some(65_536))
    );
    let index = table.endpoint_index(pump.id).expect("declared");
    assert_eq!(
        table.allowances(index, ChannelId(77)).count(),
        4,
        "its own two, its account's, and its grant's"
    );
    assert_eq!(table.subscribers(channel.id).count(), 1);
    let key = pump.keys.at(0);
    assert_eq!(
        (key.revoked, key.expires.map(|at| at.seconds())),
        (true, Some(1_798_761_600))
    );
    let restriction = &pump
        .receive_grant(ChannelId(77))
        .expect("granted")
        .restriction;
    assert_eq!(
        (restriction.addresses.len(), restriction.origins.len()),
        (2, 1)
    );
    let sends = pump.send_grant(ChannelId(77)).expect("granted");
    let restriction = sends.restriction;
    assert_eq!(
        (restriction.messages_per_second, restriction.body_bytes_max),
        (Some(100), Some(1024))
    );
    let queue = pump.queue();
    assert_eq!(
        (
            queue.messages_max,
            queue.bytes_max,
            queue.lock.as_secs(),
            queue.deliveries_max
        ),
        (10, 1 << 20, 5, 0)
    );
}

#[test]
fn a_third_key_is_allowed_once_another_is_revoked() {
    assert!(compile(&keys(3, "revoked = true\n")).is_ok());
    assert!(compile(&keys(2, "")).is_ok());
}

#[test]
fn every_rendered_plan_compiles_to_what_was_asked() {
    let (ingress, egress) = (new_secret(), new_secret());
    let plan = NewPlan {
        environment: "demo/main".into(),
        partitions: 3,
        ack: "durable".into(),
        channels: vec!["telemetry".into()],
        endpoints: vec![NewEndpoint {
            name: "both".into(),
            relay: true,
            ingress: Some(ingress.text().into()),
            egress: Some(egress.text().into()),
            send: vec!["telemetry".into()],
            receive: vec!["telemetry".into()],
        }],
    };
    let table = control::compile(&render(&plan), "plan.toml").expect("rendered plans are good");
    let both = table.endpoint_by_name("demo/main/both").expect("rendered");
    assert_eq!(
        (
            both.keys.len(),
            both.send.len(),
            both.receive.len(),
            both.relay
        ),
        (2, 1, 1, true)
    );
    assert_eq!(table.hubs()[0].partitions, 3);
    assert!(
        !format!("{plan:?}").contains(ingress.text()),
        "secrets stay out of debug output"
    );
}

#[test]
fn codes_are_unique_and_in_this_rooms_range() {
    for (index, (code, ..)) in codes::CODES.iter().enumerate() {
        assert!((2101..=2199).contains(code), "{code}");
        assert!(
            codes::CODES[..index].iter().all(|other| other.0 != *code),
            "{code} twice"
        );
    }
}

#[test]
fn an_endpoint_names_certificates_in_either_form_each_once() {
    let (one, other) = ("0A".repeat(32), ["0b"; 32].join(":"));
    let again = "0a".repeat(32);
    let text = endpoint(&format!(
        "certificates = [\"{other}\", \"{one}\", \"{again}\"]\n"
    ));
    let table = compile(&text).expect("a good plan");
    let pump = table.endpoint_by_name("a/e/pump").expect("it is named");
    let want = [Fingerprint([0x0A; 32]), Fingerprint([0x0B; 32])];
    assert_eq!(pump.certificates(), want);
    for shown in want {
        assert!(pump.may_use_tunnel(Some(shown)));
    }
    assert!(!pump.may_use_tunnel(None) && !pump.may_use_tunnel(Some(Fingerprint([9; 32]))));
}

#[test]
fn a_plan_that_is_wrong_everywhere_is_refused_with_a_bounded_look_at_names() {
    use control::model::{Channel, Endpoint, Grant, Model};
    let mut model: Model = control::plan::read(
        "[[accounts]]\nname = \"a\"\n[[environments]]\nname = \"a/e\"\n",
        "p",
    )
    .expect("a plan");
    for number in 0..20_000 {
        model.channels.push(Channel {
            name: format!("a/e/channel-{number:05}"),
            ..Channel::default()
        });
        let channel = format!("chanel-{number:05}");
        model.endpoints.push(Endpoint {
            name: format!("a/e/pump-{number:05}"),
            grants: vec![Grant {
                channel,
                ..Grant::default()
            }],
            ..Endpoint::default()
        });
    }
    let found = control::compile::compile(&model, 1, None).expect_err("wrong everywhere");
    assert_eq!(found.len(), 1_000, "the first of them");
    let hinted = |remedy: &str| remedy.contains("did you mean `channel-");
    assert!(hinted(&found[0].fault.remedy), "{}", found[0].fault);
    // So many names were looked at for the first one that there is no more of that.
    assert!(!hinted(&found[1].fault.remedy), "{}", found[1].fault);
    let last = &found[999].fault.remedy;
    assert!(last.contains("19000 more faults"), "{last}");
}
