//! A part of stage 3: envelopes are signed by the endpoints they name, whoever relays them. HMAC is checked at once, Ed25519
//! together with the others of the batch.

use std::sync::Arc;

use wire::frame::SignatureKind;
use wire::ids::{Direction, RELAY_STREAM};
use wire::route::{KeyRef, KeyView, RouteTable};
use wire::send::{Relay, Send};
use wire::signature::{VerifyingKey, verify_ed25519_batch, verify_envelope};

use crate::handshake::HandshakeError;
use crate::parse::{Parsed, Refusal};
use crate::peers::Peers;
use crate::session::SessionRef;
use crate::terms::check_terms;

use super::{Envelope, Origin, Verdicts, Verified, VerifyError, sending, strike};

/// The envelope's own signature: HMAC at once, Ed25519 with the others of the batch. The index is that of the endpoint it names.
pub(super) fn check_envelope<'a>(
    peers: &mut Peers,
    frame: &Parsed<'a>,
    reference: SessionRef,
    (relay, sender): (&'a Relay<'a>, Option<u32>),
    out: &mut Verdicts<'_, 'a>,
) -> Result<(), VerifyError> {
    let session = sending(peers, reference)?;
    if !peers.endpoint_held(session).relay {
        return Err(VerifyError::RelayNotAllowed(session.endpoint));
    }
    let send = relay.inner();
    let (index, at) = find_key(&peers.table, sender, send)?;
    let endpoint = peers.table.endpoint_at(index);
    let key = endpoint.keys.at(at);
    check_key(&key, peers.now.unix.seconds())?;
    let refused = |HandshakeError(notice)| VerifyError::Terms(notice);
    check_terms(&endpoint, Direction::Ingress, peers.now.unix).map_err(refused)?;
    let home = peers.check_node(&endpoint);
    let unverified = Verified {
        order: frame.order(),
        connection: frame.connection(),
        session: reference,
        origin: Origin::Relayed(relay.number()),
        send,
    };
    // A public key that is none has signed nothing.
    if let (KeyRef::Ed25519(public), SignatureKind::Ed25519) = (key.material, send.signature_kind())
        && public.point().is_some()
        && home.is_ok()
    {
        out.envelopes.push(Envelope {
            unverified,
            endpoint: index,
            key: at as u32,
        });
        return Ok(());
    }
    if !verify_envelope(key.material, send) {
        return Err(strike(peers, frame.connection()));
    }
    // Where somebody is at home is told to nobody but them and who has what they signed.
    home.map_err(refused)?;
    peers.counters.verify.key_envelopes += 1;
    out.verified.push(unverified);
    Ok(())
}

fn find_key(
    table: &RouteTable,
    sender: Option<u32>,
    send: &Send<'_>,
) -> Result<(u32, usize), VerifyError> {
    let unknown = VerifyError::UnknownSender(send.endpoint(), send.key_id());
    let index = sender.ok_or(unknown)?;
    let endpoint = table.endpoint_at(index);
    let at = endpoint
        .keys
        .iter()
        .position(|key| key.id == send.key_id())
        .ok_or(unknown)?;
    // Whose certificate has to be seen cannot come by another's tunnel.
    let relayed = endpoint.enabled && endpoint.certificates().is_empty();
    if !relayed || endpoint.keys.at(at).direction != Direction::Ingress {
        return Err(unknown);
    }
    Ok((index, at))
}

fn check_key(key: &KeyView<'_>, now: u64) -> Result<(), VerifyError> {
    if key.revoked {
        return Err(VerifyError::KeyRevoked(key.id));
    }
    match key.expires {
        Some(expires) if expires.seconds() <= now => Err(VerifyError::KeyExpired {
            key: key.id,
            expired: expires.seconds(),
            now,
        }),
        _ => Ok(()),
    }
}

/// Check the Ed25519 envelopes of a batch together, and put the good ones in their places.
pub(super) fn check_envelopes<'a>(peers: &mut Peers, out: &mut Verdicts<'_, 'a>) {
    let table = Arc::clone(&peers.table);
    let sends: Vec<&Send<'a>> = out
        .envelopes
        .iter()
        .map(|envelope| envelope.unverified.send)
        .collect();
    let items: Vec<(&VerifyingKey, &Send<'_>)> = out
        .envelopes
        .iter()
        .zip(sends.iter().copied())
        .filter_map(|(envelope, send)| {
            let keys = table.endpoint_at(envelope.endpoint).keys;
            match keys.at(envelope.key as usize).material {
                KeyRef::Ed25519(key) => Some((key.point()?, send)),
                KeyRef::Symmetric(_) => None,
            }
        })
        .collect();
    assert_eq!(
        items.len(),
        sends.len(),
        "only envelopes with Ed25519 keys were collected"
    );
    verify_ed25519_batch(&items, out.good);
    for (envelope, good) in out.envelopes.iter().zip(out.good.iter()) {
        let verified = envelope.unverified;
        if *good {
            peers.counters.verify.ed25519_envelopes += 1;
            out.verified.push(verified);
        } else {
            let notice = strike(peers, verified.connection).notice();
            let Origin::Relayed(sequence) = verified.origin else {
                continue;
            };
            let (order, connection) = (verified.order, verified.connection);
            out.refusals.push(Refusal {
                order,
                connection,
                partition: RELAY_STREAM,
                sequence,
                notice,
            });
        }
    }
    out.verified.sort_unstable_by_key(|verified| verified.order);
}
