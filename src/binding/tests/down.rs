//! From RocketMQ to MQTT.

use super::*;
use crate::model::{DeadReason, FilterReason, MqttMessage, MqttProperties};

/// A millisecond after [`produced`] was stored.
const NOW_MS: u64 = 6;

/// A message as a producer that knows only the documents would send it.
fn produced(properties: &[(&str, &str)], body: &[u8]) -> StoredMessage {
    StoredMessage {
        topic: "room".to_owned(),
        tag: "MQ2MQTT".to_owned(),
        keys: String::new(),
        queue: QueueName { broker: "a".into(), id: 3 },
        queue_offset: 7,
        stored_ms: 5,
        born_ms: 4,
        flag: 0,
        properties: properties.iter().copied().collect(),
        body: Bytes::copy_from_slice(body),
    }
}

fn published(message: &StoredMessage) -> MqttMessage {
    match rules(&[binding("room/#")]).to_mqtt(message, "room", NOW_MS) {
        DownOutcome::Publish(message) => message,
        other => panic!("expected a message, got {other:?}"),
    }
}

fn dead(message: &StoredMessage) -> String {
    match rules(&[binding("room/#")]).to_mqtt(message, "room", NOW_MS) {
        DownOutcome::Dead { reason: DeadReason::IllegalMqttTopic, detail } => detail,
        other => panic!("expected a dead letter, got {other:?}"),
    }
}

fn user<'a>(message: &'a MqttMessage, wanted: &str) -> Option<&'a str> {
    let mut user = message.properties.user.iter();
    user.find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

#[test]
fn the_documented_properties_say_where_a_message_goes() {
    for (second, topic) in [
        ("/message/123456", "room/message/123456"),
        ("message/123456", "room/message/123456"),
        ("message/123456/", "room/message/123456"),
        ("/p2p/GID_student@@@001", "room/p2p/GID_student@@@001"),
        ("status", "room/status"),
    ] {
        let message = published(&produced(&[("mqttSecondTopic", second)], b"hi"));
        assert_eq!((message.topic.as_str(), &*message.payload), (topic, &b"hi"[..]));
        assert_eq!(message.qos, Qos::AtLeastOnce, "the documented default");
    }
    assert_eq!(published(&produced(&[], b"hi")).topic, "room");
    let other = rules(&[binding("room/#")]).to_mqtt(
        &produced(&[("mqttSecondTopic", "/a")], b""),
        "elsewhere/b",
        NOW_MS,
    );
    assert!(matches!(other, DownOutcome::Publish(message) if message.topic == "elsewhere/b/a"));
}

#[test]
fn a_real_topic_replaces_the_second_except_for_p2p_where_it_travels_along() {
    let shown =
        published(&produced(&[("mqttSecondTopic", "/message/1"), ("mqttRealTopic", "/message/2")], b""));
    assert_eq!(shown.topic, "room/message/2");
    let p2p = published(&produced(
        &[("mqttSecondTopic", "p2p/GID@@@1"), ("mqttRealTopic", "news"), ("cleansessionflag", "false")],
        b"",
    ));
    assert_eq!(p2p.topic, "room/p2p/GID@@@1");
    assert_eq!(user(&p2p, "mqttRealTopic"), Some("news"));
    assert_eq!(user(&p2p, "cleansessionflag"), Some("false"));
}

#[test]
fn qos_and_mqtt_5_properties_are_those_of_the_documents_and_of_apache() {
    let qos = |properties: &[(&str, &str)]| published(&produced(properties, b"")).qos;
    assert_eq!(qos(&[("qoslevel", "0")]), Qos::AtMostOnce);
    assert_eq!(qos(&[("qosLevel", "0")]), Qos::AtMostOnce);
    assert_eq!(qos(&[("extData", r#"{"qosLevel":"0"}"#)]), Qos::AtMostOnce);
    assert_eq!(qos(&[("qoslevel", "2")]), Qos::AtLeastOnce);
    assert_eq!(qos(&[("qoslevel", "much")]), Qos::AtLeastOnce);

    let message = published(&produced(
        &[
            ("originMqttTopic", "room/message/1/"),
            ("mqtt5UserProperty", r#"[{"key":"a","value":"1"},{"key":"a","value":"2"}]"#),
            ("mqtt5ContentType", "text/plain"),
            ("mqtt5MsgExpireInterval", "60"),
        ],
        b"",
    ));
    assert_eq!(message.topic, "room/message/1", "Apache's name, with its trailing slash");
    let a: Vec<_> = message.properties.user.iter().filter(|(name, _)| name == "a").collect();
    assert_eq!(a.len(), 2);
    assert_eq!(message.properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!(message.properties.message_expiry_s, Some(60));
}

/// Hazard 20: a topic with a wildcard closes the link and comes again for ever.
#[test]
fn what_a_broker_would_hang_up_for_is_a_dead_letter() {
    for second in ["message/+", "#", "message/\u{0}1", "a\nb"] {
        dead(&produced(&[("mqttSecondTopic", second)], b""));
    }
    dead(&produced(&[("mqttSecondTopic", &"a".repeat(70_000))], b""));
    assert!(dead(&produced(&[("mqttSecondTopic", "/p2p/a/b")], b"")).contains("p2p"));
    let answered = published(&produced(&[("rbResponseTopic", "room/answers")], b""));
    assert_eq!(answered.properties.response_topic.as_deref(), Some("room/answers"));
    for response in ["$SYS/answers", "room/+"] {
        let down = published(&produced(&[("rbResponseTopic", response)], b""));
        assert_eq!(down.properties.response_topic, None, "{response}");
    }
}

#[test]
fn what_came_from_mqtt_does_not_go_back() {
    let rules = rules(&[binding("room/#")]);
    let bound = rules.bind(&message("room/message/1", b"hi")).unwrap();
    let down = rules.to_mqtt(&stored(&bound), "room", NOW_MS);
    assert_eq!(down, DownOutcome::Filtered(FilterReason::FromMqtt));
}

/// Hazard 19: the proof counts only with its id in KEYS, and not with one that RocketMQ's client or somebody else wrote
/// elsewhere.
#[test]
fn a_proof_without_its_id_in_keys_is_none() {
    let rules = rules(&[binding("room/#")]);
    let mut copied = stored(&rules.bind(&message("room/message/1", b"hi")).unwrap());
    let id = read_back(&copied).id.unwrap().to_string();
    copied.keys = "of a server".to_owned();
    copied.properties.insert("KEYS", "of a server");
    copied.properties.insert("UNIQ_KEY", id);
    let down = rules.to_mqtt(&copied, "room", NOW_MS);
    assert!(matches!(down, DownOutcome::Publish(_)), "{down:?}");
}

/// Hazard 19: the mark is proven for topic, id and payload; a copy of it on another message is worth nothing.
#[test]
fn what_the_bridge_published_does_not_come_up_again_and_nobody_can_pretend_so() {
    let rules = rules(&[binding("room/#")]);
    let down = published(&produced(&[("mqttSecondTopic", "/message/1")], b"hi"));
    let mark = user(&down, "rbOrigin").unwrap().to_owned();
    let back_from_mqtt = |topic: &str, payload: &[u8]| {
        let mut envelope = message(topic, payload);
        envelope.properties.user = vec![("rbOrigin".to_owned(), mark.clone())];
        rules.bind(&envelope)
    };
    assert_eq!(back_from_mqtt("room/message/1", b"hi"), Err(NotStored::Filtered(FilterReason::FromRocketmq)));
    assert!(back_from_mqtt("room/message/1", b"other words").is_ok(), "a forged mark");
    assert!(back_from_mqtt("room/message/2", b"hi").is_ok(), "copied to another topic by somebody");
}

/// Hazard 19: two servers that copy properties from topic to topic would go round for ever.
#[test]
fn a_circle_through_others_ends_wherever_it_began() {
    let rules = rules(&[binding("room/#"), binding("other/#")]);
    let down = |stored: &StoredMessage| match rules.to_mqtt(stored, "outgoing", NOW_MS) {
        DownOutcome::Publish(down) => Ok(down),
        DownOutcome::Filtered(reason) => Err(reason),
        DownOutcome::Dead { detail, .. } => panic!("{detail}"),
    };
    // An MQTT application copies what came down, with its properties, to a topic that goes up; and a RocketMQ
    // application what went up, with its properties, to a topic that goes down.
    let up = |properties: MqttProperties| {
        let mut envelope = message("room/message/1", b"hi");
        envelope.properties = properties;
        match rules.bind(&envelope) {
            Ok(bound) => {
                let mut copied = stored(&bound);
                copied.topic = "outgoing".to_owned();
                Ok(copied)
            }
            Err(NotStored::Filtered(reason)) => Err(reason),
            Err(NotStored::Dead { detail, .. }) => panic!("{detail}"),
        }
    };
    let mut begun_in_rocketmq = produced(&[("mqttSecondTopic", "/message/1")], b"hi");
    begun_in_rocketmq.topic = "outgoing".to_owned();
    for begin in [up(MqttProperties::default()).unwrap(), begun_in_rocketmq] {
        let mut way = Ok(begin);
        let mut trips = 0;
        let end = loop {
            way = match way.and_then(|stored| down(&stored)) {
                Ok(published) => up(published.properties),
                Err(reason) => break reason,
            };
            trips += 2;
            assert!(trips < 20, "it goes round for ever");
        };
        assert_eq!(end, FilterReason::HopLimit);
        assert_eq!(trips, 8, "eight times through the bridge, up or down");
    }
}

#[test]
fn a_derived_message_names_its_sender_and_a_producer_cannot() {
    let rules = rules(&[binding("room/#")]);
    let derivation = Derivation {
        id: MessageIds::new(1).next_id(),
        mqtt_topic: "room/message/7",
        room: None,
        order_key: None,
        sender: Some("GID_student@@@001"),
        source: "0000000000000002-1",
        arrived_ms: 99,
        message_expiry_s: None,
        payload: Bytes::from_static(b"hi"),
    };
    let bound = rules.derive(&derivation).unwrap();
    assert_eq!((bound.message.tag(), room_of(&bound).as_deref()), ("message/7", Some("7")));
    assert_eq!(bound.slot, slot_of("7"));
    let down = published(&stored(&bound));
    assert_eq!(user(&down, "clientId"), Some("GID_student@@@001"));
    assert_eq!(user(&down, "rbArrivedMs"), Some("99"));
    assert_eq!(user(&down, "rbId"), Some("0000000000000001-1"));

    // In history it stands as what it is.
    let recorded = read_back(&stored(&bound));
    assert_eq!(recorded.client_id.as_deref(), Some("GID_student@@@001"));
    assert_eq!((recorded.mqtt_topic.as_str(), recorded.room.as_deref()), ("room/message/7", Some("7")));

    let forged = produced(
        &[
            ("mqttSecondTopic", "/message/7"),
            ("clientId", "GID_teacher@@@1"),
            ("rbArrivedMs", "99"),
            ("rbSource", "x"),
            ("rbVouch", "AAAAAAAAAAAAAAAAAAAAAA"),
            ("mqtt5UserProperty", r#"[{"key":"clientId","value":"GID_teacher@@@1"}]"#),
        ],
        b"hi",
    );
    assert_eq!(user(&published(&forged), "clientId"), None);
}

#[test]
fn an_order_key_of_its_own_puts_a_derived_message_into_a_rooms_lane() {
    let rules = rules(&[binding("room/#")]);
    let derivation = Derivation {
        id: MessageIds::new(1).next_id(),
        mqtt_topic: "room/p2p/GID@@@1",
        room: None,
        order_key: Some("7"),
        sender: None,
        source: "s",
        arrived_ms: 1,
        message_expiry_s: None,
        payload: Bytes::new(),
    };
    let bound = rules.derive(&derivation).unwrap();
    assert_eq!(bound.slot, slot_of("7"));
    assert_eq!(&*published(&stored(&bound)).payload, b"", "an empty payload stays empty");
}

#[test]
fn a_message_goes_down_with_what_is_left_of_its_life_or_not_at_all() {
    let rules = rules(&[binding("room/#")]);
    let message = produced(&[("mqttSecondTopic", "/a"), ("mqtt5MsgExpireInterval", "60")], b"hi");
    let left_s = |message: &StoredMessage, now_ms| match rules.to_mqtt(message, "room", now_ms) {
        DownOutcome::Publish(message) => Ok(message.properties.message_expiry_s),
        DownOutcome::Filtered(reason) => Err(reason),
        other @ DownOutcome::Dead { .. } => panic!("{other:?}"),
    };
    assert_eq!(left_s(&message, message.stored_ms), Ok(Some(60)));
    assert_eq!(left_s(&message, message.stored_ms + 45_500), Ok(Some(15)));
    assert_eq!(left_s(&message, message.stored_ms + 59_999), Ok(Some(1)));
    assert_eq!(left_s(&message, message.stored_ms + 60_000), Err(FilterReason::Expired));
    assert_eq!(left_s(&message, u64::MAX), Err(FilterReason::Expired));
    assert_eq!(left_s(&message, 0), Ok(Some(60)), "a clock that is behind gives no longer life");

    // A producer cannot say when its message came to the bridge.
    let mut says = message.clone();
    says.properties.insert("rbArrivedMs", "0");
    assert_eq!(left_s(&says, says.stored_ms + 30_000), Ok(Some(30)));

    let endless = produced(&[("mqttSecondTopic", "/a")], b"hi");
    assert_eq!(left_s(&endless, u64::MAX), Ok(None));
    let unborn = produced(&[("mqtt5MsgExpireInterval", "0")], b"hi");
    assert_eq!(left_s(&unborn, 0), Err(FilterReason::Expired));
}

/// What waited in the spool, or was judged late, lives from its arrival and not from its store time.
#[test]
fn a_message_of_the_bridge_lives_from_the_arrival_of_its_source() {
    let rules = rules(&[binding("room/#")]);
    let derivation = Derivation {
        id: MessageIds::new(1).next_id(),
        mqtt_topic: "room/message/7",
        room: None,
        order_key: None,
        sender: None,
        source: "s",
        arrived_ms: 1_000,
        message_expiry_s: Some(30),
        payload: Bytes::from_static(b"hi"),
    };
    let mut message = stored(&rules.derive(&derivation).unwrap());
    message.stored_ms = 25_000;
    match rules.to_mqtt(&message, "room", 26_000) {
        DownOutcome::Publish(message) => assert_eq!(message.properties.message_expiry_s, Some(5)),
        other => panic!("{other:?}"),
    }
    assert_eq!(rules.to_mqtt(&message, "room", 31_000), DownOutcome::Filtered(FilterReason::Expired));
}
