//! The archive: how fast it is written and indexed, how large it is, and how fast it answers; beside the build of before, which
//! reads RocketMQ whole.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::plain::run_child;
use super::{Bench, mosquitto, publish_all, say, store_of};
use crate::candidates::{BRIDGES, Candidate, in_turn, roombridge};
use crate::harness::bridge::Bridge;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::ports::wait_until;
use crate::harness::scratch::Scratch;
use crate::support::flood::{ORDINARY, Shape};
use crate::support::report::Aim;
use crate::support::{median, process_usage, talk};

pub const ROW: &str = "archive";
const ONE_ROOM: &str = "last 200 lines of a room of 1,000,000";
const SCATTERED: &str = "a room of 200 lines among 250,000 of its queue";
const LARGE: u64 = 1_000_000;
const ROOMS: u64 = 10_000;
const DEADLINE: Duration = Duration::from_secs(600);

/// A topic with what is said in it.
struct Talk {
    topic: &'static str,
    queues: u32,
    rooms: u64,
    messages: u64,
}

const LESSON: Talk = Talk { topic: "one_room", queues: 8, rooms: 1, messages: LARGE };
const CROWD: Talk = Talk { topic: "scattered", queues: 1, rooms: 1_250, messages: 250_000 };
const SCHOOL: Talk = Talk { topic: "school", queues: 8, rooms: ROOMS, messages: LARGE };

pub fn run(bench: &mut Bench) {
    // Each has a Mosquitto of its own, which keeps nothing for the bridges of before.
    last_lines(bench, &mosquitto(), ONE_ROOM, &LESSON, 0.05);
    last_lines(bench, &mosquitto(), SCATTERED, &CROWD, 0.15);
    school(bench, &mosquitto());
}

/// Today's build from its index, and the build of before.
fn last_lines(bench: &mut Bench, mosquitto: &Mosquitto, row: &str, talk: &Talk, aim_s: f64) {
    let mut bridge = said(bench, mosquitto, talk);
    wait_indexed(&bridge, talk.messages);
    let scratch = Scratch::new("archive");
    let before = config(bench, mosquitto, talk);
    scratch.write("before.toml", &before);
    let mut today_s = Vec::new();
    for round in 0..bench.options.rounds {
        bench.say_round(row, round);
        for candidate in in_turn(BRIDGES, round) {
            let file = match candidate {
                Candidate::Today => bridge.config_file(),
                _ => scratch.join("before.toml").display().to_string(),
            };
            let words = ["history", "0", "--limit", "200", "--json", "--config", &file];
            let mut command = Command::new(roombridge(candidate));
            command.args(words);
            let ran = run_child(row, command, &scratch);
            let lines = ran.printed.lines().filter(|line| line.starts_with('{')).count();
            assert_eq!(lines, 200, "{row}");
            bench.comparison.add(row, "took", "ms", candidate, ran.seconds * 1000.0);
            bench.comparison.add(row, "processor time", "ms", candidate, ran.cpu.as_secs_f64() * 1000.0);
            if candidate == Candidate::Today {
                today_s.push(ran.seconds);
            }
        }
    }
    bench.report.add(ROW, row, median(today_s) * 1000.0, "ms", Aim::AtMost(aim_s * 1000.0));
    stop(&mut bridge);
}

/// A million lines of ten thousand rooms: written, indexed, searched, and read after RocketMQ has lost them.
fn school(bench: &mut Bench, mosquitto: &Mosquitto) {
    let mut bridge = said(bench, mosquitto, &SCHOOL);
    wait_indexed(&bridge, SCHOOL.messages);
    let peak = process_usage::peak_rss_mb(bridge.pid());
    bench.report.add(ROW, "peak memory of a bridge that archives and indexes", peak, "MB", Aim::None);
    archive(&bridge, &["flush"]);
    let dir = bridge.scratch().join("archive");
    let a_message = |bytes: u64| bytes as f64 / SCHOOL.messages as f64;
    let (pieces, index) = (bytes_of(&dir, ".zst"), bytes_of(&dir, ".sqlite3"));
    bench.report.add(ROW, "archive, for a message", a_message(pieces), "bytes", Aim::None);
    bench.report.add(ROW, "index, for a message", a_message(index), "bytes", Aim::AtMost(70.0));
    stop(&mut bridge);

    say("archiving anew, and an index anew");
    fs::remove_dir_all(&dir).expect("the archive can be removed");
    let flush = archive(&bridge, &["flush"]);
    let messages = SCHOOL.messages as f64;
    bench.report.add(
        ROW,
        "archived without an index",
        messages / flush.seconds,
        "msg/s",
        Aim::AtLeast(60_000.0),
    );
    let cpu_us = |cpu: Duration| cpu.as_secs_f64() * 1e6 / messages;
    bench.report.add(ROW, "the same, processor time a message", cpu_us(flush.cpu), "us", Aim::AtMost(12.0));

    bench.rocketmq.mqadmin(&["deleteTopic", "-t", SCHOOL.topic, "-c", "DefaultCluster"]);
    let rebuild = archive(&bridge, &["rebuild-index"]);
    bench.report.add(
        ROW,
        "index rebuilt from the archive",
        messages / rebuild.seconds,
        "msg/s",
        Aim::AtLeast(60_000.0),
    );
    bench.report.add(ROW, "the same, processor time a message", cpu_us(rebuild.cpu), "us", Aim::None);
    answers(bench, &bridge);
}

/// How long a process of the command line takes, from its start to its end.
fn answers(bench: &mut Bench, bridge: &Bridge) {
    let rare_and = format!("{} {}", talk::OFTEN, talk::RARE);
    let questions: [(&str, &[&str], f64); 9] = [
        ("last 200 lines of a room of 100, archived", &["history", "7777", "--limit", "200", "--json"], 50.0),
        ("search, two characters", &["search", talk::NOW_AND_THEN, "--json"], 20.0),
        ("search, one character", &["search", talk::ONE_CHARACTER, "--json"], 20.0),
        ("search, a word of 40 % of the lines", &["search", talk::OFTEN, "--json"], 20.0),
        ("search, that and a rare one", &["search", &rare_and, "--json"], 20.0),
        ("search, one room", &["search", talk::OFTEN, "--room", "7777", "--json"], 20.0),
        ("search, best first", &["search", talk::OFTEN, "--best", "--json"], 200.0),
        ("rooms", &["rooms", "--json"], f64::NAN),
        ("lessons of a room", &["lessons", "7777", "--json"], f64::NAN),
    ];
    for (name, words, aim_ms) in questions {
        let took = |_| {
            let (started, mut command) = (Instant::now(), Command::new(roombridge(Candidate::Today)));
            command.args(words).arg("--config").arg(bridge.config_file());
            let output = command.output().expect("roombridge can be started");
            assert!(output.status.success() && !output.stdout.is_empty(), "{name}: {output:?}");
            started.elapsed().as_secs_f64() * 1000.0
        };
        let all: Vec<f64> = (0..bench.options.rounds).map(took).collect();
        let aim = if aim_ms.is_nan() { Aim::None } else { Aim::AtMost(aim_ms) };
        bench.report.add(ROW, name, median(all), "ms", aim);
    }
}

fn config(bench: &Bench, mosquitto: &Mosquitto, talk: &Talk) -> String {
    let (url, name_server, topic) = (mosquitto.url(), bench.rocketmq.name_server(), talk.topic);
    format!(
        "[mqtt]\nurl = \"{url}\"\nclient_id = \"{topic}\"\n[rocketmq]\nname_servers = [\"{name_server}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{topic}\"\n"
    )
}

/// A bridge that archives, and all of it stored.
fn said(bench: &Bench, mosquitto: &Mosquitto, talk: &Talk) -> Bridge {
    say(&format!("{}: {} lines in {} rooms", talk.topic, talk.messages, talk.rooms));
    bench.rocketmq.create_topic(talk.topic, talk.queues);
    let bridge = Bridge::start(&format!("{}[archive]\n", config(bench, mosquitto, talk)));
    let store = store_of(&bench.rocketmq, &[talk.topic]);
    let mark = store.mark();
    let shape = Shape { rooms: talk.rooms, is_talk: true, ..ORDINARY };
    publish_all(mosquitto.port(), talk.topic, shape, talk.messages);
    store.wait(&mark, talk.messages);
    bridge
}

fn wait_indexed(bridge: &Bridge, messages: u64) {
    let rows = || bridge.metrics().value("roombridge_index_rows_total", &[]);
    wait_until("all is in the index", DEADLINE, || rows() >= messages as f64);
}

fn stop(bridge: &mut Bridge) {
    bridge.terminate();
    bridge.wait_exit(Duration::from_secs(60));
}

fn archive(bridge: &Bridge, words: &[&str]) -> super::plain::Ran {
    let mut command = Command::new(roombridge(Candidate::Today));
    command.arg("archive").args(words).arg("--config").arg(bridge.config_file());
    run_child("archive", command, bridge.scratch())
}

/// Of all files below the folder with that end.
fn bytes_of(folder: &Path, end: &str) -> u64 {
    let entries = fs::read_dir(folder).expect("the archive can be read").flatten();
    let of = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_of(&entry.path(), end),
        _ if entry.file_name().to_string_lossy().ends_with(end) => {
            entry.metadata().map_or(0, |data| data.len())
        }
        _ => 0,
    };
    entries.map(of).sum()
}
