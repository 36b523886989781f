//! `roombridge dev` under test: both brokers and the bridge in one process, and the commands that read from it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::metrics::Metrics;
use super::ports::wait_until;
use super::process::{Process, run_to_end};
use super::scratch::Scratch;

const READY: Duration = Duration::from_secs(20);
const BINARY: &str = env!("CARGO_BIN_EXE_roombridge");
const FREE_PORTS: [&str; 14] = [
    "--mqtt-port",
    "0",
    "--websocket-port",
    "0",
    "--name-server-port",
    "0",
    "--broker-port",
    "0",
    "--http-port",
    "0",
    "--web-port",
    "0",
    "--login-port",
    "0",
];
/// Clients may publish where they like: these stories are about the bridge, not about the class.
const EVERYBODY: [&str; 2] = ["--auth", "none"];

pub struct Dev {
    process: Process,
    arguments: Vec<String>,
    starts: u32,
    /// From the start of the process until it said that it is ready.
    pub ready_after: Duration,
    // The last field, so that the process is gone before its folder is.
    scratch: Scratch,
}

impl Dev {
    /// On free ports and an empty folder; returns when it says that it is ready.
    #[track_caller]
    pub fn start() -> Dev {
        Dev::start_with(&EVERYBODY)
    }

    /// With these arguments besides.
    #[track_caller]
    pub fn start_with(arguments: &[&str]) -> Dev {
        let scratch = Scratch::new("dev");
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (process, ready_after) = launch(&scratch, 1, &arguments);
        Dev { process, arguments, starts: 1, ready_after, scratch }
    }

    /// After `kill`, or after `terminate` and `wait_exit`: the same folder, new ports.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(!self.process.is_running(), "dev still runs");
        self.starts += 1;
        (self.process, self.ready_after) = launch(&self.scratch, self.starts, &self.arguments);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM; see `wait_exit`.
    pub fn terminate(&mut self) {
        self.process.terminate();
    }

    #[track_caller]
    pub fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        self.process.wait_exit(deadline)
    }

    /// Banner and log.
    pub fn output(&self) -> String {
        self.process.log_text()
    }

    /// What stands in the folder that was given with --data.
    pub fn data(&self) -> PathBuf {
        self.scratch.join("data")
    }

    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// One of the addresses that dev left for the other commands: `mqtt`, `websocket`, `name_server` or `http`.
    #[track_caller]
    pub fn address(&self, name: &str) -> String {
        let text = fs::read_to_string(self.data().join("dev.json")).expect("dev leaves its addresses");
        let instance: Value = serde_json::from_str(&text).expect("dev.json is JSON");
        instance[name].as_str().unwrap_or_else(|| panic!("dev.json has {name}")).to_owned()
    }

    #[track_caller]
    pub fn mqtt_port(&self) -> u16 {
        let address = self.address("mqtt");
        address.rsplit(':').next().unwrap().parse().unwrap()
    }

    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.get("/metrics").1)
    }

    /// Status and body.
    #[track_caller]
    pub fn get(&self, path: &str) -> (u16, String) {
        http("GET", &format!("http://{}{path}", self.address("http")), &[], None)
    }

    #[track_caller]
    pub fn wait_stored(&self, count: f64) {
        wait_until(&format!("{count} messages are stored"), Duration::from_secs(20), || {
            self.metrics().value("roombridge_stored_total", &[]) >= count
        });
    }

    /// `roombridge ARGUMENTS --data DIR`.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let data = self.data().display().to_string();
        cli_at_home(&self.scratch, &[arguments, &["--data", &data]].concat())
    }

    /// `roombridge ARGUMENTS --json --data DIR`, which must succeed: one value for each line. The topic is made for the
    /// first message, so before that nothing is there.
    #[track_caller]
    pub fn json_lines(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.cli(&[arguments, &["--json"]].concat());
        let error = stderr(&output);
        if error.contains("nothing was stored there yet") {
            return Vec::new();
        }
        assert!(output.status.success(), "{arguments:?}: {error}");
        let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Reads the history of a room until it has so many messages: RocketMQ shows a message some milliseconds after it
    /// confirmed it.
    #[track_caller]
    pub fn history(&self, room: &str, count: usize) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let found = self.json_lines(&["history", room]);
            if found.len() >= count {
                return found;
            }
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{count} messages in room {room}, found {found:#?}"
            );
        }
    }
}

/// One request, by a client that knows nothing of us: status and body.
#[track_caller]
pub fn http(method: &str, url: &str, headers: &[(&str, &str)], body: Option<&str>) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into();
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let request = request.body(body.unwrap_or_default().to_owned()).expect("a request");
    let mut response = agent.run(request).expect("dev answers");
    let text = response.body_mut().read_to_string().expect("an answer");
    (response.status().as_u16(), text)
}

/// Runs `roombridge ARGUMENTS` as a user whose home is that folder, without any configuration.
#[track_caller]
pub fn cli_at_home(home: &Scratch, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments).env("HOME", home.path());
    for name in ["XDG_DATA_HOME", "ROOMBRIDGE_CONFIG", "ROOMBRIDGE_LOG"] {
        command.env_remove(name);
    }
    run_to_end(command, Duration::from_secs(60))
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The arguments of `roombridge dev` on free ports in that folder.
pub fn dev_arguments(data: &str) -> Vec<&str> {
    [&["dev", "--data", data], &FREE_PORTS[..]].concat()
}

fn launch(scratch: &Scratch, start: u32, arguments: &[String]) -> (Process, Duration) {
    let data = scratch.join("data").display().to_string();
    let mut command = Command::new(BINARY);
    command
        .args(dev_arguments(&data))
        .args(arguments)
        .env("HOME", scratch.path())
        .env_remove("ROOMBRIDGE_LOG");
    let begun = Instant::now();
    let mut process = Process::spawn("dev", command, &scratch.join(&format!("dev-{start}.log")));
    process.wait_ready(READY, |process| process.log_text().contains("Ready after"));
    (process, begun.elapsed())
}
