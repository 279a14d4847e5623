//! What the benches share: signed frames of production size, made from fixed numbers.

use wire::ids::{ChannelId, EndpointId, Sequence, SessionId, UnixNanos};
use wire::send::SendBuilder;
use wire::signature::{SessionKeys, Signer};

/// Bytes of a message's body in every bench unless its name says otherwise.
pub const BODY_BYTES: usize = 100;
/// Messages in one frame, as a lone sensor, a gateway and a bulk sender have them.
pub const MESSAGES_PER_FRAME: [u16; 3] = [1, 16, 256];
/// The endpoint that sends.
pub const SENDER: EndpointId = EndpointId(0x1234_5678_9abc_def0);
/// The channel it sends to.
pub const CHANNEL: ChannelId = ChannelId(0x0bad_cafe);

/// The session keys of a handshake with fixed nonces.
pub fn session_keys() -> SessionKeys {
    SessionKeys::derive(b"bench", &[1; 32], &[2; 32], SessionId([3; 16]), &[])
}

/// Append one SEND frame of `messages` bodies, signed as frame `index` of its connection.
pub fn put_frame(out: &mut Vec<u8>, keys: &SessionKeys, index: u64, messages: u16) {
    let mut send = SendBuilder::begin(out, SENDER, CHANNEL, Sequence(index + 1));
    for _ in 0..messages {
        send.message(UnixNanos(1), &[], &[0x5a; BODY_BYTES])
            .expect("the body is within every limit");
    }
    let signer = Signer::Session {
        key: &keys.client,
        frame_index: index,
    };
    send.finish(signer).expect("the frame has messages");
}
