//! What a client may not do is answered, and the connection is closed, as on the vendor's service.

use std::sync::Arc;

use crate::support::{Running, TestAccess};
use crate::wire::{NOT_AUTHORIZED, PUBACK, PUBREC, SUBACK, Wire, hello, reason};

/// Students speak in `roomSend/` and listen in `room/`.
async fn classroom() -> Running {
    let is_teacher = |id: &str| id.starts_with("teacher");
    let access = TestAccess::new()
        .0
        .publish(move |client, topic| is_teacher(&client.id) || topic.starts_with("roomSend/"))
        .subscribe(move |client, filter| is_teacher(&client.id) || filter.starts_with("room/"));
    Running::with(|client_policy| client_policy.access = Some(Arc::new(access))).await
}

/// Hazard 23: a student must not speak past the checks.
#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_publish_is_answered_with_its_reason_and_closed_with_mqtt_5() {
    let running = classroom().await;
    let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    teacher.subscribe(&[("#", 2)]).await;
    for (qos, answer) in [(0, None), (1, Some(PUBACK)), (2, Some(PUBREC))] {
        let mut student = Wire::connect(running.port, &hello(5, "student")).await;
        student.send_publish("room/message/1", qos, true, "past the checks").await;
        if let Some(kind) = answer {
            assert_eq!(reason(&student.expect(kind).await), NOT_AUTHORIZED);
        }
        student.expect_closed().await;
    }
    let mut student = Wire::connect(running.port, &hello(5, "student")).await;
    student.publish("roomSend/message", 1, "allowed").await;
    assert_eq!(teacher.message().await.payload, "allowed", "nothing else came");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_publish_is_closed_without_an_acknowledgement_with_mqtt_3_1_1() {
    let running = classroom().await;
    let mut teacher = Wire::connect(running.port, &hello(4, "teacher")).await;
    teacher.subscribe(&[("#", 2)]).await;
    for qos in 0..=2 {
        let mut student = Wire::connect(running.port, &hello(4, "student")).await;
        student.send_publish("room/message/1", qos, false, "past the checks").await;
        student.expect_closed().await;
    }
    let mut student = Wire::connect(running.port, &hello(4, "student")).await;
    student.publish("roomSend/message", 2, "allowed").await;
    assert_eq!(teacher.message().await.payload, "allowed", "nothing else came");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_subscribe_is_answered_filter_by_filter_and_closed() {
    let running = classroom().await;
    for (version, refused) in [(4, 0x80), (5, NOT_AUTHORIZED)] {
        let mut student = Wire::connect(running.port, &hello(version, "student")).await;
        let codes = student
            .subscribe(&[("room/message/1", 1), ("#", 1), ("room/status", 0), ("roomSend/#", 2)])
            .await;
        assert_eq!(codes, [1, refused, 0, refused]);
        student.expect_closed().await;
    }
    running.stop().await;
}

/// Hazard 24: `$share/group/` in front of a filter must not hide it from the access control.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_subscription_is_judged_by_the_filter_that_it_shares() {
    let running = classroom().await;
    for filter in ["$share/g/#", "$share/room/roomSend/#", "$share/room/+"] {
        let mut student = Wire::connect(running.port, &hello(5, "student")).await;
        assert_eq!(student.subscribe(&[(filter, 1)]).await, [NOT_AUTHORIZED], "{filter}");
        student.expect_closed().await;
    }
    let mut student = Wire::connect(running.port, &hello(5, "student")).await;
    assert_eq!(student.subscribe(&[("$share/g/room/message/1", 1)]).await, [1]);
    let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    teacher.publish("room/message/1", 1, "to one of the group").await;
    assert_eq!(student.message().await.payload, "to one of the group");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_behind_a_refusal_is_not_worth_more() {
    let running = classroom().await;
    let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    teacher.subscribe(&[("#", 1)]).await;
    let mut student = Wire::connect(running.port, &hello(5, "student")).await;
    student.send_subscribe(&[("secret", 1)]).await;
    student.send_publish("room/message/1", 1, false, "past the checks").await;
    assert_eq!(student.expect(SUBACK).await.body.last(), Some(&NOT_AUTHORIZED));
    while let Some(packet) = student.next().await {
        assert_eq!((packet.kind, reason(&packet)), (PUBACK, NOT_AUTHORIZED));
    }
    teacher.publish("room/message/1", 1, "the fence").await;
    assert_eq!(teacher.message().await.payload, "the fence");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_one_connection_and_no_other() {
    let running = classroom().await;
    let mut neighbour = Wire::connect(running.port, &hello(5, "neighbour")).await;
    neighbour.subscribe(&[("room/message/1", 1)]).await;
    let mut student = Wire::connect(running.port, &hello(5, "student")).await;
    student.subscribe(&[("#", 1)]).await;
    student.expect_closed().await;
    neighbour.ping().await;
    let mut back = Wire::connect(running.port, &hello(5, "student")).await;
    back.ping().await;
    running.stop().await;
}
