//! `forebay tune` from the command line: it measures beside a node's data and touches nothing.

use std::process::Command;

use control::keys::new_secret;
use control::render::{NewEndpoint, NewPlan, render};

#[test]
fn advice_comes_with_its_figures_and_a_page_and_nothing_is_left_or_changed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let plan = render(&NewPlan {
        environment: "acme/prod".to_owned(),
        partitions: 4,
        ack: "durable".to_owned(),
        channels: vec!["readings".to_owned()],
        endpoints: vec![NewEndpoint {
            name: "pump".to_owned(),
            ingress: Some(new_secret().text().to_owned()),
            send: vec!["readings".to_owned()],
            ..NewEndpoint::default()
        }],
    });
    // The address cannot be bound: whoever touched it would fail.
    let config = "[node]\ndata = \"data\"\nlisten = \"192.0.2.1:7411\"\nadmin = \"127.0.0.1:1\"\nshards = 3\n\
                  [plan]\nfile = \"plan.toml\"\n";
    std::fs::write(path("plan.toml"), &plan).expect("writable");
    std::fs::write(path("forebay.toml"), config).expect("writable");
    std::fs::create_dir(path("data")).expect("writable");
    std::fs::write(path("data/log"), "not to be touched").expect("writable");
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args([
            "tune",
            "--within",
            "14s",
            "--shards-max",
            "1",
            "--even-if-busy",
            "--json",
        ])
        .arg("--config")
        .arg(path("forebay.toml"))
        .arg("--html")
        .arg(path("tune.html"))
        .output()
        .expect("the binary was built for this test");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(
        (&found["shards"], &found["ack_mode"]),
        (&1.into(), &"durable".into()),
        "{found}"
    );
    let step = &found["advice"]["steps"][0];
    for field in [
        "per_s",
        "server_ns",
        "generator_ns",
        "server_cores",
        "machine_share",
    ] {
        assert!(
            step["median"][field].as_f64() > Some(0.0),
            "{field}: {found}"
        );
    }
    assert!(
        step["least_per_s"].as_f64() <= step["most_per_s"].as_f64(),
        "{found}"
    );
    for field in [
        "verifications_per_s",
        "sync_p99_s",
        "memory_bytes_per_s",
        "loopback_bytes_per_s",
    ] {
        assert!(
            found["calibration"][field].as_f64() > Some(0.0),
            "{field}: {found}"
        );
    }
    let page = std::fs::read_to_string(path("tune.html")).expect("it was written");
    assert!(
        page.contains("<svg") && page.contains("Use 1 shard"),
        "{page}"
    );
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .expect("readable")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["data", "forebay.toml", "plan.toml", "tune.html"]);
    let read = |name: &str| std::fs::read_to_string(path(name)).expect("it is there");
    assert_eq!(
        (read("data/log"), read("forebay.toml")),
        ("not to be touched".into(), config.into())
    );
    assert_eq!(read("plan.toml"), plan);
    assert_eq!(
        std::fs::read_dir(path("data")).expect("readable").count(),
        1
    );
}
