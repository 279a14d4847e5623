//! The power goes at every boundary of a flush, and leaves some subset of what was written since.

use partition::memory::Crash;

use crate::history::{Found, History};
use crate::number;

const TURNS: u64 = 150;

#[test]
fn no_crash_image_loses_what_was_acked_or_brings_back_what_was_settled() {
    let wanted = number("FOREBAY_CRASH_IMAGES", 60);
    let first = number("FOREBAY_CRASH_SEED", 1);
    let (mut images, mut cut, mut delivered) = (0, 0, 0);
    let mut seed = first;
    while images < wanted {
        let mut history = History::new(seed);
        history.world.hold_syncs = true;
        for turn in 0..TURNS {
            history.turn();
            let before = history.world.disk.crash(image(seed, turn * 2));
            check(&history, before, seed, turn, &mut cut, &mut delivered);
            if !(seed + turn).is_multiple_of(3) {
                history.release();
                let after = history.world.disk.crash(image(seed, turn * 2 + 1));
                check(&history, after, seed, turn, &mut cut, &mut delivered);
                images += 1;
            }
            images += 1;
            if images >= wanted {
                break;
            }
        }
        seed += 1;
    }
    eprintln!(
        "{images} crash images, seeds {first} to {}: {delivered} messages read back, {cut} torn tails cut, 0 violations; \
         again with FOREBAY_CRASH_IMAGES={wanted} FOREBAY_CRASH_SEED={first} cargo test -p forebay-shard --test torture \
         crash_image",
        seed - 1
    );
    assert!(cut > 0, "too tame: no torn tail in {images} images");
}

/// Every third image keeps or loses all; the others keep a random subset, with torn sectors.
fn image(seed: u64, boundary: u64) -> Crash {
    match boundary % 6 {
        0 => Crash::Lost,
        1 => Crash::Kept,
        2 => Crash::Sectors(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ boundary << 7),
        _ => Crash::Seeded(seed << 32 | boundary),
    }
}

fn check(
    history: &History,
    disk: partition::memory::Disk,
    seed: u64,
    turn: u64,
    cut: &mut u64,
    delivered: &mut u64,
) {
    let why = format!("seed {seed} turn {turn}");
    let (world, found) = history.check(disk, &why);
    let Found {
        again,
        delivered: read,
    } = found;
    assert_eq!(again, 0, "{why}: settled for good and delivered again");
    *delivered += read;
    let journals = world
        .recovered
        .1
        .iter()
        .filter_map(|group| group.log.as_ref());
    for report in world.recovered.0.iter().chain(journals) {
        assert!(report.damage.is_empty(), "{why}: {:?}", report.damage);
        *cut += u64::from(report.cut_bytes > 0);
    }
}
