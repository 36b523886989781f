//! Messages from a real RocketMQ, stored by Apache's own Java client, come down to a real Mosquitto.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::{Bridge, roombridge_cli};
use crate::support::java::NewMessage;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::mqtt_subscriber::Subscriber;
use crate::support::ports::wait_until;

const PATIENCE: Duration = Duration::from_secs(30);

/// What comes up from `room/#` goes to one RocketMQ topic, what lies in another goes down to `room`.
fn config(mosquitto: &Mosquitto, rocketmq: &ApacheRocketMq, up: &str, down: &str) -> String {
    format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"bridge-{down}\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{up}\"\n\
         [[downlink]]\ntopic = \"{down}\"\nmqtt_topic = \"room\"\nstart = \"earliest\"\n",
        mosquitto.url(),
        rocketmq.name_server()
    )
}

fn topic(publish: &Publish) -> &str {
    std::str::from_utf8(&publish.topic).unwrap()
}

fn user<'a>(publish: &'a Publish, wanted: &str) -> Option<&'a str> {
    let user = &publish.properties.as_ref()?.user_properties;
    user.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

fn down(bridge: &Bridge, name: &str) -> f64 {
    bridge.metrics().value(name, &[("direction", "downlink")])
}

/// The books of the way down, once nothing moves.
fn wait_until_settled(bridge: &Bridge) {
    wait_until("the way down is quiet and its books balance", PATIENCE, || {
        let ends =
            ["roombridge_published_total", "roombridge_filtered_total", "roombridge_dead_lettered_total"];
        let ended: f64 = ends.iter().map(|name| down(bridge, name)).sum();
        let metrics = bridge.metrics();
        down(bridge, "roombridge_in_flight") == 0.0
            && metrics.has("roombridge_downlink_lag_messages")
            && metrics.value("roombridge_downlink_lag_messages", &[]) == 0.0
            && down(bridge, "roombridge_received_total") == ended
    });
}

#[test]
fn a_java_producer_that_knows_only_the_documents_is_heard_on_mqtt() {
    // Given students on MQTT, and an application with Apache's client
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topics(&[("java-up", 4), ("java-down", 4)]);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bridge = Bridge::start(&config(&mosquitto, rocketmq, "java-up", "java-down"));
    let room = Subscriber::start(&mosquitto, "student", "room/message/123456");
    let own = Subscriber::start(&mosquitto, "GID_student@@@001", "room/p2p/GID_student@@@001");
    let parent = Subscriber::start(&mosquitto, "parent", "room");

    // When it stores messages as the documents say, with and without a leading slash
    let message = |second: &str, text: &str| {
        NewMessage::new("java-down", text).tags("MQ2MQTT").property("mqttSecondTopic", second)
    };
    rocketmq.send(&[
        message("/message/123456", "with a slash")
            .property("mqtt5UserProperty", r#"[{"key":"lesson","value":"maths"}]"#)
            .property("mqtt5ContentType", "text/plain"),
        message("message/123456", "without"),
        message("/p2p/GID_student@@@001", r#"{"type":"shutUp"}"#).property("mqttRealTopic", "notice"),
        NewMessage::new("java-down", "to the parent"),
    ]);

    // Then each is heard where it belongs
    let heard = room.wait_for(2, PATIENCE);
    let mut texts: Vec<_> = heard.iter().map(|publish| &publish.payload[..]).collect();
    texts.sort();
    assert_eq!(texts, [&b"with a slash"[..], b"without"]);
    let with_slash = heard.iter().find(|publish| &publish.payload[..] == b"with a slash").unwrap();
    assert_eq!(user(with_slash, "lesson"), Some("maths"));
    assert_eq!(with_slash.properties.as_ref().unwrap().content_type.as_deref(), Some("text/plain"));
    let private = own.wait_for(1, PATIENCE);
    assert_eq!(&private[0].payload[..], br#"{"type":"shutUp"}"#);
    assert_eq!(user(&private[0], "mqttRealTopic"), Some("notice"));
    assert_eq!(topic(&parent.wait_for(1, PATIENCE)[0]), "room");
    wait_until_settled(&bridge);

    // And the bridge, which hears its own words on room/#, stores none of them again
    wait_until("the bridge has heard itself", PATIENCE, || {
        let labels = [("direction", "uplink"), ("reason", "from_rocketmq")];
        bridge.metrics().value("roombridge_filtered_total", &labels) == 4.0
    });
    assert_eq!(rocketmq.read("java-up").len(), 0);
}

/// What a room heard of a producer that knows only the documents is in the room's history, whatever tag it chose.
#[test]
fn what_a_java_producer_said_is_in_the_history_of_the_room_that_heard_it() {
    // Given a class that hears an application, whose topic no binding leads to
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topics(&[("tags-up", 4), ("tags-down", 4)]);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bridge = Bridge::start(&config(&mosquitto, rocketmq, "tags-up", "tags-down"));
    let room = Subscriber::start(&mosquitto, "student", "room/message/777");

    // When it says the same room in many ways, tagged as it likes or not at all, and something to others
    let second =
        |value: &str, text: &str| NewMessage::new("tags-down", text).property("mqttSecondTopic", value);
    rocketmq.send(&[
        second("message/777", "no tag"),
        second("message/777", "its tag").tags("message/777"),
        second("message/777", "any tag").tags("whatever").keys("order-1"),
        second("/message/777", "slash").tags("MQ2MQTT"),
        second("message/777/", "slash behind"),
        second("message/1", "shown elsewhere").property("mqttRealTopic", "message/777"),
        NewMessage::new("tags-down", "Apache's").property("originMqttTopic", "tags-down/message/777"),
        second("message/7", "to another room").tags("message/777"),
        second("p2p/GID_a@@@1", "private").tags("message/777"),
        second("command", "no room"),
    ]);
    let mut said: Vec<_> = room
        .wait_for(7, PATIENCE)
        .iter()
        .map(|publish| String::from_utf8(publish.payload.to_vec()).unwrap())
        .collect();
    said.sort();

    // Then history and replay show what was heard, and nothing else
    let texts = |arguments: &[&str]| -> Vec<String> {
        let config = bridge.config_file();
        let output = roombridge_cli(&[arguments, &["--json", "-c", &config]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        let record = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let mut texts: Vec<_> =
            lines.lines().map(|line| record(line)["payload"].as_str().unwrap().to_owned()).collect();
        texts.sort();
        texts
    };
    assert_eq!(texts(&["history", "777"]), said);
    assert_eq!(texts(&["history", "777", "--from", "1h"]), said);
    assert_eq!(texts(&["history", "777", "--kind", "message"]), said);
    assert_eq!(texts(&["replay", "777", "--speed", "max"]), said);
    assert_eq!(texts(&["history", "777", "--limit", "2"]).len(), 2);
    assert_eq!(texts(&["history", "7"]), ["to another room"]);
    assert_eq!(texts(&["history", "--tag", "command"]), ["no room"]);
    assert_eq!(texts(&["history", "--tag", "whatever"]), ["any tag"]);
}

/// Hazard 19: one topic that goes up and down, and clients on both sides: nothing goes round.
#[test]
fn a_configuration_that_could_loop_does_not_loop() {
    // Given one RocketMQ topic for both directions
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("loop", 4);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bridge = Bridge::start(&config(&mosquitto, rocketmq, "loop", "loop"));
    let class = Subscriber::start(&mosquitto, "class", "room/#");

    // When people speak on both sides, and somebody on MQTT says again what came down, with its properties
    let up = (0..50).map(|n| Message::new("room/message/1", format!("up {n}")));
    publish_messages(&mosquitto, "student", up.collect());
    let stored = (0..50)
        .map(|n| NewMessage::new("loop", format!("down {n}")).property("mqttSecondTopic", "/message/1"));
    rocketmq.send(&stored.collect::<Vec<_>>());
    class.wait_for(100, PATIENCE);
    let echo = class.received().into_iter().find(|publish| publish.payload.starts_with(b"down")).unwrap();
    let mut again = Message::new("room/message/2", echo.payload.to_vec());
    for (name, value) in &echo.properties.as_ref().unwrap().user_properties {
        again = again.user_property(name, value);
    }
    publish_messages(&mosquitto, "echo", vec![again]);
    class.wait_for(101, PATIENCE);

    // Then after a while there is what there was; what goes round does so within milliseconds
    let end = Instant::now() + Duration::from_secs(15);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(class.received().len(), 101, "it goes round");
    }
    wait_until_settled(&bridge);
    assert_eq!(rocketmq.read("loop").len(), 101);
    bridge.assert_books_balanced();
}

#[test]
fn a_bridge_killed_on_the_way_down_loses_nothing_and_keeps_the_order_of_each_room() {
    // Given 3,000 messages of four rooms on their way down
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topics(&[("killed-up", 4), ("killed-down", 1)]);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let class = Subscriber::start_persistent(&mosquitto, "class", "room/message/#");
    let stored: Vec<_> = (0..3000)
        .map(|n| {
            NewMessage::new("killed-down", n.to_string())
                .property("mqttSecondTopic", &format!("message/{}", n % 4))
        })
        .collect();
    rocketmq.send(&stored);

    // When the bridge is killed again and again while it publishes
    let mut bridge = Bridge::start(&config(&mosquitto, rocketmq, "killed-up", "killed-down"));
    for wanted in [300, 1000, 2000] {
        wait_until("some have come down", PATIENCE, || class.received().len() >= wanted);
        bridge.kill();
        bridge.start_again();
    }
    wait_until_settled(&bridge);

    // Then every message came, first occurrences in order
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for publish in class.received() {
        let number: i64 = std::str::from_utf8(&publish.payload).unwrap().parse().unwrap();
        if seen.insert(number) {
            let before = newest.insert(topic(&publish).to_owned(), number);
            assert!(before.is_none_or(|before| before < number), "{number} after {before:?}");
        }
    }
    let copies = class.received().len() - seen.len();
    println!("{} messages came down, and {copies} copies after three kills", seen.len());
    assert_eq!(seen.len(), 3000);
}

#[test]
fn a_broker_that_restarts_gets_what_it_had_not_acknowledged() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topics(&[("restart-up", 4), ("restart-down", 2)]);
    let mut mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bridge = Bridge::start(&config(&mosquitto, rocketmq, "restart-up", "restart-down"));
    let send = |from: usize, to: usize| {
        let messages = (from..to)
            .map(|n| NewMessage::new("restart-down", n.to_string()).property("mqttSecondTopic", "message/1"));
        rocketmq.send(&messages.collect::<Vec<_>>());
    };
    let class = Subscriber::start_persistent(&mosquitto, "class", "room/message/1");
    send(0, 50);
    class.wait_for(50, PATIENCE);

    // Stopped, not killed: it keeps the session of the class, whoever of the two comes back first.
    mosquitto.stop();
    send(50, 100);
    assert!(down(&bridge, "roombridge_published_total") < 51.0, "nobody acknowledged more");
    mosquitto.start_again();
    wait_until("the rest came down", PATIENCE, || class.received().len() >= 100);
    wait_until_settled(&bridge);
    // The way up has a connection of its own, with a reconnect time of its own.
    wait_until("both directions are back", PATIENCE, || {
        bridge.get("/readyz").is_some_and(|(status, _)| status == 200)
    });
}

/// Hazard 20: what no broker takes must not stand in the way of the rest.
#[test]
fn what_cannot_be_published_becomes_a_dead_letter_and_the_rest_goes_on() {
    // Given a broker that takes packets of 2,000 bytes, and denies one topic
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topics(&[("poison-up", 4), ("poison-down", 1), ("roombridge_dead_letter", 4)]);
    let mut mosquitto = Mosquitto::start(MosquittoOptions {
        extra_lines: vec!["max_packet_size 2000".to_owned()],
        ..MosquittoOptions::default()
    });
    let bridge = Bridge::start(&config(&mosquitto, rocketmq, "poison-up", "poison-down"));
    let class = Subscriber::start(&mosquitto, "class", "room/#");

    // When poison lies between good messages
    let message = |second: &str, body: Vec<u8>| {
        NewMessage::new("poison-down", body).property("mqttSecondTopic", second)
    };
    rocketmq.send(&[
        message("message/1", b"first".to_vec()),
        message("message/+", b"a wildcard".to_vec()),
        message("message/1", vec![b'x'; 5000]),
        message("#", b"another".to_vec()),
        message("message/1", b"last".to_vec()),
    ]);

    // Then the good ones are heard, and the others are put aside with their reasons
    let heard = class.wait_for(2, PATIENCE);
    let texts: Vec<_> = heard.iter().map(|publish| &publish.payload[..]).collect();
    assert_eq!(texts, [&b"first"[..], b"last"]);
    wait_until_settled(&bridge);
    let reasons = |reason: &str| {
        let labels = [("direction", "downlink"), ("reason", reason)];
        bridge.metrics().value("roombridge_dead_lettered_total", &labels)
    };
    assert_eq!(reasons("illegal_mqtt_topic"), 2.0);
    assert_eq!(reasons("too_large_for_mqtt"), 1.0);
    let listed = roombridge_cli(&["deadletter", "list", "--json", "-c", &bridge.config_file()]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("room/message/+") && listed.contains("too_large_for_mqtt"), "{listed}");
    assert!(mosquitto.stop().success());
}

#[test]
fn qos_0_goes_down_as_qos_0() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topics(&[("qos-up", 4), ("qos-down", 1)]);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bridge = Bridge::start(&config(&mosquitto, rocketmq, "qos-up", "qos-down"));
    let class = Subscriber::start(&mosquitto, "class", "room/#");
    let message = |qos: &str| {
        NewMessage::new("qos-down", qos).property("mqttSecondTopic", "status").property("qoslevel", qos)
    };
    rocketmq.send(&[message("0"), message("1"), message("2")]);
    let heard = class.wait_for(3, PATIENCE);
    let qos: Vec<_> = heard.iter().map(|publish| publish.qos).collect();
    assert_eq!(qos, [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce]);
    wait_until_settled(&bridge);
}

/// Hazard 20: what a broker would have thrown away must not come back from the archive with its full life.
#[test]
fn a_message_goes_down_with_what_is_left_of_its_life_or_not_at_all() {
    // Given messages that wait in RocketMQ, one of them beyond its life
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topics(&[("expiry-up", 4), ("expiry-down", 1)]);
    let mut mosquitto = Mosquitto::start(MosquittoOptions::default());
    let class = Subscriber::start_persistent(&mosquitto, "class", "room/message/1");
    let message = |text: &str, life_s: Option<u32>| {
        let message = NewMessage::new("expiry-down", text).property("mqttSecondTopic", "message/1");
        match life_s {
            Some(life_s) => message.property("mqtt5MsgExpireInterval", &life_s.to_string()),
            None => message,
        }
    };
    rocketmq.send(&[message("short", Some(1)), message("long", Some(600)), message("endless", None)]);
    std::thread::sleep(Duration::from_millis(1100));

    // When the bridge comes, then that one is left out, and the others have the life that is left
    let bridge = Bridge::start(&config(&mosquitto, rocketmq, "expiry-up", "expiry-down"));
    let life_s = |publish: &Publish| publish.properties.as_ref()?.message_expiry_interval;
    let heard = class.wait_for(2, PATIENCE);
    assert_eq!((&*heard[0].payload, &*heard[1].payload), (&b"long"[..], &b"endless"[..]));
    assert!((500..=599).contains(&life_s(&heard[0]).unwrap()), "{heard:?}");
    assert_eq!(life_s(&heard[1]), None);
    let expired = |bridge: &Bridge| {
        let labels = [("direction", "downlink"), ("reason", "expired")];
        bridge.metrics().value("roombridge_filtered_total", &labels)
    };
    assert_eq!(expired(&bridge), 1.0);

    // And life passes while a message waits for the MQTT broker
    mosquitto.stop();
    rocketmq.send(&[message("too late", Some(2)), message("in time", Some(600))]);
    std::thread::sleep(Duration::from_millis(2100));
    mosquitto.start_again();
    let heard = class.wait_for(3, PATIENCE);
    assert_eq!(&*heard[2].payload, b"in time");
    assert!(life_s(&heard[2]).unwrap() <= 598, "{heard:?}");
    wait_until_settled(&bridge);
    assert_eq!((expired(&bridge), class.received().len()), (2.0, 3));
}
