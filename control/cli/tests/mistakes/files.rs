//! Mistakes in the two files, found by `forebay config check` before anything starts.

use crate::folder::{Folder, SECRET};
use crate::{Mistake, answer, check_all};

/// Why, which file, what to replace by what, the code, what the answer must name.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    u16,
    &'static [&'static str],
);

#[test]
fn a_wrong_file_is_refused_before_anything_starts() {
    let plan = "plan.toml";
    let config = "forebay.toml";
    let rows: [Row; 24] = [
        (
            "configuration is not TOML",
            config,
            "[node]",
            "[node",
            2001,
            &["line 1"],
        ),
        (
            "unknown configuration key",
            config,
            "listen",
            "lisen",
            2002,
            &["lisen", "listen"],
        ),
        (
            "unknown table",
            config,
            "[plan]",
            "[plam]",
            2002,
            &["plam", "plan"],
        ),
        (
            "value of the wrong kind",
            config,
            "\"127.0.0.1:0\"\nadmin",
            "7411\nadmin",
            2003,
            &["listen"],
        ),
        (
            "shards out of bounds",
            config,
            "data = ",
            "shards = 0\ndata = ",
            2004,
            &["shards", "0"],
        ),
        (
            "address without a port",
            config,
            "listen = \"127.0.0.1:0\"",
            "listen = \"localhost\"",
            2005,
            &["localhost"],
        ),
        (
            "key in [plan]",
            config,
            "file = ",
            "fiel = ",
            2208,
            &["fiel"],
        ),
        (
            "no plan",
            config,
            "[plan]\nfile = \"plan.toml\"\n",
            "",
            2203,
            &["[plan]"],
        ),
        (
            "plan is not there",
            config,
            "plan.toml",
            "plans.toml",
            2118,
            &["plans.toml"],
        ),
        (
            "plan is not TOML",
            plan,
            "[[accounts]]",
            "[[accounts]",
            2101,
            &["line 1"],
        ),
        (
            "unknown plan key",
            plan,
            "partitions",
            "partitons",
            2102,
            &["line 7", "partitions"],
        ),
        (
            "missing plan key",
            plan,
            "name = \"a\"\n",
            "",
            2103,
            &["`name`"],
        ),
        (
            "partitions out of range",
            plan,
            "partitions = 2",
            "partitions = 100000",
            2104,
            &["100000", "1024"],
        ),
        (
            "malformed name",
            plan,
            "\"a/e/orders\"",
            "\"orders\"",
            2105,
            &["`orders`"],
        ),
        (
            "declared twice",
            plan,
            "\"a/e/orders\"",
            "\"a/e/readings\"",
            2106,
            &["a/e/readings"],
        ),
        (
            "dangling grant",
            plan,
            "channel = \"readings\"",
            "channel = \"raedings\"",
            2107,
            &["raedings", "readings"],
        ),
        (
            "id collision",
            plan,
            "name = \"a/e/orders\"",
            "name = \"a/e/orders\"\nid = 7\n[[channels]]\nname = \"a/e/more\"\nid = 7",
            2108,
            &["id = "],
        ),
        ("no secret", plan, SECRET, "", 2110, &["44 characters"]),
        (
            "secret left out",
            plan,
            "direction = \"ingress\"\nsecret",
            "direction = \"ingress\"\nexpires = 2040-01-01T00:00:00Z\n#",
            2109,
            &["forebay keys new"],
        ),
        (
            "malformed base64",
            plan,
            &SECRET[1..],
            "!!!",
            2110,
            &["44 characters"],
        ),
        (
            "ed25519 with a secret",
            plan,
            "direction = \"ingress\"",
            "direction = \"ingress\"\nkind = \"ed25519\"",
            2113,
            &["public"],
        ),
        (
            "bad address range",
            plan,
            "allow = \"send\"",
            "allow = \"send\"\naddresses = [\"10.0.0.0/99\"]",
            2114,
            &["10.0.0.0/99"],
        ),
        (
            "bad amount",
            plan,
            "\"2MiB\"",
            "\"1 megabyte\"",
            2115,
            &["1 megabyte", "64MiB"],
        ),
        (
            "expiry without offset",
            plan,
            "direction = \"ingress\"",
            "direction = \"ingress\"\nexpires = 2040-01-01",
            2116,
            &["2040-01-01"],
        ),
    ];
    let mistakes = rows.map(|(why, file, from, to, code, names)| {
        let folder = Folder::new();
        folder.spoil(file, from, to);
        let output = answer(&["config", "check", "--config", &folder.config()]);
        Mistake {
            why,
            output,
            code,
            exit: Some(2),
            names,
        }
    });
    check_all(&mistakes);
}

#[test]
fn good_files_are_said_to_be_good_and_show_never_prints_a_secret() {
    let folder = Folder::new();
    let check =
        crate::forebay(&["config", "check", "--json", "--config", &folder.config()]).output();
    let check = check.expect("the binary was built for this test");
    let said: serde_json::Value = serde_json::from_slice(&check.stdout).expect("one JSON object");
    assert_eq!(
        (&said["ok"], &said["endpoints"], &said["partitions"]),
        (&true.into(), &2.into(), &2.into())
    );
    let show = crate::forebay(&["config", "show", "--config", &folder.config()]).output();
    let show =
        String::from_utf8(show.expect("the binary was built for this test").stdout).expect("text");
    assert!(
        show.contains("listen") && show.contains("file, line") && show.contains("durable"),
        "{show}"
    );
    assert!(!show.contains(SECRET));
}

#[test]
fn an_unknown_variable_of_ours_is_refused_with_the_nearest() {
    let folder = Folder::new();
    let mut command = crate::forebay(&["config", "check", "--config", &folder.config()]);
    let output = command
        .env("FOREBAY_NODE_LISEN", "127.0.0.1:1")
        .output()
        .expect("the binary was built for this test");
    let mistake = Mistake {
        why: "variable",
        output: output.into(),
        code: 2006,
        exit: Some(2),
        names: &["FOREBAY_NODE_LISTEN"],
    };
    check_all(&[mistake]);
}
