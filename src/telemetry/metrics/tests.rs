//! The list of metrics: complete from the start, documented, and without labels that nobody closed.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

fn metrics() -> Metrics {
    Metrics::new(&["room".to_owned()]).unwrap()
}

fn line<'a>(text: &'a str, name: &str, labels: &[&str]) -> &'a str {
    let mut matching = text
        .lines()
        .filter(|line| line.split(['{', ' ']).next() == Some(name))
        .filter(|line| labels.iter().all(|label| line.contains(label)));
    matching.next().unwrap_or_else(|| panic!("no series {name} with {labels:?} in:\n{text}"))
}

#[test]
fn every_closed_label_is_there_from_the_start_with_zero() {
    let text = metrics().render();
    for kind in Kind::ALL {
        for topic in ["room", "other"] {
            let labels = [format!("kind=\"{kind}\""), format!("topic=\"{topic}\"")];
            let series = line(&text, "roombridge_stored_total", &labels.each_ref().map(String::as_str));
            assert!(series.ends_with(" 0"), "{series}");
        }
    }
    let reasons = |name: &str, reasons: Vec<&str>| {
        for reason in reasons {
            let series = line(&text, name, &[&format!("reason=\"{reason}\"")]);
            assert!(series.ends_with(" 0"), "{series}");
        }
    };
    reasons("roombridge_filtered_total", FilterReason::ALL.iter().map(|reason| reason.as_str()).collect());
    reasons("roombridge_dropped_total", DropReason::ALL.iter().map(|reason| reason.as_str()).collect());
    reasons("roombridge_send_failures_total", FailureKind::ALL.iter().map(|kind| kind.as_str()).collect());
    reasons("roombridge_dead_lettered_total", DeadReason::ALL.iter().map(|reason| reason.as_str()).collect());
}

#[test]
fn what_happens_is_counted_where_it_belongs() {
    let metrics = metrics();
    metrics.received(10);
    metrics.received(5);
    metrics.stored("room", Kind::Message, 3);
    metrics.stored("secret-room-4711", Kind::Status, 2);
    metrics.filtered(FilterReason::NoRule);
    metrics.dropped(DropReason::SpoolExpired, 1);
    metrics.dead_lettered(DeadReason::TooLarge);
    metrics.send_failed(FailureKind::Timeout);
    metrics.store_seconds(0.002);
    metrics.send_seconds(0.001);
    metrics.batch_messages(32);
    metrics.in_flight.set(4);
    metrics.set_lag(Duration::from_millis(1500));

    let ends = EndCounts { stored: 5, filtered: 1, dropped: 1, dead_lettered: 1 };
    assert_eq!(metrics.ends(), ends);
    let text = metrics.render();
    for (name, labels, value) in [
        ("roombridge_received_total", vec![], "2"),
        ("roombridge_received_bytes_total", vec![], "15"),
        ("roombridge_stored_total", vec!["topic=\"room\"", "kind=\"message\""], "3"),
        ("roombridge_stored_total", vec!["topic=\"other\"", "kind=\"status\""], "2"),
        ("roombridge_filtered_total", vec!["reason=\"no_rule\""], "1"),
        ("roombridge_dropped_total", vec!["reason=\"spool_expired\""], "1"),
        ("roombridge_dead_lettered_total", vec!["reason=\"too_large\""], "1"),
        ("roombridge_send_failures_total", vec!["reason=\"timeout\""], "1"),
        ("roombridge_store_seconds_bucket", vec!["le=\"0.0025\""], "1"),
        ("roombridge_send_seconds_count", vec![], "1"),
        ("roombridge_batch_messages_sum", vec![], "32"),
        ("roombridge_lag_messages", vec![], "4"),
        ("roombridge_lag_seconds", vec![], "1.5"),
    ] {
        let mut labels = labels;
        labels.push("direction=\"uplink\"");
        let series = line(&text, name, &labels);
        assert!(series.ends_with(&format!(" {value}")), "{series} should be {value}");
    }
    assert!(!text.contains("4711"), "a topic that is not in the configuration became a label");
}

#[test]
fn a_lag_that_is_not_known_is_no_number() {
    let metrics = metrics();
    let shown = |name: &str| {
        let text = metrics.render();
        let mut lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        lines.next().map(|line| line.rsplit_once(' ').unwrap().1.to_owned())
    };
    for (told, messages, up) in
        [(None, None, "0"), (Some(50), Some("50"), "1"), (None, None, "0"), (Some(0), Some("0"), "1")]
    {
        metrics.consumer_lag.set("archive", "room", told);
        assert_eq!(shown("roombridge_consumer_lag_messages").as_deref(), messages);
        assert_eq!(shown("roombridge_consumer_lag_up").as_deref(), Some(up));
    }
}

/// Of every series, those that have no child at first included.
fn existing() -> BTreeSet<String> {
    let metrics = metrics();
    // Without a child it would not be shown.
    metrics.consumer_lag.set("group", "topic", Some(1));
    metrics.spool_oldest_age_seconds.set(Some(1.0));
    metrics.archive.headroom_seconds.set(Some(1.0));
    metrics.archive.position_age_seconds.set(Some(1.0));
    metrics.archive.withheld_messages.set(Some(1.0));
    metrics.archive.index_age_seconds.set(Some(1.0));
    metrics.downlink.lag_messages.with_label_values(&["topic"]).set(1);
    metrics.registry.gather().iter().map(|family| family.name().to_owned()).collect()
}

fn text_of(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

#[test]
fn every_metric_is_documented_and_none_is_invented() {
    let documented: BTreeSet<String> = text_of("docs/METRICS.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter(|row| row.starts_with("roombridge_") || row.starts_with("process_"))
        .filter_map(|row| row.split(['`', '{']).next())
        .map(str::to_owned)
        .collect();
    assert_eq!(existing(), documented);
}

#[test]
fn every_metric_that_an_alert_or_a_page_names_exists() {
    let existing = existing();
    // RocketMQ topics of ours.
    let topics = ["roombridge_audit", "roombridge_dead_letter"];
    let is_known = |word: &str| {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| word.strip_suffix(part));
        existing.contains(word)
            || topics.contains(&word)
            || family.is_some_and(|family| existing.contains(family))
    };
    let mut pages: Vec<String> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().display()))
        .filter(|page| page.ends_with(".md"))
        .collect();
    pages.extend(
        ["README.md", "CHANGELOG.md", "deploy/README.md", "deploy/alerts.yml", "config/roombridge.toml"]
            .map(str::to_owned),
    );
    let mut unknown = Vec::new();
    for page in pages {
        let text = text_of(&page);
        let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
        let ours = words.filter(|word| word.starts_with("roombridge_") || word.starts_with("process_"));
        unknown.extend(ours.filter(|word| !is_known(word)).map(|word| format!("{page}: {word}")));
    }
    assert_eq!(unknown, Vec::<String>::new());
}
