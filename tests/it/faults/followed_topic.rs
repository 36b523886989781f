//! Topics that the bridge follows are emptied under it, while people talk on the way up.

use std::time::Duration;

use super::row::{Allowed, Victim};
use super::story::{Setup, Stage, Story};
use crate::support::java::NewMessage;
use crate::support::mqtt_subscriber::Subscriber;
use crate::support::ports::wait_until;

const FOLLOWED: &str = "followed";
const PATIENCE: Duration = Duration::from_secs(60);

fn stage(name: &'static str, title: &str) -> Stage {
    let mut setup = Setup::new(Victim::RocketMq, name, title, true);
    setup.more_config =
        format!("[[downlink]]\ntopic = \"{FOLLOWED}\"\nmqtt_topic = \"down\"\nstart = \"earliest\"\n");
    let stage = Stage::new(setup);
    stage.rocketmq.create_topic(FOLLOWED, 1);
    stage
}

fn send(story: &Story, prefix: &str, count: usize) {
    let message = |n| NewMessage::new(FOLLOWED, format!("{prefix}{n}")).property("mqttSecondTopic", "a");
    story.stage.rocketmq.send(&(0..count).map(message).collect::<Vec<_>>());
}

/// Hazard 20: every message of the new topic is heard, the first ones too, and the loss of the place is counted.
fn emptied(stage: Stage, empty: impl FnOnce(&mut Story)) {
    let mut story = stage.open();
    let class = Subscriber::start(&story.stage.mosquitto, "class", "down/#");
    send(&story, "old ", 60);
    class.wait_for(60, PATIENCE);
    story.talk_until_acknowledged(300);
    empty(&mut story);
    send(&story, "new ", 90);
    story.fault_ends();
    wait_until("all of the new topic is heard", PATIENCE, || {
        let heard = class.received();
        (0..90).all(|n| {
            let text = format!("new {n}");
            heard.iter().any(|publish| *publish.payload == *text.as_bytes())
        })
    });
    let lost = story.bridge.metrics().value("roombridge_position_lost_total", &[]);
    assert_eq!(lost, 1.0, "positions lost");
    assert_eq!(class.received().len(), 150, "nothing comes twice");
    story.end().check(Allowed::default());
}

#[test]
#[ignore = "make faults"]
fn full_followed_topic_made_anew() {
    let title = "a followed topic deleted and made anew, with more messages than were read";
    emptied(stage("24_followed_made_anew", title), |story| {
        story.stage.rocketmq.remake_topic(FOLLOWED, 1);
    });
}
