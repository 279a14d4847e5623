//! What the keys of a layer are made of, ready to check signatures with. Secrets are keys for HMAC; public keys become points when
//! somebody asks for them.

use super::bytes::Unread;
use super::rows::{ED25519, KeyRow, SYMMETRIC};
use crate::signature::{KeyMaterial, KeyRef, MacKey, PublicKey, SecretKey};

/// Of each key, in the order of their rows.
pub(super) struct Materials {
    macs: Box<[MacKey]>,
    points: Box<[PublicKey]>,
    /// Where among those of its kind each is; nothing if all are of one kind.
    places: Box<[u32]>,
}

impl Materials {
    /// What these rows say.
    pub(super) fn of(rows: &[KeyRow]) -> Result<Self, Unread> {
        let secrets = rows.iter().filter(|row| row.kind == SYMMETRIC).count();
        let mut begun = Begun::with_room(rows.len(), secrets);
        for row in rows {
            match row.kind {
                SYMMETRIC => begun.mac(SecretKey::from_random(row.material).mac().clone()),
                ED25519 => begun.point(PublicKey::of(row.material)),
                _ => return Err(Unread),
            }
        }
        Ok(begun.end())
    }

    /// That of the key with this row, which is at this place.
    #[inline]
    pub(super) fn get(&self, row: &KeyRow, at: u32) -> KeyRef<'_> {
        let place = self.places.get(at as usize).copied().unwrap_or(at) as usize;
        match row.kind {
            SYMMETRIC => KeyRef::Symmetric(&self.macs[place]),
            _ => KeyRef::Ed25519(&self.points[place]),
        }
    }

    /// Read the secret of the key that is at this place, if it is one.
    #[inline]
    pub(super) fn touch(&self, at: u32) -> u64 {
        let place = self.places.get(at as usize).copied().unwrap_or(at) as usize;
        self.macs.get(place).map_or(0, MacKey::ends)
    }

    /// Bytes of memory that it takes, without points.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.macs) + size_of_val(&*self.points) + size_of_val(&*self.places)
    }
}

/// What one row says.
pub(super) fn material(row: &KeyRow) -> KeyMaterial {
    match row.kind {
        SYMMETRIC => KeyMaterial::Symmetric(SecretKey::from_random(row.material)),
        _ => KeyMaterial::Ed25519(PublicKey::of(row.material)),
    }
}

/// The same while it is made.
pub(super) struct Begun {
    macs: Vec<MacKey>,
    points: Vec<PublicKey>,
    places: Vec<u32>,
}

impl Begun {
    /// For so many keys, so many of them secrets.
    pub(super) fn with_room(keys: usize, secrets: usize) -> Self {
        Self {
            macs: Vec::with_capacity(secrets),
            points: Vec::new(),
            places: Vec::with_capacity(keys),
        }
    }

    /// The next key.
    pub(super) fn push(&mut self, material: KeyRef<'_>) {
        match material {
            KeyRef::Symmetric(mac) => self.mac(mac.clone()),
            KeyRef::Ed25519(public) => self.point(public.clone()),
        }
    }

    fn mac(&mut self, mac: MacKey) {
        if self.macs.len() == self.macs.capacity() {
            // Copied and wiped: to move them would leave them behind.
            let mut more = Vec::with_capacity(2 * self.macs.len() + 1);
            more.extend(self.macs.iter().cloned());
            self.macs = more;
        }
        self.places.push(self.macs.len() as u32);
        self.macs.push(mac);
    }

    fn point(&mut self, point: PublicKey) {
        self.places.push(self.points.len() as u32);
        self.points.push(point);
    }

    /// All of them.
    pub(super) fn end(self) -> Materials {
        let mixed = !self.macs.is_empty() && !self.points.is_empty();
        let macs = match self.macs.len() == self.macs.capacity() {
            true => self.macs.into(),
            // As above.
            false => self.macs.iter().cloned().collect(),
        };
        Materials {
            macs,
            points: self.points.into(),
            places: if mixed {
                self.places.into()
            } else {
                Box::default()
            },
        }
    }
}
