//! SEND and RELAY: every message that is taken can be read, and a frame sent again keeps its messages.
#![no_main]

use framed::{bounded, framed};
use libfuzzer_sys::fuzz_target;
use wire::send::{Relay, Send, addressed, resign};
use wire::signature::{MacKey, Signer};
use wire::{Frame, Sequence, split};

fn read(send: &Send<'_>) {
    assert_eq!(send.messages().count(), usize::from(send.count()));
    let read: usize = send.messages().map(|message| message.encoded_bytes()).sum();
    assert_eq!(read, send.messages_bytes().len());
    assert_eq!(
        addressed(&send.frame()),
        Some((send.endpoint(), send.channel()))
    );
}

fn check(frame: Frame<'_>) {
    if let Ok(relay) = Relay::parse(frame) {
        read(&relay.inner());
    }
    let Ok(send) = Send::parse(frame) else { return };
    read(&send);
    let key = MacKey::new(b"fuzz");
    let mut again = frame.bytes().to_vec();
    let signer = Signer::Session {
        key: &key,
        frame_index: 1,
    };
    resign(&mut again, 0, Sequence(9), signer).expect("a good frame can be sent again");
    let (frame, _) = split(&again)
        .expect("a good header")
        .expect("a whole frame");
    let other = Send::parse(frame).expect("a good body");
    assert_eq!(
        (other.sequence(), other.messages_bytes()),
        (Sequence(9), send.messages_bytes())
    );
}

fuzz_target!(|data: &[u8]| bounded(|| framed(data, check)));
