//! What the bridge's MQTT session hears and what not: filters that come and go, retained messages, missing topics, lost
//! and stolen sessions.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::Bridge;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions, Persistence};
use crate::support::mqtt_client::{Message, publish_messages};
use crate::support::mqtt_subscriber::Subscriber;
use crate::support::ports::wait_until;
use crate::support::scripted_broker::{ScriptedBroker, TAKEN_OVER};

const SOON: Duration = Duration::from_secs(20);

/// Each binding is a filter and a RocketMQ topic.
fn config(mosquitto: &Mosquitto, client_id: &str, more: &str, bindings: &[(&str, &str)]) -> String {
    config_at(&mosquitto.url(), client_id, more, bindings)
}

fn config_at(url: &str, client_id: &str, more: &str, bindings: &[(&str, &str)]) -> String {
    let bindings: String = bindings
        .iter()
        .map(|(filter, topic)| format!("[[binding]]\nfilter = \"{filter}\"\ntopic = \"{topic}\"\n"))
        .collect();
    format!(
        "[mqtt]\nurl = \"{url}\"\nclient_id = \"{client_id}\"\n[rocketmq]\nname_servers = [\"{}\"]\n{more}{bindings}",
        ApacheRocketMq::shared().name_server()
    )
}

fn publish(mosquitto: &Mosquitto, topics: &[&str]) {
    let messages = topics.iter().map(|topic| Message::new(*topic, *topic));
    publish_messages(mosquitto, "GID_loud@@@77", messages.collect());
}

#[track_caller]
fn wait_stored(bridge: &Bridge, count: f64) {
    wait_until(&format!("{count} messages are stored"), SOON, || bridge.metrics().books().stored >= count);
}

#[track_caller]
fn bodies(topic: &str, count: usize) -> Vec<String> {
    let stored = ApacheRocketMq::shared().read_at_least(topic, count, SOON);
    stored.iter().map(|message| message.body_text().to_owned()).collect()
}

/// Hazard 5: subscribed anew on each connection, and a filter that left the configuration is unsubscribed.
#[test]
fn filters_come_and_go_with_the_configuration_and_metrics_name_no_room() {
    // given three filters
    ApacheRocketMq::shared().create_topics(&[("filters", 1), ("sent", 1)]);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let both = [("room/+/+", "filters"), ("roomSend/#", "sent"), ("room/status/#", "filters")];
    let mut bridge = Bridge::start(&config(&mosquitto, "Distinct-Bridge", "", &both));
    publish(&mosquitto, &["room/message/RoomOfOrchids", "roomSend/message", "room/status/a/b", "room/x"]);
    wait_stored(&bridge, 3.0);
    assert_eq!(bodies("filters", 2), ["room/message/RoomOfOrchids", "room/status/a/b"]);
    assert_eq!(bodies("sent", 1), ["roomSend/message"]);

    // then no room and no client is a label
    let (_, metrics) = bridge.get("/metrics").unwrap();
    for name in ["Orchids", "GID_loud", "Distinct-Bridge", "room/"] {
        assert!(!metrics.contains(name), "{name} is in /metrics");
    }
    assert!(metrics.contains("topic=\"filters\""));

    // when one filter leaves the configuration while the bridge is away and something waits for it
    bridge.terminate();
    assert_eq!(bridge.wait_exit(SOON).code(), Some(0));
    let text = std::fs::read_to_string(bridge.config_file()).unwrap();
    let mut table: toml::Table = text.parse().unwrap();
    table["binding"].as_array_mut().unwrap().remove(1);
    bridge.scratch().write("roombridge.toml", &table.to_string());
    publish(&mosquitto, &["roomSend/queued", "room/message/queued"]);
    bridge.start_again();

    // then what waited is counted, and nothing more comes
    wait_stored(&bridge, 1.0);
    publish(&mosquitto, &["roomSend/later", "room/message/later"]);
    wait_stored(&bridge, 2.0);
    let no_rule = [("reason", "no_rule")];
    let metrics = bridge.metrics();
    assert_eq!((metrics.books().received, metrics.value("roombridge_filtered_total", &no_rule)), (3.0, 1.0));
    assert!(bridge.log_text().contains("unsubscribing"));
    assert_eq!(bodies("sent", 1), ["roomSend/message"]);
    bridge.assert_books_balanced();
}

#[test]
fn retained_messages_are_stored_when_they_are_said_and_not_when_they_are_handed_out() {
    ApacheRocketMq::shared().create_topic("retained", 1);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let retained = |topic: &str| Message::new(topic, topic).retain();
    publish_messages(&mosquitto, "somebody", vec![retained("room/status/before")]);

    // a first start, a live retained message, a restart: the second session is the old one
    let mut bridge = Bridge::start(&config(&mosquitto, "bridge-retained", "", &[("room/#", "retained")]));
    publish_messages(&mosquitto, "somebody", vec![retained("room/status/live")]);
    wait_stored(&bridge, 1.0);
    bridge.kill();
    bridge.start_again();
    publish(&mosquitto, &["room/status/plain"]);
    wait_stored(&bridge, 1.0);
    assert_eq!(bridge.metrics().books().received, 1.0);

    let stored = ApacheRocketMq::shared().read_at_least("retained", 2, SOON);
    let told: Vec<_> =
        stored.iter().map(|message| (message.body_text(), message.property("mqttRetain").unwrap())).collect();
    assert_eq!(told, [("room/status/live", "true"), ("room/status/plain", "false")]);
}

#[test]
fn messages_of_a_missing_topic_wait_in_the_spool_until_it_is_created() {
    // given a bridge that must not create topics
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let bridge = Bridge::start(&config(&mosquitto, "bridge-missing", "", &[("room/#", "missing")]));
    publish(&mosquitto, &["room/message/1", "room/message/2"]);

    // then they are acknowledged from the spool, so that no other room waits, and the log says what to do
    wait_until("the log says what to do", SOON, || {
        bridge.log_text().contains("create it, or set rocketmq.create_topics")
    });
    wait_until("both are acknowledged", SOON, || {
        bridge.metrics().value("roombridge_store_seconds_count", &[]) == 2.0
    });
    let books = bridge.metrics().books();
    assert_eq!((books.in_flight, books.stored, books.spool_depth), (0.0, 0.0, 2.0));

    // when somebody creates it, both are stored
    ApacheRocketMq::shared().create_topic("missing", 1);
    let created = std::time::Instant::now();
    wait_stored(&bridge, 2.0);
    println!("stored {:?} after the topic was made", created.elapsed());
    let mut stored = bodies("missing", 2);
    stored.sort();
    assert_eq!(stored, ["room/message/1", "room/message/2"], "each room in its lane");
    bridge.assert_books_balanced();
}

#[test]
fn a_missing_topic_is_created_where_that_is_allowed() {
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let more = "create_topics = true\nqueues_per_new_topic = 3\n";
    let bridge = Bridge::start(&config(&mosquitto, "bridge-made", more, &[("room/#", "made")]));
    let started = std::time::Instant::now();
    publish(&mosquitto, &["room/message/1"]);
    wait_stored(&bridge, 1.0);
    println!("the topic was made and the message stored in {:?}", started.elapsed());
    assert_eq!(bodies("made", 1), ["room/message/1"]);
    let rocketmq = ApacheRocketMq::shared();
    let status = rocketmq.mqadmin(&["topicStatus", "-n", &rocketmq.name_server(), "-t", "made"]);
    assert_eq!(status.matches("broker-a").count(), 3, "{status}");
}

#[test]
fn a_session_that_the_broker_forgot_is_counted_and_told() {
    // given a Mosquitto that remembers nothing
    ApacheRocketMq::shared().create_topic("forgotten", 1);
    let mut mosquitto =
        Mosquitto::start(MosquittoOptions { persistence: Persistence::Off, ..MosquittoOptions::default() });
    let mut bridge = Bridge::start(&config(&mosquitto, "bridge-forgotten", "", &[("room/#", "forgotten")]));
    publish(&mosquitto, &["room/message/1"]);
    wait_stored(&bridge, 1.0);
    let lost = |bridge: &Bridge| bridge.metrics().value("roombridge_session_lost_total", &[]);
    assert_eq!(lost(&bridge), 0.0, "a first connection has nothing to lose");

    // when it is restarted
    mosquitto.stop();
    mosquitto.start_again();

    // then the loss is counted and told, and the new session is subscribed
    wait_until("the loss is counted", SOON, || lost(&bridge) == 1.0);
    assert!(bridge.log_text().contains("has lost our session"));
    bridge.wait_ready();
    publish(&mosquitto, &["room/message/2"]);
    wait_stored(&bridge, 2.0);
    let reconnects = bridge.metrics().value("roombridge_reconnects_total", &[]);
    assert_eq!(reconnects, 1.0, "attempts that fail are no connections");
}

/// A scripted broker, because Debian's Mosquitto 2.0.11 only hangs up.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_taken_over_is_not_fought_for_and_sighup_takes_it_back() {
    // given a bridge with a session
    let broker = ScriptedBroker::start().await;
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let config = config_at(&url, "bridge-taken", "", &[("room/#", "taken")]);
    let bridge = tokio::task::spawn_blocking(move || Bridge::start_without_waiting(&config)).await.unwrap();
    let mut scene = broker.accept_session(false).await;
    tokio::task::block_in_place(|| {
        wait_until("the bridge is ready", SOON, || is_ready(&bridge));
    });

    // when it gets SIGHUP and has lost nothing, then it says what it does, and keeps its connection
    hang_up(&bridge);
    tokio::task::block_in_place(|| {
        wait_until("the bridge says what SIGHUP does", SOON, || {
            bridge.log_text().contains("SIGHUP: asking again for what was refused")
        });
    });
    assert!(!broker.is_connected_to(Duration::from_millis(500)).await && is_ready(&bridge));

    // when its broker says that another client has its session now, then it is not ready, says what to do, and stays away
    scene.write(&TAKEN_OVER).await;
    tokio::task::block_in_place(|| {
        wait_until("the bridge says why it is not ready", SOON, || {
            let report = bridge.get("/readyz").map(|(_, report)| report).unwrap_or_default();
            let why = "another client took the MQTT session over";
            report.contains(why) && report.contains("SIGHUP") && bridge.log_text().contains(why)
        });
    });
    let came_back = tokio::time::timeout(Duration::from_secs(1), broker.accept()).await;
    assert!(came_back.is_err() && !is_ready(&bridge), "no reconnect before SIGHUP");

    // and SIGHUP brings it back
    hang_up(&bridge);
    let _scene = broker.accept_session(true).await;
    tokio::task::block_in_place(|| {
        wait_until("the bridge is ready again", SOON, || is_ready(&bridge));
    });
    assert!(!bridge.get("/readyz").unwrap().1.contains("SIGHUP"));
}

fn hang_up(bridge: &Bridge) {
    kill_process(Pid::from_raw(bridge.pid() as i32).unwrap(), Signal::HUP).unwrap();
}

fn is_ready(bridge: &Bridge) -> bool {
    bridge.get("/readyz").is_some_and(|(status, _)| status == 200)
}

#[test]
fn two_clients_of_one_name_are_suspected_where_the_broker_only_hangs_up() {
    // given a bridge
    ApacheRocketMq::shared().create_topic("fought", 1);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let mut bridge = Bridge::start(&config(&mosquitto, "bridge-fought", "", &[("room/#", "fought")]));

    // when another client of its name comes, and comes again whenever it is thrown out
    let rival = Subscriber::start_persistent(&mosquitto, "bridge-fought", "room/#");
    let suspicion = "whether another client uses our mqtt.client_id";
    wait_until("the suspicion is told", SOON, || bridge.get("/readyz").unwrap().1.contains(suspicion));
    assert_eq!(bridge.log_text().matches(suspicion).count(), 1);

    // then the bridge works again when the other one is gone, and takes the suspicion back
    rival.stop();
    bridge.wait_ready();
    wait_until("the suspicion is taken back", SOON, || !bridge.get("/readyz").unwrap().1.contains(suspicion));
    publish(&mosquitto, &["room/message/1"]);
    wait_stored(&bridge, 1.0);
    bridge.assert_books_balanced();
}

/// Mosquitto sends a copy for each subscription, and keeps what waits.
#[test]
fn overlapping_bindings_store_each_message_once_whatever_becomes_of_their_order() {
    ApacheRocketMq::shared().create_topic("overlapping", 1);
    let mosquitto = Mosquitto::start(MosquittoOptions::default());
    let filters = ["room/command/#", "room/#", "+/message/1", "roomSend/#"];
    let bound = |order: &[usize]| order.iter().map(|at| (filters[*at], "overlapping")).collect::<Vec<_>>();
    let mut bridge = Bridge::start(&config(&mosquitto, "bridge-overlapping", "", &bound(&[0, 1, 2])));
    publish(&mosquitto, &["room/command/1", "room/message/1", "roomX/message/1"]);
    wait_stored(&bridge, 3.0);

    // when 100 messages wait in the kept session, and the bindings are in another order and more
    let mut sent = vec!["room/command/1", "room/message/1", "roomX/message/1"];
    for order in [[2, 1, 0, 3], [3, 0, 2, 1]] {
        bridge.terminate();
        assert_eq!(bridge.wait_exit(SOON).code(), Some(0));
        let topics = ["room/command/1", "room/message/1", "roomX/message/1", "room/message/2"];
        let waiting: Vec<&str> = topics.iter().copied().cycle().take(100).collect();
        publish(&mosquitto, &waiting);
        sent.extend(waiting);
        let text = std::fs::read_to_string(bridge.config_file()).unwrap();
        let mut table: toml::Table = text.parse().unwrap();
        let again: toml::Table =
            config(&mosquitto, "bridge-overlapping", "", &bound(&order)).parse().unwrap();
        table["binding"] = again["binding"].clone();
        bridge.scratch().write("roombridge.toml", &table.to_string());
        bridge.start_again();
        wait_stored(&bridge, 100.0);
        publish(&mosquitto, &["room/message/1"]);
        sent.push("room/message/1");
        wait_stored(&bridge, 101.0);
        bridge.assert_books_balanced();
    }

    // then each is stored once
    let mut stored = bodies("overlapping", sent.len());
    stored.sort_unstable();
    sent.sort_unstable();
    assert_eq!(stored, sent);
    let left_out = bridge.metrics().value("roombridge_filtered_total", &[("reason", "overlap")]);
    assert!(left_out > 0.0, "Mosquitto sent copies");
}
