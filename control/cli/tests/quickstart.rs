//! `forebay quickstart` from nothing: everything is read back, the files work, and the next commands do too.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The runs of a quickstart, and what carries them.
const RUNS: [(&str, &str); 4] = [
    ("host", "quic"),
    ("tcp", "tcp"),
    ("tls", "tls"),
    ("quic", "quic"),
];

fn quickstart(data: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command
        .args(["quickstart", "--seconds", "2", "--rate", "2000", "--data"])
        .arg(data)
        .args(more);
    command
        .output()
        .expect("the binary was built for this test")
}

#[test]
fn everything_sent_is_read_back_and_the_next_commands_work() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let data = folder.path().join("made");
    let output = quickstart(&data, &["--json"]);
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON object and nothing else");
    assert_eq!(
        (&report["ok"], &report["ack_mode"]),
        (&true.into(), &"durable".into())
    );
    for field in [
        "lost",
        "duplicated",
        "misordered",
        "stray",
        "altered",
        "rejected",
    ] {
        assert_eq!(report[field], 0, "{field}");
    }
    assert!(
        report["sent"].as_u64() > Some(2_000) && report["sent"] == report["delivered"],
        "{report}"
    );
    for name in ["forebay.toml", "plan.toml"] {
        let mode = data
            .join(name)
            .metadata()
            .expect("it was made")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    for (run, over) in RUNS {
        let run = &report["runs"][run];
        assert_eq!((&run["transport"], &run["lost"]), (&over.into(), &0.into()));
        assert!(run["delivered"].as_u64() > Some(100), "{over}: {run}");
    }
    let next = report["next"].as_array().expect("a list");
    assert_eq!(next.len(), 3);
    run_and_load(&next[0], &next[1], &data);
    let verify = next[2].as_str().expect("a text").split_whitespace().skip(1);
    let verified = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(verify)
        .output()
        .expect("the binary was built");
    assert!(verified.status.success(), "{verified:?}");
    let check = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["config", "check", "--config"])
        .arg(data.join("forebay.toml"))
        .output();
    assert!(check.expect("the binary was built").status.success());

    let again = quickstart(&data, &[]);
    assert!(again.status.success(), "{again:?}");
    let text = String::from_utf8_lossy(&again.stdout);
    for part in [
        "all of them read back",
        "0 lost, 0 duplicated, 0 misordered, 0 stray",
        "durable: survives",
        "Next (load",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// The first two of the next commands, as they were printed, on ports that are free here.
#[test]
fn when_everything_is_rejected_it_says_why_and_what_was_promised() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let data = folder.path().join("made");
    let made = quickstart(&data, &[]);
    assert!(made.status.success(), "{made:?}");
    let plan = data.join("plan.toml");
    let text = std::fs::read_to_string(&plan).expect("it was made");
    let small = text.replace(
        "allow = \"send\"",
        "allow = \"send\"\nbody_bytes_max = \"16B\"",
    );
    std::fs::write(&plan, small).expect("it is ours");
    let output = quickstart(&data, &[]);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(
        out.contains("ack mode    durable: survives a process crash and power loss"),
        "{out}"
    );
    assert!(
        err.contains("FB-4903") && err.contains("forebay explain FB-14"),
        "{err}"
    );
}

/// Run the node as it was printed, and load it as it was printed and in every other way that there is.
fn run_and_load(run: &serde_json::Value, load: &serde_json::Value, data: &Path) {
    let ports = [free_port(), free_port(), free_port()];
    let command = |line: &serde_json::Value| {
        let mut words = line.as_str().expect("a text").split_whitespace();
        let mut command = Command::new(words.next().expect("the program comes first"));
        command.args(words);
        command
            .env("FOREBAY_NODE_LISTEN", &ports[0])
            .env("FOREBAY_NODE_ADMIN", &ports[1])
            .env("FOREBAY_NODE_LISTEN_TLS", &ports[2])
            .env("FOREBAY_NODE_LISTEN_QUIC", &ports[2]);
        command
    };
    let mut node = command(run)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary was built");
    let out = BufReader::new(node.stdout.take().expect("stdout is piped"));
    let mut out = out.lines().map_while(Result::ok);
    let ready = out.any(|line| line.contains("listening on "));
    for (ways, over) in loads(data) {
        let output = command(load)
            .args(["--duration", "2s", "--json"])
            .args(&ways)
            .output()
            .expect("the binary was built");
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert_eq!(report["transport"], *over, "{ways:?}: {report}");
        assert_eq!(report["lost"], 0, "{ways:?}: {report}");
        assert!(report["delivered"].as_u64() > Some(100), "{ways:?}");
        assert_eq!(report["sent"], report["delivered"], "{ways:?}: {report}");
    }
    for (ways, code) in refused(data, &ports[2]) {
        let mut refused = command(load);
        // This machine has no roots, for a moment.
        refused
            .env("SSL_CERT_FILE", "/dev/null")
            .env_remove("SSL_CERT_DIR");
        let refused = refused.args(&ways).output().expect("the binary was built");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains(code), "{ways:?}: {said}");
        assert!(!refused.status.success(), "{ways:?}: {said}");
    }
    let ended = Command::new("kill")
        .arg(node.id().to_string())
        .status()
        .expect("kill is there");
    assert!(ready && ended.success());
    let said: Vec<String> = out.collect();
    assert!(
        said.iter().any(|line| line.contains("admin on ")),
        "{said:?}"
    );
    assert!(
        node.wait().expect("it ends after SIGTERM").success(),
        "a graceful stop exits with 0"
    );
}

/// Arguments of loads that the node takes, and what carries them.
fn loads(data: &Path) -> Vec<(Vec<String>, &'static str)> {
    let ca = data.join("certificates/ca.pem");
    let trusting = |transport: &str| {
        let ca = ca.to_string_lossy().into_owned();
        let words = [
            "--transport",
            transport,
            "--ca",
            &ca,
            "--server-name",
            "localhost",
        ];
        words.map(str::to_owned).to_vec()
    };
    let pinned = |transport: &str| vec!["--transport".to_owned(), transport.to_owned()];
    vec![
        (Vec::new(), "tcp"),
        (pinned("tls"), "tls"),
        (trusting("tls"), "tls"),
        (pinned("quic"), "quic"),
        (trusting("quic"), "quic"),
    ]
}

/// Arguments of loads that trust nobody who is there, and what is said of that.
fn refused(data: &Path, tls: &str) -> Vec<(Vec<String>, &'static str)> {
    let plan = data.join("plan.toml").to_string_lossy().into_owned();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let wrong = "0123456789abcdef".repeat(4);
    let elsewhere = ["--transport", "tls", "--plan", &plan, "--addr", tls];
    vec![
        (words(&elsewhere), "FB-5113"),
        (words(&["--transport", "tls", "--pin", &wrong]), "FB-5114"),
        (words(&["--transport", "quic", "--pin", &wrong]), "FB-5114"),
        (words(&["--transport", "tls", "--pin", "none"]), "--pin"),
        (
            words(&["--transport", "tls", "--ca", "/dev/null"]),
            "FB-5113",
        ),
    ]
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").to_string()
}

#[test]
fn a_folder_with_other_things_in_it_is_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::write(folder.path().join("thesis.txt"), "x").expect("the folder is writable");
    let output = quickstart(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("FB-4901: "),
        "{output:?}"
    );
    assert_eq!(
        std::fs::read_dir(folder.path())
            .expect("it is there")
            .count(),
        1
    );
    let below_a_file = folder.path().join("thesis.txt/data");
    let output = quickstart(&below_a_file, &[]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("FB-4902: "),
        "{output:?}"
    );
}
