//! Tests of the harness itself: if one of these fails, do not believe the others.

use std::collections::BTreeSet;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;

use crate::support::apache::ApacheRocketMq;
use crate::support::java::NewMessage;
use crate::support::metrics::Metrics;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions, Persistence};
use crate::support::mqtt_client::{Message, Publisher, publish_all, publish_messages};
use crate::support::mqtt_subscriber::Subscriber;

#[test]
fn a_persistent_session_survives_a_killed_mosquitto() {
    // given a persistent session that is away, and a message that waits for it
    let mut broker = Mosquitto::start(MosquittoOptions {
        persistence: Persistence::EachChange,
        ..MosquittoOptions::default()
    });
    Subscriber::start_persistent(&broker, "archive", "room/#").stop();
    publish_all(
        &broker,
        "teacher",
        vec![("room/command", "first"), ("room/command", "second")],
        QoS::AtLeastOnce,
    );
    crate::support::ports::wait_until("Mosquitto saved its store", Duration::from_secs(10), || {
        broker.log_text().contains("Saving in-memory database")
    });

    // when the broker is killed and comes back
    broker.kill();
    broker.start_again();

    // then the session gets the message
    let archive = Subscriber::start_persistent(&broker, "archive", "room/#");
    let received = archive.wait_for(1, Duration::from_secs(10));
    assert_eq!(&received[0].payload[..], b"first");
}

#[test]
fn properties_of_a_publish_arrive_and_a_stopped_mosquitto_keeps_retained_messages() {
    let mut broker = Mosquitto::start(MosquittoOptions::default());
    let message = Message::new("room/status", "online")
        .retain()
        .user_property("device", "tablet")
        .content_type("text/plain")
        .expires_after_s(600);
    publish_messages(&broker, "student", vec![message]);

    assert!(broker.stop().success());
    broker.start_again();

    let late = Subscriber::start(&broker, "late", "room/status").wait_for(1, Duration::from_secs(10));
    let properties = late[0].properties.as_ref().expect("properties came along");
    assert!(late[0].retain);
    assert_eq!(properties.user_properties, [("device".to_owned(), "tablet".to_owned())]);
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    assert!(properties.message_expiry_interval.is_some_and(|seconds| seconds <= 600));
}

#[test]
fn a_mosquitto_with_a_password_refuses_strangers_and_one_with_tls_shows_its_certificate() {
    let broker = Mosquitto::start(MosquittoOptions {
        credentials: Some(("bridge".to_owned(), "secret".to_owned())),
        tls: true,
        ..MosquittoOptions::default()
    });
    publish_all(&broker, "known", vec![("room/command", "hello")], QoS::AtLeastOnce);

    let ca = broker.certificates().ca_file.display().to_string();
    let port = broker.tls_url().rsplit(':').next().unwrap().to_owned();
    let publish = |password: &str| {
        let mut command = std::process::Command::new("mosquitto_pub");
        command.args([
            "-h",
            "localhost",
            "-p",
            &port,
            "--cafile",
            &ca,
            "-t",
            "room/command",
            "-m",
            "x",
            "-q",
            "1",
        ]);
        command.args(["-u", "bridge", "-P", password]);
        crate::support::process::run_to_end(command, Duration::from_secs(10)).status.success()
    };
    assert!(publish("secret"), "the right password passes over TLS");
    assert!(!publish("wrong"), "a wrong password does not");
}

#[test]
fn a_publisher_sends_again_what_a_killed_mosquitto_did_not_acknowledge() {
    // given a publisher at 500 messages a second and a subscriber
    let mut broker = Mosquitto::start(MosquittoOptions::default());
    let publisher =
        Publisher::paced(&broker, "pupil", 500, |number| Message::new("room/message/1", number.to_string()));
    let subscriber = Subscriber::start(&broker, "watcher", "room/#");
    publisher.wait_acknowledged(200, Duration::from_secs(10));

    // when the broker is killed, stays away, and comes back
    broker.kill();
    let before = publisher.acknowledged_count();
    broker.start_again();
    publisher.wait_acknowledged(before + 200, Duration::from_secs(10));

    // then each message was acknowledged once it was sent on the second connection, none is missing
    let published = publisher.finish();
    assert_eq!(published.connections, 2);
    assert_eq!(published.acknowledged, (0..published.made).collect::<BTreeSet<u64>>());
    assert!(subscriber.received().len() as u64 <= published.made);
}

#[test]
fn a_paused_mosquitto_acknowledges_after_it_goes_on() {
    let mut broker =
        Mosquitto::start(MosquittoOptions { max_inflight_messages: 20, ..MosquittoOptions::default() });
    let subscriber = Subscriber::start(&broker, "watcher", "room/#");
    let publisher = Publisher::paced(&broker, "pupil", 1000, |number| {
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number as usize % 3];
        Message::new("room/message/1", number.to_string()).qos(qos)
    });
    publisher.wait_acknowledged(100, Duration::from_secs(10));
    broker.pause();
    std::thread::sleep(Duration::from_millis(500));
    broker.resume();
    let seen = publisher.acknowledged_count();
    publisher.wait_acknowledged(seen + 100, Duration::from_secs(10));

    let published = publisher.finish();
    assert_eq!(published.connections, 1);
    let received = subscriber.wait_for(published.made as usize, Duration::from_secs(10));
    assert_eq!(received.len() as u64, published.made);
}

#[test]
fn rocketmq_stores_and_the_java_reader_shows_it() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("harness_read", 2);
    assert!(rocketmq.mqadmin(&["topicList"]).lines().any(|line| line.trim() == "harness_read"));

    let one = NewMessage::new("harness_read", "one").tags("chat").keys("k1");
    let two =
        NewMessage::new("harness_read", "two").tags("mute").keys("k2").property("mqttSecondTopic", "/p2p/7");
    rocketmq.send(&[one, two]);

    let all = rocketmq.read_at_least("harness_read", 2, Duration::from_secs(20));
    let bodies: BTreeSet<&str> = all.iter().map(|message| message.body_text()).collect();
    assert_eq!(bodies, BTreeSet::from(["one", "two"]));
    let muted = rocketmq.read_tags("harness_read", "mute");
    assert_eq!(muted.len(), 1);
    assert_eq!(muted[0].tags.as_deref(), Some("mute"));
    assert_eq!(muted[0].keys.as_deref(), Some("k2"));
    assert_eq!(muted[0].property("mqttSecondTopic"), Some("/p2p/7"));
}

#[test]
fn a_rocketmq_broker_that_is_stopped_or_killed_keeps_its_messages() {
    let mut rocketmq = ApacheRocketMq::start();
    rocketmq.create_topic("harness_restart", 1);
    rocketmq.send(&[NewMessage::new("harness_restart", "before stop")]);

    rocketmq.stop_broker();
    rocketmq.start_broker();
    rocketmq.send(&[NewMessage::new("harness_restart", "before kill")]);
    rocketmq.kill_broker();
    rocketmq.start_broker();

    let messages = rocketmq.read_at_least("harness_restart", 2, Duration::from_secs(20));
    let bodies: Vec<&str> = messages.iter().map(|message| message.body_text()).collect();
    assert_eq!(bodies, ["before stop", "before kill"]);
}

#[test]
fn metrics_are_summed_by_label_and_the_books_are_checked() {
    let text = "# TYPE roombridge_received_total counter\n\
        roombridge_received_total{direction=\"uplink\",topic=\"a \\\"b\\\", c\"} 7\n\
        roombridge_received_total{direction=\"uplink\",topic=\"other\"} 3\n\
        roombridge_received_total{direction=\"downlink\",topic=\"other\"} 50\n\
        roombridge_stored_total{direction=\"uplink\"} 8e0\n\
        roombridge_in_flight{direction=\"uplink\"} 1\n\
        process_cpu_seconds_total 0.25\n";
    let metrics = Metrics::parse(text);
    assert_eq!(metrics.value("roombridge_received_total", &[("direction", "uplink")]), 10.0);
    assert_eq!(metrics.value("roombridge_received_total", &[("topic", "a \"b\", c")]), 7.0);
    assert_eq!(metrics.value("process_cpu_seconds_total", &[]), 0.25);
    assert!(!metrics.books().balanced(), "one of ten is missing");

    let complete = format!("{text}roombridge_dropped_total{{direction=\"uplink\",reason=\"qos0\"}} 1\n");
    assert!(Metrics::parse(&complete).books().balanced());
}
