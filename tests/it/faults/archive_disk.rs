//! The archive's disk is full, or can only be read. RocketMQ keeps the messages meanwhile, and nothing else is held up.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

use super::archive_books::{Archive, SOON, end, setup};
use super::story::{Setup, Stage, Story};
use crate::support::ports::wait_until;
use crate::support::small_disk::SmallDisk;

/// The archiver says that it does not go on, and messages are acknowledged all the same.
#[track_caller]
fn only_the_archive_stands(story: &Story, reason: &str) {
    let failures = || story.bridge.metrics().value("roombridge_archive_failures_total", &[]);
    let before = failures();
    wait_until("the archiver fails", SOON, || failures() > before);
    let count = story.stage.witness.acknowledged_count();
    story.talk_until_acknowledged(count + 300);
    let log = story.bridge.log_text();
    assert!(log.contains("the archive does not go on") && log.contains(reason), "{log}");
    assert_eq!(story.bridge.get("/readyz").map(|(status, _)| status), Some(200), "the way up is open");
}

/// All that was acknowledged until now.
#[track_caller]
fn the_archive_goes_on(story: &mut Story) {
    story.fault_ends();
    let count = story.stage.witness.acknowledged_count() as f64;
    wait_until("the archive goes on by itself", SOON, || {
        story.bridge.metrics().value("roombridge_archived_total", &[]) >= count
    });
}

fn with_disk(name: &'static str, title: &str) -> Result<(Setup, SmallDisk), ()> {
    let mut setup = setup(name, title, true);
    setup.more_config = "[spool]\nmin_free_bytes = 0\n".to_owned();
    match SmallDisk::mount(32) {
        Ok(disk) => Ok((setup, disk)),
        Err(why) => {
            setup.skip(&format!("no small file system can be mounted: {why}"));
            Err(())
        }
    }
}

#[test]
#[ignore = "make faults"]
fn full_archive_disk_full() {
    let title = "the archive's disk full to the last byte, then with room again";
    let Ok((setup, disk)) = with_disk("04_disk_full", title) else { return };
    let stage = Stage::new(setup);
    let archive = Archive::in_folder(&stage, &disk.path().join("archive"));
    let bridge = archive.bridge(&[]);
    let mut story = stage.open_with(bridge);
    story.talk_until_acknowledged(300);
    the_archive_goes_on(&mut story);
    let mut filler = File::create(disk.filler()).expect("a file can be made on the small disk");
    while filler.write_all(&[7; 4096]).is_ok() {}
    drop(filler);
    only_the_archive_stands(&story, "No space left on device");
    fs::remove_file(disk.filler()).expect("the filler can be removed");
    the_archive_goes_on(&mut story);
    end(story, &archive, "");
}

#[test]
#[ignore = "make faults"]
fn full_archive_read_only() {
    let title = "bridge started with an archive that can only be read, which is writable again later";
    let Ok((setup, disk)) = with_disk("05_read_only", title) else { return };
    let stage = Stage::new(setup);
    let archive = Archive::in_folder(&stage, &disk.path().join("archive"));
    fs::create_dir(disk.path().join("archive")).expect("a folder can be made on the small disk");
    let remount = |how: &str| {
        let mut mount = Command::new("mount");
        let status = mount.args(["-o", &format!("remount,{how}")]).arg(disk.path()).status();
        assert!(status.expect("mount can be started").success(), "remount {how}");
    };
    remount("ro");
    let bridge = archive.bridge(&[]);
    let mut story = stage.open_with(bridge);
    only_the_archive_stands(&story, "Read-only file system");
    remount("rw");
    the_archive_goes_on(&mut story);
    end(story, &archive, "");
}
