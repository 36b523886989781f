//! Publishers as fast as Mosquitto takes them, beside the bridge.

use std::time::Duration;

use super::{
    MESSAGES, NONE_AT_ALL, RSS_MB, config, cpu_us_per_message, mosquitto, process_usage, publish_all, say,
    stop, wait_until_stored,
};
use crate::harness::apache::ApacheRocketMq;
use crate::harness::bridge::Bridge;
use crate::support::report::{Aim, Report};
use crate::support::stored::Store;

const STAGE: &str = "live, 3 publishers flat out";

pub fn run(report: &mut Report, rocketmq: &ApacheRocketMq, store: &Store) {
    say("live");
    let mosquitto = mosquitto();
    let mut bridge = Bridge::start(&config(&mosquitto, rocketmq));
    let (mark, cpu) = (store.mark(), process_usage::cpu(bridge.pid()));
    let mut peak_in_flight: f64 = 0.0;
    let published = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| publish_all(&mosquitto, "live"));
        wait_until_stored(&bridge, MESSAGES, Duration::from_millis(50), |bridge| {
            peak_in_flight = peak_in_flight.max(bridge.metrics().value("roombridge_in_flight", &[]));
        });
        publishing.join().expect("the publishers end well")
    });
    let cpu = process_usage::cpu(bridge.pid()).saturating_sub(cpu);
    let peak_rss_mb = process_usage::peak_rss_mb(bridge.pid());
    let metrics = bridge.metrics();
    bridge.assert_books_balanced();
    stop(&mut bridge);
    let found = store.since(&mark);

    report.add(STAGE, "roombridge", found.stored as f64 / found.seconds, "msg/s", Aim::None);
    report.add(STAGE, "publishers", published, "msg/s", Aim::None);
    let cpu_us = cpu_us_per_message(cpu, MESSAGES);
    report.add(STAGE, "roombridge, processor time for a message", cpu_us, "us", Aim::None);
    let batch = metrics.value("roombridge_batch_messages_sum", &[])
        / metrics.value("roombridge_batch_messages_count", &[]);
    report.add(STAGE, "messages in a batch", batch, "", Aim::None);
    report.add(STAGE, "not yet settled, peak (looked at every 50 ms)", peak_in_flight, "messages", Aim::None);
    report.add(STAGE, "peak resident memory", peak_rss_mb, "MB", RSS_MB);
    report.add(STAGE, "reconnects", metrics.value("roombridge_reconnects_total", &[]), "", NONE_AT_ALL);
    let lost = MESSAGES.saturating_sub(found.different);
    report.add(STAGE, "lost", lost as f64, "messages", NONE_AT_ALL);
    report.add(STAGE, "duplicates", (found.stored - found.different) as f64, "messages", NONE_AT_ALL);
}
