//! Messages at the border of what MQTT, RocketMQ or roombridge takes: stored exactly, or given up, counted and
//! acknowledged; the next ordinary message flows in any case.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::apache::{ApacheOptions, ApacheRocketMq};
use crate::support::bridge::{Bridge, roombridge_cli};
use crate::support::java::JavaMessage;
use crate::support::lying_rocketmq::LyingRocketMq;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::ports::wait_until;

const MIB: usize = 1024 * 1024;

/// One bridge between a Mosquitto of its own and a topic of its own.
struct Border {
    mosquitto: Mosquitto,
    bridge: Bridge,
    topic: String,
    ordinary: f64,
}

impl Border {
    /// `more` comes behind the binding `room/#`.
    fn new(topic: &str, more: &str) -> Border {
        let rocketmq = ApacheRocketMq::shared();
        rocketmq.create_topic(topic, 4);
        Border::before(&rocketmq.name_server(), topic, "", more)
    }

    /// `lines` come into `[rocketmq]`.
    fn before(name_server: &str, topic: &str, lines: &str, more: &str) -> Border {
        let mosquitto = Mosquitto::start(MosquittoOptions::default());
        let bridge = Bridge::start(&format!(
            "[mqtt]\nurl = \"{}\"\nclient_id = \"bridge-{topic}\"\n[rocketmq]\nname_servers = [\"{name_server}\"]\n\
             {lines}\n[[binding]]\nfilter = \"room/#\"\ntopic = \"{topic}\"\n{more}",
            mosquitto.url(),
        ));
        Border { mosquitto, bridge, topic: topic.to_owned(), ordinary: 0.0 }
    }

    fn publish(&self, messages: Vec<Message>) {
        publish_messages(&self.mosquitto, "somebody", messages);
    }

    /// An ordinary message into each of 16 rooms, so that each queue has to take some: all are stored, nothing stays
    /// behind, and the books balance.
    #[track_caller]
    fn assert_flows_on(&mut self) {
        let ordinary = |room| Message::new(format!("room/message/{room}"), "ordinary");
        self.publish((0..16).map(ordinary).collect());
        self.ordinary += 16.0;
        self.wait_ended();
    }

    #[track_caller]
    fn wait_ended(&self) {
        wait_until("all that came has ended", Duration::from_secs(30), || {
            let books = self.bridge.metrics().books();
            // What took RocketMQ longer than a second is in the spool first.
            let is_empty = books.in_flight == 0.0 && books.spool_depth == 0.0;
            books.received >= self.ordinary && is_empty && books.balanced()
        });
    }

    /// How many messages have ended so, ordinary ones left out.
    fn stored(&self) -> f64 {
        self.bridge.metrics().books().stored - self.ordinary
    }

    fn dead(&self, reason: &str) -> f64 {
        let labels = [("reason", reason)];
        self.bridge.metrics().value("roombridge_dead_lettered_total", &labels)
    }

    fn log_lines_with(&self, text: &str) -> usize {
        self.bridge.log_text().lines().filter(|line| line.contains(text)).count()
    }

    #[track_caller]
    fn read(&self, count: f64) -> Vec<JavaMessage> {
        let all = (count + self.ordinary) as usize;
        let stored = ApacheRocketMq::shared().read_at_least(&self.topic, all, Duration::from_secs(30));
        stored.into_iter().filter(|message| message.body != b"ordinary").collect()
    }

    #[track_caller]
    fn history(&self, arguments: &[&str]) -> Vec<Value> {
        let config = self.bridge.config_file();
        let output = roombridge_cli(&[&["history"], arguments, &["--json", "-c", &config]].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {error}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn odd_topics_and_empty_payloads_are_stored_and_found_again() {
    let mut border = Border::new("odd", "");
    let rooms = ["a b", "50%", "%41", "a||b", "\u{6559}\u{5ba4} 1", "\u{1f600}", "a'b\"c\\d", "$sys", " x "];
    let mut messages: Vec<_> =
        rooms.iter().map(|room| Message::new(format!("room/message/{room}"), format!("in {room}"))).collect();
    let others = ["room", "room/", "room//x", "room/message", "room/message/", "room/status/a/b/c", "room/*"];
    messages.extend(others.map(|topic| Message::new(topic, if topic == "room" { "" } else { topic })));
    let sent = messages.clone();
    border.publish(messages);
    border.assert_flows_on();

    // then Apache's client finds each once, byte for byte, under its own topic
    let stored = border.read(sent.len() as f64);
    assert_eq!(stored.len(), sent.len());
    for message in &sent {
        let mut found = stored.iter().filter(|stored| stored.property("topic") == Some(&message.topic));
        let one = found.next().unwrap_or_else(|| panic!("{} is not stored", message.topic));
        assert!(found.next().is_none(), "{} is stored twice", message.topic);
        if message.payload.is_empty() {
            assert_eq!((&one.body[..], one.property("IS_EMPTY_MSG")), (&[0][..], Some("true")));
        } else {
            assert_eq!(one.body, message.payload, "{}", message.topic);
        }
    }

    // and each room is found by its name alone
    let searchable = rooms.into_iter().filter(|room| !room.contains("||"));
    for room in searchable {
        let history = border.history(&[room]);
        let told: Vec<_> = history
            .iter()
            .map(|message| (message["room"].as_str().unwrap(), message["payload"].as_str().unwrap()))
            .collect();
        assert_eq!(told, [(room, &format!("in {room}")[..])]);
    }
    for (tag, topic) in [("status/a/b/c", "room/status/a/b/c"), ("message/a%7C%7Cb", "room/message/a||b")] {
        assert_eq!(border.history(&["--tag", tag])[0]["mqtt_topic"], topic);
    }
    assert_eq!(border.bridge.metrics().books().dropped, 0.0);
}

#[test]
fn what_rocketmq_can_never_store_is_a_dead_letter_logged_once_and_blocks_nothing() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("legal", 1);
    let more = "[[binding]]\nfilter = \"other/#\"\ntopic = \"{1}\"\n\
                [[binding]]\nfilter = \"deep/#\"\ntopic = \"{2}\"\n";
    let mut border = Border::new("borders", more);

    // topics that are no names of RocketMQ topics
    let illegal = ["a b", "a|b", "a.b", "%RETRY%g", "TBW102", "rmq_sys_x", "\u{6559}", ""];
    let long = format!("other/{}", "t".repeat(128));
    let mut messages: Vec<_> =
        illegal.iter().map(|name| Message::new(format!("other/{name}/x"), "lost")).collect();
    messages.push(Message::new(long, "lost"));
    messages.push(Message::new("other/legal/x", "kept"));
    border.publish(messages);
    border.assert_flows_on();
    assert_eq!((border.dead("illegal_topic"), border.stored()), (9.0, 1.0));
    assert_eq!(border.log_lines_with("illegal_topic"), 1);
    assert_eq!(rocketmq.read("legal")[0].body, b"kept");

    // a topic that lacks the level that its binding names
    border.publish(vec![Message::new("deep/short", "no rule")]);
    border.assert_flows_on();
    let no_rule = [("reason", "no_rule")];
    assert_eq!(border.bridge.metrics().value("roombridge_filtered_total", &no_rule), 1.0);

    // properties around the 32,767 bytes that RocketMQ takes: a topic of several KB, and one large user property
    let topics = [2_000, 7_000, 8_200, 20_000, 60_000]
        .map(|bytes| Message::new(format!("room/status/{}", "t".repeat(bytes)), "topic"));
    border.publish(topics.into());
    let value = |bytes: usize| {
        Message::new("room/status", format!("value of {bytes}")).user_property("v", &"x".repeat(bytes))
    };
    border.publish((31_000..33_000).step_by(50).map(value).collect());
    border.assert_flows_on();
    let stored = border.read(0.0);
    let dead = border.dead("properties_too_large");
    assert_eq!(border.stored() - 1.0, stored.len() as f64);
    assert_eq!(stored.len() as f64 + dead, 45.0);
    assert_eq!(border.log_lines_with("properties_too_large"), 1);
    let names: Vec<_> = stored
        .iter()
        .filter(|message| message.body == b"topic")
        .map(|message| message.property("topic").unwrap().len() - "room/status/".len())
        .collect();
    assert!(names.contains(&2_000) && names.contains(&7_000), "{names:?}");
    let largest = stored
        .iter()
        .filter_map(|message| message.body_text().strip_prefix("value of ")?.parse::<usize>().ok())
        .max()
        .unwrap();
    println!("topics stored {names:?}, largest user property {largest}, dead {dead}");
    let kept = stored.len() - names.len();
    assert_eq!(kept, (largest - 31_000) / 50 + 1, "all below the border are stored, none above");
    assert!(largest > 31_200, "the border is near RocketMQ's own: {largest}");
}

#[test]
fn bodies_up_to_the_limit_are_stored_exactly_and_larger_ones_are_counted() {
    let mut border = Border::new("large", "");
    let body = |bytes: usize| -> Vec<u8> { (0..bytes).map(|n| (n * 31 % 251) as u8).collect() };
    let sizes = [4 * MIB - 2048, 4 * MIB, 5 * MIB, 4 * MIB - 3000, 17 * MIB];
    border.publish(sizes.iter().map(|bytes| Message::new("room/message/large", body(*bytes))).collect());
    border.assert_flows_on();

    assert_eq!((border.stored(), border.dead("too_large")), (2.0, 2.0));
    assert_eq!(border.log_lines_with("too_large"), 1);
    assert_eq!(
        border.bridge.metrics().books().received - border.ordinary,
        4.0,
        "the broker keeps what is over mqtt.max_packet_bytes"
    );
    let stored = border.read(2.0);
    for (message, bytes) in stored.iter().zip([4 * MIB - 2048, 4 * MIB - 3000]) {
        assert!(message.body == body(bytes), "{bytes} bytes came back as {}", message.body.len());
    }
    assert_eq!(stored.len(), 2);
}

/// Hazard 31: a batch is held against the message limit as a whole, by RocketMQ's client and by its broker.
#[test]
fn a_full_batch_is_not_over_the_limit() {
    const LIMIT: usize = 262_144;
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("full", 1);
    let truthful = LyingRocketMq::start(rocketmq);
    let lines = format!("max_message_bytes = {LIMIT}");
    let border = Border::before(&truthful.name_server(), "full", &lines, "[pipeline]\nlinger_ms = 300\n");
    let fast = |number: usize| Message::new("room/message/full", vec![b'0' + (number % 10) as u8; 2_040]);
    border.publish((0..600).map(fast).collect());
    wait_until("all are stored", Duration::from_secs(30), || border.stored() >= 600.0);
    border.wait_ended();
    let metrics = border.bridge.metrics();
    assert_eq!(metrics.value("roombridge_send_failures_total", &[]), 0.0, "{}", border.bridge.log_text());
    let largest = truthful.told().largest_bytes;
    assert!((LIMIT - 8_000..=LIMIT).contains(&largest), "the largest batch has {largest} bytes");
}

/// Hazard 33: the broker's limit is lower than ours, and it says so with another code to a batch than to a message alone.
#[test]
fn a_message_over_the_brokers_own_limit_becomes_a_dead_letter_with_its_words() {
    let rocketmq = ApacheRocketMq::start_with(ApacheOptions {
        extra_lines: vec!["maxMessageSize=262144".to_owned()],
        ..ApacheOptions::default()
    });
    rocketmq.create_topics(&[("low", 1), ("roombridge_dead_letter", 1)]);
    let border = Border::before(&rocketmq.name_server(), "low", "", "");
    let large = || Message::new("room/message/1", vec![b'x'; 300_000]);
    let after: Vec<_> = (0..300)
        .map(|number| Message::new("room/message/1", format!("{number} {}", "y".repeat(2_000))))
        .collect();
    border.publish([vec![Message::new("room/message/1", "before"), large(), large()], after].concat());
    wait_until("what is behind it is stored", Duration::from_secs(30), || border.stored() >= 301.0);
    border.wait_ended();
    let stored = rocketmq.read_at_least("low", 301, Duration::from_secs(30));
    let first = |body: &str| body.split(' ').next().unwrap_or_default().to_owned();
    let bodies: Vec<_> = stored.iter().map(|message| first(message.body_text())).collect();
    let wanted: Vec<_> =
        std::iter::once("before".to_owned()).chain((0..300).map(|n| n.to_string())).collect();
    assert_eq!(bodies, wanted, "in order, each once");
    assert_eq!(border.dead("refused_by_rocketmq"), 2.0);
    assert_eq!(border.log_lines_with("msg body length limit 262144B"), 1, "{}", border.bridge.log_text());
}

#[test]
fn three_hundred_large_messages_pass_an_intake_that_holds_half_of_them() {
    // given an intake smaller than what the broker may send at once
    let mut border = Border::new("heavy", "[pipeline]\nintake_bytes = 17825792\n");
    let body = |number: usize| {
        let mut body = format!("{number} ").into_bytes();
        body.resize(128 * 1024, b'.');
        body
    };
    let started = Instant::now();
    border.publish((0..300).map(|number| Message::new("room/message/heavy", body(number))).collect());
    wait_until("all are stored", Duration::from_secs(60), || border.stored() >= 300.0);
    let took = started.elapsed();
    border.assert_flows_on();

    // then each is stored, in order, and a copy has the id of its original
    let metrics = border.bridge.metrics();
    let held_back = metrics.value("roombridge_filtered_total", &[("reason", "held_back")]);
    let stored = border.read(300.0);
    println!(
        "300 x 128 KB in {took:?}; {} stored, {held_back} held back, {} connections more",
        stored.len(),
        metrics.value("roombridge_reconnects_total", &[])
    );
    let mut ids = std::collections::HashSet::new();
    let first: Vec<_> =
        stored.iter().filter(|message| ids.insert(message.property("rbId").unwrap())).collect();
    assert_eq!(first.len(), 300);
    for (number, message) in first.iter().enumerate() {
        assert!(message.body == body(number), "message {number} is {:?}", &message.body[..8]);
    }
}

/// Mosquitto refuses control characters, other brokers let them pass.
#[cfg(feature = "embedded")]
#[test]
fn control_characters_come_back_as_they_were_sent() {
    let dev = crate::support::dev::Dev::start();
    let message = Message::new("room/message/7", "\u{1}\u{2}\u{1b}[31m")
        .user_property("a\u{1}b", "c\u{2}d")
        .content_type("text/\u{2}plain");
    publish_messages(dev.mqtt_port(), "somebody", vec![message]);
    publish_messages(dev.mqtt_port(), "somebody", vec![Message::new("room/message/7", "ordinary")]);
    let history = dev.history("7", 2);
    println!("{history:#?}");
    assert_eq!(history[0]["payload"], "\u{1}\u{2}\u{1b}[31m");
    let properties = &history[0]["properties"];
    let user: Value = serde_json::from_str(properties["mqtt5UserProperty"].as_str().unwrap()).unwrap();
    assert_eq!(user, serde_json::json!([{"key": "a\u{1}b", "value": "c\u{2}d"}]));
    assert_eq!(properties["mqtt5ContentType"], "text/\u{2}plain");
    assert_eq!(history[1]["payload"], "ordinary");

    // and neither the terminal nor the JSON gets them raw
    let text = dev.cli(&["history", "7"]).stdout;
    let is_raw = |byte: &u8| *byte < 0x20 && *byte != b'\n';
    assert!(!text.iter().any(is_raw), "{}", String::from_utf8_lossy(&text));
    assert!(dev.metrics().books().balanced());
}
