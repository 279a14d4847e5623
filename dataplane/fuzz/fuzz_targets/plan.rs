//! Plans, as the operator writes them: any text is compiled or refused with faults that have words.
#![no_main]

use framed::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| bounded(|| check(data)));

fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match control::compile_epoch(text, "plan.toml", 3) {
        Ok(table) => {
            assert_eq!(table.epoch(), 3);
            assert!(table.queue_groups() > 0);
            for endpoint in table.endpoints() {
                let found = table.endpoint_by_name(endpoint.name());
                assert_eq!(found, Some(endpoint));
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            assert!(faults.iter().all(|fault| !fault.to_string().is_empty()));
        }
    }
}
