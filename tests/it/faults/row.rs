//! One row of the table: what a fault did. Rows of a run lie in target/faults until the table is written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Victim {
    #[default]
    RocketMq,
    Mqtt,
    Bridge,
    HostileInput,
    Archive,
}

impl Victim {
    pub fn title(self) -> &'static str {
        match self {
            Victim::RocketMq => "RocketMQ",
            Victim::Mqtt => "The MQTT broker and the network to it",
            Victim::Bridge => "The bridge",
            Victim::HostileInput => "Hostile input",
            Victim::Archive => "The archive",
        }
    }
}

/// Counted in different messages, unless it says otherwise.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    pub name: String,
    /// When and at which commit it was run; `unknown` without git.
    pub day: String,
    pub commit: String,
    /// Why it could not be run here; then there are no figures.
    pub skipped: Option<String>,
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

/// `git rev-parse --short HEAD`, and whether files differ from it; the table itself does not count, since each run writes it.
pub fn commit(folder: &Path) -> String {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        let output = command.current_dir(folder).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let head = git(&["rev-parse", "--short", "HEAD"]);
    let changes = git(&["status", "--porcelain", "--", ".", ":(exclude)docs/faults.md"]);
    match (head, changes) {
        (Some(head), Some(changes)) if changes.is_empty() => head,
        (Some(head), Some(_)) => format!("{head} with changes"),
        _ => "unknown".to_owned(),
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
        assert!(allowed.disorder || self.order_violations == 0, "out of order: {self:#?}");
        assert!(self.acked_to_publisher > 0, "nothing was tried: {self:#?}");
    }
}

#[test]
fn each_row_that_breaks_the_rule_is_refused() {
    let good = Row { acked_to_publisher: 1, books_balanced: true, ..Row::default() };
    let passes = |row: Row, allowed| std::panic::catch_unwind(|| row.check(allowed)).is_ok();
    let rule = Allowed::default();
    assert!(passes(good.clone(), rule));
    let spoil: [fn(&mut Row); 6] = [
        |row| row.lost = 1,
        |row| row.damaged = 1,
        |row| row.books_balanced = false,
        |row| row.lost_elsewhere = 1,
        |row| row.order_violations = 1,
        |row| row.acked_to_publisher = 0,
    ];
    let allowed = Allowed { lost_elsewhere: true, disorder: true };
    let mut allowed_ones = 0;
    for spoil in spoil {
        let mut row = good.clone();
        spoil(&mut row);
        assert!(!passes(row.clone(), rule), "{row:#?}");
        allowed_ones += usize::from(passes(row, allowed));
    }
    assert_eq!(allowed_ones, 2, "what the fault may do, and nothing else");
}

#[test]
fn a_row_says_at_which_commit_it_was_run() {
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(folder.path()).args(["-c", "user.name=a", "-c", "user.email=a@b"]);
        assert!(command.args(arguments).output().unwrap().status.success(), "{arguments:?}");
    };
    assert_eq!(commit(Path::new("/")), "unknown", "no repository");
    git(&["init", "-q"]);
    fs::create_dir(folder.path().join("docs")).unwrap();
    fs::write(folder.path().join("docs/faults.md"), "").unwrap();
    git(&["add", "."]);
    git(&["commit", "-qm", "first"]);
    let clean = commit(folder.path());
    assert!(clean.len() >= 7 && !clean.contains(' '), "{clean}");
    fs::write(folder.path().join("docs/faults.md"), "a new table").unwrap();
    assert_eq!(commit(folder.path()), clean);
    fs::write(folder.path().join("new.rs"), "").unwrap();
    assert_eq!(commit(folder.path()), format!("{clean} with changes"));
}
