//! What the broker tells about its clients.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use roombridge_embedded::{ClientEvent, ClientEventKind, ClientPolicy};
use tokio::time::timeout;

use crate::support::{Events, Running, TestAccess};
use crate::wire::{DISCONNECT, Hello, PINGRESP, SUBACK, Wire, hello, kept};

const STUDENT: &str = "GID_student@@@001";

async fn start() -> (Running, Events) {
    start_with(|_| {}).await
}

async fn start_with(change: impl FnOnce(&mut ClientPolicy)) -> (Running, Events) {
    let (events, sender) = Events::new(256);
    let running = Running::with(|client_policy| {
        events.listen(client_policy, sender);
        client_policy.p2p_parents = vec!["room".to_owned()];
        change(client_policy);
    })
    .await;
    (running, events)
}

fn subscribed(filters: &[&str]) -> ClientEventKind {
    ClientEventKind::Subscribed(filters.iter().map(ToString::to_string).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_is_reported_from_the_first_to_the_last_step() {
    let (running, mut events) = start().await;
    for version in [4, 5] {
        let mut student = Wire::connect(running.port, &hello(version, STUDENT)).await;
        let came = events.expect(STUDENT, ClientEventKind::Connected).await;
        assert_eq!(came.remote, student.address());
        assert_eq!(came.at_ms, events.clock.load(Ordering::SeqCst));
        assert_eq!(came.channel_id.len(), 32);
        assert!(came.channel_id.chars().all(|digit| digit.is_ascii_hexdigit()));

        events.clock.fetch_add(5_000, Ordering::SeqCst);
        student.subscribe(&[("room/message/1", 1), ("room/#/wrong", 1), ("$share/g/room/status", 0)]).await;
        let subscribed = subscribed(&["room/message/1", "$share/g/room/status"]);
        let listened = events.expect(STUDENT, subscribed).await;
        assert_eq!(listened.at_ms, came.at_ms + 5_000);
        student.unsubscribe("room/message/1").await;
        let unsubscribed = ClientEventKind::Unsubscribed(vec!["room/message/1".to_owned()]);
        let turned_away = events.expect(STUDENT, unsubscribed).await;
        let address = student.address();
        student.goodbye().await;
        let said_goodbye = events.expect(STUDENT, ClientEventKind::Disconnected).await;
        let gone = events.expect(STUDENT, ClientEventKind::Gone).await;
        for event in [listened, turned_away, said_goodbye, gone] {
            assert_eq!((&event.channel_id, event.remote), (&came.channel_id, address));
        }
    }
    running.stop().await;
    assert_eq!(events.rest().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_client_is_gone_without_a_goodbye() {
    let (running, mut events) = start().await;
    let student = Wire::connect(running.port, &hello(5, STUDENT)).await;
    let came = events.expect(STUDENT, ClientEventKind::Connected).await;
    drop(student);
    let gone = events.expect(STUDENT, ClientEventKind::Gone).await;
    assert_eq!(gone.channel_id, came.channel_id);

    // One that breaks the protocol is lost as well, and so is one that wants its will.
    let mut rude = Wire::connect(running.port, &hello(4, STUDENT)).await;
    let came_again = events.expect(STUDENT, ClientEventKind::Connected).await;
    assert_ne!(came_again.channel_id, came.channel_id);
    rude.send(&[0xff; 8]).await;
    rude.expect_closed().await;
    events.expect(STUDENT, ClientEventKind::Gone).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_that_asks_for_the_will_is_a_goodbye() {
    let (running, mut events) = start().await;
    let with_will = Hello { will: Some(("roomSend/command", "bye")), ..hello(5, STUDENT) };
    let mut student = Wire::connect(running.port, &with_will).await;
    events.expect(STUDENT, ClientEventKind::Connected).await;
    student.send(&[0xe0, 2, 0x04, 0]).await;
    student.expect_closed().await;
    events.expect(STUDENT, ClientEventKind::Disconnected).await;
    events.expect(STUDENT, ClientEventKind::Gone).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_is_a_coming_of_the_new_channel_and_a_going_of_the_old() {
    let (running, mut events) = start().await;
    for hello in [hello(5, STUDENT), kept(5, STUDENT)] {
        let mut old = Wire::connect(running.port, &hello).await;
        let old_came = events.expect(STUDENT, ClientEventKind::Connected).await;
        let new = Wire::connect(running.port, &hello).await;
        old.expect(DISCONNECT).await;
        old.expect_closed().await;

        let mut both = [events.next().await, events.next().await];
        both.sort_by_key(|event| event.what == ClientEventKind::Gone);
        let [came, gone] = both;
        assert_eq!((&came.what, &gone.what), (&ClientEventKind::Connected, &ClientEventKind::Gone));
        assert_eq!((&gone.channel_id, gone.remote), (&old_came.channel_id, old_came.remote));
        assert_eq!(came.remote, new.address());
        assert_ne!(came.channel_id, gone.channel_id);

        new.goodbye().await;
        let goodbye = events.expect(STUDENT, ClientEventKind::Disconnected).await;
        assert_eq!(goodbye.channel_id, came.channel_id);
        events.expect(STUDENT, ClientEventKind::Gone).await;
    }
    running.stop().await;
    assert_eq!(events.rest().await, []);
}

/// Who comes back to a kept session does not subscribe again, and is a member of its room all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_session_tells_what_it_listens_to() {
    let (running, mut events) = start().await;
    let mut student = Wire::connect(running.port, &kept(4, STUDENT)).await;
    events.expect(STUDENT, ClientEventKind::Connected).await;
    student.subscribe(&[("room/system", 1), ("room/message/1", 1)]).await;
    events.next().await;
    student.goodbye().await;
    events.expect(STUDENT, ClientEventKind::Disconnected).await;
    events.expect(STUDENT, ClientEventKind::Gone).await;

    let _back = Wire::connect(running.port, &kept(4, STUDENT)).await;
    events.expect(STUDENT, ClientEventKind::Connected).await;
    events.expect(STUDENT, subscribed(&["room/message/1", "room/system"])).await;
    running.stop().await;
    assert_eq!(events.rest().await.len(), 1, "gone with the broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_reported_of_one_that_was_not_let_in_or_never_spoke() {
    let access = TestAccess::new().0.connect(|shown| shown.client.id != "unwanted");
    let (running, mut events) =
        start_with(|client_policy| client_policy.access = Some(Arc::new(access))).await;
    drop(Wire::open(running.port).await);
    for id in ["unwanted", "#"] {
        let (mut refused, _) = Wire::try_connect(running.port, &hello(5, id)).await;
        refused.expect_closed().await;
    }
    let _student = Wire::connect(running.port, &hello(5, STUDENT)).await;
    events.expect(STUDENT, ClientEventKind::Connected).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_subscription_is_not_reported() {
    let access = TestAccess::new().0.subscribe(|_, filter| filter != "secret");
    let (running, mut events) =
        start_with(|client_policy| client_policy.access = Some(Arc::new(access))).await;
    let mut student = Wire::connect(running.port, &hello(5, STUDENT)).await;
    events.expect(STUDENT, ClientEventKind::Connected).await;
    student.send_subscribe(&[("open", 1), ("secret", 1)]).await;
    student.expect(SUBACK).await;
    student.expect_closed().await;
    events.expect(STUDENT, subscribed(&["open"])).await;
    events.expect(STUDENT, ClientEventKind::Gone).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_channel_is_full_the_client_waits_and_is_served_afterwards() {
    const A_WHILE: Duration = Duration::from_millis(300);
    let (mut events, sender) = Events::new(1);
    let running = Running::with(|client_policy| events.listen(client_policy, sender)).await;
    let mut first = Wire::connect(running.port, &hello(5, "first")).await;
    first.ping().await;
    // There is no room for the second one's coming.
    let mut second = Wire::connect(running.port, &hello(5, "second")).await;
    second.send(&[0xc0, 0]).await;
    assert!(timeout(A_WHILE, second.expect(PINGRESP)).await.is_err());
    first.ping().await;

    events.expect("first", ClientEventKind::Connected).await;
    events.expect("second", ClientEventKind::Connected).await;
    second.expect(PINGRESP).await;
    drop((first, second));
    let gone = [events.next().await, events.next().await];
    assert!(gone.iter().all(|event| event.what == ClientEventKind::Gone), "{gone:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_stops_in_time_although_nobody_takes_its_events() {
    let (events, sender) = Events::new(1);
    let running = Running::with(|client_policy| events.listen(client_policy, sender)).await;
    let _first = Wire::connect(running.port, &hello(5, "first")).await;
    let _second = Wire::connect(running.port, &hello(5, "second")).await;
    timeout(Duration::from_secs(8), running.stop()).await.expect("a stop within its deadline");
    assert_eq!(events.rest().await.len(), 1);
}

/// The access control is told this number; it stands in the channel id as well.
fn connection_of(event: &ClientEvent) -> u64 {
    u64::from_str_radix(&event.channel_id[16..], 16).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_old_connection_does_not_end_the_one_that_took_over() {
    let (running, mut events) = start().await;
    let old = Wire::connect(running.port, &kept(5, STUDENT)).await;
    let came = events.expect(STUDENT, ClientEventKind::Connected).await;
    let mut new = Wire::connect(running.port, &kept(5, STUDENT)).await;
    running.broker.disconnect(connection_of(&came));
    new.ping().await;
    drop(old);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_can_be_disconnected_and_its_will_is_sent() {
    let (running, mut events) = start().await;
    let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    events.expect("teacher", ClientEventKind::Connected).await;
    teacher.subscribe(&[("roomSend/#", 1)]).await;
    events.next().await;
    for version in [4, 5] {
        let with_will = Hello { will: Some(("roomSend/command", "bye")), ..kept(version, STUDENT) };
        let mut student = Wire::connect(running.port, &with_will).await;
        let came = events.expect(STUDENT, ClientEventKind::Connected).await;
        running.broker.disconnect(connection_of(&came));
        student.expect_closed().await;
        assert_eq!(teacher.message().await.payload, "bye");
        let gone = events.expect(STUDENT, ClientEventKind::Gone).await;
        assert_eq!(gone.channel_id, came.channel_id);

        let (back, answer) = Wire::try_connect(running.port, &kept(version, STUDENT)).await;
        assert!(answer.session_present, "its session is kept");
        events.expect(STUDENT, ClientEventKind::Connected).await;
        back.goodbye().await;
        events.next().await;
        events.next().await;
    }
    running.broker.disconnect(u64::MAX);
    teacher.ping().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_can_be_disconnected_too() {
    let (running, mut events) = start().await;
    let mut deaf = Wire::connect(running.port, &hello(5, "deaf")).await;
    let came = events.expect("deaf", ClientEventKind::Connected).await;
    deaf.subscribe(&[("flood", 1)]).await;
    events.next().await;
    let mut speaker = Wire::connect(running.port, &hello(5, "speaker")).await;
    events.expect("speaker", ClientEventKind::Connected).await;
    let megabyte = "x".repeat(1 << 20);
    // More than the sockets hold, so the broker is stuck in a write.
    for _ in 0..16 {
        speaker.publish("flood", 1, &megabyte).await;
    }
    running.broker.disconnect(connection_of(&came));
    events.expect("deaf", ClientEventKind::Gone).await;
    running.stop().await;
}
