//! One of two RocketMQ brokers goes away, the bridge restarts meanwhile, and the topic gets more queues.

use std::collections::HashSet;
use std::time::Duration;

use super::row::{Allowed, Victim};
use super::story::{Setup, Stage, Story, TOPIC};
use crate::support::java;
use crate::support::java_bodies::{StoredBody, read_bodies};
use crate::support::ports::wait_until;
use crate::support::second_broker::SecondBroker;

const QUEUES: u32 = 4;
const MORE_QUEUES: &str = "8";

/// Hazard 10; test d of the page of hazards.
#[test]
#[ignore = "make faults"]
fn full_queues_grow_while_one_of_two_is_away() {
    let title =
        "one of two brokers killed; meanwhile the bridge is killed and the queues go from 4 to 8 each";
    let mut setup = Setup::new(Victim::RocketMq, "23_grows_while_away", title, true);
    setup.queues = QUEUES;
    let stage = Stage::new(setup);
    let mut broker_b = SecondBroker::start(&stage.rocketmq);
    create_topic(&stage, &broker_b);
    let mut story = stage.open();
    story.talk_until_acknowledged(1000);
    let brokers: HashSet<String> = read(&story).into_iter().map(|row| row.broker).collect();
    assert_eq!(brokers.len(), 2, "{brokers:?} have messages");

    // When broker-b goes, then rooms of broker-a flow on, and those of broker-b are spooled
    broker_b.kill();
    others_flow(&story);
    assert!(spooled(&story) > 0.0, "{}", story.bridge.log_text());

    // When the bridge comes back without having seen broker-b, then the same holds
    story.bridge.kill();
    story.bridge.start_again();
    others_flow(&story);
    let filled = spooled(&story);
    assert!(filled > 500.0, "{filled} messages of broker-b in the spool");

    // When the topic gets more queues and broker-b is back, then each room is where it was, complete and in order
    more_queues(&story, &story.stage.rocketmq.broker());
    broker_b.start_again();
    story.fault_ends();
    more_queues(&story, &broker_b.address());
    story.talk(3.0);
    // The row counts a room in two queues as disorder.
    story.end().check(Allowed::default());
}

#[track_caller]
fn create_topic(stage: &Stage, broker_b: &SecondBroker) {
    java::create_topics(&stage.name_server, &broker_b.address(), &[(TOPIC, QUEUES)]);
    wait_until("clients see the topic at broker-b", Duration::from_secs(60), || {
        let route = java::mqadmin(&stage.name_server, &["topicRoute", "-t", TOPIC]);
        route.contains("broker-b")
    });
}

fn read(story: &Story) -> Vec<StoredBody> {
    read_bodies(&story.stage.name_server, TOPIC)
}

/// With broker-b away clients see broker-a alone.
#[track_caller]
fn others_flow(story: &Story) {
    let before = of_broker_a(story);
    story.talk(3.0);
    let after = of_broker_a(story);
    // Half of 500 a second, in 3 seconds and what the reading takes.
    assert!(after > before + 500, "broker-a: {before}, then {after} messages\n{}", story.bridge.log_text());
}

fn of_broker_a(story: &Story) -> usize {
    read(story).iter().filter(|row| row.broker == "broker-a").count()
}

fn spooled(story: &Story) -> f64 {
    story.bridge.metrics().books().spool_depth
}

fn more_queues(story: &Story, broker: &str) {
    let queues = ["-r", MORE_QUEUES, "-w", MORE_QUEUES];
    let arguments = [&["updateTopic", "-b", broker, "-t", TOPIC][..], &queues].concat();
    story.stage.rocketmq.mqadmin(&arguments);
}
