//! Between rumqttc's packets and our words.

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};

use crate::model::{MqttMessage, MqttProperties, Qos};

/// What of a PUBLISH goes into an envelope.
pub struct Translated {
    pub topic: String,
    pub payload: Bytes,
    pub properties: MqttProperties,
}

/// A topic name is UTF-8 [MQTT-3.3.2-1]; bytes of a broker that lets others pass are replaced by U+FFFD.
pub fn publish(publish: Publish) -> Translated {
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

pub fn qos(qos: QoS) -> Qos {
    match qos {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce => Qos::AtLeastOnce,
        QoS::ExactlyOnce => Qos::ExactlyOnce,
    }
}

/// Our words as a PUBLISH: QoS 1 with that packet identifier, QoS 0 if it is 0.
pub fn to_publish(message: &MqttMessage, packet_id: u16) -> Publish {
    let properties = &message.properties;
    Publish {
        dup: false,
        qos: if packet_id == 0 {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        },
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
