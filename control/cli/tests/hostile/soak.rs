//! Steady load for a long time, with peers that come, misbehave and go: memory must not grow, descriptors must stay flat.
//!
//! `FOREBAY_SOAK_SECONDS` says how long, `FOREBAY_SOAK_RATE` how many messages a second; 0 is half of what a short burst
//! reaches, which on a fast machine is more than the one receiver reads before the small retention passes it by. The slope is judged when there are ten minutes of samples; the first third of a run is warm-up.

use crate::attack::{attack, bait};
use crate::attacker::Target;
use crate::attacks::{Limit, TABLE, hears_bait};
use crate::good::Good;
use crate::node::Node;
use crate::setting;
use crate::world::{GOOD, world};
use client::{Credentials, FetchOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const SENDERS: usize = 64;
/// Between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// The least time of samples from which a slope an hour is told.
const JUDGED_FROM: Duration = Duration::from_secs(600);
/// How much memory may grow in an hour, in percent of what it was.
const SLOPE_MAX: f64 = 1.0;

/// What the process had at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    hours: f64,
    anonymous_kib: f64,
    resident_kib: f64,
    sockets: f64,
    descriptors: f64,
    threads: f64,
}

/// A line through points: slope, its standard error, and the mean of what it runs through.
fn fit(points: &[(f64, f64)]) -> (f64, f64, f64) {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
    let spread: f64 = points.iter().map(|point| (point.0 - mean_x).powi(2)).sum();
    let joint = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y));
    let slope = joint.sum::<f64>() / spread;
    let rest = points
        .iter()
        .map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2));
    let error = (rest.sum::<f64>() / (count - 2.0).max(1.0) / spread).sqrt();
    (slope, error, mean_y)
}

/// Slope and error in percent of the mean an hour.
fn drift(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> (f64, f64) {
    let points: Vec<(f64, f64)> = samples
        .iter()
        .map(|sample| (sample.hours, of(sample)))
        .collect();
    let (slope, error, mean) = fit(&points);
    (100.0 * slope / mean, 100.0 * error / mean)
}

/// A receiver that comes, reads a while, and goes, by turns with a farewell and without.
async fn visits(address: String, credentials: Credentials, stop: Arc<AtomicBool>) -> u64 {
    let mut visits = 0;
    while !stop.load(Ordering::Relaxed) {
        let connection = client::connect(&address, credentials.clone()).await;
        let mut receiver = connection
            .expect("the node is ready")
            .receiver(FetchOptions::default())
            .expect("an egress key opens the queue");
        let until = Instant::now() + Duration::from_secs(2);
        while let Ok(Some(delivery)) = tokio::time::timeout_at(until, receiver.next()).await {
            let delivery = delivery.expect("the session lives");
            let settled = receiver.accept_through(&delivery).await;
            settled.expect("the session lives");
        }
        visits += 1;
        if visits % 2 == 0 {
            receiver.close().await.expect("the session lives");
        }
        sleep(Duration::from_secs(1)).await;
    }
    visits
}

fn sample(node: &Node, began: Instant) -> Sample {
    Sample {
        hours: began.elapsed().as_secs_f64() / 3600.0,
        anonymous_kib: node.status("RssAnon") as f64,
        resident_kib: node.status("VmRSS") as f64,
        sockets: node.sockets() as f64,
        descriptors: node.descriptors() as f64,
        threads: node.status("Threads") as f64,
    }
}

fn judge(samples: &[Sample], sockets: f64) {
    let steady = &samples[samples.len() / 3..];
    let (first, last) = (steady[0], steady[steady.len() - 1]);
    let (anonymous, error) = drift(steady, |sample| sample.anonymous_kib);
    let (resident, resident_error) = drift(steady, |sample| sample.resident_kib);
    let least = |of: fn(&Sample) -> f64| steady.iter().map(of).fold(f64::INFINITY, f64::min);
    println!(
        "soak: RssAnon {:.1} to {:.1} MiB, slope {anonymous:+.2} %/h (standard error {error:.2}); VmRSS, mapped logs included, \
         {:.1} to {:.1} MiB, slope {resident:+.2} %/h ({resident_error:.2})",
        first.anonymous_kib / 1024.0,
        last.anonymous_kib / 1024.0,
        first.resident_kib / 1024.0,
        last.resident_kib / 1024.0,
    );
    println!(
        "soak: descriptors {} to {}, at least {}; sockets {} to {}, {sockets} when all is quiet; threads {} to {}",
        first.descriptors,
        last.descriptors,
        least(|sample| sample.descriptors),
        first.sockets,
        last.sockets,
        first.threads,
        last.threads,
    );
    let time = Duration::from_secs_f64((last.hours - first.hours) * 3600.0);
    if time < JUDGED_FROM {
        println!("soak: {time:.0?} of samples are too few for a slope an hour");
        return;
    }
    let grows = anonymous - 2.0 * error;
    assert!(grows <= SLOPE_MAX, "RssAnon grows by {anonymous:.2} %/h");
    let (descriptors, error) = drift(steady, |sample| sample.descriptors);
    println!("soak: descriptors drift {descriptors:+.2} %/h ({error:.2})");
    assert!(descriptors - 2.0 * error <= SLOPE_MAX, "descriptors grow");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_neither_memory_nor_descriptors_grow_under_steady_load() {
    let time = Duration::from_secs(setting("FOREBAY_SOAK_SECONDS", 6));
    let seed = setting("FOREBAY_HOSTILE_SEED", fastrand::u64(..));
    println!("FOREBAY_HOSTILE_SEED={seed}");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let world = world(SENDERS, TABLE.len(), hears_bait);
    let node = Node::start(folder.path(), &world.plan);
    let address = node.address.parse().expect("an address");
    bait(&node.address, &world).await;
    let mut good = Good::open(&node.address, GOOD, &world.senders, &world.receiver).await;
    let quiet = node.sockets();
    let rate = match setting("FOREBAY_SOAK_RATE", 4_000) {
        0 => good.peak(Duration::from_secs(2)).await / 2.0,
        rate => rate as f64,
    };
    let due_every = Duration::from_secs_f64(SENDERS as f64 / rate);
    let stop = Arc::new(AtomicBool::new(false));
    // Those who make the node hold megabytes for them come and go with memory of their own: noise, no drift.
    let light = |(slot, _): &(usize, _)| TABLE[*slot].limit != Limit::SlowReceiver;
    let peers: Vec<_> = (world.hostile.iter().enumerate().filter(light))
        .map(|(slot, keys)| {
            let target = Target {
                address,
                keys: keys.clone(),
            };
            tokio::spawn(attack(slot, target, seed, Arc::clone(&stop)))
        })
        .collect();
    let visits = visits(
        node.address.clone(),
        world.visitor.clone(),
        Arc::clone(&stop),
    );
    let visits = tokio::spawn(visits);

    let (began, mut samples) = (Instant::now(), Vec::new());
    println!("soak: {rate:.0} messages/s asked, {} s", time.as_secs());
    while began.elapsed() < time {
        let before = node.cpu_ticks();
        let round = good.round(SAMPLE_EVERY.min(time), due_every).await;
        let one = sample(&node, began);
        samples.push(one);
        // A tick of /proc is 10 ms.
        let micros = (node.cpu_ticks() - before) as f64 * 1e4 / round.acked as f64;
        println!(
            "{:>5} s  RssAnon {:>7} KiB  VmRSS {:>8} KiB  descriptors {:>4}  threads {:>3}  {:>6.0}/s  p99 {:>7.2} ms  \
             server CPU {micros:>5.1} us/message",
            began.elapsed().as_secs(),
            one.anonymous_kib,
            one.resident_kib,
            one.descriptors,
            one.threads,
            round.rate(),
            round.p99.as_secs_f64() * 1e3,
        );
    }
    stop.store(true, Ordering::Relaxed);
    let mut closed = 0;
    for peer in peers {
        closed += peer.await.expect("an attacker does not panic").closed;
    }
    let visits = timeout(Duration::from_secs(60), visits).await;
    let visits = visits.expect("it goes").expect("it does not panic");
    let all = good.read_back().await;
    println!(
        "soak: {all} messages read back, {closed} hostile connections, {visits} visits of a receiver"
    );
    judge(&samples, quiet as f64);
}

#[test]
fn a_slope_is_found_in_noise_and_not_without_one() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut line = |grows: f64| {
        let sample = |at: i32| {
            let hours = f64::from(at) / 720.0;
            (hours, 1000.0 + grows * hours + random.f64() * 10.0)
        };
        fit(&(0..240).map(sample).collect::<Vec<_>>())
    };
    let (slope, error, mean) = line(100.0);
    assert!((slope - 100.0).abs() < 4.0 * error, "{slope} +- {error}");
    assert!(slope - 2.0 * error > 0.01 * mean, "it is beyond the bound");
    let (slope, error, mean) = line(0.0);
    assert!(slope - 2.0 * error < 0.01 * mean, "{slope} +- {error}");
}
