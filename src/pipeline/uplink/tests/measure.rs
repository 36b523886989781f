//! What a wake of the uplink costs. Run it with `cargo test --release --lib pipeline -- --ignored --nocapture`.

use super::world::{Process, Store};
use super::*;
use crate::spool::memory::MemorySpool;

/// With many topics, each of which gets a message now and then, a message costs what it costs with one topic.
#[tokio::test(start_paused = true)]
#[ignore = "measures"]
async fn a_message_costs_the_same_with_many_topics() {
    const MESSAGES: usize = 8000;
    for topics in [1, 100, 2000] {
        let mut bridge = Process::start(&Arc::new(Store::default()), MemorySpool::default());
        for topic in 0..topics {
            bridge.publish_to(format!("many/{topic}/x"), "first");
        }
        bridge.pass(Duration::from_secs(1)).await;
        let started = std::time::Instant::now();
        for message in 0..MESSAGES {
            bridge.publish_to(format!("many/{}/x", message % topics), "next");
            bridge.pass(Duration::from_millis(1)).await;
        }
        let each = started.elapsed() / MESSAGES as u32;
        println!("{topics} topics: {each:?} for each message");
        assert_eq!(bridge.ended, topics + MESSAGES);
    }
}
