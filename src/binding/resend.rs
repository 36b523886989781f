//! Turns a dead letter back into the message that it was, so that the present bindings can place it.

use std::time::Duration;

use crate::model::{Arrival, DeadLetter, Envelope, MqttProperties, Qos, SessionStamp};

/// Stands in place of a session stamp and names no MQTT session, so that the message is never compared with deliveries.
const SESSION: &str = "dead-letter";

/// `None` if its id is none of ours: without such an id, readers could not fold the message if it is stored twice.
pub(crate) fn envelope_of_letter(letter: &DeadLetter) -> Option<Envelope> {
    Some(Envelope {
        id: letter.id.parse().ok()?,
        maybe_copy_of: None,
        arrival: Arrival {
            session: SessionStamp::new(SESSION),
            connection: 0,
            sequence: 0,
            generation: 0,
            wall_ms: letter.arrived_ms,
            monotonic: Duration::ZERO,
        },
        topic: letter.mqtt_topic.clone(),
        payload: letter.payload.clone(),
        qos: Qos::from_level(letter.qos).unwrap_or(Qos::ExactlyOnce),
        retain: false,
        duplicate: false,
        packet_id: 0,
        properties: MqttProperties { user: letter.user_properties.clone(), ..MqttProperties::default() },
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::binding::letter_of_envelope;
    use crate::model::DeadReason;

    #[test]
    fn a_letter_becomes_the_message_that_it_was() {
        let letter = DeadLetter {
            id: "0000000000000001-2".to_owned(),
            reason: DeadReason::TooLarge,
            detail: String::new(),
            mqtt_topic: "room/message/1".to_owned(),
            rocketmq_topic: String::new(),
            arrived_ms: 5,
            qos: 2,
            user_properties: vec![("a".to_owned(), "b".to_owned())],
            payload: Bytes::from_static(b"x"),
        };
        let envelope = envelope_of_letter(&letter).unwrap();
        assert_eq!(letter_of_envelope(&envelope, letter.reason, String::new()), letter);
    }

    #[test]
    fn a_foreign_id_is_no_message_of_ours() {
        let letter = DeadLetter {
            id: "somebody else's".to_owned(),
            reason: DeadReason::TooLarge,
            detail: String::new(),
            mqtt_topic: "room/message/1".to_owned(),
            rocketmq_topic: String::new(),
            arrived_ms: 5,
            qos: 2,
            user_properties: Vec::new(),
            payload: Bytes::new(),
        };
        assert_eq!(envelope_of_letter(&letter), None);
    }
}
