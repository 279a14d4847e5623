//! `forebay log verify`.

use node::inspect::{Entry, LogView};
use wire::diagnosis::Diagnosis;
use wire::frame::SignatureKind;
use wire::route::RouteTable;
use wire::signature::verify_envelope;

use super::Folder;
use super::dump::stored_frame;
use crate::diagnosis::{DAMAGED, SIGNATURES};
use crate::fault::Fault;
use crate::say::say;

/// Arguments of `log verify`.
#[derive(clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    folder: Folder,
}

/// What re-checking stored envelopes has shown.
#[derive(Debug, Default, Clone, serde::Serialize)]
struct Envelopes {
    good: u64,
    bad: u64,
    /// The plan has no such endpoint or key.
    unknown: u64,
    /// First offsets of bad ones, at most ten.
    bad_at: Vec<u64>,
}

/// Read everything and report.
pub(super) fn run(args: &VerifyArgs) -> Result<u8, Fault> {
    let table = args.folder.table()?;
    let (mut damaged, mut bad) = (0, 0);
    for view in args.folder.views()? {
        let verdict = view.verify();
        let damage = verdict.damage.iter().cloned().map(Entry::Damage);
        let harm: Vec<Harm> = damage.filter_map(|entry| Harm::of(&entry)).collect();
        let envelopes = table.as_ref().map(|table| recheck(&view, table));
        damaged += verdict.damage.len();
        bad += envelopes.as_ref().map_or(0, |envelopes| envelopes.bad);
        if args.folder.json {
            say!(
                "{}",
                serde_json::json!({ "log": view.log().to_string(), "records": verdict.records, "messages": verdict.messages,
                    "payload_bytes": verdict.payload_bytes, "torn_bytes": verdict.torn_bytes, "damage": harm,
                    "envelopes": envelopes })
            );
            continue;
        }
        let state = if verdict.damage.is_empty() {
            "good"
        } else {
            "DAMAGED"
        };
        let offsets = view.offsets();
        say!(
            "{}  {state}  offsets {}..{}  {} records  {} messages  {} torn bytes",
            view.log(),
            offsets.start,
            offsets.end,
            verdict.records,
            verdict.messages,
            verdict.torn_bytes
        );
        harm.iter().for_each(|harm| say!("  {}", harm.line(false)));
        if let Some(found) = envelopes {
            say!(
                "  envelopes: {} good, {} bad, {} of unknown keys",
                found.good,
                found.bad,
                found.unknown
            );
            if !found.bad_at.is_empty() {
                say!("  bad signatures at offsets {:?}", found.bad_at);
            }
        }
    }
    if damaged > 0 {
        let remedy = "restore these files from a copy; the rest is intact and still served";
        return Err(Diagnosis::new(
            DAMAGED,
            "the data folder is damaged",
            format!("{damaged} damaged ranges"),
            "0",
            remedy,
        )
        .into());
    }
    if bad > 0 {
        let remedy = "compare the plan with the one in force when they were stored";
        return Err(Diagnosis::new(
            SIGNATURES,
            "stored envelopes do not check",
            format!("{bad} bad signatures"),
            "0",
            remedy,
        )
        .into());
    }
    Ok(0)
}

/// Check the signature of every stored envelope with the keys of the plan.
fn recheck(view: &LogView, table: &RouteTable) -> Envelopes {
    let mut found = Envelopes::default();
    for entry in view.entries() {
        let Some((send, first, _)) = stored_frame(&entry) else {
            continue;
        };
        if !matches!(
            send.signature_kind(),
            SignatureKind::Key | SignatureKind::Ed25519
        ) {
            continue;
        }
        match table
            .endpoint(send.endpoint())
            .and_then(|endpoint| endpoint.key(send.key_id()))
        {
            None => found.unknown += 1,
            Some(key) if verify_envelope(key.material, &send) => found.good += 1,
            Some(_) => {
                found.bad += 1;
                if found.bad_at.len() < 10 {
                    found.bad_at.push(first.0);
                }
            }
        }
    }
    found
}

/// Unreadable bytes, ready to be told.
#[derive(serde::Serialize)]
pub(super) struct Harm {
    log: String,
    segment: String,
    kind: String,
    from_position: u32,
    to_position: u32,
    from_offset: u64,
    to_offset: u64,
}

impl Harm {
    /// The damage in this entry, if it is one.
    pub(super) fn of(entry: &Entry<'_>) -> Option<Self> {
        let Entry::Damage(damage) = entry else {
            return None;
        };
        Some(Self {
            log: damage.log.to_string(),
            segment: damage.segment.to_string(),
            kind: format!("{:?}", damage.kind),
            from_position: damage.positions.start.0,
            to_position: damage.positions.end.0,
            from_offset: damage.offsets.start.0,
            to_offset: damage.offsets.end.0,
        })
    }

    /// All of it in one line.
    pub(super) fn line(&self, json: bool) -> String {
        if json {
            return serde_json::json!({ "damage": self }).to_string();
        }
        let Self {
            log,
            segment,
            kind,
            from_position,
            to_position,
            from_offset,
            to_offset,
        } = self;
        format!(
            "damage in {log} segment {segment}: {kind}, bytes {from_position}..{to_position}, offsets {from_offset}..{to_offset}"
        )
    }
}
