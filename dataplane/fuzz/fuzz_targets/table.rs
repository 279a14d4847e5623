//! Route tables and changes of them out of any bytes: refused, or a table that answers everything and can be written and read again.
//!
//! An input is two lengths' worth: a number of 16 bits, so many bytes of a table, and then those of a change of it. What a sender of nonsense
//! would get right is mended, so that the fuzzer gets past it: the first bytes, the length of the last section, the checksum, and of a
//! change the table that it is made for.
#![no_main]

use framed::bounded;
use libfuzzer_sys::fuzz_target;
use wire::ids::{EndpointId, UnixNanos};
use wire::route::{Delta, KeyRef, RouteTable, TOGETHER, TableBytes};
use xxhash_rust::xxh3::xxh3_64;

/// Longest input: tables come from a control plane that proved to be it, so it is not their length that has to be withstood.
const INPUT_BYTES_MAX: usize = 16 << 10;
/// Where the lengths of the sections stand, and how many bytes a row of each has.
const COUNTS_AT: usize = 104;
const ROW_BYTES: [u64; 11] = [1, 1, 1, 43, 13, 46, 52, 32, 8, 8, 1];
const HEADER_BYTES: usize = COUNTS_AT + 4 * ROW_BYTES.len();

fuzz_target!(|data: &[u8]| bounded(|| check(data)));

fn check(data: &[u8]) {
    if data.len() > INPUT_BYTES_MAX {
        return;
    }
    // As it is: nearly always refused.
    let _refused = RouteTable::read(TableBytes::from(data.to_vec())).map(|table| ask(&table));
    let _refused = Delta::read(TableBytes::from(data.to_vec()));
    let Some((length, rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let middle = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (first, second) = rest.split_at(middle);
    let Ok(table) = RouteTable::read(TableBytes::from(mended(first, 1))) else {
        return;
    };
    ask(&table);
    let mut change = mended(second, 2);
    if change.len() < HEADER_BYTES {
        return;
    }
    change[64..72].copy_from_slice(&table.epoch().to_le_bytes());
    change[72..104].copy_from_slice(&table.digest().0);
    summed(&mut change);
    let Ok(delta) = Delta::read(TableBytes::from(change)) else {
        return;
    };

    if let Ok(after) = table.after(&delta) {
        ask(&after);
        assert_eq!(
            (after.epoch(), after.digest()),
            (delta.epoch(), delta.digest())
        );
    }
}

/// The same bytes with the beginning of a table (1) or a change (2), and a last section that ends where they do.
fn mended(bytes: &[u8], kind: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() < HEADER_BYTES {
        return bytes;
    }
    bytes[..8].copy_from_slice(b"FBROUTES");
    bytes[16..19].copy_from_slice(&[2, 0, kind]);
    let count = |at: usize| {
        let four = bytes[COUNTS_AT + 4 * at..][..4].try_into();
        u64::from(u32::from_le_bytes(four.expect("four bytes")))
    };
    let rows = ROW_BYTES.iter().enumerate().take(10);
    let others: u64 = rows.map(|(at, row)| count(at) * row).sum();
    let names = (bytes.len() as u64).checked_sub(HEADER_BYTES as u64 + others);
    if let Some(names) = names {
        let last = COUNTS_AT + 40;
        bytes[last..last + 4].copy_from_slice(&(names as u32).to_le_bytes());
    }
    summed(&mut bytes);
    bytes
}

fn summed(bytes: &mut [u8]) {
    let sum = xxh3_64(&bytes[16..]);
    bytes[8..16].copy_from_slice(&sum.to_le_bytes());
}

/// Ask everything; and once more of what is written of it.
fn ask(table: &RouteTable) {
    answers(table);
    let written = table.encode();
    let again = RouteTable::read(written.clone()).expect("what a table writes can be read");
    // Bytes of nonsense may have a restriction's lists in any order; written they have one.
    assert_eq!(
        again.encode()[..],
        written[..],
        "written and read it says the same"
    );
    let names: Vec<&str> = again.endpoints().map(|one| one.name()).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "each name once");
    answers(&again);
}

fn answers(table: &RouteTable) {
    let now = UnixNanos(1);
    let ids: Vec<EndpointId> = table.endpoints().map(|one| one.id).collect();
    for some in ids.chunks(TOGETHER) {
        let found = table.endpoint_indexes(some);
        let one_by_one = some.iter().map(|id| table.endpoint_index(*id));
        assert!(one_by_one.eq(found.iter().copied().take(some.len())));
        table.touch_keys(found.into_iter().flatten());
    }
    for endpoint in table.endpoints() {
        let index = table.endpoint_index(endpoint.id).expect("it is listed");
        assert_eq!(table.endpoint_at(index).name(), endpoint.name());
        let named = table
            .endpoint_by_name(endpoint.name())
            .expect("it is listed");
        assert_eq!(named.id, endpoint.id);
        assert!(table.queue_group_of(endpoint.id) < table.queue_groups());
        for key in endpoint.keys.iter() {
            match key.material {
                KeyRef::Symmetric(mac) => {
                    let secret = key.secret().expect("it is one");
                    assert!(secret.mac() == mac, "the key that its secret makes");
                }
                KeyRef::Ed25519(public) => {
                    assert!(key.secret().is_none());
                    assert!(public.point().is_none_or(|point| !point.is_weak()));
                }
            }
        }
        for grant in endpoint.send.iter().chain(endpoint.receive.iter()) {
            let channel = table.channel(grant.channel).expect("grants name channels");
            let partition = table.partition_of(endpoint.id, channel);
            assert_eq!(
                table.hub_of_partition(partition),
                Some(table.hub_of(channel))
            );
            assert!(table.allowances(index, channel.id).count() <= 6);
            let _over = grant.restriction.is_over(now);
        }
        let home = endpoint.home().map(|home| table.node(home));
        assert_ne!(home, Some(None), "homes are nodes");
        let _all = (endpoint.is_over(now), endpoint.queue(), endpoint.rates());
        let _all = (
            endpoint.windows(),
            endpoint.transports(),
            endpoint.certificates(),
        );
    }
    for node in table.nodes() {
        assert_eq!(table.node(node.id), Some(node));
        assert_eq!(table.node_by_name(&node.name), Some(node));
    }
    for channel in table.channels() {
        for index in table.subscribers(channel.id) {
            assert!(table.endpoint_at(index).receive_grant(channel.id).is_some());
        }
    }
}
