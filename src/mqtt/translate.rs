//! Between rumqttc's packets and our words.

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};

use crate::model::{MqttMessage, MqttProperties, Qos};

/// What of a PUBLISH goes into an envelope.
pub(crate) struct Translated {
    pub topic: String,
    pub payload: Bytes,
    pub properties: MqttProperties,
}

/// A topic name is UTF-8 [MQTT-3.3.2-1]; bytes of a broker that lets others pass are replaced by U+FFFD.
pub(crate) fn publish(publish: Publish) -> Translated {
    let topic = match String::from_utf8_lossy(&publish.topic) {
        std::borrow::Cow::Borrowed(text) => text.to_owned(),
        std::borrow::Cow::Owned(text) => text,
    };
    Translated {
        topic,
        payload: publish.payload,
        properties: publish.properties.map(properties).unwrap_or_default(),
    }
}

pub(crate) fn qos(qos: QoS) -> Qos {
    match qos {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce => Qos::AtLeastOnce,
        QoS::ExactlyOnce => Qos::ExactlyOnce,
    }
}

/// Our words as a PUBLISH: QoS 1 with that packet identifier, QoS 0 if it is 0.
pub(crate) fn to_publish(message: &MqttMessage, packet_id: u16) -> Publish {
    let properties = &message.properties;
    Publish {
        dup: false,
        qos: if packet_id == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
        retain: false,
        topic: Bytes::copy_from_slice(message.topic.as_bytes()),
        pkid: packet_id,
        payload: message.payload.clone(),
        properties: Some(PublishProperties {
            payload_format_indicator: properties.payload_format,
            message_expiry_interval: properties.message_expiry_s,
            response_topic: properties.response_topic.clone(),
            correlation_data: properties.correlation_data.clone(),
            user_properties: properties.user.clone(),
            content_type: properties.content_type.clone(),
            ..PublishProperties::default()
        }),
    }
}

fn properties(from: PublishProperties) -> MqttProperties {
    MqttProperties {
        user: from.user_properties,
        content_type: from.content_type,
        response_topic: from.response_topic,
        correlation_data: from.correlation_data,
        message_expiry_s: from.message_expiry_interval,
        payload_format: from.payload_format_indicator,
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;
    use rumqttc::v5::mqttbytes::v5::Packet;

    use super::*;

    prop_compose! {
        fn message()(
            topic in "[a-z/]{1,60}",
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            user in proptest::collection::vec((".{0,20}", ".{0,40}"), 0..40),
            content_type in proptest::option::of(".{0,300}"),
            response_topic in proptest::option::of("[a-z/]{0,300}"),
            data in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
            message_expiry_s in any::<Option<u32>>(),
            payload_format in proptest::option::of(0_u8..2),
        ) -> MqttMessage {
            let correlation_data = data.map(Bytes::from);
            MqttMessage {
                topic,
                payload: payload.into(),
                qos: Qos::AtLeastOnce,
                properties: MqttProperties { user, content_type, response_topic, correlation_data, message_expiry_s, payload_format },
            }
        }
    }

    fn written(message: &MqttMessage, limit: Option<u32>) -> Option<usize> {
        let mut bytes = BytesMut::new();
        let packet = Packet::Publish(to_publish(message, 1));
        packet.write(&mut bytes, limit).ok().map(|_| bytes.len())
    }

    proptest! {
        /// A packet counts against the memory bounds for no less than it has, and is too large for a broker exactly if its
        /// bytes are more than the broker takes.
        #[test]
        fn a_packet_is_as_large_as_it_is_written(message in message()) {
            let bytes = written(&message, None).unwrap();
            prop_assert!(bytes <= message.weight_bytes(), "{bytes} bytes count for {}", message.weight_bytes());
            prop_assert_eq!(written(&message, Some(bytes as u32)), Some(bytes));
            prop_assert_eq!(written(&message, Some(bytes as u32 - 1)), None);
        }
    }
}
