//! Whatever bytes come, there is a verdict, and it keeps the promises.

use proptest::prelude::*;

use super::*;

/// Bodies that are nearly right: our fields and others, with right and wrong values, in any order and number.
fn nearly_right() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        8 => prop::sample::select(vec!["type", "peer", "roomId", "msg", "name", "ref", "seconds", "channel"]),
        1 => Just("x"),
    ];
    let value = prop_oneof![
        Just("\"GID_student@@@001\"".to_owned()),
        Just("\"GID_student@@@002\"".to_owned()),
        prop::sample::select(vec!["fence", "shutUp", "unShutUp", "hello", "bye", "1", "*", ""])
            .prop_map(|text| format!("{text:?}")),
        any::<u32>().prop_map(|number| number.to_string()),
        Just("null".to_owned()),
        Just("[[]]".to_owned()),
        any::<String>().prop_map(|text| Value::from(text).to_string()),
    ];
    prop::collection::vec((name, value), 0..6).prop_map(|fields| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        nearly_right().prop_map(String::into_bytes),
        (nearly_right(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(text, place, byte)| {
            let mut bytes = text.into_bytes();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            bytes
        }),
    ]
}

/// What holds for every verdict, whatever was sent.
fn promises(request: &Request, verdict: &Verdict) {
    for delivery in &verdict.deliveries {
        match &delivery.topic {
            ClassTopic::P2p(target) => {
                let named = verdict.change.as_ref().map(|change| change.client.clone());
                assert_eq!(
                    Some(target.as_str()),
                    named.as_ref().map(ClientId::as_str).or(request.sender.as_deref())
                );
            }
            ClassTopic::Room(room) => {
                assert_eq!(delivery.order_key, room.as_str());
                assert_eq!(delivery.sender.as_ref().map(ClientId::as_str), request.sender.as_deref());
                assert_eq!(json_of(delivery)["peer"].as_str(), request.sender.as_deref());
                let tail =
                    &request.payload[request.payload.iter().position(|byte| *byte == b'{').unwrap() + 1..];
                assert!(delivery.body.ends_with(tail), "the sender's bytes are kept");
            }
            ClassTopic::Status | ClassTopic::System | ClassTopic::Lesson(..) => {
                panic!("no request leads there")
            }
        }
        assert!(serde_json::from_slice::<Value>(&delivery.body).is_ok());
    }
    assert!(verdict.change.is_none() || request.role == SenderRole::Teacher);
    assert!(
        !matches!(verdict.end, End::Refused(_)) || (verdict.change.is_none() && verdict.presence.is_none())
    );
}

proptest! {
    #[test]
    fn any_bytes_lead_to_a_verdict_that_keeps_the_promises(
        bodies in prop::collection::vec(body(), 1..20),
        sub_topic in prop_oneof![Just("message"), Just("command"), Just("other")],
        sender in prop_oneof![Just(TEACHER), Just(LI), Just("#")],
        vouched: bool,
    ) {
        let mut class = Class::new();
        for body in bodies {
            class.now_ms += 1_000;
            let mut request = class.request(sender, sub_topic, body);
            request.sender = request.sender.filter(|_| vouched);
            let verdict = class.judge(&request);
            promises(&request, &verdict);
        }
    }

    #[test]
    fn an_audit_record_survives_its_text_and_stays_small(bytes in prop::collection::vec(any::<u8>(), 0..3_000)) {
        let verdict = Class::new().hears(LI, "message", bytes);
        let audit = verdict.audit.unwrap();
        prop_assert!(audit.detail.len() <= 1024);
        let text = serde_json::to_string(&audit).unwrap();
        prop_assert_eq!(serde_json::from_str::<Audit>(&text).unwrap(), audit);
    }

    #[test]
    fn any_bytes_are_a_status_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(event) = status_event(&bytes) {
            prop_assert!(!event.channel.is_empty());
        }
    }

    #[test]
    fn a_legal_name_is_one_level_that_matches_nothing_else(text in "\\PC{0,70}|[a-z/+#*|]{1,4}") {
        if let Some(id) = ClientId::parse(&text) {
            prop_assert!(!text.contains(['/', '+', '#', '\0']) && text.chars().count() <= 64);
            prop_assert_eq!(id.as_str(), &text);
        }
        if RoomId::parse(&text).is_some() {
            prop_assert!(ClientId::parse(&text).is_some() && !text.contains(['|', '*', ' ', '.']));
        }
        let shown = display_name(&text).unwrap_or_default();
        prop_assert!(shown.chars().count() <= 64 && !shown.contains(char::is_control));
    }
}

/// As in a value that nobody reads. What is read is looked at as strictly as without such a name.
#[test]
fn a_name_that_nobody_reads_may_hold_half_a_character() {
    let mut class = Class::new();
    for field in
        [r#""\ud83d":1"#, r#""msg\udc00":{"y":[]}"#, r#""\ud83d":"\udc00""#, r#""\ud83d":1,"\ud83d":2"#]
    {
        let body = format!(r#"{{"roomId":"7","msg":"hi",{field}}}"#);
        let verdict = class.hears(LI, "message", body.clone());
        assert_eq!(verdict.end, End::Accepted, "{field}");
        assert!(only(&verdict).body.ends_with(&body.as_bytes()[1..]), "{field} is kept as it was sent");
    }
    let deep = "[".repeat(127) + &"]".repeat(127);
    for rest in [
        r#""roomId":"7","msg":"hi","m\u0073g":"ho""#,
        r#""roomId":"7","msg":"\ud83d""#,
        r#""roomId":"7","msg":7"#,
        r#""roomId":"7","msg":"hi","\ud83":1"#,
        &format!(r#""roomId":"7","msg":"hi","\udc00":{deep}"#),
    ] {
        let body = format!(r#"{{"\ud83d":1,{rest}}}"#);
        let verdict = class.hears(LI, "message", body);
        assert_eq!(verdict.end, End::Refused(Reason::Malformed), "{rest}");
    }
}

#[test]
fn a_record_has_the_names_that_the_archive_reads() {
    let mut class = Class::new();
    let verdict = class.hears(LI, "message", r#"{"roomId":"*","msg":"hi"}"#);
    let written = serde_json::to_string(&verdict.audit.unwrap()).unwrap();
    let expected = concat!(
        r#"{"atMs":1700000001000,"roomId":null,"sender":"GID_student@@@001","what":"refused","reason":"room","#,
        r#""sourceId":"00000000000000aa-1","detail":"{\"roomId\":\"*\",\"msg\":\"hi\"}"}"#
    );
    assert_eq!(written, expected);
}
