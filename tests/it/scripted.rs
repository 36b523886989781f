//! Hazards of acknowledging, told by a scripted MQTT broker: every PUBACK (connection, packet identifier) must stand for
//! a message of that connection that the store holds.

use std::time::Duration;

use roombridge::testing::data_dir::{QueueTables, TopicQueues};
use roombridge::testing::model::QueueName;

use crate::support::gated_sink::UplinkUnderTest;
use crate::support::metrics::Metrics;
use crate::support::scripted_broker::{Scene, ScriptedBroker, TAKEN_OVER, publish};

const ROOM: &str = "room/message/1";
const A_MOMENT: Duration = Duration::from_millis(300);

/// Reads PUBACKs and holds each against what this connection sent and what the store holds.
async fn checked_pubacks(scene: &mut Scene, bridge: &UplinkUnderTest, count: usize) -> Vec<u16> {
    let mut acks = Vec::new();
    while acks.len() < count {
        let packet_id = scene
            .next_puback(Duration::from_secs(10))
            .await
            .unwrap_or_else(|| panic!("{count} PUBACKs, got {acks:?}; stored {:?}", bridge.sink.stored()));
        let body =
            scene.sent.get(&packet_id).unwrap_or_else(|| panic!("PUBACK {packet_id} for nothing sent"));
        assert!(bridge.sink.bodies().contains(body), "PUBACK {packet_id} for {body:?}, which is not stored");
        acks.push(packet_id);
    }
    acks
}

async fn assert_silent(scene: &mut Scene, why: &str) {
    assert_eq!(scene.next_puback(A_MOMENT).await, None, "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_acked_after_it_is_stored_and_not_before() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start(broker.port());
    bridge.sink.shut();
    let mut scene = broker.accept_session(false).await;
    scene.publish(1, false, ROOM, "hello").await;
    assert_silent(&mut scene, "the store is away").await;
    bridge.sink.open();
    assert_eq!(checked_pubacks(&mut scene, &bridge, 1).await, [1]);
    bridge.assert_books_balance().await;
}

/// All tasks of a bridge's messages share one thread, so none may keep it for long.
#[tokio::test]
async fn a_flood_leaves_the_other_tasks_of_its_thread_their_turn() {
    // A turn takes in 256. The other task may look once before one turn and once behind the next.
    const MOST_BETWEEN_TWO_LOOKS: i64 = 2 * 256;
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start(broker.port());
    bridge.sink.shut();
    let mut scene = broker.accept_session(false).await;
    let flood: Vec<u8> = (1..=3000).flat_map(|id| publish(id, false, ROOM, "hi")).collect();
    let metrics = bridge.metrics.clone();
    let other_task = tokio::spawn(async move {
        let (mut before, mut most) = (0, 0);
        while before < 3000 {
            tokio::task::yield_now().await;
            let taken_in = metrics.in_flight.get();
            most = most.max(taken_in - before);
            before = taken_in;
        }
        most
    });
    scene.write(&flood).await;
    let most =
        tokio::time::timeout(Duration::from_secs(10), other_task).await.expect("all are taken in").unwrap();
    assert!(most <= MOST_BETWEEN_TWO_LOOKS, "{most} messages between two looks");
}

/// Hazard 1: a burst and the end of the stream in one write; what surfaces after the failure settles at once (no rule
/// matches it) while the next connection, of a lost session, uses the same identifiers for other messages.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_delivery_never_acks_the_next_connections_message() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start(broker.port());
    for round in 0..10 {
        bridge.sink.open();
        let first = broker.accept_session(false).await;
        let burst: Vec<u8> =
            (1..=60).flat_map(|id| publish(id, false, "unbound/topic", "settles at once")).collect();
        bridge.sink.shut();
        first.write_and_finish(&burst).await;

        let mut second = broker.accept_session(false).await;
        for id in 1..=60 {
            second.publish(id, false, ROOM, &format!("round {round} message {id}")).await;
        }
        assert_silent(&mut second, "nothing of this connection is stored").await;
        bridge.sink.open();
        let acks = checked_pubacks(&mut second, &bridge, 60).await;
        assert_eq!(acks, (1..=60).collect::<Vec<_>>());
        drop(second);
    }
    bridge.stop_now.cancel();
}

/// Hazard 2: a copy on the live link, and one after a reconnect, while the first still waits.
#[tokio::test(flavor = "multi_thread")]
async fn copies_of_an_open_message_get_one_puback_and_are_stored_once() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start(broker.port());
    bridge.sink.shut();
    let mut first = broker.accept_session(false).await;
    first.publish(7, false, ROOM, "hi").await;
    first.publish(7, true, ROOM, "hi").await;
    assert_silent(&mut first, "the store is away").await;
    drop(first);
    let mut second = broker.accept_session(true).await;
    second.publish(7, true, ROOM, "hi").await;
    second.publish(7, true, ROOM, "hi").await;
    assert_silent(&mut second, "the store is away").await;
    bridge.sink.open();
    assert_eq!(checked_pubacks(&mut second, &bridge, 1).await, [7]);
    assert_silent(&mut second, "one PUBACK for all copies").await;
    assert_eq!(bridge.sink.stored().len(), 1);
    bridge.assert_books_balance().await;
}

/// [MQTT-4.6.0-2]: the order of this connection counts, also where a broker sends again in reverse.
#[tokio::test(flavor = "multi_thread")]
async fn pubacks_follow_a_reversed_redelivery() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start(broker.port());
    bridge.sink.shut();
    let mut first = broker.accept_session(false).await;
    for id in 1..=8 {
        first.publish(id, false, &format!("room/message/{id}"), &format!("message {id}")).await;
    }
    assert_silent(&mut first, "the store is away").await;
    drop(first);
    let mut second = broker.accept_session(true).await;
    for id in (1..=8).rev() {
        second.publish(id, true, &format!("room/message/{id}"), &format!("message {id}")).await;
    }
    bridge.sink.open();
    assert_eq!(checked_pubacks(&mut second, &bridge, 8).await, (1..=8).rev().collect::<Vec<_>>());
    assert_eq!(bridge.sink.stored().len(), 8, "a redelivery of an open message is not stored twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_cuts_with_the_store_away_lose_and_double_nothing() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start(broker.port());
    bridge.sink.shut();
    let mut scene = broker.accept_session(false).await;
    for cut in 1..=20u16 {
        for old in 1..cut {
            scene.publish(old, true, ROOM, &format!("message {old}")).await;
        }
        scene.publish(cut, false, ROOM, &format!("message {cut}")).await;
        assert_eq!(scene.next_puback(Duration::from_millis(20)).await, None, "the store is away");
        drop(scene);
        scene = broker.accept_session(true).await;
    }
    for old in 1..=20 {
        scene.publish(old, true, ROOM, &format!("message {old}")).await;
    }
    bridge.sink.open();
    assert_eq!(checked_pubacks(&mut scene, &bridge, 20).await, (1..=20).collect::<Vec<_>>());
    let bodies: Vec<_> = bridge.sink.stored().into_iter().map(|stored| stored.body).collect();
    assert_eq!(bodies, (1..=20).map(|id| format!("message {id}")).collect::<Vec<_>>(), "once each, in order");
    bridge.assert_books_balance().await;
}

/// Until the spool exists, PUBACKs wait behind a blocked lane; other rooms are stored all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_lane_holds_pubacks_but_not_the_other_lanes_stores() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start(broker.port());
    let mut scene = broker.accept_session(false).await;
    scene.publish(1, false, ROOM, "finds the queue").await;
    checked_pubacks(&mut scene, &bridge, 1).await;
    let blocked = bridge.sink.stored()[0].queue_id;
    bridge.sink.block_queue(Some(blocked));
    scene.publish(2, false, ROOM, "blocked").await;
    for id in 3..=60 {
        scene.publish(id, false, &format!("room/message/other-{id}"), &format!("message {id}")).await;
    }
    bridge.sink.holds(40).await;
    assert_silent(&mut scene, "the oldest is not stored").await;
    bridge.sink.block_queue(None);
    assert_eq!(checked_pubacks(&mut scene, &bridge, 59).await, (2..=60).collect::<Vec<_>>());
    bridge.assert_books_balance().await;
}

/// Hazard 15: a lost PUBACK brings a stored message again; it keeps its id, so that readers fold it.
#[tokio::test(flavor = "multi_thread")]
async fn a_proven_copy_keeps_its_id_and_a_second_hi_gets_its_own() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start(broker.port());
    let mut first = broker.accept_session(false).await;
    first.publish(1, false, ROOM, "hi").await;
    checked_pubacks(&mut first, &bridge, 1).await;
    drop(first);
    let mut second = broker.accept_session(true).await;
    second.publish(1, true, ROOM, "hi").await;
    second.publish(2, false, ROOM, "hi").await;
    checked_pubacks(&mut second, &bridge, 2).await;
    let ids: Vec<_> = bridge.sink.stored().into_iter().map(|stored| stored.id).collect();
    assert_eq!(ids[0], ids[1], "the copy");
    assert_ne!(ids[0], ids[2], "somebody else says hi");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_over_session_is_not_fought_for() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start(broker.port());
    let mut scene = broker.accept_session(false).await;
    bridge.sink.shut();
    scene.publish(1, false, ROOM, "the next holder gets it").await;
    scene.write(&TAKEN_OVER).await;
    let came_back = tokio::time::timeout(Duration::from_secs(2), broker.accept()).await;
    assert!(came_back.is_err(), "no reconnect before SIGHUP");
    assert!(!bridge.readiness.is_ready());
    bridge.assert_books_balance().await;
    bridge.come_back.notify_waiters();
    broker.accept_session(true).await;
}

/// A full intake: the bridge leaves without acknowledging, and comes back when half of it is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_intake_drops_the_connection_and_never_a_message() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start_with(
        broker.port(),
        "receive_maximum = 10",
        "[pipeline]\nintake_messages = 10\n",
    );
    bridge.sink.shut();
    let mut first = broker.accept_session(false).await;
    // In one write, because the bridge leaves as soon as it has read eleven.
    let flood: Vec<u8> =
        (1..=30).flat_map(|id| first.packet(id, false, ROOM, &format!("message {id}"))).collect();
    first.write(&flood).await;
    assert_eq!(first.next_puback(Duration::from_secs(5)).await, None, "the bridge leaves without a PUBACK");
    bridge.sink.open();
    let mut unacked: Vec<u16> = (1..=30).collect();
    let mut second = broker.accept_session(true).await;
    // The broker keeps to a window that the intake can take.
    for window in unacked.chunks_mut(5) {
        for id in window.iter() {
            second.publish(*id, true, ROOM, &format!("message {id}")).await;
        }
        assert_eq!(checked_pubacks(&mut second, &bridge, window.len()).await, window);
    }
    assert_eq!(bridge.sink.bodies().len(), 30);
    let books = Metrics::parse(&bridge.metrics.render());
    assert!(books.value("roombridge_filtered_total", &[("reason", "held_back")]) > 0.0, "the door was shut");
    bridge.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_acks_what_came_in_and_then_disconnects() {
    let broker = ScriptedBroker::start().await;
    let mut bridge = UplinkUnderTest::start(broker.port());
    bridge.sink.shut();
    let mut scene = broker.accept_session(false).await;
    for id in 1..=5 {
        scene.publish(id, false, ROOM, &format!("message {id}")).await;
    }
    assert_silent(&mut scene, "the store is away").await;
    bridge.drain.cancel();
    tokio::time::sleep(A_MOMENT).await;
    scene.publish(6, false, ROOM, "too late, for the next process").await;
    bridge.sink.open();
    assert_eq!(checked_pubacks(&mut scene, &bridge, 5).await, [1, 2, 3, 4, 5]);
    assert_silent(&mut scene, "what came after the stop is left to the next process").await;
    for task in std::mem::take(&mut bridge.tasks) {
        tokio::time::timeout(Duration::from_secs(5), task).await.expect("both sides end").unwrap();
    }
}

/// Hazard 10: the live route may lack queues whose broker is away; a room stays on the queue of the written table.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_keeps_the_queue_of_the_written_table() {
    let queues = (0..64).map(|id| QueueName { broker: "memory".into(), id }).collect();
    let mut tables = QueueTables::default();
    tables.topics.insert("room".to_owned(), TopicQueues::first(queues));
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start_with_tables(broker.port(), "", "", tables.clone());
    let mut scene = broker.accept_session(false).await;
    for room in 1..=30 {
        scene.publish(room, false, &format!("room/message/{room}"), &room.to_string()).await;
    }
    checked_pubacks(&mut scene, &bridge, 30).await;
    for stored in bridge.sink.stored() {
        let slot = roombridge::testing::binding::slot_of(&stored.body);
        let expected = tables.topics["room"].queue_of_slot(slot);
        assert_eq!(
            stored.queue_id as usize, expected,
            "room {}, though the route knows 8 queues",
            stored.body
        );
    }
}
