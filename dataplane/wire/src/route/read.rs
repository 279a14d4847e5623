//! From bytes that anybody may have written to what they encode. Everything is looked at once, here: whoever reads a layer later
//! finds every index within its section and every text a text.

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::FromBytes;

use super::arena::{read_restriction, read_terms};
use super::bytes::{Reader, TableBytes, Unread};
use super::digest::Digest;
use super::head::{HeadParts, check_name, read_head};
use super::layer::{Layer, Sections};
use super::material::Materials;
use super::rows::{
    ENABLED, EXPIRES, EndpointRow, GrantRow, Header, KeyRow, Kind, MAGIC, QueueRow, RELAY, REVOKED,
    RatesRow, SYMMETRIC, UNCHECKED_BYTES, VERSION,
};
use super::write::Title;
use super::{KEYS_MAX, QueueBounds, Rates, TableError};
use crate::ids::Direction;
use crate::limits::CHANNELS_MAX;

/// Bytes that are no table or change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// They do not begin as one does.
    #[error("the bytes are no route table")]
    Magic,
    /// Another version wrote them.
    #[error("the route table has form {0}, known is form {VERSION}")]
    Version(u16),
    /// A table where a change was expected, or the other way round.
    #[error("the bytes are of kind {0}, not {1}")]
    Kind(u8, u8),
    /// Bytes are missing, or too many.
    #[error("the route table has {0} bytes, not {1}")]
    Length(u64, u64),
    /// They were altered on the way.
    #[error("the checksum of the route table is wrong")]
    Checksum,
    /// A value that is none.
    #[error("the {0} of the route table are malformed")]
    Malformed(&'static str),
    /// Things that contradict each other.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// What was read.
pub(super) struct Parts {
    pub(super) title: Title,
    pub(super) head: Option<HeadParts>,
    pub(super) layer: Layer,
}

pub(super) fn read(bytes: TableBytes, kind: Kind) -> Result<Parts, ReadError> {
    let (header, sections) = header(&bytes, kind)?;
    let title = Title {
        kind,
        epoch: header.epoch.get(),
        digest: Digest(header.digest),
        base: (header.base_epoch.get(), Digest(header.base_digest)),
    };
    let based = title.base.0 != 0 || title.base.1.0 != [0; 32];
    if kind == Kind::Table && (based || sections.gone != sections.names) {
        return Err(ReadError::Malformed("base"));
    }
    let part = |from: usize, to: usize| &bytes[from..to];
    let head = match part(sections.head, sections.restrictions) {
        [] if kind == Kind::Delta => None,
        head => Some(whole(head, "hubs, channels, accounts or nodes", read_head)?),
    };
    let restrictions = part(sections.restrictions, sections.terms);
    let restrictions = whole(restrictions, "restrictions", |bytes| {
        all(bytes, read_restriction)
    })?;
    let terms = part(sections.terms, sections.queues);
    let terms = whole(terms, "terms", |bytes| all(bytes, read_terms))?;
    let queues = rows::<QueueRow>(part(sections.queues, sections.rates));
    let queues: Result<Box<[_]>, _> = queues.iter().map(QueueBounds::try_from).collect();
    let rates = rows::<RatesRow>(part(sections.rates, sections.endpoints));
    let rates: Result<Box<[_]>, _> = rates.iter().map(Rates::try_from).collect();
    let keys = rows::<KeyRow>(part(sections.keys, sections.certificates));
    let materials = Materials::of(keys);
    let layer = Layer {
        sections,
        endpoints: header.counts.endpoints.get(),
        restrictions: restrictions.into(),
        terms: terms.into(),
        queues: queues.map_err(|_| ReadError::Malformed("queues"))?,
        rates: rates.map_err(|_| ReadError::Malformed("rates"))?,
        materials: materials.map_err(|_| ReadError::Malformed("keys"))?,
        bytes: bytes.clone(),
    };
    check(&layer)?;
    Ok(Parts { title, head, layer })
}

fn header(bytes: &[u8], kind: Kind) -> Result<(Header, Sections), ReadError> {
    let (header, _) = Header::read_from_prefix(bytes).map_err(|_| ReadError::Magic)?;
    if header.magic != MAGIC {
        return Err(ReadError::Magic);
    }
    if header.version.get() != VERSION {
        return Err(ReadError::Version(header.version.get()));
    }
    if header.kind != kind as u8 {
        return Err(ReadError::Kind(header.kind, kind as u8));
    }
    let sections = Sections::of(&header.counts).ok_or(ReadError::Malformed("lengths"))?;
    if sections.end != bytes.len() {
        return Err(ReadError::Length(bytes.len() as u64, sections.end as u64));
    }
    if header.checksum.get() != xxh3_64(&bytes[UNCHECKED_BYTES..]) {
        return Err(ReadError::Checksum);
    }
    if header.unused != [0; 5] {
        return Err(ReadError::Malformed("lengths"));
    }
    Ok((header, sections))
}

/// All of these bytes, read.
fn whole<T>(
    bytes: &[u8],
    what: &'static str,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Unread>,
) -> Result<T, ReadError> {
    let mut reader = Reader(bytes);
    let read = read(&mut reader);
    match read {
        Ok(read) if reader.0.is_empty() => Ok(read),
        _ => Err(ReadError::Malformed(what)),
    }
}

/// One behind the other, up to the end.
fn all<T>(
    bytes: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Unread>,
) -> Result<Vec<T>, Unread> {
    let mut list = Vec::new();
    while !bytes.0.is_empty() {
        list.push(read(bytes)?);
    }
    Ok(list)
}

/// The rows of a section.
fn rows<T: FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned>(
    bytes: &[u8],
) -> &[T] {
    <[T]>::ref_from_bytes(bytes).expect("a section has a whole number of rows")
}

/// Every row of a layer on its own, and the order of the endpoints.
fn check(layer: &Layer) -> Result<(), ReadError> {
    let names = &layer.bytes[layer.sections.names..layer.sections.end];
    let names = std::str::from_utf8(names).map_err(|_| ReadError::Malformed("names"))?;
    let name = |at: u32, bytes: u8| {
        let at = at as usize;
        names.get(at..at + usize::from(bytes))
    };
    let keys = rows::<KeyRow>(&layer.bytes[layer.sections.keys..layer.sections.certificates]);
    for key in keys {
        let named = name(key.name_at.get(), key.name_bytes).is_some_and(|name| !name.is_empty());
        let known = Direction::from_u8(key.direction).is_some() && key.id.get() != 0;
        let opens = key.direction != Direction::Egress as u8 || key.kind == SYMMETRIC;
        let open = key.flags & EXPIRES == 0 && key.expires.get() != 0;
        if !named || !known || !opens || open || key.flags & !(REVOKED | EXPIRES) != 0 {
            return Err(ReadError::Malformed("keys"));
        }
    }
    let endpoints = &layer.bytes[layer.sections.endpoints..layer.sections.keys];
    let grants = rows::<GrantRow>(&layer.bytes[layer.sections.grants..layer.sections.gone]);
    let mut running = Running::default();
    let mut before: Option<&str> = None;
    for row in rows::<EndpointRow>(endpoints) {
        let seen = name(row.name_at.get(), row.name_bytes);
        let seen = seen.ok_or(ReadError::Malformed("names"))?;
        check_name(seen)?;
        if before.is_some_and(|before| before >= seen) {
            return Err(ReadError::Malformed("names"));
        }
        before = Some(seen);
        running.take(row, keys, grants, layer)?;
    }
    let certificates = (layer.sections.grants - layer.sections.certificates) / 32;
    let totals = (keys.len(), certificates, grants.len());
    if (running.keys, running.certificates, running.grants) != totals {
        return Err(ReadError::Malformed("lengths"));
    }
    let gone: Vec<_> = layer.gone().collect();
    match gone.is_sorted_by(|a, b| a < b) {
        true => Ok(()),
        false => Err(ReadError::Malformed("ids that are gone")),
    }
}

/// How far the rows of the endpoints so far reach in the sections behind them.
#[derive(Default)]
struct Running {
    keys: usize,
    certificates: usize,
    grants: usize,
}

impl Running {
    fn take(
        &mut self,
        row: &EndpointRow,
        keys: &[KeyRow],
        grants: &[GrantRow],
        layer: &Layer,
    ) -> Result<(), ReadError> {
        let malformed = ReadError::Malformed;
        let places = [row.keys_at, row.certificates_at, row.grants_at];
        if places.map(|at| at.get() as usize) != [self.keys, self.certificates, self.grants]
            || row.flags & !(ENABLED | RELAY) != 0
            || row.terms.get() as usize >= layer.terms.len()
            || row.queue.get() as usize >= layer.queues.len()
            || row.rates.get() as usize >= layer.rates.len()
        {
            return Err(malformed("endpoints"));
        }
        let next = |at: &mut usize, count: u16| {
            let from = *at;
            *at += usize::from(count);
            from..*at
        };
        let own = keys.get(next(&mut self.keys, row.keys.get()));
        let own = own.filter(|own| own.len() <= KEYS_MAX);
        let own = own.ok_or(malformed("endpoints"))?;
        check_keys(own, layer)?;
        let certificates = next(&mut self.certificates, row.certificates.get());
        let there = (layer.sections.grants - layer.sections.certificates) / 32;
        let (at, count) = (row.certificates_at.get(), row.certificates.get());
        if certificates.end > there || !layer.certificates(at, count).is_sorted() {
            return Err(malformed("certificates"));
        }
        for count in [row.send.get(), row.receive.get()] {
            let rows = grants.get(next(&mut self.grants, count));
            let rows = rows.ok_or(malformed("endpoints"))?;
            let rising = rows.is_sorted_by(|a, b| a.channel.get() < b.channel.get());
            let named =
                |row: &GrantRow| (row.restriction.get() as usize) < layer.restrictions.len();
            if !rising || rows.len() > CHANNELS_MAX || !rows.iter().all(named) {
                return Err(malformed("grants"));
            }
        }
        Ok(())
    }
}

/// The keys of one endpoint: ids rise, and no two have one name.
fn check_keys(keys: &[KeyRow], layer: &Layer) -> Result<(), ReadError> {
    let name = |key: &KeyRow| layer.name_bytes(key.name_at.get(), key.name_bytes);
    for (at, key) in keys.iter().enumerate() {
        let shared = keys[..at]
            .iter()
            .any(|other| other.id.get() >= key.id.get() || name(other) == name(key));
        if shared {
            return Err(ReadError::Malformed("keys"));
        }
    }
    Ok(())
}
