//! The programs that are compared: each takes messages from MQTT to RocketMQ. Says how each is started, and when it is
//! ready; what it then does is told from outside.

mod commands;

use std::time::Duration;

use crate::harness::apache::ApacheRocketMq;
use crate::harness::bridge::get;
use crate::harness::metrics::Metrics;
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::stages::say;
pub use commands::{baseline, roombridge};

const READY: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Candidate {
    /// roombridge as it is.
    Today,
    /// roombridge as it was at the commit that the Makefile names.
    Baseline,
    /// The way alone, without what makes it a product: the floor.
    Lean,
    /// What a user would write by hand.
    Java,
}

use Candidate::{Baseline, Java, Lean, Today};

/// They have metrics, a spool, and topics by template.
pub const BRIDGES: &[Candidate] = &[Today, Baseline];
pub const NATIVE: &[Candidate] = &[Today, Baseline, Lean];
pub const ALL: &[Candidate] = &[Today, Baseline, Lean, Java];

impl Candidate {
    pub fn name(self) -> &'static str {
        match self {
            Today => "roombridge",
            Baseline => "baseline",
            Lean => "lean",
            Java => "Java by hand",
        }
    }

    /// All but a baseline that nobody built.
    pub fn is_here(self) -> bool {
        self != Baseline || baseline().is_some()
    }
}

/// Those that are here, in an order that is another one in each round.
pub fn in_turn(candidates: &[Candidate], round: usize) -> Vec<Candidate> {
    let mut here: Vec<_> = candidates.iter().copied().filter(|candidate| candidate.is_here()).collect();
    let first = round % here.len();
    here.rotate_left(first);
    here
}

/// Where messages come from, and where they go.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    pub mqtt_port: u16,
    pub rocketmq: &'a ApacheRocketMq,
    /// Only `room/#` for those that are not `BRIDGES`.
    pub filter: &'a str,
    /// A template for `BRIDGES`, a topic for the others.
    pub topic: &'a str,
    pub queues: u32,
}

/// One candidate with a folder of its own, which it keeps from start to start.
pub struct Program {
    candidate: Candidate,
    mqtt_port: u16,
    broker: String,
    name_server: String,
    topic: String,
    queues: u32,
    http_port: u16,
    starts: u32,
    // The last field, so that the processes are gone before their folder is.
    scratch: Scratch,
}

impl Program {
    pub fn new(candidate: Candidate, site: Site) -> Program {
        let scratch = Scratch::new("candidate");
        let http_port = crate::harness::ports::free_port();
        let name_server = site.rocketmq.name_server();
        let config = format!(
            "data_dir = \"{}\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\nclient_id = \"{candidate:?}\"\n\
             [rocketmq]\nname_servers = [\"{name_server}\"]\n[http]\nlisten = \"127.0.0.1:{http_port}\"\n\
             [[binding]]\nfilter = \"{}\"\ntopic = \"{}\"\n",
            scratch.join("data").display(),
            site.mqtt_port,
            site.filter,
            site.topic,
        );
        scratch.write("roombridge.toml", &config);
        Program {
            candidate,
            mqtt_port: site.mqtt_port,
            broker: site.rocketmq.broker(),
            name_server,
            topic: site.topic.to_owned(),
            queues: site.queues,
            http_port,
            starts: 0,
            scratch,
        }
    }

    pub fn candidate(&self) -> Candidate {
        self.candidate
    }

    /// Returns at once; one at a time.
    pub fn start(&mut self) -> Running {
        self.starts += 1;
        let log = self.scratch.join(&format!("{}.log", self.starts));
        let process = Process::spawn(self.candidate.name(), self.command(), &log);
        let is_bridge = BRIDGES.contains(&self.candidate);
        let maybe_http = is_bridge.then(|| format!("http://127.0.0.1:{}", self.http_port));
        Running { candidate: self.candidate, process, maybe_http }
    }

    /// Starts it and ends it again, so that the MQTT broker keeps messages for it from then on.
    pub fn make_session(&mut self) {
        let mut running = self.start();
        running.wait_ready();
        running.stop();
    }
}

pub struct Running {
    candidate: Candidate,
    process: Process,
    /// Where those of `BRIDGES` answer.
    maybe_http: Option<String>,
}

impl Running {
    /// Of a process that lives; panics with its log when it has ended.
    pub fn pid(&mut self) -> u32 {
        let running = self.process.is_running();
        assert!(running, "{} has ended by itself:\n{}", self.candidate.name(), self.process.log_text());
        self.process.pid()
    }

    /// Until it is subscribed.
    pub fn wait_ready(&mut self) {
        let maybe_http = &self.maybe_http;
        self.process.wait_ready(READY, |process| match maybe_http {
            Some(http) => get(&format!("{http}/readyz")).is_some_and(|(status, _)| status == 200),
            None => process.log_text().contains("READY"),
        });
    }

    /// Nothing from those that have none, and from one that still starts.
    pub fn maybe_metrics(&self) -> Option<Metrics> {
        let (_, text) = get(&format!("{}/metrics", self.maybe_http.as_ref()?))?;
        Some(Metrics::parse(&text))
    }

    /// One number of its metrics; of those of `BRIDGES` only.
    pub fn value(&self, name: &str) -> f64 {
        self.maybe_metrics().map_or(f64::NAN, |metrics| metrics.value(name, &[]))
    }

    /// How many messages it sent together, on average.
    pub fn maybe_messages_in_a_batch(&self) -> Option<f64> {
        let metrics = self.maybe_metrics()?;
        let sum = metrics.value("roombridge_batch_messages_sum", &[]);
        Some(sum / metrics.value("roombridge_batch_messages_count", &[]))
    }

    /// SIGTERM, so that everything stored is acknowledged as well. One that does not end well is no reason to stop measuring.
    pub fn stop(mut self) {
        self.process.terminate();
        let status = self.process.wait_exit(STOP);
        // Only a bridge drains; the others end of the signal.
        if self.maybe_http.is_some() && !status.success() {
            say(&format!("a bridge did not drain: {status}"));
        }
    }
}
