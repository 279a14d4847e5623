//! PROTOCOL.md says what the code does: the same reasons, limits, kinds and bytes.

use wire::{FrameKind, Reason, limits};

use crate::{conversation, golden};

const DOCUMENT: &str = include_str!("../../PROTOCOL.md");

#[test]
fn the_document_has_every_reason_with_its_whole_row() {
    for reason in Reason::ALL {
        let row = reason.explanation();
        let retry = if row.retryable { "yes" } else { "no" };
        let line = format!(
            "| {} | `{}` | {} | {} | {} | {retry} | {} |\n",
            reason.code(),
            row.name,
            row.meaning,
            row.seen,
            row.needed,
            row.remedy
        );
        assert!(DOCUMENT.contains(&line), "PROTOCOL.md lacks: {line}");
    }
    let rows = DOCUMENT
        .lines()
        .filter(|line| line.starts_with("| 1") && line.matches('|').count() == 8);
    assert_eq!(
        rows.count(),
        Reason::ALL.len(),
        "PROTOCOL.md has reasons that the code has not"
    );
}

#[test]
fn the_document_has_the_whole_conversation() {
    let text = golden::render(&conversation::blocks());
    let text = text.trim_end();
    assert!(
        DOCUMENT.contains(text),
        "PROTOCOL.md must repeat tests/golden/conversation.txt"
    );
}

#[test]
fn the_document_has_every_limit() {
    for (name, value) in [
        ("FRAME_BYTES_MAX", limits::FRAME_BYTES_MAX as u64),
        ("BODY_BYTES_MAX", limits::BODY_BYTES_MAX as u64),
        ("HEADERS_BYTES_MAX", limits::HEADERS_BYTES_MAX as u64),
        ("HEADERS_MAX", limits::HEADERS_MAX as u64),
        ("MESSAGES_MAX", limits::MESSAGES_MAX as u64),
        ("NAME_BYTES_MAX", limits::NAME_BYTES_MAX as u64),
        ("TOKEN_BYTES_MAX", limits::TOKEN_BYTES_MAX as u64),
        ("CHANNELS_MAX", limits::CHANNELS_MAX as u64),
        ("GROUPS_MAX", limits::GROUPS_MAX as u64),
        ("CLOCK_SKEW_SECONDS_MAX", limits::CLOCK_SKEW_SECONDS_MAX),
        ("HANDSHAKE_SECONDS_MAX", limits::HANDSHAKE_SECONDS_MAX),
        ("BAD_SIGNATURES_MAX", u64::from(limits::BAD_SIGNATURES_MAX)),
        ("REPLAY_WINDOW", limits::REPLAY_WINDOW),
    ] {
        let line = format!("| `{name}` | {value} |");
        assert!(DOCUMENT.contains(&line), "PROTOCOL.md lacks: {line}");
    }
}

#[test]
fn the_document_has_every_frame_kind() {
    for kind in FrameKind::ALL {
        let line = format!(
            "| `0x{:02X}` | {} |",
            kind as u8,
            format!("{kind:?}").to_uppercase()
        );
        assert!(DOCUMENT.contains(&line), "PROTOCOL.md lacks: {line}");
        assert_eq!(FrameKind::from_u8(kind as u8), Some(kind));
    }
}

/// The checks that section 16 names, as file and name.
fn checks() -> Vec<(&'static str, &'static str)> {
    let start = DOCUMENT.find("\n## 16. ").expect("there is a section 16");
    let cells = DOCUMENT[start..]
        .lines()
        .filter(|line| line.starts_with("| "));
    let named = cells.filter_map(|line| line.rsplit('|').nth(1)?.trim().strip_prefix('`'));
    named
        .filter_map(|named| named.trim_end_matches('`').split_once("::"))
        .collect()
}

#[test]
fn the_document_names_every_check_of_other_implementations_and_none_that_is_not_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |file: &str| {
        let text = std::fs::read_to_string(root.join(file));
        text.unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    let checks = checks();
    assert!(checks.len() > 20, "only {}", checks.len());
    for (file, name) in &checks {
        let text = read(file);
        let there = ["fn", "def"].map(|word| text.contains(&format!("{word} {name}(")));
        assert!(there.contains(&true), "{file} has no {name}");
    }
    for file in ["quic.py", "tunnel.py"] {
        let file = format!("dataplane/wire/tests/python/{file}");
        for line in read(&file).lines() {
            let name = line.trim_start().strip_prefix("def check_");
            let Some(name) = name.and_then(|name| name.split('(').next()) else {
                continue;
            };
            let name = format!("check_{name}");
            let is_named = checks.contains(&(file.as_str(), name.as_str()));
            assert!(is_named, "section 16 lacks {file}::{name}");
        }
    }
}
