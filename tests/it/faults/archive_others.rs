//! Several archivers on one folder, and archivers that stand still while others go on.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::archive_books::{Archive, SOON, TWO_DAYS, end, setup};
use super::story::Stage;
use crate::support::steps::{Step, clock_ahead};

/// A bridge, a process beside it, and commands that copy and merge, all at once.
#[test]
#[ignore = "make faults"]
fn full_several_archivers_at_once() {
    let title = "bridge that archives and `archive run` beside it, `flush` and `merge` again and again";
    let mut setup = setup("02_several_at_once", title, true);
    setup.queues = 8;
    let stage = Stage::new(setup);
    let archive = Archive::beside(&stage);
    let bridge = archive.bridge(&[]);
    let mut beside = archive.start(&["archive", "run"], &[]);
    let mut story = stage.open_with(bridge);
    let mut flushed = 0;
    for _ in 0..5 {
        // Those that run look each 5 s; the commands come between.
        story.talk(5.5);
        for _ in 0..4 {
            let round = archive.try_to(&["archive", "flush", "--json"], &[]);
            let round: Value = serde_json::from_slice(&round.stdout).expect("one JSON object");
            flushed += round["pieces"].as_u64().expect("a number");
            archive.flush_and_merge();
            archive.verify();
        }
    }
    story.fault_ends();
    let pieces = story.bridge.metrics().value("roombridge_archive_pieces_total", &[]);
    assert!(pieces > 0.0 && flushed > 0, "each of them wrote: {pieces}, {flushed}");
    beside.terminate();
    assert!(beside.wait_exit(SOON).success(), "{}", beside.log_text());
    end(story, &archive, "");
}

/// Three that stand still at a step: one copies, one merges, one removes. Whatever they do when they go on, each offset counts once.
#[test]
#[ignore = "make faults"]
fn full_archivers_stand_still() {
    // Longer than every deadline of the archiver.
    const STILL: Duration = Duration::from_secs(300);
    let steps: [(&[&str], Step); 3] = [
        (&["archive", "merge"], Step { name: "removes", at: "unlink before *.jsonl.zst" }),
        (&["archive", "merge"], Step { name: "merges", at: "linkat before *.jsonl.zst" }),
        (&["archive", "flush"], Step { name: "copies", at: "linkat before *.jsonl.zst" }),
    ];
    let title = "archivers stand still (SIGSTOP) for 5 minutes before they copy, merge and remove, while others copy and merge";
    let mut story = Stage::new(setup("03_stand_still", title, true)).open();
    let archive = Archive::beside(&story.stage);
    let mut standing = Vec::new();
    for (arguments, step) in steps {
        for _ in 0..2 {
            let count = story.stage.witness.acknowledged_count();
            story.talk_until_acknowledged(count + 30);
            archive.flush();
        }
        let count = story.stage.witness.acknowledged_count();
        story.talk_until_acknowledged(count + 30);
        let ahead = if arguments.contains(&"merge") { clock_ahead(TWO_DAYS) } else { vec![] };
        standing.push(archive.start_and_stop(arguments, step, 1, &ahead));
    }
    archive.keep_unfinished_pieces();
    let begun = Instant::now();
    while begun.elapsed() < STILL {
        archive.flush_and_merge();
        story.talk(1.0);
    }
    archive.is_right_so_far(&story.stage);
    for process in &mut standing {
        process.resume();
        // It may say that it came too late.
        process.wait_exit(SOON);
        println!("{}", process.log_text());
        archive.verify();
    }
    archive.is_right_so_far(&story.stage);
    archive.flush_and_merge();
    story.fault_ends();
    end(story, &archive, "");
}
