//! The fuzz targets begin with the golden bytes: one file each under `dataplane/fuzz/seeds/<target>/`.

use std::path::PathBuf;

use crate::golden::{Block, read};

/// The target that reads a block of this note.
fn target(note: &str) -> &'static str {
    match note.split(':').next().expect("split gives at least one") {
        "hello" => "hello",
        "welcome" | "refused" => "welcome",
        "send" | "relay" => "send",
        "fetch" | "settle" | "deliver" => "delivery",
        _ => "answers",
    }
}

fn seeds() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let file = |target: &str, title: &str| {
        let name: String = title
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        folder.join(target).join(name)
    };
    let accepted = read("accepted.txt");
    let mut seeds = Vec::new();
    for Block { title, note, bytes } in [accepted.clone(), read("refused.txt")].concat() {
        seeds.push((file(target(&note), &title), bytes));
    }
    let frames = accepted.iter().filter(|block| block.note != "preface");
    seeds.push((
        file("frame", "all accepted"),
        frames.flat_map(|block| block.bytes.clone()).collect(),
    ));
    let send = accepted
        .iter()
        .find(|block| block.title == "send of two messages with headers");
    let send = &send.expect("a golden frame of this title").bytes;
    seeds.push((
        file("message", "two with headers"),
        [&[2, 0], &send[32..send.len() - 32]].concat(),
    ));
    let token = crate::parties::receiver_token();
    seeds.push((file("token", "without sig"), token.clone().into_bytes()));
    let sig = "&sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3d";
    seeds.push((file("token", "with sig"), (token + sig).into_bytes()));
    let tables = crate::tables::seeds().enumerate();
    seeds.extend(tables.map(|(at, bytes)| (file("table", &format!("and a change {at}")), bytes)));
    seeds
}

#[test]
fn fuzzing_begins_with_the_golden_bytes() {
    for (path, bytes) in seeds() {
        if std::env::var_os("FOREBAY_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().expect("a file has a folder"))
                .expect("the folder can be made");
            std::fs::write(&path, &bytes).expect("the seed can be written");
        }
        let stored =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(stored, bytes, "{}", path.display());
    }
}
