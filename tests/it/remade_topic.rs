//! A topic that the bridge follows is deleted and made anew, or its broker comes back without its store, while it runs.

use std::time::Duration;

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::Bridge;
use crate::support::java::NewMessage;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_subscriber::Subscriber;
use crate::support::ports::wait_until;

const PATIENCE: Duration = Duration::from_secs(30);

/// What lies in `down` goes to MQTT's `room`; nothing goes up.
fn config(mosquitto: &Mosquitto, rocketmq: &ApacheRocketMq, down: &str) -> String {
    format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"bridge-{down}\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"up/#\"\ntopic = \"{down}-up\"\n\
         [[downlink]]\ntopic = \"{down}\"\nmqtt_topic = \"room\"\nstart = \"earliest\"\n",
        mosquitto.url(),
        rocketmq.name_server()
    )
}

fn numbered(topic: &str, prefix: &str, count: usize) -> Vec<NewMessage> {
    let message = |n| NewMessage::new(topic, format!("{prefix}{n}")).property("mqttSecondTopic", "message/1");
    (1..=count).map(message).collect()
}

/// The class has heard so many; those with this prefix, in order.
#[track_caller]
fn heard(class: &Subscriber, count: usize, prefix: &str) -> Vec<String> {
    let texts = class.wait_for(count, PATIENCE).into_iter();
    texts
        .map(|publish| String::from_utf8_lossy(&publish.payload).into_owned())
        .filter(|text| text.starts_with(prefix))
        .collect()
}

fn expected(prefix: &str, count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("{prefix}{n}")).collect()
}

fn lost(bridge: &Bridge) -> f64 {
    bridge.metrics().value("roombridge_position_lost_total", &[])
}

/// Hazard 20: the offset that was reached is legal again as soon as there are more messages than before, and what lies
/// below it would never be heard.
#[test]
fn a_followed_topic_that_is_made_anew_is_heard_from_its_first_message() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topics(&[("remade", 1), ("remade-up", 1)]);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bridge = Bridge::start(&config(&mosquitto, rocketmq, "remade"));
    let class = Subscriber::start(&mosquitto, "class", "room/message/1");
    rocketmq.send(&numbered("remade", "old ", 6));
    class.wait_for(6, PATIENCE);
    assert_eq!(lost(&bridge), 0.0);

    // With more messages than were read
    rocketmq.remake_topic("remade", 1);
    rocketmq.send(&numbered("remade", "new ", 9));
    assert_eq!(heard(&class, 15, "new"), expected("new ", 9));
    assert_eq!(lost(&bridge), 1.0);
    let log = bridge.log_text();
    assert!(log.contains("the queue is not what was read before"), "{log}");

    // And with just as many, so that no further message ever tells
    rocketmq.remake_topic("remade", 1);
    rocketmq.send(&numbered("remade", "newer ", 9));
    assert_eq!(heard(&class, 24, "newer"), expected("newer ", 9));
    assert_eq!(lost(&bridge), 2.0);
    assert_eq!(class.received().len(), 24);
}

/// Hazard 20: the same, with the topic away for a while.
#[test]
fn a_broker_that_comes_back_without_its_store_is_heard_from_its_first_message() {
    let mut rocketmq = ApacheRocketMq::start();
    let topics = [("emptied", 1), ("emptied-up", 1)];
    rocketmq.create_topics(&topics);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bridge = Bridge::start(&config(&mosquitto, &rocketmq, "emptied"));
    let class = Subscriber::start(&mosquitto, "class", "room/message/1");
    rocketmq.send(&numbered("emptied", "old ", 6));
    class.wait_for(6, PATIENCE);

    rocketmq.kill_broker();
    rocketmq.lose_store();
    wait_until("a lag that is not known is not shown", PATIENCE, || {
        !bridge.metrics().has("roombridge_downlink_lag_messages")
    });
    rocketmq.start_broker();
    rocketmq.create_topics(&topics);
    rocketmq.send(&numbered("emptied", "new ", 9));
    assert_eq!(heard(&class, 15, "new"), expected("new ", 9));
    assert_eq!(lost(&bridge), 1.0);
}
