//! One row of the table: what a fault did. Rows of a run lie in target/faults until the table is written.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Victim {
    RocketMq,
    Mqtt,
    Bridge,
    HostileInput,
}

impl Victim {
    pub fn title(self) -> &'static str {
        match self {
            Victim::RocketMq => "RocketMQ",
            Victim::Mqtt => "The MQTT broker and the network to it",
            Victim::Bridge => "The bridge",
            Victim::HostileInput => "Hostile input",
        }
    }
}

/// Counted in different messages, unless it says otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    /// What a reader sees.
    pub title: String,
    pub victim: Victim,
    /// The whole scenario, not its short form.
    pub full: bool,
    pub published: u64,
    pub acked_to_publisher: u64,
    pub pubacked_by_bridge: u64,
    /// PUBACKs, copies too.
    pub pubacks: u64,
    pub stored: u64,
    pub duplicates: u64,
    pub dead_lettered: u64,
    /// PUBACKed by the bridge and in no store that took it.
    pub lost: u64,
    /// Acknowledged to the publisher, and gone before the bridge had acknowledged it, or after RocketMQ had stored it.
    pub lost_elsewhere: u64,
    /// The same for a plain subscriber with a persistent session, in the same fault.
    pub lost_by_plain_subscriber: Option<u64>,
    pub order_violations: u64,
    pub damaged: u64,
    /// In RocketMQ, dead letters included, and not of the lesson.
    #[serde(default)]
    pub foreign: u64,
    pub most_spooled: u64,
    /// From the end of the fault until all that was published before it was stored.
    pub recovery_s: f64,
    /// The longest time for which a publisher had no acknowledgement.
    pub longest_wait_s: f64,
    pub books_balanced: bool,
    pub note: String,
}

impl Row {
    pub fn folder() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/faults")
    }

    pub fn save(&self) {
        let form = if self.full { "full" } else { "short" };
        fs::create_dir_all(Row::folder()).expect("the folder of the rows can be made");
        let text = serde_json::to_string_pretty(self).expect("a row is JSON");
        let file = Row::folder().join(format!("{:?}-{}.{form}.json", self.victim, self.name));
        fs::write(file, text).expect("a row can be written");
    }
}

/// What the scenario itself expects, where it is not the rule.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed {
    /// The fault destroys messages inside the MQTT broker or RocketMQ.
    pub lost_elsewhere: bool,
    /// GUARANTEES does not promise order for it.
    pub disorder: bool,
}

impl Row {
    /// The rule of every row.
    #[track_caller]
    pub fn check(&self, allowed: Allowed) {
        assert_eq!(self.lost, 0, "lost: {self:#?}");
        assert_eq!(self.damaged, 0, "damaged: {self:#?}");
        assert!(self.books_balanced, "the books do not balance: {self:#?}");
        assert!(
            allowed.lost_elsewhere || self.lost_elsewhere == 0,
            "lost elsewhere, and nothing there was broken: {self:#?}"
        );
        assert!(
            allowed.disorder || self.order_violations == 0,
            "out of order: {self:#?}"
        );
        assert!(self.acked_to_publisher > 0, "nothing was tried: {self:#?}");
    }
}
