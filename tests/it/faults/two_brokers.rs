//! Test d of the hazards: two RocketMQ brokers of which one goes away, the bridge restarted meanwhile, and twice as many
//! queues while the spool is filled. Every room stays in its queue.

use super::row::{Allowed, Victim};
use super::story::{Setup, Stage, TOPIC};
use crate::support::java;
use crate::support::second_broker::SecondBroker;

fn doubled_queues(stage: &Stage, second: &SecondBroker) {
    stage.rocketmq.create_topic(TOPIC, 8);
    java::create_topics(&stage.rocketmq.name_server(), &second.address(), &[(TOPIC, 8)]);
}

#[test]
#[ignore = "make faults"]
fn full_one_of_two_brokers_away() {
    let title = "one broker of two killed for 15 s, the bridge killed and started meanwhile, queues doubled from 4 to 8";
    let mut setup = Setup::new(Victim::RocketMq, "21_one_of_two_away", title, true);
    setup.queues = 4;
    let stage = Stage::new(setup);
    let mut second = SecondBroker::start(&stage.rocketmq);
    java::create_topics(&stage.rocketmq.name_server(), &second.address(), &[(TOPIC, 4)]);
    let mut story = stage.open();
    story.talk_until_acknowledged(600);
    second.kill();
    story.talk(3.0);
    let stored = |story: &super::story::Story| story.bridge.metrics().value("roombridge_stored_total", &[]);
    let before = stored(&story);
    story.talk(4.0);
    let meanwhile = stored(&story) - before;
    assert!(meanwhile > 500.0, "rooms of the other broker flow: {meanwhile}");
    story.bridge.kill();
    story.bridge.start_again();
    story.talk(4.0);
    second.start_again();
    doubled_queues(&story.stage, &second);
    story.fault_ends();
    story.talk(3.0);
    let row = story.end();
    drop(second);
    assert!(row.most_spooled > 0, "the spool was in use: {row:#?}");
    row.check(Allowed::default());
}

/// The topic gets twice as many queues while the spool holds messages for the old ones.
#[test]
#[ignore = "make faults"]
fn full_queues_doubled_with_a_filled_spool() {
    let title = "topic grows from 4 to 8 queues while the spool is filled, the bridge killed before and started after it";
    let mut setup = Setup::new(Victim::RocketMq, "22_queues_doubled", title, true);
    setup.queues = 4;
    let mut story = Stage::new(setup).open();
    story.talk_until_acknowledged(300);
    story.stage.rocketmq.pause_broker();
    story.talk(6.0);
    story.bridge.kill();
    story.stage.rocketmq.resume_broker();
    story.stage.rocketmq.create_topic(TOPIC, 8);
    story.bridge.start_again();
    let spooled = story.bridge.metrics().books().spool_depth_at_start;
    assert!(spooled > 500.0, "the spool was filled: {spooled}");
    story.fault_ends();
    story.talk(3.0);
    story.end().check(Allowed::default());
}
