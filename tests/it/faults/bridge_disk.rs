//! The disk of the spool is full, or fails.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::row::{Allowed, Victim};
use super::story::{Setup, Stage};
use crate::support::bridge::Bridge;
use crate::support::ports::wait_until;
use crate::support::scratch::Scratch;
use crate::support::small_disk::SmallDisk;

/// No room: no PUBACK, and it heals by itself when there is room again.
#[test]
#[ignore = "make faults"]
fn full_disk_full() {
    let disk = match SmallDisk::mount(64) {
        Ok(disk) => disk,
        Err(why) => return println!("SKIPPED: no small file system can be mounted: {why}"),
    };
    let title = "RocketMQ away and the spool's disk full for 10 s, then room again, then RocketMQ";
    let mut setup = Setup::new(Victim::Bridge, "04_disk_full", title, true).per_second(1000);
    setup.first_lines = format!("data_dir = \"{}\"", disk.path().join("data").display());
    setup.more_config = "[spool]\nmin_free_bytes = 8388608\n".to_owned();
    let mut story = Stage::new(setup).open();
    story.talk_until_acknowledged(300);
    disk.fill(16 << 20);
    story.stage.rocketmq.pause_broker();
    let full = |story: &super::story::Story| story.bridge.metrics().value("roombridge_spool_full", &[]) > 0.0;
    wait_until("the spool is full", Duration::from_secs(60), || full(&story));
    story.talk(2.0);
    let held = story.stage.witness.acknowledged_count();
    story.talk(8.0);
    let later = story.stage.witness.acknowledged_count();
    assert_eq!(held, later, "what could not be written is not acknowledged");
    std::fs::remove_file(disk.filler()).expect("the filler can be removed");
    wait_until("there is room again", Duration::from_secs(30), || {
        story.stage.witness.acknowledged_count() > later
    });
    story.stage.rocketmq.resume_broker();
    story.fault_ends();
    story.talk(2.0);
    story.end().check(Allowed::default());
}

/// After a failed fsync the spool takes nothing more: the kernel may have dropped what it could not write.
#[test]
#[ignore = "make faults"]
fn full_fsync_fails() {
    let scratch = Scratch::new("fsync");
    let library = match failing_fsync(&scratch) {
        Ok(library) => library,
        Err(why) => return println!("SKIPPED: the library that fails fsync cannot be built: {why}"),
    };
    let title = "RocketMQ away for 12 s, and fsync of the spool fails meanwhile";
    let stage = Stage::new(Setup::new(Victim::Bridge, "05_fsync_fails", title, true));
    let flag = scratch.join("fail");
    let mut bridge = Bridge::start_with_variables(
        &stage.config(),
        &[
            ("LD_PRELOAD", library),
            ("FAILING_FSYNC", flag.display().to_string()),
        ],
    );
    bridge.wait_ready();
    let mut story = stage.open_with(bridge);
    story.talk_until_acknowledged(300);
    story.stage.rocketmq.pause_broker();
    story.talk(4.0);
    std::fs::write(&flag, "").expect("the flag can be written");
    let poisoned =
        |story: &super::story::Story| story.bridge.metrics().value("roombridge_spool_poisoned", &[]) > 0.0;
    wait_until("the spool is out of use", Duration::from_secs(20), || {
        poisoned(&story)
    });
    std::fs::remove_file(&flag).expect("the flag can be removed");
    story.talk(1.0);
    let held = story.stage.witness.acknowledged_count();
    story.talk(5.0);
    assert_eq!(
        held,
        story.stage.witness.acknowledged_count(),
        "nothing is acknowledged any more"
    );
    let (status, said) = story.bridge.get("/readyz").expect("the bridge answers");
    assert_eq!(status, 503, "{said}");
    story.stage.rocketmq.resume_broker();
    story.fault_ends();
    story.talk(2.0);
    story.end().check(Allowed::default());
}

fn failing_fsync(scratch: &Scratch) -> Result<String, String> {
    let library = scratch.join("failing_fsync.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/failing_fsync.c");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source)
        .arg("-ldl");
    let output = compiler.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output
        .status
        .success()
        .then(|| library.display().to_string())
        .ok_or(said)
}
