//! Reads from a stored message what the MQTT message was.
//!
//! Promises: gives back what [`super::RuleSet::bind`] wrote, byte for byte; reads the names of ApsaraMQ and of Apache
//! rocketmq-mqtt; a message without any of these names still gets a topic.
//! Must never: fail, whatever the message holds; read the MQTT topic from the tag; take an id that KEYS does not name.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::escape;
use super::levels::Levels;
use super::mqtt_destination::{below_parent, sub_topic};
use super::properties::{ENCODED, MESSAGE_EXPIRY, UserProperty};
use crate::model::{Kind, MessageId, Qos, StoredMessage, StoredProperties};

/// A stored message, read back. `None` = the message does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Our message id; `None` unless `rbId` and the last key of KEYS agree.
    pub id: Option<MessageId>,
    /// The room that it belongs to.
    pub room: Option<String>,
    /// What it is for; by the topic, if the message does not say.
    pub kind: Kind,
    /// The full MQTT topic.
    pub mqtt_topic: String,
    /// QoS of the delivery to the bridge.
    pub qos: Option<Qos>,
    /// Client id of the sender, unchecked.
    pub client_id: Option<String>,
    /// MQTT 5 user properties, in order.
    pub user_properties: Vec<(String, String)>,
    /// MQTT 5 content type.
    pub content_type: Option<String>,
    /// MQTT 5 response topic.
    pub response_topic: Option<String>,
    /// MQTT 5 correlation data.
    pub correlation_data: Option<Bytes>,
    /// MQTT 5 payload format: 0 = bytes, 1 = UTF-8.
    pub payload_format: Option<u8>,
    /// MQTT 5 message expiry, seconds from its arrival.
    pub message_expiry_s: Option<u32>,
    /// Retain flag of the delivery to the bridge.
    pub retain: bool,
    /// DUP flag of the delivery to the bridge.
    pub duplicate: bool,
    /// Packet identifier of the delivery to the bridge.
    pub packet_id: Option<u16>,
    /// Arrival at the bridge, milliseconds since 1970-01-01 UTC.
    pub received_ms: Option<u64>,
    /// Stamp of the bridge's MQTT session.
    pub session: Option<String>,
    /// Number of the connection within that session.
    pub connection: Option<u64>,
    /// Number of the PUBLISH on that connection, from 1.
    pub sequence: Option<u64>,
    /// Number of the bridge's start on its `data_dir`.
    pub generation: Option<u64>,
    /// Id of the message that this one may be a copy of.
    pub maybe_copy_of: Option<MessageId>,
    /// `rbOrigin` as it is stored, unchecked; [`super::RuleSet::came_from_mqtt`] checks it.
    pub origin: Option<String>,
    /// Version of the bindings that it was stored under.
    pub rules: Option<String>,
    /// All properties, decoded where `rbEncoded` says so.
    pub properties: StoredProperties,
    /// The MQTT payload; empty if the stored byte only stands for an empty one.
    pub payload: Bytes,
}

/// Which message it is, and where it belongs: what a search looks at.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// As in [`Recorded`].
    pub id: Option<MessageId>,
    /// As in [`Recorded`].
    pub room: Option<String>,
    /// As in [`Recorded`].
    pub kind: Kind,
    /// As in [`Recorded`].
    pub mqtt_topic: String,
    /// As in [`Recorded`].
    pub properties: StoredProperties,
}

/// Reads no more than a search needs.
pub(crate) fn identity(message: &StoredMessage) -> Identity {
    let properties = decoded(&message.properties);
    let mqtt_topic = topic_of(message, &properties);
    let levels = Levels::of(&mqtt_topic);
    let kind = properties.get("rbKind").map_or_else(|| levels.default_kind(), Kind::from_name);
    let (room, id) = room_and_id(message, &properties, levels.default_room(kind));
    Identity { id, room, kind, mqtt_topic, properties }
}

/// Reads everything that the message says.
pub fn read_back(message: &StoredMessage) -> Recorded {
    the_rest(identity(message), message)
}

/// Reads what [`identity`] did not.
pub(crate) fn the_rest(identity: Identity, message: &StoredMessage) -> Recorded {
    let Identity { id, room, kind, mqtt_topic, properties } = identity;
    let own = |name: &str| properties.get(name).map(str::to_owned);
    let extra = extra_data(&properties);
    let either =
        |name: &str, other: &str| own(name).or_else(|| own(other)).or_else(|| extra.get(other).cloned());

    let is = |name: &str| properties.get(name) == Some("true");
    Recorded {
        id,
        room,
        kind,
        qos: either("qoslevel", "qosLevel").and_then(|level| qos_of(&level)),
        client_id: either("clientId", "clientId"),
        user_properties: own("mqtt5UserProperty").map(|json| user_properties(&json)).unwrap_or_default(),
        content_type: own("mqtt5ContentType"),
        response_topic: own("rbResponseTopic"),
        correlation_data: own("rbCorrelationData")
            .and_then(|text| STANDARD.decode(text).ok())
            .map(Bytes::from),
        payload_format: number(&properties, "rbPayloadFormat"),
        message_expiry_s: number(&properties, MESSAGE_EXPIRY),
        retain: is("mqttRetain"),
        duplicate: is("mqttPublishDubFlag"),
        packet_id: number(&properties, "mqttMessageId"),
        received_ms: arrived_ms(&properties),
        session: own("rbSession"),
        connection: number(&properties, "rbConn"),
        sequence: number(&properties, "rbSeq"),
        generation: number(&properties, "rbGen"),
        maybe_copy_of: number(&properties, "rbMaybeCopyOf"),
        origin: own("rbOrigin"),
        rules: own("rbRules"),
        payload: if is("IS_EMPTY_MSG") { Bytes::new() } else { message.body.clone() },
        mqtt_topic,
        properties,
    }
}

/// When the message came to the bridge, by the bridge's clock; `properties`: decoded.
pub(crate) fn arrived_ms(properties: &StoredProperties) -> Option<u64> {
    number(properties, "rbArrivedMs")
}

/// MQTT 5 message expiry in seconds; `None` = it does not expire.
pub(crate) fn message_expiry_s(message: &StoredMessage) -> Option<u32> {
    number(&message.properties, MESSAGE_EXPIRY)
}

fn decoded(properties: &StoredProperties) -> StoredProperties {
    let mut decoded = properties.clone();
    for name in properties.get(ENCODED).unwrap_or_default().split(',') {
        if let Some(value) = properties.get(name) {
            decoded.insert(name, escape::decode(value));
        }
    }
    decoded
}

/// The MQTT topic. The property with the whole topic counts only if it agrees with the sub-topic, because the sub-topic
/// decides where the message is heard.
fn topic_of(message: &StoredMessage, properties: &StoredProperties) -> String {
    let whole = properties
        .get("topic")
        .or_else(|| properties.get("originMqttTopic"))
        .filter(|topic| !topic.is_empty());
    let sub = sub_topic(properties, &message.topic).name;
    let agrees = |whole: &str| {
        let below_first = whole.split_once('/').map(|(_, below)| below.trim_matches('/'));
        sub.is_none_or(|sub| below_first == Some(sub))
    };
    match whole {
        Some(whole) if agrees(whole) => whole.to_owned(),
        Some(_) | None => below_parent(&message.topic, sub),
    }
}

/// KEYS of our own messages holds the room, if there is one, and the id. Other messages get a room by the default rule.
fn room_and_id(
    message: &StoredMessage,
    properties: &StoredProperties,
    default_room: Option<&str>,
) -> (Option<String>, Option<MessageId>) {
    let (room, last) = match message.keys.rsplit_once(' ') {
        Some((room, last)) => (Some(escape::decode(room).into_owned()), last),
        None => (None, message.keys.as_str()),
    };
    match properties.get("rbId").filter(|id| *id == last).and_then(|id| id.parse().ok()) {
        Some(id) => (room, Some(id)),
        None => (default_room.map(str::to_owned), None),
    }
}

/// Apache rocketmq-mqtt keeps its inner properties as one JSON object of texts.
fn extra_data(properties: &StoredProperties) -> BTreeMap<String, String> {
    properties.get("extData").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

fn user_properties(json: &str) -> Vec<(String, String)> {
    let parsed: Vec<UserProperty<String>> = serde_json::from_str(json).unwrap_or_default();
    parsed.into_iter().map(|property| (property.key, property.value)).collect()
}

fn number<T: std::str::FromStr>(properties: &StoredProperties, name: &str) -> Option<T> {
    properties.get(name)?.parse().ok()
}

fn qos_of(level: &str) -> Option<Qos> {
    Qos::from_level(level.parse().ok()?)
}
