//! From endpoints to their encoding.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zeroize::Zeroize;

use super::arena::{Arena, Terms, put_restriction, put_terms, read_restriction, read_terms};
use super::bytes::{Put, Reader, TableBytes};
use super::digest::{Digest, Sum, of_endpoint};
use super::layer::{Layer, Sections};
use super::material::Begun;
use super::rows::{
    Counts, ED25519, ENABLED, EXPIRES, EndpointRow, GrantRow, Header, KeyRow, Kind, MAGIC,
    QueueRow, RELAY, REVOKED, RatesRow, SYMMETRIC, UNCHECKED_BYTES, VERSION,
};
use super::view::EndpointView;
use super::{Endpoint, Grant, Key, QueueBounds, Rates, Restriction, TableError};
use crate::ids::EndpointId;
use crate::signature::{KeyMaterial, KeyRef};

/// Which table or change it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Title {
    pub(super) kind: Kind,
    pub(super) epoch: u64,
    pub(super) digest: Digest,
    /// Of a change: epoch and digest of the table it is made for.
    pub(super) base: (u64, Digest),
}

/// Takes endpoints by rising name.
pub(super) struct Writer {
    endpoints: Vec<EndpointRow>,
    keys: Vec<KeyRow>,
    materials: Begun,
    certificates: Vec<u8>,
    grants: Vec<GrantRow>,
    /// By their bytes.
    restrictions: Arena<Vec<u8>>,
    restriction_list: Vec<Restriction>,
    /// By their bytes.
    terms: Arena<Vec<u8>>,
    term_list: Vec<Terms>,
    queues: Arena<QueueRow>,
    rates: Arena<RatesRow>,
    names: Vec<u8>,
    /// Names of keys are often alike.
    key_names: HashMap<Box<str>, u32>,
    sum: Sum,
    scratch: Vec<u8>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Secrets among them: there is a copy of each in the encoding.
        self.keys.as_mut_slice().as_mut_bytes().zeroize();
    }
}

impl Writer {
    /// For so many endpoints with so many keys, or more.
    pub(super) fn with_room(endpoints: usize, keys: usize) -> Self {
        let mut writer = Self {
            endpoints: Vec::with_capacity(endpoints),
            keys: Vec::with_capacity(keys),
            materials: Begun::with_room(keys, keys),
            certificates: Vec::new(),
            grants: Vec::with_capacity(endpoints),
            restrictions: Arena::default(),
            restriction_list: Vec::new(),
            terms: Arena::default(),
            term_list: Vec::new(),
            queues: Arena::default(),
            rates: Arena::default(),
            names: Vec::new(),
            key_names: HashMap::new(),
            sum: Sum::default(),
            scratch: Vec::new(),
        };
        // Whoever has no condition finds none without looking.
        writer.restriction(&Restriction::default());
        writer
    }

    /// Take one that was checked, with its lists sorted.
    pub(super) fn push(&mut self, endpoint: Endpoint) -> Result<(), TableError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.sum.add(of_endpoint(&endpoint, &mut scratch));
        self.scratch = scratch;
        let too_large = || TableError::TooLarge;
        let short = |count: usize| u16::try_from(count).map_err(|_| too_large());
        let row = EndpointRow {
            id: U64::new(endpoint.id.0),
            name_at: self.text(&endpoint.name)?,
            keys_at: place(self.keys.len())?,
            certificates_at: place(self.certificates.len() / 32)?,
            grants_at: place(self.grants.len())?,
            terms: U32::new(self.terms(&Terms::of(&endpoint))),
            queue: U32::new(self.queues.place(QueueRow::from(&endpoint.queue))),
            rates: U32::new(self.rates.place(RatesRow::from(&endpoint.rates))),
            keys: U16::new(short(endpoint.keys.len())?),
            certificates: U16::new(short(endpoint.certificates.len())?),
            send: U16::new(short(endpoint.send.len())?),
            receive: U16::new(short(endpoint.receive.len())?),
            name_bytes: u8::try_from(endpoint.name.len()).map_err(|_| too_large())?,
            flags: flag(endpoint.enabled, ENABLED) | flag(endpoint.relay, RELAY),
        };
        for key in endpoint.keys {
            self.key(key)?;
        }
        for certificate in &endpoint.certificates {
            self.certificates.extend_from_slice(&certificate.0);
        }
        for grant in endpoint.send.iter().chain(&endpoint.receive) {
            self.grant(grant);
        }
        self.endpoints.push(row);
        Ok(())
    }

    fn key(&mut self, key: Key) -> Result<(), TableError> {
        let name_at = self.key_name(&key.name)?;
        let (kind, material) = match &key.material {
            KeyMaterial::Symmetric(secret) => (SYMMETRIC, secret.random()),
            KeyMaterial::Ed25519(public) => (ED25519, *public.as_bytes()),
        };
        let row = KeyRow {
            id: U32::new(key.id.0),
            name_at,
            expires: U64::new(key.expires.map_or(0, |at| at.0)),
            material,
            name_bytes: u8::try_from(key.name.len()).map_err(|_| TableError::TooLarge)?,
            direction: key.direction as u8,
            kind,
            flags: flag(key.revoked, REVOKED) | flag(key.expires.is_some(), EXPIRES),
        };
        self.key_row(row, KeyRef::from(&key.material));
        Ok(())
    }

    fn key_name(&mut self, name: &str) -> Result<U32, TableError> {
        if let Some(at) = self.key_names.get(name) {
            return Ok(U32::new(*at));
        }
        let at = self.text(name)?;
        self.key_names.insert(name.into(), at.get());
        Ok(at)
    }

    fn key_row(&mut self, row: KeyRow, material: KeyRef<'_>) {
        if self.keys.len() == self.keys.capacity() {
            // Copied and wiped: to move them would leave secrets behind.
            let mut more = Vec::with_capacity(2 * self.keys.len() + 1);
            more.extend_from_slice(&self.keys);
            self.keys.as_mut_slice().as_mut_bytes().zeroize();
            self.keys = more;
        }
        self.keys.push(row);
        self.materials.push(material);
    }

    /// Take one of a layer as it lies there; `seen` is of that layer. What it says is not added to the sum.
    pub(super) fn copy(
        &mut self,
        endpoint: &EndpointView<'_>,
        seen: &mut Seen,
    ) -> Result<(), TableError> {
        let (layer, old) = endpoint.place();
        let row = EndpointRow {
            name_at: self.text(endpoint.name())?,
            keys_at: place(self.keys.len())?,
            certificates_at: place(self.certificates.len() / 32)?,
            grants_at: place(self.grants.len())?,
            terms: seen.terms.of(old.terms, |at| self.terms(&layer.terms[at])),
            queue: seen.queues.of(old.queue, |at| {
                self.queues.place(QueueRow::from(&layer.queues[at]))
            }),
            rates: seen.rates.of(old.rates, |at| {
                self.rates.place(RatesRow::from(&layer.rates[at]))
            }),
            ..*old
        };
        for at in old.keys_at.get()..old.keys_at.get() + u32::from(old.keys.get()) {
            let key = layer.key_row(at);
            let name_at = self.key_name(layer.name(key.name_at.get(), key.name_bytes))?;
            self.key_row(KeyRow { name_at, ..*key }, layer.materials.get(key, at));
        }
        for certificate in endpoint.certificates() {
            self.certificates.extend_from_slice(&certificate.0);
        }
        let count = old.send.get().checked_add(old.receive.get());
        let count = count.ok_or(TableError::TooLarge)?;
        for grant in layer.grant_rows(old.grants_at.get(), count) {
            let restriction = seen.restrictions.of(grant.restriction, |at| {
                match layer.restrictions[at].is_none() {
                    true => 0,
                    false => self.restriction(&layer.restrictions[at]),
                }
            });
            self.grants.push(GrantRow {
                restriction,
                ..*grant
            });
        }
        self.endpoints.push(row);
        Ok(())
    }

    fn grant(&mut self, grant: &Grant) {
        let restriction = match grant.restriction.is_none() {
            true => 0,
            false => self.restriction(&grant.restriction),
        };
        self.grants.push(GrantRow {
            channel: U32::new(grant.channel.0),
            restriction: U32::new(restriction),
        });
    }

    fn restriction(&mut self, restriction: &Restriction) -> u32 {
        let mut bytes = Vec::new();
        put_restriction(&mut bytes, restriction);
        // As it will be read: with its lists in the order of the bytes.
        let read = read_restriction(&mut Reader(&bytes));
        let place = self.restrictions.place(bytes);
        if place as usize == self.restriction_list.len() {
            let read = read.ok().expect("what was written can be read");
            self.restriction_list.push(read);
        }
        place
    }

    fn terms(&mut self, terms: &Terms) -> u32 {
        let mut bytes = Vec::new();
        put_terms(&mut bytes, terms);
        let read = read_terms(&mut Reader(&bytes));
        let place = self.terms.place(bytes);
        if place as usize == self.term_list.len() {
            let read = read.ok().expect("what was written can be read");
            self.term_list.push(read);
        }
        place
    }

    fn text(&mut self, text: &str) -> Result<U32, TableError> {
        let at = place(self.names.len())?;
        self.names.put(text.as_bytes());
        Ok(at)
    }

    /// The name of the one that came last.
    pub(super) fn last_name(&self) -> Option<&[u8]> {
        let row = self.endpoints.last()?;
        let at = row.name_at.get() as usize;
        Some(&self.names[at..at + usize::from(row.name_bytes)])
    }

    /// What all that was pushed says.
    pub(super) fn sum(&self) -> Sum {
        self.sum
    }

    /// The layer of all that was pushed.
    pub(super) fn finish(
        mut self,
        title: &Title,
        head: &[u8],
        gone: &[EndpointId],
    ) -> Result<Layer, TableError> {
        let restrictions = self.restrictions.list().concat();
        let terms = self.terms.list().concat();
        let counts = Counts {
            head_bytes: place(head.len())?,
            restriction_bytes: place(restrictions.len())?,
            terms_bytes: place(terms.len())?,
            queues: place(self.queues.list().len())?,
            rates: place(self.rates.list().len())?,
            endpoints: place(self.endpoints.len())?,
            keys: place(self.keys.len())?,
            certificates: place(self.certificates.len() / 32)?,
            grants: place(self.grants.len())?,
            gone: place(gone.len())?,
            name_bytes: place(self.names.len())?,
        };
        let sections = Sections::of(&counts).ok_or(TableError::TooLarge)?;
        let header = Header {
            magic: MAGIC,
            checksum: U64::new(0),
            version: U16::new(VERSION),
            kind: title.kind as u8,
            unused: [0; 5],
            epoch: U64::new(title.epoch),
            digest: title.digest.0,
            base_epoch: U64::new(title.base.0),
            base_digest: title.base.1.0,
            counts,
        };
        let sections_written: [&[u8]; 12] = [
            header.as_bytes(),
            head,
            &restrictions,
            &terms,
            self.queues.list().as_bytes(),
            self.rates.list().as_bytes(),
            self.endpoints.as_bytes(),
            self.keys.as_bytes(),
            &self.certificates,
            self.grants.as_bytes(),
            &gone
                .iter()
                .flat_map(|id| id.0.to_le_bytes())
                .collect::<Vec<u8>>(),
            &self.names,
        ];
        let bytes = TableBytes::written(sections.end, |place| put_all(place, &sections_written));
        let read = "what was written can be read";
        let queue = |row| QueueBounds::try_from(row).ok().expect(read);
        let rates = |row| Rates::try_from(row).ok().expect(read);
        Ok(Layer {
            sections,
            endpoints: counts.endpoints.get(),
            restrictions: std::mem::take(&mut self.restriction_list).into(),
            terms: std::mem::take(&mut self.term_list).into(),
            queues: self.queues.list().iter().map(queue).collect(),
            rates: self.rates.list().iter().map(rates).collect(),
            materials: std::mem::replace(&mut self.materials, Begun::with_room(0, 0)).end(),
            bytes,
        })
    }
}

/// Where in a writer's lists that is which a layer has at a place of its own.
pub(super) struct Seen {
    restrictions: Places,
    terms: Places,
    queues: Places,
    rates: Places,
}

impl Seen {
    /// Nothing of this layer yet.
    pub(super) fn of(layer: &Layer) -> Self {
        let none = |count| Places(vec![None; count]);
        Self {
            restrictions: none(layer.restrictions.len()),
            terms: none(layer.terms.len()),
            queues: none(layer.queues.len()),
            rates: none(layer.rates.len()),
        }
    }
}

struct Places(Vec<Option<u32>>);

impl Places {
    fn of(&mut self, at: U32, find: impl FnOnce(usize) -> u32) -> U32 {
        let at = at.get() as usize;
        U32::new(*self.0[at].get_or_insert_with(|| find(at)))
    }
}

/// Put sections behind one another, and their checksum in front.
fn put_all(place: &mut [u8], sections: &[&[u8]]) {
    let mut rest = &mut *place;
    for section in sections {
        rest.split_off_mut(..section.len())
            .expect("every section has its length")
            .copy_from_slice(section);
    }
    assert!(rest.is_empty(), "{} bytes too many", rest.len());
    let checksum = xxh3_64(&place[UNCHECKED_BYTES..]);
    place[MAGIC.len()..UNCHECKED_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

fn flag(set: bool, flag: u8) -> u8 {
    if set { flag } else { 0 }
}

/// A place in a section, or the length of one.
fn place(at: usize) -> Result<U32, TableError> {
    u32::try_from(at)
        .map(U32::new)
        .map_err(|_| TableError::TooLarge)
}
