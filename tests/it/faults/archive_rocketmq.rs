//! RocketMQ's topics and clocks change under the archive: what was archived stays, each message once.

use std::collections::HashSet;
use std::time::Duration;

use super::archive_books::{Archive, SOON, end, end_with, setup};
use super::clock::fake_clock;
use super::row::Allowed;
use super::story::{Stage, Story, TOPIC};
use crate::support::java_bodies::read_bodies;
use crate::support::ports::wait_until;
use crate::support::scratch::Scratch;
use crate::support::steps::clock_behind;

#[track_caller]
fn all_is_archived(story: &Story, archive: &Archive) {
    let count = story.stage.witness.acknowledged_count() as u64;
    wait_until("all that was acknowledged is archived", SOON, || archive.verify() >= count);
}

/// A topic that is deleted loses its messages in RocketMQ; what a broker does that crashes after that is Apache's affair, and the
/// archive has all of it: the topic of before, the new one, and what comes then.
#[test]
#[ignore = "make faults"]
fn full_archived_topic_remade_and_back() {
    let title =
        "topic deleted and made anew, then the broker killed, whose crash brings the old messages back";
    let mut setup = setup("06_topic_remade_and_back", title, true);
    setup.queues = 4;
    let stage = Stage::new(setup);
    let archive = Archive::beside(&stage);
    let bridge = archive.bridge(&[]);
    let mut story = stage.open_with(bridge);
    story.talk_until_acknowledged(500);
    // What is said while a topic is away waits in the lanes, so the archive must be ahead of the deletion only.
    story.stage.mosquitto.pause();
    story.talk(1.0);
    all_is_archived(&story, &archive);
    let old = read_bodies(&story.stage.name_server, TOPIC);
    story.stage.rocketmq.remake_topic(TOPIC, 4);
    story.stage.mosquitto.resume();
    let count = story.stage.witness.acknowledged_count();
    story.talk_until_acknowledged(count + 500);
    archive.is_right_so_far(&story.stage);

    story.stage.mosquitto.pause();
    story.talk(1.0);
    all_is_archived(&story, &archive);
    let new = read_bodies(&story.stage.name_server, TOPIC);
    story.stage.rocketmq.kill_broker();
    story.stage.rocketmq.start_broker();
    let first: HashSet<_> = old.iter().map(|row| &row.body).collect();
    let back =
        read_bodies(&story.stage.name_server, TOPIC).iter().filter(|row| first.contains(&row.body)).count();
    assert!(back > 0, "the crash brought nothing back, so nothing was tried");
    story.stage.mosquitto.resume();
    let count = story.stage.witness.acknowledged_count();
    story.talk_until_acknowledged(count + 500);
    story.fault_ends();
    story.read_wiped = Some(Box::new(move |_| [old, new].concat()));
    end_with(
        story,
        &archive,
        &format!("{back} messages of the deleted topic came back"),
        Allowed { lost_elsewhere: true, ..Allowed::default() },
    );
}

#[test]
#[ignore = "make faults"]
fn full_archived_queues_4_to_8() {
    let title = "queues go from 4 to 8 while people talk, and the bridge is killed";
    let stage = Stage::new(setup("07_queues_4_to_8", title, true));
    let archive = Archive::beside(&stage);
    let bridge = archive.bridge(&[]);
    let mut story = stage.open_with(bridge);
    story.talk_until_acknowledged(500);
    story.stage.rocketmq.create_topics(&[(TOPIC, 8)]);
    story.talk(3.0);
    story.bridge.kill();
    story.bridge.start_again();
    story.talk(3.0);
    archive.flush_and_merge();
    archive.is_right_so_far(&story.stage);
    story.fault_ends();
    end(story, &archive, "");
}

#[test]
#[ignore = "make faults"]
fn full_archiver_clock_a_year_ahead() {
    let title = "clock of the bridge that archives a year ahead, then right again while it runs, then a year ahead at a start";
    let setup = setup("08_clock_a_year_ahead", title, true);
    let scratch = Scratch::new("clock");
    let Some(variables) = fake_clock(&scratch) else {
        return setup.skip("libfaketime is not installed, so the clock cannot jump");
    };
    let stage = Stage::new(setup);
    let archive = Archive::beside(&stage);
    scratch.write("clock", "+365d");
    let bridge = archive.bridge(&variables);
    let mut story = stage.open_with(bridge);
    story.talk(12.0);
    archive.is_right_so_far(&story.stage);
    scratch.write("clock", "+0");
    story.talk(12.0);
    archive.is_right_so_far(&story.stage);
    scratch.write("clock", "+365d");
    story.bridge.kill();
    story.bridge.start_again();
    story.talk(12.0);
    archive.is_right_so_far(&story.stage);
    scratch.write("clock", "+0");
    story.fault_ends();
    story.talk(2.0);
    end(story, &archive, "");
}

#[test]
#[ignore = "make faults"]
fn full_store_time_back_a_day() {
    let title = "RocketMQ's broker restarted with a clock that is a day behind, and again with the right one";
    let stage = Stage::new(setup("10_store_time_back_a_day", title, true));
    let archive = Archive::beside(&stage);
    let bridge = archive.bridge(&[]);
    let mut story = stage.open_with(bridge);
    story.talk_until_acknowledged(500);
    for variables in [clock_behind(Duration::from_secs(24 * 3600)), vec![]] {
        story.stage.rocketmq.stop_broker();
        story.stage.rocketmq.start_broker_with(&variables);
        let count = story.stage.witness.acknowledged_count();
        story.talk_until_acknowledged(count + 500);
        all_is_archived(&story, &archive);
        archive.flush_and_merge();
        archive.is_right_so_far(&story.stage);
    }
    story.fault_ends();
    end(story, &archive, "");
}
