//! The archiver is killed (SIGKILL) at each step of its work with files.

use super::archive_books::{Archive, TWO_DAYS, end, setup};
use super::story::Stage;
use crate::support::steps::{Step, clock_ahead, stop_at};

/// What makes the archiver come to a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Cut,
    Merge,
    Index,
}

impl Work {
    /// The arguments of the command, and its environment.
    fn command(self, step: Step) -> (&'static [&'static str], Vec<(&'static str, String)>) {
        match self {
            Work::Cut => (&["archive", "flush"], vec![]),
            Work::Merge => (&["archive", "merge"], clock_ahead(TWO_DAYS)),
            // A commit each second, and one that ends with a checkpoint.
            Work::Index if step.at.starts_with("pwrite") && step.at.ends_with("wal") => {
                (&["archive", "run"], vec![])
            }
            Work::Index => (&["archive", "rebuild-index"], vec![]),
        }
    }
}

/// Of several such calls another one each time. A commit of the index makes some 30 of them, and the next one comes a second later;
/// a checkpoint writes each page that was changed, once.
fn which(step: Step, time: u32) -> u32 {
    match step.at {
        "pwrite amid *index-*.sqlite3" => 1 + time,
        at if at.starts_with("pwrite") => 1 + time * 5,
        at if at.starts_with("fsync") && at.contains("index") => 1,
        _ => 1 + time % 2,
    }
}

const fn step(name: &'static str, at: &'static str) -> Step {
    Step { name, at }
}

/// A piece is made under its name, `#` and a number; a merged one has a version above 0.
const STEPS: [(Work, Step); 19] = [
    (Work::Cut, step("before a piece is begun", "create before *.jsonl.zst#*")),
    (Work::Cut, step("amid its bytes", "write amid *.jsonl.zst#*")),
    (Work::Cut, step("before it is fsynced", "fsync before *.jsonl.zst#*")),
    (Work::Cut, step("before it has its name", "linkat before *.0000.jsonl.zst")),
    (Work::Cut, step("before its folder is fsynced", "linkat after *.0000.jsonl.zst")),
    (Work::Cut, step("before its first name goes", "unlink before *.jsonl.zst#*")),
    (Work::Cut, step("when it counts", "unlink after *.jsonl.zst#*")),
    (Work::Merge, step("before a merged piece is begun", "create before *.jsonl.zst#*")),
    (Work::Merge, step("amid the bytes of a merged piece", "write amid *.jsonl.zst#*")),
    (Work::Merge, step("before a merged piece has its name", "linkat before *.jsonl.zst")),
    (Work::Merge, step("when a merged piece has its name", "linkat after *.jsonl.zst")),
    (Work::Merge, step("before the first replaced piece is removed", "unlink before *.jsonl.zst")),
    (Work::Merge, step("amid the removal of replaced pieces", "unlink after *.jsonl.zst")),
    (Work::Index, step("before the bytes of a commit of the index", "pwrite before *index-*.sqlite3-wal")),
    (Work::Index, step("amid the bytes of a commit of the index", "pwrite amid *index-*.sqlite3-wal")),
    (Work::Index, step("before the log of the index is fsynced", "fsync before *index-*.sqlite3-wal")),
    (Work::Index, step("when the log of the index is fsynced", "fsync after *index-*.sqlite3-wal")),
    (Work::Index, step("amid the bytes of a checkpoint of the index", "pwrite amid *index-*.sqlite3")),
    (Work::Index, step("before a checkpoint of the index is fsynced", "fsync before *index-*.sqlite3")),
];

/// People talk all the time. The archiver works by its commands, and is killed each time.
fn killed_at_each_step(times: u32, full: bool) {
    let title = format!("archiver killed (SIGKILL) at each of {} steps, {times} times each", STEPS.len());
    let mut setup = setup("01_killed_at_each_step", title, full);
    if full {
        // All of it is read after each kill, some 400 times.
        setup = setup.per_second(20);
    }
    let mut story = Stage::new(setup).open();
    let archive = Archive::beside(&story.stage);
    story.talk_until_acknowledged(50);
    archive.flush();
    for (work, step) in STEPS {
        for time in 0..times {
            // So that there is something to do.
            let count = story.stage.witness.acknowledged_count();
            story.talk_until_acknowledged(count + 6);
            if work == Work::Merge {
                archive.flush();
            }
            let (arguments, ahead) = work.command(step);
            archive.start_and_stop(arguments, step, which(step, time), &ahead).kill();
            // It takes many seconds to read all of it, and there are some 400 kills. Each killed merge leaves all pieces that it
            // read; one that comes to its end removes them.
            if full && time % 5 == 4 {
                if work == Work::Merge {
                    archive.flush_and_merge();
                }
                archive.verify();
            }
        }
        archive.verify();
        // It takes seconds to read all of it.
        if full {
            archive.is_right_so_far(&story.stage);
        }
    }
    story.fault_ends();
    let kills = STEPS.len() as u32 * times;
    end(story, &archive, &format!("killed {kills} times"));
}

#[test]
fn short_archiver_killed_at_each_step() {
    killed_at_each_step(1, false);
}

#[test]
#[ignore = "make faults"]
fn full_archiver_killed_at_each_step() {
    killed_at_each_step(20, true);
}

/// The same steps of a bridge that archives itself: what it has in its hands is killed with it.
#[test]
#[ignore = "make faults"]
fn full_bridge_that_archives_killed_at_each_step() {
    const TIMES: u32 = 5;
    let is_of_run = |(work, step): &&(Work, Step)| {
        *work == Work::Cut
            || *work == Work::Index && step.at.starts_with("pwrite") && step.at.ends_with("wal")
    };
    let steps: Vec<_> = STEPS.iter().filter(is_of_run).collect();
    let title =
        format!("bridge that archives killed (SIGKILL) at each of {} steps, {TIMES} times each", steps.len());
    let stage = Stage::new(setup("09_bridge_killed_at_each_step", title, true));
    let archive = Archive::beside(&stage);
    let bridge = archive.bridge(&[]);
    let mut story = stage.open_with(bridge);
    story.talk_until_acknowledged(100);
    for (_, step) in &steps {
        for time in 0..TIMES {
            story.bridge.kill();
            story.bridge.set_variables(&stop_at(*step, which(*step, time)));
            story.bridge.start_again_without_waiting();
            story.bridge.wait_for_stop(*step);
        }
        story.bridge.kill();
        story.bridge.set_variables(&[]);
        story.bridge.start_again();
        archive.is_right_so_far(&story.stage);
    }
    story.fault_ends();
    end(story, &archive, &format!("killed {} times", steps.len() as u32 * TIMES));
}
