//! Who may connect, and whose rights are whose.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use roombridge_embedded::{ClientEventKind, SENDER_PROPERTY};

use crate::support::{Client, Events, LABEL, Running, Shown, TestAccess, next_ended};
use crate::wire::{ConnAck, DISCONNECT, Hello, NOT_AUTHORIZED, PUBACK, Wire, hello, kept, reason};

const VERSIONS: [u8; 2] = [4, 5];
const TEACHER: &str = "GID_teacher@@@001";

fn right_password_only(shown: &Shown) -> bool {
    shown.password.as_deref() == Some(b"right")
}

#[tokio::test(flavor = "multi_thread")]
async fn without_access_control_everybody_may_do_everything() {
    let running = Running::plain().await;
    for version in VERSIONS {
        let mut client = Wire::connect(running.port, &hello(version, "anybody")).await;
        assert_eq!(client.subscribe(&[("#", 1)]).await, [1]);
        client.publish("room/message/1", 1, "hi").await;
        assert_eq!(client.message().await.payload, "hi");
        client.goodbye().await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_control_sees_what_the_client_shows_and_where_it_comes_from() {
    let access = Arc::new(TestAccess::new().0);
    let asked = Arc::clone(&access);
    let running = Running::with(|client_policy| client_policy.access = Some(access)).await;
    let shows = Hello {
        login: Some(("Token|dev|dev", b"RW|\xff\x00")),
        will: Some(("roomSend/command", "bye")),
        ..hello(5, TEACHER)
    };
    let client = Wire::connect(running.port, &shows).await;
    let _silent_about_itself = Wire::connect(running.port, &hello(4, "anonymous")).await;

    let shown = asked.shown();
    assert_eq!(
        shown[0],
        Shown {
            client: Client { id: TEACHER.to_owned(), connection: shown[0].client.connection },
            username: Some("Token|dev|dev".to_owned()),
            password: Some(b"RW|\xff\x00".to_vec()),
            remote: client.address().to_string(),
            will_topic: Some("roomSend/command".to_owned()),
        }
    );
    let anonymous = &shown[1];
    assert_eq!((&anonymous.username, &anonymous.password, &anonymous.will_topic), (&None, &None, &None));
    assert_ne!(anonymous.client.connection, shown[0].client.connection);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_learns_why_and_is_closed() {
    let (access, mut ended) = TestAccess::new();
    let access = access.connect(|shown| shown.client.id == "welcome");
    let running = Running::with(|client_policy| client_policy.access = Some(Arc::new(access))).await;
    for (version, id, code) in [(4, "unwanted", 5), (5, "unwanted", NOT_AUTHORIZED)] {
        let (mut client, answer) = Wire::try_connect(running.port, &hello(version, id)).await;
        assert_eq!(answer, ConnAck { session_present: false, code }, "{id}, version {version}");
        client.expect_closed().await;
    }
    Wire::connect(running.port, &hello(5, "welcome")).await.goodbye().await;
    assert_eq!(
        next_ended(&mut ended).await.id,
        "welcome",
        "a refused connection was never there, so it has no end"
    );
    running.stop().await;
}

/// Hazard 27: whoever shows the teacher's id and a wrong password must not throw the teacher out.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_with_the_teacher_s_id_does_not_disturb_the_teacher() {
    let (access, _ended) = TestAccess::new();
    let access = access.connect(right_password_only);
    let (mut events, sender) = Events::new(64);
    let running = Running::with(|client_policy| {
        client_policy.access = Some(Arc::new(access));
        events.listen(client_policy, sender);
    })
    .await;
    let genuine = Hello { login: Some(("Token|dev|dev", b"right")), ..kept(5, TEACHER) };
    let mut teacher = Wire::connect(running.port, &genuine).await;
    events.expect(TEACHER, ClientEventKind::Connected).await;
    teacher.subscribe(&[("room/#", 1)]).await;
    events.next().await;

    let no_login = [None, Some(("Token|dev|dev", &b"wrong"[..])), Some(("", &b""[..]))];
    for login in no_login {
        for version in VERSIONS {
            for clean in [true, false] {
                let attack = Hello { login, clean, ..hello(version, TEACHER) };
                let (mut attacker, answer) = Wire::try_connect(running.port, &attack).await;
                assert_ne!(answer.code, 0);
                assert!(!answer.session_present);
                attacker.expect_closed().await;
            }
        }
    }

    teacher.publish("room/message/1", 1, "still here").await;
    assert_eq!(teacher.message().await.payload, "still here");
    teacher.goodbye().await;
    events.expect(TEACHER, ClientEventKind::Disconnected).await;
    events.expect(TEACHER, ClientEventKind::Gone).await;
    let (_, back) = Wire::try_connect(running.port, &genuine).await;
    assert!(back.session_present, "the session is untouched, too");
    running.stop().await;
}

/// An access control that gives each connection one topic of its own, under its number, and forgets it at the connection's end.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_old_connection_takes_no_right_from_the_one_that_took_over() {
    let rights: Arc<Mutex<HashMap<u64, String>>> = Arc::default();
    let (given, asked) = (Arc::clone(&rights), Arc::clone(&rights));
    let (access, mut ended) = TestAccess::new();
    let access = access
        .connect(move |shown| {
            let topic = format!("only/{}", shown.username.as_deref().unwrap());
            given.lock().unwrap().insert(shown.client.connection, topic);
            true
        })
        .publish(move |client, topic| {
            let rights = asked.lock().unwrap();
            rights.get(&client.connection).is_some_and(|right| right == topic)
        });
    let running = Running::with(|client_policy| client_policy.access = Some(Arc::new(access))).await;
    let as_user = |username| Hello { login: Some((username, b"")), ..kept(5, TEACHER) };
    let mut old = Wire::connect(running.port, &as_user("first")).await;
    old.publish("only/first", 1, "x").await;

    let (mut new, answer) = Wire::try_connect(running.port, &as_user("second")).await;
    assert!(answer.session_present);
    let taken_over = old.expect(DISCONNECT).await;
    assert_eq!(taken_over.body[0], 0x8e);
    let forgotten = next_ended(&mut ended).await;
    rights.lock().unwrap().remove(&forgotten.connection);

    new.publish("only/second", 1, "x").await;
    new.send_publish("only/first", 1, false, "x").await;
    assert_eq!(reason(&new.expect(PUBACK).await), NOT_AUTHORIZED, "the old one's right is gone");
    new.expect_closed().await;
    let second = next_ended(&mut ended).await;
    assert_eq!(forgotten.id, second.id);
    assert_ne!(forgotten.connection, second.connection);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_that_the_client_may_not_publish_refuses_the_connection() {
    let (access, mut ended) = TestAccess::new();
    let access = access.publish(|_, topic| topic == "roomSend/command");
    let running = Running::with(|client_policy| client_policy.access = Some(Arc::new(access))).await;
    let with_will = |version, id, topic| Hello { will: Some((topic, "bye")), ..hello(version, id) };
    for (version, code) in [(4, 5), (5, NOT_AUTHORIZED)] {
        let (mut client, answer) =
            Wire::try_connect(running.port, &with_will(version, "student", "room/message/1")).await;
        assert_eq!(answer.code, code);
        client.expect_closed().await;
        assert_eq!(next_ended(&mut ended).await.id, "student", "what was accepted is forgotten");
    }
    let mut listener = Wire::connect(running.port, &hello(5, "listener")).await;
    listener.subscribe(&[("#", 1)]).await;
    let leaving = Wire::connect(running.port, &with_will(4, "student", "roomSend/command")).await;
    drop(leaving);
    assert_eq!(listener.message().await.topic, "roomSend/command");
    running.stop().await;
}

/// The crate would send it to everybody who subscribed `room/#`, and their clients would close for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_will_on_something_that_is_no_topic_refuses_the_connection_with_or_without_access_control() {
    let running = Running::plain().await;
    for topic in ["room/#", "room/+", "#", ""] {
        for version in VERSIONS {
            let hello = Hello { will: Some((topic, "bye")), ..hello(version, "student") };
            let (mut client, answer) = Wire::try_connect(running.port, &hello).await;
            assert_ne!(answer.code, 0, "{topic:?}");
            client.expect_closed().await;
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_subscription_that_is_no_longer_allowed_is_dropped_without_a_word() {
    let may: Arc<Mutex<bool>> = Arc::new(Mutex::new(true));
    let asked = Arc::clone(&may);
    let (access, _ended) = TestAccess::new();
    let access = access.subscribe(move |_, filter| filter != "secret" || *asked.lock().unwrap());
    let running = Running::with(|client_policy| client_policy.access = Some(Arc::new(access))).await;
    let mut client = Wire::connect(running.port, &kept(4, "student")).await;
    assert_eq!(client.subscribe(&[("secret", 1), ("open", 1)]).await, [1, 1]);
    client.goodbye().await;

    *may.lock().unwrap() = false;
    let (mut client, answer) = Wire::try_connect(running.port, &kept(4, "student")).await;
    assert!(answer.session_present);
    let mut speaker = Wire::connect(running.port, &hello(5, "speaker")).await;
    speaker.publish("secret", 1, "not for you").await;
    speaker.publish("open", 1, "for all").await;
    assert_eq!(client.message().await.payload, "for all");
    client.ping().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_accepted_connection_is_forgotten_once_however_it_ended() {
    let (access, mut ended) = TestAccess::new();
    let access = Arc::new(access);
    let asked = Arc::clone(&access);
    let running = Running::with(|client_policy| client_policy.access = Some(access)).await;
    Wire::connect(running.port, &hello(5, "polite")).await.goodbye().await;
    drop(Wire::connect(running.port, &hello(4, "lost")).await);
    let mut garbage = Wire::connect(running.port, &hello(5, "garbage")).await;
    garbage.send(&[0xff; 64]).await;
    garbage.expect_closed().await;
    let _first = Wire::connect(running.port, &hello(5, "twice")).await;
    let _second = Wire::connect(running.port, &hello(5, "twice")).await;
    running.stop().await;

    let mut forgotten = Vec::new();
    while let Ok(client) = ended.try_recv() {
        forgotten.push(client.connection);
    }
    forgotten.sort_unstable();
    let accepted: Vec<_> = asked.shown().iter().map(|shown| shown.client.connection).collect();
    assert_eq!(forgotten, accepted);
    assert_eq!(accepted.len(), 5);
}

/// The crate gives a stored session to its user only, and the user id names the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_session_belongs_to_the_client_id_whatever_the_access_control_calls_its_connections() {
    let running =
        Running::with(|client_policy| client_policy.access = Some(Arc::new(TestAccess::new().0))).await;
    let mut student = Wire::connect(running.port, &kept(5, "student")).await;
    student.subscribe(&[("room", 1)]).await;
    student.goodbye().await;
    for _ in 0..3 {
        let (student, answer) = Wire::try_connect(running.port, &kept(5, "student")).await;
        assert_eq!((answer.code, answer.session_present), (0, true));
        student.goodbye().await;
    }
    // Now without the access control, and with it again.
    let running = running.restart(|_| {}).await;
    let (student, answer) = Wire::try_connect(running.port, &kept(4, "student")).await;
    assert_eq!((answer.code, answer.session_present), (0, true));
    student.goodbye().await;
    let running =
        running.restart(|client_policy| client_policy.access = Some(Arc::new(TestAccess::new().0))).await;
    let (mut student, answer) = Wire::try_connect(running.port, &kept(4, "student")).await;
    assert_eq!((answer.code, answer.session_present), (0, true));
    let mut teacher = Wire::connect(running.port, &hello(4, "teacher")).await;
    teacher.publish("room", 1, "still subscribed").await;
    assert_eq!(student.message().await.payload, "still subscribed");
    running.stop().await;
}

/// A page that reconnects on a bad network may come twice within a moment.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_come_at_once_with_one_kept_session_are_both_let_in_and_the_later_one_stays() {
    let running =
        Running::with(|client_policy| client_policy.access = Some(Arc::new(TestAccess::new().0))).await;
    let mut student = Wire::connect(running.port, &kept(5, "student")).await;
    student.subscribe(&[("room", 1)]).await;
    student.goodbye().await;
    let mut teacher = Wire::connect(running.port, &hello(5, "teacher")).await;
    for round in 0..50 {
        let (hello_4, hello_5) = (kept(4, "student"), kept(5, "student"));
        let ((mut one, first), (mut two, second)) = tokio::join!(
            Wire::try_connect(running.port, &hello_4),
            Wire::try_connect(running.port, &hello_5),
        );
        let answers = [first, second].map(|answer| (answer.code, answer.session_present));
        assert_eq!(answers, [(0, true); 2], "round {round}");

        teacher.publish("room", 1, &format!("{round}")).await;
        let heard = tokio::join!(one.message_or_end(), two.message_or_end());
        let ((Some(heard), None) | (None, Some(heard))) = heard else {
            panic!("one stays and one goes, but {heard:?}");
        };
        assert_eq!(heard.payload, format!("{round}"));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_are_shown_who_sent_a_message_and_what_the_access_control_calls_it() {
    let access = Arc::new(TestAccess::new().0);
    let asked = Arc::clone(&access);
    let running = Running::with(|client_policy| client_policy.access = Some(access)).await;
    let mut listener = Wire::connect(running.port, &hello(5, "listener")).await;
    listener.subscribe(&[("room", 1)]).await;
    let with_will = Hello { will: Some(("room", "bye")), ..hello(4, TEACHER) };
    let mut teacher = Wire::connect(running.port, &with_will).await;
    teacher.publish("room", 1, "hi").await;
    drop(teacher);
    let connection = asked.shown()[1].client.connection;
    for payload in ["hi", "bye"] {
        let (message, mut shown) = listener.message_and_properties().await;
        assert_eq!(message.payload, payload);
        shown.sort_unstable();
        let expected = [
            ("x-mqtt-client-id".to_owned(), TEACHER.to_owned()),
            (SENDER_PROPERTY.to_owned(), format!("{LABEL}#{connection}")),
        ];
        assert_eq!(shown, expected);
    }
    running.stop().await;
}
