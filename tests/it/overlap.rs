//! Filters that are refused, and filters that overlap: what is asked for, what is said, and which copies are stored.

use std::time::Duration;

use crate::support::gated_sink::UplinkUnderTest;
use crate::support::metrics::Metrics;
use crate::support::scripted_broker::{Request, Scene, ScriptedBroker, connack, publish_for};

const ONE: &str = "room/+/1";
const ALL: &str = "room/message/+";
const BOTH: &str = "room/message/1";

fn bindings(filters: &[&str]) -> String {
    filters.iter().map(|filter| format!("[[binding]]\nfilter = \"{filter}\"\ntopic = \"room\"\n")).collect()
}

async fn until(what: &str, bridge: &UplinkUnderTest, met: impl Fn(&UplinkUnderTest) -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(15), async {
        while !met(bridge) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}: {:?}", bridge.readiness.report());
}

fn says(bridge: &UplinkUnderTest, words: &[&str]) -> bool {
    let missing = bridge.readiness.report().missing;
    missing.iter().any(|line| words.iter().all(|word| line.contains(word)))
}

fn is_subscribed(bridge: &UplinkUnderTest) -> bool {
    bridge.readiness.report().mqtt.subscribed
}

fn left_out(bridge: &UplinkUnderTest) -> f64 {
    let metrics = Metrics::parse(&bridge.metrics.render());
    metrics.value("roombridge_filtered_total", &[("reason", "overlap")])
}

async fn begin(broker: &ScriptedBroker, session_present: bool) -> Scene {
    let mut scene = broker.accept().await;
    scene.write(&connack(session_present)).await;
    scene
}

/// Grants so many filters, whatever they are.
async fn grant(scene: &mut Scene, count: usize) -> Vec<Request> {
    let mut granted = Vec::new();
    for _ in 0..count {
        let request = scene.next_request().await;
        scene.answer(&request, 1).await;
        granted.push(request);
    }
    granted
}

fn identifier(requests: &[Request], filter: &str) -> u32 {
    let found = requests.iter().find(|request| request.filter == filter);
    found.and_then(|request| request.identifier).expect("an identifier")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_filter_is_named_and_asked_for_again_until_it_is_granted() {
    for code in [0x80, 0x83, 0x87, 0x91, 0x97] {
        let broker = ScriptedBroker::start().await;
        let bridge = UplinkUnderTest::start(broker.port());
        let mut scene = begin(&broker, code == 0x91).await;
        let first = scene.next_request().await;
        scene.answer(&first, code).await;
        until("it is said", &bridge, |bridge| says(bridge, &["room/#", "refuses the subscription"])).await;
        assert!(!bridge.readiness.is_ready());
        let second = scene.next_request().await;
        assert_eq!(second.filter, first.filter);
        assert_ne!(second.packet_id, first.packet_id, "{code:#x}: the next identifier");
        scene.answer(&second, 1).await;
        until("it is granted", &bridge, is_subscribed).await;
        assert!(!says(&bridge, &["room/#"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_asks_at_once() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start(broker.port());
    let mut scene = begin(&broker, false).await;
    for _ in 0..4 {
        let request = scene.next_request().await;
        scene.answer(&request, 0x87).await;
        // far before the pauses of 1, 2 and 4 seconds are over
        until("it is said", &bridge, |bridge| says(bridge, &["room/#"])).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        bridge.come_back.notify_waiters();
    }
    let asked = tokio::time::timeout(Duration::from_secs(3), scene.next_request()).await;
    scene.answer(&asked.expect("asked at once"), 1).await;
    until("it is granted", &bridge, is_subscribed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_filter_stands_in_for_a_wider_one_that_is_refused() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start_with(broker.port(), "", &bindings(&["room/command/#", "room/#"]));
    let mut scene = begin(&broker, false).await;
    let wide = scene.next_request().await;
    assert_eq!(wide.filter, "room/#", "the narrow one is covered");
    scene.answer(&wide, 0x87).await;
    let narrow = grant(&mut scene, 1).await;
    assert_eq!(narrow[0].filter, "room/command/#");

    // when the wider one is granted, the narrow one ends, and what comes of both is stored once
    let wide = grant(&mut scene, 1).await;
    let copies = [identifier(&narrow, "room/command/#"), identifier(&wide, "room/#")];
    for (packet_id, copy) in (1..).zip(copies) {
        scene.deliver(packet_id, "room/command/1", "mute", &[copy]).await;
    }
    let end = scene.next_request().await;
    assert!(end.is_unsubscribe && end.filter == "room/command/#", "{end:?}");
    until("one copy is left out", &bridge, |bridge| left_out(bridge) == 1.0).await;
    scene.answer(&end, 0).await;
    until("all is subscribed", &bridge, is_subscribed).await;
    scene.deliver(3, "room/command/1", "lift", &[copies[1]]).await;
    assert_eq!(scene.pubacks(3).await, [1, 2, 3]);
    assert_eq!(bridge.sink.stored().len(), 2);
    bridge.assert_books_balance().await;
}

/// Some brokers send a copy for each subscription, some one copy with all their identifiers.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_two_overlapping_filters_is_stored_once_and_each_copy_is_acknowledged_in_order() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start_with(broker.port(), "", &bindings(&[ONE, ALL]));
    let mut scene = begin(&broker, false).await;
    let granted = grant(&mut scene, 2).await;
    let (one, all) = (identifier(&granted, ONE), identifier(&granted, ALL));
    for message in 0..20u16 {
        let body = format!("message {message}");
        match message % 3 {
            0 => {
                scene.deliver(2 * message + 1, BOTH, &body, &[one]).await;
                scene.deliver(2 * message + 2, BOTH, &body, &[all]).await;
            }
            1 => {
                scene.deliver(2 * message + 1, BOTH, &body, &[all]).await;
                scene.deliver(2 * message + 2, BOTH, &body, &[one]).await;
            }
            _ => {
                scene.deliver(2 * message + 1, BOTH, &body, &[all, one]).await;
                scene.deliver(2 * message + 2, "room/message/2", "another room", &[all]).await;
            }
        }
    }
    assert_eq!(scene.pubacks(40).await, (1..=40).collect::<Vec<_>>());
    assert_eq!(bridge.sink.stored().len(), 20 + 6);
    assert_eq!(left_out(&bridge), 14.0);
    bridge.assert_books_balance().await;
}

/// A bridge with both filters granted, and its session after the connection is gone.
async fn kept_session(broker: &ScriptedBroker) -> (UplinkUnderTest, u32, u32) {
    let bridge = UplinkUnderTest::start_with(broker.port(), "", &bindings(&[ONE, ALL]));
    let mut scene = begin(broker, false).await;
    let granted = grant(&mut scene, 2).await;
    until("all is subscribed", &bridge, is_subscribed).await;
    (bridge, identifier(&granted, ONE), identifier(&granted, ALL))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_a_kept_session_is_stored_once_when_the_filters_are_granted_again() {
    let broker = ScriptedBroker::start().await;
    let (bridge, one, all) = kept_session(&broker).await;
    let mut scene = begin(&broker, true).await;
    for message in 0..50u16 {
        for (packet_id, copy) in [(2 * message + 1, all), (2 * message + 2, one)] {
            scene.deliver(packet_id, BOTH, &format!("message {message}"), &[copy]).await;
        }
    }
    let again = grant(&mut scene, 2).await;
    assert_eq!((identifier(&again, ONE), identifier(&again, ALL)), (one, all), "for ever");
    assert_eq!(scene.pubacks(100).await, (1..=100).collect::<Vec<_>>());
    let bodies: Vec<_> = bridge.sink.stored().into_iter().map(|stored| stored.body).collect();
    assert_eq!(bodies, (0..50).map(|message| format!("message {message}")).collect::<Vec<_>>());
    bridge.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_waits_is_lost_when_the_filter_that_counts_is_refused() {
    let broker = ScriptedBroker::start().await;
    let (bridge, _, all) = kept_session(&broker).await;
    let mut scene = begin(&broker, true).await;
    for message in 1..=100u16 {
        scene.deliver(message, BOTH, &format!("message {message}"), &[all]).await;
    }
    let refused = scene.next_request().await;
    assert_eq!(refused.filter, ONE);
    scene.answer(&refused, 0x87).await;
    grant(&mut scene, 1).await;
    assert_eq!(scene.pubacks(100).await, (1..=100).collect::<Vec<_>>());
    assert_eq!(bridge.sink.bodies().len(), 100);
    bridge.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_identifiers_is_complained_of_and_every_copy_is_stored() {
    let broker = ScriptedBroker::start().await;
    let bridge = UplinkUnderTest::start_with(broker.port(), "", &bindings(&[ONE, ALL]));
    let mut scene = broker.accept().await;
    scene.write(&[0x20, 5, 0, 0, 2, 0x29, 0]).await;
    let granted = grant(&mut scene, 2).await;
    assert!(granted.iter().all(|request| request.identifier.is_none()));
    until("it is said", &bridge, |bridge| says(bridge, &["subscription identifiers", ONE, ALL])).await;
    until("all is subscribed", &bridge, is_subscribed).await;
    let copies = [publish_for(1, BOTH, "hi", &[]), publish_for(2, BOTH, "hi", &[])].concat();
    scene.write(&copies).await;
    assert_eq!(scene.pubacks(2).await, [1, 2]);
    assert_eq!(bridge.sink.stored().len(), 2);
    let metrics = Metrics::parse(&bridge.metrics.render());
    assert_eq!(metrics.value("roombridge_maybe_copies_total", &[]), 1.0, "the second one is marked");
    bridge.assert_books_balance().await;
}
