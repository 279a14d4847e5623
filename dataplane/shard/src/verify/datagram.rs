//! A part of stage 3: frames that came as datagrams. No place in an order is signed with them, as they have none.

use wire::datagram::verify;
use wire::frame::SignatureKind;
use wire::ids::Sequence;
use wire::send::Send;

use crate::io::ConnectionId;
use crate::peers::Peers;

use super::{Origin, Verified, VerifyError, check_sender, strike};

/// Check a SEND that came in a datagram of this number, for the session of its lane, which is open.
pub(crate) fn verify_datagram<'a>(
    peers: &mut Peers,
    connection: ConnectionId,
    number: u64,
    send: &'a Send<'a>,
) -> Result<Verified<'a>, VerifyError> {
    let session = peers.session_of(connection);
    let session = session.expect("the caller has looked");
    let reference = session.reference;
    if send.signature_kind() != SignatureKind::Session {
        return Err(VerifyError::SignatureKind(send.signature_kind() as u8));
    }
    if !verify(&session.keys.client, number, send) {
        return Err(strike(peers, connection));
    }
    peers.counters.verify.session_frames += 1;
    check_sender(peers, reference, send)?;
    Ok(Verified {
        order: 0,
        connection,
        session: reference,
        origin: Origin::Datagram(Sequence(number)),
        send,
    })
}
