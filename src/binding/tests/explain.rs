//! What `explain` says to people.

use super::*;

#[test]
fn a_chat_topic_is_explained_as_it_would_be_stored() {
    let rules = sent_by(SenderSource::JsonField("peer".to_owned()));
    let explanation = rules.explain("room/message/123456");
    let text = explanation.to_string();

    for line in [
        "MQTT topic      room/message/123456\n",
        "binding         1 (room/#)\n",
        "RocketMQ topic  room\n",
        "tag             message/123456\n",
        "room            123456\n",
        "kind            message\n",
        "keys            123456 <id>\n",
        "order key       123456\n",
        "  mqttSecondTopic         /message/123456\n",
        "  clientId                <field peer of the JSON payload, if it is a text>\n",
        "  rbId                    <id>\n",
    ] {
        assert!(text.contains(line), "{line:?} is missing in\n{text}");
    }
    assert!(text.contains(&format!("slot            {} of 256\n", slot_of("123456"))));

    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["rule"], 1);
    assert_eq!(json["tag"], "message/123456");
    assert_eq!(json["not_stored"], serde_json::Value::Null);
    assert_eq!(json["properties"][0]["name"], "mqttSecondTopic");
}

#[test]
fn what_is_not_stored_is_explained_with_its_reason() {
    let lacking = BindingConfig { topic: "{1}".to_owned(), ..binding("lack/#") };
    let rules = rules(&[binding("room/#"), lacking, binding("+/any")]);
    for (topic, rule, reason) in [
        ("other", None, "no binding's filter matches"),
        ("lack", Some(2), "lacks a level"),
        ("ro om/any", Some(3), "can never be stored (illegal_topic)"),
        ("room/#", Some(1), "give a topic, not a filter"),
        (&format!("room/{}", "x".repeat(12_000)), Some(1), "can never be stored (properties_too_large)"),
    ] {
        let explanation = rules.explain(topic);
        assert_eq!(explanation.rule, rule, "{topic}");
        assert!(explanation.not_stored.as_ref().unwrap().contains(reason), "{explanation}");
        assert_eq!((explanation.rocketmq_topic, explanation.slot), (None, None));
    }
}

#[test]
fn a_terminal_is_never_shown_a_topics_escape_sequences() {
    let text = rules(&[binding("room/#")]).explain("room/\u{1b}[2J").to_string();
    assert!(!text.contains('\u{1b}') && text.contains("room/\\u{1b}[2J"), "{text}");
}
