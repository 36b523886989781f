//! `room/#` out of a real Mosquitto into a real Apache RocketMQ, in peace and in trouble.

use std::time::{Duration, Instant};

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::{Bridge, get, roombridge_cli};
use crate::support::java::JavaMessage;
use crate::support::lesson::{Found, compare, message};
use crate::support::metrics::Metrics;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions, Persistence};
use crate::support::mqtt_client::{Message, Published, Publisher, publish_messages};
use crate::support::ports::{accepts_connections, wait_until};

const ROOMS: u64 = 100;

/// One bridge between its own Mosquitto and a topic of its own.
pub fn config(mosquitto: &Mosquitto, name_server: &str, topic: &str) -> String {
    format!(
        "[mqtt]\nurl = \"{}\"\nclient_id = \"bridge-{topic}\"\n[rocketmq]\nname_servers = [\"{name_server}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{topic}\"\n",
        mosquitto.url()
    )
}

fn publishers(mosquitto: &Mosquitto, per_second: u32) -> Vec<(String, Publisher)> {
    (0..3)
        .map(|number| {
            let name = format!("GID_student@@@{number}");
            let owned = name.clone();
            let publisher =
                Publisher::paced(mosquitto.port(), &name, per_second, move |n| message(&owned, n, ROOMS));
            (name, publisher)
        })
        .collect()
}

fn finish(publishers: Vec<(String, Publisher)>) -> Vec<(String, Published)> {
    publishers.into_iter().map(|(name, publisher)| (name, publisher.finish())).collect()
}

fn acknowledged(published: &[(String, Published)]) -> impl Iterator<Item = (&str, u64)> {
    published.iter().flat_map(|(name, published)| published.acknowledged.iter().map(|n| (name.as_str(), *n)))
}

fn wait_for_all(bridge: &Bridge) {
    wait_until("everything has ended", Duration::from_secs(60), || {
        let books = bridge.metrics().books();
        books.in_flight == 0.0 && books.balanced()
    });
}

/// What was acknowledged to the publishers, and what became of it.
struct Lesson {
    published: Vec<(String, Published)>,
    all: usize,
    stored: Vec<JavaMessage>,
    found: Found,
}

/// Lets the publishers finish and the bridge store all, and reads the topic by Apache's client.
fn end_of_lesson(
    publishers: Vec<(String, Publisher)>,
    bridge: &Bridge,
    rocketmq: &ApacheRocketMq,
    topic: &str,
) -> Lesson {
    let published = finish(publishers);
    wait_for_all(bridge);
    let all = acknowledged(&published).count();
    let began = Instant::now();
    // RocketMQ shows messages some time after it has confirmed them, and copies count, too: one read may not hold all.
    let mut before = 0;
    let (stored, found) = loop {
        let stored = rocketmq.read_at_least(topic, all.max(before), Duration::from_secs(30));
        let found = compare(acknowledged(&published), ROOMS, &stored);
        let is_whole = found.lost.is_empty() && stored.len() == before;
        if is_whole || began.elapsed() > Duration::from_secs(30) {
            break (stored, found);
        }
        before = stored.len();
    };
    println!("{topic}: {all} acknowledged to publishers, {found:?}");
    Lesson { published, all, stored, found }
}

#[test]
fn twenty_thousand_messages_are_stored_exactly_once_in_order_and_byte_for_byte() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("twenty", 8);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bridge = Bridge::start(&config(&mosquitto, &rocketmq.name_server(), "twenty"));

    let started = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let port = mosquitto.port();
            scope.spawn(move || {
                let name = format!("GID_student@@@{number}");
                publish_messages(port, &name, (0..5000).map(|n| message(&name, n, ROOMS)).collect());
            });
        }
    });
    println!("published after {:?}", started.elapsed());
    wait_until("20,000 are stored", Duration::from_secs(60), || {
        bridge.metrics().value("roombridge_stored_total", &[]) >= 20_000.0
    });

    println!("stored after {:?}", started.elapsed());
    let stored = rocketmq.read_at_least("twenty", 20_000, Duration::from_secs(30));
    let names: Vec<_> = (0..4).map(|number| format!("GID_student@@@{number}")).collect();
    let sent = names.iter().flat_map(|name| (0..5000).map(|n| (name.as_str(), n)));
    let found = compare(sent, ROOMS, &stored);
    assert_eq!((found.messages, found.duplicates, found.out_of_order, found.lost.len()), (20_000, 0, 0, 0));
    for message in &stored {
        let room = message.property("mqttSecondTopic").unwrap().rsplit('/').next().unwrap();
        assert_eq!(message.tags.as_deref(), Some(format!("message/{room}").as_str()));
        assert_eq!(message.property("topic"), Some(format!("room/message/{room}").as_str()));
        assert_eq!(message.property("originMqttTopic"), message.property("topic"));
        assert_eq!((message.property("qoslevel"), message.property("qosLevel")), (Some("1"), Some("1")));
        assert_eq!(message.property("mqttRetain"), Some("false"));
        assert_eq!(message.property("clientId"), None, "no source tells who published");
        let keys = message.keys.as_deref().unwrap();
        assert_eq!(keys, format!("{room} {}", message.property("rbId").unwrap()));
    }
    bridge.assert_books_balanced();
    let topics = rocketmq.mqadmin(&["topicStatus", "-n", &rocketmq.name_server(), "-t", "twenty"]);
    let counted: u64 =
        topics.lines().filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok()).sum();
    assert_eq!(counted, 20_000, "{topics}");
}

#[test]
fn without_a_spool_rocketmq_away_for_twenty_seconds_acks_nothing_and_goes_on_within_a_second() {
    let mut rocketmq = ApacheRocketMq::start();
    rocketmq.create_topic("away", 8);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let without_spool = "[spool]\nenabled = false\n";
    let bridge = Bridge::start(&(config(&mosquitto, &rocketmq.name_server(), "away") + without_spool));
    let publishers = publishers(&mosquitto, 100);
    wait_until("a lesson is on its way", Duration::from_secs(20), || {
        bridge.metrics().value("roombridge_stored_total", &[]) > 300.0
    });

    rocketmq.kill_broker();
    std::thread::sleep(Duration::from_secs(1));
    let acked = |bridge: &Bridge| bridge.metrics().value("roombridge_store_seconds_count", &[]);
    let before = acked(&bridge);
    std::thread::sleep(Duration::from_secs(19));
    assert_eq!(acked(&bridge), before, "no PUBACK while the store is away");
    assert_eq!(bridge.get("/readyz").unwrap().0, 503);

    let stored = bridge.metrics().value("roombridge_stored_total", &[]);
    // Watched from here, because `start_broker` returns only when the broker is registered as well.
    let (port, url) =
        (rocketmq.broker().rsplit(':').next().unwrap().parse().unwrap(), bridge.url("/metrics"));
    let watch = std::thread::spawn(move || {
        wait_until("the broker's port is open", Duration::from_secs(60), || accepts_connections(port));
        let port_open = Instant::now();
        wait_until("sends go on", Duration::from_secs(20), || {
            get(&url)
                .is_some_and(|(_, text)| Metrics::parse(&text).value("roombridge_stored_total", &[]) > stored)
        });
        (port_open, port_open.elapsed())
    });
    rocketmq.start_broker();
    let started = Instant::now();
    let (port_open, back_after) = watch.join().unwrap();
    // The broker opens its port before it registers with the name server, which takes its time on a busy machine.
    let registered_after = started - port_open;
    let lesson = end_of_lesson(publishers, &bridge, &rocketmq, "away");
    let found = &lesson.found;
    println!("registered {registered_after:?} and sent to {back_after:?} after the port was open");
    assert!(found.lost.is_empty(), "{:?}", found.lost);
    assert_eq!(found.out_of_order, 0);
    let late = back_after.saturating_sub(registered_after);
    assert!(
        late < Duration::from_secs(1),
        "sent to {back_after:?} after the port was open, {late:?} after it could be"
    );
    bridge.assert_books_balanced();
}

#[test]
fn a_bridge_killed_under_load_loses_nothing_and_history_hides_the_copies() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("killed", 8);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let mut bridge = Bridge::start(&config(&mosquitto, &rocketmq.name_server(), "killed"));
    let publishers = publishers(&mosquitto, 500);
    for round in 1..=6 {
        std::thread::sleep(Duration::from_millis(400 + 130 * round));
        bridge.kill();
        bridge.start_again();
    }
    let lesson = end_of_lesson(publishers, &bridge, rocketmq, "killed");
    let (all, found) = (lesson.all, &lesson.found);
    assert!(found.lost.is_empty(), "{:?}", found.lost);
    assert_eq!((found.messages, found.out_of_order), (all, 0));
    let ids: std::collections::HashSet<_> =
        lesson.stored.iter().map(|message| message.property("rbId").unwrap()).collect();
    assert_eq!(ids.len(), all, "a copy has the id of its original, and no two messages share one");
    history_shows_each_once(&bridge, 7, &lesson.stored, &lesson.published);
    bridge.assert_books_balanced();
}

fn history_shows_each_once(
    bridge: &Bridge,
    room: u64,
    stored: &[JavaMessage],
    published: &[(String, Published)],
) {
    let output = roombridge_cli(&["history", &room.to_string(), "--json", "-c", &bridge.config_file()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<serde_json::Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let said = acknowledged(published).filter(|(_, number)| number % ROOMS == room).count();
    assert_eq!(lines.len(), said, "each message of the room is shown once");
    let folded: u64 = lines.iter().map(|line| line["duplicates"].as_u64().unwrap()).sum();
    let tag = format!("message/{room}");
    let copies = stored.iter().filter(|message| message.tags.as_deref() == Some(tag.as_str())).count();
    assert_eq!(said as u64 + folded, copies as u64, "every copy is folded and counted");
}

#[test]
fn a_restarted_mosquitto_resumes_the_session_and_nothing_is_lost() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("restarted", 8);
    let options = MosquittoOptions { persistence: Persistence::AtStop, ..MosquittoOptions::default() };
    let mut mosquitto = Mosquitto::start(options);
    let bridge = Bridge::start(&config(&mosquitto, &rocketmq.name_server(), "restarted"));
    let publishers = publishers(&mosquitto, 300);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(800));
        mosquitto.stop();
        mosquitto.start_again();
    }
    std::thread::sleep(Duration::from_millis(800));
    let lesson = end_of_lesson(publishers, &bridge, rocketmq, "restarted");
    let found = &lesson.found;
    assert_eq!(bridge.metrics().value("roombridge_session_lost_total", &[]), 0.0);
    assert!(found.lost.is_empty(), "{:?}", found.lost);
    bridge.assert_books_balanced();
}

#[test]
fn a_terminated_bridge_drains_and_exits_with_zero() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("drained", 8);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let mut bridge = Bridge::start(&config(&mosquitto, &rocketmq.name_server(), "drained"));
    let publishers = publishers(&mosquitto, 500);
    std::thread::sleep(Duration::from_secs(1));
    bridge.terminate();
    let status = bridge.wait_exit(Duration::from_secs(25));
    assert_eq!(status.code(), Some(0), "{}", bridge.log_text());
    bridge.start_again();
    let lesson = end_of_lesson(publishers, &bridge, rocketmq, "drained");
    let (all, found) = (lesson.all, &lesson.found);
    assert_eq!(
        (found.messages, found.duplicates, found.lost.len()),
        (all, 0, 0),
        "a drain leaves nothing behind"
    );
}

/// MQTT 5 properties, empty payloads, control characters, one-level topics: as `docs/BINDING.md` says.
#[test]
fn every_documented_property_is_as_documented() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("properties", 1);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let more = "sender = { json_field = \"peer\" }\n";
    let bridge = Bridge::start(&(config(&mosquitto, &rocketmq.name_server(), "properties") + more));
    publish_messages(
        mosquitto.port(),
        "somebody",
        vec![
            Message::new("room/message/7", r#"{"peer":"GID_student@@@001","msg":"hi"}"#)
                .qos(rumqttc::v5::mqttbytes::QoS::AtLeastOnce)
                .user_property("a", "1")
                .user_property("A", "\"2\"")
                .content_type("application/json")
                .expires_after_s(60)
                .response_topic("room/reply", b"\x00\x01"),
            Message::new("room", "").qos(rumqttc::v5::mqttbytes::QoS::AtLeastOnce),
            Message::new("room/status", vec![0, 255, 10]).qos(rumqttc::v5::mqttbytes::QoS::AtMostOnce),
            Message::new("room/a||b %", "x").qos(rumqttc::v5::mqttbytes::QoS::AtLeastOnce).retain(),
        ],
    );
    let stored = rocketmq.read_at_least("properties", 4, Duration::from_secs(30));
    let of = |topic: &str| stored.iter().find(|message| message.property("topic") == Some(topic)).unwrap();

    let chat = of("room/message/7");
    assert_eq!(chat.property("clientId"), Some("GID_student@@@001"));
    assert_eq!(
        chat.property("mqtt5UserProperty"),
        Some(r#"[{"key":"a","value":"1"},{"key":"A","value":"\"2\""}]"#)
    );
    assert_eq!(chat.property("mqtt5ContentType"), Some("application/json"));
    let expiry: u32 = chat.property("mqtt5MsgExpireInterval").unwrap().parse().unwrap();
    assert!((58..=60).contains(&expiry), "{expiry}");
    assert_eq!(chat.property("rbResponseTopic"), Some("room/reply"));
    assert_eq!(chat.property("rbCorrelationData"), Some("AAE="));
    assert!(chat.property("mqttMessageId").unwrap().parse::<u16>().unwrap() > 0);
    assert_eq!(chat.property("mqttPublishDubFlag"), Some("false"));
    assert_eq!(chat.property("cleansessionflag"), None);
    for name in ["rbId", "rbSession", "rbConn", "rbSeq", "rbGen", "rbArrivedMs", "rbOrigin", "rbRules"] {
        assert!(chat.property(name).is_some(), "{name}");
    }

    let bare = of("room");
    assert_eq!((bare.property("mqttSecondTopic"), bare.tags.as_deref()), (None, None));
    assert_eq!((bare.property("IS_EMPTY_MSG"), &bare.body[..]), (Some("true"), &[0][..]));
    let status = of("room/status");
    assert_eq!((status.property("qoslevel"), &status.body[..]), (Some("0"), &[0, 255, 10][..]));
    assert_eq!(status.tags.as_deref(), Some("status"));
    let odd = of("room/a||b %");
    assert_eq!(odd.tags.as_deref(), Some("a%7C%7Cb %25"));
    assert_eq!(odd.property("mqttRetain"), Some("true"));
    bridge.assert_books_balanced();
}
