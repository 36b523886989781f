//! What surrounds the process: systemd and its unit, and the variables that others set.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use roombridge::testing::config::Config;

use crate::support::bridge::{Bridge, binary};
use crate::support::ports::{free_port, wait_until};
use crate::support::process::run_to_end;
use crate::support::scratch::Scratch;

const PATIENCE: Duration = Duration::from_secs(30);
/// A stop asks for so much more than its drain.
const AFTER_THE_DRAIN_S: u64 = 10;

/// The other end of NOTIFY_SOCKET.
struct ServiceManager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl ServiceManager {
    fn listen(path: &Path) -> ServiceManager {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        ServiceManager { socket, heard: Vec::new() }
    }

    /// Returns with the line that begins so.
    #[track_caller]
    fn wait_for(&mut self, wanted: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        while Instant::now() < end {
            if let Ok(count) = self.socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                let lines: Vec<String> = text.lines().map(str::to_owned).collect();
                self.heard.extend(lines.iter().cloned());
                if let Some(line) = lines.into_iter().find(|line| line.starts_with(wanted)) {
                    return line;
                }
            }
        }
        panic!("{wanted} was not said in {PATIENCE:?}, but {:?}", self.heard);
    }
}

/// Both brokers are away.
fn nobody_there() -> String {
    format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n[rocketmq]\nname_servers = [\"127.0.0.1:{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\n[shutdown]\ndrain_s = 7\n",
        free_port(),
        free_port()
    )
}

fn bridge_told_of(socket: &Path, watchdog: Duration) -> Bridge {
    let variables = [
        ("NOTIFY_SOCKET", socket.to_str().unwrap().to_owned()),
        ("WATCHDOG_USEC", watchdog.as_micros().to_string()),
        // An empty one counts as not set: the answers are asked of this process.
        ("WATCHDOG_PID", String::new()),
    ];
    Bridge::start_with_variables(&nobody_there(), &variables)
}

#[test]
fn a_start_with_both_brokers_away_is_ready_lives_and_says_how_long_its_stop_may_take() {
    let scratch = Scratch::new("systemd");
    let path = scratch.join("notify");
    let mut manager = ServiceManager::listen(&path);

    // When it starts, with nobody there
    let mut bridge = bridge_told_of(&path, Duration::from_secs(3));

    // Then it is ready, and its listener answers
    manager.wait_for("READY=1");
    assert!(bridge.get("/healthz").is_some());
    // and it says again and again that it lives
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }

    // When it stops, then it asks for its drain and 10 s
    bridge.terminate();
    manager.wait_for("STOPPING=1");
    let extended = format!("EXTEND_TIMEOUT_USEC={}000000", 7 + AFTER_THE_DRAIN_S);
    assert!(manager.heard.contains(&extended), "{:?}", manager.heard);
}

#[test]
fn empty_variables_of_systemd_count_as_not_set() {
    let empty = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].map(|name| (name, String::new()));
    let mut bridge = Bridge::start_with_variables(&nobody_there(), &empty);
    wait_until("the bridge answers", PATIENCE, || bridge.get("/healthz").is_some());
    bridge.terminate();
    bridge.wait_exit(PATIENCE);
    let log = bridge.log_text();
    assert!(log.contains("stopping") && !log.contains("could not be told"), "{log}");
}

fn unit_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/roombridge.service")
}

/// systemd takes a unit without any of these, too.
#[test]
fn the_unit_waits_for_the_start_and_the_drain_and_knows_the_exit_codes() {
    let text = std::fs::read_to_string(unit_file()).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let settings: BTreeMap<&str, &str> = lines.filter_map(|line| line.split_once('=')).collect();
    for (name, value) in [
        ("Type", "notify"),
        ("Restart", "on-failure"),
        ("SuccessExitStatus", "3"),
        ("RestartPreventExitStatus", "2"),
    ] {
        assert_eq!(settings.get(name), Some(&value), "{name}");
    }
    // Long enough for a disk that stands still for a while, and short enough that somebody notices.
    let seconds = |name: &str| settings[name].parse::<u64>().unwrap();
    assert!((10..=300).contains(&seconds("WatchdogSec")), "{}", seconds("WatchdogSec"));

    // The drain of a configuration that says nothing of it fits, before the process has asked for its time
    let config = "[mqtt]\nurl = \"mqtt://127.0.0.1\"\n[rocketmq]\nname_servers = [\"127.0.0.1:9876\"]\n";
    let config = Config::from_toml("default", config, &BTreeMap::new()).unwrap();
    let needed_s = config.shutdown.drain.as_secs() + AFTER_THE_DRAIN_S;
    assert!(seconds("TimeoutStopSec") >= needed_s, "{needed_s} s are needed");

    // And a wrong configuration ends with the code that starts nothing again
    let code = settings["RestartPreventExitStatus"].parse().unwrap();
    told(&["run", "--config", "/nowhere/roombridge.toml"], &[], code);
}

#[test]
fn the_unit_is_one_that_systemd_takes_and_gives_few_rights() {
    // systemd looks whether the program is there.
    let text = std::fs::read_to_string(unit_file()).unwrap().replace("/usr/local/bin/roombridge", binary());
    let scratch = Scratch::new("unit");
    let copy = scratch.join("roombridge.service");
    std::fs::write(&copy, text).unwrap();
    for arguments in [&["verify", "--man=no"][..], &["security", "--offline=true", "--threshold=25"]] {
        let mut command = Command::new("systemd-analyze");
        command.args(arguments).arg(&copy);
        let output = run_to_end(command, PATIENCE);
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "systemd-analyze {arguments:?}: {said}");
        let of_ours =
            said.lines().find(|line| line.contains("roombridge.service:") && line.contains("Unknown"));
        assert_eq!(of_ours, None, "{said}");
    }
}

/// Kubernetes sets such variables in each pod where a Service is named roombridge.
#[test]
fn a_pod_beside_a_service_of_our_name_starts_and_says_once_what_it_left_alone() {
    let variables = [
        ("ROOMBRIDGE_PORT", "tcp://10.96.0.7:9464".to_owned()),
        ("ROOMBRIDGE_PORT_9464_TCP_ADDR", "10.96.0.7".to_owned()),
        ("ROOMBRIDGE_SERVICE_HOST", "10.96.0.7".to_owned()),
        ("ROOMBRIDGE_LOG", String::new()),
    ];
    let bridge = Bridge::start_with_variables(&nobody_there(), &variables);
    wait_until("the bridge answers", PATIENCE, || bridge.get("/healthz").is_some());
    let log = bridge.log_text();
    let lines: Vec<&str> =
        log.lines().filter(|line| line.contains("ROOMBRIDGE_PORT_9464_TCP_ADDR")).collect();
    assert!(lines.len() == 1 && lines[0].contains("INFO") && lines[0].contains("Kubernetes"), "{log}");
}

#[test]
fn an_empty_variable_counts_as_not_set_for_arguments_too() {
    let home = Scratch::new("home");
    let said =
        told(&["history", "1"], &[("ROOMBRIDGE_CONFIG", ""), ("HOME", home.path().to_str().unwrap())], 1);
    assert!(said.contains("no `roombridge dev` runs"), "{said}");
}

#[test]
fn a_local_time_is_refused_where_the_time_zone_is_not_understood() {
    let said = told(&["history", "1", "--from", "2026-11-24 10:00"], &[("TZ", "Mars/Olympus")], 2);
    assert!(said.contains("TZ=Mars/Olympus is not understood") && said.contains("tzdata"), "{said}");
}

#[test]
fn times_are_shown_in_utc_with_one_word_where_the_time_zone_is_not_understood() {
    let secret = ("ROOMBRIDGE_ACCESS_SECRET", "s3cret");
    let said = told(&["token", "issue"], &[("TZ", "Mars"), secret], 0);
    assert_eq!(said.matches("TZ=Mars is not understood").count(), 1, "{said}");
    assert!(said.contains("UTC is taken") && said.contains("+00:00"), "{said}");
    let said = told(&["token", "issue"], &[("TZ", "CST-8"), secret], 0);
    assert!(!said.contains("is not understood") && said.contains("+08:00"), "{said}");
    // An empty one is that of the machine.
    let said = told(&["token", "issue"], &[("TZ", ""), secret], 0);
    assert!(!said.contains("is not understood"), "{said}");
}

#[test]
fn days_are_counted_in_utc_with_a_word_where_the_time_zone_is_not_understood() {
    let home = Scratch::new("home");
    let home = ("HOME", home.path().to_str().unwrap());
    for (span, needs_a_zone) in [("1d", true), ("1w", true), ("2h", false)] {
        let arguments = ["history", "1", "--from", span, "--json"];
        let said = told(&arguments, &[("TZ", "Mars"), ("ROOMBRIDGE_CONFIG", ""), home], 1);
        assert_eq!(said.matches("TZ=Mars is not understood").count(), usize::from(needs_a_zone), "{said}");
    }
}

#[test]
fn a_time_of_day_without_a_day_is_refused_with_both_ways_to_write_it() {
    for time in ["10:00", "10:00:00"] {
        let said = told(&["history", "1", "--from", time], &[], 2);
        assert!(said.contains("'2026-11-24 10:00'") && said.contains("10h 30m"), "{said}");
    }
}

/// Runs the command, which must end with that code; returns what it said on standard error.
#[track_caller]
fn told(arguments: &[&str], variables: &[(&str, &str)], code: i32) -> String {
    let mut command = Command::new(binary());
    command.args(arguments).envs(variables.iter().copied()).env_remove("XDG_DATA_HOME");
    let output = run_to_end(command, PATIENCE);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}
