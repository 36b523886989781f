//! Writes docs/faults.md from the rows of the full scenarios. Named so that it runs last.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::row::{Row, Victim};

/// Only `make faults` writes: rows of an older run may lie in the folder.
#[test]
#[ignore = "the last step of make faults"]
fn zz_write_the_table() {
    let rows = full_rows();
    let text = page(&rows);
    println!("{text}");
    if std::env::var("FAULTS_TABLE").as_deref() == Ok("1") {
        assert!(
            !rows.is_empty(),
            "no scenario has left a row in {}",
            Row::folder().display()
        );
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md");
        fs::write(file, text).expect("docs/faults.md can be written");
    }
}

fn full_rows() -> Vec<Row> {
    let mut files: Vec<_> = fs::read_dir(Row::folder())
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    let rows = files.iter().map(|file| {
        let text = fs::read_to_string(file).expect("a row can be read");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    });
    let mut rows: Vec<Row> = rows.filter(|row: &Row| row.full).collect();
    rows.sort_by(|a, b| (a.victim, &a.name).cmp(&(b.victim, &b.name)));
    rows
}

const HEAD: &str = "\
# Faults

What is lost, doubled or out of order when something breaks while people talk. `make faults` runs every row against
real Mosquitto and Apache RocketMQ and writes this page. Publishers (QoS 1 and 2, 200-byte messages, numbered) speak in several
rooms all the time; RocketMQ is read back by Apache's Java client, and PUBACKs are counted on the wire, not by the bridge.
";

const LEGEND: &str = "
* **published**: different messages that the publishers made. **acked**: the MQTT broker acknowledged them to the publisher.
* **PUBACKed**: the bridge acknowledged them to the MQTT broker. **stored**: they are in RocketMQ, byte for byte.
* **copies**: further copies in RocketMQ, which readers fold by their id. **dead**: dead letters.
* **lost**: PUBACKed by the bridge and in no store that took it. This is the promise.
* **lost elsewhere**: acknowledged to the publisher, and destroyed by the fault inside the MQTT broker or RocketMQ, where no bridge
  can help; in brackets what a plain MQTT subscriber with a persistent session lost in the same fault.
* **order**: first occurrences of one publisher in one room that lie behind a later one.
* **recovery**: from the end of the fault until all that was published before it is stored and the spool is empty.
* **wait**: the longest time for which a publisher got no acknowledgement. **spooled**: most messages on the disk at once.
";

fn page(rows: &[Row]) -> String {
    let mut text = HEAD.to_owned();
    let _ = writeln!(text, "\nRun on {}, on {}.", today(), machine());
    for victim in [
        Victim::RocketMq,
        Victim::Mqtt,
        Victim::Bridge,
        Victim::HostileInput,
    ] {
        let of_victim: Vec<&Row> = rows.iter().filter(|row| row.victim == victim).collect();
        if of_victim.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n## {}\n", victim.title());
        text += "| fault | published | acked | PUBACKed | stored | copies | dead | **lost** | lost elsewhere | order | spooled | \
                 recovery | wait | books |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
        for row in of_victim {
            let _ = writeln!(text, "{}", line(row));
        }
    }
    text + LEGEND
}

fn line(row: &Row) -> String {
    let plain = row
        .lost_by_plain_subscriber
        .map_or(String::new(), |lost| format!(" ({lost})"));
    let note = if row.note.is_empty() {
        String::new()
    } else {
        format!("; {}", row.note)
    };
    let books = if row.books_balanced {
        "balanced"
    } else {
        "NOT balanced"
    };
    format!(
        "| {}{note} | {} | {} | {} | {} | {} | {} | **{}** | {}{plain} | {} | {} | {:.1} s | {:.1} s | {books} |",
        row.title,
        row.published,
        row.acked_to_publisher,
        row.pubacked_by_bridge,
        row.stored,
        row.duplicates,
        row.dead_lettered,
        row.lost,
        row.lost_elsewhere,
        row.order_violations,
        row.most_spooled,
        row.recovery_s,
        row.longest_wait_s,
    )
}

fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}

fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("an unknown processor", |(_, model)| model.trim());
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        })
        .unwrap_or(0);
    let gib = kib as f64 / f64::from(1 << 20);
    format!(
        "{processors} x {model}, {gib:.0} GiB, with both brokers, publishers and readers beside it (debug build)"
    )
}
