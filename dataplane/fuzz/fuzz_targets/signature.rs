//! Signatures of many frames at once: each is decided as it would be alone, by other code.
#![no_main]

use framed::bounded;
use libfuzzer_sys::fuzz_target;
use wire::signature::{MacKey, SignJob, TAG_BYTES, VerifyJob, sign_many, verify_many};

/// Jobs of one input at most.
const JOBS_MAX: usize = 64;

fuzz_target!(|data: &[u8]| bounded(|| check(data)));

/// Per job: a byte for the key, one that says whether its tag is spoilt, two for the length, the signed bytes.
fn check(mut data: &[u8]) {
    let keys: [MacKey; 4] = std::array::from_fn(|number| MacKey::new(&[number as u8]));
    let (mut signs, mut wants, mut goods) = (Vec::new(), Vec::new(), Vec::new());
    while let Some((head, rest)) = data.split_first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([head[2], head[3]])).min(rest.len());
        let (signed, rest) = rest.split_at(length);
        let (key, index) = (&keys[usize::from(head[0] % 4)], u64::from(head[0]));
        wants.push(key.sign(&[&index.to_le_bytes(), signed]));
        signs.push(SignJob::session(key, index, signed));
        goods.push(head[1] % 2 == 0);
        data = rest;
        if signs.len() == JOBS_MAX {
            break;
        }
    }
    let mut tags = vec![[0; TAG_BYTES]; signs.len()];
    sign_many(&signs, &mut tags);
    assert_eq!(tags, wants);
    for (tag, good) in tags.iter_mut().zip(&goods) {
        tag[usize::from(tag[0]) % TAG_BYTES] ^= u8::from(!good) << (tag[1] % 8);
    }
    let jobs: Vec<VerifyJob<'_>> = signs
        .iter()
        .zip(&tags)
        .map(|(sign, tag)| VerifyJob::new(*sign, tag))
        .collect();
    let mut found = vec![false; jobs.len()];
    verify_many(&jobs, &mut found);
    assert_eq!(found, goods);
}
