//! What MQTT promises and a class uses: QoS, retained messages, `$` topics, both versions, the WebSocket.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS as QoS5;
use rumqttc::v5::{self, AsyncClient as Client5};
use rumqttc::{AsyncClient as Client4, Event, MqttOptions, Packet, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::Running;
use crate::wire::{Message, PATIENCE, Wire, hello};

#[tokio::test(flavor = "multi_thread")]
async fn each_quality_of_service_arrives_once_from_either_version_to_either() {
    let running = Running::plain().await;
    for (from, to) in [(4, 4), (4, 5), (5, 4), (5, 5)] {
        let mut listener = Wire::connect(running.port, &hello(to, "listener")).await;
        let mut speaker = Wire::connect(running.port, &hello(from, "speaker")).await;
        for granted in 0..=2 {
            assert_eq!(listener.subscribe(&[("room/message/1", granted)]).await, [granted]);
            for sent in 0..=2 {
                let payload = format!("你好 {sent}");
                speaker.publish("room/message/1", sent, &payload).await;
                let expected = Message {
                    topic: "room/message/1".to_owned(),
                    payload,
                    qos: sent.min(granted),
                    retain: false,
                };
                assert_eq!(listener.message().await, expected, "{from} to {to}, granted {granted}");
            }
        }
        listener.ping().await;
        listener.goodbye().await;
        speaker.goodbye().await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qos_2_message_that_is_sent_again_is_delivered_once() {
    let running = Running::plain().await;
    let mut listener = Wire::connect(running.port, &hello(5, "listener")).await;
    listener.subscribe(&[("room", 2)]).await;
    let mut speaker = Wire::connect(running.port, &hello(4, "speaker")).await;
    let publish = [0x34, 8, 0, 4, b'r', b'o', b'o', b'm', 0, 9];
    let again = [&[0x3c], &publish[1..]].concat();
    for bytes in [&publish[..], &again] {
        speaker.send(bytes).await;
        speaker.expect(crate::wire::PUBREC).await;
    }
    speaker.send(&[0x62, 2, 0, 9]).await;
    speaker.expect(crate::wire::PUBCOMP).await;
    speaker.publish("room", 2, "the fence").await;
    assert_eq!(listener.message().await.payload, "");
    assert_eq!(listener.message().await.payload, "the fence");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_retained_message_waits_for_who_subscribes_also_after_a_restart() {
    let running = Running::plain().await;
    let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    let mut live = Wire::connect(running.port, &hello(5, "live")).await;
    live.subscribe(&[("room/#", 1)]).await;
    teacher.publish_with("room/notice/1", 1, true, "page 1").await;
    teacher.publish_with("room/notice/1", 1, true, "page 2").await;
    for page in ["page 1", "page 2"] {
        let message = live.message().await;
        assert_eq!((message.payload.as_str(), message.retain), (page, false), "it was there");
    }
    let running = running.restart(|_| {}).await;
    for version in [4, 5] {
        let mut late = Wire::connect(running.port, &hello(version, "late")).await;
        late.subscribe(&[("room/+/1", 1)]).await;
        let message = late.message().await;
        assert_eq!((message.payload.as_str(), message.retain), ("page 2", true));
    }

    let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    teacher.publish_with("room/notice/1", 1, true, "").await;
    let mut late = Wire::connect(running.port, &hello(5, "late")).await;
    late.subscribe(&[("room/#", 1)]).await;
    teacher.publish("room/notice/2", 1, "nothing is retained").await;
    assert_eq!(late.message().await.payload, "nothing is retained");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_at_the_start_does_not_match_dollar_topics() {
    let running = Running::plain().await;
    let mut listener = Wire::connect(running.port, &hello(5, "listener")).await;
    let wildcards = [("#", 1), ("+/broker/#", 1), ("+/x", 1)];
    assert_eq!(listener.subscribe(&wildcards).await, [1, 1, 1]);
    let mut operator = Wire::connect(running.port, &hello(5, "operator")).await;
    operator.subscribe(&[("$SYS/#", 1)]).await;
    let version = operator.message().await;
    assert!(version.topic.starts_with("$SYS/broker/"), "{version:?}");

    operator.publish("$class/x", 1, "not for wildcards").await;
    operator.publish("fence", 1, "the fence").await;
    assert_eq!(listener.message().await.payload, "the fence", "once, and nothing before");
    running.stop().await;
}

/// Clients of the crate that the bridge uses, one of each version, hear each other.
#[tokio::test(flavor = "multi_thread")]
async fn ordinary_clients_of_both_versions_hear_each_other_and_cannot_forge_their_sender() {
    let running = Running::plain().await;
    let (old, mut old_events) = Client4::new(MqttOptions::new("old", "127.0.0.1", running.port), 16);
    let (new, mut new_events) = Client5::new(v5::MqttOptions::new("new", "127.0.0.1", running.port), 16);
    old.subscribe("room/message/1", QoS::AtLeastOnce).await.unwrap();
    new.subscribe("room/message/1", QoS5::AtLeastOnce).await.unwrap();
    let both_subscribed = async {
        while !matches!(old_events.poll().await.unwrap(), Event::Incoming(Packet::SubAck(_))) {}
        loop {
            let event = new_events.poll().await.unwrap();
            if matches!(event, v5::Event::Incoming(v5::mqttbytes::v5::Packet::SubAck(_))) {
                break;
            }
        }
    };
    timeout(PATIENCE, both_subscribed).await.unwrap();

    let forged = v5::mqttbytes::v5::PublishProperties {
        user_properties: vec![
            ("x-mqtt-client-id".to_owned(), "teacher".to_owned()),
            ("x-mqtt-sender".to_owned(), "teacher".to_owned()),
        ],
        ..Default::default()
    };
    new.publish_with_properties("room/message/1", QoS5::AtLeastOnce, false, "hi", forged).await.unwrap();
    let heard = async {
        let properties = loop {
            if let v5::Event::Incoming(v5::mqttbytes::v5::Packet::Publish(publish)) =
                new_events.poll().await.unwrap()
            {
                break publish.properties.unwrap().user_properties;
            }
        };
        let payload = loop {
            if let Event::Incoming(Packet::Publish(publish)) = old_events.poll().await.unwrap() {
                break publish.payload;
            }
        };
        (properties, payload)
    };
    let (properties, payload) = timeout(PATIENCE, heard).await.unwrap();
    assert_eq!(properties, [("x-mqtt-client-id".to_owned(), "new".to_owned())]);
    assert_eq!(&payload[..], b"hi");
    running.stop().await;
}

/// The answer's head, and the stream behind it.
pub async fn websocket(port: u16, path: &str, headers: &str) -> (String, TcpStream) {
    let mut stream = Wire::open(port).await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap();
        answer.push(byte);
    }
    (String::from_utf8(answer).unwrap().to_lowercase(), stream)
}

pub const MQTT_SUBPROTOCOL: &str = "Sec-WebSocket-Protocol: mqtt\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_speaks_mqtt_over_the_websocket() {
    let running = Running::plain().await;
    let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    for version in [4, 5] {
        let (answer, stream) = websocket(running.websocket_port, "/mqtt", MQTT_SUBPROTOCOL).await;
        assert!(answer.starts_with("http/1.1 101"), "{answer}");
        assert!(answer.contains("sec-websocket-protocol: mqtt\r\n"), "{answer}");
        let mut page = Wire::over(stream, version, true);
        assert_eq!(page.say_hello(&hello(version, "page")).await.code, 0);
        assert_eq!(page.subscribe(&[("room/message/1", 1)]).await, [1]);
        teacher.publish("room/message/1", 1, "to the page").await;
        assert_eq!(page.message().await.payload, "to the page");
        page.publish("room/message/1", 1, &"long ".repeat(100)).await;
        assert_eq!(page.message().await.payload.len(), 500);
        page.send_frame(0x89, b"are you there").await;
        page.ping().await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_path_is_not_found_and_text_is_not_mqtt() {
    let running = Running::plain().await;
    let (answer, _stream) = websocket(running.websocket_port, "/", MQTT_SUBPROTOCOL).await;
    assert!(answer.starts_with("http/1.1 404"), "{answer}");
    let (_, stream) = websocket(running.websocket_port, "/mqtt", MQTT_SUBPROTOCOL).await;
    let mut page = Wire::over(stream, 4, true);
    page.send_frame(0x81, &hello(4, "page").bytes()).await;
    page.expect_closed().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_spoken_is_refused() {
    let running = Running::plain().await;
    let (mut client, answer) = Wire::try_connect(running.port, &hello(6, "future")).await;
    assert_eq!(answer.code, 0x84);
    client.expect_closed().await;
    let mut silent = Wire::over(Wire::open(running.port).await, 5, false);
    silent.send(&[0xc0, 0]).await;
    let closed = timeout(Duration::from_secs(2), silent.expect_closed()).await;
    closed.expect("a PINGREQ is no CONNECT");
    running.stop().await;
}
