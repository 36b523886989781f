//! Once a stop is asked for, the bridge makes no new MQTT connection, whatever it waits for: the session may belong to the
//! process that takes its place, and a CONNECT would take it back.

use std::time::Duration;

use crate::support::gated_sink::UplinkUnderTest;
use crate::support::scripted_broker::{Scene, ScriptedBroker, TAKEN_OVER};

const ROOM: &str = "room/message/1";
/// Longer than the longest pause of a reconnect.
const LONG: Duration = Duration::from_secs(3);

/// A bridge with a message that it cannot store, and its connection.
async fn with_a_message_in_flight(broker: &ScriptedBroker) -> (UplinkUnderTest, Scene) {
    let bridge = UplinkUnderTest::start(broker.port());
    bridge.sink.shut();
    let mut scene = broker.accept_session(false).await;
    scene.publish(1, false, ROOM, "in flight").await;
    bridge.sink.refused(1).await;
    (bridge, scene)
}

async fn told(bridge: &UplinkUnderTest, word: &str) {
    let told = async {
        while !bridge.readiness.report().missing.iter().any(|line| line.contains(word)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, told).await.expect(word);
}

async fn assert_stays_away(broker: &ScriptedBroker, why: &str) {
    assert!(!broker.is_connected_to(LONG).await, "{why}: it connects again");
}

/// Hazard 4: a swap of blue and green, with the store away.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_after_a_takeover_leaves_the_session_to_its_new_holder() {
    let broker = ScriptedBroker::start().await;
    let (bridge, mut scene) = with_a_message_in_flight(&broker).await;
    scene.write(&TAKEN_OVER).await;
    told(&bridge, "took the MQTT session over").await;
    bridge.drain.cancel();
    assert_stays_away(&broker, "taken over").await;

    // SIGHUP comes too late, and the door of the store is open again
    bridge.come_back.notify_waiters();
    bridge.sink.open();
    assert_stays_away(&broker, "SIGHUP behind the stop").await;
    bridge.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_behind_the_stop_is_left_alone() {
    let broker = ScriptedBroker::start().await;
    let (bridge, mut scene) = with_a_message_in_flight(&broker).await;
    bridge.drain.cancel();
    scene.write(&TAKEN_OVER).await;
    told(&bridge, "took the MQTT session over").await;
    bridge.come_back.notify_waiters();
    assert_stays_away(&broker, "taken over while stopping").await;
    bridge.sink.open();
    bridge.ends().await;
}

/// A broker that only hangs up does not say who has the session now.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_behind_the_stop_is_not_made_anew() {
    let broker = ScriptedBroker::start().await;
    let (bridge, scene) = with_a_message_in_flight(&broker).await;
    bridge.drain.cancel();
    drop(scene);
    assert_stays_away(&broker, "hung up while stopping").await;
    bridge.sink.open();
    bridge.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_pause_before_a_reconnect_ends_it() {
    let broker = ScriptedBroker::start().await;
    let (bridge, scene) = with_a_message_in_flight(&broker).await;
    drop(scene);
    // hangs up after each connection, so that the pauses grow
    for _ in 0..6 {
        drop(broker.accept().await);
    }
    bridge.drain.cancel();
    // a connection that was being made at that moment is no new one
    let _ = broker.is_connected_to(Duration::from_millis(100)).await;
    assert_stays_away(&broker, "in the pause").await;
    bridge.sink.open();
    bridge.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_with_a_full_intake_ends_the_wait_for_room() {
    let broker = ScriptedBroker::start().await;
    let more = "[pipeline]\nintake_messages = 10\n";
    let bridge = UplinkUnderTest::start_with(broker.port(), "receive_maximum = 10", more);
    bridge.sink.shut();
    let mut scene = broker.accept_session(false).await;
    // In one write, because the bridge leaves as soon as it has read eleven.
    let flood: Vec<u8> =
        (1..=30).flat_map(|id| scene.packet(id, false, ROOM, &format!("message {id}"))).collect();
    scene.write(&flood).await;
    assert_eq!(scene.next_puback(LONG).await, None, "the bridge leaves");
    bridge.drain.cancel();
    bridge.sink.open();
    assert_stays_away(&broker, "half of the intake is free").await;
    bridge.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_before_the_first_connection_makes_none() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start_stopped(broker.port());
    assert_stays_away(&broker, "never began").await;
    bridge.ends().await;
}
