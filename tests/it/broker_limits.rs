//! What brokers take away or refuse, played by a scripted one: each is said clearly, and costs no more than it must.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Output;
use std::time::{Duration, Instant};

use roombridge::testing::config::Config;
use roombridge::testing::model::{MqttMessage, MqttProperties, Qos};
use roombridge::testing::mqtt::{DownlinkPublisher, ReplayPublisher};
use roombridge::testing::pipeline::ports::{Published, Publisher, Publishing};
use roombridge::testing::telemetry::Metrics;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::{Bridge, roombridge_cli};
use crate::support::gated_sink::UplinkUnderTest;
use crate::support::ports::{free_port, wait_until};
use crate::support::scratch::Scratch;
use crate::support::scripted_broker::{Scene, ScriptedBroker, connack_with, refusal, text_property};
use crate::support::two_addresses::{Deaf, TwoAddresses};

const SOON: Duration = Duration::from_secs(20);
const REASON_STRING: u8 = 0x1f;
const SERVER_REFERENCE: u8 = 0x1c;
const NO_PUBACK_NEEDED: &[u8] = &[0x24, 0];

/// Topics come out of the message, so that `check` asks RocketMQ only whether it is there. It is not: each check fails for that, too.
fn config(port: u16, more: &str) -> String {
    format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\nclient_id = \"limited\"\n\
         [rocketmq]\nname_servers = [\"127.0.0.1:9\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"{{1}}\"\n{more}"
    )
}

/// `check --connect` against what the scene answers.
async fn check(broker: &ScriptedBroker, more: &str, answer: Vec<u8>, stays: bool) -> Output {
    let folder = Scratch::new("check");
    let file = folder.write("roombridge.toml", &config(broker.port(), more));
    let file = file.display().to_string();
    let checking = tokio::task::spawn_blocking(move || roombridge_cli(&["check", "--connect", "-c", &file]));
    let mut scene = broker.accept().await;
    scene.write(&answer).await;
    if stays {
        while scene.next_packet().await.is_some() {}
    }
    drop(scene);
    // A second connection for the subscriptions, if the first was good enough.
    let subscribed = async {
        let mut scene = broker.accept().await;
        scene.write(&connack_with(false, &[])).await;
        scene.serve_subscribe().await;
        while scene.next_packet().await.is_some() {}
        std::future::pending::<Output>().await
    };
    tokio::select! {
        checked = checking => checked.unwrap(),
        checked = subscribed => checked,
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

const ONLY_OLDER: &[&str] =
    &["seems to speak only MQTT 3.1.1", "unacceptable protocol version", "a broker with MQTT 5"];

/// What a broker answers to CONNECT, whether it then stays, and what is to be said of it.
fn refusals() -> Vec<(Vec<u8>, bool, &'static [&'static str])> {
    let words = |code| refusal(0, code, &text_property(REASON_STRING, "come back later"));
    let another = |code| refusal(0, code, &text_property(SERVER_REFERENCE, "other.example:1883"));
    vec![
        (vec![0x20, 2, 0, 1], false, ONLY_OLDER),
        (vec![0x20, 2, 0, 1], true, ONLY_OLDER),
        (vec![0x20, 3, 0, 1, 0], false, ONLY_OLDER),
        (
            vec![],
            false,
            &["seems to speak only MQTT 3.1.1", "without an answer to CONNECT", "a broker with MQTT 5"],
        ),
        (vec![], true, &["seems to speak only MQTT 3.1.1", "does not answer CONNECT within 5 s"]),
        (
            words(0x84),
            false,
            &["0x84 unsupported protocol version", "come back later", "a broker with MQTT 5"],
        ),
        (words(0x85), false, &["0x85 client identifier not valid", "come back later", "mqtt.client_id"]),
        (words(0x88), false, &["0x88 server unavailable", "come back later"]),
        (words(0x89), false, &["0x89 server busy", "come back later"]),
        (words(0x8a), false, &["0x8A banned", "come back later"]),
        (words(0x97), false, &["0x97 quota exceeded", "come back later"]),
        (another(0x9c), false, &["0x9C use another server", "other.example:1883", "mqtt.url"]),
        (another(0x9d), true, &["0x9D server moved", "other.example:1883", "mqtt.url"]),
        (words(0xee), false, &["0xEE", "come back later"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_said_by_check_with_the_brokers_words_and_what_to_do() {
    let broker = ScriptedBroker::start().await;
    for (answer, stays, sentences) in refusals() {
        let checked = check(&broker, "", answer.clone(), stays).await;
        assert_eq!(checked.status.code(), Some(1), "{answer:02x?}: {}", text(&checked));
        assert!(text(&checked).contains("FAIL  MQTT: "), "{answer:02x?}: {}", text(&checked));
        for sentence in sentences {
            assert!(text(&checked).contains(sentence), "{answer:02x?}: {}", text(&checked));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_said_by_a_running_bridge_in_its_log_and_by_readyz() {
    let broker = ScriptedBroker::start().await;
    let bridge = Bridge::start_without_waiting(&config(broker.port(), ""));
    for (answer, stays, sentences) in refusals() {
        let is_said = || {
            let readyz = bridge.get("/readyz");
            let said = |text: &str| sentences.iter().all(|sentence| text.contains(sentence));
            readyz.is_some_and(|(status, body)| status == 503 && said(&body)) && said(&bridge.log_text())
        };
        let (mut open, end) = (Vec::new(), Instant::now() + Duration::from_secs(60));
        // A connection that waited too long to be accepted is one that the bridge has given up: the next one gets the answer, too.
        while !tokio::task::block_in_place(is_said) {
            assert!(
                Instant::now() < end,
                "waited in vain until {sentences:?} is said: {}",
                bridge.log_text()
            );
            if let Ok(mut scene) = tokio::time::timeout(Duration::from_millis(200), broker.accept()).await {
                scene.write(&answer).await;
                open.extend(stays.then_some(scene));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_connack_takes_away_is_said_by_check_by_the_log_and_by_readyz() {
    // Given a broker that keeps sessions for a minute, and takes what no filter needs
    let broker = ScriptedBroker::start().await;
    let for_a_minute: &[u8] = &[0x11, 0, 0, 0, 60];
    let little: &[u8] = &[0x25, 0, 0x2a, 0, 0x24, 0, 0x27, 0, 0, 8, 0];
    let down = "[[downlink]]\ntopic = \"down\"\nmqtt_topic = \"room\"\n";
    let sentences = [
        "keeps our session for 60 s only",
        "allows QoS 0 only",
        "packets of 2048 bytes at most",
        "keeps no retained messages",
        "no shared subscriptions",
    ];

    // Then check says so and passes; only RocketMQ is not there
    let answer = connack_with(false, &[for_a_minute, little].concat());
    let checked = check(&broker, down, answer.clone(), true).await;
    let told = text(&checked);
    assert!(told.contains("ok    MQTT: ") && told.contains("ok    MQTT subscription room/#"), "{told}");
    assert!(told.contains("FAIL  RocketMQ topic down: "), "{told}");
    assert!(sentences.iter().all(|sentence| told.contains(sentence)), "{told}");

    // And a bridge is ready and says so
    let bridge = Bridge::start_without_waiting(&config(broker.port(), ""));
    let mut scene = broker.accept().await;
    scene.write(&answer).await;
    scene.serve_subscribe().await;
    let said_in = |status: u16, sentences: &[&str]| {
        tokio::task::block_in_place(|| {
            wait_until(&format!("{sentences:?} is said"), SOON, || {
                let readyz = bridge.get("/readyz");
                let said = |text: &str| sentences.iter().all(|sentence| text.contains(sentence));
                readyz.is_some_and(|(is, body)| is == status && said(&body)) && said(&bridge.log_text())
            });
        });
    };
    said_in(200, &sentences);
    drop(scene);

    // When the broker keeps no session at all, then the bridge works, is not ready, and says what will be lost
    let mut scene = broker.accept().await;
    scene.write(&connack_with(false, &[0x11, 0, 0, 0, 0])).await;
    scene.serve_subscribe().await;
    said_in(503, &["keeps no session for us", "will be lost"]);
    scene.publish(1, false, "room/message/1", "hello").await;
    assert_eq!(scene.pubacks(1).await, [1]);
    drop(scene);

    // When it allows no wildcards, then it is not asked for one, and that is said
    let mut scene = broker.accept().await;
    scene.write(&connack_with(true, &[0x28, 0])).await;
    said_in(503, &["allows no wildcards", "room/#"]);
    assert_eq!(scene.next_puback(Duration::from_millis(300)).await, None, "no SUBSCRIBE");
    drop(scene);
    for properties in [&[0x11, 0, 0, 0, 0][..], &[0x28, 0]] {
        let checked = check(&broker_alone().await, "", connack_with(false, properties), true).await;
        assert_eq!(checked.status.code(), Some(1), "{}", text(&checked));
        assert!(text(&checked).contains("FAIL  MQTT: "), "{}", text(&checked));
        assert!(text(&checked).contains("FAIL  RocketMQ: "), "{}", text(&checked));
    }
}

/// DISCONNECT with that code and these words.
fn disconnect(code: u8, words: &str) -> Vec<u8> {
    let words = text_property(REASON_STRING, words);
    let mut packet = vec![0xe0, 2 + words.len() as u8, code, words.len() as u8];
    packet.extend(&words);
    packet
}

#[track_caller]
fn wait_readyz(bridge: &Bridge, sentences: &[&str]) {
    tokio::task::block_in_place(|| {
        wait_until(&format!("/readyz says {sentences:?}"), SOON, || {
            let readyz = bridge.get("/readyz").map(|(_, body)| body).unwrap_or_default();
            sentences.iter().all(|sentence| readyz.contains(sentence))
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_a_line_for_each_change_with_a_count_and_not_a_line_for_each_attempt() {
    // Given a broker that lets a bridge in and disconnects it, with words of its own, again and again
    let broker = ScriptedBroker::start().await;
    let bridge = Bridge::start_without_waiting(&config(broker.port(), ""));
    for _ in 0..7 {
        let mut scene = broker.accept_session(true).await;
        scene.write(&disconnect(0x97, "eight\u{7} clients are enough")).await;
    }
    // Then /readyz says why, how often, what to do, and nothing of another client
    let mut scene = broker.accept().await;
    let why = r#"0x97 quota exceeded (\"eight\\u{7} clients are enough\"); raise the broker's quota"#;
    wait_readyz(&bridge, &[why, "(7 failures until now)"]);
    assert!(!bridge.get("/readyz").unwrap().1.contains("another client"));

    // And the log has a line for each change: the first connection, the cause, that there is a connection again
    scene.write(&connack_with(true, &[])).await;
    scene.serve_subscribe().await;
    tokio::task::block_in_place(|| {
        wait_until("the outage is over", SOON, || bridge.log_text().contains("lasts again"));
    });
    let log = bridge.log_text();
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(lines("no connection to the MQTT broker; trying again"), 1, "{log}");
    assert_eq!(lines("connected to the MQTT broker"), 2, "{log}");
    assert_eq!(lines("right after each connection"), 1, "{log}");
    let over = log.lines().find(|line| line.contains("lasts again")).unwrap();
    assert!(over.contains("failures=7") || over.contains("\"failures\":7"), "{over}");
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_names_the_filter_that_is_not_granted_and_the_brokers_reason() {
    let broker = ScriptedBroker::start().await;
    let bridge = Bridge::start_without_waiting(&config(broker.port(), ""));
    // When the broker does not answer, refuses, and disconnects for a SUBSCRIBE
    let mut scene = broker.accept().await;
    scene.write(&connack_with(false, &[])).await;
    let request = scene.next_request().await;
    wait_readyz(&bridge, &[r#"not subscribed on the MQTT broker to \"room/#\" (no answer yet) since"#]);
    scene.answer(&request, 0x87).await;
    wait_readyz(&bridge, &[r#"not subscribed on the MQTT broker to \"room/#\" (0x87 not authorized) since"#]);
    scene.next_request().await;
    scene.write(&disconnect(0x8f, "no wildcards for you")).await;
    wait_readyz(
        &bridge,
        &[
            "0x8F topic filter invalid",
            "no wildcards for you",
            r#"the SUBSCRIBE to \"room/#\""#,
            "[[binding]]",
        ],
    );
}

#[test]
fn check_says_a_cause_once() {
    let port = free_port();
    let folder = Scratch::new("check-once");
    let file = folder.write("roombridge.toml", &config(port, "")).display().to_string();
    let told = text(&roombridge_cli(&["check", "--connect", "-c", &file]));
    assert!(told.contains(&format!("no TCP connection to the MQTT broker at 127.0.0.1:{port}")), "{told}");
    let of_mqtt: Vec<_> = told.lines().filter(|line| line.contains("MQTT:")).collect();
    assert_eq!(of_mqtt.concat().matches("refused").count(), 1, "{told}");
}

/// The first of the two addresses is that of a machine behind a firewall: SYNs stay without an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_two_addresses_is_reached_although_the_first_one_drops_what_it_gets() {
    let Some(two) = TwoAddresses::compile() else { return };
    let broker = ScriptedBroker::start().await;
    let _deaf = Deaf::at(SocketAddr::new(TwoAddresses::FIRST, broker.port())).await;
    let config =
        config(broker.port(), "").replace("mqtt://127.0.0.1", &format!("mqtt://{}", TwoAddresses::NAME));
    let bridge = Bridge::start_with_variables(&config, &two.variables());
    let _scene = broker.accept_session(false).await;
    tokio::task::block_in_place(|| {
        let address = format!("127.0.0.1:{}", broker.port());
        wait_until("the log names the address", SOON, || {
            let log = bridge.log_text();
            log.lines().any(|line| line.contains("connected to the MQTT broker") && line.contains(&address))
        });
    });
}

async fn broker_alone() -> ScriptedBroker {
    ScriptedBroker::start().await
}

/// The publisher of the downlink, and what it is given and tells.
struct Down {
    messages: mpsc::Sender<Publishing>,
    ends: mpsc::UnboundedReceiver<(u64, Published)>,
    running: JoinHandle<()>,
}

impl Down {
    fn start(port: u16) -> Self {
        let config = Config::from_toml("story", &config(port, ""), &BTreeMap::new()).unwrap();
        let (messages, taken) = mpsc::channel(8);
        let (ended, ends) = mpsc::unbounded_channel();
        let metrics = Metrics::new(&[]).unwrap().into();
        let publisher = DownlinkPublisher::new(&config.mqtt, taken, ended, metrics).unwrap();
        Self { messages, ends, running: tokio::spawn(publisher.run(CancellationToken::new())) }
    }

    async fn publish(&self, number: u64, bytes: usize) {
        let message = MqttMessage {
            topic: "room/message/1".to_owned(),
            payload: vec![b'x'; bytes].into(),
            qos: Qos::AtLeastOnce,
            properties: MqttProperties::default(),
        };
        self.messages.send(Publishing::new(number, message)).await.unwrap();
    }

    async fn end(&mut self) -> (u64, Published) {
        let end = tokio::time::timeout(SOON, self.ends.recv()).await;
        end.expect("an end").unwrap()
    }
}

/// The packet identifier of a PUBLISH with QoS 1 on `room/message/1`.
fn packet_id(body: &[u8]) -> [u8; 2] {
    [body[16], body[17]]
}

async fn publish_comes(scene: &mut Scene) -> (u8, Vec<u8>) {
    let (first, body) = scene.next_packet().await.expect("a PUBLISH");
    assert_eq!(first >> 4, 3);
    (first, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_puback_below_0x80_is_success_for_the_downlink_and_for_a_replay() {
    let broker = ScriptedBroker::start().await;
    // Given a broker that answers each PUBLISH with 0x01 and properties of the publisher
    let mut down = Down::start(broker.port());
    let mut scene = broker.accept().await;
    scene.write(&connack_with(false, &[])).await;
    let user_property = [0x26, 0, 1, b'a', 0, 1, b'b'];
    for (number, code) in [(1, 0x01), (2, 0x10), (3, 0x7f)] {
        down.publish(number, 5).await;
        let (_, body) = publish_comes(&mut scene).await;
        let [high, low] = packet_id(&body);
        let mut puback = vec![0x40, 11, high, low, code, 7];
        puback.extend(user_property);
        scene.write(&puback).await;
        // Then each is published once
        assert_eq!(down.end().await, (number, Published::Acknowledged), "{code:#04x}");
    }
    drop(down.messages);
    down.running.await.unwrap();
    assert_eq!(scene.next_packet().await.map(|(first, _)| first), Some(0xe0), "DISCONNECT");

    // And a replay goes on as well
    let config = Config::from_toml("story", &config(broker.port(), ""), &BTreeMap::new()).unwrap();
    let connecting = tokio::spawn(async move { ReplayPublisher::connect(&config.mqtt).await });
    let mut scene = broker.accept().await;
    scene.write(&connack_with(false, &[])).await;
    let mut replay = connecting.await.unwrap().unwrap();
    for code in [0x01, 0x10, 0x87] {
        let message = MqttMessage {
            topic: "room/message/1".to_owned(),
            payload: "again".into(),
            qos: Qos::AtLeastOnce,
            properties: MqttProperties::default(),
        };
        let (played, _) = tokio::join!(replay.publish(message), async {
            let (_, body) = publish_comes(&mut scene).await;
            let [high, low] = packet_id(&body);
            scene.write(&[0x40, 4, high, low, code, 0]).await;
        });
        assert_eq!(played.is_ok(), code < 0x80, "{code:#04x}: {played:?}");
    }
    let (_, _) = tokio::join!(replay.disconnect(), async {
        assert_eq!(scene.next_packet().await.map(|(first, _)| first), Some(0xe0));
        drop(scene);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_qos_0_only_gets_qos_0_once_and_one_with_small_packets_no_large_one() {
    // Given a broker that allows QoS 0 and packets of 100 bytes
    let broker = ScriptedBroker::start().await;
    let mut down = Down::start(broker.port());
    let mut scene = broker.accept().await;
    let small: &[u8] = &[0x27, 0, 0, 0, 100];
    scene.write(&connack_with(false, &[NO_PUBACK_NEEDED, small].concat())).await;

    // When a small and a large message go down, then one is published with QoS 0, and one is refused, on one connection
    down.publish(1, 5).await;
    assert_eq!(publish_comes(&mut scene).await.0, 0x30);
    assert_eq!(down.end().await, (1, Published::Acknowledged));
    down.publish(2, 100).await;
    assert_eq!(down.end().await, (2, Published::TooLarge));
    down.publish(3, 6).await;
    assert_eq!(publish_comes(&mut scene).await.0, 0x30);
    assert_eq!(down.end().await, (3, Published::Acknowledged));
    down.running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_five_times_in_a_row_is_explained_by_the_brokers_reason() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start(broker.port());
    let words = text_property(REASON_STRING, "not today");
    for _ in 0..5 {
        let mut scene = broker.accept_session(false).await;
        let mut disconnect = vec![0xe0, 2 + words.len() as u8, 0x98, words.len() as u8];
        disconnect.extend(&words);
        scene.write(&disconnect).await;
    }
    let deadline = Instant::now() + SOON;
    let explained = || {
        let missing = bridge.readiness.report().missing;
        missing
            .iter()
            .any(|sentence| sentence.contains("right after each connection: 0x98 administrative action"))
    };
    while !explained() {
        assert!(Instant::now() < deadline, "{:?}", bridge.readiness.report());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let missing = bridge.readiness.report().missing.join("\n");
    assert!(missing.contains("not today") && !missing.contains("another client"), "{missing}");
    bridge.stop_now.cancel();
}

#[test]
fn a_stop_with_nothing_in_flight_does_not_wait_for_an_mqtt_broker_that_is_away() {
    // Given a downlink, RocketMQ, and nobody where the MQTT broker should be
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topics(&[("stops", 1), ("stops-down", 1)]);
    let config = format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"stops\"\n\
         [[downlink]]\ntopic = \"stops-down\"\nmqtt_topic = \"room\"\n",
        free_port(),
        rocketmq.name_server()
    );
    let mut bridge = Bridge::start_without_waiting(&config);
    wait_until("the downlink looks for the broker", SOON, || {
        bridge.log_text().contains("the downlink has no connection")
    });

    // When it is told to stop, then it does
    let told = Instant::now();
    bridge.terminate();
    assert_eq!(bridge.wait_exit(SOON).code(), Some(0), "{}", bridge.log_text());
    println!("stopped after {:?}", told.elapsed());
    assert!(told.elapsed() < Duration::from_secs(8), "{}", bridge.log_text());
    assert!(bridge.log_text().contains("everything that came in has ended and is acknowledged"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_stored_while_the_connection_is_away_is_counted_as_not_acknowledged() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start(broker.port());
    bridge.sink.shut();
    let mut scene = broker.accept_session(false).await;
    scene.publish(1, false, "room/message/1", "stored, and not acknowledged").await;
    assert_eq!(scene.next_puback(Duration::from_millis(300)).await, None);
    let port = broker.port();
    drop(broker);
    drop(scene);
    bridge.sink.open();
    bridge.sink.holds(1).await;
    bridge.drain.cancel();
    for task in bridge.tasks {
        tokio::time::timeout(SOON, task).await.expect("it ends").unwrap();
    }
    assert_eq!(bridge.metrics.pubacks_unsent.get(), 1, "nobody at {port} was told");
}
