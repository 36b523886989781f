//! The other direction: what a stored message says about the MQTT message that it was.
//!
//! Promises: gives back what [`super::RuleSet::bind`] wrote, byte for byte; reads the names of ApsaraMQ and of Apache
//! rocketmq-mqtt alike; a message that neither wrote still gets a topic.
//! Must never: fail, whatever lies in RocketMQ; read the MQTT topic from the tag; take an id that KEYS does not name.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::escape;
use super::heard::{below_parent, sub_topic};
use super::levels::Levels;
use super::properties::{ENCODED, MESSAGE_EXPIRY, UserProperty};
use crate::model::{Kind, MessageId, Qos, StoredMessage};

/// A stored message, understood. `None` = the message does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Only if `rbId` and the last of KEYS agree.
    pub id: Option<MessageId>,
    pub room: Option<String>,
    pub kind: Kind,
    /// The full MQTT topic.
    pub mqtt_topic: String,
    /// Of the delivery to us.
    pub qos: Option<Qos>,
    pub client_id: Option<String>,
    pub user_properties: Vec<(String, String)>,
    pub content_type: Option<String>,
    pub response_topic: Option<String>,
    pub correlation_data: Option<Bytes>,
    pub payload_format: Option<u8>,
    pub message_expiry_s: Option<u32>,
    pub retain: bool,
    pub duplicate: bool,
    pub packet_id: Option<u16>,
    /// Arrival at the bridge, milliseconds since 1970-01-01 UTC.
    pub received_ms: Option<u64>,
    pub session: Option<String>,
    pub connection: Option<u64>,
    pub sequence: Option<u64>,
    pub generation: Option<u64>,
    pub maybe_copy_of: Option<MessageId>,
    /// `rbOrigin` as it lies there; [`super::origin_is_genuine`] judges it.
    pub origin: Option<String>,
    /// Version of the rules that bound it.
    pub rules: Option<String>,
    /// All properties, decoded where `rbEncoded` says so.
    pub properties: BTreeMap<String, String>,
    /// Empty again where a placeholder was stored.
    pub payload: Bytes,
}

pub fn read_back(message: &StoredMessage) -> Recorded {
    let properties = decoded(&message.properties);
    let own = |name: &str| properties.get(name).cloned();
    let extra = extra_data(&properties);
    let either =
        |name: &str, other: &str| own(name).or_else(|| own(other)).or_else(|| extra.get(other).cloned());

    let mqtt_topic = topic_of(message, &properties);
    let levels = Levels::of(&mqtt_topic);
    let kind = own("rbKind").map_or_else(|| levels.default_kind(), |name| Kind::from_name(&name));
    let (room, id) = room_and_id(message, &properties, levels.default_room(kind));
    let is_empty = own("IS_EMPTY_MSG").is_some_and(|flag| flag == "true");
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
        retain: own("mqttRetain").is_some_and(|flag| flag == "true"),
        duplicate: own("mqttPublishDubFlag").is_some_and(|flag| flag == "true"),
        packet_id: number(&properties, "mqttMessageId"),
        received_ms: number(&properties, "rbArrivedMs"),
        session: own("rbSession"),
        connection: number(&properties, "rbConn"),
        sequence: number(&properties, "rbSeq"),
        generation: number(&properties, "rbGen"),
        maybe_copy_of: own("rbMaybeCopyOf").and_then(|id| id.parse().ok()),
        origin: own("rbOrigin"),
        rules: own("rbRules"),
        payload: if is_empty { Bytes::new() } else { message.body.clone() },
        mqtt_topic,
        properties,
    }
}

/// MQTT 5 message expiry, seconds; `None` = it has no end.
pub(crate) fn message_expiry_s(message: &StoredMessage) -> Option<u32> {
    number(&message.properties, MESSAGE_EXPIRY)
}

fn decoded(properties: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut decoded = properties.clone();
    for name in properties.get(ENCODED).map_or("", String::as_str).split(',') {
        if let Some(value) = decoded.get_mut(name) {
            *value = escape::decode(value).into_owned();
        }
    }
    decoded
}

/// A whole topic that does not say the same as the sub-topic is not where the message is heard.
fn topic_of(message: &StoredMessage, properties: &BTreeMap<String, String>) -> String {
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
        Some(whole) if agrees(whole) => whole.clone(),
        Some(_) | None => below_parent(&message.topic, sub),
    }
}

/// Of our own messages KEYS holds the room, if there is one, and the id. Others have a room by the default rule.
fn room_and_id(
    message: &StoredMessage,
    properties: &BTreeMap<String, String>,
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
fn extra_data(properties: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    properties.get("extData").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

fn user_properties(json: &str) -> Vec<(String, String)> {
    let parsed: Vec<UserProperty<String>> = serde_json::from_str(json).unwrap_or_default();
    parsed.into_iter().map(|property| (property.key, property.value)).collect()
}

fn number<T: std::str::FromStr>(properties: &BTreeMap<String, String>, name: &str) -> Option<T> {
    properties.get(name)?.parse().ok()
}

fn qos_of(level: &str) -> Option<Qos> {
    Qos::from_level(level.parse().ok()?)
}
