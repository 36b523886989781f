//! A backlog that waits in Mosquitto, taken by the bridge and by subscribers that store nothing.

use std::time::Duration;

use super::yardsticks::{Measured, Subscriber, store_rate};
use super::{
    CPU_US_PER_MESSAGE, DRAIN_OF_PLAIN_SUBSCRIBER, MESSAGES, NONE_AT_ALL, RSS_MB, config, cpu_us_per_message,
    mosquitto, process_usage, publish_all, say, stop, wait_until_stored,
};
use crate::harness::apache::ApacheRocketMq;
use crate::harness::bridge::Bridge;
use crate::harness::scratch::Scratch;
use crate::support::median;
use crate::support::report::{Aim, Report};
use crate::support::stored::Store;

const ROUNDS: usize = 3;
const STAGE: &str = "drain of a backlog";
const WARM_UP_MESSAGES: u64 = 600_000;

/// What the bridge did in one round.
struct Drained {
    per_second: f64,
    cpu_us: f64,
    peak_rss_mb: f64,
    batch_messages: f64,
    lost: u64,
    duplicates: u64,
    read_back_per_second: f64,
}

pub fn run(report: &mut Report, rocketmq: &ApacheRocketMq, store: &Store) {
    let mosquitto = mosquitto();
    let scratch = Scratch::new("yardsticks");
    let mut bridge = Bridge::start(&config(&mosquitto, rocketmq));
    std::thread::sleep(Duration::from_secs(2));
    report.add("idle", "resident memory", process_usage::rss_mb(bridge.pid()), "MB", RSS_MB);
    stop(&mut bridge);
    say("warming RocketMQ up");
    let config_file = scratch.write("bench.toml", &config(&mosquitto, rocketmq));
    store_rate(&config_file, 128, WARM_UP_MESSAGES, &scratch);

    for subscriber in Subscriber::ALL {
        subscriber.make_session(mosquitto.port());
    }
    let mut plain: [Vec<Measured>; 3] = Default::default();
    let mut drained = Vec::new();
    for round in 1..=ROUNDS {
        say(&format!("drain, round {round} of {ROUNDS}"));
        let start_cpu = cpu_of_a_start(&mut bridge);
        publish_all(&mosquitto, &format!("drain{round}"));
        for (subscriber, measured) in Subscriber::ALL.into_iter().zip(&mut plain) {
            measured.push(subscriber.drain(mosquitto.port(), &scratch));
        }
        drained.push(drain(&mut bridge, store, start_cpu));
    }
    add_rows(report, &plain, &drained);
    say("RocketMQ alone");
    let batch = middle(&drained, |round| round.batch_messages).round();
    let alone = store_rate(&config_file, batch as u64, 2 * MESSAGES, &scratch);
    let stage = "RocketMQ alone, fed by our producer";
    let figure = format!("batches of {batch}, one in flight on each of 8 queues");
    report.add(stage, figure, alone.per_second, "msg/s", Aim::None);
    let ratio = middle(&drained, |round| round.per_second) / alone.per_second;
    report.add(stage, "drain of roombridge / RocketMQ alone", ratio, "", Aim::None);
}

fn middle(drained: &[Drained], figure: fn(&Drained) -> f64) -> f64 {
    median(drained.iter().map(figure).collect())
}

/// What a start costs without a backlog: most of it is reading back what was stored last.
fn cpu_of_a_start(bridge: &mut Bridge) -> Duration {
    bridge.start_again();
    std::thread::sleep(Duration::from_secs(1));
    let cpu = process_usage::cpu(bridge.pid());
    stop(bridge);
    cpu
}

fn drain(bridge: &mut Bridge, store: &Store, start_cpu: Duration) -> Drained {
    let mark = store.mark();
    bridge.start_again_without_waiting();
    wait_until_stored(bridge, MESSAGES, Duration::from_millis(100), |_| {});
    let cpu = process_usage::cpu(bridge.pid()).saturating_sub(start_cpu);
    let peak_rss_mb = process_usage::peak_rss_mb(bridge.pid());
    let metrics = bridge.metrics();
    let batches = metrics.value("roombridge_batch_messages_count", &[]);
    stop(bridge);
    let found = store.since(&mark);
    Drained {
        per_second: found.stored as f64 / found.seconds,
        cpu_us: cpu_us_per_message(cpu, MESSAGES),
        peak_rss_mb,
        batch_messages: metrics.value("roombridge_batch_messages_sum", &[]) / batches,
        lost: MESSAGES.saturating_sub(found.different),
        duplicates: found.stored - found.different,
        read_back_per_second: found.stored as f64 / found.read_seconds,
    }
}

fn add_rows(report: &mut Report, plain: &[Vec<Measured>; 3], drained: &[Drained]) {
    let of_bridge = |figure| middle(drained, figure);
    let rate = of_bridge(|round| round.per_second);
    report.add(STAGE, "roombridge", rate, "msg/s", Aim::None);
    report.add(
        STAGE,
        "roombridge, processor time for a message",
        of_bridge(|round| round.cpu_us),
        "us",
        CPU_US_PER_MESSAGE,
    );
    let peak = drained.iter().map(|round| round.peak_rss_mb).fold(0.0, f64::max);
    report.add(STAGE, "roombridge, peak resident memory", peak, "MB", RSS_MB);
    report.add(
        STAGE,
        "roombridge, messages in a batch",
        of_bridge(|round| round.batch_messages),
        "",
        Aim::None,
    );
    let sum = |figure: fn(&Drained) -> u64| drained.iter().map(figure).sum::<u64>() as f64;
    report.add(STAGE, "roombridge, lost", sum(|round| round.lost), "messages", NONE_AT_ALL);
    report.add(STAGE, "roombridge, duplicates", sum(|round| round.duplicates), "messages", NONE_AT_ALL);
    for (subscriber, rounds) in Subscriber::ALL.into_iter().zip(plain) {
        let name = subscriber.name();
        report.add(
            STAGE,
            name,
            median(rounds.iter().map(|round| round.per_second).collect()),
            "msg/s",
            Aim::None,
        );
        report.add(
            STAGE,
            format!("{name}, processor time for a message"),
            median(rounds.iter().map(|round| round.cpu_us).collect()),
            "us",
            Aim::None,
        );
        // Within each round, because the machine may be faster in one than in another.
        let ratios = drained.iter().zip(rounds).map(|(ours, theirs)| ours.per_second / theirs.per_second);
        let aim = if subscriber == Subscriber::ByHand {
            Aim::AtLeast(DRAIN_OF_PLAIN_SUBSCRIBER)
        } else {
            Aim::None
        };
        report.add(STAGE, format!("roombridge / {name}"), median(ratios.collect()), "", aim);
    }
    report.add(
        "read back",
        "one reader, one pull at a time",
        of_bridge(|round| round.read_back_per_second),
        "msg/s",
        Aim::None,
    );
}
