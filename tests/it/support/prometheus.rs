//! Debian's Prometheus with deploy/alerts.yml: scrapes and judges every second.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::bridge::get;
use super::ports::{free_port, wait_until};
use super::process::Process;
use super::scratch::Scratch;

const READY: Duration = Duration::from_secs(60);
/// From what happens to the alert: a scrape, an evaluation, and a `for` of two seconds.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Prometheus {
    _process: Process,
    port: u16,
    // The last field, so that the process is gone before its folder is.
    scratch: Scratch,
}

impl Prometheus {
    /// `job` scrapes what `watch` names, at first nothing. A `for` of minutes becomes one of two seconds, since nobody can
    /// wait for it here.
    pub fn start(rules: &str, job: &str) -> Prometheus {
        let scratch = Scratch::new("prometheus");
        let rules = rules.lines().map(|line| match line.trim_start().strip_prefix("for: ") {
            Some(_) => "        for: 2s",
            None => line,
        });
        scratch.write("alerts.yml", &rules.collect::<Vec<_>>().join("\n"));
        let config = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": ["alerts.yml"],
            "scrape_configs": [{ "job_name": job, "file_sd_configs": [{ "files": ["targets.json"] }] }],
        });
        // JSON is YAML.
        scratch.write("prometheus.yml", &config.to_string());
        let port = free_port();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", scratch.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", scratch.join("store").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut process = Process::spawn("prometheus", command, &scratch.join("prometheus.log"));
        let ready = format!("http://127.0.0.1:{port}/-/ready");
        process.wait_ready(READY, |_| get(&ready).is_some_and(|(status, _)| status == 200));
        Prometheus { _process: process, port, scratch }
    }

    /// What the discovery knows from now on, each as `host:port`.
    pub fn watch(&self, targets: &[&str]) {
        // In one step, because it is read as soon as it changes.
        let new = self.scratch.write("targets.new", &json!([{ "targets": targets }]).to_string());
        std::fs::rename(new, self.scratch.join("targets.json")).expect("a file can be renamed");
    }

    fn ask(&self, path: &str) -> Value {
        let answer = get(&format!("http://127.0.0.1:{}/api/v1/{path}", self.port));
        let (_, text) = answer.expect("Prometheus answers");
        serde_json::from_str(&text).expect("Prometheus answers JSON")
    }

    /// Of the only series of this name; `None` if there is none now.
    pub fn value(&self, name: &str) -> Option<f64> {
        let answer = self.ask(&format!("query?query={name}"));
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    /// Labels and annotations of each alert that fires.
    pub fn firing(&self) -> Vec<Value> {
        let answer = self.ask("alerts");
        let alerts = answer["data"]["alerts"].as_array().expect("a list of alerts");
        alerts.iter().filter(|alert| alert["state"] == "firing").cloned().collect()
    }

    /// Until this one fires; its labels and summary.
    #[track_caller]
    pub fn wait_fires(&self, name: &str) -> Value {
        let mut found = None;
        wait_until(&format!("{name} fires"), PATIENCE, || {
            found = self.firing().into_iter().find(|alert| alert["labels"]["alertname"] == name);
            found.is_some()
        });
        found.expect("it was found")
    }

    #[track_caller]
    pub fn wait_silent(&self, name: &str) {
        wait_until(&format!("{name} ends"), PATIENCE, || {
            self.firing().iter().all(|alert| alert["labels"]["alertname"] != name)
        });
    }
}
