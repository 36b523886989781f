//! From rumqttc's packets to our words.

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};

use crate::model::{MqttProperties, Qos};

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
