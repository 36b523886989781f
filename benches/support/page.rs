//! The part of docs/BENCHMARKS.md that this benchmark writes.

use std::process::Command;

use super::comparison::RatioAim;
use super::report::Aim;
use crate::candidates::{self, Candidate};
use crate::stages::Bench;

/// What is wanted of today's build, as ratios, because absolute figures depend on the machine.
const AIMS: [RatioAim; 16] = [
    aim("drain, 200 B", "stored", Candidate::Baseline, Aim::AtLeast(2.0)),
    aim("drain, 200 B", "stored", Candidate::Lean, Aim::AtLeast(0.7)),
    aim("drain, 200 B", "stored", Candidate::Java, Aim::AtLeast(8.0)),
    aim("drain, 200 B", "processor time a message", Candidate::Baseline, Aim::AtMost(0.25)),
    aim("drain, 200 B", "processor time a message", Candidate::Java, Aim::AtMost(1.0 / 30.0)),
    aim("steady, 1,000 msg/s", "processor time a message", Candidate::Baseline, Aim::AtMost(0.4)),
    aim("steady, 1,000 msg/s", "processor time a message", Candidate::Lean, Aim::AtMost(1.5)),
    aim("steady, 1,000 msg/s", "processor time a message", Candidate::Java, Aim::AtMost(0.5)),
    aim("steady, 1,000 msg/s", "arrival to PUBACK, p50", Candidate::Lean, Aim::AtMost(1.2)),
    aim("steady, 1,000 msg/s", "arrival to PUBACK, p99", Candidate::Lean, Aim::AtMost(1.5)),
    aim("live, 3 publishers flat out", "publishers", Candidate::Baseline, Aim::AtLeast(1.0)),
    aim("live, 3 publishers flat out", "processor time a message", Candidate::Baseline, Aim::AtMost(0.35)),
    aim("reading the whole topic", "read", Candidate::Baseline, Aim::AtLeast(4.0)),
    aim("last 200 lines of a room of 1,000,000", "took", Candidate::Baseline, Aim::AtMost(0.01)),
    aim("spool, RocketMQ away", "spooled", Candidate::Baseline, Aim::AtLeast(1.5)),
    aim("spool, RocketMQ away", "drained into RocketMQ", Candidate::Baseline, Aim::AtLeast(1.5)),
];

const NOTES: [&str; 10] = [
    "Each round runs every candidate once, in another order in each round; the figures are the middle ones of 5 rounds. A \
     ratio is today's build divided by the other candidate, within each round; the middle one of them is shown.",
    "Lost and duplicates: all messages are read back from RocketMQ and their bodies compared; of all rounds together.",
    "Drain: each candidate has a session of its own in Mosquitto with the same backlog. From the first message stored to \
     the last, by RocketMQ's clock. What a start without a backlog costs is subtracted from the processor time.",
    "Steady and QoS 0: a broker of the benchmark sends to one client and takes the time from each PUBLISH to its PUBACK. \
     No work of Mosquitto is in these figures.",
    "Processor time is the kernel's, all threads, in steps of 10 ms.",
    "Live: 100,000 messages, and each candidate has a Mosquitto of its own.",
    "Spool: 200,000 messages, fsynced before each PUBACK; then RocketMQ comes back.",
    "Reading: a process of the command line from its start to its end. The whole topic has 200,000 messages in 8 queues, \
     the room 50,000.",
    "Archive: lines of a chat, some 150 bytes. History and search are processes of the command line from their start to their \
     end; the build before reads RocketMQ, today's the index and what it names. The last topic was deleted in RocketMQ.",
    "All programs share one machine.",
];

const fn aim(row: &'static str, figure: &'static str, to: Candidate, aim: Aim) -> RatioAim {
    RatioAim { row, figure, to, aim }
}

pub fn part(bench: &Bench, machine: &str) -> String {
    let mut text = String::from("## The way of messages\n\n");
    text.push_str(&bench.comparison.markdown());
    text.push_str("\n### Aims\n\n");
    text.push_str(&bench.comparison.aims(&AIMS));
    text.push_str("\n### Today's build alone, and what bounds it\n\n");
    text.push_str(&bench.report.markdown());
    text.push('\n');
    for note in NOTES.map(str::to_owned).into_iter().chain([versions(), machine.to_owned()]) {
        text.push_str(&format!("* {note}\n"));
    }
    text
}

fn versions() -> String {
    let baseline = candidates::baseline().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let pom = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apache/pom.xml"));
    let rocketmq = pom.ok().and_then(|pom| {
        let (_, after) = pom.split_once("<rocketmq.version>")?;
        Some(after.split_once('<')?.0.to_owned())
    });
    format!(
        "Versions: baseline {}; Apache RocketMQ {}; {}; {}.",
        baseline.unwrap_or_else(|| "not built".to_owned()),
        rocketmq.unwrap_or_else(|| "unknown".to_owned()),
        first_line("mosquitto_sub", "--version"),
        first_line("java", "-version"),
    )
}

/// Of what a program says about itself.
fn first_line(program: &str, word: &str) -> String {
    let output = Command::new(program).arg(word).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().map_or_else(|| format!("{program}: version unknown"), str::to_owned)
}
