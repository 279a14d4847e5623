//! DELIVER, FETCH and SETTLE: what is taken is what the encoders make.
#![no_main]

use framed::{bounded, framed, same};
use libfuzzer_sys::fuzz_target;
use wire::delivery::{Deliver, DeliverBuilder, Fetch, Settle};

fuzz_target!(|data: &[u8]| bounded(|| check(data)));

fn check(data: &[u8]) {
    framed(data, |frame| {
        if let Ok(fetch) = Fetch::parse(frame) {
            same(frame, |out, signer| fetch.encode(out, signer));
        }
        if let Ok(settle) = Settle::parse(frame) {
            same(frame, |out, signer| settle.encode(out, signer));
        }
        let Ok(deliver) = Deliver::parse(frame) else {
            return;
        };
        let messages: usize = deliver.groups().map(|group| group.messages().count()).sum();
        assert_eq!(messages, deliver.messages() as usize);
        same(frame, |out, signer| {
            let mut builder = DeliverBuilder::begin(out, deliver.source());
            deliver
                .groups()
                .for_each(|group| assert!(builder.group(&group.header, group.bytes)));
            assert!(builder.finish(signer));
        });
    });
}
