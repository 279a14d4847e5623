//! The configuration: what is taken, what is refused and in which words, and what is shown.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

use std::time::Duration;

use node::Ask;
use node::config::{Effective, Kind, LogFormat, NodeConfig, Origin, SETTINGS};
use node::diagnosis::CODES;

fn parse(text: &str, env: &[(&str, &str)]) -> Result<NodeConfig, node::diagnosis::Diagnosis> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    NodeConfig::parse(text, env.iter().map(own))
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = parse("", &[("HOME", "/root"), ("FOREBAY_OTHER", "x")]).unwrap();
    assert_eq!(config.listen.unwrap().to_string(), "127.0.0.1:7411");
    assert_eq!(config.cpu, None);
    assert_eq!(config.log_format, LogFormat::Text);
    let all_default = |setting: &Effective| setting.origin == Origin::Default;
    assert!(config.effective().iter().all(all_default));
}

#[test]
fn the_environment_overrides_the_file_which_overrides_the_defaults() {
    let text = "[node]\ndata = \"d\"\nlisten = \"[::1]:1\"\n[node.ring]\nbuffers = 64\n\n\
                [node.timeouts]\nidle = \"5m\"\n[plan]\nfile = \"plan.toml\"\n";
    let env = [
        ("FOREBAY_NODE_LISTEN", "127.0.0.1:2"),
        ("FOREBAY_NODE_RING_BUFFER_BYTES", "32KiB"),
        ("FOREBAY_NODE_LOG_FORMAT", "json"),
        ("FOREBAY_NODE_CPU", "1"),
    ];
    let config = parse(text, &env).unwrap();
    assert_eq!(config.data.to_str(), Some("d"));
    assert_eq!(config.listen.unwrap().to_string(), "127.0.0.1:2");
    assert_eq!((config.ring.buffers, config.ring.buffer_bytes), (64, 32768));
    assert_eq!(config.timeouts.idle, Duration::from_secs(300));
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.cpu, Some(1));
    let origin = |key| {
        let mut all = config.effective().iter();
        all.find(|setting| setting.key == key)
            .unwrap()
            .origin
            .clone()
    };
    assert_eq!(origin("data"), Origin::File(2));
    assert_eq!(
        origin("listen"),
        Origin::Environment("FOREBAY_NODE_LISTEN".into())
    );
    assert_eq!(origin("ring.buffers"), Origin::File(5));
    assert_eq!(origin("backlog"), Origin::Default);
}

#[test]
fn mistakes_are_named_with_their_line_and_remedy() {
    for (why, text, code, shown) in [
        ("not TOML", "[node\n", 2001, "line 1"),
        (
            "the same key twice",
            "[node]\ndata = \"a\"\ndata = \"b\"\n",
            2001,
            "line 3",
        ),
        (
            "a misspelt key",
            "[node]\n\nlisten_ = \"127.0.0.1:1\"\n",
            2002,
            "line 3: saw the key node.listen_",
        ),
        (
            "the nearest name",
            "[node.ring]\nbufers = 64\n",
            2002,
            "did you mean ring.buffers?",
        ),
        (
            "a misspelt table",
            "[node.rings]\nbuffers = 64\n",
            2002,
            "did you mean ring?",
        ),
        (
            "a misspelt top table",
            "[nod]\n",
            2002,
            "did you mean node?",
        ),
        ("nothing near", "[node]\nxyzzy = 1\n", 2002, "take it out"),
        ("a top key", "data = \"a\"\n", 2002, "line 1"),
        ("a table below a key", "[node.data]\n", 2003, "table"),
        (
            "a key for a table",
            "[node]\nring = 5\n",
            2003,
            "need a table",
        ),
        ("node is no table", "node = 5\n", 2003, "need a table"),
        (
            "text for a number",
            "[node.ring]\nbuffers = \"64\"\n",
            2003,
            "power of two",
        ),
        ("a number for text", "[node]\ndata = 5\n", 2003, "text"),
        (
            "a number for a duration",
            "[node.timeouts]\nidle = 5\n",
            2003,
            "\"30s\"",
        ),
        (
            "a duration without unit",
            "[node.timeouts]\nidle = \"5\"\n",
            2003,
            "\"30s\"",
        ),
        (
            "a word that is none",
            "[node.log]\nformat = \"xml\"\n",
            2003,
            "\"text\" or \"json\"",
        ),
        ("empty text", "[node]\ndata = \"\"\n", 2003, "not empty"),
        ("too few", "[node.ring]\nbuffers = 8\n", 2004, "16 to 32768"),
        (
            "no power of two",
            "[node.ring]\nbuffers = 100\n",
            2004,
            "power of two",
        ),
        (
            "none at all",
            "[node]\nshards = 0\n",
            2004,
            "a number from 1 to 256",
        ),
        (
            "a list that is none",
            "[node]\nshards = \"3-1\"\n",
            2003,
            "such as \"0-3,6\"",
        ),
        ("below zero", "[node]\nbacklog = -1\n", 2004, "saw -1"),
        (
            "too long a wait",
            "[node.timeouts]\nhandshake = \"61s\"\n",
            2004,
            "\"60s\"",
        ),
        (
            "too many bytes",
            "[node.ring]\nbuffer_bytes = \"2MiB\"\n",
            2004,
            "1MiB",
        ),
        (
            "bytes beyond counting",
            "[node.ring]\nbuffer_bytes = \"99999999999999999999GiB\"\n",
            2003,
            "bytes",
        ),
        (
            "a name for an address",
            "[node]\nlisten = \"localhost:1\"\n",
            2005,
            "ip:port",
        ),
        (
            "an address without port",
            "[node]\nadmin = \"127.0.0.1\"\n",
            2005,
            "node.admin on line 2",
        ),
        (
            "a port too high",
            "[node]\nlisten = \"127.0.0.1:65536\"\n",
            2005,
            "ip:port",
        ),
        (
            "one port for both",
            "[node]\nlisten = \"127.0.0.1:7412\"\n",
            2007,
            "node.admin",
        ),
        (
            "one port for plain and TLS",
            "[node]\nlisten_tls = \"127.0.0.1:7411\"\n",
            2007,
            "node.listen_tls",
        ),
        (
            "TLS without a certificate",
            "[node]\nlisten_tls = \"127.0.0.1:7413\"\n",
            2007,
            "forebay cert dev",
        ),
        (
            "a certificate without its key",
            "[node.tls]\ncertificate = \"cert.pem\"\n",
            2007,
            "tls.key",
        ),
        (
            "a key without its certificate",
            "[node.tls]\nkey = \"key.pem\"\n",
            2007,
            "tls.certificate",
        ),
        (
            "a certificate that nobody is shown",
            "[node.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n",
            2007,
            "listen_tls",
        ),
        (
            "plain TCP for everybody",
            "[node]\nlisten = \"0.0.0.0:7411\"\n",
            2008,
            "plain = \"anywhere\"",
        ),
        (
            "plain TCP for everybody by name",
            "[node]\nlisten = \"[::]:7411\"\nplain = \"anyone\"\n",
            2003,
            "\"anywhere\"",
        ),
        (
            "an open admin port",
            "[node]\nadmin = \"0.0.0.0:7412\"\n",
            2007,
            "loopback",
        ),
    ] {
        let fault = parse(text, &[]).expect_err(why);
        assert_eq!(fault.code, code, "{why}: {fault}");
        assert!(fault.to_string().contains(shown), "{why}: {fault}");
        assert!(!fault.remedy.is_empty(), "{why}");
    }
}

#[test]
fn variables_are_as_strict_as_the_file() {
    for (name, value, code, shown) in [
        (
            "FOREBAY_NODE_LISTN",
            "127.0.0.1:1",
            2006,
            "did you mean FOREBAY_NODE_LISTEN?",
        ),
        ("FOREBAY_NODE_LISTEN", "here", 2005, "FOREBAY_NODE_LISTEN"),
        ("FOREBAY_NODE_RING_BUFFERS", "a few", 2003, "power of two"),
        ("FOREBAY_NODE_RING_BUFFERS", "17", 2004, "power of two"),
    ] {
        let fault = parse("", &[(name, value)]).expect_err(name);
        assert_eq!(fault.code, code, "{fault}");
        assert!(fault.to_string().contains(shown), "{fault}");
    }
}

#[test]
fn what_is_shown_reads_back_as_the_same_node() {
    let text =
        "[node]\ncpu = 1\n[node.ring]\nbuffer_bytes = 4096\n[node.timeouts]\nlinger = \"1500ms\"\n";
    let shown = parse(text, &[("FOREBAY_NODE_BACKLOG", "7")])
        .unwrap()
        .render();
    assert!(shown.contains("buffer_bytes = \"4KiB\""), "{shown}");
    assert!(shown.contains("# file, line 4"), "{shown}");
    assert!(
        shown.contains("# environment, FOREBAY_NODE_BACKLOG"),
        "{shown}"
    );
    let again = parse(&shown, &[]).unwrap();
    let values = |config: &NodeConfig| -> Vec<_> {
        let all = config.effective().iter();
        all.map(|setting| setting.value.clone()).collect()
    };
    let first = parse(text, &[("FOREBAY_NODE_BACKLOG", "7")]).unwrap();
    assert_eq!(values(&first), values(&again));
}

#[test]
fn every_setting_can_be_given_by_file_and_by_variable() {
    for setting in SETTINGS {
        let least = match setting.kind {
            Kind::Bytes(least, _) => least.to_string(),
            Kind::Duration(least, _) => format!("{least}ms"),
            _ => "0".to_owned(),
        };
        let value = setting.default.unwrap_or(&least);
        let variable = setting.variable();
        let env = match setting.key {
            // None of the files without the other, or without somewhere to be shown.
            "listen_tls" | "listen_quic" | "tls.certificate" | "tls.key" => vec![
                ("FOREBAY_NODE_LISTEN_TLS", "[::1]:7413"),
                ("FOREBAY_NODE_LISTEN_QUIC", "[::1]:7413"),
                ("FOREBAY_NODE_TLS_CERTIFICATE", "cert.pem"),
                ("FOREBAY_NODE_TLS_KEY", "key.pem"),
            ],
            "tls.client_ca" => vec![
                ("FOREBAY_NODE_LISTEN_TLS", "[::1]:7413"),
                ("FOREBAY_NODE_TLS_CERTIFICATE", "cert.pem"),
                ("FOREBAY_NODE_TLS_KEY", "key.pem"),
                ("FOREBAY_NODE_TLS_CLIENT_CERTIFICATES", "asked"),
                ("FOREBAY_NODE_TLS_CLIENT_CA", "clients.pem"),
            ],
            _ => vec![(&*variable, value)],
        };
        assert!(env.iter().any(|(name, _)| *name == variable));
        let shown = parse("", &env).unwrap().render();
        parse(&shown, &[]).unwrap();
        assert!(setting.about.ends_with('.'), "{}", setting.key);
    }
}

#[test]
fn every_code_is_listed_once_and_explained() {
    for pair in CODES.windows(2) {
        assert!(pair[0].0 < pair[1].0, "{} before {}", pair[0].0, pair[1].0);
    }
    for (code, title, explanation) in CODES {
        assert!((2000..4000).contains(code), "{code}");
        assert!(!title.is_empty() && explanation.ends_with('.'), "{code}");
    }
}

#[test]
fn frames_without_encryption_come_from_other_machines_only_where_that_was_said() {
    let open = "[node]\nlisten = \"0.0.0.0:7411\"\n";
    assert_eq!(parse(open, &[]).unwrap_err().code, 2008);
    let said = format!("{open}plain = \"anywhere\"\n");
    assert_eq!(parse(&said, &[]).unwrap().listen.unwrap().port(), 7411);
    let tunnels = "[node]\nlisten_tls = \"0.0.0.0:7413\"\n\
                   [node.tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n";
    let config = parse(tunnels, &[]).unwrap();
    assert_eq!(config.listen_tls.unwrap().port(), 7413);
    assert!(config.listen.unwrap().ip().is_loopback());
}

#[test]
fn a_node_may_have_no_plain_port_but_has_to_have_one() {
    let pair = "[node.tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n";
    let none = "[node]\nlisten = \"none\"\n";
    assert_eq!(parse(none, &[]).unwrap_err().code, 2007);
    for way in ["listen_tls", "listen_quic"] {
        let text = format!("{none}{way} = \"0.0.0.0:7413\"\n{pair}");
        let config = parse(&text, &[]).unwrap();
        assert_eq!(config.listen, None);
        let again = parse(&config.render(), &[]).unwrap();
        assert_eq!(again.listen, None, "{}", config.render());
    }
    let admin = parse("[node]\nadmin = \"none\"\n", &[]).unwrap_err();
    assert_eq!(admin.code, 2005, "{admin}");
}

#[test]
fn clients_are_asked_for_certificates_only_where_there_are_tunnels() {
    let tunnels = "[node]\nlisten_tls = \"0.0.0.0:7413\"\n\
                   [node.tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n";
    let asked = |word: &str| format!("{tunnels}client_certificates = {word:?}\n");
    for (word, want) in [
        ("off", Ask::Off),
        ("asked", Ask::Asked),
        ("required", Ask::Required),
    ] {
        assert_eq!(parse(&asked(word), &[]).unwrap().clients.ask, want);
    }
    assert_eq!(parse(tunnels, &[]).unwrap().clients.ask, Ask::Off);
    let signed = format!("{}client_ca = \"ca.pem\"\n", asked("asked"));
    let authority = parse(&signed, &[]).unwrap().clients.authority;
    assert_eq!(authority.unwrap().to_str(), Some("ca.pem"));
    for (why, text) in [
        (
            "no tunnel",
            "[node.tls]\nclient_certificates = \"asked\"\n".to_owned(),
        ),
        ("not asked", format!("{tunnels}client_ca = \"ca.pem\"\n")),
    ] {
        assert_eq!(parse(&text, &[]).unwrap_err().code, 2007, "{why}");
    }
    assert!(parse(&asked("perhaps"), &[]).is_err());
}
