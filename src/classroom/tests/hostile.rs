//! A class that attacks, at the level of rules.

use super::*;

/// Hazard 24: a client id that is a wildcard would read, and be sent, messages that are meant for others.
#[test]
fn a_client_whose_id_is_no_single_name_is_nobody() {
    let mut class = Class::new();
    for id in ["#", "+", "a/b", "GID@@@#", "", "a\u{0}", "a\nb", "a\u{fffe}", &"x".repeat(65)] {
        let mut request = class.request(id, "message", r#"{"roomId":"1","msg":"hi"}"#);
        request.role = SenderRole::Teacher;
        let verdict = class.judge(&request);
        assert_eq!(verdict.end, End::Refused(Reason::Unverified), "{id:?}");
        assert!(verdict.deliveries.is_empty(), "{id:?} has no topic for an answer");
        assert_eq!(verdict.audit.unwrap().sender, None);
    }
}

#[test]
fn a_sender_that_nobody_vouches_for_is_refused_whatever_it_says_of_itself() {
    let mut class = Class::new();
    for (sub_topic, body) in [
        ("message", chat(TEACHER, "1")),
        ("command", format!(r#"{{"type":"shutUp","peer":"{HAN}"}}"#)),
        ("command", r#"{"type":"hello","roomId":"1","channel":"c"}"#.to_owned()),
        ("nonsense", "\u{0}".to_owned()),
    ] {
        let mut request = class.request(TEACHER, sub_topic, body);
        request.sender = None;
        let verdict = class.judge(&request);
        assert_eq!(verdict.end, End::Refused(Reason::Unverified));
        assert_eq!((verdict.deliveries.len(), verdict.change, verdict.presence), (0, None, None));
    }
}

/// Hazard 26: whatever name or topic a body gives, only the verified sender gets the answer.
#[test]
fn an_answer_goes_to_the_verified_sender_only() {
    let mut class = Class::new();
    for (sub_topic, body) in [
        ("message", r##"{"peer":"#","roomId":"1","msg":"hi"}"##),
        ("message", r#"{"peer":"GID_teacher@@@001","roomId":"1","msg":"hi","responseTopic":"room/system"}"#),
        ("message", r#"{"type":"fence","peer":"GID_student@@@002","roomId":"1","ref":"f"}"#),
        ("message", r#"{"type":"refused","peer":"GID_student@@@001","roomId":"1","msg":"x"}"#),
        ("command", r#"{"type":"shutUp","peer":"GID_student@@@002"}"#),
        ("command", r#"{"type":"hello","peer":"GID_student@@@002","roomId":"1","channel":"c"}"#),
        ("../system", r#"{"roomId":"1","msg":"hi"}"#),
        ("message", "not json"),
    ] {
        let verdict = class.hears(LI, sub_topic, body);
        assert!(matches!(verdict.end, End::Refused(_)), "{body}");
        assert_eq!(answer(&verdict, LI)["type"], "refused");
        assert_eq!(verdict.presence, None);
    }
    let fence = class.hears(LI, "message", r#"{"type":"fence","roomId":"1","ref":"f"}"#);
    assert_eq!(only(&fence).topic, ClassTopic::P2p(client(LI)));
}

/// Hazard 25: a room that is a tag expression, a wildcard or a path would be other rooms. (Hazard 20: nor does a legal
/// name of a room or a target ever become a topic that a broker closes the connection for.)
#[test]
fn a_room_that_is_no_name_is_refused() {
    let mut class = Class::new();
    let long = "r".repeat(65);
    for written in
        ["*", "a||b", "../x", "#", "+", "a/b", "a b", "", "1\\u0000", "\\u6559", "%2a", long.as_str()]
    {
        let verdict = class.hears(LI, "message", format!(r#"{{"roomId":"{written}","msg":"hi"}}"#));
        assert_eq!(verdict.end, End::Refused(Reason::Room), "{written}");
        let told = answer(&verdict, LI);
        assert!(told.get("roomId").is_none(), "an illegal name is not repeated");
        assert_eq!(only(&verdict).order_key, "p2p/GID_student@@@001");
        let command = format!(r#"{{"type":"shutUp","peer":"{HAN}","roomId":"{written}"}}"#);
        let verdict = class.hears(TEACHER, "command", command);
        assert_eq!((verdict.end, verdict.change), (End::Refused(Reason::Room), None));
    }
    assert_eq!(class.says(LI, &"r".repeat(64)).end, End::Accepted);
}

#[test]
fn a_mute_of_what_is_no_client_is_refused() {
    let mut class = Class::new();
    let long = "x".repeat(65);
    for written in ["#", "+", "a/b", "", "a\\u0000", "a\\uffff", long.as_str()] {
        let body = format!(r#"{{"type":"shutUp","peer":"{written}"}}"#);
        let verdict = class.hears(TEACHER, "command", body);
        assert_eq!((verdict.end, verdict.change.clone()), (End::Refused(Reason::Peer), None), "{written}");
        assert_eq!(answer(&verdict, TEACHER)["reason"], "peer");
    }
    for body in [r#"{"type":"shutUp"}"#, r#"{"type":"shutUp","peer":7}"#, r#"{"type":"shutUp","peer":null}"#]
    {
        assert_eq!(class.commands(TEACHER, body).end, End::Refused(Reason::Malformed), "{body}");
    }
}

#[test]
fn a_forged_type_is_refused_where_it_does_not_belong() {
    let mut class = Class::new();
    for (sub_topic, kind, reason) in [
        ("message", "\"shutUp\"", Reason::Unknown),
        ("message", "\"unShutUp\"", Reason::Unknown),
        ("message", "\"summary\"", Reason::Unknown),
        ("message", "\"\"", Reason::Unknown),
        ("message", "null", Reason::Malformed),
        ("command", "\"fence\"", Reason::Unknown),
        ("command", "\"SHUTUP\"", Reason::Unknown),
        ("command", "[\"shutUp\"]", Reason::Malformed),
        ("message2", "\"fence\"", Reason::Unknown),
        ("", "\"fence\"", Reason::Unknown),
    ] {
        let body = format!(r#"{{"type":{kind},"peer":"{TEACHER}","roomId":"1","msg":"x","ref":"f"}}"#);
        let verdict = class.hears(TEACHER, sub_topic, body);
        assert_eq!((verdict.end, verdict.change), (End::Refused(reason), None), "{sub_topic} {kind}");
    }
}

/// Two readers of one body must not see two senders, two rooms or two texts.
#[test]
fn a_field_that_stands_there_twice_is_refused() {
    let mut class = Class::new();
    for body in [
        r#"{"peer":"GID_student@@@001","peer":"GID_teacher@@@001","roomId":"1","msg":"x"}"#,
        r#"{"peer":"GID_student@@@001","p\u0065er":"GID_teacher@@@001","roomId":"1","msg":"x"}"#,
        r#"{"roomId":"1","roomId":"2","msg":"x"}"#,
        r#"{"roomId":"1","msg":"x","msg":"y"}"#,
        r#"{"roomId":"1","msg":"x"}{"roomId":"2"}"#,
    ] {
        assert_eq!(class.hears(LI, "message", body).end, End::Refused(Reason::Malformed), "{body}");
    }
    let unknown_twice = r#"{"roomId":"1","msg":"x","mine":1,"mine":2}"#;
    assert_eq!(class.hears(LI, "message", unknown_twice).end, End::Accepted);
}

/// Hazard 29: texts are not changed here; whoever shows them escapes them.
#[test]
fn script_passes_as_the_text_that_it_is() {
    let mut class = Class::new();
    let body = r#"{"roomId":"1","peer":"GID_student@@@001","name":"<img src=x onerror=alert(1)>","msg":"<script>\u202e\u001b[2J</script>"}"#;
    let verdict = class.hears(LI, "message", body);
    assert_eq!(only(&verdict).body, body.as_bytes());
    assert_eq!(only(&verdict).name.as_deref(), Some("<img src=x onerror=alert(1)>"));
}

#[test]
fn a_message_that_is_too_large_too_deep_or_no_text_is_refused() {
    let mut class = Class::new();
    let filled = |bytes: usize| {
        let frame = r#"{"peer":"GID_student@@@001","roomId":"1","msg":""}"#;
        frame.replace(r#""msg":"""#, &format!(r#""msg":"{}""#, "x".repeat(bytes - frame.len())))
    };
    assert_eq!(class.hears(LI, "message", filled(MAX_BODY_BYTES)).end, End::Accepted);
    let too_large = class.hears(LI, "message", filled(MAX_BODY_BYTES + 1));
    assert_eq!(too_large.end, End::Refused(Reason::Malformed));
    assert_eq!(too_large.audit.unwrap().detail.len(), 1024, "the archive keeps the beginning");
    let padded = filled(MAX_BODY_BYTES + 1).replace(r#""msg""#, r#""type":"hello","channel":"c","msg""#);
    assert_eq!(class.hears(LI, "command", padded).end, End::Refused(Reason::Malformed));

    let deep = format!(r#"{{"roomId":"1","msg":"x","x":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
    for body in [deep.into_bytes(), b"{\"roomId\":\"1\",\"msg\":\"\xff\"}".to_vec(), vec![0xff; 2_000]] {
        let verdict = class.hears(LI, "message", body);
        assert_eq!(verdict.end, End::Refused(Reason::Malformed));
        assert!(verdict.audit.unwrap().detail.len() <= 1024);
    }
}

#[test]
fn a_line_that_its_peer_makes_too_large_is_refused() {
    let mut class = Class::new();
    let frame = r#"{"roomId":"1","msg":""}"#.len();
    let room_for_peer = format!("\"peer\":\"{LI}\",").len();
    let mut end = |bytes: usize| {
        let body = format!(r#"{{"roomId":"1","msg":"{}"}}"#, "x".repeat(bytes - frame));
        class.hears(LI, "message", body).end
    };
    assert_eq!(end(MAX_BODY_BYTES - room_for_peer), End::Accepted);
    assert_eq!(end(MAX_BODY_BYTES - room_for_peer + 1), End::Refused(Reason::Malformed));
}

#[test]
fn ten_thousand_rooms_by_one_client_are_ten_lines_and_one_answer() {
    let mut class = Class::new();
    let (mut said, mut answers) = (0, 0);
    for number in 0..10_000 {
        let request = class.request(LI, "message", chat(LI, &number.to_string()));
        let verdict = class.judge(&request);
        if verdict.end == End::Accepted {
            said += 1;
        } else {
            answers += verdict.deliveries.len();
        }
    }
    assert_eq!((said, answers), (10, 1));
}

/// Hazard 21: with one parent for up and down the classroom reads what it wrote; an answer to it would never end.
#[test]
fn what_the_bridge_wrote_is_ignored() {
    let mut class = Class::new();
    for sub_topic in
        ["message/123456", "/message/123456", "p2p/GID_student@@@001", "status", "system", "/status/"]
    {
        let verdict = class.hears(LI, sub_topic, chat(LI, "123456"));
        assert_eq!(verdict.end, End::Ignored, "{sub_topic}");
        assert_eq!((verdict.deliveries.len(), verdict.audit), (0, None));
    }
    for sub_topic in ["message", "/message", "message/"] {
        assert_eq!(class.hears(LI, sub_topic, chat(LI, "1")).end, End::Accepted, "{sub_topic}");
    }
}
