//! What a person is told was seen and needed, where a notice carries no number for it.

use super::Reason;

impl Reason {
    /// Words for `seen` and `needed`. Where the notice has a number, the number is told instead.
    pub(super) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::UnknownEndpoint => ("a name that no endpoint has", "an endpoint of the plan"),
            Self::BadCredential => (
                "a proof that does not verify",
                "the name of an endpoint, the id of a key of its and that key's text",
            ),
            Self::KeyRevoked => ("a revoked key", "a key that is in force"),
            Self::TokenMalformed => (
                "text that is no token",
                "SharedAccessSignature sr=..&sig=..&se=..&skn=..",
            ),
            Self::TokenScope => (
                "a token for another resource",
                "a token whose sr covers the endpoint's name",
            ),
            Self::SessionUnknown => (
                "a session that is not there",
                "a session that still lingers",
            ),
            Self::KeyKind => ("an Ed25519 key", "a symmetric key"),
            Self::EndpointDisabled => (
                "an endpoint that is switched off",
                "an endpoint that is enabled",
            ),
            Self::AddressRefused => (
                "an address that no grant allows",
                "an address within the endpoint's restrictions",
            ),
            Self::HelloReplayed => (
                "a client nonce that was used before",
                "a nonce that is new for every HELLO",
            ),
            Self::UnknownKind => ("a kind this version lacks", "a kind of protocol version 1"),
            Self::UnexpectedFrame => (
                "a frame out of place",
                "a frame that this side may send now",
            ),
            Self::NoMessages => ("no message", "at least 1"),
            Self::RelayNotAllowed => ("an envelope", "an endpoint that may relay"),
            Self::UnknownChannel => ("an id that no channel has", "a channel id from WELCOME"),
            Self::NotGranted => ("a channel without a grant", "a grant for the channel"),
            Self::WrongDirection => (
                "a credential of the other direction",
                "an ingress key to send, an egress key to receive",
            ),
            Self::RestrictedAddress => (
                "another address",
                "an address within the grant's restriction",
            ),
            Self::RestrictedOrigin => (
                "no origin that is allowed",
                "an origin within the grant's restriction",
            ),
            Self::StorageFull => ("a full disk", "room for one more segment"),
            Self::PartitionSealed => ("a log that is sealed", "a log whose every sync succeeded"),
            Self::NotOwner => (
                "a shard that does not own the partition",
                "the shard that owns it",
            ),
            Self::HubUnavailable => ("a hub whose logs are not open", "a hub whose logs are open"),
            Self::QueueTaken => ("another session's FETCH", "to be the queue's only consumer"),
            Self::Draining => ("a node that is stopping", "a node that takes work"),
            Self::PeerBye => ("BYE", "an open session"),
            Self::CredentialWithdrawn => {
                ("a credential withdrawn", "a credential that is in force")
            }
            Self::TableStale => (
                "a node that has not heard from its control plane for too long",
                "a node that has",
            ),
            _ => ("a value that is not told", "a value that is not told"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Notice;

    #[test]
    fn every_reason_tells_a_value_seen_and_a_value_needed() {
        for &reason in Reason::ALL {
            let told = Notice::new(reason, 7, 9).diagnosis();
            for text in [&told.seen, &told.needed] {
                assert!(
                    text.len() > 1 && !text.contains("not told"),
                    "{reason:?}: {text}"
                );
            }
        }
    }
}
