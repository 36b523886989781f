//! A model of the way from MQTT to RocketMQ in simulated time: the real MQTT session, receipt ledger, intake, uplink, rules and tail, over
//! an MQTT broker, a RocketMQ and a disk that are played here. Thousands of runs, each made from a seed: messages, faults,
//! crashes, two bridges. An oracle knows what is true and says what was broken.
//!
//! A seed that fails prints how to play it again, and what happened in it. `ROOMBRIDGE_SEEDS` says how many are played
//! (from `ROOMBRIDGE_FIRST_SEED` on), `ROOMBRIDGE_SEED` plays one and prints its story.
//!
//! What makes a run repeatable: one thread, simulated time, dice that hang on the seed and on what is decided (never on the
//! order in which tasks run), and pauses between attempts whose jitter is seeded.

#![recursion_limit = "512"]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bridge;
mod gate;
mod lies;
mod mqtt;
mod oracle;
mod random;
mod rocketmq;
mod run;
mod scenario;
mod spool;
mod subscriber;
mod teeth;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

const SEEDS: u64 = 300;
const THREADS: usize = 2;
const STANDS_STILL: Duration = Duration::from_secs(300);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn complaint(seed: u64, played: &run::Played) -> String {
    format!(
        "{}\n{}\nplay it again: ROOMBRIDGE_SEED={seed} cargo test --test model\n",
        played.story,
        played.violations.join("\n")
    )
}

/// A run that stands still in real time cannot be judged; it is named and ends the test.
fn watched<T>(seed: u64, play: impl FnOnce() -> T) -> T {
    let (done, waiting) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if waiting.recv_timeout(STANDS_STILL) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!(
                "seed {seed} stands still; watch it: ROOMBRIDGE_SEED={seed} cargo test --test model -- --nocapture"
            );
            std::process::exit(101);
        }
    });
    let played = play();
    drop(done);
    played
}

/// Hazards 1 to 11, 13 to 15 (test c of the hazards): whatever happens, what was PUBACKed is kept, in order, as it was, and
/// once the faults end everything is stored.
#[test]
fn nothing_is_lost_reordered_or_hidden_whatever_happens() {
    if let Some(seed) = number("ROOMBRIDGE_SEED") {
        let played = run::play(seed, None);
        assert!(played.violations.is_empty(), "{}", played.violations.join("\n"));
        return;
    }
    let seeds = number("ROOMBRIDGE_SEEDS").unwrap_or(SEEDS);
    let first = number("ROOMBRIDGE_FIRST_SEED").unwrap_or(0);
    let next = AtomicU64::new(first);
    let failed: Mutex<Vec<(u64, String)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let played = watched(seed, || run::play(seed, None));
                    if !played.violations.is_empty() {
                        eprintln!("seed {seed} fails: {:?}", played.violations.first());
                        failed.lock().unwrap().push((seed, complaint(seed, &played)));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    let numbers: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    let first = failed.first().map_or("", |(_, complaint)| complaint);
    assert!(failed.is_empty(), "{first}\nseeds that fail: {numbers:?} of {seeds}");
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 0..20 {
        let (first, second) = (run::play(seed, None), run::play(seed, None));
        assert_eq!(first.story, second.story, "seed {seed}");
    }
}
