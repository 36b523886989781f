//! Mosquitto, the MQTT broker that the tests run against.

use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::certificates::Certificates;
use super::ports::{accepts_connections, free_port};
use super::process::{Process, run_to_end};
use super::scratch::Scratch;

const READY: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    Off,
    /// Sessions survive `stop`, not `kill` (Mosquitto's way, apart from a save every 30 minutes).
    AtStop,
    /// Sessions survive `kill`. Slow with long queues: the whole store is written after each change.
    EachChange,
}

pub struct MosquittoOptions {
    pub persistence: Persistence,
    /// Limits the unacknowledged messages to one subscriber, and is the receive maximum for publishers.
    pub max_inflight_messages: u32,
    /// 0 = no limit. Mosquitto's own default, 1000, drops what an offline session does not fetch.
    pub max_queued_messages: u32,
    /// User and password; without them everybody may connect.
    pub credentials: Option<(String, String)>,
    /// Adds a second listener with TLS.
    pub tls: bool,
    pub extra_lines: Vec<String>,
}

impl Default for MosquittoOptions {
    fn default() -> Self {
        MosquittoOptions {
            persistence: Persistence::AtStop,
            max_inflight_messages: 1000,
            max_queued_messages: 0,
            credentials: None,
            tls: false,
            extra_lines: Vec::new(),
        }
    }
}

pub struct Mosquitto {
    process: Process,
    port: u16,
    tls_port: Option<u16>,
    certificates: Option<Certificates>,
    credentials: Option<(String, String)>,
    starts: u32,
    // The last field, so that the process is gone before its folder is.
    scratch: Scratch,
}

impl Mosquitto {
    pub fn start(options: MosquittoOptions) -> Mosquitto {
        let scratch = Scratch::new("mosquitto");
        let port = free_port();
        let tls_port = options.tls.then(free_port);
        let certificates = options.tls.then(|| Certificates::new(&scratch));
        if let Some((user, password)) = &options.credentials {
            write_password_file(&scratch, user, password);
        }
        let config = config_text(&options, &scratch, port, tls_port.zip(certificates.as_ref()));
        scratch.write("mosquitto.conf", &config);
        let process = launch(&scratch, port, 1);
        Mosquitto {
            process,
            port,
            tls_port,
            certificates,
            credentials: options.credentials,
            starts: 1,
            scratch,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Only with the option `tls`.
    pub fn tls_url(&self) -> String {
        format!("mqtts://127.0.0.1:{}", self.tls_port.expect("started with tls"))
    }

    /// Only with the option `tls`.
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("started with tls")
    }

    pub fn credentials(&self) -> Option<&(String, String)> {
        self.credentials.as_ref()
    }

    /// SIGTERM: it writes its sessions and ends.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.terminate();
        self.process.wait_exit(Duration::from_secs(15))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn pause(&mut self) {
        self.process.pause();
    }

    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Saves its sessions as they are now (SIGUSR1).
    pub fn save_now(&mut self) {
        self.process.signal(rustix::process::Signal::USR1);
    }

    /// After `stop` or `kill`: the same port, the same data.
    pub fn start_again(&mut self) {
        assert!(!self.process.is_running(), "Mosquitto still runs");
        self.starts += 1;
        self.process = launch(&self.scratch, self.port, self.starts);
    }

    /// What it logged since its last start.
    pub fn log_text(&self) -> String {
        self.process.log_text()
    }
}

fn launch(scratch: &Scratch, port: u16, start: u32) -> Process {
    let mut command = Command::new(binary());
    command.arg("-c").arg(scratch.join("mosquitto.conf"));
    let mut process = Process::spawn("mosquitto", command, &scratch.join(&format!("mosquitto-{start}.log")));
    process.wait_ready(READY, |_| accepts_connections(port));
    process
}

fn binary() -> &'static str {
    // Debian keeps it where only root's PATH looks.
    if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" }
}

fn write_password_file(scratch: &Scratch, user: &str, password: &str) {
    let mut command = Command::new("mosquitto_passwd");
    command.args(["-b", "-c"]).arg(scratch.join("passwords")).args([user, password]);
    let output = run_to_end(command, Duration::from_secs(10));
    assert!(output.status.success(), "mosquitto_passwd: {}", String::from_utf8_lossy(&output.stderr));
}

fn config_text(
    options: &MosquittoOptions,
    scratch: &Scratch,
    port: u16,
    tls: Option<(u16, &Certificates)>,
) -> String {
    let folder = scratch.path().display();
    let mut lines = vec![
        // Giving up root would also cancel the signal that ends it with the tests.
        "user root".to_owned(),
        "log_dest stderr".to_owned(),
        "set_tcp_nodelay true".to_owned(),
        format!("max_inflight_messages {}", options.max_inflight_messages),
        format!("max_queued_messages {}", options.max_queued_messages),
    ];
    match options.credentials {
        Some(_) => lines.push(format!("allow_anonymous false\npassword_file {folder}/passwords")),
        None => lines.push("allow_anonymous true".to_owned()),
    }
    match options.persistence {
        Persistence::Off => lines.push("persistence false".to_owned()),
        Persistence::AtStop => lines.push(format!("persistence true\npersistence_location {folder}/")),
        Persistence::EachChange => lines.push(format!(
            "persistence true\npersistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1"
        )),
    }
    lines.push(format!("listener {port} 127.0.0.1"));
    if let Some((tls_port, certificates)) = tls {
        lines.push(format!("listener {tls_port} 127.0.0.1"));
        lines.push(format!("certfile {}", certificates.server_certificate_file.display()));
        lines.push(format!("keyfile {}", certificates.server_key_file.display()));
    }
    lines.extend(options.extra_lines.iter().cloned());
    lines.join("\n") + "\n"
}
