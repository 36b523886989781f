//! What the archiver and its indexer take from the bridge that they work in, and how exactly a replay keeps the pace.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use super::{Bench, MESSAGES, QUEUES, cpu_us_per_message, mosquitto, publish_all, say, scratch, store_of};
use crate::candidates::{Candidate, roombridge};
use crate::harness::bridge::Bridge;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::ports::wait_until;
use crate::harness::process::{Process, run_to_end};
use crate::harness::scratch::Scratch;
use crate::support::flood::{Flood, ORDINARY, Shape};
use crate::support::report::Aim;
use crate::support::{median, process_usage};

pub const ROW: &str = "archive, beside a drain";
pub const REPLAY: &str = "archive, replay at x1";
const LESSON: Duration = Duration::from_secs(60);
const A_SECOND: u32 = 20;
/// More than a replay of the lesson takes.
const DEADLINE: Duration = Duration::from_secs(120);

fn config(bench: &Bench, mosquitto: &Mosquitto, client_id: &str, topic: &str) -> String {
    format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"{client_id}\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{topic}\"\n",
        mosquitto.url(),
        bench.rocketmq.name_server()
    )
}

/// Two bridges drain the same backlog, each its own session. What one of them stores, both of them find in RocketMQ; the one with an
/// archive archives and indexes all of it meanwhile.
pub fn run(bench: &mut Bench) {
    const BOTH: &str = "beside";
    bench.rocketmq.create_topic(BOTH, QUEUES);
    let (mosquitto, store) = (mosquitto(), store_of(&bench.rocketmq, &[BOTH]));
    let without = Bridge::start(&config(bench, &mosquitto, "without", BOTH));
    let with = Bridge::start(&format!("{}[archive]\n", config(bench, &mosquitto, "with", BOTH)));
    let mut bridges = [without, with];
    bridges.iter_mut().for_each(stop);
    let (mut rates, mut cpus) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..bench.options.rounds {
        bench.say_round(ROW, round);
        publish_all(mosquitto.port(), &format!("beside{round}"), ORDINARY, MESSAGES);
        for turn in 0..2 {
            let number = (round + turn) % 2;
            let (bridge, mark) = (&mut bridges[number], store.mark());
            bridge.start_again_without_waiting();
            store.wait(&mark, MESSAGES);
            let cpu = process_usage::cpu(bridge.pid());
            let found = store.since(&mark);
            stop(bridge);
            assert_eq!(found.different, MESSAGES, "{ROW}");
            rates[number].push(found.stored as f64 / found.seconds);
            cpus[number].push(cpu_us_per_message(cpu, MESSAGES));
        }
    }
    let [without, with] = &rates;
    let ratios = with.iter().zip(without).map(|(with, without)| with / without);
    bench.report.add(
        ROW,
        "stored, with / without an archive",
        median(ratios.collect()),
        "",
        Aim::AtLeast(0.9),
    );
    for (name, (rate, cpu)) in ["without", "with"].into_iter().zip(rates.into_iter().zip(cpus)) {
        bench.report.add(ROW, format!("stored, {name}"), median(rate), "msg/s", Aim::None);
        bench.report.add(ROW, format!("processor time a message, {name}"), median(cpu), "us", Aim::None);
    }
}

fn stop(bridge: &mut Bridge) {
    bridge.terminate();
    bridge.wait_exit(Duration::from_secs(60));
}

/// A lesson of a minute, replayed to MQTT; when a subscriber gets each message, beside when it was said.
pub fn replay(bench: &mut Bench) {
    const TOPIC: &str = "pace";
    say(REPLAY);
    bench.rocketmq.create_topic(TOPIC, QUEUES);
    let (mosquitto, scratch) = (mosquitto(), scratch());
    let mut bridge = Bridge::start(&format!("{}[archive]\n", config(bench, &mosquitto, "pace", TOPIC)));
    let shape = Shape { rooms: 1, ..ORDINARY };
    let mut flood = Flood::connect(mosquitto.port(), "lesson", shape).expect("Mosquitto takes a publisher");
    flood.paced(A_SECOND, LESSON).expect("a lesson can be published");
    let count = u64::from(A_SECOND) * LESSON.as_secs();
    wait_until("the lesson is in the index", DEADLINE, || {
        bridge.metrics().value("roombridge_index_rows_total", &[]) >= count as f64
    });
    let config_file = bridge.config_file();
    let said = said(&config_file);
    assert_eq!(said.len() as u64, count, "{REPLAY}");
    let heard = heard(&mosquitto, &config_file, &scratch, count);
    let (first_said, first_heard) = (said[&0], heard[&0]);
    let mut late_ms: Vec<f64> = said
        .iter()
        .map(|(number, said)| ((heard[number] - first_heard) * 1000.0 - (said - first_said)).abs())
        .collect();
    late_ms.sort_by(f64::total_cmp);
    let at = |part: f64| late_ms[((late_ms.len() - 1) as f64 * part) as usize];
    bench.report.add(REPLAY, "difference from the spacing, p50", at(0.5), "ms", Aim::None);
    bench.report.add(REPLAY, "difference from the spacing, p99", at(0.99), "ms", Aim::AtMost(5.0));
    bench.report.add(REPLAY, "difference from the spacing, largest", at(1.0), "ms", Aim::None);
    stop(&mut bridge);
}

/// When each message was said, in milliseconds, by its number.
fn said(config_file: &str) -> HashMap<u64, f64> {
    let mut command = Command::new(roombridge(Candidate::Today));
    command.args(["history", "0", "--json", "--config", config_file]);
    let output = run_to_end(command, DEADLINE);
    assert!(output.status.success(), "{output:?}");
    let time =
        |text: &str| text.parse::<jiff::Timestamp>().expect("a time of RFC 3339").as_millisecond() as f64;
    let said = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).expect("a JSON object");
        let number = number_of(record["payload"].as_str().expect("a payload"));
        (number, time(record["received_at"].as_str().expect("a time")))
    };
    String::from_utf8_lossy(&output.stdout).lines().map(said).collect()
}

/// When mosquitto_sub got each message of a replay, in seconds, by its number.
fn heard(mosquitto: &Mosquitto, config_file: &str, scratch: &Scratch, count: u64) -> HashMap<u64, f64> {
    let file = std::fs::File::create(scratch.join("heard")).expect("a file can be made");
    let mut command = Command::new("mosquitto_sub");
    command.args(["-h", "127.0.0.1", "-p", &mosquitto.port().to_string(), "-q", "1", "-t", "again/#"]);
    command.args(["-i", "hearer", "-F", "%U %p", "-C", &count.to_string()]);
    let log = scratch.join("hearer.log");
    let mut hearer =
        Process::spawn_speaking_to("mosquitto_sub", command, &log, file.into(), std::process::Stdio::null());
    wait_until("the subscriber is there", DEADLINE, || mosquitto.log_text().contains("hearer"));
    let mut command = Command::new(roombridge(Candidate::Today));
    command.args(["replay", "0", "--to-mqtt", "again", "--config", config_file]);
    let output = run_to_end(command, DEADLINE);
    assert!(output.status.success(), "{output:?}");
    hearer.wait_exit(Duration::from_secs(10));
    let text = std::fs::read_to_string(scratch.join("heard")).expect("what was heard");
    let heard = |line: &str| {
        let (at, payload) = line.split_once(' ').expect("a time and a payload");
        (number_of(payload), at.parse().expect("seconds"))
    };
    text.lines().map(heard).collect()
}

/// Payloads are `name number xxx`.
fn number_of(payload: &str) -> u64 {
    payload.split(' ').nth(1).and_then(|number| number.parse().ok()).expect("a numbered payload")
}
