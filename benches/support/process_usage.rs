//! What a process has used so far, as the kernel counts it.

use std::fs;
use std::time::{Duration, Instant};

/// Linux counts processor time for /proc in hundredths of a second on every common machine.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of all threads, the ended ones too. Works until the process is waited for.
pub fn cpu(pid: u32) -> Duration {
    let (_, fields) = stat(pid).unwrap_or_else(|| panic!("process {pid} is gone"));
    TICK * (fields[11] + fields[12]) as u32
}

/// Waits until the process has ended, without taking its exit status; returns its processor time.
pub fn cpu_when_ended(pid: u32, deadline: Duration) -> Duration {
    let started = Instant::now();
    loop {
        let (state, _) = stat(pid).unwrap_or_else(|| panic!("process {pid} is gone"));
        if state == "Z" {
            return cpu(pid);
        }
        assert!(started.elapsed() < deadline, "process {pid} still runs after {deadline:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Resident memory now.
pub fn rss_mb(pid: u32) -> f64 {
    status_mb(pid, "VmRSS:")
}

/// The most resident memory so far.
pub fn peak_rss_mb(pid: u32) -> f64 {
    status_mb(pid, "VmHWM:")
}

/// How often the kernel put one of its threads aside, of the threads that live.
pub fn context_switches(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a running process has threads");
    let statuses =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let of_thread = |status: String| -> u64 {
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.filter_map(|line| line.rsplit('\t').next()?.parse::<u64>().ok()).sum()
    };
    statuses.map(of_thread).sum()
}

fn status_mb(pid: u32, name: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process has a status");
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells resident memory");
    let kib: f64 = line.trim_end_matches("kB").trim().parse().expect("the kernel tells it in kB");
    kib * 1024.0 / 1e6
}

/// The state, and the numbers from the third field on.
fn stat(pid: u32) -> Option<(String, Vec<u64>)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?.to_owned();
    // One place is kept for the state, so that the places are those of proc(5) minus 3.
    let numbers = std::iter::once(0).chain(fields.map(|field| field.parse().unwrap_or(0)));
    Some((state, numbers.collect()))
}
