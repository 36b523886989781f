//! The stages of the benchmark, one after the other, and the brokers that they share.

mod drain;
mod live;
mod outage;
mod steady;
mod yardsticks;

use std::time::{Duration, Instant};

use crate::harness::apache::{ApacheOptions, ApacheRocketMq};
use crate::harness::bridge::Bridge;
use crate::harness::mosquitto::{Mosquitto, MosquittoOptions, Persistence};
use crate::support::report::{Aim, Report};
use crate::support::{flood::Flood, process_usage, stored::Store};

const TOPIC: &str = "bench";
const QUEUES: u32 = 8;
const MESSAGES: u64 = 200_000;
const PUBLISHERS: u64 = 3;
const DEADLINE: Duration = Duration::from_secs(120);

const DRAIN_OF_PLAIN_SUBSCRIBER: f64 = 0.9;
const CPU_US_PER_MESSAGE: Aim = Aim::AtMost(8.0);
const RSS_MB: Aim = Aim::AtMost(60.0);
const NONE_AT_ALL: Aim = Aim::AtMost(0.0);

pub fn run(report: &mut Report) {
    say("starting Apache RocketMQ");
    let mut rocketmq = ApacheRocketMq::start_with(ApacheOptions::default());
    rocketmq.create_topic(TOPIC, QUEUES);
    let store = Store::open(&rocketmq.name_server(), TOPIC);
    drain::run(report, &rocketmq, &store);
    live::run(report, &rocketmq, &store);
    steady::run(report, &rocketmq, &store);
    outage::run(report, &mut rocketmq, &store);
}

/// A broker without sessions of earlier stages, as the installation notes ask for it.
fn mosquitto() -> Mosquitto {
    Mosquitto::start(MosquittoOptions { persistence: Persistence::Off, ..MosquittoOptions::default() })
}

fn config(mosquitto: &Mosquitto, rocketmq: &ApacheRocketMq) -> String {
    format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"bridge\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{TOPIC}\"\n",
        mosquitto.url(),
        rocketmq.name_server()
    )
}

/// All messages, by three publishers at once; returns how many left in a second.
fn publish_all(mosquitto: &Mosquitto, stage: &str) -> f64 {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..PUBLISHERS {
            let name = format!("{stage}-{number}");
            scope.spawn(move || {
                let count = MESSAGES / PUBLISHERS + u64::from(number < MESSAGES % PUBLISHERS);
                Flood::connect(mosquitto.port(), &name)
                    .and_then(|mut flood| flood.all_at_once(count))
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            });
        }
    });
    MESSAGES as f64 / started.elapsed().as_secs_f64()
}

/// Looks every so often until the bridge has stored so many messages since its start.
fn wait_until_stored(bridge: &Bridge, count: u64, pause: Duration, mut look: impl FnMut(&Bridge)) {
    let started = Instant::now();
    loop {
        look(bridge);
        // Not asked while the bridge still starts.
        let stored =
            bridge.get("/readyz").map_or(0.0, |_| bridge.metrics().value("roombridge_stored_total", &[]));
        if stored >= count as f64 {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "{stored} of {count} stored after {DEADLINE:?}");
        std::thread::sleep(pause);
    }
}

fn cpu_us_per_message(cpu: Duration, messages: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / messages as f64
}

/// SIGTERM, so that everything stored is acknowledged as well. A bridge that cannot is no reason to stop measuring.
fn stop(bridge: &mut Bridge) {
    bridge.terminate();
    let status = bridge.wait_exit(Duration::from_secs(30));
    if !status.success() {
        say(&format!("the bridge did not drain: {status}"));
    }
}

fn say(what: &str) {
    eprintln!("bench: {what}");
}
