//! Golden files: blocks of a title, `key: value` lines and hex, compared whole. `FOREBAY_BLESS=1` writes
//! them anew after a change of layout, which belongs into the same commit.

use std::fmt::Write;
use std::path::PathBuf;

/// One block of a golden file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// What it shows.
    pub(crate) title: String,
    /// One line about it.
    pub(crate) note: String,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Block {
    pub(crate) fn new(title: impl Into<String>, note: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self {
            title: title.into(),
            note: note.into(),
            bytes,
        }
    }
}

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// The blocks as text: what the file holds, and what the document repeats.
pub(crate) fn render(blocks: &[Block]) -> String {
    let mut text = String::new();
    for Block { title, note, bytes } in blocks {
        writeln!(text, "[{title}]\n{note}").expect("a String takes everything");
        for line in bytes.chunks(32) {
            let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "{hex}").expect("a String takes everything");
        }
        text.push('\n');
    }
    text
}

/// The blocks of a golden file.
pub(crate) fn read(name: &str) -> Vec<Block> {
    let text =
        std::fs::read_to_string(path(name)).expect("the golden file is part of the repository");
    let mut blocks = Vec::new();
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let mut lines = block.trim_start().lines();
        let title = lines
            .next()
            .expect("a block has a title")
            .trim_matches(['[', ']'])
            .to_owned();
        let note = lines.next().expect("a block has a note").to_owned();
        let hex: String = lines.collect();
        let bytes = hex.as_bytes().chunks(2).map(|two| {
            let two = std::str::from_utf8(two).expect("hex is ASCII");
            u8::from_str_radix(two, 16).expect("hex")
        });
        blocks.push(Block::new(title, note, bytes.collect()));
    }
    blocks
}

/// Assert that the file holds exactly these blocks.
pub(crate) fn assert_same(name: &str, blocks: &[Block]) {
    if std::env::var_os("FOREBAY_BLESS").is_some() {
        std::fs::write(path(name), render(blocks)).expect("the golden file can be written");
    }
    let stored = read(name);
    for (stored, made) in stored.iter().zip(blocks) {
        assert_eq!(stored, made, "{name}: {}", made.title);
    }
    assert_eq!(stored.len(), blocks.len(), "{name}: number of blocks");
}
