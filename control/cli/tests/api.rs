//! The API as commands meet it: in tunnels and in the clear, by contexts, with many endpoints at once, and from a backup.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

const PLAN: &str = r#"
[[accounts]]
name = "acme"
[[environments]]
name = "acme/prod"
[[hubs]]
name = "acme/prod/default"
partitions = 1
ack = "local"
[[channels]]
name = "acme/prod/readings"
[[endpoints]]
name = "acme/prod/pump"
[[endpoints.keys]]
id = 1
name = "primary"
direction = "ingress"
secret = "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbmE="
[[endpoints.grants]]
channel = "readings"
allow = "send"
"#;

const NODE: &str = "[node]\ndata = \"data\"\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nshards = 1\n\n[plan]\nfile = \"plan.toml\"\n\n[control]\n";

/// An API that is asked without the program, and so without TLS.
const PLAIN: &str = "plain = \"loopback\"\nlisten = \"127.0.0.1:0\"\n";

/// A folder with a plan and this under `[control]`.
fn folder(control: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("plan.toml"), PLAN).expect("written");
    let config = format!("{NODE}{control}");
    std::fs::write(folder.path().join("forebay.toml"), config).expect("written");
    folder
}

/// The program without anything of this environment.
fn forebay(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    let ours = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("FOREBAY_")
    });
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.env("FOREBAY_CONTEXTS", folder.join("contexts.toml"));
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// A running node and where its API is; killed when dropped.
struct Node {
    child: Child,
    api: String,
    admin: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(folder: &Path) -> Node {
    start_with(folder, &["run"])
}

fn start_with(folder: &Path, arguments: &[&str]) -> Node {
    let mut command = forebay(folder);
    command.args(arguments);
    started(folder, command)
}

/// Start it with this master key in its environment.
fn start_under(folder: &Path, key: &str) -> Node {
    let mut command = forebay(folder);
    command.arg("run").env("FOREBAY_MASTER_KEY", key);
    started(folder, command)
}

fn started(folder: &Path, mut command: Command) -> Node {
    command.stdout(Stdio::piped());
    let log = std::fs::File::create(folder.join("log")).expect("made");
    let mut child = command.stderr(log).spawn().expect("started");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let (mut api, mut admin) = (None, None);
    for line in out.lines().map_while(Result::ok) {
        if let Some(address) = line.strip_prefix("api on ") {
            api = Some(address.to_owned());
        }
        if let Some(address) = line.strip_prefix("admin on ") {
            admin = Some(address.to_owned());
            break;
        }
    }
    let api = api.expect("it says where its API is");
    let admin = admin.expect("it says where it is looked at");
    Node { child, api, admin }
}

fn told(output: &Output) -> String {
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    texts.concat()
}

/// Standard output of a command that succeeds.
fn good(command: &mut Command) -> String {
    let output = command.output().expect("run");
    assert!(output.status.success(), "{command:?}: {}", told(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A command that fails with this code.
fn bad(command: &mut Command, code: &str) {
    let output = command.output().expect("run");
    let told = told(&output);
    assert!(
        !output.status.success() && told.contains(code),
        "{command:?}: {told}"
    );
}

const TOKEN: &str = "forebay-control/first-owner.token";

#[test]
fn tokens_go_through_a_tunnel_to_who_is_trusted_or_nowhere() {
    let tls = "listen = \"127.0.0.1:0\"\n[control.tls]\ncertificate = \"tls/cert.pem\"\nkey = \"tls/key.pem\"\n";
    let folder = folder(tls);
    let folder = folder.path();
    let cert = |out: &str| good(forebay(folder).args(["cert", "dev", "--replace", "--out", out]));
    let pin_of = |made: &str| {
        let line = made
            .lines()
            .find_map(|line| line.strip_prefix("fingerprint"));
        let pin = line.and_then(|line| line.split_whitespace().next());
        pin.expect("it is told").to_owned()
    };
    let (first, other) = (pin_of(&cert("tls")), pin_of(&cert("other")));
    let node = start(folder);
    assert!(node.api.starts_with("https://"), "{}", node.api);
    let ask = |more: &[&str]| {
        let mut command = forebay(folder);
        command.args(["account", "ls", "--names", "--token-file", TOKEN]);
        command.args(["--api", &node.api]).args(more);
        command
    };
    for trust in [["--ca", "tls/ca.pem"], ["--pin", &first]] {
        assert_eq!(good(&mut ask(&trust)), "acme\n", "{trust:?}");
    }
    for trust in [["--ca", "other/ca.pem"], ["--pin", &other]] {
        bad(&mut ask(&trust), "FB-4614");
    }
    bad(&mut ask(&["--pin", "short"]), "FB-2216");
    // Whatever this machine trusts, that authority is not among it.
    assert!(!ask(&[]).output().expect("run").status.success());
    let clear = node.api.replace("https://", "http://");
    let mut plain = forebay(folder);
    plain.args(["account", "ls", "--token-file", TOKEN, "--api", &clear]);
    bad(&mut plain, "FB-461");
    let mut plain = forebay(folder);
    plain.args([
        "account",
        "ls",
        "--token-file",
        TOKEN,
        "--api",
        "http://192.0.2.1",
    ]);
    bad(&mut plain, "FB-2213");
    // Another pair is shown soon, and one that does not fit never.
    let second = pin_of(&cert("tls"));
    let mut asked = 0;
    while !ask(&["--pin", &second])
        .output()
        .expect("run")
        .status
        .success()
    {
        asked += 1;
        assert!(asked < 1_000, "the new certificate is not shown");
    }
    std::fs::write(folder.join("tls/key.pem"), "no key").expect("written");
    for _ in 0..3 {
        assert_eq!(good(&mut ask(&["--pin", &second])), "acme\n");
    }
}

#[test]
fn an_api_that_others_could_reach_in_the_clear_is_not_served() {
    let folder = folder("plain = \"loopback\"\nlisten = \"0.0.0.0:0\"\n");
    bad(forebay(folder.path()).arg("run"), "FB-2169");
    let tls = "[control.tls]\ncertificate = \"none.pem\"\nkey = \"none.pem\"\n";
    let config = format!("{NODE}listen = \"127.0.0.1:0\"\n{tls}");
    std::fs::write(folder.path().join("forebay.toml"), config).expect("written");
    bad(forebay(folder.path()).arg("run"), "FB-2170");
}

#[test]
fn an_api_without_a_certificate_makes_one_and_commands_trust_the_one_beside_their_token_alone() {
    let world = folder("listen = \"127.0.0.1:0\"\n");
    let folder = world.path();
    let mut node = start(folder);
    let at = |name: &str| folder.join("forebay-control").join(name);
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&at("api.key.pem")), 0o600);
    let made = std::fs::read(at("api.pem")).expect("readable");
    let ask = |node: &Node, token: &str| {
        // As a command asks the port that it asks unless told otherwise.
        let address = node.api.strip_prefix("https://").expect("in tunnels");
        let mut command = forebay(folder);
        command.args(["account", "ls", "--names", "--token-file", token]);
        command.args(["--api", address]);
        command
    };
    assert_eq!(good(&mut ask(&node, TOKEN)), "acme\n");
    // Another token of the same user does not know whom to trust unless told.
    std::fs::copy(folder.join(TOKEN), folder.join("own.token")).expect("copied");
    assert!(
        !ask(&node, "own.token")
            .output()
            .expect("run")
            .status
            .success()
    );
    let ca = ["--ca", "forebay-control/api.pem"];
    assert_eq!(good(ask(&node, "own.token").args(ca)), "acme\n");
    // Who takes the port while the control plane is away gets no token.
    good(forebay(folder).args(["cert", "dev", "--out", "other"]));
    std::fs::copy(folder.join("other/cert.pem"), at("api.pem")).expect("copied");
    bad(&mut ask(&node, TOKEN), "FB-4614");
    std::fs::set_permissions(at("api.pem"), std::fs::Permissions::from_mode(0o666)).expect("set");
    bad(&mut ask(&node, TOKEN), "FB-2216");
    std::fs::set_permissions(at("api.pem"), std::fs::Permissions::from_mode(0o600)).expect("set");
    std::fs::write(at("api.pem"), &made).expect("written");
    drop(node);
    node = start(folder);
    assert_eq!(good(&mut ask(&node, TOKEN)), "acme\n");
    assert_eq!(
        std::fs::read(at("api.pem")).expect("readable"),
        made,
        "it stays"
    );
    drop(node);
    // What does not fit, as after a crash in between, is made again.
    std::fs::remove_file(at("api.pem")).expect("removed");
    node = start(folder);
    assert_eq!(good(&mut ask(&node, TOKEN)), "acme\n");
    drop(node);
    std::fs::write(folder.join("forebay.toml"), format!("{NODE}{PLAIN}")).expect("written");
    node = start(folder);
    assert!(
        !at("api.pem").exists(),
        "nobody is to pin what is not shown"
    );
    let clear = ["account", "ls", "--names", "--token-file", TOKEN, "--api"];
    assert_eq!(good(forebay(folder).args(clear).arg(&node.api)), "acme\n");
    let address = node.api.strip_prefix("http://").expect("in the clear");
    bad(forebay(folder).args(clear).arg(address), "FB-461");
}

/// What `GET` of this path answers, as a script without the program would ask.
fn get(node: &Node, folder: &Path, path: &str) -> Value {
    let token = std::fs::read_to_string(folder.join(TOKEN)).expect("a token");
    let address = node.api.strip_prefix("http://").expect("in the clear");
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
        token.trim()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    let (_, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn contexts_say_where_and_as_whom_and_are_their_users_alone() {
    let folder = folder("listen = \"127.0.0.1:0\"\n");
    let folder = folder.path();
    let node = start(folder);
    let run = |arguments: &[&str]| {
        let mut command = forebay(folder);
        command.args(arguments);
        command
    };
    let ls = ["account", "ls", "--names"];
    bad(&mut run(&["context", "show"]), "FB-2214");
    let made = [
        "context",
        "set",
        "prod",
        "--api",
        &node.api,
        "--token-file",
        TOKEN,
    ];
    good(&mut run(&made));
    good(&mut run(&[
        "context",
        "create",
        "none",
        "--api",
        "http://127.0.0.1:1",
    ]));
    assert_eq!(good(&mut run(&ls)), "acme\n", "the first one is in use");
    let file = folder.join("contexts.toml");
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    bad(run(&ls).env("FOREBAY_CONTEXT", "none"), "FB-2212");
    bad(
        run(&ls).env("FOREBAY_CONTEXT", "prd"),
        "did you mean `prod`?",
    );
    bad(&mut run(&["account", "ls", "--api", &node.api]), "FB-2212");
    good(&mut run(&["context", "use", "none"]));
    bad(run(&ls).args(["--token-file", TOKEN]), "FB-4611");
    assert_eq!(good(run(&ls).args(["--context", "prod"])), "acme\n");
    let listed = good(&mut run(&["context", "ls", "--json"]));
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let shown = |at: usize, key: &str| listed["items"][at][key].clone();
    assert_eq!(
        (shown(0, "name"), shown(0, "current")),
        ("none".into(), true.into())
    );
    assert_eq!(
        (shown(1, "name"), shown(1, "current")),
        ("prod".into(), false.into())
    );
    good(&mut run(&["context", "delete", "none"]));
    bad(&mut run(&["context", "use", "none"]), "FB-2214");
    bad(
        &mut run(&["context", "set", "prod", "--api", "ftp://x"]),
        "FB-2213",
    );
    let open = std::fs::Permissions::from_mode(0o662);
    std::fs::set_permissions(&file, open).expect("changed");
    bad(&mut run(&["context", "ls"]), "FB-2215");
}

#[test]
fn many_endpoints_are_imported_once_however_often_that_is_cut_off_and_come_back_from_a_backup() {
    let world = folder(PLAIN);
    let folder_of = world.path();
    let node = start(folder_of);
    let run = |arguments: &[&str]| {
        let mut command = forebay(folder_of);
        command.args(arguments).env("FOREBAY_API", &node.api);
        command.env("FOREBAY_TOKEN_FILE", TOKEN);
        command
    };
    let write =
        |name: &str, text: &str| std::fs::write(folder_of.join(name), text).expect("written");
    write(
        "template.toml",
        "messages_per_second = 50\n[[keys]]\ndirection = \"ingress\"\n[[grants]]\nchannel = \"readings\"\nallow = \"send\"\n",
    );
    let lines: Vec<String> = (0..25)
        .map(|at| {
            format!(
                "{{\"name\": \"m-{at:02}\", \"messages_per_second\": {}}}\n",
                at + 1
            )
        })
        .collect();
    write("all.ndjson", &lines.concat());
    let import = |file: &str, report: &str| {
        let fixed = ["endpoint", "import", file, "--report", report, "--json"];
        let mut command = run(&fixed);
        command.args(["--within", "acme/prod", "--template", "template.toml"]);
        command.args(["--chunk", "10", "--wait"]);
        command
    };
    let done: Value =
        serde_json::from_str(&good(&mut import("all.ndjson", "report"))).expect("JSON");
    assert_eq!(
        (&done["endpoints"], &done["sent"]),
        (&25.into(), &25.into())
    );
    let report = folder_of.join("report");
    let whole = std::fs::read_to_string(&report).expect("readable");
    let mode = report.metadata().expect("there").permissions().mode();
    assert_eq!((mode & 0o777, whole.lines().count()), (0o600, 28));
    let version = get(&node, folder_of, "/v1/status")["version"].clone();
    // Whatever it was told of what is there, it changes nothing of that.
    let undone: Vec<&str> = whole
        .lines()
        .filter(|line| !line.contains("done"))
        .collect();
    for (told, goes_on) in [
        (whole.clone(), true),
        (whole[..whole.len() - 3].to_owned(), true),
        (undone.join("\n") + "\n", true),
        // Without its report it would make other keys.
        (String::new(), false),
    ] {
        write("report", &told);
        let mut again = import("all.ndjson", "report");
        match goes_on {
            true => drop(good(&mut again)),
            false => bad(&mut again, "FB-2142"),
        }
        let now = get(&node, folder_of, "/v1/status")["version"].clone();
        assert_eq!(now, version, "{told}");
    }
    write("report", &whole);
    write("rows.csv", "name,queue.lock,keys\nacme/prod/csv,45s,[]\n");
    good(&mut import("rows.csv", "rows.report"));
    let shown = good(&mut run(&["endpoint", "show", "acme/prod/csv", "--json"]));
    assert!(
        shown.contains("\"lock\":\"45s\"") && !shown.contains("keys"),
        "{shown}"
    );
    write(
        "wrong.ndjson",
        "{\"name\": \"x\", \"mesages_per_second\": 1}\n",
    );
    bad(&mut import("wrong.ndjson", "wrong.report"), "FB-2102");
    bad(&mut import("all.ndjson", "wrong.report"), "FB-2217");

    good(&mut run(&["backup", "backup"]));
    bad(&mut run(&["backup", "backup"]), "FB-2138");
    let digest = get(&node, folder_of, "/v1/status")["digest"].clone();
    let (restored, code) = (folder(PLAIN), "FB-2134");
    let there = restored.path();
    let backup: PathBuf = folder_of.join("backup");
    let mut restore = forebay(there);
    restore.args(["restore", "--json"]).arg(&backup);
    bad(&mut restore, code);
    let key = "forebay-control/master.key";
    std::fs::copy(folder_of.join(key), there.join(key)).expect("copied");
    let told: Value = serde_json::from_str(&good(&mut restore)).expect("JSON");
    assert_eq!(told["digest"], digest);
    bad(&mut restore, "FB-2138");
    std::fs::create_dir_all(there.join("forebay-control")).expect("there");
    std::fs::copy(folder_of.join(TOKEN), there.join(TOKEN)).expect("copied");
    let again = start(there);
    assert_eq!(get(&again, there, "/v1/status")["digest"], digest);
    let verdict = get(&again, there, "/v1/audit/verify");
    assert_eq!(verdict["faults"], serde_json::json!([]));
    let lines = get(&again, there, "/v1/audit?limit=1000");
    let last = lines["items"].as_array().and_then(|lines| lines.last());
    assert_eq!(last.map(|line| &line["action"]), Some(&"restore".into()));
}

#[test]
fn the_master_key_of_a_store_that_nobody_has_open_is_changed() {
    let world = folder(PLAIN);
    let folder = world.path();
    let at = |name: &str| folder.join("forebay-control").join(name);
    let rekey = || {
        let mut command = forebay(folder);
        command.args(["store", "rekey"]);
        command
    };
    let with = |name: &str| {
        let mut command = rekey();
        command.arg("--new-key").arg(at(name));
        command
    };
    bad(&mut with("new.key"), "FB-2130");
    assert!(!at("new.key").exists(), "there is no store");
    let node = start(folder);
    let digest = get(&node, folder, "/v1/status")["digest"].clone();
    bad(&mut with("new.key"), "FB-2131");
    drop(node);
    bad(&mut rekey(), "FB-2134");
    bad(&mut with("master.key"), "FB-2143");
    bad(
        rekey().env("FOREBAY_NEW_MASTER_KEY", "canary"),
        "variable FOREBAY_NEW_MASTER_KEY",
    );
    let told = good(&mut with("new.key"));
    let same = format!("digest  {}", digest.as_str().expect("text"));
    assert!(
        told.contains("1 secrets are") && told.contains(&same),
        "{told}"
    );
    let mode = std::fs::metadata(at("new.key"))
        .expect("made")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    // Once more, by whoever did not see how it ended.
    let again = good(&mut with("new.key"));
    assert!(again.contains("already"), "{again}");
    bad(&mut with("third.key"), "FB-2136");
    assert!(!at("third.key").exists(), "a key that is no use");
    bad(forebay(folder).arg("run"), "FB-2136");
    std::fs::rename(at("master.key"), at("old.key")).expect("renamed");
    std::fs::rename(at("new.key"), at("master.key")).expect("renamed");
    let node = start(folder);
    assert_eq!(get(&node, folder, "/v1/status")["digest"], digest);
    let verdict = get(&node, folder, "/v1/audit/verify");
    assert_eq!(verdict["faults"], serde_json::json!([]));
    drop(node);
    // A credential of the service manager, and JSON.
    let old = std::fs::read_to_string(at("old.key")).expect("readable");
    std::fs::write(at("forebay-new-master-key"), &old).expect("written");
    let mut back = rekey();
    back.env("CREDENTIALS_DIRECTORY", at("")).arg("--json");
    let told: Value = serde_json::from_str(&good(&mut back)).expect("JSON");
    assert_eq!((&told["rekeyed"], &told["digest"]), (&true.into(), &digest));
    let node = start_under(folder, old.trim());
    assert_eq!(get(&node, folder, "/v1/status")["digest"], digest);
    let lines = get(&node, folder, "/v1/audit?limit=1000");
    let lines = lines["items"].as_array().expect("lines");
    let rekeys = lines.iter().filter(|line| line["action"] == "store rekey");
    assert_eq!(rekeys.count(), 4, "one each time, and one for each secret");
}

#[test]
fn a_store_that_is_lost_is_not_replaced_unless_that_is_asked_for() {
    let world = folder(PLAIN);
    let folder = world.path();
    drop(start(folder));
    let at = |name: &str| folder.join("forebay-control").join(name);
    let whole = std::fs::read(at("store")).expect("readable");
    let mode = |mode: u32| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(at("store"), mode).expect("set");
    };
    mode(0o644);
    bad(forebay(folder).arg("run"), "mode 0644");
    mode(0o600);
    bad(forebay(folder).args(["run", "--new"]), "FB-2205");
    std::fs::write(at("store"), "").expect("written");
    bad(forebay(folder).arg("run"), "FB-2139");
    bad(forebay(folder).arg("control"), "FB-2139");
    std::fs::remove_file(at("store")).expect("removed");
    bad(forebay(folder).arg("run"), "FB-2139");
    // Any one of what a store leaves tells.
    std::fs::remove_file(at("first-owner.token")).expect("removed");
    bad(forebay(folder).arg("run"), "FB-2139");
    assert!(!at("store").exists());
    std::fs::write(at("store"), "").expect("written");
    mode(0o600);
    drop(start_with(folder, &["run", "--new"]));
    assert_ne!(std::fs::read(at("store")).expect("readable"), whole);
    drop(start(folder));
    let link = "[node]\ndata = \"data\"\n[plan]\nfile = \"plan.toml\"\n";
    std::fs::write(folder.join("plain.toml"), link).expect("written");
    let order = ["run", "--new", "--config", "plain.toml"];
    bad(forebay(folder).args(order), "FB-2205");
}

/// Every file under a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn no_secret_is_in_anything_that_a_whole_run_wrote_or_showed() {
    let folder = folder(PLAIN);
    let folder = folder.path();
    let node = start(folder);
    let run = |arguments: &[&str]| {
        let mut command = forebay(folder);
        command.args(arguments).env("FOREBAY_API", &node.api);
        command.env("FOREBAY_TOKEN_FILE", TOKEN);
        command
    };
    let pump = "acme/prod/pump";
    let made = |text: String| -> Value { serde_json::from_str(&text).expect("JSON") };
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let way = ["--direction", "egress", "--json"];
    let created = made(good(run(&["keys", "create", pump]).args(way)));
    let rotated = made(good(run(&["keys", "rotate", pump]).args(way)));
    let token = made(good(&mut run(&[
        "tokens", "create", "t", "--role", "admin", "--json",
    ])));
    let first = std::fs::read_to_string(folder.join(TOKEN)).expect("a token");
    let secrets = [
        "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbmE=".to_owned(),
        text(&created["secret"]),
        text(&rotated["secret"]),
        text(&token["token"]),
        first.trim().to_owned(),
        "canary-canary-canary-canary-cana".to_owned(),
    ];
    // A mistake in what holds a secret is told without it.
    let wrong = PLAN.replace(
        "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbmE=",
        "canary-canary-canary-canary-cana",
    );
    std::fs::write(folder.join("wrong.toml"), wrong).expect("written");
    let told_wrong = told(&run(&["apply", "-f", "wrong.toml"]).output().expect("run"));
    assert!(told_wrong.contains("FB-2110"), "{told_wrong}");
    good(&mut run(&["backup", "backup"]));
    let address = node.admin.trim_start_matches("http://");
    let mut shown = vec![told_wrong];
    for path in ["/metrics", "/shards"] {
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        let head = format!("GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("answered");
        shown.push(page);
    }
    shown.push(get(&node, folder, "/v1/audit?limit=1000").to_string());
    shown.push(good(&mut run(&["export", "--secrets", "sealed"])));
    let about = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", node.child.id()));
    shown.extend(["cmdline", "environ", "status"].map(|name| about(name).expect("readable")));
    let limits = about("limits").expect("readable");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let soft = core.and_then(|line| line.split_whitespace().nth(4));
    assert!(
        matches!(soft, Some("0" | "1")),
        "a core would hold them all: {limits}"
    );
    drop(node);
    let mut written = Vec::new();
    files(folder, &mut written);
    let own = ["plan.toml", "wrong.toml", "first-owner.token"];
    written.retain(|path| !own.iter().any(|name| path.ends_with(name)));
    assert!(
        written.len() > 5 && written.iter().any(|path| path.ends_with("log")),
        "{written:?}"
    );
    let read = written.iter().map(|path| {
        (
            path.display().to_string(),
            std::fs::read(path).expect("readable"),
        )
    });
    let shown = shown
        .into_iter()
        .map(|text| (text[..text.len().min(40)].to_owned(), text.into_bytes()));
    for (place, bytes) in read.chain(shown) {
        for (at, secret) in secrets.iter().enumerate() {
            let secret = secret.as_bytes();
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "secret {at} is in {place}");
        }
    }
}
