//! What the embedded broker does otherwise than one would like. These tests say what it does today: when one fails,
//! the broker has become better, and the README's list gets shorter.

use crate::protocol::websocket;
use crate::support::Running;
use crate::wire::{DISCONNECT, Wire, hello, kept};

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_subscriptions_bring_a_message_once_for_each() {
    let running = Running::with(|client_policy| client_policy.p2p_parents = vec!["room".to_owned()]).await;
    let mut client = Wire::connect(running.port, &hello(5, "me")).await;
    client.subscribe(&[("room/#", 1)]).await;
    client.publish("room/p2p/me", 1, "twice").await;
    client.publish("room/message/1", 1, "the fence").await;
    let mut received = Vec::new();
    while received.last().is_none_or(|payload| payload != "the fence") {
        received.push(client.message().await.payload);
    }
    assert_eq!(received, ["twice", "twice", "the fence"]);
    running.stop().await;
}

/// 3.1.1 has no DISCONNECT from the broker; a client may take it for an error before the end that comes anyway.
#[tokio::test(flavor = "multi_thread")]
async fn a_3_1_1_client_that_is_taken_over_gets_a_packet_that_its_version_does_not_have() {
    let running = Running::plain().await;
    let mut old = Wire::connect(running.port, &kept(4, "me")).await;
    let _new = Wire::connect(running.port, &kept(4, "me")).await;
    assert_eq!(old.next().await.expect("a packet").kind, DISCONNECT);
    old.expect_closed().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_3_1_is_refused() {
    let running = Running::plain().await;
    let (mut client, answer) = Wire::try_connect(running.port, &hello(3, "old")).await;
    assert_eq!(answer.code, 1);
    client.expect_closed().await;
    running.stop().await;
}

/// MQTT asks for the subprotocol; a client without it is served all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_without_the_subprotocol_is_accepted() {
    let running = Running::plain().await;
    let (answer, stream) = websocket(running.websocket_port, "/mqtt", "").await;
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    let mut page = Wire::over(stream, 5, true);
    assert_eq!(page.say_hello(&hello(5, "page")).await.code, 0);
    running.stop().await;
}

/// Any page on the internet may open the WebSocket of this machine (see hazard 28); only the access control stands in its way.
/// The crate's own list of origins would also shut out clients that are no browsers.
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_from_any_origin_is_accepted() {
    let running = Running::plain().await;
    let headers = "Origin: https://evil.example\r\nSec-WebSocket-Protocol: mqtt\r\n";
    let (answer, _stream) = websocket(running.websocket_port, "/mqtt", headers).await;
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    running.stop().await;
}

/// `$SYS` is the broker's own; without an access control anybody may write there.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_publish_in_the_broker_s_own_topics() {
    let running = Running::plain().await;
    let mut client = Wire::connect(running.port, &hello(5, "me")).await;
    client.subscribe(&[("$SYS/forged", 1)]).await;
    client.publish("$SYS/forged", 1, "x").await;
    assert_eq!(client.message().await.payload, "x");
    running.stop().await;
}

/// Its file name would be too long.
#[tokio::test(flavor = "multi_thread")]
async fn a_retained_message_of_a_topic_beyond_255_bytes_is_lost_at_a_restart() {
    let running = Running::plain().await;
    let long = "x".repeat(300);
    let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    teacher.publish_with(&long, 1, true, "kept?").await;
    teacher.publish_with("short", 1, true, "kept").await;
    let running = running.restart(|_| {}).await;
    let mut late = Wire::connect(running.port, &hello(5, "late")).await;
    late.subscribe(&[(&long, 1), ("short", 1)]).await;
    assert_eq!(late.message().await.payload, "kept");
    running.stop().await;
}
