//! Numbers as Prometheus text: prefix `forebay_`, base units, labels with few values, never an endpoint's name.

mod ingress;
mod page;
mod process;
mod quic;
mod storage;
mod tunnels;
mod turns;

use wire::route::RouteTable;

pub(super) use self::page::{Page, seconds};
pub(super) use self::process::resident_bytes;
use crate::status::{Snapshot, Status};

/// The whole page, from the numbers of every shard. Without them, as while recovering, it holds what is known without the shards.
pub(super) fn render(status: &Status, table: &RouteTable, shards: &[Snapshot]) -> String {
    let mut page = Page::new();
    process::process(&mut page, status, shards);
    process::control(&mut page, status, table);
    process::supply(&mut page, status);
    tunnels::certificate(&mut page, status);
    if let Some(snapshot) = &Snapshot::sum(shards) {
        ingress::ingress(&mut page, snapshot);
        tunnels::tunnels(&mut page, snapshot);
        quic::quic(&mut page, snapshot);
        ingress::memory(&mut page, snapshot, shards);
        ingress::bans(&mut page, snapshot);
        ingress::verify(&mut page, snapshot);
        storage::log(&mut page, snapshot);
        storage::queues(&mut page, snapshot);
        turns::shard(&mut page, snapshot);
        turns::mesh(&mut page, snapshot);
        super::shards::shards(&mut page, status, shards);
        #[cfg(feature = "cycles")]
        turns::cycles(&mut page, snapshot);
    }
    page.text()
}
