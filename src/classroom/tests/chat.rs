//! What is said in a room, and how often.

use strum::VariantArray;

use super::*;

#[test]
fn a_line_reaches_its_room_as_it_was_sent() {
    let mut class = Class::new();
    let body = "{ \"roomId\" : \"123456\",\"msg\":\"\\u4f60\\u597d <b>\", \"peer\":\"GID_student@@@001\",\"name\":\"Li\\u0007 Lei\",\"x\":[1, 2]}\n";
    let verdict = class.hears(LI, "message", body);

    assert_eq!(verdict.end, End::Accepted);
    let delivery = only(&verdict);
    assert_eq!(delivery.body, body.as_bytes());
    assert_eq!(delivery.topic, ClassTopic::Room(room("123456")));
    assert_eq!(delivery.topic.sub_topic(), "message/123456");
    assert_eq!(delivery.order_key, "123456");
    assert_eq!(delivery.sender, Some(client(LI)));
    assert_eq!(delivery.name.as_deref(), Some("Li Lei"));

    let audit = verdict.audit.unwrap();
    assert_eq!((audit.what, audit.reason), (AuditAction::Said, None));
    assert_eq!((audit.room, audit.sender), (Some(room("123456")), Some(client(LI))));
    assert_eq!(audit.source_id, "00000000000000aa-1");
    assert_eq!(audit.detail, body);
}

#[test]
fn a_line_without_a_peer_gets_its_sender_and_nothing_else_changes() {
    let mut class = Class::new();
    let body = " {\"roomId\":123456,\"msg\":\"{\",\"peer2\":1.50}";
    let verdict = class.hears("a\"b\\c", "message", body);
    let expected = " {\"peer\":\"a\\\"b\\\\c\",\"roomId\":123456,\"msg\":\"{\",\"peer2\":1.50}";
    assert_eq!(only(&verdict).body, expected.as_bytes());
    assert_eq!(json_of(only(&verdict))["peer"], "a\"b\\c");
}

/// Browsers write half a character where a line was cut inside one, and read a huge number as infinity.
#[test]
fn what_nobody_reads_may_hold_half_a_character_or_a_huge_number() {
    let mut class = Class::new();
    for field in [r#""x":"\ud83d""#, r#""x":1e999"#, r#""x":{"y":["\udc00",-1e999]}"#, r#""x":"[[{\"[""#] {
        let body = format!(r#"{{"roomId":"1","msg":"hi",{field}}}"#);
        let verdict = class.hears(LI, "message", body.clone());
        assert_eq!(verdict.end, End::Accepted, "{field}");
        assert!(only(&verdict).body.ends_with(&body.as_bytes()[1..]), "{field} is kept as it was sent");
    }
}

/// serde_json, which reads the lines later, gives up at 128.
#[test]
fn a_line_nests_no_deeper_than_its_readers_can_follow() {
    let mut class = Class::new();
    for (arrays, end) in [(126, End::Accepted), (127, End::Refused(Reason::Malformed))] {
        let body = format!(r#"{{"roomId":"1","msg":"x","x":{}{}}}"#, "[".repeat(arrays), "]".repeat(arrays));
        let is_read = serde_json::from_str::<Value>(&body).is_ok();
        assert_eq!(class.hears(LI, "message", body).end, end);
        assert_eq!(is_read, end == End::Accepted);
    }
}

/// Where it would be read, the answer says which field it is, and of which line.
#[test]
fn a_field_that_cannot_be_read_is_named_in_the_answer() {
    let mut class = Class::new();
    for (field, value) in [("msg", r#""\ud83d""#), ("name", r#""\udc00 x""#), ("seconds", "1e999")] {
        let msg = if field == "msg" { "" } else { r#""msg":"hi","# };
        let body = format!(r#"{{"roomId":"1","ref":"r",{msg}"{field}":{value}}}"#);
        let verdict = class.hears(LI, "message", body.clone());
        assert_eq!(verdict.end, End::Refused(Reason::Malformed), "{body}");
        let answer = answer(&verdict, LI);
        assert!(answer["detail"].as_str().unwrap().starts_with(field), "{answer}");
        assert_eq!((answer["roomId"].as_str(), answer["ref"].as_str()), (Some("1"), Some("r")));
    }
}

#[test]
fn the_room_is_a_text_or_a_whole_number() {
    let mut class = Class::new();
    let mut end = |written: &str| {
        let body = format!(r#"{{"roomId":{written},"msg":"hi"}}"#);
        let verdict = class.hears(LI, "message", body);
        (verdict.end, verdict.deliveries[0].topic.clone())
    };
    for written in ["\"123456\"", "123456"] {
        assert_eq!(end(written), (End::Accepted, ClassTopic::Room(room("123456"))), "{written}");
    }
    for written in ["1.5", "-1", "1e3", "123456.0", "99999999999999999999", "\"1.5\"", "\"\""] {
        assert_eq!(end(written).0, End::Refused(Reason::Room), "{written}");
    }
    for written in ["null", "true", "[1]", "{}"] {
        assert_eq!(end(written).0, End::Refused(Reason::Malformed), "{written}");
    }
}

#[test]
fn a_fence_is_answered_to_the_asker_in_the_lane_of_the_room() {
    let mut class = Class::new();
    let verdict = class.hears(LI, "message", r#"{"type":"fence","roomId":"7","ref":"n-1"}"#);
    assert_eq!(verdict.end, End::Accepted);
    assert_eq!(only(&verdict).order_key, "7");
    assert_eq!(only(&verdict).body, &br#"{"type":"fence","roomId":"7","ref":"n-1"}"#[..]);
    assert_eq!(only(&verdict).topic, ClassTopic::P2p(client(LI)));
    assert_eq!(verdict.audit, None, "nothing was said");
}

#[test]
fn a_refusal_names_the_room_the_line_and_the_reason() {
    let mut class = Class::new();
    let body = r#"{"peer":"GID_student@@@002","roomId":"7","msg":"hi","ref":"r9"}"#;
    let verdict = class.hears(LI, "message", body);
    assert_eq!(verdict.end, End::Refused(Reason::Peer));
    let answer = answer(&verdict, LI);
    assert_eq!(answer["type"], "refused");
    assert_eq!(answer["reason"], "peer");
    assert_eq!(answer["roomId"], "7");
    assert_eq!(answer["ref"], "r9");
    assert!(answer["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    assert_eq!(only(&verdict).order_key, "7");
    let audit = verdict.audit.unwrap();
    assert_eq!((audit.what, audit.reason), (AuditAction::Refused, Some(Reason::Peer)));
}

#[test]
fn a_client_speaks_so_often_and_is_told_once_a_second_that_it_is_too_much() {
    let mut class = Class::new();
    let (mut said, mut refused, mut answers) = (0, 0, 0);
    // 1,000 lines within two seconds.
    for number in 0..1_000_u64 {
        class.now_ms = START_MS + number * 2;
        let request = class.request(LI, "message", chat(LI, "1"));
        let verdict = class.judge(&request);
        match verdict.end {
            End::Accepted => said += 1,
            End::Refused(reason) => {
                assert_eq!(reason, Reason::Rate);
                refused += 1;
                answers += verdict.deliveries.len();
            }
            End::Ignored => panic!("a line is never ignored"),
        }
        assert!(verdict.audit.is_some(), "said or refused, it is on record");
    }
    // 10 at once and 5 in each of the two seconds.
    assert_eq!((said, refused, answers), (19, 981, 2));
}

#[test]
fn a_full_room_refuses_pupils_and_still_hears_the_teacher() {
    let mut class = Class::new();
    let mut heard = 0;
    for pupil in 0..500 {
        let sender = format!("GID_student@@@{pupil}");
        let request = class.request(&sender, "message", chat(&sender, "1"));
        heard += usize::from(class.judge(&request).end == End::Accepted);
    }
    assert_eq!(heard, 200, "the burst of the room");

    let request = class.request(TEACHER, "message", chat(TEACHER, "1"));
    assert_eq!(class.judge(&request).end, End::Accepted);
    let elsewhere = class.request("GID_student@@@x", "message", chat("GID_student@@@x", "2"));
    assert_eq!(class.judge(&elsewhere).end, End::Accepted, "another room is not full");
    let fence = class.request("GID_student@@@y", "message", r#"{"type":"fence","roomId":"1","ref":"f"}"#);
    assert_eq!(class.judge(&fence).end, End::Accepted, "a late joiner gets its fence");
}

#[test]
fn a_backlog_is_judged_as_it_came_and_not_as_it_is_read() {
    // Given: a line a second for five minutes, read at once after an outage.
    let mut class = Class::new();
    let now_ms = START_MS + 3_600_000;
    for number in 0..300 {
        let mut request = class.request(LI, "message", chat(LI, "1"));
        (request.arrived_ms, request.now_ms) = (START_MS + number * 1_000, now_ms);
        assert_eq!(class.judge(&request).end, End::Accepted, "line {number}");
    }
}

#[test]
fn a_notice_goes_to_all_in_the_lane_of_its_room() {
    let delivery = notice(&room("7"), "Lesson ends at <12>", START_MS).unwrap();
    assert_eq!(delivery.topic.sub_topic(), "system");
    assert_eq!((delivery.order_key.as_str(), delivery.sender.as_ref()), ("7", None));
    assert_eq!(delivery.body, &br#"{"roomId":"7","text":"Lesson ends at <12>","time":1700000000000}"#[..]);

    assert_eq!(notice(&room("7"), " \n", START_MS), Err(NoticeError::Empty));
    assert!(notice(&room("7"), &"x".repeat(4096), START_MS).is_ok());
    assert_eq!(notice(&room("7"), &"x".repeat(4097), START_MS), Err(NoticeError::TooLong(4097)));

    let audit = Audit::of_own(
        AuditAction::Noticed,
        &room("7"),
        &"x".repeat(4096),
        Some(&client(TEACHER)),
        "id-1",
        START_MS,
    );
    assert_eq!((audit.what, audit.detail.len()), (AuditAction::Noticed, 1024));
}

/// Hazard 21: a crash between sending and committing leads to the same ids, by which readers fold.
#[test]
fn a_line_that_is_judged_again_after_a_crash_has_the_same_id() {
    let ids = |class: &mut Class| -> Vec<_> {
        let request = class.request(LI, "message", chat(LI, "1"));
        let verdict = class.judge(&request);
        let deliveries = verdict.deliveries.iter();
        deliveries
            .map(|delivery| (derived_id(&request.source_id, delivery.ordinal), delivery.body.clone()))
            .collect()
    };
    let (before, after) = (ids(&mut Class::new()), ids(&mut Class::new()));
    assert_eq!((before.len(), &before), (1, &after));

    let different: std::collections::HashSet<_> = ["a-1", "a-11", "b-1"]
        .iter()
        .flat_map(|source| [derived_id(source, 0), derived_id(source, 1)])
        .collect();
    assert_eq!(different.len(), 6);
    // The written form never changes. Computed with Python's hashlib.
    assert_eq!(derived_id("00000000000000aa-1", 0).to_string(), "f7a0cda919ae6fcb-6db0555a5f5672a9");
    assert_eq!(derived_id("00000000000000aa-1", 1).to_string(), "0d6e4760cc2e8cb3-362a54a56b2d8575");
}

#[test]
fn reasons_have_the_names_that_pages_know() {
    let names: Vec<_> = Reason::VARIANTS.iter().map(|reason| reason.as_str()).collect();
    let known = ["malformed", "room", "peer", "muted", "rate", "not_teacher", "unverified", "unknown"];
    assert_eq!(names, known);
    for reason in Reason::VARIANTS.iter().copied() {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
}

#[test]
fn a_lesson_mark_names_its_room_and_stays_in_its_lane() {
    let mark = lesson_mark(&room("7"), LessonEdge::Start, Some(" Algebra "), START_MS).unwrap();
    assert_eq!(mark.topic.topic("room"), "room/lesson/start/7");
    assert_eq!((mark.order_key.as_str(), mark.sender), ("7", None));
    let body: serde_json::Value = serde_json::from_slice(&mark.body).unwrap();
    let expected =
        serde_json::json!({"roomId": "7", "lesson": "start", "title": "Algebra", "time": START_MS});
    assert_eq!(body, expected);

    let end = lesson_mark(&room("7"), LessonEdge::End, Some("  "), START_MS).unwrap();
    assert_eq!(end.topic.topic("room"), "room/lesson/end/7");
    assert!(!String::from_utf8_lossy(&end.body).contains("title"));
    let long = "x".repeat(257);
    assert_eq!(
        lesson_mark(&room("7"), LessonEdge::End, Some(&long), START_MS),
        Err(LessonMarkError::TooLong(257))
    );
}
