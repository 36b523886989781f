//! Sessions, wills and keep-alive, as a class needs them.

use std::time::{Duration, Instant};

use crate::support::Running;
use crate::wire::{DISCONNECT, Hello, Wire, hello, kept};

const STUDENT: &str = "GID_student@@@001";
const VERSIONS: [u8; 2] = [4, 5];

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_session_forgets_its_subscriptions_and_its_messages() {
    let running = Running::plain().await;
    let mut speaker = Wire::connect(running.port, &hello(5, "speaker")).await;
    for version in VERSIONS {
        let mut student = Wire::connect(running.port, &hello(version, STUDENT)).await;
        student.subscribe(&[("room", 1)]).await;
        student.goodbye().await;
        speaker.publish("room", 1, "while away").await;
        let (mut student, answer) = Wire::try_connect(running.port, &hello(version, STUDENT)).await;
        assert!(!answer.session_present);
        speaker.publish("room", 1, "not subscribed").await;
        student.subscribe(&[("room", 1)]).await;
        speaker.publish("room", 1, "the fence").await;
        assert_eq!(student.message().await.payload, "the fence");
        student.goodbye().await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_session_gets_what_it_missed_in_order_also_after_a_restart() {
    for version in VERSIONS {
        let running = Running::plain().await;
        let mut student = Wire::connect(running.port, &kept(version, STUDENT)).await;
        student.subscribe(&[("room", 1)]).await;
        student.goodbye().await;
        let mut speaker = Wire::connect(running.port, &hello(5, "speaker")).await;
        for number in 0..20 {
            speaker.publish("room", 1, &format!("m{number}")).await;
        }
        let running = running.restart(|_| {}).await;
        let mut speaker = Wire::connect(running.port, &hello(5, "speaker")).await;
        speaker.publish("room", 1, "m20").await;
        let (mut student, answer) = Wire::try_connect(running.port, &kept(version, STUDENT)).await;
        assert!(answer.session_present);
        for number in 0..=20 {
            assert_eq!(student.message().await.payload, format!("m{number}"));
        }
        student.goodbye().await;

        let (_, clean) = Wire::try_connect(running.port, &hello(version, STUDENT)).await;
        assert!(!clean.session_present, "a clean start ends it");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unacknowledged_message_comes_again_after_the_connection_was_lost() {
    let running = Running::plain().await;
    for version in VERSIONS {
        let id = format!("student{version}");
        let mut student = Wire::connect(running.port, &kept(version, &id)).await;
        student.subscribe(&[("room", 1)]).await;
        let mut speaker = Wire::connect(running.port, &hello(5, "speaker")).await;
        speaker.publish("room", 1, "important").await;
        let first = student.next().await.expect("the message");
        drop(student);
        let mut student = Wire::connect(running.port, &kept(version, &id)).await;
        let again = student.next().await.expect("the message again");
        assert_eq!((first.flags, again.flags), (0b0010, 0b1010), "QoS 1, then DUP");
        assert_eq!(first.body, again.body);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_client_of_an_id_takes_the_session_over() {
    let running = Running::plain().await;
    let mut speaker = Wire::connect(running.port, &hello(5, "speaker")).await;
    for version in VERSIONS {
        let mut old = Wire::connect(running.port, &kept(version, STUDENT)).await;
        old.subscribe(&[("room", 1)]).await;
        let (mut new, answer) = Wire::try_connect(running.port, &kept(version, STUDENT)).await;
        assert!(answer.session_present);
        let last = old.next().await;
        if version == 5 {
            let last = last.expect("a DISCONNECT");
            assert_eq!((last.kind, last.body[0]), (DISCONNECT, 0x8e));
        }
        speaker.publish("room", 1, "to the new one").await;
        assert_eq!(new.message().await.payload, "to the new one");
        new.goodbye().await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_is_sent_for_a_lost_client_and_not_after_a_goodbye() {
    let running = Running::plain().await;
    let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    teacher.subscribe(&[("#", 1)]).await;
    for version in VERSIONS {
        let with_will = Hello { will: Some(("roomSend/command", "bye")), ..hello(version, STUDENT) };
        Wire::connect(running.port, &with_will).await.goodbye().await;
        teacher.publish("fence", 1, "no will yet").await;
        assert_eq!(teacher.message().await.payload, "no will yet");
        drop(Wire::connect(running.port, &with_will).await);
        assert_eq!(teacher.message().await.payload, "bye");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_will_waits_and_is_dropped_when_the_client_is_back() {
    let running = Running::plain().await;
    let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    teacher.subscribe(&[("#", 1)]).await;
    let with_will =
        Hello { will: Some(("roomSend/command", "bye")), will_delay_s: Some(1), ..kept(5, STUDENT) };
    drop(Wire::connect(running.port, &with_will).await);
    let back = Wire::connect(running.port, &with_will).await;
    drop(back);
    let lost = Instant::now();
    assert_eq!(teacher.message().await.payload, "bye");
    assert!(lost.elapsed() >= Duration::from_millis(900), "{:?}", lost.elapsed());
    teacher.publish("fence", 1, "one will").await;
    assert_eq!(teacher.message().await.payload, "one will");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_silent_beyond_its_keep_alive_is_closed_and_its_will_sent() {
    let running = Running::plain().await;
    let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    teacher.subscribe(&[("roomSend/#", 1)]).await;
    for version in VERSIONS {
        let with_will =
            Hello { keep_alive_s: 1, will: Some(("roomSend/command", "bye")), ..hello(version, STUDENT) };
        let mut student = Wire::connect(running.port, &with_will).await;
        student.ping().await;
        let silent = Instant::now();
        student.expect_closed().await;
        let after = silent.elapsed();
        assert!(after > Duration::from_millis(1400) && after < Duration::from_secs(3), "{after:?}");
        assert_eq!(teacher.message().await.payload, "bye");
    }
    running.stop().await;
}
