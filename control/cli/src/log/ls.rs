//! `forebay log ls`.

use control::quantity::{show_bytes, show_moment};
use node::inspect::{LogView, SegmentInfo};

use super::Folder;
use crate::fault::Fault;
use crate::say::say;

/// Arguments of `log ls`.
#[derive(clap::Args)]
pub(super) struct LsArgs {
    #[command(flatten)]
    folder: Folder,
}

/// List logs and their segments.
pub(super) fn run(args: &LsArgs) -> Result<u8, Fault> {
    let views = args.folder.views()?;
    let table = args.folder.table()?;
    for view in &views {
        let offsets = view.offsets();
        let bytes: u64 = view.segments().map(|segment| segment.bytes).sum();
        if args.folder.json {
            let segments: Vec<_> = view.segments().map(as_json).collect();
            say!(
                "{}",
                serde_json::json!({ "log": view.log().to_string(), "first": offsets.start.0, "next": offsets.end.0,
                    "bytes": bytes, "hub": hub(view, table.as_ref()), "segments": segments })
            );
            continue;
        }
        let hub = hub(view, table.as_ref()).map_or(String::new(), |hub| format!("  hub {hub}"));
        say!(
            "{}  offsets {}..{}  {}{hub}",
            view.log(),
            offsets.start,
            offsets.end,
            show_bytes(bytes)
        );
        for segment in view.segments() {
            let usage = format!("{:?}", segment.usage).to_lowercase();
            let range = format!("{}..{}", segment.offsets.start, segment.offsets.end);
            let made = segment
                .created
                .map_or_else(String::new, |at| show_moment(at.seconds()));
            say!(
                "  {:<16}  {usage:<10}  {range:<20}  {:>9}  {made}",
                segment.id.to_string(),
                show_bytes(segment.bytes)
            );
        }
    }
    Ok(0)
}

/// The hub whose partition this is, when a plan knows it.
fn hub(view: &LogView, table: Option<&wire::route::RouteTable>) -> Option<String> {
    let name = view.log().to_string();
    let mut partitions = table?.partitions();
    partitions
        .find(|(id, _)| format!("p-{id}") == name)
        .map(|(_, hub)| hub.name.to_string())
}

fn as_json(segment: &SegmentInfo) -> serde_json::Value {
    serde_json::json!({
        "id": segment.id.to_string(), "use": format!("{:?}", segment.usage).to_lowercase(), "bytes": segment.bytes,
        "first": segment.offsets.start.0, "next": segment.offsets.end.0, "path": segment.path,
        "created_unix_nanos": segment.created.map(|at| at.0),
    })
}
