//! Dead letters as RocketMQ messages: the body is the original payload; properties say why and from where.
//!
//! Promises: [`read_letter`] gives back what [`as_message`] wrote.

use super::limits;
use super::properties::{EncodedProperties, UserProperty, body_of};
use super::read_back::read_back;
use crate::model::{
    DeadLetter, DeadReason, Envelope, OutgoingMessage, OutgoingProperties, Qos, QueueName, StoredMessage,
};

/// The dead letter of an MQTT message that the rules cannot place.
pub(crate) fn letter_of_envelope(envelope: &Envelope, reason: DeadReason, detail: String) -> DeadLetter {
    DeadLetter {
        id: envelope.id.to_string(),
        reason,
        detail,
        mqtt_topic: envelope.topic.clone(),
        rocketmq_topic: String::new(),
        arrived_ms: envelope.arrival.wall_ms,
        qos: envelope.qos.level(),
        user_properties: envelope.properties.user.clone(),
        payload: envelope.payload.clone(),
    }
}

/// The dead letter of a message that was bound for that RocketMQ topic.
pub(crate) fn letter_of_message(
    topic: &str,
    message: &OutgoingMessage,
    reason: DeadReason,
    detail: String,
) -> DeadLetter {
    let recorded = read_back(&stored_form(topic, message));
    DeadLetter {
        id: recorded.id.map_or_else(|| message.keys().to_owned(), |id| id.to_string()),
        reason,
        detail,
        mqtt_topic: recorded.mqtt_topic,
        rocketmq_topic: topic.to_owned(),
        arrived_ms: recorded.received_ms.unwrap_or_default(),
        qos: recorded.qos.map_or(0, Qos::level),
        user_properties: recorded.user_properties,
        payload: recorded.payload,
    }
}

/// The form that a message would have once it is stored; queue, offset and times are 0.
pub fn stored_form(topic: &str, message: &OutgoingMessage) -> StoredMessage {
    StoredMessage {
        topic: topic.to_owned(),
        tag: message.tag().to_owned(),
        keys: message.keys().to_owned(),
        queue: QueueName { broker: "".into(), id: 0 },
        queue_offset: 0,
        stored_ms: 0,
        born_ms: 0,
        flag: 0,
        properties: message.properties.user().collect(),
        body: message.body.clone(),
    }
}

/// The RocketMQ message for a dead letter; `None` if it would be too large.
pub(crate) fn as_message(letter: &DeadLetter, max_message_bytes: usize) -> Option<OutgoingMessage> {
    let named = OutgoingProperties::new(&letter.id, letter.reason.as_str(), letter.mqtt_topic.len());
    let mut written = EncodedProperties::after(named);
    written.safe("rbDeadReason", letter.reason.as_str());
    written.text("rbDeadDetail", &letter.detail);
    written.text("topic", &letter.mqtt_topic);
    written.safe("rbDeadTopic", &letter.rocketmq_topic);
    written.safe("rbId", &letter.id);
    written.number("rbArrivedMs", letter.arrived_ms);
    written.number("qoslevel", letter.qos.into());
    let user: Vec<_> =
        letter.user_properties.iter().map(|(key, value)| UserProperty { key, value }).collect();
    if !user.is_empty() {
        written.safe("mqtt5UserProperty", &serde_json::to_string(&user).unwrap_or_default());
    }
    if letter.payload.is_empty() {
        written.safe("IS_EMPTY_MSG", "true");
    }
    let message = OutgoingMessage { properties: written.close(), body: body_of(&letter.payload) };
    let sizes = limits::check_sizes(message.properties_bytes(), message.body.len(), max_message_bytes);
    sizes.is_ok().then_some(message)
}

/// Reads a dead letter back; `None` if the message is none of ours.
pub fn read_letter(message: &StoredMessage) -> Option<DeadLetter> {
    let recorded = read_back(message);
    let own = |name: &str| recorded.properties.get(name).map(str::to_owned);
    Some(DeadLetter {
        reason: DeadReason::from_name(&own("rbDeadReason")?)?,
        id: own("rbId")?,
        detail: own("rbDeadDetail").unwrap_or_default(),
        rocketmq_topic: own("rbDeadTopic").unwrap_or_default(),
        arrived_ms: recorded.received_ms.unwrap_or_default(),
        qos: recorded.qos.map_or(0, Qos::level),
        mqtt_topic: recorded.mqtt_topic,
        user_properties: recorded.user_properties,
        payload: recorded.payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_dead_letter_is_read_as_it_was_written() {
        for payload in [Bytes::new(), Bytes::from_static(b"\0\x01hello")] {
            let letter = DeadLetter {
                id: "0000000000000001-1".to_owned(),
                reason: DeadReason::RefusedByRocketmq,
                detail: "a \u{1} in it".to_owned(),
                mqtt_topic: "room/message/\u{2}1".to_owned(),
                rocketmq_topic: "room".to_owned(),
                arrived_ms: 5,
                qos: 1,
                user_properties: vec![("a".to_owned(), "\u{1}".to_owned())],
                payload,
            };
            let message = as_message(&letter, 4 << 20).unwrap();
            assert_eq!(read_letter(&stored_form("dead", &message)), Some(letter));
        }
    }

    #[test]
    fn what_is_too_large_for_rocketmq_has_no_message() {
        let mut letter = read_letter(&stored_form("dead", &as_message(&sample(), 4 << 20).unwrap())).unwrap();
        letter.payload = Bytes::from(vec![1; 4 << 20]);
        assert_eq!(as_message(&letter, 4 << 20), None);
    }

    fn sample() -> DeadLetter {
        DeadLetter {
            id: "0000000000000001-2".to_owned(),
            reason: DeadReason::TooLarge,
            detail: String::new(),
            mqtt_topic: "room/message/1".to_owned(),
            rocketmq_topic: String::new(),
            arrived_ms: 5,
            qos: 2,
            user_properties: vec![],
            payload: Bytes::from_static(b"x"),
        }
    }
}
