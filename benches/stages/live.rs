//! Publishers as fast as Mosquitto takes them, beside each candidate.

use super::{
    BATCH, Bench, CPU, MESSAGES, PEAK_MEMORY, QUEUES, STORED, TOPIC, cpu_us_per_message, mosquitto,
    publish_all, store_of,
};
use crate::candidates::{ALL, Candidate, Program, Site, in_turn};
use crate::support::flood::ORDINARY;
use crate::support::process_usage;
use crate::support::stored::Store;

pub const ROW: &str = "live, 3 publishers flat out";
const LIVE_MESSAGES: u64 = MESSAGES / 2;

pub fn run(bench: &mut Bench) {
    let store = store_of(&bench.rocketmq, &[TOPIC]);
    for round in 0..bench.options.rounds {
        bench.say_round(ROW, round);
        for candidate in in_turn(ALL, round) {
            one(bench, &store, candidate);
        }
    }
}

fn one(bench: &mut Bench, store: &Store, candidate: Candidate) {
    let mosquitto = mosquitto();
    let site = Site {
        mqtt_port: mosquitto.port(),
        rocketmq: &bench.rocketmq,
        filter: "room/#",
        topic: TOPIC,
        queues: QUEUES,
    };
    let mut program = Program::new(candidate, site);
    let mut running = program.start();
    running.wait_ready();
    let (mark, cpu) = (store.mark(), process_usage::cpu(running.pid()));
    let published = publish_all(mosquitto.port(), "live", ORDINARY, LIVE_MESSAGES);
    store.wait(&mark, LIVE_MESSAGES);
    let cpu = process_usage::cpu(running.pid()).saturating_sub(cpu);
    let peak_rss_mb = process_usage::peak_rss_mb(running.pid());
    let maybe_metrics = running.maybe_metrics();
    let maybe_batch_messages = running.maybe_messages_in_a_batch();
    running.stop();
    let found = store.since(&mark);

    let mut add = |figure, unit, value| bench.comparison.add(ROW, figure, unit, candidate, value);
    add("publishers", "msg/s", published);
    add(STORED, "msg/s", found.stored as f64 / found.seconds);
    add(CPU, "us", cpu_us_per_message(cpu, LIVE_MESSAGES));
    add(PEAK_MEMORY, "MB", peak_rss_mb);
    if let Some(messages) = maybe_batch_messages {
        add(BATCH, "", messages);
    }
    if let Some(metrics) = maybe_metrics {
        add("reconnects", "", metrics.value("roombridge_reconnects_total", &[]));
    }
    bench.add_books(ROW, candidate, LIVE_MESSAGES, &found);
}
