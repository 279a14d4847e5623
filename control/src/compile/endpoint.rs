//! Endpoints: keys, grants, restrictions and the bounds of a queue.

use wire::ids::{ChannelId, Direction, EndpointId, Fingerprint, KeyId, UnixNanos};
use wire::limits::BODY_BYTES_MAX;
use wire::route::{
    AddressRange, ChannelParts, Endpoint, Grant, Key, OnFull, QueueBounds, Restriction,
};
use wire::signature::{KeyMaterial, SecretKey, verifying_key_from_base64};

use super::faults::{Faults, did_you_mean};
use super::names::{Names, environment_of, is_part};
use super::{Taken, rates, whole};
use crate::diagnosis::{
    ADDRESS, DUPLICATE, EXPIRY, KEY_KIND, NAME, PUBLIC_MALFORMED, SECRET_MALFORMED, SECRET_MISSING,
    TOO_MANY_KEYS, UNKNOWN_NAME, VALUE,
};
use crate::plan::{
    AllowText, DirectionText, EndpointText, GrantText, KeyText, KindText, OnFullText, Plan,
    QueueText,
};
use crate::quantity::unix_seconds;

/// Active keys per direction: a primary and a secondary.
const ACTIVE_KEYS_MAX: usize = 2;

pub(super) fn endpoints(
    plan: &Plan,
    names: &Names<'_>,
    channels: &[ChannelParts],
    faults: &mut Faults<'_>,
) -> Vec<Endpoint> {
    let mut taken = Taken::new("endpoint");
    let mut endpoints = Vec::new();
    for text in &plan.endpoints {
        if !names.check_full(&text.name, "endpoint", faults) {
            continue;
        }
        let name = text.name.get_ref();
        let id = text.id.as_ref().map_or(EndpointId::of(name), |id| {
            EndpointId(whole(id, "id of an endpoint", 1..=i64::MAX, faults) as u64)
        });
        if taken.take(id.0, name, text.name.span(), faults) {
            endpoints.push(endpoint(text, id, channels, faults));
        }
    }
    endpoints
}

fn endpoint(
    text: &EndpointText,
    id: EndpointId,
    channels: &[ChannelParts],
    faults: &mut Faults<'_>,
) -> Endpoint {
    let (send, receive) = grants(text, channels, faults);
    Endpoint {
        id,
        name: text.name.get_ref().as_str().into(),
        enabled: text.enabled.unwrap_or(true),
        relay: text.relay.unwrap_or(false),
        keys: keys(text, faults),
        certificates: certificates(text, faults),
        rates: rates(&text.messages_per_second, &text.bytes_per_second, faults),
        send,
        receive,
        queue: text
            .queue
            .as_ref()
            .map_or_else(QueueBounds::default, |queue| bounds(queue, faults)),
    }
}

/// What it must show; one that is named twice is named.
fn certificates(text: &EndpointText, faults: &mut Faults<'_>) -> Vec<Fingerprint> {
    let mut certificates = Vec::new();
    for shown in &text.certificates {
        match Fingerprint::parse(shown.get_ref()) {
            Some(one) if certificates.contains(&one) => {}
            Some(one) => certificates.push(one),
            None => faults.add(
                shown.span(),
                VALUE,
                "a certificate is named by no fingerprint",
                format!("`{}`", shown.get_ref()),
                "its SHA-256: 64 hexadecimal digits, with or without colons",
                "see `openssl x509 -in FILE -noout -fingerprint -sha256`",
            ),
        }
    }
    certificates
}

fn keys(text: &EndpointText, faults: &mut Faults<'_>) -> Vec<Key> {
    let owner = text.name.get_ref();
    let mut keys: Vec<Key> = Vec::new();
    for text in &text.keys {
        let id = KeyId(whole(&text.id, "id of a key", 1..=i64::from(u32::MAX), faults) as u32);
        let name = text.name.get_ref();
        if !is_part(name) {
            let needed = "letters, digits, '-', '_' and '.'";
            faults.add(
                text.name.span(),
                NAME,
                "the name of a key is malformed",
                format!("`{name}`"),
                needed,
                "rename it",
            );
        }
        if keys.iter().any(|key| key.id == id || *key.name == **name) {
            let seen = format!("key {id} `{name}` of {owner}");
            faults.add(
                text.id.span(),
                DUPLICATE,
                "two keys share an id or a name",
                seen,
                "an id and a name each",
                "change one",
            );
            continue;
        }
        let direction = direction(text.direction);
        let revoked = text.revoked.unwrap_or(false);
        let active = keys
            .iter()
            .filter(|key| key.direction == direction && !key.revoked)
            .count();
        if !revoked && active >= ACTIVE_KEYS_MAX {
            let what = format!("{owner} has too many active {} keys", direction.name());
            let needed = format!("at most {ACTIVE_KEYS_MAX}: a primary and a secondary");
            faults.add(
                text.name.span(),
                TOO_MANY_KEYS,
                &what,
                (active + 1).to_string(),
                needed,
                "set `revoked = true` on the oldest",
            );
        }
        let expires = expiry(text, faults);
        if let Some(material) = material(text, faults) {
            if direction == Direction::Egress && matches!(material, KeyMaterial::Ed25519(_)) {
                let what = format!("key `{name}` cannot open a queue");
                let needed = "hmac-sha256 for every egress key";
                faults.add(
                    text.name.span(),
                    KEY_KIND,
                    &what,
                    "ed25519",
                    needed,
                    "give it a `secret` from `forebay keys new`",
                );
            }
            keys.push(Key {
                id,
                name: name.as_str().into(),
                direction,
                material,
                expires,
                revoked,
            });
        }
    }
    keys
}

fn direction(text: DirectionText) -> Direction {
    match text {
        DirectionText::Ingress => Direction::Ingress,
        DirectionText::Egress => Direction::Egress,
    }
}

/// What the key is made of; `None` when that was refused.
fn material(text: &KeyText, faults: &mut Faults<'_>) -> Option<KeyMaterial> {
    let name = text.name.get_ref();
    let kind = text.kind.unwrap_or(if text.public.is_some() {
        KindText::Ed25519
    } else {
        KindText::HmacSha256
    });
    match (kind, &text.secret, &text.public) {
        (KindText::HmacSha256, Some(secret), None) => {
            match SecretKey::from_base64(secret.get_ref()) {
                Ok(key) => Some(KeyMaterial::Symmetric(key)),
                Err(_) => {
                    let seen = format!(
                        "{} characters that do not decode",
                        secret.get_ref().chars().count()
                    );
                    let what = format!("the secret of key `{name}` is malformed");
                    let needed = "44 characters, the base64 of 32 bytes";
                    faults.add(
                        secret.span(),
                        SECRET_MALFORMED,
                        &what,
                        seen,
                        needed,
                        "make one with `forebay keys new`",
                    );
                    None
                }
            }
        }
        (KindText::Ed25519, None, Some(public)) => {
            match verifying_key_from_base64(public.get_ref()) {
                Ok(key) => Some(KeyMaterial::Ed25519(key)),
                Err(error) => {
                    let what = format!("the public key of `{name}` is malformed");
                    let needed = "the base64 of a 32-byte Ed25519 public key";
                    let remedy = "make a pair with `forebay keys new --kind ed25519`";
                    faults.add(
                        public.span(),
                        PUBLIC_MALFORMED,
                        &what,
                        error.to_string(),
                        needed,
                        remedy,
                    );
                    None
                }
            }
        }
        (_, None, None) => {
            let what = format!("key `{name}` has no secret");
            let needed = "`secret` or `public`";
            faults.add(
                text.name.span(),
                SECRET_MISSING,
                &what,
                "neither",
                needed,
                "make one with `forebay keys new`",
            );
            None
        }
        (kind, secret, public) => {
            let given = if secret.is_some() && public.is_some() {
                "both"
            } else if secret.is_some() {
                "`secret`"
            } else {
                "`public`"
            };
            let needed = if kind == KindText::Ed25519 {
                "`public` for ed25519"
            } else {
                "`secret` for hmac-sha256"
            };
            let what = format!("kind and material of key `{name}` do not fit");
            faults.add(
                text.name.span(),
                KEY_KIND,
                &what,
                given,
                needed,
                "give the one that the kind takes",
            );
            None
        }
    }
}

fn expiry(text: &KeyText, faults: &mut Faults<'_>) -> Option<UnixNanos> {
    let expires = text.expires.as_ref()?;
    let seconds = unix_seconds(expires.get_ref());
    if seconds.is_none() {
        let seen = expires.get_ref().to_string();
        let needed = "a date and time with an offset, after 1970";
        faults.add(
            expires.span(),
            EXPIRY,
            "an expiry cannot be used",
            seen,
            needed,
            "write it like 2027-01-31T00:00:00Z",
        );
    }
    seconds.map(UnixNanos::from_seconds)
}

/// Grants to send and to receive, each sorted by channel.
fn grants(
    text: &EndpointText,
    channels: &[ChannelParts],
    faults: &mut Faults<'_>,
) -> (Vec<Grant>, Vec<Grant>) {
    let (mut send, mut receive) = (Vec::new(), Vec::new());
    for grant in &text.grants {
        let Some(channel) = channel_of(grant, text.name.get_ref(), channels, faults) else {
            continue;
        };
        let list = if grant.allow == AllowText::Send {
            &mut send
        } else {
            &mut receive
        };
        if list.iter().any(|other: &Grant| other.channel == channel) {
            let seen = format!("`{}`", grant.channel.get_ref());
            faults.add(
                grant.channel.span(),
                DUPLICATE,
                "a channel is granted twice",
                seen,
                "one grant each way",
                "merge the two",
            );
            continue;
        }
        list.push(Grant {
            channel,
            restriction: restriction(grant, faults),
        });
    }
    send.sort_by_key(|grant| grant.channel);
    receive.sort_by_key(|grant| grant.channel);
    (send, receive)
}

fn channel_of(
    grant: &GrantText,
    owner: &str,
    channels: &[ChannelParts],
    faults: &mut Faults<'_>,
) -> Option<ChannelId> {
    let name = grant.channel.get_ref();
    let environment = environment_of(owner);
    let full = if name.contains('/') {
        name.clone()
    } else {
        format!("{environment}/{name}")
    };
    if let Some(channel) = channels.iter().find(|channel| *channel.name == *full) {
        return Some(channel.id);
    }
    let prefix = format!("{environment}/");
    let known = channels.iter().map(|channel| {
        if name.contains('/') {
            &channel.name
        } else {
            channel.name.strip_prefix(&prefix).unwrap_or(&channel.name)
        }
    });
    let remedy = did_you_mean(name, known, "declare it under [[channels]]");
    let what = format!("a grant of {owner} names an unknown channel");
    faults.add(
        grant.channel.span(),
        UNKNOWN_NAME,
        &what,
        format!("`{name}`"),
        "a declared channel",
        remedy,
    );
    None
}

fn restriction(grant: &GrantText, faults: &mut Faults<'_>) -> Restriction {
    let mut addresses = Vec::new();
    for text in &grant.addresses {
        match text.get_ref().parse::<AddressRange>() {
            Ok(range) => addresses.push(range),
            Err(error) => {
                let seen = format!("`{}` ({error})", text.get_ref());
                let needed = "an address or a range in CIDR form";
                faults.add(
                    text.span(),
                    ADDRESS,
                    "an address restriction is malformed",
                    seen,
                    needed,
                    "write it like \"10.0.0.0/8\"",
                );
            }
        }
    }
    let messages_per_second = grant
        .messages_per_second
        .as_ref()
        .map(|rate| whole(rate, "messages_per_second", 1..=i64::from(u32::MAX), faults) as u32);
    let body_bytes_max = grant.body_bytes_max.as_ref().map(|bytes| {
        let value = bytes.get_ref().0;
        if value > BODY_BYTES_MAX as u64 {
            let needed = format!("at most {BODY_BYTES_MAX}");
            faults.add(
                bytes.span(),
                VALUE,
                "body_bytes_max is out of range",
                value.to_string(),
                needed,
                "lower it, or leave it out",
            );
        }
        value.min(BODY_BYTES_MAX as u64) as u32
    });
    let origins = grant
        .origins
        .iter()
        .map(|origin| origin.as_str().into())
        .collect();
    Restriction {
        addresses,
        origins,
        messages_per_second,
        body_bytes_max,
    }
}

fn bounds(text: &QueueText, faults: &mut Faults<'_>) -> QueueBounds {
    let mut bounds = QueueBounds::default();
    if let Some(messages) = &text.messages_max {
        bounds.messages_max = whole(messages, "messages_max", 1..=i64::MAX, faults) as u64;
    }
    if let Some(bytes) = &text.bytes_max {
        bounds.bytes_max = bytes.get_ref().0;
        if bounds.bytes_max < BODY_BYTES_MAX as u64 {
            let needed = format!("at least one body of {BODY_BYTES_MAX}");
            faults.add(
                bytes.span(),
                VALUE,
                "bytes_max is out of range",
                bounds.bytes_max.to_string(),
                needed,
                "raise it",
            );
        }
    }
    if let Some(deliveries) = &text.deliveries_max {
        bounds.deliveries_max = whole(
            deliveries,
            "deliveries_max",
            0..=i64::from(u16::MAX),
            faults,
        ) as u16;
    }
    bounds.age_max = text.age_max.map(|age| age.0);
    if text.on_full == Some(OnFullText::DropOldest) {
        bounds.on_full = OnFull::DropOldest;
    }
    if let Some(lock) = text.lock {
        bounds.lock = lock.0;
    }
    bounds
}
