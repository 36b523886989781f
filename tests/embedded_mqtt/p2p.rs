//! `{parent}/p2p/{client id}` reaches that client, and nobody else, without a subscription.

use std::sync::Arc;

use roombridge_embedded::ClientPolicy;

use crate::support::{Running, TestAccess};
use crate::wire::{Hello, Message, Wire, hello, kept};

const STUDENT: &str = "GID_student@@@001";
const OWN: &str = "room/p2p/GID_student@@@001";

fn with_p2p(client_policy: &mut ClientPolicy) {
    client_policy.p2p_parents = vec!["room".to_owned(), "lesson".to_owned()];
}

async fn classroom() -> (Running, Wire) {
    let running = Running::with(with_p2p).await;
    let teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    (running, teacher)
}

fn to_own(payload: &str) -> Message {
    Message { topic: OWN.to_owned(), payload: payload.to_owned(), qos: 1, retain: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_a_client_s_own_topic_needs_no_subscription() {
    let (running, mut teacher) = classroom().await;
    for hello in [hello(4, STUDENT), kept(4, STUDENT), hello(5, STUDENT), kept(5, STUDENT)] {
        let mut student = Wire::connect(running.port, &hello).await;
        teacher.publish(OWN, 1, "shutUp").await;
        teacher.publish("lesson/p2p/GID_student@@@001", 0, "of the other parent").await;
        let received = [student.message().await, student.message().await];
        assert!(received.contains(&to_own("shutUp")), "{received:?}");
        assert!(received.iter().any(|message| message.payload == "of the other parent"));
        student.goodbye().await;
    }
    running.stop().await;
}

/// Whoever has the CONNACK tells others that it is there, and they may write to it in the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn the_own_topic_is_ready_when_the_connack_comes() {
    let (running, mut teacher) = classroom().await;
    for number in 0..100 {
        let id = format!("student{number}");
        let version = 4 + number % 2;
        let mut student = Wire::connect(running.port, &hello(version, &id)).await;
        teacher.send_publish(&format!("room/p2p/{id}"), 1, false, "at once").await;
        assert_eq!(student.message().await.payload, "at once");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_a_kept_session_is_absent_is_delivered_later_also_after_a_restart() {
    for version in [4, 5] {
        let (running, mut teacher) = classroom().await;
        Wire::connect(running.port, &kept(version, STUDENT)).await.goodbye().await;
        teacher.publish(OWN, 1, "while away").await;
        let (mut student, answer) = Wire::try_connect(running.port, &kept(version, STUDENT)).await;
        assert!(answer.session_present);
        assert_eq!(student.message().await, to_own("while away"));
        student.goodbye().await;

        let running = running.restart(with_p2p).await;
        let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
        teacher.publish(OWN, 1, "before it came back after the restart").await;
        let mut student = Wire::connect(running.port, &kept(version, STUDENT)).await;
        assert_eq!(student.message().await, to_own("before it came back after the restart"));
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_for_a_client_whose_session_is_not() {
    let (running, mut teacher) = classroom().await;
    for version in [4, 5] {
        Wire::connect(running.port, &hello(version, STUDENT)).await.goodbye().await;
        teacher.publish(OWN, 1, "while away").await;
        let (mut student, answer) = Wire::try_connect(running.port, &hello(version, STUDENT)).await;
        assert!(!answer.session_present);
        teacher.publish(OWN, 1, "now").await;
        assert_eq!(student.message().await, to_own("now"));
        student.goodbye().await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_subscribes_its_own_topic_as_well_gets_each_message_once() {
    let (running, mut teacher) = classroom().await;
    for hello in [hello(4, STUDENT), kept(5, STUDENT)] {
        let mut student = Wire::connect(running.port, &hello).await;
        for qos in [1, 2, 1, 0] {
            assert_eq!(student.subscribe(&[(OWN, qos)]).await, [qos]);
            student.ping().await;
            teacher.publish(OWN, 1, "once").await;
            teacher.publish(OWN, 1, "the fence").await;
            assert_eq!(student.message().await, to_own("once"), "QoS 1 as before");
            assert_eq!(student.message().await, to_own("the fence"));
        }
        student.goodbye().await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cannot_unsubscribe_its_own_topic() {
    let (running, mut teacher) = classroom().await;
    for hello in [hello(4, STUDENT), kept(5, STUDENT)] {
        let mut student = Wire::connect(running.port, &hello).await;
        student.subscribe(&[(OWN, 2)]).await;
        student.unsubscribe(OWN).await;
        // The PINGRESP comes after the broker has dealt with the UNSUBSCRIBE.
        student.ping().await;
        teacher.publish(OWN, 1, "still heard").await;
        assert_eq!(student.message().await, to_own("still heard"));
        student.goodbye().await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_that_took_over_gets_it_and_once() {
    let (running, mut teacher) = classroom().await;
    for hello in [hello(5, STUDENT), kept(5, STUDENT)] {
        let mut old = Wire::connect(running.port, &hello).await;
        let mut new = Wire::connect(running.port, &hello).await;
        old.expect(crate::wire::DISCONNECT).await;
        old.expect_closed().await;
        teacher.publish(OWN, 1, "once").await;
        teacher.publish(OWN, 1, "the fence").await;
        assert_eq!(new.message().await, to_own("once"));
        assert_eq!(new.message().await, to_own("the fence"));
        new.goodbye().await;
    }
    running.stop().await;
}

/// Hazard 24: an id is a level of a topic, so no id may reach into another's.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_what_was_sent_to_another() {
    let (running, mut teacher) = classroom().await;
    let mut student = Wire::connect(running.port, &hello(5, STUDENT)).await;
    let mut others = Vec::new();
    for id in ["GID_student@@@00", "GID_student@@@0011", "gid_student@@@001", "p2p", "room"] {
        others.push((id, Wire::connect(running.port, &hello(5, id)).await));
    }
    for id in ["#", "+", "../GID_student@@@001", "GID_student@@@001/x"] {
        let (_, answer) = Wire::try_connect(running.port, &hello(5, id)).await;
        assert_eq!(answer.code, 0x85, "{id}");
    }
    teacher.publish(OWN, 1, "for one only").await;
    assert_eq!(student.message().await, to_own("for one only"));
    for (id, other) in &mut others {
        teacher.publish(&format!("room/p2p/{id}"), 1, "the fence").await;
        assert_eq!(other.message().await.payload, "the fence", "{id}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_control_is_not_asked_for_the_own_topic_but_for_another_s() {
    let access = TestAccess::new().0.subscribe(|_, _| false);
    let running = Running::with(|client_policy| {
        with_p2p(client_policy);
        client_policy.access = Some(Arc::new(access));
    })
    .await;
    let mut student = Wire::connect(running.port, &kept(5, STUDENT)).await;
    assert_eq!(student.subscribe(&[(OWN, 1)]).await, [1]);
    student.goodbye().await;
    let mut student = Wire::connect(running.port, &kept(5, STUDENT)).await;
    student.publish(OWN, 1, "to myself").await;
    assert_eq!(student.message().await, to_own("to myself"), "restored, too");
    for filter in ["room/p2p/GID_student@@@002", "room/p2p/+", "room/#", "#"] {
        let hello = Hello { expiry_s: None, ..hello(5, "curious") };
        let mut curious = Wire::connect(running.port, &hello).await;
        assert_eq!(curious.subscribe(&[(filter, 1)]).await, [0x87], "{filter}");
        curious.expect_closed().await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_parents_the_topic_is_one_like_any_other() {
    let running = Running::plain().await;
    let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    let mut student = Wire::connect(running.port, &hello(5, STUDENT)).await;
    teacher.publish(OWN, 1, "nobody listens").await;
    assert_eq!(student.subscribe(&[(OWN, 1)]).await, [1]);
    teacher.publish(OWN, 1, "the fence").await;
    assert_eq!(student.message().await, to_own("the fence"));
    running.stop().await;
}
