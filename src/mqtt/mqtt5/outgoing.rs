//! Writes packets for a broker, by means of rumqttc.

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Connect as Mqtt5Connect, ConnectProperties, Disconnect, DisconnectProperties, DisconnectReasonCode,
    Filter, Login, Packet, PingReq, PubAck, Publish, PublishProperties, RetainForwardRule, Subscribe,
    SubscribeProperties, Unsubscribe,
};
use secrecy::ExposeSecret;

use crate::model::MqttMessage;
use crate::mqtt::wire::{Connect, ToBroker, WritePacketError};

/// Appends all of the packet, or nothing: the bytes that it has in the end are held against the broker's limit, not the
/// number that was estimated.
pub(crate) fn write(
    packet: &ToBroker<'_>,
    bytes: &mut BytesMut,
    max_packet_bytes: Option<u32>,
) -> Result<(), WritePacketError> {
    let before = bytes.len();
    let written = encoded(packet).write(bytes, None);
    let packet_bytes = u32::try_from(bytes.len() - before).unwrap_or(u32::MAX);
    let fits = match (written, max_packet_bytes) {
        (Err(error), _) => Err(WritePacketError::Invalid(error.to_string())),
        (Ok(_), Some(max_bytes)) if packet_bytes > max_bytes => {
            Err(WritePacketError::TooLarge { packet_bytes, max_bytes })
        }
        (Ok(_), _) => Ok(()),
    };
    if fits.is_err() {
        bytes.truncate(before);
    }
    fits
}

fn encoded(packet: &ToBroker<'_>) -> Packet {
    match packet {
        ToBroker::Connect(asked) => connect(asked),
        ToBroker::Ack { packet_id } => Packet::PubAck(PubAck::new(*packet_id, None)),
        ToBroker::Publish { message, packet_id, expiry_s } => publish(message, *packet_id, *expiry_s),
        ToBroker::Subscribe { packet_id, filter, identifier } => subscribe(*packet_id, filter, *identifier),
        ToBroker::Unsubscribe { packet_id, filter } => {
            let mut unsubscribe = Unsubscribe::new(filter, None);
            unsubscribe.pkid = *packet_id;
            Packet::Unsubscribe(unsubscribe)
        }
        ToBroker::Ping => Packet::PingReq(PingReq),
        ToBroker::Goodbye { ends_session } => Packet::Disconnect(Disconnect {
            reason_code: DisconnectReasonCode::NormalDisconnection,
            properties: ends_session.then(|| DisconnectProperties {
                session_expiry_interval: Some(0),
                reason_string: None,
                user_properties: Vec::new(),
                server_reference: None,
            }),
        }),
    }
}

fn connect(asked: &Connect) -> Packet {
    let mut properties = ConnectProperties::new();
    properties.receive_maximum = Some(asked.receive_maximum);
    properties.max_packet_size = Some(asked.max_packet_bytes);
    properties.session_expiry_interval = asked.session_expiry_s;
    let connect = Mqtt5Connect {
        keep_alive: asked.keep_alive_s,
        client_id: asked.client_id.clone(),
        clean_start: asked.clean_start,
        properties: Some(properties),
    };
    let login = asked.login.as_ref().map(|login| Login {
        username: login.username.clone(),
        password: login
            .password
            .as_ref()
            .map_or(String::new(), |password| password.expose_secret().to_owned()),
    });
    Packet::Connect(connect, None, login)
}

fn publish(message: &MqttMessage, packet_id: u16, expiry_s: Option<u32>) -> Packet {
    let properties = &message.properties;
    let qos = if packet_id == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: Bytes::copy_from_slice(message.topic.as_bytes()),
        pkid: packet_id,
        payload: message.payload.clone(),
        properties: Some(PublishProperties {
            payload_format_indicator: properties.payload_format,
            message_expiry_interval: expiry_s,
            response_topic: properties.response_topic.clone(),
            correlation_data: properties.correlation_data.clone(),
            user_properties: properties.user.clone(),
            content_type: properties.content_type.clone(),
            ..PublishProperties::default()
        }),
    })
}

/// Retain Handling 2 keeps stored copies of retained messages away, Retain As Published keeps the flag of live ones.
fn subscribe(packet_id: u16, filter: &str, identifier: Option<u32>) -> Packet {
    let mut filter = Filter::new(filter, QoS::AtLeastOnce);
    filter.preserve_retain = true;
    filter.retain_forward_rule = RetainForwardRule::Never;
    let properties = identifier.map(|identifier| SubscribeProperties {
        id: usize::try_from(identifier).ok(),
        user_properties: Vec::new(),
    });
    let mut subscribe = Subscribe::new(filter, properties);
    subscribe.pkid = packet_id;
    Packet::Subscribe(subscribe)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{MqttProperties, Qos};

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
        let publish =
            ToBroker::Publish { message, packet_id: 1, expiry_s: message.properties.message_expiry_s };
        write(&publish, &mut bytes, limit).ok().map(|()| bytes.len())
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
