//! Commands that need no node: keys, tokens, completions, explain.

use std::process::{Command, Output};

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
