//! One of the two ends is away.

use super::story::{NORTH, Story, always, between, scrape_fails_at};

pub fn stories() -> Vec<Story> {
    let lost = "roombridge 127.0.0.1:9464 has lost one of its ends";
    let (mqtt, rocketmq) = ("roombridge_mqtt_connected", "roombridge_rocketmq_connected");
    let away = || {
        let away = between(10.0, 20.0, 1.0);
        scrape_fails_at(15.0, move |minute| away(minute).map(|away| 1.0 - away))
    };
    let disconnected = |title| Story::of("RoombridgeDisconnected", title);
    let ends = |story: Story| {
        story.silent(10.0).fires(11.5, &[NORTH], lost).fires(15.0, &[NORTH], lost).silent(21.0)
    };
    vec![
        ends(disconnected("the MQTT broker").scrapes(mqtt, &[NORTH], away()).scrapes(
            rocketmq,
            &[NORTH],
            scrape_fails_at(15.0, always(1.0)),
        )),
        ends(disconnected("RocketMQ").scrapes(mqtt, &[NORTH], scrape_fails_at(15.0, always(1.0))).scrapes(
            rocketmq,
            &[NORTH],
            away(),
        )),
        ends(disconnected("both").scrapes(mqtt, &[NORTH], away()).scrapes(rocketmq, &[NORTH], away())),
    ]
}
