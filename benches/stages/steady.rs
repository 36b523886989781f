//! The load of an ordinary day, for the latency.

use std::time::Duration;

use super::{RSS_MB, config, cpu_us_per_message, mosquitto, process_usage, say, stop, wait_until_stored};
use crate::harness::apache::ApacheRocketMq;
use crate::harness::bridge::Bridge;
use crate::support::flood::Flood;
use crate::support::report::{Aim, Report};
use crate::support::stored::Store;

const STAGE: &str = "steady, 1,000 msg/s";
const PER_SECOND: u32 = 1000;
const TIME: Duration = Duration::from_secs(20);

pub fn run(report: &mut Report, rocketmq: &ApacheRocketMq, store: &Store) {
    say("steady");
    let mosquitto = mosquitto();
    let mut bridge = Bridge::start(&config(&mosquitto, rocketmq));
    let mut flood = Flood::connect(mosquitto.port(), "steady").expect("Mosquitto lets us in");
    // The first second connects clients and warms code up.
    flood.paced(PER_SECOND, Duration::from_secs(1)).expect("Mosquitto acknowledges");
    let before = u64::from(PER_SECOND);
    wait_until_stored(&bridge, before, Duration::from_millis(50), |_| {});
    let (mark, cpu, earlier) = (store.mark(), process_usage::cpu(bridge.pid()), bridge.metrics());
    flood.paced(PER_SECOND, TIME).expect("Mosquitto acknowledges");
    let messages = u64::from(PER_SECOND) * TIME.as_secs();
    wait_until_stored(&bridge, before + messages, Duration::from_millis(50), |_| {});
    let cpu = process_usage::cpu(bridge.pid()).saturating_sub(cpu);
    let rss_mb = process_usage::rss_mb(bridge.pid());
    let later = bridge.metrics();
    stop(&mut bridge);
    let found = store.since(&mark);

    let name = "roombridge_store_seconds_bucket";
    let buckets: Vec<_> = later
        .buckets(name)
        .into_iter()
        .zip(earlier.buckets(name))
        .map(|((bound_s, later), (_, earlier))| (bound_s, later - earlier))
        .collect();
    for (figure, share) in [("arrival to PUBACK, p50", 0.5), ("arrival to PUBACK, p99", 0.99)] {
        report.add(STAGE, figure, quantile_s(&buckets, share) * 1000.0, "ms", Aim::None);
    }
    report.add(STAGE, "processor time for a message", cpu_us_per_message(cpu, messages), "us", Aim::None);
    report.add(STAGE, "resident memory", rss_mb, "MB", RSS_MB);
    report.add(STAGE, "stored once", found.different as f64, "messages", Aim::AtLeast(messages as f64));
}

/// `buckets`: upper bounds, and how many lie below. On a straight line between two bounds.
fn quantile_s(buckets: &[(f64, f64)], share: f64) -> f64 {
    let wanted = buckets.last().map_or(0.0, |(_, all)| all * share);
    let (mut lower_s, mut below) = (0.0, 0.0);
    for (upper_s, count) in buckets {
        if *count >= wanted && *count > below {
            return lower_s + (upper_s - lower_s) * (wanted - below) / (count - below);
        }
        (lower_s, below) = (*upper_s, *count);
    }
    f64::NAN
}
