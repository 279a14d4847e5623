//! Keys: what they are made of, and until when they are good.

use std::ops::RangeInclusive;

use wire::ids::{self, KeyId};
use wire::route;
use wire::signature::{KeyMaterial, SecretKey};

use super::ACTIVE_KEYS_MAX;
use super::faults::{Faults, Place};
use super::restriction::bounded;
use super::value::{expiry, whole};
use crate::diagnosis::{
    DUPLICATE, KEY_KIND, NAME, PUBLIC_MALFORMED, SEALED, SECRET_MALFORMED, SECRET_MISSING,
    TOO_MANY_KEYS,
};
use crate::model::{Direction, Endpoint, Key, Kind, NAME_NEEDED, Public, Secret, is_part};
use crate::seal::MasterKey;

/// Most keys of an endpoint, those included that are revoked.
const KEYS_MAX: usize = 64;
/// Ids that keys may have.
const IDS: RangeInclusive<i64> = 1..=u32::MAX as i64;

/// The keys of an endpoint that are well formed.
pub(super) fn keys(
    endpoint: &Endpoint,
    place: &Place<'_>,
    master: Option<&MasterKey>,
    faults: &mut Faults,
) -> Vec<route::Key> {
    let mut keys: Vec<route::Key> = Vec::with_capacity(endpoint.keys.len());
    if let Some(last) = endpoint.last_key {
        whole(last, &place.key("last_key"), "last_key", IDS, faults);
    }
    let list = place.key("keys");
    let written = bounded(&endpoint.keys, KEYS_MAX, &list, "keys", faults);
    for (at, key) in written.iter().enumerate() {
        let place = list.index(at);
        let id = KeyId(whole(key.id, &place.key("id"), "id of a key", IDS, faults) as u32);
        if !is_part(&key.name) {
            let (what, seen) = ("the name of a key is malformed", format!("`{}`", key.name));
            faults.add(
                &place.key("name"),
                NAME,
                what,
                seen,
                NAME_NEEDED,
                "rename it",
            );
        }
        if keys
            .iter()
            .any(|other| other.id == id || *other.name == *key.name)
        {
            faults.add(
                &place.key("id"),
                DUPLICATE,
                "two keys share an id or a name",
                format!("key {id} `{}` of {}", key.name, endpoint.name),
                "an id and a name each",
                "change one",
            );
            continue;
        }
        let direction = direction(key.direction);
        check_active(endpoint, key, direction, &keys, &place, faults);
        let expires = expiry(key.expires.as_ref(), &place, faults);
        let Some(material) = material(endpoint, key, &place, master, faults) else {
            continue;
        };
        check_opens(key, direction, &material, &place, faults);
        keys.push(route::Key {
            id,
            name: key.name.as_str().into(),
            direction,
            material,
            expires,
            revoked: key.revoked == Some(true),
        });
    }
    keys
}

fn direction(written: Direction) -> ids::Direction {
    match written {
        Direction::Ingress => ids::Direction::Ingress,
        Direction::Egress => ids::Direction::Egress,
    }
}

/// A primary and a secondary that are active, no third.
fn check_active(
    endpoint: &Endpoint,
    key: &Key,
    direction: ids::Direction,
    before: &[route::Key],
    place: &Place<'_>,
    faults: &mut Faults,
) {
    let active = before
        .iter()
        .filter(|other| other.direction == direction && !other.revoked)
        .count();
    if key.revoked != Some(true) && active >= ACTIVE_KEYS_MAX {
        let owner = &endpoint.name;
        faults.add(
            &place.key("name"),
            TOO_MANY_KEYS,
            &format!("{owner} has too many active {} keys", direction.name()),
            (active + 1).to_string(),
            format!("at most {ACTIVE_KEYS_MAX}: a primary and a secondary"),
            "set `revoked = true` on the oldest",
        );
    }
}

/// A queue opens by a shared secret alone.
fn check_opens(
    key: &Key,
    direction: ids::Direction,
    material: &KeyMaterial,
    place: &Place<'_>,
    faults: &mut Faults,
) {
    if direction == ids::Direction::Egress && matches!(material, KeyMaterial::Ed25519(_)) {
        faults.add(
            &place.key("name"),
            KEY_KIND,
            &format!("key `{}` cannot open a queue", key.name),
            "ed25519",
            "hmac-sha256 for every egress key",
            "give it a `secret` from `forebay keys new`",
        );
    }
}

/// What the key is made of; `None` when that was refused.
fn material(
    endpoint: &Endpoint,
    key: &Key,
    place: &Place<'_>,
    master: Option<&MasterKey>,
    faults: &mut Faults,
) -> Option<KeyMaterial> {
    let kind = key.kind.unwrap_or(match key.public {
        Some(_) => Kind::Ed25519,
        None => Kind::HmacSha256,
    });
    match (kind, &key.secret, &key.sealed, &key.public) {
        (Kind::HmacSha256, Some(secret), None, None) => {
            symmetric(secret, &key.name, &place.key("secret"), faults)
        }
        (Kind::HmacSha256, None, Some(sealed), None) => {
            let place = place.key("sealed");
            let secret = unsealed(endpoint, key, sealed, master, &place, faults)?;
            symmetric(&secret, &key.name, &place, faults)
        }
        (Kind::Ed25519, None, None, Some(public)) => {
            ed25519(public, &key.name, &place.key("public"), faults)
        }
        (_, None, None, None) => {
            faults.add(
                &place.key("name"),
                SECRET_MISSING,
                &format!("key `{}` has no secret", key.name),
                "neither",
                "`secret` or `public`",
                "make one with `forebay keys new`",
            );
            None
        }
        (kind, ..) => {
            unfit(key, kind, place, faults);
            None
        }
    }
}

/// The shared secret that a text is, or was sealed from.
fn symmetric(
    secret: &Secret,
    name: &str,
    place: &Place<'_>,
    faults: &mut Faults,
) -> Option<KeyMaterial> {
    if let Ok(key) = SecretKey::from_base64(secret.reveal()) {
        return Some(KeyMaterial::Symmetric(key));
    }
    let count = secret.reveal().chars().count();
    faults.add(
        place,
        SECRET_MALFORMED,
        &format!("the secret of key `{name}` is malformed"),
        format!("{count} characters that do not decode"),
        "44 characters, the base64 of 32 bytes",
        "make one with `forebay keys new`",
    );
    None
}

fn unsealed(
    endpoint: &Endpoint,
    key: &Key,
    sealed: &str,
    master: Option<&MasterKey>,
    place: &Place<'_>,
    faults: &mut Faults,
) -> Option<Secret> {
    let opened = match master {
        Some(master) => master.open(&endpoint.name, key.id, sealed),
        None => Err("no master key".to_owned()),
    };
    opened
        .map_err(|seen| {
            let what = format!("the sealed secret of key `{}` cannot be opened", key.name);
            let needed = "the master key that sealed it, for this key of this endpoint";
            let remedy = "use the master key of the store it comes from, or give a new `secret`";
            faults.add(place, SEALED, &what, seen, needed, remedy);
        })
        .ok()
}

fn ed25519(
    public: &Public,
    name: &str,
    place: &Place<'_>,
    faults: &mut Faults,
) -> Option<KeyMaterial> {
    public
        .key()
        .map(KeyMaterial::Ed25519)
        .map_err(|error| {
            faults.add(
                place,
                PUBLIC_MALFORMED,
                &format!("the public key of `{name}` is malformed"),
                error.to_string(),
                "the base64 of a 32-byte Ed25519 public key",
                "make a pair with `forebay keys new --kind ed25519`",
            );
        })
        .ok()
}

/// Kind and material do not go together.
fn unfit(key: &Key, kind: Kind, place: &Place<'_>, faults: &mut Faults) {
    let shared = key.secret.is_some() || key.sealed.is_some();
    let seen = match (shared, key.public.is_some()) {
        (true, true) => "both",
        (true, false) if key.secret.is_some() && key.sealed.is_some() => "`secret` and `sealed`",
        (true, false) => "`secret`",
        (false, _) => "`public`",
    };
    let needed = match kind {
        Kind::Ed25519 => "`public` for ed25519",
        Kind::HmacSha256 => "`secret` for hmac-sha256",
    };
    faults.add(
        &place.key("name"),
        KEY_KIND,
        &format!("kind and material of key `{}` do not fit", key.name),
        seen,
        needed,
        "give the one that the kind takes",
    );
}
