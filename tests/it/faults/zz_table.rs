//! Writes docs/faults.md from the rows of the full scenarios. Named so that it runs last.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::row::{Row, Victim};

/// Only `make faults` writes, and only a table that has a row for each scenario.
#[test]
#[ignore = "the last step of make faults"]
fn zz_write_the_table() {
    let rows = full_rows();
    let text = page(&rows);
    println!("{text}");
    if std::env::var("FAULTS_TABLE").as_deref() == Ok("1") {
        assert_eq!(
            rows.len(),
            full_scenarios(),
            "rows in {}, and scenarios: docs/faults.md stays as it is. Run the missing ones; remove rows whose scenario is gone",
            Row::folder().display()
        );
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md");
        fs::write(file, text).expect("docs/faults.md can be written");
    }
}

/// As this binary lists them; the table itself is none.
fn full_scenarios() -> usize {
    let binary = std::env::current_exe().expect("this binary has a name");
    let mut list = Command::new(binary);
    list.args(["faults::", "--ignored", "--list", "--format", "terse"]);
    let output = list.output().expect("this binary can be started");
    let text = String::from_utf8(output.stdout).expect("names are text");
    text.lines().filter(|line| line.contains("::full_")).count()
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
* A row of **the archive** says more: `archive verify` found nothing wrong, the history of every room was exactly what was PUBACKed, in
  order, beside RocketMQ and again when its topic was deleted, and the index had every line.
";

fn page(rows: &[Row]) -> String {
    let mut text = HEAD.to_owned();
    let _ = writeln!(text, "\nRun {}, on {}.", runs(rows), machine());
    for victim in [Victim::RocketMq, Victim::Mqtt, Victim::Bridge, Victim::HostileInput, Victim::Archive] {
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

/// When, and at which commit; one row may have been run again later.
fn runs(rows: &[Row]) -> String {
    let mut runs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for row in rows {
        *runs.entry((&row.day, &row.commit)).or_default() += 1;
    }
    let one = runs.len() == 1;
    let runs = runs.into_iter().map(|((day, commit), rows)| {
        let run = format!("on {day} at commit {commit}");
        if one { run } else { format!("{run} ({rows} of the rows)") }
    });
    runs.collect::<Vec<_>>().join(", ")
}

fn line(row: &Row) -> String {
    if let Some(why) = &row.skipped {
        return format!("| {}: not run, {why} |{}", row.title, " |".repeat(13));
    }
    let plain = row.lost_by_plain_subscriber.map_or(String::new(), |lost| format!(" ({lost})"));
    let note = if row.note.is_empty() { String::new() } else { format!("; {}", row.note) };
    let books = if row.books_balanced { "balanced" } else { "NOT balanced" };
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
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0);
    let gib = kib as f64 / f64::from(1 << 20);
    format!(
        "{processors} x {model}, {gib:.0} GiB, with both brokers, publishers and readers beside it (debug build)"
    )
}

#[test]
fn the_table_shows_each_row_what_it_cost_and_where_it_was_run() {
    let row = |victim, title: &str, lost| Row {
        title: title.to_owned(),
        day: "2026-11-27".to_owned(),
        commit: "abc1234".to_owned(),
        victim,
        full: true,
        published: 90,
        lost,
        books_balanced: lost == 0,
        ..Row::default()
    };
    let good = row(Victim::RocketMq, "broker killed", 0);
    let bad = row(Victim::Bridge, "killed", 7);
    let mut skipped = row(Victim::Bridge, "clock jumps", 0);
    skipped.skipped = Some("there is no clock".to_owned());

    let text = page(&[good.clone(), bad.clone()]);
    assert!(text.contains("\nRun on 2026-11-27 at commit abc1234, on "), "{text}");
    let (rocketmq, bridge) = text.split_once("## The bridge").expect("two tables");
    assert!(
        rocketmq.contains(
            "| broker killed | 90 | 0 | 0 | 0 | 0 | 0 | **0** | 0 | 0 | 0 | 0.0 s | 0.0 s | balanced |"
        ),
        "{text}"
    );
    assert!(
        bridge.contains(
            "| killed | 90 | 0 | 0 | 0 | 0 | 0 | **7** | 0 | 0 | 0 | 0.0 s | 0.0 s | NOT balanced |"
        ),
        "{text}"
    );

    let later = Row { day: "2026-11-28".to_owned(), commit: "def5678 with changes".to_owned(), ..skipped };
    let text = page(&[good, bad, later]);
    let runs = "\nRun on 2026-11-27 at commit abc1234 (2 of the rows), on 2026-11-28 at commit def5678 with changes (1 of the rows), on ";
    assert!(text.contains(runs), "{text}");
    assert!(text.contains("| clock jumps: not run, there is no clock | |"), "{text}");
}

#[test]
fn each_scenario_of_make_faults_is_counted_once() {
    let named: usize = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults"))
        .expect("the scenarios can be read")
        .map(|file| fs::read_to_string(file.expect("a file").path()).expect("a source is text"))
        .map(|text| text.lines().filter(|line| line.starts_with("fn full_") && line.contains("() {")).count())
        .sum();
    assert!(named > 40, "the scenarios were found");
    assert_eq!(full_scenarios(), named);
}
