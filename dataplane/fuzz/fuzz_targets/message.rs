//! Messages: what is valid is read whole, what is not ends the reading; nothing is read outside.
#![no_main]

use framed::bounded;
use libfuzzer_sys::fuzz_target;
use wire::message::{Messages, message_bytes, put_message, validate};

fuzz_target!(|data: &[u8]| bounded(|| check(data)));

fn check(data: &[u8]) {
    let Some((count, bytes)) = data.split_first_chunk::<2>() else {
        return;
    };
    let count = u16::from_le_bytes(*count);
    let read: usize = Messages::trusted(bytes)
        .map(|message| message.encoded_bytes())
        .sum();
    assert!(read <= bytes.len());
    if validate(bytes, count).is_err() {
        return;
    }
    assert_eq!(read, bytes.len());
    let (mut again, mut at, mut seen) = (Vec::new(), 0, 0);
    for message in Messages::trusted(bytes) {
        assert_eq!(message_bytes(&bytes[at..]), Some(message.encoded_bytes()));
        at += message.encoded_bytes();
        seen += 1;
        let headers: Vec<_> = message.headers.collect();
        put_message(&mut again, message.timestamp, &headers, message.body)
            .expect("valid messages can be encoded");
    }
    assert_eq!((again.as_slice(), seen), (bytes, count));
}
