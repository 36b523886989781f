//! Where history looks.

use super::*;
use crate::config::DownlinkConfig;
use crate::model::{Kind, StartAt};

fn query(topic: &str, tag: Option<&str>, room: &str, kind: Option<Kind>) -> RoomQuery {
    RoomQuery {
        topic: topic.to_owned(),
        tag: tag.map(str::to_owned),
        shared: false,
        room: Some(room.to_owned()),
        kind,
    }
}

#[test]
fn by_the_default_rule_a_rooms_tag_follows_from_the_room() {
    let rules =
        rules(&[binding("room/#"), binding("roomSend/+/+"), binding("room/command"), binding("x/status/+")]);
    let found = rules.room_queries("123456").unwrap();
    let message = Some(Kind::Message);
    assert_eq!(
        found,
        [
            query("room", Some("message/123456"), "123456", message),
            query("roomSend", Some("message/123456"), "123456", message),
        ]
    );
}

#[test]
fn the_notices_of_a_room_lie_under_one_tag_and_carry_the_room() {
    let rules = rules(&[binding("room/#")]);
    let asked = rules.topic_query("7", "room/system").unwrap();
    assert_eq!(asked, query("room", Some("system"), "7", Some(Kind::System)));
    let notice = Derivation {
        id: MessageIds::new(1).next_id(),
        mqtt_topic: "room/system",
        room: Some("7"),
        order_key: Some("7"),
        sender: None,
        source: "s",
        arrived_ms: 1,
        message_expiry_s: None,
        payload: Bytes::from_static(b"{}"),
    };
    let bound = rules.derive(&notice).unwrap();
    assert_eq!((&*bound.topic, bound.message.tag()), ("room", "system"));
    assert_eq!(read_back(&stored(&bound)).room.as_deref(), Some("7"));
    assert_eq!(rules.topic_query("7", "elsewhere/system"), None);
}

#[test]
fn the_tag_that_is_asked_for_is_the_tag_that_was_written() {
    let rules = rules(&[
        binding("room/#"),
        BindingConfig { room: Some("{1}".to_owned()), ..binding("class/+/chat") },
        BindingConfig { room: Some("{1}".to_owned()), tag: "{1}".to_owned(), ..binding("deep/#") },
        BindingConfig { room: Some("{1}".to_owned()), kind: Some("message".to_owned()), ..binding("scan/#") },
    ]);
    for room in ["7", "a|b", " x ", "100%", "\u{6559}\u{5ba4}", "a b"] {
        for topic in ["room/message/@", "class/@/chat", "deep/@/a/b", "scan/@/a"] {
            let bound = rules.bind(&message(&topic.replace('@', room), b"x")).unwrap();
            assert_eq!(room_of(&bound).as_deref(), Some(room));
            let queries = rules.room_queries(room).unwrap();
            let asked = queries.iter().find(|query| query.topic == *bound.topic).unwrap();
            match topic {
                "scan/@/a" => assert_eq!(asked, &query("scan", None, room, Some(Kind::Message))),
                _ => assert_eq!(asked.tag.as_deref(), Some(bound.message.tag()), "{topic} {room}"),
            }
        }
    }
}

#[test]
fn a_tag_that_does_not_follow_from_the_room_means_a_scan() {
    let free = BindingConfig { room: Some("{2}".to_owned()), ..binding("room/+/+") };
    assert_eq!(rules(&[free]).room_queries("7").unwrap(), [query("room", None, "7", None)]);

    let composed = BindingConfig { room: Some("class-{1}".to_owned()), ..binding("room/+") };
    assert_eq!(rules(&[composed]).room_queries("class-7").unwrap(), [query("room", None, "class-7", None)]);

    let kind_one = BindingConfig { kind: Some("message".to_owned()), ..binding("chat/#") };
    assert_eq!(
        rules(&[kind_one]).room_queries("7").unwrap(),
        [query("chat", None, "7", Some(Kind::Message))]
    );
}

#[test]
fn a_scan_of_a_topic_makes_other_questions_to_it_needless() {
    let scanned =
        BindingConfig { room: Some("{1}".to_owned()), topic: "room".to_owned(), ..binding("other/#") };
    for bindings in [[binding("room/#"), scanned.clone()], [scanned, binding("room/#")]] {
        assert_eq!(rules(&bindings).room_queries("7").unwrap(), [query("room", None, "7", None)]);
    }
}

#[test]
fn a_room_that_no_binding_yields_is_said_to_be_none() {
    let fixed = BindingConfig { room: Some("lobby".to_owned()), ..binding("hall/#") };
    let rules = rules(&[fixed]);
    assert_eq!(rules.room_queries("lobby").unwrap(), [query("hall", None, "lobby", None)]);
    assert_eq!(rules.room_queries("attic"), Err(QueryError::NoBinding { room: "attic".to_owned() }));
}

fn downlink(topic: &str, mqtt_topic: &str) -> DownlinkConfig {
    DownlinkConfig { topic: topic.to_owned(), mqtt_topic: mqtt_topic.to_owned(), start: StartAt::Latest }
}

#[test]
fn a_topic_that_others_may_write_is_scanned_whatever_the_bindings_say() {
    let both = rules(&[binding("room/#"), binding("roomSend/#")])
        .with_downlinks(&[downlink("room", "room"), downlink("down", "room")]);
    let whole = |topic: &str| RoomQuery { shared: true, ..query(topic, None, "7", None) };
    let own = query("roomSend", Some("message/7"), "7", Some(Kind::Message));
    assert_eq!(both.room_queries("7").unwrap(), [own, whole("down"), whole("room")]);
    let by_tag: Vec<_> =
        both.tag_queries("command").unwrap().into_iter().map(|query| (query.topic, query.shared)).collect();
    let expected = [("room", true), ("roomSend", false), ("down", true)];
    assert_eq!(by_tag, expected.map(|(topic, shared)| (topic.to_owned(), shared)));

    // but where a binding's topic is not known, the downlinks alone are no answer
    let unknown = rules(&[binding("+/message/+")]).with_downlinks(&[downlink("down", "room")]);
    assert_eq!(unknown.room_queries("7"), Err(QueryError::TopicUnknown { binding: 1 }));
}

#[test]
fn a_room_hears_what_its_history_shows() {
    let chat = BindingConfig { room: Some("{1}".to_owned()), ..binding("class/+/chat") };
    let rules = rules(&[binding("room/#"), chat]).with_downlinks(&[
        downlink("down", "room"),
        downlink("class", "class"),
        downlink("deep", "school/room"),
    ]);
    for (topic, properties, mqtt_topic, room, tag) in [
        ("down", &[("mqttSecondTopic", "message/7")][..], "room/message/7", Some("7"), "message/7"),
        ("down", &[("mqttSecondTopic", "/message/7")], "room/message/7", Some("7"), "message/7"),
        ("down", &[("mqttSecondTopic", "/message/7/")], "room/message/7", Some("7"), "message/7"),
        ("down", &[("originMqttTopic", "down/message/7")], "room/message/7", Some("7"), "message/7"),
        (
            "down",
            &[("mqttSecondTopic", "message/1"), ("mqttRealTopic", "message/7")],
            "room/message/7",
            Some("7"),
            "message/7",
        ),
        (
            "down",
            &[("mqttSecondTopic", "message/7"), ("topic", "room/message/1")],
            "room/message/7",
            Some("7"),
            "message/7",
        ),
        (
            "down",
            &[("mqttSecondTopic", "p2p/7"), ("mqttRealTopic", "message/7")],
            "room/p2p/7",
            None,
            "p2p/7",
        ),
        ("down", &[("mqttSecondTopic", "command")], "room/command", None, "command"),
        ("down", &[], "room", None, ""),
        ("class", &[("mqttSecondTopic", "7/chat")], "class/7/chat", Some("7"), "7/chat"),
        ("deep", &[("mqttSecondTopic", "message/7")], "school/room/message/7", Some("7"), "message/7"),
    ] {
        let stored = foreign(topic, properties);
        let destination = rules.mqtt_destination(&stored, &read_back(&stored).properties).unwrap();
        assert_eq!(destination.mqtt_topic, mqtt_topic);
        assert_eq!((destination.room.as_deref(), destination.tag.as_str()), (room, tag), "{mqtt_topic}");
        match rules.to_mqtt(&stored, &rules.parents[topic], 2) {
            DownOutcome::Publish(published) => assert_eq!(published.topic, destination.mqtt_topic),
            other => panic!("{other:?}"),
        }
    }
    let elsewhere = foreign("roomSend", &[("mqttSecondTopic", "message/7")]);
    assert_eq!(rules.mqtt_destination(&elsewhere, &elsewhere.properties), None);
}

fn foreign(topic: &str, properties: &[(&str, &str)]) -> StoredMessage {
    StoredMessage {
        topic: topic.to_owned(),
        tag: "whatever".to_owned(),
        keys: String::new(),
        queue: QueueName { broker: "a".into(), id: 0 },
        queue_offset: 0,
        stored_ms: 1,
        born_ms: 1,
        flag: 0,
        properties: properties.iter().copied().collect(),
        body: Bytes::from_static(b"hi"),
    }
}

#[test]
fn a_topic_that_only_messages_know_cannot_be_searched() {
    let rules = rules(&[binding("+/message/+")]);
    assert_eq!(rules.room_queries("7"), Err(QueryError::TopicUnknown { binding: 1 }));
    assert_eq!(rules.tag_queries("message/7"), Err(QueryError::TopicUnknown { binding: 1 }));
}

#[test]
fn names_that_would_widen_the_question_are_refused() {
    let rules = rules(&[binding("room/#")]);
    for room in ["", "*", "a||b", "a/b", "+", "#", "a\n", "\u{1b}[2J"] {
        assert_eq!(rules.room_queries(room), Err(QueryError::Room { room: room.to_owned() }));
    }
    for tag in ["", "*", "a||b", "a|b", " a", "a\n"] {
        assert_eq!(rules.tag_queries(tag), Err(QueryError::Tag { tag: tag.to_owned() }));
    }
}

#[test]
fn a_tag_is_asked_of_every_literal_topic() {
    let found =
        rules(&[binding("room/#"), binding("roomSend/#"), binding("room/x")]).tag_queries("command").unwrap();
    let asked: Vec<_> =
        found.iter().map(|query| (query.topic.as_str(), query.tag.as_deref(), &query.room)).collect();
    assert_eq!(asked, [("room", Some("command"), &None), ("roomSend", Some("command"), &None)]);
}

#[test]
fn a_topic_without_room_and_tag_is_found_by_its_name() {
    let rules = rules(&[binding("room/#"), binding("hall/message/+")]);
    let place = |topic: &str, tag: Option<&str>, kind| RoomQuery {
        topic: topic.to_owned(),
        tag: tag.map(str::to_owned),
        shared: false,
        room: None,
        kind: Some(kind),
    };
    let found = |topic| rules.mqtt_topic_queries(topic);
    assert_eq!(found("room").unwrap(), [place("room", None, Kind::Other)]);
    assert_eq!(found("room/command").unwrap(), [place("room", Some("command"), Kind::Command)]);
    assert_eq!(found("hall/message/7").unwrap(), [place("hall", Some("message/7"), Kind::Message)]);
    assert_eq!(found("attic"), Err(QueryError::NotBound { mqtt_topic: "attic".to_owned() }));
    for topic in ["", "room/#", "room/+/7"] {
        assert_eq!(found(topic), Err(QueryError::MqttTopic { mqtt_topic: topic.to_owned() }), "{topic}");
    }

    // what other programs write is heard there, too
    let with_down = rules.with_downlinks(&[downlink("down", "attic")]);
    let heard: Vec<_> = with_down.mqtt_topic_queries("attic").unwrap();
    assert_eq!(heard.iter().map(|query| (&*query.topic, query.shared)).collect::<Vec<_>>(), [("down", true)]);
}
