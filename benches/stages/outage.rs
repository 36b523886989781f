//! RocketMQ away: what the spool takes, what it costs, how fast a start with a full one is, and how fast it drains.

use std::io::Write;
use std::time::{Duration, Instant};

use super::{Bench, DEADLINE as STOP, MESSAGES, NONE_AT_ALL, TOPIC, mosquitto, publish_all, say, store_of};
use crate::harness::apache::ApacheRocketMq;
use crate::harness::bridge::Bridge;
use crate::harness::metrics::Metrics;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::scratch::Scratch;
use crate::support::flood::{Flood, ORDINARY};
use crate::support::process_usage;
use crate::support::report::{Aim, Report};
use crate::support::stored::Store;

const STAGE: &str = "spool, RocketMQ away";
const OUTAGE: &str = "18 s outage at 5,000 msg/s";
const ROUNDS: u64 = 5;
const PER_SECOND: u32 = 5000;
const OUTAGE_TIME: Duration = Duration::from_secs(18);
const DEADLINE: Duration = Duration::from_secs(300);

const SPOOL_PER_SECOND: Aim = Aim::AtLeast(20_000.0);
const DRAIN_PER_SECOND: Aim = Aim::AtLeast(20_000.0);
const SPOOL_RSS_MB: Aim = Aim::AtMost(60.0);
const START_S: Aim = Aim::AtMost(3.0);

pub const ROW: &str = "a million spooled";

pub fn run(bench: &mut Bench) {
    let store = &store_of(&bench.rocketmq, &[TOPIC]);
    let (report, rocketmq) = (&mut bench.report, &mut bench.rocketmq);
    fsyncs(report);
    let mosquitto = mosquitto();
    let mut bridge = Bridge::start(&config(&mosquitto, rocketmq));
    outage(report, rocketmq, store, &mut bridge, mosquitto.port());

    say("a million messages into the spool");
    let mark = store.mark();
    rocketmq.kill_broker();
    let all = (ROUNDS * MESSAGES) as f64;
    let before = value(&bridge, "roombridge_spooled_total");
    let started = Instant::now();
    for round in 1..=ROUNDS {
        publish_all(mosquitto.port(), &format!("spool{round}"), ORDINARY, MESSAGES);
    }
    wait(&bridge, "spooled", |bridge| value(bridge, "roombridge_spooled_total") - before >= all);
    let per_second = all / started.elapsed().as_secs_f64();
    report.add(STAGE, "spooled, 3 publishers flat out", per_second, "msg/s", SPOOL_PER_SECOND);
    let peak = process_usage::peak_rss_mb(bridge.pid());
    report.add(STAGE, "peak resident memory, 1,000,000 spooled", peak, "MB", SPOOL_RSS_MB);

    say("a start with a million spooled messages");
    bridge.kill();
    let started = Instant::now();
    bridge.start_again();
    report.add(
        STAGE,
        "start with 1,000,000 spooled, to ready",
        started.elapsed().as_secs_f64(),
        "s",
        START_S,
    );
    assert!(value(&bridge, "roombridge_spool_depth_at_start") >= all, "all are there");

    say("the spool drains");
    rocketmq.start_broker();
    wait(&bridge, "the first is stored", |bridge| value(bridge, "roombridge_stored_total") > 0.0);
    let (started, already) = (Instant::now(), value(&bridge, "roombridge_stored_total"));
    wait(&bridge, "empty", |bridge| value(bridge, "roombridge_spool_depth") == 0.0);
    let per_second = (all - already) / started.elapsed().as_secs_f64();
    report.add(STAGE, "drained into RocketMQ", per_second, "msg/s", DRAIN_PER_SECOND);
    let peak = process_usage::peak_rss_mb(bridge.pid());
    report.add(STAGE, "peak resident memory in the drain", peak, "MB", SPOOL_RSS_MB);
    bridge.assert_books_balanced();
    stop(&mut bridge);
    add_found(report, STAGE, store, &mark, ROUNDS * MESSAGES);
}

fn outage(
    report: &mut Report,
    rocketmq: &mut ApacheRocketMq,
    store: &Store,
    bridge: &mut Bridge,
    mqtt_port: u16,
) {
    say("an outage of 18 s");
    let mark = store.mark();
    rocketmq.kill_broker();
    let mut flood = Flood::connect(mqtt_port, "outage", ORDINARY).expect("Mosquitto lets us in");
    flood.paced(PER_SECOND, OUTAGE_TIME).expect("Mosquitto acknowledges");
    let messages = u64::from(PER_SECOND) * OUTAGE_TIME.as_secs();
    wait(bridge, "spooled", |bridge| value(bridge, "roombridge_spool_depth") >= messages as f64);
    rocketmq.start_broker();
    let before = value(bridge, "roombridge_stored_total");
    wait(bridge, "the first is stored", |bridge| value(bridge, "roombridge_stored_total") > before);
    let (started, left) = (Instant::now(), value(bridge, "roombridge_spool_depth"));
    wait(bridge, "empty", |bridge| value(bridge, "roombridge_spool_depth") == 0.0);
    let per_second = left / started.elapsed().as_secs_f64();
    report.add(OUTAGE, "backlog drained", per_second, "msg/s", DRAIN_PER_SECOND);
    bridge.assert_books_balanced();
    add_found(report, OUTAGE, store, &mark, messages);
}

fn add_found(
    report: &mut Report,
    stage: &'static str,
    store: &Store,
    mark: &crate::support::stored::Mark,
    messages: u64,
) {
    store.wait(mark, messages);
    let found = store.since(mark);
    let lost = messages.saturating_sub(found.different) as f64;
    report.add(stage, "lost", lost, "messages", NONE_AT_ALL);
    let copies = (found.stored - found.different) as f64;
    report.add(stage, "copies, folded by their id", copies, "messages", Aim::None);
}

fn config(mosquitto: &Mosquitto, rocketmq: &ApacheRocketMq) -> String {
    format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"bridge\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{TOPIC}\"\n",
        mosquitto.url(),
        rocketmq.name_server()
    )
}

/// SIGTERM, so that everything stored is acknowledged as well. A bridge that cannot is no reason to stop measuring.
fn stop(bridge: &mut Bridge) {
    bridge.terminate();
    let status = bridge.wait_exit(STOP);
    if !status.success() {
        say(&format!("the bridge did not drain: {status}"));
    }
}

/// What the disk gives: appends of 4 KiB, each with fdatasync. A group commit pays for one of them, or a few.
fn fsyncs(report: &mut Report) {
    let scratch = Scratch::new("fsync");
    let mut file = std::fs::File::create(scratch.path().join("fsync")).expect("a file can be made");
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < Duration::from_secs(1) {
        file.write_all(&[1; 4096]).expect("there is room");
        file.sync_data().expect("the disk answers");
        count += 1;
    }
    let per_second = f64::from(count) / started.elapsed().as_secs_f64();
    report.add(STAGE, "the disk alone, 4 KiB and fdatasync", per_second, "/s", Aim::None);
}

/// Asks again where a busy machine lets the answer come too late.
fn value(bridge: &Bridge, name: &str) -> f64 {
    let started = Instant::now();
    loop {
        if let Some((200, text)) = bridge.get("/metrics") {
            return Metrics::parse(&text).value(name, &[]);
        }
        assert!(started.elapsed() < STOP, "the bridge does not answer /metrics");
    }
}

fn wait(bridge: &Bridge, what: &str, done: impl Fn(&Bridge) -> bool) {
    let started = Instant::now();
    while !done(bridge) {
        assert!(started.elapsed() < DEADLINE, "not {what} after {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
