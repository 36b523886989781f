//! The machine that it ran on, in one line, and how many connections it lets a process have.

use std::fs;
use std::process::Command;
use std::time::Duration;

/// One line of Markdown.
pub fn line() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, name: &str| {
        let found = text.lines().find(|line| line.starts_with(name));
        let value = found.and_then(|line| line.split_once(':'));
        value.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let memory = value(&read("/proc/meminfo"), "MemTotal");
    let memory_kib: f64 = memory.trim_end_matches(" kB").parse().unwrap_or(f64::NAN);
    let load = read("/proc/loadavg");
    format!(
        "Machine: {} virtual cores ({}), {:.0} GB of memory, Linux {}; its load (1 min) before the start was {}.",
        std::thread::available_parallelism().map_or(0, usize::from),
        value(&read("/proc/cpuinfo"), "model name"),
        memory_kib * 1024.0 / 1e9,
        read("/proc/sys/kernel/osrelease").trim(),
        load.split_whitespace().next().unwrap_or("unknown"),
    )
}

/// Processor time that the whole machine has spent so far, without waiting.
pub fn busy() -> Duration {
    let text = fs::read_to_string("/proc/stat").expect("the kernel tells processor time");
    let ticks = text.split_whitespace().skip(1).take(7);
    let ticks: Vec<u64> = ticks.map(|ticks| ticks.parse().unwrap_or(0)).collect();
    // user, nice, system, idle, iowait, irq, softirq: in hundredths of a second, as for processes.
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Duration::from_millis(10 * (ticks.iter().sum::<u64>() - idle))
}

/// The most memory that this process had at once is counted from here on.
pub fn forget_peak_memory() {
    fs::write("/proc/self/clear_refs", "5").expect("the kernel forgets the peak of our own memory");
}

/// As many files as the system lets us have, also for the server that we start. A connection is one file at each end.
pub fn raise_open_files() {
    let limits = fs::read_to_string("/proc/self/limits").expect("the kernel tells limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let most = line.and_then(|line| line.split_whitespace().nth(1)).expect("a limit of open files");
    let raised = Command::new("prlimit")
        .arg(format!("--pid={}", std::process::id()))
        .arg(format!("--nofile={most}:{most}"))
        .status();
    assert!(
        raised.is_ok_and(|status| status.success()),
        "prlimit (of util-linux) cannot raise the limit of open files to {most}"
    );
}
