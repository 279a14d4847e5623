//! An endpoint of a table, looked at where it lies: nothing is copied but numbers.

use std::fmt;

use super::arena::Terms;
use super::layer::Layer;
use super::material::material;
use super::rows::{ENABLED, EXPIRES, EndpointRow, RELAY, REVOKED};
use super::{Endpoint, Grant, Key, QueueBounds, Rates, Restriction, Transports, Window};
use crate::ids::{ChannelId, Direction, EndpointId, Fingerprint, KeyId, NodeId, UnixNanos};
use crate::signature::{KeyMaterial, KeyRef, SecretKey};

/// An endpoint of a table. What a look costs nothing stands in fields, the rest is looked up when it is asked for.
#[derive(Clone, Copy)]
pub struct EndpointView<'t> {
    /// Its id.
    pub id: EndpointId,
    /// Whether it may do anything at all.
    pub enabled: bool,
    /// Whether it may relay frames of others.
    pub relay: bool,
    /// Its keys, by rising id.
    pub keys: Keys<'t>,
    /// Where it may send, by rising channel.
    pub send: Grants<'t>,
    /// What it hears, by rising channel.
    pub receive: Grants<'t>,
    layer: &'t Layer,
    row: &'t EndpointRow,
}

impl<'t> EndpointView<'t> {
    #[inline]
    pub(super) fn new(layer: &'t Layer, row: &'t EndpointRow) -> Self {
        let (grants_at, send, receive) = (row.grants_at.get(), row.send.get(), row.receive.get());
        Self {
            id: EndpointId(row.id.get()),
            enabled: row.flags & ENABLED != 0,
            relay: row.flags & RELAY != 0,
            keys: Keys {
                layer,
                at: row.keys_at.get(),
                count: row.keys.get(),
            },
            send: Grants {
                layer,
                at: grants_at,
                count: send,
            },
            receive: Grants {
                layer,
                at: grants_at + u32::from(send),
                count: receive,
            },
            layer,
            row,
        }
    }

    /// Where it lies.
    pub(super) fn place(&self) -> (&'t Layer, &'t EndpointRow) {
        (self.layer, self.row)
    }

    /// Its full name, `account/environment/endpoint`.
    pub fn name(&self) -> &'t str {
        self.layer.name(self.row.name_at.get(), self.row.name_bytes)
    }

    /// The account that owns it: the first part of its name.
    pub fn account(&self) -> &'t str {
        account_of(self.name())
    }

    /// Certificates one of which it must show in its tunnel to open a session, rising; none: it need not.
    pub fn certificates(&self) -> &'t [Fingerprint] {
        let (at, count) = (self.row.certificates_at.get(), self.row.certificates.get());
        self.layer.certificates(at, count)
    }

    #[inline]
    fn terms(&self) -> &'t Terms {
        &self.layer.terms[self.row.terms.get() as usize]
    }

    /// Over what its sessions may run.
    pub fn transports(&self) -> Transports {
        self.terms().transports
    }

    /// When it may have sessions, and when its envelopes are taken; none listed: always.
    pub fn windows(&self) -> &'t [Window] {
        &self.terms().windows
    }

    /// When it ends for good: nothing of it is good any more then.
    pub fn expires(&self) -> Option<UnixNanos> {
        self.terms().expires
    }

    /// The node that serves it, and no other does; none: any.
    #[inline]
    pub fn home(&self) -> Option<NodeId> {
        self.terms().home
    }

    /// Whether it has ended at this moment.
    #[inline]
    pub fn is_over(&self, now: UnixNanos) -> bool {
        self.expires().is_some_and(|expires| expires <= now)
    }

    /// Its grants to hear something that have not ended at this moment.
    pub fn heard(&self, now: UnixNanos) -> impl Iterator<Item = GrantView<'t>> + use<'t> {
        let over = move |grant: &GrantView<'_>| !grant.restriction.is_over(now);
        self.receive.iter().filter(over)
    }

    /// Whether it hears this channel at this moment.
    #[inline]
    pub fn hears(&self, channel: ChannelId, now: UnixNanos) -> bool {
        self.receive_grant(channel)
            .is_some_and(|grant| !grant.restriction.is_over(now))
    }

    /// What its queue may hold.
    #[inline]
    pub fn queue(&self) -> &'t QueueBounds {
        &self.layer.queues[self.row.queue.get() as usize]
    }

    /// What it may send over all its channels.
    pub fn rates(&self) -> Rates {
        self.layer.rates[self.row.rates.get() as usize]
    }

    /// Its grant to send to this channel.
    #[inline]
    pub fn send_grant(&self, channel: ChannelId) -> Option<GrantView<'t>> {
        self.send.find(channel)
    }

    /// Its grant to hear this channel.
    #[inline]
    pub fn receive_grant(&self, channel: ChannelId) -> Option<GrantView<'t>> {
        self.receive.find(channel)
    }

    /// Whether a tunnel in which this certificate was shown, or none, is one that it may use.
    pub fn may_use_tunnel(&self, shown: Option<Fingerprint>) -> bool {
        let certificates = self.certificates();
        let named = |shown| certificates.binary_search(&shown).is_ok();
        certificates.is_empty() || shown.is_some_and(named)
    }

    /// Its key with this id.
    pub fn key(&self, id: KeyId) -> Option<KeyView<'t>> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// Its key with this name, as tokens name it.
    pub fn key_by_name(&self, name: &str) -> Option<KeyView<'t>> {
        self.keys.iter().find(|key| key.name() == name)
    }

    /// A copy of all of it.
    #[must_use]
    pub fn to_parts(&self) -> Endpoint {
        Endpoint {
            id: self.id,
            name: self.name().into(),
            enabled: self.enabled,
            relay: self.relay,
            keys: self.keys.iter().map(|key| key.to_parts()).collect(),
            certificates: self.certificates().to_vec(),
            transports: self.transports(),
            windows: self.windows().to_vec(),
            expires: self.expires(),
            home: self.home(),
            send: self.send.to_parts(),
            receive: self.receive.to_parts(),
            queue: *self.queue(),
            rates: self.rates(),
        }
    }
}

/// The first part of a full name.
pub(super) fn account_of(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

impl fmt::Debug for EndpointView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_parts().fmt(f)
    }
}

/// Both say the same, in whatever tables they are.
impl PartialEq for EndpointView<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.to_parts() == other.to_parts()
    }
}

/// Keys of an endpoint.
#[derive(Clone, Copy)]
pub struct Keys<'t> {
    layer: &'t Layer,
    at: u32,
    count: u16,
}

impl<'t> Keys<'t> {
    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One of them.
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    pub fn at(&self, at: usize) -> KeyView<'t> {
        assert!(at < self.len(), "key {at} of {}", self.count);
        let at = self.at + at as u32;
        let row = self.layer.key_row(at);
        KeyView {
            id: KeyId(row.id.get()),
            direction: Direction::from_u8(row.direction).expect("it was read once"),
            material: self.layer.materials.get(row, at),
            expires: (row.flags & EXPIRES != 0).then_some(UnixNanos(row.expires.get())),
            revoked: row.flags & REVOKED != 0,
            layer: self.layer,
            at,
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = KeyView<'t>> + Clone + use<'t> {
        let keys = *self;
        (0..keys.len()).map(move |at| keys.at(at))
    }
}

/// A key of an endpoint.
#[derive(Clone, Copy)]
pub struct KeyView<'t> {
    /// Its id, unique in its endpoint; 0 is not given out.
    pub id: KeyId,
    /// What it is for.
    pub direction: Direction,
    /// What it is made of.
    pub material: KeyRef<'t>,
    /// When it stops to be good.
    pub expires: Option<UnixNanos>,
    /// Whether it was withdrawn.
    pub revoked: bool,
    layer: &'t Layer,
    at: u32,
}

impl<'t> KeyView<'t> {
    /// Its name, unique in its endpoint.
    pub fn name(&self) -> &'t str {
        let row = self.layer.key_row(self.at);
        self.layer.name(row.name_at.get(), row.name_bytes)
    }

    /// The secret that it is, if it is one.
    pub fn secret(&self) -> Option<SecretKey> {
        match material(self.layer.key_row(self.at)) {
            KeyMaterial::Symmetric(secret) => Some(secret),
            KeyMaterial::Ed25519(_) => None,
        }
    }

    fn to_parts(self) -> Key {
        Key {
            id: self.id,
            name: self.name().into(),
            direction: self.direction,
            material: material(self.layer.key_row(self.at)),
            expires: self.expires,
            revoked: self.revoked,
        }
    }
}

impl fmt::Debug for KeyView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_parts().fmt(f)
    }
}

/// Grants that lie in one line of the cache.
const GRANTS_FEW: usize = 8;

/// Grants of an endpoint one way, by rising channel.
#[derive(Clone, Copy)]
pub struct Grants<'t> {
    layer: &'t Layer,
    at: u32,
    count: u16,
}

impl<'t> Grants<'t> {
    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One of them.
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    pub fn at(&self, at: usize) -> GrantView<'t> {
        let row = &self.layer.grant_rows(self.at, self.count)[at];
        GrantView {
            channel: ChannelId(row.channel.get()),
            restriction: &self.layer.restrictions[row.restriction.get() as usize],
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = GrantView<'t>> + Clone + use<'t> {
        let grants = *self;
        (0..grants.len()).map(move |at| grants.at(at))
    }

    /// The one for this channel.
    #[inline]
    fn find(&self, channel: ChannelId) -> Option<GrantView<'t>> {
        let rows = self.layer.grant_rows(self.at, self.count);
        let row = match rows.len() {
            // One after the other: the processor goes on before it has read them.
            ..=GRANTS_FEW => rows.iter().find(|row| row.channel.get() == channel.0)?,
            _ => {
                let at = rows.binary_search_by_key(&channel.0, |row| row.channel.get());
                &rows[at.ok()?]
            }
        };
        Some(GrantView {
            channel,
            restriction: &self.layer.restrictions[row.restriction.get() as usize],
        })
    }

    fn to_parts(self) -> Vec<Grant> {
        let grant = |grant: GrantView<'_>| Grant {
            channel: grant.channel,
            restriction: grant.restriction.clone(),
        };
        self.iter().map(grant).collect()
    }
}

/// A permission to send to, or to hear, a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantView<'t> {
    /// The channel.
    pub channel: ChannelId,
    /// Conditions on it.
    pub restriction: &'t Restriction,
}
