//! RocketMQ alone, fed by the bridge's producer: what the RocketMQ side alone allows.

use super::plain::{child, run_child};
use super::{BATCH, Bench, MESSAGES, TOPIC, scratch};
use crate::candidates::Candidate;
use crate::harness::apache::ApacheRocketMq;
use crate::support::report::Aim;

pub const ROW: &str = "RocketMQ alone";

/// Of a run that has not measured the drain.
const COMMON_BATCH: f64 = 128.0;

pub fn run(bench: &mut Bench) {
    super::say(ROW);
    let drained = bench.comparison.maybe_middle(super::drain::MAIN, BATCH, Candidate::Today);
    let batch = drained.unwrap_or(COMMON_BATCH).round();
    let alone = store_rate(&bench.rocketmq, batch as u64, 2 * MESSAGES);
    let figure = format!("fed by our producer, batches of {batch}, one in flight on each of 8 queues");
    bench.report.add(ROW, figure, alone, "msg/s", Aim::None);
}

/// How many messages it takes in a second.
pub fn store_rate(rocketmq: &ApacheRocketMq, batch_messages: u64, messages: u64) -> f64 {
    let scratch = scratch();
    let config = format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{TOPIC}\"\n",
        rocketmq.name_server()
    );
    let config_file = scratch.write("bench.toml", &config).display().to_string();
    let (batch, count) = (batch_messages.to_string(), messages.to_string());
    let ran = run_child("the producer alone", child(["store", &config_file, &batch, &count]), &scratch);
    let seconds: f64 = ran.printed.trim().parse().expect("the child prints its seconds");
    messages as f64 / seconds
}
