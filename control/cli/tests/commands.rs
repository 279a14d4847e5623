//! Commands that need no node: keys, tokens, completions, explain.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

use wire::signature::{SecretKey, verifying_key_from_base64};

fn forebay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(arguments)
        .output()
        .expect("the binary was built for this test")
}

fn json(arguments: &[&str]) -> serde_json::Value {
    let output = forebay(arguments);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().expect("a text")
}

#[test]
fn new_keys_are_keys_and_fit_into_a_plan() {
    assert!(SecretKey::from_base64(text(&json(&["keys", "new", "--json"])["secret"])).is_ok());
    let pair = json(&["keys", "new", "--kind", "ed25519", "--json"]);
    assert!(verifying_key_from_base64(text(&pair["public"])).is_ok());
    let line = String::from_utf8(forebay(&["keys", "new"]).stdout).expect("text");
    let table: toml::Table = line.parse().expect("the line is TOML");
    assert!(SecretKey::from_base64(table["secret"].as_str().expect("a text")).is_ok());
}

#[test]
fn a_new_token_passes_the_check_of_the_key_it_was_made_with() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let plan = folder.path().join("plan.toml");
    let key = SecretKey::from_random([9; 32]);
    let text = format!(
        "[[accounts]]\nname = \"a\"\n[[environments]]\nname = \"a/e\"\n[[endpoints]]\nname = \"a/e/pump\"\n\
         [[endpoints.keys]]\nid = 1\nname = \"main\"\ndirection = \"ingress\"\nsecret = \"{}\"\n",
        key.text()
    );
    std::fs::write(&plan, text).expect("the folder is writable");
    let plan = plan.to_str().expect("temporary folders have plain names");
    let output = forebay(&[
        "token",
        "new",
        "--plan",
        plan,
        "--endpoint",
        "pump",
        "--valid",
        "2h",
    ]);
    let printed = String::from_utf8(output.stdout).expect("text");
    let token = wire::token::Token::parse(printed.trim()).expect("well formed");
    let made = wire::ids::UnixNanos::from_seconds(token.expiry_seconds() - 7_200);
    assert!(token.check(key.mac(), made, "a/e/pump").is_ok());
    assert_eq!(token.key_name(), "main");
    assert!(!printed.contains(key.text()));
}

#[test]
fn completions_and_help_name_every_subcommand() {
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(forebay(&["completions", shell]).stdout).expect("text");
        for command in ["load", "log", "config", "keys", "token", "explain"] {
            assert!(script.contains(command), "{shell} lacks {command}");
        }
    }
    let help = String::from_utf8(forebay(&["--help"]).stdout).expect("text");
    assert!(
        help.contains(
            "Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 load run void"
        ),
        "{help}"
    );
}

#[test]
fn explain_says_meaning_and_remedy_and_lists_all() {
    let one = json(&["explain", "FB-1104", "--json"]);
    assert_eq!(one["name"], "bad_credential");
    assert!(!text(&one["meaning"]).is_empty() && !text(&one["remedy"]).is_empty());
    let all = String::from_utf8(forebay(&["explain", "--all"]).stdout).expect("text");
    assert!(all.lines().count() > 100, "{all}");
    assert_eq!(forebay(&["explain", "FB-9999"]).status.code(), Some(2));
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    let command = command
        .args(["explain", "--all"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the binary was built for this test");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr)
        ),
        (Some(0), "".into())
    );
}

#[test]
fn a_certificate_for_tests_is_a_pair_that_its_authority_signed_and_is_not_overwritten() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let out = folder.path().join("made");
    let out = out.to_str().expect("temporary folders have plain names");
    let made = forebay(&["cert", "dev", "--out", out]);
    assert!(made.status.success(), "{made:?}");
    let file = |name: &str| std::path::Path::new(out).join(name);
    let mode = |name| {
        file(name)
            .metadata()
            .expect("it was made")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!((mode("key.pem"), mode("cert.pem")), (0o600, 0o644));
    let read = |name| std::fs::read(file(name)).expect("it was made");
    let pair = tls::Certificate::from_pem(&read("cert.pem"), &read("key.pem")).expect("a pair");
    let told = String::from_utf8(made.stdout).expect("text");
    assert!(told.contains(&pair.fingerprint().to_string()), "{told}");

    let server = tls::Server::new(tls::Served::new(pair)).expect("random bytes");
    for (name, trusted) in [
        ("localhost", true),
        ("127.0.0.1", true),
        ("::1", true),
        ("example.org", false),
    ] {
        let client = tls::Client::new(&tls::Trust::Roots(read("ca.pem")), name).expect("a name");
        let mut ends = [client.tunnel(), server.tunnel()].map(|end| end.expect("random bytes"));
        let mut good = Ok(());
        for turn in 0..6 {
            let (mut bytes, [left, right]) = (Vec::new(), &mut ends);
            let (from, to) = if turn % 2 == 0 {
                (left, right)
            } else {
                (right, left)
            };
            from.flush(&mut bytes);
            good = good.and(to.receive(&bytes, &mut Vec::new()));
        }
        assert_eq!(good.is_ok(), trusted, "{name}: {good:?}");
    }

    let again = forebay(&["cert", "dev", "--out", out]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(
        said.contains("FB-4801") && said.contains("--replace"),
        "{said}"
    );
    let replaced = forebay(&[
        "cert",
        "dev",
        "--out",
        out,
        "--name",
        "pump.example",
        "--replace",
    ]);
    assert!(replaced.status.success(), "{replaced:?}");
    assert_eq!(mode("key.pem"), 0o600);
    let unfit = forebay(&["cert", "dev", "--out", out, "--name", "no name\u{e9}"]);
    assert_eq!(unfit.status.code(), Some(2), "{unfit:?}");
}

#[test]
fn a_certificate_for_a_client_is_a_pair_and_its_fingerprint_goes_into_the_plan() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("an ordinary path");
    let made = forebay(&["cert", "client", "--out", out, "--name", "pump-7"]);
    assert!(made.status.success(), "{made:?}");
    let read = |name: &str| std::fs::read(folder.path().join(name)).expect("it was written");
    let pair = tls::Certificate::from_pem(&read("pump-7.pem"), &read("pump-7.key.pem"));
    let line = format!(
        "certificates = [\"{}\"]",
        pair.expect("a pair").fingerprint()
    );
    let told = String::from_utf8(made.stdout).expect("text");
    assert!(told.contains(&line), "{told}");
    let again = forebay(&["cert", "client", "--out", out, "--name", "pump-7"]);
    assert!(!again.status.success(), "{again:?}");
    for name in ["../pump", "", ".hidden"] {
        let refused = forebay(&["cert", "client", "--out", out, "--name", name]);
        assert_eq!(refused.status.code(), Some(2), "{name}: {refused:?}");
    }
}

/// The longest core that the kernel writes of this process; `None` where it may write none at all.
fn core_of(child: &Child) -> Option<String> {
    let path = format!("/proc/{}/limits", child.id());
    let limits = std::fs::read_to_string(path).expect("it runs");
    let core = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"));
    let mut limits = core.expect("a limit").split_whitespace();
    let (soft, hard) = (limits.next(), limits.next());
    soft.filter(|_| hard != Some("0")).map(str::to_owned)
}

/// A process that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nothing_that_holds_secrets_leaves_a_core() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("written");
    write("control.toml", "[control]\nlisten = \"127.0.0.1:0\"\n");
    write(
        "node.toml",
        "[node]\ndata = \"data\"\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nshards = 1\n[link]\nname = \"north\"\ncontrol = \"127.0.0.1:1\"\nca = \"link/ca.pem\"\ncertificate = \"link/north.pem\"\nkey = \"link/north.key.pem\"\n",
    );
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(arguments).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        command
    };
    for arguments in [
        ["cert", "control"].as_slice(),
        &["cert", "node", "--name", "north"],
    ] {
        let made = command(arguments).output().expect("run");
        assert!(made.status.success(), "{made:?}");
    }
    for arguments in [
        ["control", "-c", "control.toml"].as_slice(),
        &["node", "-c", "node.toml"],
        &["endpoint", "import", "/dev/stdin", "--report", "report"],
    ] {
        let mut child = Running(command(arguments).spawn().expect("started"));
        // It says something, or has begun a file, and waits then: for a question, for its control plane, for a line.
        match arguments[0] {
            "control" => said(child.0.stdout.take()),
            "node" => said(child.0.stderr.take()),
            _ => while !folder.join("report").exists() {},
        }
        // Of one byte none is written, and no program of a core pattern is called.
        let core = core_of(&child.0);
        assert!(
            core.as_deref().is_none_or(|core| core == "1"),
            "{arguments:?}: {core:?}"
        );
    }
}

/// Wait for a line.
fn said(out: Option<impl Read>) {
    let mut line = String::new();
    let read = BufReader::new(out.expect("piped")).read_line(&mut line);
    assert!(read.expect("UTF-8") > 0, "it ended");
}

#[test]
fn an_argument_that_is_no_text_is_refused_with_a_code() {
    use std::os::unix::ffi::OsStrExt;
    let strange = std::ffi::OsStr::from_bytes(b"--\xff");
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    let output = command.arg(strange).output().expect("run");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("FB-2201"), "{told}");
}

/// Something that answers as the API would, and what it was asked: head and body of each question.
struct Api {
    address: String,
    asked: JoinHandle<Vec<(String, serde_json::Value)>>,
}

/// Answer so many questions with these heads and bodies.
fn api(answers: Vec<(&'static str, serde_json::Value)>) -> Api {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("it listens"));
    let asked = std::thread::spawn(move || {
        let answered = answers.into_iter().map(|(head, body)| {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            let mut reader = BufReader::new(stream.try_clone().expect("it stands"));
            let (mut asked, mut bytes) = (String::new(), 0);
            while !asked.ends_with("\r\n\r\n") {
                let mut line = String::new();
                reader.read_line(&mut line).expect("UTF-8");
                let length = line.strip_prefix("Content-Length: ");
                bytes = length.map_or(bytes, |text| text.trim().parse().expect("a number"));
                asked.push_str(&line);
            }
            let mut sent = vec![0; bytes];
            reader.read_exact(&mut sent).expect("all of it");
            let body = body.to_string();
            let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).expect("written");
            stream.write_all(body.as_bytes()).expect("written");
            (asked, serde_json::from_slice(&sent).unwrap_or_default())
        });
        answered.collect()
    });
    Api { address, asked }
}

impl Api {
    /// What a command says, with its exit code, and what it asked.
    fn ask(self, arguments: &[&str]) -> (Option<i32>, String, Vec<(String, serde_json::Value)>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(arguments).args(["--api", &self.address]);
        command.env("FOREBAY_TOKEN", "token");
        let output = command.output().expect("run");
        let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        (
            output.status.code(),
            texts.concat(),
            self.asked.join().expect("asked"),
        )
    }
}

fn meanwhile() -> serde_json::Value {
    let fault = serde_json::json!({ "code": "FB-2140", "detail": "d", "seen": "s", "needed": "n", "remedy": "r" });
    serde_json::json!({ "errors": [fault] })
}

#[test]
fn a_subscription_is_changed_only_while_its_grant_is_what_was_seen() {
    let grant =
        serde_json::json!({ "channel": "c", "allow": "receive", "addresses": ["10.0.0.0/8"] });
    let answers = vec![("200 OK\r\nETag: \"7\"", grant), ("412 No", meanwhile())];
    let (code, told, asked) = api(answers).ask(&["subscription", "delete", "a/e/x", "c"]);
    assert!(
        asked[1].0.contains("\r\nIf-Match: \"7\"\r\n"),
        "{}",
        asked[1].0
    );
    assert!(
        code == Some(1) && told.contains("FB-2140"),
        "{code:?} {told}"
    );
}

#[test]
fn a_document_is_applied_only_if_what_differs_is_what_was_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = folder.path().join("plan.toml");
    std::fs::write(&plan, "[[accounts]]\nname = \"a\"\n").expect("written");
    let order = [
        "apply",
        "--prune",
        "-f",
        plan.to_str().expect("a plain name"),
    ];
    let seen = |version: u32, names: &[&str]| {
        let gone = |name: &&str| serde_json::json!({ "noun": "endpoint", "name": name, "action": "delete" });
        let differences: Vec<_> = names.iter().map(gone).collect();
        (
            "200 OK",
            serde_json::json!({ "version": version, "differences": differences }),
        )
    };
    let refused = || ("412 No", meanwhile());
    // Somebody makes an endpoint meanwhile, which would be deleted unseen.
    let answers = vec![seen(3, &["a/e/x"]), refused(), seen(4, &["a/e/x", "a/e/y"])];
    let (code, told, asked) = api(answers).ask(&order);
    assert!(
        code == Some(1) && told.contains("FB-2140"),
        "{code:?} {told}"
    );
    assert_eq!(asked[1].1["if_version"], 3);
    // Somebody changes something else.
    let done = ("200 OK", serde_json::json!({ "version": 5 }));
    let answers = vec![seen(3, &["a/e/x"]), refused(), seen(4, &["a/e/x"]), done];
    let (code, told, asked) = api(answers).ask(&order);
    assert!(
        code == Some(0) && told.contains("version 5"),
        "{code:?} {told}"
    );
    assert_eq!(asked[3].1["if_version"], 4);
}

#[test]
fn a_change_that_has_not_come_to_every_node_in_time_is_no_success() {
    let progress = serde_json::json!({ "version": 9, "complete": false, "milliseconds": 1_000.5, "nodes": [
        { "node": "north", "shards": 2, "applied": 2 }, { "node": "south", "shards": 2, "applied": 0 },
    ] });
    let done = serde_json::json!({ "version": 9, "progress": progress, "key": { "name": "k", "id": 3 }, "secret": "shown-once" });
    for order in [
        ["keys", "revoke", "a/e/x", "k", "--wait"].as_slice(),
        &[
            "keys",
            "create",
            "a/e/x",
            "--direction",
            "ingress",
            "--wait",
        ],
        &[
            "keys",
            "rotate",
            "a/e/x",
            "--direction",
            "ingress",
            "--name",
            "new",
            "--wait",
        ],
        &["channel", "create", "a/e/c", "--wait"],
    ] {
        let (code, told, asked) = api(vec![("200 OK", done.clone())]).ask(order);
        assert_eq!(code, Some(1), "{order:?} {told}");
        assert!(
            told.contains("FB-4615") && told.contains("without it: south"),
            "{told}"
        );
        let makes = order[1] == "rotate" || order[..2] == ["keys", "create"];
        assert_eq!(
            told.contains("shown-once"),
            makes,
            "a secret is shown once, and then it is: {told}"
        );
        if order[1] == "rotate" {
            assert_eq!(asked[0].1["name"], "new");
        }
    }
}

#[test]
fn what_an_import_refuses_is_told_without_the_secrets_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let canary = "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbmE=";
    let key = format!("{{\"direction\": \"ingress\", \"secret\": \"{canary}\"}}");
    for (name, lines, template) in [
        (
            "no list",
            format!("{{\"name\": \"a/e/x\", \"keys\": {key}}}\n"),
            String::new(),
        ),
        (
            "no table in it",
            format!("{{\"name\": \"a/e/x\", \"keys\": [{key}, \"{canary}\"]}}\n"),
            String::new(),
        ),
        (
            "a name of its own",
            format!("{{\"name\": [\"{canary}\"]}}\n"),
            String::new(),
        ),
        (
            "a template",
            "{\"name\": \"a/e/x\"}\n".to_owned(),
            format!("[[keys]]\nsecret = \"{canary}\n"),
        ),
        (
            "twice in a template",
            "{\"name\": \"a/e/x\"}\n".to_owned(),
            format!("[[keys]]\nsecret = \"{canary}\" \"{canary}\"\n"),
        ),
    ] {
        std::fs::write(folder.join("all.ndjson"), lines).expect("written");
        std::fs::write(folder.join("template.toml"), template).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command
            .current_dir(folder)
            .args(["endpoint", "import", "all.ndjson"]);
        command.args(["--template", "template.toml", "--report", "report"]);
        let output = command.output().expect("run");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("FB-2217"), "{name}: {told}");
        assert!(!told.contains(canary), "{name}: {told}");
    }
}
