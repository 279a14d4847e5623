//! One number for what a table says: two tables with the same digest answer every question alike, whatever way they were made.
//!
//! It is the sum, over everything that a table has, of the SHA-256 of its bytes, in four numbers of 64 bits each. So it does not
//! matter in which order things came, and a change alters it by what it takes away and puts in. It tells tables apart that differ
//! by mistake; it is no signature. The epoch is left out: it says when, not what.

use std::fmt;

use sha2::{Digest as _, Sha256};
use zerocopy::IntoBytes;
use zeroize::Zeroize;

use super::arena::{Terms, put_restriction, put_terms};
use super::bytes::Put;
use super::head::{put_account, put_hub};
use super::node::put_node;
use super::rows::{QueueRow, RatesRow};
use super::{Endpoint, Grant, HeadParts, Key, Priority};
use crate::signature::KeyMaterial;

/// What a route table says, as 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl From<Sum> for Digest {
    fn from(sum: Sum) -> Self {
        let mut bytes = [0; 32];
        for (eight, number) in bytes.chunks_exact_mut(8).zip(sum.0) {
            eight.copy_from_slice(&number.to_le_bytes());
        }
        Self(bytes)
    }
}

/// A digest that is being changed.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum([u64; 4]);

impl From<Digest> for Sum {
    fn from(digest: Digest) -> Self {
        Self(numbers(&digest.0))
    }
}

impl Sum {
    pub(super) fn add(&mut self, thing: Self) {
        for (sum, number) in self.0.iter_mut().zip(thing.0) {
            *sum = sum.wrapping_add(number);
        }
    }

    pub(super) fn take(&mut self, thing: Self) {
        for (sum, number) in self.0.iter_mut().zip(thing.0) {
            *sum = sum.wrapping_sub(number);
        }
    }
}

fn numbers(bytes: &[u8; 32]) -> [u64; 4] {
    let (eights, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|at| u64::from_le_bytes(eights[at]))
}

/// Of what the bytes are.
#[derive(Clone, Copy)]
enum Kind {
    QueueGroups = 1,
    Hub = 2,
    Channel = 3,
    Account = 4,
    Endpoint = 5,
    Node = 6,
}

fn hash(kind: Kind, bytes: &[u8]) -> Sum {
    let mut hasher = Sha256::new();
    hasher.update([kind as u8]);
    hasher.update(bytes);
    Sum(numbers(&hasher.finalize().into()))
}

/// What a head says.
pub(super) fn of_head(head: &HeadParts) -> Sum {
    let (mut sum, mut bytes) = (Sum::default(), Vec::new());
    let mut add = |kind, bytes: &mut Vec<u8>| {
        sum.add(hash(kind, bytes));
        bytes.clear();
    };
    bytes.put_u16(head.queue_groups);
    add(Kind::QueueGroups, &mut bytes);
    for hub in &head.hubs {
        put_hub(&mut bytes, hub);
        add(Kind::Hub, &mut bytes);
    }
    for channel in &head.channels {
        bytes.put_u32(channel.id.0);
        bytes.put_text(&channel.name);
        // Its hub by name: in what order hubs stand says nothing.
        bytes.put_text(&head.hubs[usize::from(channel.hub)].name);
        bytes.put_u8(u8::from(channel.priority == Priority::Low));
        add(Kind::Channel, &mut bytes);
    }
    for account in &head.accounts {
        put_account(&mut bytes, account);
        add(Kind::Account, &mut bytes);
    }
    for node in &head.nodes {
        put_node(&mut bytes, node);
        add(Kind::Node, &mut bytes);
    }
    sum
}

/// What an endpoint says whose lists are sorted; `scratch` is wiped.
pub(super) fn of_endpoint(endpoint: &Endpoint, scratch: &mut Vec<u8>) -> Sum {
    scratch.clear();
    scratch.put_u64(endpoint.id.0);
    scratch.put_text(&endpoint.name);
    scratch.put_u8(u8::from(endpoint.enabled) | u8::from(endpoint.relay) << 1);
    scratch.put(RatesRow::from(&endpoint.rates).as_bytes());
    scratch.put(QueueRow::from(&endpoint.queue).as_bytes());
    scratch.put_count(endpoint.keys.len());
    endpoint.keys.iter().for_each(|key| put_key(scratch, key));
    scratch.put_count(endpoint.certificates.len());
    let certificates = endpoint.certificates.iter();
    certificates.for_each(|certificate| scratch.put(&certificate.0));
    put_terms(scratch, &Terms::of(endpoint));
    for grants in [&endpoint.send, &endpoint.receive] {
        scratch.put_count(grants.len());
        grants.iter().for_each(|grant| put_grant(scratch, grant));
    }
    let sum = hash(Kind::Endpoint, scratch);
    scratch.as_mut_slice().zeroize();
    sum
}

fn put_key(out: &mut Vec<u8>, key: &Key) {
    out.put_u32(key.id.0);
    out.put_text(&key.name);
    out.put_u8(key.direction as u8);
    match &key.material {
        KeyMaterial::Symmetric(secret) => {
            out.put_u8(1);
            out.put(secret.text_bytes());
        }
        KeyMaterial::Ed25519(public) => {
            out.put_u8(2);
            out.put(public.as_bytes());
        }
    }
    out.put_maybe(key.expires.map(|at| at.0));
    out.put_u8(u8::from(key.revoked));
}

fn put_grant(out: &mut Vec<u8>, grant: &Grant) {
    out.put_u32(grant.channel.0);
    put_restriction(out, &grant.restriction);
}
