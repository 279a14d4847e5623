//! Keys, address ranges and ids as text: what is taken comes back as it was written.
#![no_main]

use framed::bounded;
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, Ipv4Addr};
use wire::route::AddressRange;
use wire::signature::{SecretKey, verifying_key_from_base64, verifying_key_to_base64};

fuzz_target!(|data: &[u8]| bounded(|| check(data)));

fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(key) = SecretKey::from_base64(text) {
        assert_eq!(key.text(), text);
        assert!(
            !format!("{key:?}").contains(text),
            "a secret is never shown"
        );
    }
    if let Ok(key) = verifying_key_from_base64(text) {
        assert_eq!(verifying_key_to_base64(&key), text);
        assert!(!key.is_weak());
    }
    if let Ok(range) = text.parse::<AddressRange>() {
        assert_eq!(range.to_string().parse(), Ok(range));
        let _ = range.contains(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let network = text.split('/').next().expect("split gives at least one");
        let network: IpAddr = network.parse().expect("the range begins with an address");
        let mapped = network.to_canonical() != network;
        assert!(mapped || range.contains(network), "{range}");
    }
}
