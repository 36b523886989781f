//! The stages of the benchmark, one after the other, and what they share. Most of them run every candidate once in each
//! round.

mod alone;
mod archive;
mod beside;
mod drain;
mod idle;
mod live;
mod outage;
mod plain;
mod reading;
mod spool;
mod steady;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::candidates::Candidate;
use crate::harness::apache::{ApacheOptions, ApacheRocketMq};
use crate::harness::mosquitto::{Mosquitto, MosquittoOptions, Persistence};
use crate::harness::scratch::Scratch;
use crate::support::comparison::{Comparison, DUPLICATES, LOST};
use crate::support::flood::{Flood, Shape};
use crate::support::report::{Aim, Report};
use crate::support::stored::{Found, Store};

const TOPIC: &str = "bench";
const QUEUES: u32 = 8;
const MESSAGES: u64 = 200_000;
const PUBLISHERS: u64 = 3;
const DEADLINE: Duration = Duration::from_secs(120);
/// Some 15 s, in which the JVM compiles what it runs often: with fewer, the first row was slower than the later ones.
const WARM_UP_MESSAGES: u64 = 2_400_000;

const NONE_AT_ALL: Aim = Aim::AtMost(0.0);

/// Names of figures that several stages have.
const STORED: &str = "stored";
const CPU: &str = "processor time a message";
const PEAK_MEMORY: &str = "peak memory";
const BATCH: &str = "messages in a batch";
const SWITCHES: &str = "context switches a message";

/// The name of a row, and what measures it.
type Stage = (&'static str, fn(&mut Bench));

/// What the command line asks for.
pub struct Options {
    pub rounds: usize,
    /// Only rows whose name holds this text.
    pub maybe_only: Option<String>,
    /// The few rows whose ratios are committed.
    pub quick: bool,
}

pub struct Bench {
    pub comparison: Comparison,
    pub report: Report,
    pub options: Options,
    rocketmq: ApacheRocketMq,
}

impl Bench {
    pub fn run(options: Options) -> Bench {
        say("starting Apache RocketMQ");
        let rocketmq = ApacheRocketMq::start_with(ApacheOptions::default());
        rocketmq.create_topic(TOPIC, QUEUES);
        let mut bench =
            Bench { comparison: Comparison::default(), report: Report::default(), options, rocketmq };
        say("warming RocketMQ up");
        let store = store_of(&bench.rocketmq, &[TOPIC]);
        let mark = store.mark();
        alone::store_rate(&bench.rocketmq, 128, WARM_UP_MESSAGES);
        // RocketMQ confirms messages before readers find them. What was found late would count for the first row.
        store.wait(&mark, WARM_UP_MESSAGES);
        bench.rows();
        bench
    }

    fn rows(&mut self) {
        for load in drain::LOADS {
            if self.wants(load.row) && (load.is_watched || !self.options.quick) {
                drain::run(self, load);
                self.keep();
            }
        }
        for pace in steady::PACES {
            if self.wants(pace.row) && (pace.is_watched || !self.options.quick) {
                steady::run(self, pace);
                self.keep();
            }
        }
        let rest: [Stage; 9] = [
            (live::ROW, live::run),
            (idle::ROW, idle::run),
            (reading::ROW, reading::run),
            (archive::ROW, archive::run),
            (beside::ROW, beside::run),
            (beside::REPLAY, beside::replay),
            (spool::ROW, spool::run),
            (alone::ROW, alone::run),
            (outage::ROW, outage::run),
        ];
        for (row, run) in rest {
            if self.wants(row) && !self.options.quick {
                run(self);
                self.keep();
            }
        }
    }

    /// Every single figure so far, because a later row may fail.
    fn keep(&self) {
        let figures = serde_json::json!({ "comparison": self.comparison, "today": self.report });
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench.json");
        std::fs::write(file, format!("{figures:#}\n")).expect("target can be written");
    }

    fn wants(&self, row: &str) -> bool {
        self.options.maybe_only.as_ref().is_none_or(|text| row.contains(text.as_str()))
    }

    fn say_round(&self, row: &str, round: usize) {
        say(&format!("{row}: round {} of {}", round + 1, self.options.rounds));
    }

    /// The check that each row ends with: all is there, once.
    fn add_books(&mut self, row: &str, candidate: Candidate, messages: u64, found: &Found) {
        let lost = messages.saturating_sub(found.different);
        let duplicates = found.stored - found.different;
        self.comparison.add(row, LOST, "messages", candidate, lost as f64);
        self.comparison.add(row, DUPLICATES, "messages", candidate, duplicates as f64);
        if lost + duplicates > 0 {
            say(&format!("{row}, {}: {lost} of {messages} lost, {duplicates} duplicates", candidate.name()));
        }
    }
}

fn store_of(rocketmq: &ApacheRocketMq, topics: &[&str]) -> Store {
    Store::open(&rocketmq.name_server(), topics.iter().map(|topic| (*topic).to_owned()).collect())
}

/// A broker without sessions of earlier stages, as the installation notes ask for it.
fn mosquitto() -> Mosquitto {
    Mosquitto::start(MosquittoOptions { persistence: Persistence::Off, ..MosquittoOptions::default() })
}

/// All messages, by three publishers at once; returns how many left in a second.
fn publish_all(mqtt_port: u16, stage: &str, shape: Shape, messages: u64) -> f64 {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..PUBLISHERS {
            let name = format!("{stage}-{number}");
            scope.spawn(move || {
                let (first, end) = (messages * number / PUBLISHERS, messages * (number + 1) / PUBLISHERS);
                Flood::connect(mqtt_port, &name, shape)
                    .and_then(|flood| flood.numbering_from(first).all_at_once(end - first))
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            });
        }
    });
    messages as f64 / started.elapsed().as_secs_f64()
}

fn cpu_us_per_message(cpu: Duration, messages: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / messages as f64
}

fn scratch() -> Scratch {
    Scratch::new("stage")
}

pub fn say(what: &str) {
    eprintln!("bench: {what}");
}
