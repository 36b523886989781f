//! The sections `[spool]` and `[dead_letter]`.

use std::time::Duration;

use super::{MINIMAL, complaint, load};
use crate::config::{Config, DeadLetterConfig, SpoolConfig};
use crate::model::WhenFull;

fn spool(lines: &str) -> String {
    format!("{MINIMAL}[spool]\n{lines}\n")
}

fn dead_letter(lines: &str) -> String {
    format!("{MINIMAL}[dead_letter]\n{lines}\n")
}

#[test]
fn without_a_word_both_are_there() {
    let config = load(MINIMAL, &[]).unwrap();
    let expected = SpoolConfig {
        enabled: true,
        after: Duration::from_secs(1),
        max_bytes: 4 << 30,
        max_messages: 10_000_000,
        topic_bytes: 2 << 30,
        max_age: None,
        when_full: WhenFull::Hold,
        min_free_bytes: 256 << 20,
        drain_batches: 4,
    };
    assert_eq!(config.spool, expected);
    let expected = DeadLetterConfig {
        topic: Some("roombridge_dead_letter".to_owned()),
        give_up_after: Duration::from_secs(3600),
        max_bytes: 1 << 30,
    };
    assert_eq!(config.dead_letter, expected);
}

#[test]
fn what_is_written_is_used() {
    let text = spool(
        "enabled = false\nafter_ms = 250\nmax_bytes = 16777216\nmax_messages = 7\ntopic_bytes = 8388608\n\
         max_age_s = 60\nwhen_full = \"drop_oldest\"\nmin_free_bytes = 0\ndrain_batches = 3\n[dead_letter]\n\
         topic = \"graveyard\"\ngive_up_after_s = 5\nmax_bytes = 8388608",
    );
    let config = load(&text, &[]).unwrap();
    let expected = SpoolConfig {
        enabled: false,
        after: Duration::from_millis(250),
        max_bytes: 16 << 20,
        max_messages: 7,
        topic_bytes: 8 << 20,
        max_age: Some(Duration::from_secs(60)),
        when_full: WhenFull::DropOldest,
        min_free_bytes: 0,
        drain_batches: 3,
    };
    assert_eq!(config.spool, expected);
    assert_eq!(config.dead_letter.topic.as_deref(), Some("graveyard"));
    assert_eq!(config.dead_letter.give_up_after, Duration::from_secs(5));
    assert_eq!(config.dead_letter.max_bytes, 8 << 20);
    let newest = load(MINIMAL, &[("ROOMBRIDGE_SPOOL_WHEN_FULL", "drop_newest")]).unwrap();
    assert_eq!(newest.spool.when_full, WhenFull::DropNewest);
}

#[test]
fn a_share_that_is_not_given_is_half_of_the_whole() {
    let config = load(&spool("max_bytes = 10000000\ntopic_bytes = 0"), &[]).unwrap();
    assert_eq!(config.spool.topic_bytes, 5_000_000);
}

#[test]
fn an_empty_topic_keeps_dead_letters_local() {
    let config = load(&dead_letter("topic = \"\""), &[]).unwrap();
    assert_eq!(config.dead_letter.topic, None);
}

#[test]
fn dev_leaves_less_of_the_disk_free() {
    assert_eq!(Config::for_dev().unwrap().spool.min_free_bytes, 16 << 20);
}

#[test]
fn what_could_not_work_is_refused() {
    let name = "x".repeat(128);
    for (text, parts) in [
        (spool("after_ms = 99"), ["spool.after_ms = 99", "from 100 to 60000"]),
        (spool("after_ms = 60001"), ["spool.after_ms = 60001", "from 100 to 60000"]),
        (spool("max_bytes = 8388607"), ["spool.max_bytes = 8388607", "at least 8388608"]),
        (spool("max_messages = 0"), ["spool.max_messages = 0", "from 1 to"]),
        (
            spool("max_bytes = 8388608\ntopic_bytes = 8388609"),
            ["spool.topic_bytes", "to 8388608 (spool.max_bytes)"],
        ),
        (spool("topic_bytes = 1"), ["spool.topic_bytes", "from 4194304"]),
        (spool("when_full = \"wait\""), ["spool.when_full = \"wait\"", "\"hold\", \"drop_oldest\""]),
        (spool("drain_batches = 0"), ["spool.drain_batches = 0", "from 1 to 64"]),
        (dead_letter("topic = \"a b\""), ["dead_letter.topic = \"a b\"", "letters, digits"]),
        (dead_letter(&format!("topic = {name:?}")), ["dead_letter.topic", "up to 127"]),
        (
            dead_letter("topic = \"chat\"\n[[binding]]\nfilter = \"a/#\"\ntopic = \"chat\""),
            ["(bridge.toml line 9)", "a topic of its own"],
        ),
        (dead_letter("give_up_after_s = 0"), ["dead_letter.give_up_after_s = 0", "from 1 to"]),
        (dead_letter("max_bytes = 4194303"), ["dead_letter.max_bytes = 4194303", "at least 4194304"]),
    ] {
        let complaint = complaint(&text, &[]);
        for part in parts {
            assert!(complaint.contains(part), "{part:?} is missing in: {complaint}");
        }
    }
}
