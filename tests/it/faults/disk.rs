//! The disk under the spool is full, fails, or does not answer.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use super::row::{Allowed, Victim};
use super::story::{Setup, Stage, Story};
use crate::support::bridge::Bridge;
use crate::support::metrics::Metrics;
use crate::support::ports::wait_until;
use crate::support::preload::{Files, FsyncFault, HANG_S};
use crate::support::scratch::Scratch;
use crate::support::small_disk::SmallDisk;

const PATIENCE: Duration = Duration::from_secs(90);
const MIB: u64 = 1 << 20;

fn setup(name: &'static str, title: impl Into<String>, spool_lines: &str) -> Setup {
    let mut setup = Setup::new(Victim::Bridge, name, title, true);
    setup.more_config = format!("[spool]\n{spool_lines}\n");
    setup
}

/// `None` while the bridge does not answer: it starts, or the machine is busy.
fn gauge(bridge: &Bridge, name: &str) -> Option<u64> {
    let (_, text) = bridge.get("/metrics")?;
    Some(Metrics::parse(&text).value(name, &[]) as u64)
}

#[track_caller]
fn wait_for(story: &Story, name: &str, wanted: impl Fn(u64) -> bool) {
    wait_until(name, PATIENCE, || gauge(&story.bridge, name).is_some_and(&wanted));
}

#[track_caller]
fn wait_ready(story: &Story) {
    wait_until("/readyz answers 200", PATIENCE, || {
        let answer = story.bridge.get("/readyz");
        answer.is_some_and(|(status, _)| status == 200)
    });
}

/// Acknowledging comes to a stop, readiness tells it, and what was acknowledged is in RocketMQ or in the spool.
#[track_caller]
fn nothing_more_is_acknowledged(story: &Story) {
    let count = || story.stage.witness.acknowledged_count();
    let mut last = (count(), Instant::now());
    wait_until("acknowledging stops for 3 s", PATIENCE, || {
        let now = count();
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(3)
    });
    wait_until("/readyz tells it", PATIENCE, || {
        let answer = story.bridge.get("/readyz");
        answer.is_some_and(|(status, text)| status == 503 && text.contains("the spool takes nothing in"))
    });
    wait_until("all that is acknowledged is kept", PATIENCE, || {
        let Some((_, text)) = story.bridge.get("/metrics") else {
            return false;
        };
        let books = Metrics::parse(&text).books();
        count() as f64 <= books.stored + books.spool_depth
    });
    assert_eq!(count(), last.0, "acknowledged and kept nowhere");
}

#[track_caller]
fn acknowledging_goes_on(story: &Story) {
    let count = story.stage.witness.acknowledged_count();
    story.talk_until_acknowledged(count + 500);
}

/// No watermark: the file system itself says no, and leaves no room for deletes either.
#[test]
#[ignore = "make faults"]
fn full_spool_disk_full_to_the_last_byte() {
    let name = "10_disk_full_to_the_last_byte";
    let title =
        "spool's disk full to the last byte, twice, RocketMQ away; it comes back while the disk is full";
    let mut setup = setup(name, title, "min_free_bytes = 0");
    let disk = match SmallDisk::mount(32) {
        Ok(disk) => disk,
        Err(why) => return setup.skip(&format!("no small file system can be mounted: {why}")),
    };
    setup.first_lines = format!("data_dir = \"{}\"", disk.path().join("data").display());
    let mut story = Stage::new(setup).open();
    story.talk_until_acknowledged(300);

    // Given a disk that somebody else fills, RocketMQ away, and people who talk until nothing fits any more
    story.stage.rocketmq.kill_broker();
    disk.fill(8 * MIB);
    wait_for(&story, "roombridge_spool_full", |full| full == 1);
    nothing_more_is_acknowledged(&story);

    // When there is room, then it takes messages again by itself
    fs::remove_file(disk.filler()).expect("the filler can be removed");
    wait_for(&story, "roombridge_spool_full", |full| full == 0);
    wait_ready(&story);
    acknowledging_goes_on(&story);

    // Given a disk without one free byte
    fill_to_the_last_byte(&disk);
    wait_for(&story, "roombridge_spool_full", |full| full == 1);
    nothing_more_is_acknowledged(&story);

    // When RocketMQ comes back, then the spool is sent all the same
    story.stage.rocketmq.start_broker();
    story.fault_ends();
    wait_for(&story, "roombridge_spool_depth", |depth| depth == 0);
    wait_ready(&story);
    acknowledging_goes_on(&story);
    wait_for(&story, "roombridge_spool_poisoned", |poisoned| poisoned == 0);
    assert!(story.bridge.log_text().contains("it heals by itself"), "{}", story.bridge.log_text());
    fs::remove_file(disk.filler()).expect("the filler can be removed");
    story.end().check(Allowed::default());
}

/// Whoever writes at the same time gets the rest.
fn fill_to_the_last_byte(disk: &SmallDisk) {
    let mut file = File::create(disk.filler()).expect("a file can be made on the small disk");
    loop {
        match file.write_all(&[7; 4096]) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("writing on the small disk: {error}"),
        }
    }
}

/// Tells the story up to the moment when the spool holds something and its disk is about to fail.
fn talk_with_fragile_disk(name: &'static str, title: &str, disk: &FsyncFault) -> Story {
    let stage = Stage::new(setup(name, title, ""));
    let mut bridge = Bridge::start_with_variables(&stage.config(), &disk.variables());
    bridge.wait_ready();
    let mut story = stage.open_with(bridge);
    story.talk_until_acknowledged(300);
    story.stage.rocketmq.kill_broker();
    wait_for(&story, "roombridge_spool_depth", |depth| depth > 500);
    story
}

/// Poisoned it stays, but what can be read goes out, what waits in memory too, and a new process begins anew.
fn rocketmq_comes_back_and_the_bridge_is_restarted(mut story: Story, disk: &FsyncFault, reason: &str) {
    wait_for(&story, "roombridge_spool_poisoned", |poisoned| poisoned == 1);
    nothing_more_is_acknowledged(&story);
    let log = story.bridge.log_text();
    assert!(log.contains("the spool is out of use") && log.contains(reason), "{log}");

    story.stage.rocketmq.start_broker();
    story.fault_ends();
    wait_for(&story, "roombridge_spool_depth", |depth| depth == 0);
    wait_ready(&story);
    acknowledging_goes_on(&story);
    wait_for(&story, "roombridge_spool_poisoned", |poisoned| poisoned == 1);

    disk.heal();
    story.bridge.terminate();
    let status = story.bridge.wait_exit(Duration::from_secs(60));
    assert_eq!(status.code(), Some(0), "{}", story.bridge.log_text());
    story.bridge.start_again();
    wait_for(&story, "roombridge_spool_poisoned", |poisoned| poisoned == 0);
    acknowledging_goes_on(&story);
    story.end().check(Allowed::default());
}

#[test]
#[ignore = "make faults"]
fn full_fsync_fails() {
    let name = "11_fsync_fails";
    let title = "fsync of the spool fails (EIO), RocketMQ away and back, then the bridge restarted";
    let Some(disk) = FsyncFault::compile(Files::Spool) else {
        return setup(name, title, "").skip("there is no C compiler");
    };
    let story = talk_with_fragile_disk(name, title, &disk);
    disk.fail();
    rocketmq_comes_back_and_the_bridge_is_restarted(story, &disk, "I/O error");
}

#[test]
#[ignore = "make faults"]
fn full_fsync_hangs() {
    let name = "12_fsync_hangs";
    let title =
        format!("fsync of the spool hangs for {HANG_S} s, RocketMQ away and back, then the bridge restarted");
    let Some(disk) = FsyncFault::compile(Files::Spool) else {
        return setup(name, title, "").skip("there is no C compiler");
    };
    let story = talk_with_fragile_disk(name, &title, &disk);
    disk.hang();
    rocketmq_comes_back_and_the_bridge_is_restarted(story, &disk, "the disk has not answered for 30 s");
}

/// All of the folder, the spool included: a disk has no favourites.
#[test]
#[ignore = "make faults"]
fn full_data_dir_hangs() {
    let name = "13_data_dir_hangs";
    let scratch = Scratch::new("still-disk");
    let folder = scratch.join("bridge-data");
    let title = "fsync of the whole data_dir hangs for 20 s, the MQTT connection cut meanwhile";
    let mut setup = setup(name, title, "");
    let Some(disk) = FsyncFault::compile(Files::All(folder.clone())) else {
        return setup.skip("there is no C compiler");
    };
    setup.first_lines = format!("data_dir = \"{}\"", folder.display());
    let stage = Stage::new(setup);
    let mut bridge = Bridge::start_with_variables(&stage.config(), &disk.variables());
    bridge.wait_ready();
    let mut story = stage.open_with(bridge);
    story.talk_until_acknowledged(300);

    // Given a disk that stands still, then what needs no disk goes on
    disk.hang();
    let begun = Instant::now();
    acknowledging_goes_on(&story);
    story.talk(10.0);
    acknowledging_goes_on(&story);

    // When the connection is cut, then the next one waits for the disk, and /readyz says so
    story.stage.witness.network().cut_all();
    wait_until("/readyz tells it", PATIENCE, || {
        let answer = story.bridge.get("/readyz");
        answer.is_some_and(|(status, text)| status == 503 && text.contains("has not answered for"))
    });
    std::thread::sleep(Duration::from_secs(20).saturating_sub(begun.elapsed()));

    // When the disk answers again, then everything goes on by itself
    disk.heal();
    story.fault_ends();
    wait_ready(&story);
    acknowledging_goes_on(&story);
    story.end().check(Allowed::default());
}
