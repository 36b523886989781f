//! Mute, unmute, hello and bye, as clients ask for them.

use super::*;

const MUTE_HAN: &str = r#"{"type":"shutUp","peer":"GID_student@@@002"}"#;
const MUTE_HAN_IN_1: &str = r#"{"type":"shutUp","peer":"GID_student@@@002","roomId":1,"seconds":60}"#;
const UNMUTE_HAN: &str = r#"{"type":"unShutUp","peer":"GID_student@@@002"}"#;

#[test]
fn a_muted_student_is_not_heard_and_is_told_until_when() {
    let mut class = Class::new();
    let verdict = class.commands(TEACHER, MUTE_HAN_IN_1);
    let until_ms = class.now_ms + 60_000;

    let change = verdict.change.clone().unwrap();
    assert_eq!((change.client, change.room), (client(HAN), Some(room("1"))));
    assert_eq!(change.action, MuteAction::Mute { until_ms: Some(until_ms) });
    assert_eq!((change.by, change.at_ms), (client(TEACHER), class.now_ms));
    assert_eq!(only(&verdict).topic, ClassTopic::P2p(client(HAN)));
    assert_eq!(only(&verdict).order_key, "1", "it stays in the room's lane");
    let told = format!(r#"{{"type":"shutUp","roomId":"1","until":{until_ms}}}"#);
    assert_eq!(only(&verdict).body, told.as_bytes());
    assert_eq!(verdict.audit.unwrap().what, AuditAction::Muted);

    let refused = class.says(HAN, "1");
    assert_eq!(refused.end, End::Refused(Reason::Muted));
    let told = answer(&refused, HAN);
    assert_eq!(told["reason"], "muted");
    assert_eq!(told["until"], until_ms);
    assert_eq!(told["ref"], "r1");
    assert_eq!(class.says(HAN, "2").end, End::Accepted, "another room");
    assert_eq!(class.says(LI, "1").end, End::Accepted, "another student");

    class.now_ms = until_ms - 1_001;
    assert_eq!(class.says(HAN, "1").end, End::Refused(Reason::Muted), "the last millisecond");
    class.now_ms = until_ms - 1_000;
    assert_eq!(class.says(HAN, "1").end, End::Accepted, "the end");
}

#[test]
fn the_vendors_page_mutes_in_all_rooms_until_lifted() {
    let mut class = Class::new();
    let verdict = class.commands(TEACHER, MUTE_HAN);
    assert_eq!(only(&verdict).body, &br#"{"type":"shutUp"}"#[..], "exactly what its pages read");
    assert_eq!(only(&verdict).order_key, "p2p/GID_student@@@002");

    class.now_ms += 365 * 24 * 3_600_000;
    class.classroom.forget(class.now_ms);
    for room in ["1", "2"] {
        let verdict = class.says(HAN, room);
        assert_eq!(verdict.end, End::Refused(Reason::Muted));
        assert!(answer(&verdict, HAN).get("until").is_none());
    }

    let lifted = class.commands(TEACHER, UNMUTE_HAN);
    assert_eq!(only(&lifted).body, &br#"{"type":"unShutUp"}"#[..]);
    assert_eq!(lifted.audit.unwrap().what, AuditAction::Unmuted);
    assert_eq!(class.says(HAN, "1").end, End::Accepted);
}

/// Hazard 21: a mute and a line of the same millisecond, in both orders of reading, and a line that is read late.
#[test]
fn a_mute_is_judged_at_the_time_of_arrival() {
    let mut class = Class::new();
    let mute = class.request(TEACHER, "command", MUTE_HAN_IN_1);
    class.judge(&mute);
    let heard = |class: &mut Class, arrived_ms| {
        let mut line = class.request(HAN, "message", chat(HAN, "1"));
        (line.arrived_ms, line.now_ms) = (arrived_ms, START_MS + 3_600_000);
        class.judge(&line).end == End::Accepted
    };
    assert!(heard(&mut class, START_MS - 1), "it was sent before, and only read after");
    assert!(!heard(&mut class, START_MS), "the same millisecond is muted");

    class.now_ms = START_MS + 10_000;
    let lift =
        class.request(TEACHER, "command", r#"{"type":"unShutUp","peer":"GID_student@@@002","roomId":"1"}"#);
    class.judge(&lift);
    assert!(!heard(&mut class, START_MS + 9_999), "it was sent while muted, and only read after the lift");
    assert!(heard(&mut class, START_MS + 10_000));
}

#[test]
fn only_a_teacher_mutes_and_nobody_mutes_a_teacher() {
    let mut class = Class::new();
    for command in [MUTE_HAN, UNMUTE_HAN] {
        let verdict = class.commands(LI, command);
        assert_eq!((verdict.end, verdict.change.is_none()), (End::Refused(Reason::NotTeacher), true));
        assert_eq!(answer(&verdict, LI)["reason"], "not_teacher");
    }
    let verdict = class.commands(TEACHER, r#"{"type":"shutUp","peer":"GID_teacher@@@002"}"#);
    assert_eq!((verdict.end, verdict.change.is_none()), (End::Refused(Reason::Peer), true));

    // A teacher by token, whose client id does not show it, can be muted, but may speak all the same.
    class.commands(TEACHER, MUTE_HAN);
    let mut line = class.request(HAN, "message", chat(HAN, "1"));
    line.role = SenderRole::Teacher;
    assert_eq!(class.judge(&line).end, End::Accepted);
}

#[test]
fn the_length_of_a_mute_is_bounded() {
    let mut class = Class::new();
    let mut end = |seconds: &str| {
        let body = format!(r#"{{"type":"shutUp","peer":"GID_student@@@002","seconds":{seconds}}}"#);
        class.hears(TEACHER, "command", body).end
    };
    assert_eq!(end("1"), End::Accepted);
    assert_eq!(end("2592000"), End::Accepted);
    for wrong in ["0", "-1", "1.5", "2592001", "18446744073709551615", "1e400", "\"60\"", "null"] {
        assert_eq!(end(wrong), End::Refused(Reason::Malformed), "{wrong}");
    }
}

#[test]
fn a_full_list_of_mutes_refuses_and_lets_no_mute_go() {
    let mut class = Class::new();
    for room in 0..128 {
        let body = format!(r#"{{"type":"shutUp","peer":"GID_student@@@002","roomId":{room}}}"#);
        assert_eq!(class.hears(TEACHER, "command", body).end, End::Accepted);
    }
    let one_more = class.commands(TEACHER, r#"{"type":"shutUp","peer":"GID_student@@@002","roomId":128}"#);
    assert_eq!((one_more.end, one_more.change.is_none()), (End::Refused(Reason::Rate), true));
    let again = class.commands(TEACHER, r#"{"type":"shutUp","peer":"GID_student@@@002","roomId":127}"#);
    assert_eq!(again.end, End::Accepted, "a mute that stands can be made longer");
    assert_eq!(class.says(HAN, "0").end, End::Refused(Reason::Muted));
    assert_eq!(class.commands(TEACHER, UNMUTE_HAN).end, End::Accepted);
    assert_eq!(class.says(HAN, "0").end, End::Accepted);
}

#[test]
fn hello_and_bye_are_words_about_presence() {
    let mut class = Class::new();
    let hello =
        class.commands(LI, r#"{"type":"hello","roomId":"7","name":" \u001b[31mLi\n","channel":"c1"}"#);
    assert_eq!((hello.end, hello.deliveries.len(), hello.audit.is_none()), (End::Accepted, 0, true));
    let event = hello.presence.unwrap();
    assert_eq!((&event.client, event.channel.as_ref(), event.at_ms), (&client(LI), "c1", class.now_ms));
    let what = PresenceChange::Hello { room: room("7"), name: Some("[31mLi".to_owned()) };
    assert_eq!(event.change, what);

    let bye = class.commands(LI, r#"{"type":"bye","roomId":7,"channel":"c1"}"#);
    assert_eq!(bye.presence.unwrap().change, PresenceChange::Bye { room: room("7") });

    let without_channel = class.commands(LI, r#"{"type":"hello","roomId":"7"}"#);
    assert_eq!((without_channel.end, without_channel.presence), (End::Refused(Reason::Malformed), None));
}
