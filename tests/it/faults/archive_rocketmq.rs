//! RocketMQ's topics and clocks change under the archive: what was archived stays, each message once.

use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use serde_json::Value;

use super::archive_books::{Archive, SOON, end, end_with, setup};
use super::clock::fake_clock;
use super::row::Allowed;
use super::story::{Stage, Story, TOPIC};
use crate::support::java_bodies::{StoredBody, read_bodies};
use crate::support::ports::wait_until;
use crate::support::scratch::Scratch;
use crate::support::steps::clock_behind;

#[track_caller]
fn all_is_archived(story: &Story, archive: &Archive) {
    let count = story.stage.witness.acknowledged_count() as u64;
    wait_until("all that was acknowledged is archived", SOON, || archive.verify() >= count);
}

/// A broker that crashes after a topic was deleted has its messages again. Then the topic is made anew in order, and they are gone
/// for ever.
#[test]
#[ignore = "make faults"]
fn full_archived_topic_remade_and_back() {
    let title =
        "topic deleted, and back with its messages by a crash of the broker; then deleted and made anew";
    let stage = Stage::new(setup("06_topic_back_and_remade", title, true));
    let archive = Archive::beside(&stage);
    let bridge = archive.bridge(&[]);
    let mut story = stage.open_with(bridge);
    story.talk_until_acknowledged(500);
    let old = at_rest(&mut story, &archive);
    story.stage.rocketmq.delete_topic(TOPIC);
    story.stage.rocketmq.kill_broker();
    story.stage.rocketmq.start_broker();
    story.stage.rocketmq.create_topic(TOPIC, 4);
    let back = read_bodies(&story.stage.name_server, TOPIC).len();
    assert!(back > 0, "the crash brought nothing back, so nothing was tried");
    goes_on(&mut story, &archive);

    let new = at_rest(&mut story, &archive);
    story.stage.rocketmq.remake_topic(TOPIC, 4);
    goes_on(&mut story, &archive);
    story.fault_ends();
    story.read_wiped = Some(Box::new(move |_| [old, new].concat()));
    let note = format!("{back} messages came back");
    end_with(story, &archive, &note, Allowed { lost_elsewhere: true, ..Allowed::default() });
}

/// Nothing new comes, and all is archived: what the deletion of a topic takes before that, nobody has. Returns what RocketMQ has.
#[track_caller]
fn at_rest(story: &mut Story, archive: &Archive) -> Vec<StoredBody> {
    story.stage.mosquitto.pause();
    story.talk(1.0);
    all_is_archived(story, archive);
    read_bodies(&story.stage.name_server, TOPIC)
}

#[track_caller]
fn goes_on(story: &mut Story, archive: &Archive) {
    story.stage.mosquitto.resume();
    let count = story.stage.witness.acknowledged_count();
    story.talk_until_acknowledged(count + 300);
    archive.is_right_so_far(&story.stage);
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
        story.talk_until_acknowledged(count + 300);
        all_is_archived(&story, &archive);
        archive.flush_and_merge();
        archive.is_right_so_far(&story.stage);
    }
    let times = read_stored_times(&archive);
    assert!(
        times.windows(2).any(|pair| pair[1] + 23.hours() < pair[0]),
        "the store time went back: {times:?}"
    );
    story.fault_ends();
    end(story, &archive, "");
}

/// Of the messages of a room, in the order of its history.
#[track_caller]
fn read_stored_times(archive: &Archive) -> Vec<Timestamp> {
    let history = archive.run(&["history", "0", "--json"], &[]);
    let lines = history.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    lines.map(|line| line["stored_at"].as_str().and_then(|at| at.parse().ok()).expect("a time")).collect()
}
