//! A table that is made of the one before by a change, as control makes most of them.

use wire::route::{DeltaParts, RouteTable};

/// `next`, made of `before` by what differs between them; `next` itself where that is more than endpoints.
pub(crate) fn by_change(before: &RouteTable, next: RouteTable) -> RouteTable {
    if before.head() != next.head() || before.epoch() >= next.epoch() {
        return next;
    }
    let new = next
        .endpoints()
        .filter(|one| before.endpoint(one.id) != Some(*one));
    let gone = before
        .endpoints()
        .filter(|one| next.endpoint(one.id).is_none());
    let parts = DeltaParts {
        epoch: next.epoch(),
        head: None,
        set: new.map(|one| one.to_parts()).collect(),
        gone: gone.map(|one| one.id).collect(),
    };
    let delta = before.change(parts).expect("what differs is a change");
    let made = before.after(&delta).expect("made for this table");
    assert_eq!(made.digest(), next.digest());
    made
}
