//! What was bound is read back as it was; what others wrote is understood.

use proptest::prelude::*;

use super::*;
use crate::binding::levels::Levels;
use crate::model::Kind;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["(?s).{0,12}", "[\\x00-\\x03%a\u{4e2d}]{0,8}", "[ -~]{0,20}"]
}

fn non_empty(value: Option<String>) -> Option<String> {
    value.filter(|text| !text.is_empty())
}

prop_compose! {
    fn properties()(
        user in proptest::collection::vec((text(), text()), 0..4),
        content_type in proptest::option::of(text()),
        response_topic in proptest::option::of(text()),
        data in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..20)),
        message_expiry_s in any::<Option<u32>>(),
        payload_format in proptest::option::of(0_u8..2),
    ) -> MqttProperties {
        let correlation_data = data.map(Bytes::from);
        MqttProperties { user, content_type, response_topic, correlation_data, message_expiry_s, payload_format }
    }
}

prop_compose! {
    fn envelope()(
        sub in proptest::option::of(prop_oneof![
            "(message|command|other|x)(/[\\x01-\\x03 %|*a\u{4e2d}]{0,6}){0,2}",
            "[^+#\\x00]{0,20}",
        ]),
        payload in proptest::collection::vec(any::<u8>(), 0..40),
        qos in prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)],
        flags in any::<(bool, bool)>(),
        packet_id in 1_u16..,
        session in text(),
        copy in any::<bool>(),
        properties in properties(),
    ) -> Envelope {
        let topic = sub.map_or("room".to_owned(), |sub| format!("room/{sub}"));
        let mut envelope = message(&topic, &payload);
        envelope.arrival.session = SessionStamp::new(session);
        envelope.maybe_copy_of = copy.then(|| MessageIds::new(1).next_id());
        (envelope.qos, envelope.properties) = (qos, properties);
        (envelope.retain, envelope.duplicate) = flags;
        envelope.packet_id = if qos == Qos::AtMostOnce { 0 } else { packet_id };
        envelope
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn every_message_comes_back_as_it_was(envelope in envelope()) {
        let bound = rules(&[binding("room/#")]).bind(&envelope).unwrap();
        prop_assert!(bound.message.properties.is_storable());
        for (name, value) in bound.message.properties.user() {
            prop_assert!(!value.is_empty() && !value.contains(['\0', '\u{1}', '\u{2}']), "{} = {:?}", name, value);
        }
        let message = stored(&bound);
        let back = read_back(&message);

        prop_assert_eq!(&back.mqtt_topic, &envelope.topic);
        prop_assert_eq!(&back.payload, &envelope.payload);
        prop_assert!(!message.body.is_empty());
        prop_assert_eq!((back.id, back.kind), (Some(envelope.id), bound.kind));
        prop_assert_eq!(back.room.as_deref(), Levels::of(&envelope.topic).default_room(bound.kind));
        prop_assert_eq!((back.qos, back.retain, back.duplicate), (Some(envelope.qos), envelope.retain, envelope.duplicate));
        prop_assert_eq!(back.packet_id.unwrap_or(0), envelope.packet_id);
        prop_assert_eq!(back.maybe_copy_of, envelope.maybe_copy_of);
        prop_assert_eq!(back.session, non_empty(Some(envelope.arrival.session.as_str().to_owned())));
        prop_assert_eq!((back.connection, back.sequence, back.generation), (Some(3), Some(17), Some(2)));
        prop_assert_eq!(back.received_ms, Some(envelope.arrival.wall_ms));
        prop_assert_eq!(back.client_id, None);
        let sent = envelope.properties;
        prop_assert_eq!(back.user_properties, sent.user);
        prop_assert_eq!(back.content_type, non_empty(sent.content_type));
        prop_assert_eq!(back.response_topic, non_empty(sent.response_topic));
        prop_assert_eq!(back.correlation_data, sent.correlation_data);
        prop_assert_eq!(back.message_expiry_s, sent.message_expiry_s);
        prop_assert_eq!(back.payload_format, sent.payload_format);
        let origin = back.origin.unwrap();
        prop_assert!(origin_is_genuine(KEY, "room", &envelope.id.to_string(), &message.body, &origin));
    }

    #[test]
    fn nothing_that_lies_in_rocketmq_makes_reading_fail(
        keys in "(?s).{0,20}",
        values in proptest::collection::vec((0_usize..8, "(?s).{0,12}"), 0..8),
    ) {
        const NAMES: [&str; 8] =
            ["topic", "mqttSecondTopic", "extData", "mqtt5UserProperty", "rbEncoded", "rbId", "qoslevel", "rbKind"];
        let properties = values.into_iter().map(|(name, value)| (NAMES[name], value)).collect();
        let message = foreign(&keys, properties);
        prop_assert_eq!(read_back(&message).payload, message.body);
    }
}

fn foreign(keys: &str, properties: StoredProperties) -> StoredMessage {
    let bound = rules(&[binding("room/#")]).bind(&message("room", b"body")).unwrap();
    StoredMessage { keys: keys.to_owned(), properties, ..stored(&bound) }
}

fn read_foreign(keys: &str, properties: &[(&str, &str)]) -> Recorded {
    read_back(&foreign(keys, properties.iter().copied().collect()))
}

#[test]
fn an_empty_payload_is_marked_and_restored() {
    let bound = rules(&[binding("room/#")]).bind(&message("room/status", b"")).unwrap();
    assert_eq!((&*bound.message.body, property(&bound, "IS_EMPTY_MSG")), (&[0_u8][..], Some("true")));
    assert!(read_back(&stored(&bound)).payload.is_empty());

    let zero = rules(&[binding("room/#")]).bind(&message("room/status", &[0])).unwrap();
    assert_eq!(property(&zero, "IS_EMPTY_MSG"), None);
    assert_eq!(&*read_back(&stored(&zero)).payload, &[0]);
}

#[test]
fn a_one_level_topic_has_no_second_topic() {
    let bound = rules(&[binding("room/#")]).bind(&message("room", b"x")).unwrap();
    assert_eq!(property(&bound, "mqttSecondTopic"), None);
    assert_eq!(read_back(&stored(&bound)).mqtt_topic, "room");
}

#[test]
fn values_that_rocketmq_cannot_hold_are_listed() {
    let mut envelope = message("room/a\u{1}%", b"x");
    envelope.properties.content_type = Some("plain 100%".to_owned());
    let bound = rules(&[binding("room/#")]).bind(&envelope).unwrap();
    assert_eq!(property(&bound, "mqttSecondTopic"), Some("/a%01%25"));
    assert_eq!(property(&bound, "mqtt5ContentType"), Some("plain 100%"));
    assert_eq!(property(&bound, "rbEncoded"), Some("mqttSecondTopic,topic,originMqttTopic"));
}

#[test]
fn a_kind_of_the_bindings_own_choice_comes_back() {
    let own = BindingConfig { kind: Some("command".to_owned()), ..binding("room/#") };
    let bound = rules(&[own]).bind(&message("room/message/7", b"x")).unwrap();
    let back = read_back(&stored(&bound));
    assert_eq!((back.kind, back.room), (Kind::Command, None));
}

#[test]
fn messages_of_apsaramq_are_understood() {
    for second in ["/message/7", "message/7"] {
        let back =
            read_foreign("", &[("mqttSecondTopic", second), ("qoslevel", "0"), ("clientId", "GID@@@1")]);
        assert_eq!((back.mqtt_topic.as_str(), back.kind), ("room/message/7", Kind::Message));
        assert_eq!((back.room.as_deref(), back.qos), (Some("7"), Some(Qos::AtMostOnce)));
        assert_eq!((back.client_id.as_deref(), back.id), (Some("GID@@@1"), None));
    }
    assert_eq!(read_foreign("", &[]).mqtt_topic, "room");
}

#[test]
fn messages_of_apache_rocketmq_mqtt_are_understood() {
    let extra = r#"{"qosLevel":"2","clientId":"GID@@@1"}"#;
    let back = read_foreign(
        "",
        &[("originMqttTopic", "room/message/7"), ("extData", extra), ("IS_EMPTY_MSG", "true")],
    );
    assert_eq!((back.mqtt_topic.as_str(), back.qos), ("room/message/7", Some(Qos::ExactlyOnce)));
    assert_eq!(back.client_id.as_deref(), Some("GID@@@1"));
    assert!(back.payload.is_empty());
}

#[test]
fn an_id_that_keys_does_not_name_is_no_id() {
    let id = MessageIds::new(5).next_id().to_string();
    let taken = read_foreign(&format!("7 {id}"), &[("rbId", &id)]);
    assert_eq!((taken.id.map(|id| id.to_string()), taken.room.as_deref()), (Some(id.clone()), Some("7")));

    let copied = read_foreign("order-99 customer-4", &[("rbId", &id)]);
    assert_eq!((copied.id, copied.room), (None, None));
}
