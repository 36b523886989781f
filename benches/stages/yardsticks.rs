//! Runs the two yardsticks, and mosquitto_sub, as child processes.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{DEADLINE, MESSAGES, cpu_us_per_message};
use crate::harness::process::{Process, run_to_end};
use crate::harness::scratch::Scratch;
use crate::support::process_usage;

/// What a yardstick took for all messages.
#[derive(Clone, Copy)]
pub struct Measured {
    pub per_second: f64,
    pub cpu_us: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subscriber {
    ByHand,
    ByTheClient,
    MosquittoSub,
}

impl Subscriber {
    pub const ALL: [Subscriber; 3] = [Subscriber::ByHand, Subscriber::ByTheClient, Subscriber::MosquittoSub];

    pub fn name(self) -> &'static str {
        match self {
            Subscriber::ByHand => "rumqttc, acknowledging by hand",
            Subscriber::ByTheClient => "rumqttc, acknowledging by itself",
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

    pub fn drain(self, port: u16, scratch: &Scratch) -> Measured {
        let started = Instant::now();
        let (output, cpu_us) = run_child(self.name(), self.command(port, MESSAGES), scratch);
        // mosquitto_sub says nothing; connecting takes it some milliseconds.
        let seconds = output.unwrap_or(started.elapsed().as_secs_f64());
        Measured { per_second: MESSAGES as f64 / seconds, cpu_us }
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
        let acks = if self == Subscriber::ByHand { "by-hand" } else { "by-the-client" };
        child(["subscriber", &port.to_string(), &format!("plain-{acks}"), &count.to_string(), acks])
    }
}

/// RocketMQ alone, fed by the bridge's producer.
pub fn store_rate(config_file: &Path, batch_messages: u64, messages: u64, scratch: &Scratch) -> Measured {
    let (batch, count) = (batch_messages.to_string(), messages.to_string());
    let command = child(["store", &config_file.display().to_string(), &batch, &count]);
    let (seconds, _) = run_child("the producer alone", command, scratch);
    Measured { per_second: messages as f64 / seconds.expect("the child prints its seconds"), cpu_us: 0.0 }
}

fn child<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a process knows its program"));
    command.arg("child").args(arguments);
    command
}

/// The seconds that it printed, if it did, and its processor time for each message.
fn run_child(name: &str, command: Command, scratch: &Scratch) -> (Option<f64>, f64) {
    let log = scratch.join("child.log");
    let mut process = Process::spawn("child", command, &log);
    let cpu = process_usage::cpu_when_ended(process.pid(), DEADLINE);
    let status = process.wait_exit(Duration::from_secs(5));
    assert!(status.success(), "{name}: {status} {}", process.log_text());
    let seconds = process.log_text().trim().parse().ok();
    (seconds, cpu_us_per_message(cpu, MESSAGES))
}
