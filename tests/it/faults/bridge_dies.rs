//! The bridge is killed, stopped, out of disk, overrun.

use std::process::Stdio;
use std::time::Duration;

use super::row::{Allowed, Victim};
use super::story::{Setup, Stage};
use crate::support::bridge::Bridge;
use crate::support::ports::wait_until;
use crate::support::scripted_broker::TAKEN_OVER;
use crate::support::streams::{on_a_full_disk, without_reader};

fn setup(name: &'static str, title: impl Into<String>, full: bool) -> Setup {
    Setup::new(Victim::Bridge, name, title, full)
}

/// Some of the rounds fall into a time without RocketMQ, so that the spool is written and drained as well.
fn killed(rounds: u64, full: bool) {
    let title = format!("killed (SIGKILL) {rounds} times at random moments, RocketMQ away in between");
    let mut story = Stage::new(setup("01_killed", title, full)).open();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        story.talk(0.05 + (random >> 40) as f64 / f64::from(1 << 24) * 1.2);
        match round % 10 {
            4 => story.stage.rocketmq.pause_broker(),
            8 => story.stage.rocketmq.resume_broker(),
            _ => {}
        }
        story.bridge.kill();
        story.bridge.start_again();
    }
    story.stage.rocketmq.resume_broker();
    story.fault_ends();
    story.talk(2.0);
    story.end().check(Allowed::default());
}

#[test]
fn short_killed() {
    killed(3, false);
}

#[test]
#[ignore = "make faults"]
fn full_killed_50_times() {
    killed(50, true);
}

fn terminated(rounds: u32, full: bool) {
    let title = format!("stopped (SIGTERM) under load and started again, {rounds} times");
    let mut story = Stage::new(setup("02_terminated", title, full)).open();
    for _ in 0..rounds {
        story.talk(0.7);
        story.bridge.terminate();
        let status = story.bridge.wait_exit(Duration::from_secs(30));
        assert_eq!(status.code(), Some(0), "{}", story.bridge.log_text());
        story.bridge.start_again();
    }
    story.fault_ends();
    story.talk(1.0);
    story.end().check(Allowed::default());
}

#[test]
fn short_terminated() {
    terminated(1, false);
}

#[test]
#[ignore = "make faults"]
fn full_terminated() {
    terminated(10, true);
}

/// The log's reader goes (`2>&1 | head -4`), or its disk is full; then the MQTT broker and RocketMQ give it much to say.
fn log_is_not_taken(full: bool) {
    let title = "its log has lost its reader, then lies on a full disk, while both brokers go away; stopped (SIGTERM) each time";
    let stage = Stage::new(setup("22_log_not_taken", title, full));
    let mut bridge = Bridge::start_speaking_to(&stage.config(), &[], Some(without_reader()));
    bridge.wait_ready();
    let mut story = stage.open_with(bridge);
    for next in [on_a_full_disk as fn() -> Stdio, without_reader] {
        story.talk(0.5);
        story.stage.rocketmq.pause_broker();
        story.stage.mosquitto.pause();
        story.talk(2.0);
        story.stage.mosquitto.resume();
        story.stage.rocketmq.resume_broker();
        story.talk(1.0);
        story.bridge.terminate();
        let status = story.bridge.wait_exit(Duration::from_secs(30));
        assert_eq!(status.code(), Some(0), "SIGTERM ends it in order");
        story.bridge.start_again_speaking_to(next());
        story.bridge.wait_ready();
    }
    story.fault_ends();
    story.talk(1.0);
    story.end().check(Allowed::default());
}

#[test]
#[ignore = "make faults"]
fn full_log_is_not_taken() {
    log_is_not_taken(true);
}

/// The session exists, nobody fetches, and then everything comes at once.
#[test]
#[ignore = "make faults"]
fn full_a_hundred_thousand_queued_at_start() {
    let title = "started with 100,000 messages queued at the MQTT broker";
    let setup = setup("03_100000_queued", title, true).per_second(10_000);
    let mut story = Stage::new(setup).open();
    story.bridge.terminate();
    story.bridge.wait_exit(Duration::from_secs(30));
    let before = story.stage.witness.acknowledged_count() as u64;
    let waiting = |story: &super::story::Story| {
        let acked = story.publishers.iter().map(|publisher| publisher.acknowledged_count());
        acked.sum::<u64>() - before
    };
    wait_until("100,000 are queued", Duration::from_secs(90), || waiting(&story) > 100_000);
    story.bridge.start_again();
    story.fault_ends();
    story.end().check(Allowed::default());
}

/// Hazard 4: blue and green are swapped while RocketMQ stands still: what blue has in its hands belongs to green, and blue
/// must not take the session back when it is stopped. Mosquitto 2.0.11 does not say that a session was taken over.
#[test]
#[ignore = "make faults"]
fn full_swapped_for_another() {
    let title = "swapped under load (another process takes the session, then SIGTERM), RocketMQ standing still meanwhile";
    let mut setup = setup("20_swapped", title, true);
    setup.more_config = "[spool]\nenabled = false\n".to_owned();
    let mut story = Stage::new(setup).open();
    story.talk_until_acknowledged(300);
    story.stage.rocketmq.pause_broker();
    story.talk(0.5);
    let network = story.stage.witness.network();
    network.say_at_the_end(&TAKEN_OVER);
    let green = Bridge::start_without_waiting(&story.stage.config());
    wait_until("blue knows", Duration::from_secs(10), || {
        let report = story.bridge.get("/readyz").map(|(_, report)| report);
        report.is_some_and(|report| report.contains("took the MQTT session over"))
    });
    let connections = network.opened();
    network.heal();

    let mut blue = std::mem::replace(&mut story.bridge, green);
    blue.terminate();
    story.talk(2.0);
    story.stage.rocketmq.resume_broker();
    blue.wait_exit(Duration::from_secs(30));
    story.fault_ends();
    story.bridge.wait_ready();
    story.talk(2.0);
    let opened = story.stage.witness.network().opened();
    assert_eq!(opened, connections, "nobody connected after the stop: {}", blue.log_text());
    story.end().check(Allowed::default());
}
