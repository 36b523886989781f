//! Messages at an even pace from a broker that takes times: what a message costs that comes alone, and how soon it is
//! acknowledged.

use std::time::Duration;

use super::{BATCH, Bench, CPU, PEAK_MEMORY, QUEUES, SWITCHES, TOPIC, cpu_us_per_message, store_of};
use crate::candidates::{ALL, Candidate, NATIVE, Program, Running, Site, in_turn};
use crate::support::clocked_broker::{Client, ClockedBroker};
use crate::support::flood::{ORDINARY, Shape};
use crate::support::process_usage;
use crate::support::stored::{Found, Store};

/// The first seconds connect clients and warm code up.
const WARM_UP: Duration = Duration::from_secs(3);
const TIME: Duration = Duration::from_secs(8);
const QUICK_TIME: Duration = Duration::from_secs(5);

pub struct Pace {
    pub row: &'static str,
    pub is_watched: bool,
    shape: Shape,
    per_second: u32,
    at_once: u32,
    candidates: &'static [Candidate],
}

pub const PACES: &[Pace] = &[
    Pace {
        row: "steady, 1,000 msg/s",
        is_watched: true,
        shape: ORDINARY,
        per_second: 1000,
        at_once: 1,
        candidates: ALL,
    },
    Pace {
        row: "QoS 0, 20,000 msg/s",
        is_watched: false,
        shape: Shape { qos: 0, ..ORDINARY },
        per_second: 20_000,
        at_once: 20,
        candidates: NATIVE,
    },
];

/// What one did in one round.
struct Measured {
    messages: u64,
    cpu: Duration,
    switches: u64,
    peak_rss_mb: f64,
    maybe_batch_messages: Option<f64>,
    /// From PUBLISH to PUBACK, the shortest first.
    times: Vec<Duration>,
    found: Found,
}

pub fn run(bench: &mut Bench, pace: &Pace) {
    let store = store_of(&bench.rocketmq, &[TOPIC]);
    let time = if bench.options.quick { QUICK_TIME } else { TIME };
    for round in 0..bench.options.rounds {
        bench.say_round(pace.row, round);
        for candidate in in_turn(pace.candidates, round) {
            let measured = one(bench, &store, candidate, pace, time);
            add(bench, pace.row, candidate, &measured);
        }
    }
}

fn one(bench: &Bench, store: &Store, candidate: Candidate, pace: &Pace, time: Duration) -> Measured {
    let broker = ClockedBroker::start();
    let site = Site {
        mqtt_port: broker.port(),
        rocketmq: &bench.rocketmq,
        filter: "room/#",
        topic: TOPIC,
        queues: QUEUES,
    };
    let mut program = Program::new(candidate, site);
    let mut running = program.start();
    let mut client =
        broker.client().unwrap_or_else(|error| panic!("{} does not subscribe: {error}", candidate.name()));
    running.wait_ready();
    carry(store, &mut running, &mut client, pace, WARM_UP);
    let measured = carry(store, &mut running, &mut client, pace, time);
    running.stop();
    measured
}

fn carry(store: &Store, running: &mut Running, client: &mut Client, pace: &Pace, time: Duration) -> Measured {
    let pid = running.pid();
    let (mark, cpu) = (store.mark(), process_usage::cpu(pid));
    let switches = process_usage::context_switches(pid);
    let published = client.publish(pace.shape, pace.per_second, pace.at_once, time);
    let messages = published.expect("the candidate reads");
    let mut times = client.times().expect("the candidate acknowledges");
    times.sort_unstable();
    store.wait(&mark, messages);
    Measured {
        messages,
        cpu: process_usage::cpu(pid).saturating_sub(cpu),
        switches: process_usage::context_switches(pid).saturating_sub(switches),
        peak_rss_mb: process_usage::peak_rss_mb(pid),
        maybe_batch_messages: running.maybe_messages_in_a_batch(),
        times,
        found: store.since(&mark),
    }
}

fn add(bench: &mut Bench, row: &str, candidate: Candidate, measured: &Measured) {
    let Measured { messages, times, .. } = measured;
    let mut add = |figure, unit, value| bench.comparison.add(row, figure, unit, candidate, value);
    add(CPU, "us", cpu_us_per_message(measured.cpu, *messages));
    add(SWITCHES, "", measured.switches as f64 / *messages as f64);
    for (figure, share) in [("arrival to PUBACK, p50", 0.5), ("arrival to PUBACK, p99", 0.99)] {
        if let Some(time) = times.get((times.len() as f64 * share) as usize) {
            add(figure, "ms", time.as_secs_f64() * 1000.0);
        }
    }
    add(PEAK_MEMORY, "MB", measured.peak_rss_mb);
    if let Some(messages) = measured.maybe_batch_messages {
        add(BATCH, "", messages);
    }
    bench.add_books(row, candidate, *messages, &measured.found);
}
