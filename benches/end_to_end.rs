//! The way of messages from MQTT to RocketMQ and back, measured from outside, on one machine: roombridge as it is beside
//! roombridge as it was, the floor, a bridge written by hand in Java, and subscribers that store nothing.
//!
//! Prints tables, keeps every figure in target/bench.json, and writes its part of docs/BENCHMARKS.md when it has
//! measured all rows in five rounds. `--quick` compares a few ratios with those that are committed in
//! benches/ratios.toml, and fails when they are worse; with `--accept` it writes them there.
//! Promises to end by itself, with all that it started.

#![recursion_limit = "512"]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod candidates;
#[path = "../tests/it/support/mod.rs"]
mod harness;
mod lean;
#[allow(dead_code, reason = "shared with the other benchmark, which uses all of it")]
#[path = "class/machine.rs"]
mod machine;
mod stages;
mod support;

use std::process::ExitCode;

use stages::{Bench, Options};
use support::{Failure, committed, marked_part, page, plain_subscriber, store_rate};

const ROUNDS: usize = 5;
const QUICK_ROUNDS: usize = 3;
const USAGE: &str = "usage: end_to_end [--rounds N] [--only TEXT-IN-THE-NAME-OF-A-ROW] | --quick [--accept]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo's own word for a benchmark that has no harness.
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| *word != "--bench").collect();
    if let ["child", rest @ ..] = words.as_slice() {
        return match child(rest) {
            Ok(seconds) => {
                println!("{seconds}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{rest:?}: {error}");
                ExitCode::FAILURE
            }
        };
    }
    marked_part::try_the_marks();
    match words.as_slice() {
        ["--quick"] => quick(committed::are_as_good),
        ["--quick", "--accept"] => quick(|comparison| {
            committed::accept(comparison);
            true
        }),
        words => match options(words) {
            Some(options) => measure(options),
            None => {
                eprintln!("{USAGE}");
                ExitCode::FAILURE
            }
        },
    }
}

/// The yardsticks run as processes of their own. Prints the seconds that the work took.
fn child(words: &[&str]) -> Result<f64, Failure> {
    match words {
        ["subscriber", port, client_id, count] => {
            plain_subscriber::run(port.parse()?, client_id, count.parse()?)
        }
        ["store", config_file, batch, count] => store_rate::run(config_file, batch.parse()?, count.parse()?),
        ["lean", port, broker, topic, queues] => lean::run(port.parse()?, broker, topic, queues.parse()?),
        _ => Err("no such child".into()),
    }
}

fn options(mut words: &[&str]) -> Option<Options> {
    let mut options = Options { rounds: ROUNDS, maybe_only: None, quick: false };
    loop {
        words = match words {
            [] => return Some(options),
            ["--rounds", rounds, rest @ ..] => {
                options.rounds = rounds.parse().ok().filter(|rounds| *rounds > 0)?;
                rest
            }
            ["--only", text, rest @ ..] => {
                options.maybe_only = Some((*text).to_owned());
                rest
            }
            _ => return None,
        };
    }
}

fn measure(options: Options) -> ExitCode {
    let whole = options.rounds == ROUNDS && options.maybe_only.is_none();
    let machine = machine::line();
    let bench = Bench::run(options);
    let part = page::part(&bench, &machine);
    println!("{part}");
    if whole && !cfg!(debug_assertions) && candidates::baseline().is_some() {
        marked_part::write("end_to_end", &part);
    } else {
        stages::say(
            "not all rows, rounds or candidates, or no optimised build: docs/BENCHMARKS.md stays as it is",
        );
    }
    ExitCode::SUCCESS
}

fn quick(is_good: impl FnOnce(&support::comparison::Comparison) -> bool) -> ExitCode {
    let bench = Bench::run(Options { rounds: QUICK_ROUNDS, maybe_only: None, quick: true });
    println!("{}", bench.comparison.markdown());
    if is_good(&bench.comparison) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
