//! Subscribers that take the same backlog and store nothing: what the MQTT side alone allows.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{CPU, DEADLINE, cpu_us_per_message, scratch};
use crate::harness::process::{Process, run_to_end};
use crate::harness::scratch::Scratch;
use crate::support::median;
use crate::support::process_usage;
use crate::support::report::{Aim, Report};

const STAGE: &str = "plain subscribers, drain, 200 B";

/// What a child process took for all messages.
#[derive(Clone, Copy)]
pub struct Measured {
    pub per_second: f64,
    pub cpu_us: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subscriber {
    ByHand,
    MosquittoSub,
}

/// Both, and what they took in each round.
#[derive(Default)]
pub struct PlainSubscribers(Vec<(Subscriber, Measured)>);

impl PlainSubscribers {
    pub fn drain(&mut self, port: u16, messages: u64) {
        for subscriber in Subscriber::ALL {
            self.0.push((subscriber, subscriber.drain(port, messages)));
        }
    }

    /// `stored`: how many messages the bridge stored in a second, in each round.
    pub fn add_rows(&self, report: &mut Report, stored: &[f64]) {
        for subscriber in Subscriber::ALL {
            let name = subscriber.name();
            let rounds: Vec<_> =
                self.0.iter().filter(|(other, _)| *other == subscriber).map(|(_, took)| *took).collect();
            let middle = |figure: fn(&Measured) -> f64| median(rounds.iter().map(figure).collect());
            report.add(STAGE, name, middle(|took| took.per_second), "msg/s", Aim::None);
            report.add(STAGE, format!("{name}, {CPU}"), middle(|took| took.cpu_us), "us", Aim::None);
            let ratios = stored.iter().zip(&rounds).map(|(ours, theirs)| ours / theirs.per_second);
            report.add(STAGE, format!("roombridge / {name}"), median(ratios.collect()), "", Aim::None);
        }
    }
}

impl Subscriber {
    pub const ALL: [Subscriber; 2] = [Subscriber::ByHand, Subscriber::MosquittoSub];

    fn name(self) -> &'static str {
        match self {
            Subscriber::ByHand => "rumqttc, acknowledging by hand",
            Subscriber::MosquittoSub => "mosquitto_sub",
        }
    }

    /// Makes the persistent session in which messages then wait.
    pub fn make_session(self, port: u16) {
        let mut command = self.command(port, 0);
        if self == Subscriber::MosquittoSub {
            command.arg("-E");
        }
        let output = run_to_end(command, Duration::from_secs(10));
        assert!(output.status.success(), "{}: {output:?}", self.name());
    }

    fn drain(self, port: u16, messages: u64) -> Measured {
        let ran = run_child(self.name(), self.command(port, messages), &scratch());
        // mosquitto_sub says nothing; connecting takes it some milliseconds.
        let seconds = ran.printed.trim().parse().unwrap_or(ran.seconds);
        Measured { per_second: messages as f64 / seconds, cpu_us: cpu_us_per_message(ran.cpu, messages) }
    }

    fn command(self, port: u16, count: u64) -> Command {
        if self == Subscriber::MosquittoSub {
            let mut command = Command::new("mosquitto_sub");
            command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-V", "5"]);
            command.args(["-i", "plain-mosquitto", "-c", "-x", "3600"]);
            command.args(["-q", "1", "-t", "room/#", "-F", " "]);
            if count > 0 {
                command.args(["-C", &count.to_string()]);
            }
            return command;
        }
        child(["subscriber", &port.to_string(), "plain-by-hand", &count.to_string()])
    }
}

pub fn child<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a process knows its program"));
    command.arg("child").args(arguments);
    command
}

/// A child process that has ended well.
pub struct Ran {
    pub printed: String,
    pub seconds: f64,
    pub cpu: Duration,
}

pub fn run_child(name: &str, command: Command, scratch: &Scratch) -> Ran {
    let log = scratch.join("child.log");
    let started = Instant::now();
    let mut process = Process::spawn("child", command, &log);
    let cpu = process_usage::cpu_when_ended(process.pid(), DEADLINE);
    let seconds = started.elapsed().as_secs_f64();
    let status = process.wait_exit(Duration::from_secs(5));
    let printed = process.log_text();
    assert!(status.success(), "{name}: {status} {printed}");
    Ran { printed, seconds, cpu }
}
