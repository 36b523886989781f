//! The way of messages from MQTT to RocketMQ, measured from outside: Mosquitto, the roombridge binary and Apache
//! RocketMQ on one machine, beside the two yardsticks that bound it, a subscriber that stores nothing and the
//! producer alone.
//!
//! Prints one table, or JSON with `--json`, and writes it to target/bench.md or target/bench.json. Figures depend on
//! the machine; the ratios do not. Promises to end by itself, with all that it started.

#![recursion_limit = "512"]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/it/support/mod.rs"]
mod harness;
mod stages;
mod support;

use std::path::Path;
use std::process::ExitCode;

use support::plain_subscriber::Acks;
use support::report::Report;
use support::{Failure, plain_subscriber, store_rate};

const NOTES: [&str; 6] = [
    "All programs share one machine. Aims: 0.9 of the drain of the plain subscriber that acknowledges by hand, as the \
     bridge must; under 60 MB; at most 8 us of processor time for a message in the drain.",
    "What bounds the drain is the slower of two: the plain subscriber, and RocketMQ alone.",
    "Drains: the middle of 3 rounds; each subscriber has a session of its own with the same 200,000 messages. From the \
     first message to the last stored (by RocketMQ's clock) for the bridge, to the last PUBACK for rumqttc, and to the \
     end of the process for mosquitto_sub.",
    "Processor time is the kernel's, all threads, in steps of 10 ms. What a start without a backlog costs is subtracted \
     from the bridge's drain; its answers to our looks at /metrics are not.",
    "Lost and duplicates: all messages are read back and their bodies compared.",
    "p50 and p99 lie on a straight line within a bucket of roombridge_store_seconds, from arrival to PUBACK.",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["child", rest @ ..] => match child(rest) {
            Ok(seconds) => {
                println!("{seconds}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{rest:?}: {error}");
                ExitCode::FAILURE
            }
        },
        words => {
            measure(words.contains(&"--json"));
            ExitCode::SUCCESS
        }
    }
}

/// The yardsticks run as processes of their own. Prints the seconds that the work took.
fn child(words: &[&str]) -> Result<f64, Failure> {
    match words {
        ["subscriber", port, client_id, count, acks] => {
            let acks = if *acks == "by-hand" { Acks::ByHand } else { Acks::ByTheClient };
            plain_subscriber::run(port.parse()?, client_id, acks, count.parse()?)
        }
        ["store", config_file, batch, count] => store_rate::run(config_file, batch.parse()?, count.parse()?),
        _ => Err("unknown arguments; the benchmark takes --json and nothing else".into()),
    }
}

fn measure(json: bool) {
    let mut report = Report::default();
    stages::run(&mut report);
    let table = report.markdown(&NOTES);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&folder).expect("target can be made");
    std::fs::write(folder.join("bench.md"), &table).expect("target can be written");
    if json {
        std::fs::write(folder.join("bench.json"), report.json()).expect("target can be written");
        println!("{}", report.json());
    } else {
        println!("{table}");
    }
}
