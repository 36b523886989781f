//! The roombridge binary under test: run it with a configuration, break it, read its metrics.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use toml::{Table, Value};

use super::metrics::Metrics;
use super::ports::free_port;
use super::process::{Process, run_to_end};
use super::scratch::Scratch;
use super::steps::{Step, wait_for_stop};

const READY: Duration = Duration::from_secs(30);
const BINARY: &str = env!("CARGO_BIN_EXE_roombridge");

pub struct Bridge {
    process: Process,
    http_port: u16,
    starts: u32,
    variables: Vec<(String, String)>,
    data_dir: PathBuf,
    // The last field, so that the process is gone before its folder is.
    scratch: Scratch,
}

impl Bridge {
    /// Runs `roombridge run` and waits until it says that it is ready. `data_dir`, `[http] listen` and, in a table
    /// `[archive]`, `dir` are filled in where the configuration does not say them.
    #[track_caller]
    pub fn start(config_toml: &str) -> Bridge {
        let mut bridge = Bridge::start_without_waiting(config_toml);
        bridge.wait_ready();
        bridge
    }

    #[track_caller]
    pub fn start_without_waiting(config_toml: &str) -> Bridge {
        Bridge::start_with_variables(config_toml, &[])
    }

    /// With variables in its environment, at each start; does not wait until it is ready.
    #[track_caller]
    pub fn start_with_variables(config_toml: &str, variables: &[(&str, String)]) -> Bridge {
        Bridge::start_speaking_to(config_toml, variables, None)
    }

    /// At its first start standard error is that one instead of the log that `log_text` reads.
    #[track_caller]
    pub fn start_speaking_to(
        config_toml: &str,
        variables: &[(&str, String)],
        error: Option<Stdio>,
    ) -> Bridge {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let scratch = Scratch::new("bridge");
        let mut config: Table = config_toml.parse().expect("the test's configuration is TOML");
        let data_dir = Value::String(scratch.join("data").display().to_string());
        let data_dir = config.entry("data_dir").or_insert(data_dir).as_str();
        let data_dir = PathBuf::from(data_dir.expect("data_dir is a string"));
        if let Some(archive) = config.get_mut("archive").and_then(Value::as_table_mut) {
            let dir = Value::String(scratch.join("archive").display().to_string());
            archive.entry("dir").or_insert(dir);
        }
        let http_port = http_port(&mut config);
        scratch.write("roombridge.toml", &config.to_string());
        let process = launch(&scratch, 1, &variables, error);
        Bridge { process, http_port, starts: 1, variables, data_dir, scratch }
    }

    /// Until /readyz answers 200; panics with the log after 30 seconds.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let url = self.url("/readyz");
        self.process.wait_ready(READY, |_| get(&url).is_some_and(|(status, _)| status == 200));
    }

    /// After `kill`, or after `terminate` and `wait_exit`: the same configuration, the same data.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.start_again_without_waiting();
        self.wait_ready();
    }

    #[track_caller]
    pub fn start_again_without_waiting(&mut self) {
        self.launch_again(None);
    }

    /// With standard error there; does not wait.
    #[track_caller]
    pub fn start_again_speaking_to(&mut self, error: Stdio) {
        self.launch_again(Some(error));
    }

    #[track_caller]
    fn launch_again(&mut self, error: Option<Stdio>) {
        assert!(!self.process.is_running(), "the bridge still runs");
        self.starts += 1;
        self.process = launch(&self.scratch, self.starts, &self.variables, error);
    }

    /// Of the environment, from the next start on.
    pub fn set_variables(&mut self, variables: &[(&str, String)]) {
        self.variables = variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    }

    /// Until it stands still at the step that its variables name.
    #[track_caller]
    pub fn wait_for_stop(&mut self, step: Step) {
        wait_for_stop(&mut self.process, step, READY);
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

    pub fn pause(&mut self) {
        self.process.pause();
    }

    pub fn resume(&mut self) {
        self.process.resume();
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http_port)
    }

    /// Status and body; `None` while nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        get(&self.url(path))
    }

    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let (status, text) = self.get("/metrics").expect("the bridge answers /metrics");
        assert_eq!(status, 200, "/metrics: {text}");
        Metrics::parse(&text)
    }

    pub fn books_balanced(&self) -> bool {
        self.metrics().books().balanced()
    }

    /// Asks again for 5 seconds, because a scrape in the middle of work may catch a message between two counters.
    #[track_caller]
    pub fn assert_books_balanced(&self) {
        let start = Instant::now();
        loop {
            let books = self.metrics().books();
            if books.balanced() {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(5), "the books do not balance: {books}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the configuration says, or a folder of its own.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The folder that holds the configuration and the logs. What it keeps is in `data_dir`.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// For `roombridge SUBCOMMAND --config FILE`.
    pub fn config_file(&self) -> String {
        self.scratch.join("roombridge.toml").display().to_string()
    }

    /// What it logged since its last start.
    pub fn log_text(&self) -> String {
        self.process.log_text()
    }
}

pub fn binary() -> &'static str {
    BINARY
}

/// Runs `roombridge ARGUMENTS` to its end, for 60 seconds at most.
#[track_caller]
pub fn roombridge_cli(arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    run_to_end(command, Duration::from_secs(60))
}

fn launch(scratch: &Scratch, start: u32, variables: &[(String, String)], error: Option<Stdio>) -> Process {
    let mut command = Command::new(BINARY);
    command
        .arg("run")
        .arg("--config")
        .arg(scratch.join("roombridge.toml"))
        .envs(variables.iter().map(|(name, value)| (name, value)));
    let log = scratch.join(&format!("roombridge-{start}.log"));
    match error {
        Some(error) => Process::spawn_speaking_to("roombridge", command, &log, Stdio::null(), error),
        None => Process::spawn("roombridge", command, &log),
    }
}

/// Where the configuration says that the bridge listens for HTTP, made up where it does not.
fn http_port(config: &mut Table) -> u16 {
    let http = config.entry("http").or_insert(Value::Table(Table::new()));
    let http = http.as_table_mut().expect("[http] is a table");
    let listen = http.entry("listen").or_insert_with(|| Value::String(format!("127.0.0.1:{}", free_port())));
    let listen = listen.as_str().expect("[http] listen is a string");
    listen.rsplit(':').next().and_then(|port| port.parse().ok()).expect("[http] listen ends with a port")
}

pub fn get(url: &str) -> Option<(u16, String)> {
    let request = ureq::get(url).config().timeout_global(Some(Duration::from_secs(2)));
    // A proxy of the machine has no business on loopback.
    let mut response = request.http_status_as_error(false).proxy(None).build().call().ok()?;
    let text = response.body_mut().read_to_string().ok()?;
    Some((response.status().as_u16(), text))
}
