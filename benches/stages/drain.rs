//! A backlog that waits in Mosquitto, taken by each candidate out of a session of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plain::{PlainSubscribers, Subscriber};
use super::{
    BATCH, Bench, CPU, MESSAGES, PEAK_MEMORY, QUEUES, STORED, TOPIC, cpu_us_per_message, mosquitto,
    publish_all, say, store_of,
};
use crate::candidates::{ALL, BRIDGES, Candidate, NATIVE, Program, Site, in_turn};
use crate::support::flood::{ORDINARY, Shape, parent};
use crate::support::report::Aim;
use crate::support::stored::{Found, Store};
use crate::support::{median, process_usage};

pub const MAIN: &str = "drain, 200 B";

/// The last PUBACKs leave after the last message is stored.
const LAST_ACKNOWLEDGEMENTS: Duration = Duration::from_millis(300);
const STARTS: usize = 3;

pub struct Load {
    pub row: &'static str,
    pub is_watched: bool,
    shape: Shape,
    messages: u64,
    queues: u32,
    candidates: &'static [Candidate],
}

const USUAL: Load = Load {
    row: MAIN,
    is_watched: false,
    shape: ORDINARY,
    messages: MESSAGES / 2,
    queues: QUEUES,
    candidates: NATIVE,
};
const BODIES_1_KB: Shape = Shape { payload_bytes: 1024, ..ORDINARY };
const BODIES_16_KB: Shape = Shape { payload_bytes: 16_384, ..ORDINARY };
const MANY_ROOMS: Shape = Shape { rooms: 100_000, ..ORDINARY };
const MANY_TOPICS: Shape = Shape { parents: 1000, ..ORDINARY };
const EXACTLY_ONCE: Shape = Shape { qos: 2, ..ORDINARY };

pub const LOADS: &[Load] = &[
    Load { is_watched: true, messages: MESSAGES, candidates: ALL, ..USUAL },
    Load { row: "drain, 1 KB", shape: BODIES_1_KB, candidates: ALL, ..USUAL },
    Load { row: "drain, 16 KB", shape: BODIES_16_KB, messages: 10_000, candidates: ALL, ..USUAL },
    Load { row: "drain, 100,000 rooms", shape: MANY_ROOMS, ..USUAL },
    Load { row: "drain, 4 queues", queues: 4, ..USUAL },
    Load { row: "drain, 16 queues", queues: 16, ..USUAL },
    // Only those of BRIDGES tell topics apart.
    Load { row: "drain, 1,000 topics", shape: MANY_TOPICS, queues: 1, candidates: BRIDGES, ..USUAL },
    // All of them subscribe with QoS 1.
    Load { row: "drain, published with QoS 2", shape: EXACTLY_ONCE, ..USUAL },
];

/// What one did in one round.
struct Drained {
    candidate: Candidate,
    cpu: Duration,
    peak_rss_mb: f64,
    maybe_batch_messages: Option<f64>,
    found: Found,
}

pub fn run(bench: &mut Bench, load: &Load) {
    let (topics, filter, template) = topics(load);
    say(&format!("{}: {} topics with {} queues", load.row, topics.len(), load.queues));
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let with_queues: Vec<_> = topics.iter().map(|topic| (*topic, load.queues)).collect();
    bench.rocketmq.create_topics(&with_queues);
    let store = store_of(&bench.rocketmq, &topics);
    let mosquitto = mosquitto();
    let port = mosquitto.port();
    let site =
        Site { mqtt_port: port, rocketmq: &bench.rocketmq, filter, topic: &template, queues: load.queues };
    let mut programs: BTreeMap<Candidate, Program> = BTreeMap::new();
    for candidate in in_turn(load.candidates, 0) {
        programs.entry(candidate).or_insert_with(|| Program::new(candidate, site)).make_session();
    }
    let has_plain = load.row == MAIN && !bench.options.quick;
    let mut plain = PlainSubscribers::default();
    if has_plain {
        Subscriber::ALL.into_iter().for_each(|subscriber| subscriber.make_session(port));
    }
    let mut rounds = Vec::new();
    for round in 0..bench.options.rounds {
        bench.say_round(load.row, round);
        publish_all(port, &format!("drain{round}"), load.shape, load.messages);
        for candidate in in_turn(load.candidates, round) {
            let program = programs.get_mut(&candidate).expect("each has its program");
            rounds.push(drain(program, &store, load.messages));
        }
        if has_plain {
            plain.drain(port, load.messages);
        }
    }
    let start_cpu: BTreeMap<_, _> =
        programs.iter_mut().map(|(candidate, program)| (*candidate, cpu_of_a_start(program))).collect();
    add(bench, load, &rounds, &start_cpu);
    if has_plain {
        let ours = rounds.iter().filter(|round| round.candidate == Candidate::Today);
        let rates: Vec<f64> = ours.map(per_second).collect();
        plain.add_rows(&mut bench.report, &rates);
        let read = rounds.iter().map(|round| round.found.stored as f64 / round.found.read_seconds);
        let figure = "one reader of ours, one pull at a time, after each drain";
        bench.report.add("read back", figure, median(read.collect()), "msg/s", Aim::None);
    }
}

/// The RocketMQ topics, the filter that subscribes to what goes there, and the template that chooses among them.
fn topics(load: &Load) -> (Vec<String>, &'static str, String) {
    if load.shape.parents > 1 {
        return ((0..load.shape.parents).map(parent).collect(), "+/message/#", "{0}".to_owned());
    }
    let topic = if load.queues == QUEUES { TOPIC.to_owned() } else { format!("{TOPIC}-{}", load.queues) };
    (vec![topic.clone()], "room/#", topic)
}

fn drain(program: &mut Program, store: &Store, messages: u64) -> Drained {
    let mark = store.mark();
    let mut running = program.start();
    store.wait(&mark, messages);
    std::thread::sleep(LAST_ACKNOWLEDGEMENTS);
    let pid = running.pid();
    let (cpu, peak_rss_mb) = (process_usage::cpu(pid), process_usage::peak_rss_mb(pid));
    let maybe_batch_messages = running.maybe_messages_in_a_batch();
    running.stop();
    let found = store.since(&mark);
    Drained { candidate: program.candidate(), cpu, peak_rss_mb, maybe_batch_messages, found }
}

/// What a start costs without a backlog: for a bridge, most of it is reading back what was stored last.
fn cpu_of_a_start(program: &mut Program) -> Duration {
    let starts = (0..STARTS).map(|_| {
        let mut running = program.start();
        running.wait_ready();
        std::thread::sleep(LAST_ACKNOWLEDGEMENTS);
        let cpu = process_usage::cpu(running.pid());
        running.stop();
        cpu.as_secs_f64()
    });
    Duration::from_secs_f64(median(starts.collect()))
}

fn per_second(drained: &Drained) -> f64 {
    drained.found.stored as f64 / drained.found.seconds
}

fn add(bench: &mut Bench, load: &Load, rounds: &[Drained], start_cpu: &BTreeMap<Candidate, Duration>) {
    // Where a start costs half of a drain or more, as with large messages that are read back, nothing is known of a message.
    let knows_cpu = rounds.iter().all(|drained| drained.cpu > 2 * start_cpu[&drained.candidate]);
    for drained in rounds {
        let candidate = drained.candidate;
        let mut add = |figure, unit, value| bench.comparison.add(load.row, figure, unit, candidate, value);
        add(STORED, "msg/s", per_second(drained));
        if knows_cpu {
            add(CPU, "us", cpu_us_per_message(drained.cpu - start_cpu[&candidate], load.messages));
        }
        add(PEAK_MEMORY, "MB", drained.peak_rss_mb);
        if let Some(messages) = drained.maybe_batch_messages {
            add(BATCH, "", messages);
        }
        bench.add_books(load.row, candidate, load.messages, &drained.found);
    }
}
