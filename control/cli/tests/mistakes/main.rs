//! Provoked mistakes, each made with the real binary or the SDK against it: every answer says what failed, the value
//! seen, the value needed, the remedy, and a code that `forebay explain` knows.

mod files;
mod folder;
mod node;

use std::process::{Command, Output};

use folder::{Folder, SECRET};

/// One mistake: what it is, how it is made, the code, and what the answer must name.
struct Mistake {
    why: &'static str,
    output: Answer,
    code: u16,
    exit: Option<i32>,
    names: &'static [&'static str],
}

/// What came back.
struct Answer {
    text: String,
    exit: Option<i32>,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            text: String::from_utf8_lossy(&output.stderr).into_owned(),
            exit: output.status.code(),
        }
    }
}

/// A command line of the binary.
fn forebay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FOREBAY_")) {
        command.env_remove(name);
    }
    command
}

fn answer(arguments: &[&str]) -> Answer {
    forebay(arguments)
        .output()
        .expect("the binary was built for this test")
        .into()
}

/// The five parts are there, and the code is explained.
fn check(mistake: &Mistake) {
    let Mistake {
        why,
        output,
        code,
        exit,
        names,
    } = mistake;
    let text = &output.text;
    let mark = format!("FB-{code}: ");
    let line = text
        .lines()
        .find(|line| line.contains(&mark))
        .unwrap_or_else(|| panic!("{why}: no FB-{code} in: {text}"));
    let rest = line.split_once(&mark).map_or("", |(_, rest)| rest);
    let (what, rest) = rest
        .split_once(": saw ")
        .unwrap_or_else(|| panic!("{why}: nothing seen in: {line}"));
    let (seen, rest) = rest
        .split_once(", need ")
        .unwrap_or_else(|| panic!("{why}: nothing needed in: {line}"));
    let (needed, remedy) = rest
        .split_once("; ")
        .unwrap_or_else(|| panic!("{why}: no remedy in: {line}"));
    for (part, value) in [
        ("what", what),
        ("seen", seen),
        ("needed", needed),
        ("remedy", remedy),
    ] {
        assert!(
            !value.trim().is_empty(),
            "{why}: `{part}` is empty in: {line}"
        );
    }
    for name in *names {
        assert!(line.contains(name), "{why}: `{name}` is not in: {line}");
    }
    if let Some(exit) = exit {
        assert_eq!(output.exit, Some(*exit), "{why}: {text}");
    }
    let explained = forebay(&["explain", &code.to_string()])
        .output()
        .expect("the binary was built for this test");
    assert!(
        explained.status.success(),
        "{why}: FB-{code} is not explained"
    );
    assert!(!text.contains(SECRET), "{why}: a secret is shown");
    assert!(!text.contains("panicked"), "{why}: {text}");
}

#[test]
fn wrong_sweeps_and_wrong_company_are_refused_before_anything_is_run() {
    let folder = Folder::new();
    let config = folder.config();
    let rows: [(&str, &[&str], u16, &'static [&'static str]); 11] = [
        ("no values", &["--sweep", "shards"], 2210, &["`shards`"]),
        (
            "unknown dimension",
            &["--sweep", "shard=1,2"],
            2210,
            &["`shard=1,2`", "did you mean `shards`?"],
        ),
        ("no such value", &["--sweep", "batch=1,x"], 2210, &["`x`"]),
        ("no shards", &["--sweep", "shards=0,1"], 2210, &["`0`"]),
        (
            "an empty value",
            &["--sweep", "batch=1,,2"],
            2210,
            &["batch=1,,2"],
        ),
        (
            "one dimension twice",
            &["--sweep", "batch=1", "--sweep", "batch=2"],
            2210,
            &["batch=2", "once"],
        ),
        (
            "too many combinations",
            &[
                "--sweep",
                "batch=1,2,3,4,5,6,7,8,9",
                "--sweep",
                "window=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30",
            ],
            2210,
            &["270 combinations", "256"],
        ),
        (
            "shards of a node that runs",
            &["--sweep", "shards=1,2", "--addr", "127.0.0.1:1"],
            2205,
            &["--addr", "--config alone"],
        ),
        ("activity", &["--activity", "zipf:0"], 5213, &["zipf:0"]),
        ("storm", &["--storm", "many"], 2205, &["`many`", "500/s"]),
        ("nobody left", &["--flooders", "7"], 5201, &["7 of"]),
    ];
    check_all(&rows.map(|(why, arguments, code, names)| Mistake {
        why,
        output: answer(&[&["load", "--config", &config], arguments].concat()),
        code,
        exit: None,
        names,
    }));
}

#[test]
fn a_tune_that_cannot_be_done_is_refused_before_anything_is_measured() {
    let folder = Folder::new();
    let config = folder.config();
    let rows: [(&str, &[&str], u16, &'static [&'static str]); 5] = [
        (
            "a time that is none",
            &["--within", "soon"],
            2205,
            &["`soon`", "2m"],
        ),
        (
            "too little time",
            &["--within", "5s", "--shards-max", "2"],
            4956,
            &["--within 5s", "at least 22s"],
        ),
        ("no shards", &["--shards-max", "0"], 2201, &["`0`"]),
        (
            "a page that cannot be written",
            &["--html", "/nowhere/tune.html"],
            4902,
            &["/nowhere/tune.html", "--html"],
        ),
        (
            "no such option",
            &["--hmtl", "x"],
            2201,
            &["`--hmtl`", "--html"],
        ),
    ];
    check_all(&rows.map(|(why, arguments, code, names)| Mistake {
        why,
        output: answer(&[&["tune", "--config", &config], arguments].concat()),
        code,
        exit: None,
        names,
    }));
}

/// Run a table; all of it, so that one run shows every row that is wrong.
fn check_all(mistakes: &[Mistake]) {
    let wrong: Vec<String> = mistakes
        .iter()
        .filter_map(|mistake| {
            let result = std::panic::catch_unwind(|| check(mistake));
            result.err().map(|panic| {
                panic
                    .downcast_ref::<String>()
                    .cloned()
                    .unwrap_or_else(|| mistake.why.to_owned())
            })
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} mistakes:\n{}",
        wrong.len(),
        mistakes.len(),
        wrong.join("\n")
    );
}

#[test]
fn wrong_arguments_name_what_is_needed() {
    let folder = Folder::new();
    let (config, plan) = (folder.config(), folder.plan());
    let rows: [(&str, &[&str], u16, &'static [&'static str]); 16] = [
        ("no subcommand", &[], 2201, &["no command", "quickstart"]),
        (
            "no such subcommand",
            &["explan"],
            2201,
            &["`explan`", "explain"],
        ),
        (
            "no such option",
            &["keys", "new", "--knd", "x"],
            2201,
            &["`--knd`", "--kind"],
        ),
        (
            "no such kind",
            &["keys", "new", "--kind", "rsa"],
            2201,
            &["`rsa`", "ed25519"],
        ),
        (
            "rate is no number",
            &["load", "--rate", "fast"],
            2201,
            &["`fast`"],
        ),
        (
            "hubs of nothing",
            &["hub", "ls", "--api", "127.0.0.1:1", "--token-file", &plan],
            2205,
            &["nothing", "account/environment"],
        ),
        (
            "plan without address",
            &["load", "--plan", &plan],
            2201,
            &["--addr"],
        ),
        (
            "unknown code",
            &["explain", "FB-9999"],
            2206,
            &["`FB-9999`", "FB-2102"],
        ),
        (
            "address",
            &["load", "--plan", &plan, "--addr", "localhost"],
            2205,
            &["`localhost`", "127.0.0.1:7411"],
        ),
        (
            "duration",
            &["load", "--config", &config, "--duration", "ten"],
            2205,
            &["`ten`", "\"30s\""],
        ),
        (
            "unknown endpoint",
            &[
                "token",
                "new",
                "--config",
                &config,
                "--endpoint",
                "a/e/pmup",
            ],
            2204,
            &["a/e/pump"],
        ),
        (
            "unknown key",
            &[
                "token",
                "new",
                "--config",
                &config,
                "--endpoint",
                "pump",
                "--key",
                "ingres",
            ],
            2204,
            &["ingress"],
        ),
        (
            "wrong direction",
            &[
                "token",
                "new",
                "--config",
                &config,
                "--endpoint",
                "pump",
                "--direction",
                "egress",
            ],
            2209,
            &["egress"],
        ),
        (
            "unknown channel",
            &["load", "--config", &config, "--channel", "raedings"],
            2204,
            &["a/e/readings"],
        ),
        (
            "token validity",
            &[
                "token",
                "new",
                "--config",
                &config,
                "--endpoint",
                "pump",
                "--valid",
                "0s",
            ],
            2122,
            &["--valid"],
        ),
        (
            "body one byte too long",
            &["load", "--config", &config, "--size", "262145"],
            5202,
            &["262145", "262144"],
        ),
    ];
    check_all(&rows.map(|(why, arguments, code, names)| Mistake {
        why,
        output: answer(arguments),
        code,
        exit: None,
        names,
    }));
}

#[test]
fn a_missed_connection_or_an_empty_folder_is_named() {
    let folder = Folder::new();
    let (plan, empty) = (folder.plan(), folder.path("empty"));
    std::fs::create_dir(&empty).expect("the folder is writable");
    let foreign = folder.path("foreign");
    std::fs::create_dir(&foreign).expect("the folder is writable");
    std::fs::write(format!("{foreign}/thesis.txt"), "x").expect("the folder is writable");
    let closed = folder::closed_port();
    let nowhere = folder.path("nowhere");
    let rows: [(&str, &[&str], u16, &'static [&'static str]); 5] = [
        (
            "nobody listens",
            &["load", "--plan", &plan, "--addr", &closed],
            5101,
            &["127.0.0.1"],
        ),
        ("no logs", &["log", "ls", &empty], 4501, &["0 logs"]),
        (
            "no folder",
            &["log", "verify", &nowhere],
            4501,
            &["nowhere", "no such folder"],
        ),
        (
            "no plan file",
            &["log", "verify", &empty, "--plan", &nowhere],
            2118,
            &["nowhere"],
        ),
        (
            "no payload file",
            &[
                "load",
                "--plan",
                &plan,
                "--addr",
                &closed,
                "--payload",
                "file",
                "--file",
                &nowhere,
            ],
            5203,
            &["nowhere"],
        ),
    ];
    check_all(&rows.map(|(why, arguments, code, names)| Mistake {
        why,
        output: answer(arguments),
        code,
        exit: None,
        names,
    }));
}
