//! RocketMQ away and back: how fast the spool takes messages, fsynced before each PUBACK, and how fast it drains.

use std::time::{Duration, Instant};

use super::{
    Bench, CPU, MESSAGES, PEAK_MEMORY, QUEUES, TOPIC, cpu_us_per_message, mosquitto, publish_all, store_of,
};
use crate::candidates::{BRIDGES, Candidate, Program, Running, Site, in_turn};
use crate::harness::ports::wait_until;
use crate::support::flood::ORDINARY;
use crate::support::process_usage;

pub const ROW: &str = "spool, RocketMQ away";
/// They are in the spool before the clock starts: until then the bridge waits for RocketMQ, not for its disk.
const FIRST_MESSAGES: u64 = 2_000;
const DEADLINE: Duration = Duration::from_secs(120);

pub fn run(bench: &mut Bench) {
    for round in 0..bench.options.rounds {
        bench.say_round(ROW, round);
        for candidate in in_turn(BRIDGES, round) {
            one(bench, candidate);
        }
    }
}

fn one(bench: &mut Bench, candidate: Candidate) {
    let store = store_of(&bench.rocketmq, &[TOPIC]);
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
    let mark = store.mark();
    bench.rocketmq.kill_broker();
    publish_all(mosquitto.port(), "first", ORDINARY, FIRST_MESSAGES);
    wait_until_spooled(&running, FIRST_MESSAGES);
    let (started, cpu) = (Instant::now(), process_usage::cpu(running.pid()));
    publish_all(mosquitto.port(), "spool", ORDINARY, MESSAGES);
    wait_until_spooled(&running, FIRST_MESSAGES + MESSAGES);
    let spooled_per_second = MESSAGES as f64 / started.elapsed().as_secs_f64();
    let cpu = process_usage::cpu(running.pid()).saturating_sub(cpu);
    bench.rocketmq.start_broker();
    wait_until("the spool is empty", DEADLINE, || running.value("roombridge_spool_depth") == 0.0);
    let peak_rss_mb = process_usage::peak_rss_mb(running.pid());
    running.stop();
    // RocketMQ confirms messages before readers find them, and this one has just started.
    store.wait(&mark, FIRST_MESSAGES + MESSAGES);
    let found = store.since(&mark);

    let mut add = |figure, unit, value| bench.comparison.add(ROW, figure, unit, candidate, value);
    add("spooled", "msg/s", spooled_per_second);
    add(CPU, "us", cpu_us_per_message(cpu, MESSAGES));
    add("drained into RocketMQ", "msg/s", found.stored as f64 / found.seconds);
    add(PEAK_MEMORY, "MB", peak_rss_mb);
    bench.add_books(ROW, candidate, FIRST_MESSAGES + MESSAGES, &found);
}

fn wait_until_spooled(running: &Running, messages: u64) {
    wait_until("all is spooled", DEADLINE, || running.value("roombridge_spooled_total") >= messages as f64);
}
