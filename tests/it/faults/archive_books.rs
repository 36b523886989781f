//! What the archive must be after each fault: `verify` finds nothing wrong, and the history of every room is what was PUBACKed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::lesson::{Key, Lesson, key_of};
use super::row::{Allowed, Victim};
use super::story::{Setup, Stage, Story, TOPIC};
use crate::support::bridge::{Bridge, binary};
use crate::support::ports::wait_until;
use crate::support::process::{Process, run_to_end};
use crate::support::scratch::Scratch;
use crate::support::steps::{Step, clock_ahead, stop_at, wait_for_stop};

/// For what RocketMQ or the index shows a moment later.
pub const SOON: Duration = Duration::from_secs(60);
/// For one command: it may read hundreds of pieces, in a debug build on a busy machine.
const ONE_COMMAND: Duration = Duration::from_secs(300);
/// With a clock that is so far ahead today is over, and what was merged is old.
pub const TWO_DAYS: Duration = Duration::from_secs(2 * 24 * 3600);

/// Two publishers in 6 rooms; few enough that each room is read again and again.
pub fn setup(name: &'static str, title: impl Into<String>, full: bool) -> Setup {
    let mut setup = Setup::new(Victim::Archive, name, title, full).per_second(50);
    (setup.lesson.publishers, setup.lesson.rooms, setup.queues) = (2, 6, 4);
    setup
}

/// One archive, and the commands about it.
pub struct Archive {
    config: PathBuf,
    dir: PathBuf,
    scratch: Scratch,
}

impl Archive {
    /// In a folder of its own, beside a bridge that does not archive.
    pub fn beside(stage: &Stage) -> Archive {
        let scratch = Scratch::new("archive");
        let dir = scratch.join("archive");
        Archive::at(stage, scratch, &dir, "")
    }

    /// In that folder, on another disk.
    pub fn in_folder(stage: &Stage, dir: &Path) -> Archive {
        Archive::at(stage, Scratch::new("archive"), dir, "")
    }

    /// In the bucket of `S3`, of which this is the address; what belongs to the archive and is no piece lies in a folder of its own.
    pub fn in_bucket(stage: &Stage, endpoint: &str) -> Archive {
        let scratch = Scratch::new("archive");
        let dir = scratch.join("archive");
        let bucket = format!(
            "store = \"s3://lessons/roombridge\"\nendpoint = \"{endpoint}\"\nregion = \"us-east-1\"\n\
             access_key = \"a\"\nsecret_key = \"very secret\"\n"
        );
        Archive::at(stage, scratch, &dir, &bucket)
    }

    /// `lines`: further ones of the table.
    fn at(stage: &Stage, scratch: Scratch, dir: &Path, lines: &str) -> Archive {
        let (stage, place) = (stage.config(), dir.display());
        let text = format!("{stage}\n[archive]\ndir = \"{place}\"\ncut_every_s = 1\n{lines}");
        let config = scratch.write("archive.toml", &text);
        Archive { config, dir: dir.to_owned(), scratch }
    }

    /// A bridge that archives there itself.
    #[track_caller]
    pub fn bridge(&self, variables: &[(&str, String)]) -> Bridge {
        let config = fs::read_to_string(&self.config).expect("our own configuration");
        let mut bridge = Bridge::start_with_variables(&config, variables);
        bridge.wait_ready();
        bridge
    }

    /// Copies what RocketMQ has. On a busy machine its answer may come too late.
    #[track_caller]
    pub fn flush(&self) {
        wait_until("all is copied", SOON, || self.try_to(&["archive", "flush"], &[]).status.success());
    }

    /// Copies what RocketMQ has, and joins it as if the day were over long ago.
    #[track_caller]
    pub fn flush_and_merge(&self) {
        self.flush();
        self.run(&["archive", "merge"], &clock_ahead(TWO_DAYS));
    }

    fn command(&self, arguments: &[&str], variables: &[(&str, String)]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).arg("-c").arg(&self.config);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn try_to(&self, arguments: &[&str], variables: &[(&str, String)]) -> Output {
        run_to_end(self.command(arguments, variables), ONE_COMMAND)
    }

    /// To its end, which must be a good one; returns what it printed.
    #[track_caller]
    pub fn run(&self, arguments: &[&str], variables: &[(&str, String)]) -> String {
        let output = self.try_to(arguments, variables);
        let said = String::from_utf8_lossy(&output.stderr);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}\n{text}{said}", output.status);
        text
    }

    pub fn start(&self, arguments: &[&str], variables: &[(&str, String)]) -> Process {
        let log = self.scratch.join(&format!("{}.log", arguments.join("-")));
        Process::spawn("archiver", self.command(arguments, variables), &log)
    }

    /// It stands still at that step.
    #[track_caller]
    pub fn start_and_stop(
        &self,
        arguments: &[&str],
        step: Step,
        time: u32,
        ahead: &[(&str, String)],
    ) -> Process {
        let mut process = self.start(arguments, &[&stop_at(step, time)[..], ahead].concat());
        wait_for_stop(&mut process, step, Duration::from_secs(120));
        process
    }

    /// No byte was changed, no offset is missing, and nothing was lost. Returns how many lines there are.
    #[track_caller]
    pub fn verify(&self) -> u64 {
        let text = self.run(&["archive", "verify", "--json"], &[]);
        let found: Value = serde_json::from_str(&text).expect("one JSON object");
        assert_eq!((&found["lost"], &found["problems"]), (&Value::from(0), &Value::Array(vec![])), "{text}");
        found["lines"].as_u64().expect("a number")
    }

    /// Of every room, byte for byte, each message once and those of one publisher in their order.
    #[track_caller]
    pub fn history(&self, lesson: Lesson) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        for room in 0..lesson.rooms {
            let mut last: HashMap<u8, u32> = HashMap::new();
            for line in self.run(&["history", &room.to_string(), "--json"], &[]).lines() {
                let (key, line) = key_in(lesson, room, line, "payload");
                assert!(last.insert(key.publisher, key.number) < Some(key.number), "out of order: {line}");
                assert!(keys.insert(key), "twice: {line}");
            }
        }
        keys
    }

    /// The same of `export`, which has the copies of a message, too.
    #[track_caller]
    pub fn exported(&self, lesson: Lesson) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        for room in 0..lesson.rooms {
            let mut last: HashMap<u8, u32> = HashMap::new();
            for line in self.run(&["export", &room.to_string()], &[]).lines() {
                let (key, line) = key_in(lesson, room, line, "body");
                if keys.insert(key) {
                    assert!(
                        last.insert(key.publisher, key.number) < Some(key.number),
                        "out of order: {line}"
                    );
                }
            }
        }
        keys
    }

    /// Whether the archive has all that RocketMQ has. It must have lost nothing.
    #[track_caller]
    pub fn is_up_to_date(&self) -> bool {
        let text = self.run(&["archive", "status", "--json"], &[]);
        let rows: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        assert!(rows.iter().all(|row| row["lost"] == 0), "{text}");
        !rows.is_empty() && rows.iter().all(|row| row["behind"] == 0)
    }

    /// While people talk: verify is clean, and what was PUBACKed before is in the history. RocketMQ shows a message some
    /// milliseconds after it confirmed it.
    #[track_caller]
    pub fn is_right_so_far(&self, stage: &Stage) {
        self.verify();
        let before: BTreeSet<Key> = stage.witness.acknowledged().first.into_keys().collect();
        wait_until("the history has what was PUBACKed", SOON, || {
            self.history(stage.setup.lesson).is_superset(&before)
        });
    }

    /// An archiver whose clock is ahead takes a piece that is being made for one that was left by a killed process.
    pub fn keep_unfinished_pieces(&self) {
        let is_unfinished = |path: &Path| path.to_string_lossy().contains(".zst#");
        let unfinished: Vec<PathBuf> =
            files_in(&self.dir).into_iter().filter(|path| is_unfinished(path)).collect();
        assert!(!unfinished.is_empty(), "somebody stands still amid a piece");
        for path in unfinished {
            let file = File::open(&path).expect("nobody removes it meanwhile");
            file.set_modified(SystemTime::now() + 10 * TWO_DAYS).expect("its time can be set");
        }
    }

    /// What the index says of each room.
    fn indexed(&self) -> BTreeMap<String, u64> {
        let output = self.try_to(&["rooms", "--json"], &[]);
        let text = String::from_utf8_lossy(&output.stdout);
        let rooms = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
        let lines = rooms.map(|room| {
            let name = room["room"].as_str().expect("a room has a name").to_owned();
            (name, room["lines"].as_u64().expect("a number"))
        });
        lines.collect()
    }
}

/// Whose message a line holds in that field. Its bytes and its room must be those that were said.
#[track_caller]
fn key_in(lesson: Lesson, room: u32, line: &str, field: &str) -> (Key, Value) {
    let line: Value = serde_json::from_str(line).expect("a line is JSON");
    let said = line[field].as_str().expect("the lesson is text").as_bytes();
    let key = key_of(said).expect("a message of the lesson");
    assert_eq!((said, lesson.room(key)), (&lesson.payload(key)[..], room), "{line}");
    (key, line)
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

/// The story ends, and then the archive has all of it: with RocketMQ, without the topic, in the index.
#[track_caller]
pub fn end(story: Story, archive: &Archive, note: &str) {
    end_with(story, archive, note, Allowed::default());
}

#[track_caller]
pub fn end_with(story: Story, archive: &Archive, note: &str, allowed: Allowed) {
    let lesson = story.stage.setup.lesson;
    let (mut row, mut rest) = story.end_and_stay();
    let ledger: BTreeSet<Key> = rest.stage.witness.acknowledged().first.into_keys().collect();
    assert_eq!(archive.history(lesson), ledger, "with RocketMQ");
    archive.flush();
    rest.stage.rocketmq.delete_topic(TOPIC);
    assert_eq!(archive.history(lesson), ledger, "when the topic is gone");
    let lines = archive.verify();
    assert_eq!(lines, row.stored + row.duplicates, "the archive has what RocketMQ had");

    if rest.bridge.is_running() {
        rest.bridge.terminate();
        rest.bridge.wait_exit(SOON);
    }
    let mut said: BTreeMap<String, u64> = BTreeMap::new();
    ledger.iter().for_each(|key| *said.entry(lesson.room(*key).to_string()).or_default() += 1);
    let mut indexer = archive.start(&["archive", "run"], &[]);
    wait_until("the index has every line, copies too", SOON, || {
        let indexed = archive.indexed();
        let has_all = said.iter().all(|(room, lines)| indexed.get(room).is_some_and(|has| has >= lines));
        has_all && indexed.values().sum::<u64>() == lines
    });
    indexer.terminate();
    assert!(indexer.wait_exit(SOON).success(), "{}", indexer.log_text());

    row.note = note.to_owned();
    row.save();
    row.check(allowed);
}
