//! Reading back by the command line: a whole topic, one room into a file, and one room again on MQTT.

use std::process::Command;

use super::plain::run_child;
use super::{Bench, CPU, MESSAGES, QUEUES, cpu_us_per_message, mosquitto, publish_all, scratch, store_of};
use crate::candidates::{BRIDGES, Candidate, Program, Site, in_turn, roombridge};
use crate::harness::scratch::Scratch;
use crate::support::flood::{ORDINARY, Shape};

pub const ROW: &str = "reading";
const READ_TOPIC: &str = "read";
const FEW_ROOMS: Shape = Shape { rooms: 4, ..ORDINARY };
const OF_ONE_ROOM: u64 = MESSAGES / FEW_ROOMS.rooms;

/// One row: the command, how many messages it reads, and how many lines it must print.
struct Reading {
    row: &'static str,
    words: &'static [&'static str],
    messages: u64,
    lines: u64,
}

const READINGS: [Reading; 4] = [
    // A topic with a downlink is read whole, here for a room that does not exist.
    Reading {
        row: "reading the whole topic",
        words: &["history", "nobody", "--json"],
        messages: MESSAGES,
        lines: 0,
    },
    Reading {
        row: "history of one room to a file",
        words: &["history", "0", "--json"],
        messages: OF_ONE_ROOM,
        lines: OF_ONE_ROOM,
    },
    Reading {
        row: "replay to a file",
        words: &["replay", "0", "--speed", "max", "--json"],
        messages: OF_ONE_ROOM,
        lines: OF_ONE_ROOM,
    },
    Reading {
        row: "replay to MQTT",
        words: &["replay", "0", "--speed", "max", "--to-mqtt", "again"],
        messages: OF_ONE_ROOM,
        lines: 0,
    },
];

pub fn run(bench: &mut Bench) {
    let mosquitto = mosquitto();
    fill(bench, mosquitto.port());
    let scratch = scratch();
    let config = format!(
        "[mqtt]\nurl = \"{}\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{READ_TOPIC}\"\n",
        mosquitto.url(),
        bench.rocketmq.name_server()
    );
    scratch.write("room.toml", &config);
    scratch.write("whole.toml", &format!("{config}[[downlink]]\ntopic = \"{READ_TOPIC}\"\n"));
    for round in 0..bench.options.rounds {
        bench.say_round(ROW, round);
        for reading in &READINGS {
            for candidate in in_turn(BRIDGES, round) {
                one(bench, candidate, reading, &scratch);
            }
        }
    }
}

fn fill(bench: &Bench, mqtt_port: u16) {
    bench.rocketmq.create_topic(READ_TOPIC, QUEUES);
    let store = store_of(&bench.rocketmq, &[READ_TOPIC]);
    let site =
        Site { mqtt_port, rocketmq: &bench.rocketmq, filter: "room/#", topic: READ_TOPIC, queues: QUEUES };
    let mut program = Program::new(Candidate::Today, site);
    let mut running = program.start();
    running.wait_ready();
    let mark = store.mark();
    publish_all(mqtt_port, "read", FEW_ROOMS, MESSAGES);
    store.wait(&mark, MESSAGES);
    running.stop();
}

fn one(bench: &mut Bench, candidate: Candidate, reading: &Reading, scratch: &Scratch) {
    let whole = reading.messages == MESSAGES;
    let config = scratch.join(if whole { "whole.toml" } else { "room.toml" });
    let mut command = Command::new(roombridge(candidate));
    command.args(reading.words).arg("--config").arg(config);
    let ran = run_child(reading.row, command, scratch);
    let lines = ran.printed.lines().filter(|line| line.starts_with('{')).count() as u64;
    assert_eq!(lines, reading.lines, "{} prints each message", reading.row);
    let mut add = |figure, unit, value| bench.comparison.add(reading.row, figure, unit, candidate, value);
    add("read", "msg/s", reading.messages as f64 / ran.seconds);
    add(CPU, "us", cpu_us_per_message(ran.cpu, reading.messages));
}
