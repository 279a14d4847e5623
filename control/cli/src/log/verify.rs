//! `forebay log verify`.

use partition::inspect::{Entry, LogView};
use wire::diagnosis::Diagnosis;
use wire::frame::SignatureKind;
use wire::route::RouteTable;
use wire::signature::verify_envelope;

use super::Folder;
use super::dump::stored_frame;
use crate::diagnosis::{DAMAGED, SIGNATURES};
use crate::fault::Fault;

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
        let envelopes = table.as_ref().map(|table| recheck(&view, table));
        damaged += verdict.damage.len();
        bad += envelopes.as_ref().map_or(0, |envelopes| envelopes.bad);
        if args.folder.json {
            let damage: Vec<_> = verdict.damage.iter().map(damage_json).collect();
            println!(
                "{}",
                serde_json::json!({ "log": view.log().to_string(), "records": verdict.records, "messages": verdict.messages,
                    "payload_bytes": verdict.payload_bytes, "torn_bytes": verdict.torn_bytes, "damage": damage,
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
        println!(
            "{}  {state}  offsets {}..{}  {} records  {} messages  {} torn bytes",
            view.log(),
            offsets.start,
            offsets.end,
            verdict.records,
            verdict.messages,
            verdict.torn_bytes
        );
        verdict
            .damage
            .iter()
            .for_each(|damage| println!("  {}", damage_line(damage, false)));
        if let Some(found) = envelopes {
            println!(
                "  envelopes: {} good, {} bad, {} of unknown keys",
                found.good, found.bad, found.unknown
            );
            if !found.bad_at.is_empty() {
                println!("  bad signatures at offsets {:?}", found.bad_at);
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
        let Entry::Record(record) = entry else {
            continue;
        };
        let Some(send) = stored_frame(&record) else {
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
            Some(key) if verify_envelope(&key.material, &send) => found.good += 1,
            Some(_) => {
                found.bad += 1;
                if found.bad_at.len() < 10 {
                    found.bad_at.push(record.first().0);
                }
            }
        }
    }
    found
}

/// Damage in one line.
pub(super) fn damage_line(damage: &partition::Damage, json: bool) -> String {
    if json {
        return serde_json::json!({ "damage": damage_json(damage) }).to_string();
    }
    format!(
        "damage in {} segment {}: {:?}, bytes {}..{}, offsets {}..{}",
        damage.log,
        damage.segment,
        damage.kind,
        damage.positions.start,
        damage.positions.end,
        damage.offsets.start,
        damage.offsets.end
    )
}

fn damage_json(damage: &partition::Damage) -> serde_json::Value {
    serde_json::json!({
        "log": damage.log.to_string(), "segment": damage.segment.to_string(), "kind": format!("{:?}", damage.kind),
        "from_position": damage.positions.start.0, "to_position": damage.positions.end.0,
        "from_offset": damage.offsets.start.0, "to_offset": damage.offsets.end.0,
    })
}
