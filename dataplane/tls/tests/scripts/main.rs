//! Tunnels of the server's under scripts of any bytes: those that fuzzing begins with, and random ones.
//! `FOREBAY_TUNNEL_SCRIPTS=100000 cargo test -p forebay-tls --test scripts` plays more.

mod tunnel;

use std::path::Path;

use tunnel::{Outcome, Pair, play};

/// Random scripts of an ordinary run.
const SCRIPTS: u64 = 300;

#[test]
fn scripts_that_fuzzing_begins_with_do_what_their_names_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/tunnel");
    let said = |bytes: usize| Outcome {
        stood: true,
        broken: false,
        plaintext: bytes,
    };
    let broken = |stood, plaintext| Outcome {
        stood,
        broken: true,
        plaintext,
    };
    for (name, script, want) in [
        (
            "a-conversation",
            &[1, 3, 100, 0, 0, 5, 9, 0, 3, 44, 1, 0, 11, 0][..],
            said(400),
        ),
        (
            "hands-shaken-step-by-step",
            &[0, 0, 5, 0, 0, 0, 5, 0, 0, 3, 16, 39, 0],
            said(10_000),
        ),
        (
            "pieces",
            &[1, 3, 16, 39, 2, 1, 0, 2, 200, 0, 2, 184, 11, 0],
            said(10_000),
        ),
        (
            "a-record-spoiled",
            &[1, 3, 100, 0, 0, 3, 100, 0, 6, 20, 0, 1, 0],
            broken(true, 100),
        ),
        (
            "a-record-twice",
            &[1, 3, 100, 0, 0, 9, 0, 0, 207, 7],
            broken(true, 100),
        ),
        ("a-hello-spoiled", &[0, 6, 3, 0, 255, 0], broken(false, 0)),
        (
            "words-of-a-stranger",
            b"\x00\x0A\x12\x00GET / HTTP/1.1\r\n\r\n",
            broken(false, 0),
        ),
    ] {
        let path = folder.join(name);
        if std::env::var_os("FOREBAY_BLESS").is_some() {
            std::fs::create_dir_all(&folder).expect("the folder can be made");
            std::fs::write(&path, script).expect("the script can be written");
        }
        let stored = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(stored, script, "{name}");
        assert_eq!(play(Pair::get(), &stored), want, "{name}");
    }
}

#[test]
fn whatever_comes_only_what_the_client_said_comes_out() {
    let set = std::env::var("FOREBAY_TUNNEL_SCRIPTS").ok();
    let count = set.map_or(SCRIPTS, |text| text.parse().expect("a number"));
    let (mut stood, mut broken, mut plaintext) = (0, 0, 0);
    for seed in 0..count {
        let mut random = fastrand::Rng::with_seed(seed);
        let script: Vec<u8> = (0..random.usize(1..400)).map(|_| random.u8(..)).collect();
        let played = std::panic::catch_unwind(|| play(Pair::get(), &script));
        let outcome = played.unwrap_or_else(|cause| {
            eprintln!("seed {seed} fails: {script:?}");
            std::panic::resume_unwind(cause)
        });
        stood += u64::from(outcome.stood);
        broken += u64::from(outcome.broken);
        plaintext += outcome.plaintext;
    }
    println!(
        "{count} scripts: {stood} tunnels stood, {broken} were broken, {plaintext} bytes came out, all of them said; \
         replay with FOREBAY_TUNNEL_SCRIPTS=<seed + 1> cargo test -p forebay-tls --test scripts"
    );
    assert!(stood > count / 4 && broken > count / 4 && plaintext > 0);
}
