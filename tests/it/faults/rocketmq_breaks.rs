//! RocketMQ dies, hangs, restarts, is empty, refuses.

use std::fs;
use std::path::Path;

use super::row::{Allowed, Victim};
use super::story::{Setup, Stage, TOPIC};
use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::Bridge;
use crate::support::java_bodies::{StoredBody, read_bodies};

fn setup(name: &'static str, title: impl Into<String>, full: bool) -> Setup {
    Setup::new(Victim::RocketMq, name, title, full)
}

/// A spool that is quick to step in keeps the short forms short.
const QUICK_SPOOL: &str = "[spool]\nafter_ms = 200\n";

fn broker_killed(full: bool) {
    let away = if full { 10.0 } else { 2.0 };
    let mut setup = setup("01_broker_killed", format!("broker killed (SIGKILL), away for {away} s"), full);
    if !full {
        setup.more_config = QUICK_SPOOL.to_owned();
    }
    let mut story = Stage::new(setup).open();
    story.talk_until_acknowledged(300);
    story.stage.rocketmq.kill_broker();
    story.talk(away);
    story.stage.rocketmq.start_broker();
    story.fault_ends();
    story.talk(2.0);
    story.end().check(Allowed::default());
}

#[test]
fn short_broker_killed() {
    broker_killed(false);
}

#[test]
#[ignore = "make faults"]
fn full_broker_killed() {
    broker_killed(true);
}

#[test]
#[ignore = "make faults"]
fn full_broker_stopped_for_30_s() {
    let mut story =
        Stage::new(setup("02_broker_sigstop", "broker stands still (SIGSTOP) for 30 s", true)).open();
    story.talk_until_acknowledged(300);
    story.stage.rocketmq.pause_broker();
    story.talk(30.0);
    story.stage.rocketmq.resume_broker();
    story.fault_ends();
    story.talk(3.0);
    story.end().check(Allowed::default());
}

#[test]
#[ignore = "make faults"]
fn full_broker_restarted() {
    let mut story =
        Stage::new(setup("03_broker_restarted", "broker restarted (SIGTERM, start)", true)).open();
    story.talk_until_acknowledged(300);
    story.stage.rocketmq.stop_broker();
    story.stage.rocketmq.start_broker();
    story.fault_ends();
    story.talk(2.0);
    story.end().check(Allowed::default());
}

/// Away for so long at this pace. At 125 messages a second Mosquitto has its own default limit, 1,000 messages, under
/// which another broker's bridge lost 546 of 2,246.
fn away(name: &'static str, seconds: f64, per_second: u32, tight_queue: bool) {
    let limit = if tight_queue { ", Mosquitto's queue at its default of 1,000" } else { "" };
    let title = format!("broker away for {seconds} s at {per_second} msg/s{limit}");
    let mut setup = setup(name, title, true).per_second(per_second);
    if tight_queue {
        setup.mosquitto.max_queued_messages = 1000;
        setup.mosquitto.max_inflight_messages = 20;
    }
    let mut story = Stage::new(setup).open();
    story.talk(2.0);
    story.stage.rocketmq.kill_broker();
    story.talk(seconds);
    story.stage.rocketmq.start_broker();
    story.fault_ends();
    story.talk(3.0);
    let row = story.end();
    row.check(Allowed::default());
    assert!(row.longest_wait_s < 30.0, "no publisher waits as long as the keep-alive: {row:#?}");
}

#[test]
#[ignore = "make faults"]
fn full_away_18_s_at_125_a_second() {
    away("04_away_18s_125", 18.0, 125, true);
}

#[test]
#[ignore = "make faults"]
fn full_away_18_s_at_5000_a_second() {
    away("05_away_18s_5000", 18.0, 5000, false);
}

#[test]
#[ignore = "make faults"]
fn full_away_for_5_minutes() {
    away("06_away_5min", 300.0, 200, false);
}

#[test]
#[ignore = "make faults"]
fn full_name_server_away() {
    let mut story = Stage::new(setup("07_name_server_away", "name server away for 20 s", true)).open();
    story.talk_until_acknowledged(300);
    story.stage.rocketmq.kill_name_server();
    story.talk(20.0);
    story.stage.rocketmq.start_name_server();
    story.fault_ends();
    story.talk(2.0);
    story.end().check(Allowed::default());
}

/// The bridge has never seen RocketMQ: it knows neither topics nor queues, and takes all the same.
fn both_away_at_start(full: bool) {
    let away = if full { 20.0 } else { 3.0 };
    let title = format!("broker and name server away at the start of the bridge, for {away} s");
    let mut stage = Stage::new(setup("08_both_away_at_start", title, full));
    stage.rocketmq.kill_broker();
    stage.rocketmq.kill_name_server();
    let bridge = Bridge::start(&stage.config());
    let mut story = stage.open_with(bridge);
    story.talk(away);
    story.stage.rocketmq.start_name_server();
    story.stage.rocketmq.start_broker();
    story.fault_ends();
    story.talk(2.0);
    story.end().check(Allowed::default());
}

#[test]
fn short_both_away_at_start() {
    both_away_at_start(false);
}

#[test]
#[ignore = "make faults"]
fn full_both_away_at_start() {
    both_away_at_start(true);
}

/// What the old one had stored is gone with it; what was not stored yet is in the new one.
#[test]
#[ignore = "make faults"]
fn full_replaced_by_an_empty_one() {
    let title = "broker killed and replaced by an empty one, 5 s later";
    let mut story = Stage::new(setup("10_replaced_by_empty", title, true)).open();
    story.talk_until_acknowledged(1000);
    let folder = story.stage.rocketmq.scratch();
    let (store, old) = (folder.join("store"), folder.join("old-store"));
    story.stage.rocketmq.kill_broker();
    fs::rename(&store, &old).expect("the store of a dead broker can be moved");
    fs::create_dir_all(&store).expect("a folder can be made");
    story.talk(5.0);
    story.stage.rocketmq.start_broker();
    story.stage.rocketmq.create_topics(&[(TOPIC, 8), (super::story::DEAD_LETTERS, 1)]);
    story.fault_ends();
    story.talk(2.0);
    story.read_wiped = Some(Box::new(move |rocketmq| read_the_old_one(rocketmq, &store, &old)));
    story.end().check(Allowed { lost_elsewhere: true, ..Allowed::default() });
}

/// Lets the broker run on the old store for a moment, so that Apache's client tells what was in it.
fn read_the_old_one(rocketmq: &mut ApacheRocketMq, store: &Path, old: &Path) -> Vec<StoredBody> {
    let new = store.with_file_name("new-store");
    let swap = |from: &Path, to: &Path| fs::rename(from, to).expect("a store can be moved");
    rocketmq.stop_broker();
    swap(store, &new);
    swap(old, store);
    rocketmq.start_broker();
    let stored = read_bodies(&rocketmq.name_server(), TOPIC);
    rocketmq.kill_broker();
    swap(store, old);
    swap(&new, store);
    rocketmq.start_broker();
    stored
}
