//! Writes everything that is known of an MQTT message as RocketMQ user properties.
//!
//! Promises: names exactly as documented (ApsaraMQ's, Apache rocketmq-mqtt's, our own `rb...`), each at most once; no
//! empty value; a value that RocketMQ cannot hold is percent-encoded, and `rbEncoded` lists its name.
//! Must never: write a sender that the binding does not prove, or a guess about the publish (its QoS, its session).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::escape;
use super::levels::Levels;
use super::limits::SEPARATORS_BYTES;
use crate::config::SenderSource;
use crate::model::{Envelope, Kind, MqttProperties, Qos, RoomId};

/// Set by the embedded broker on every delivery, after removing what the publisher had put there.
pub(super) const EMBEDDED_CLIENT_ID: &str = "x-mqtt-client-id";
pub(super) const EMBEDDED_USER: &str = "x-mqtt-sender";

/// The proof of where a message came from, in RocketMQ and as a user property on MQTT.
pub(super) const MARK: &str = "rbOrigin";

/// MQTT 5 message expiry, in seconds.
pub(super) const MESSAGE_EXPIRY: &str = "mqtt5MsgExpireInterval";

/// Names the properties whose values are percent-encoded, separated by commas.
pub(super) const ENCODED: &str = "rbEncoded";

/// One MQTT 5 user property in the documented JSON form of `mqtt5UserProperty`.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct UserProperty<T> {
    pub key: T,
    pub value: T,
}

/// Everything that the properties of one message are made from.
pub(super) struct Context<'a> {
    pub envelope: &'a Envelope,
    pub levels: &'a Levels<'a>,
    pub kind: Kind,
    pub sender: Option<&'a SenderSource>,
    pub id: String,
    pub origin: String,
    pub rules: &'a str,
}

/// The properties, with their size in RocketMQ.
#[derive(Default)]
pub(super) struct EncodedProperties {
    pub list: Vec<(Cow<'static, str>, String)>,
    /// Of names, values and separators.
    pub bytes: usize,
    encoded: String,
}

/// The stored body. RocketMQ refuses an empty one, so one byte 0x00 stands for an empty payload.
pub(super) fn body_of(payload: &Bytes) -> Bytes {
    if payload.is_empty() { Bytes::from_static(&[0]) } else { payload.clone() }
}

pub(super) fn write(context: Context<'_>) -> EncodedProperties {
    let mut written = EncodedProperties { list: Vec::with_capacity(26), bytes: 0, encoded: String::new() };
    push_documented(&mut written, &context);
    apache(&mut written, context.envelope);
    mqtt5(&mut written, &context.envelope.properties, context.sender);
    push_own(&mut written, context);
    written.close();
    written
}

/// The names of ApsaraMQ's mapping and of its Java client.
fn push_documented(written: &mut EncodedProperties, context: &Context<'_>) {
    let envelope = context.envelope;
    if let Some(sub) = context.levels.below_first() {
        let mut second = String::with_capacity(sub.len() + 1);
        second.push('/');
        second.push_str(sub);
        written.text("mqttSecondTopic", second);
    }
    written.text("topic", envelope.topic.clone());
    written.safe("qoslevel", envelope.qos.as_str().to_owned());
    if let Some(sender) = context.sender.and_then(|source| sender_of(source, envelope)) {
        written.text("clientId", sender);
    }
    if let Some(SenderSource::EmbeddedBroker) = context.sender
        && let Some(role) = role_of(envelope)
    {
        written.safe("rbSenderRole", role);
    }
    if envelope.qos != Qos::AtMostOnce {
        written.safe("mqttMessageId", envelope.packet_id.to_string());
    }
    written.safe("mqttPublishDubFlag", flag(envelope.duplicate));
    written.safe("mqttRetain", flag(envelope.retain));
}

/// The names of Apache rocketmq-mqtt.
fn apache(written: &mut EncodedProperties, envelope: &Envelope) {
    written.text("originMqttTopic", envelope.topic.clone());
    written.safe("qosLevel", envelope.qos.as_str().to_owned());
    if envelope.payload.is_empty() {
        written.safe("IS_EMPTY_MSG", flag(true));
    }
}

/// The properties of MQTT 5, under ApsaraMQ's names, or under ours where ApsaraMQ documents none.
fn mqtt5(written: &mut EncodedProperties, properties: &MqttProperties, sender: Option<&SenderSource>) {
    let strip = matches!(sender, Some(SenderSource::EmbeddedBroker));
    let user: Vec<_> = properties
        .user
        .iter()
        .filter(|(name, _)| !(strip && (name == EMBEDDED_CLIENT_ID || name == EMBEDDED_USER)))
        .map(|(key, value)| UserProperty { key, value })
        .collect();
    // JSON writes control characters as \u0001; texts cannot fail to serialize.
    if !user.is_empty() {
        written.safe("mqtt5UserProperty", serde_json::to_string(&user).unwrap_or_default());
    }
    if let Some(expiry_s) = properties.message_expiry_s {
        written.safe(MESSAGE_EXPIRY, expiry_s.to_string());
    }
    if let Some(content_type) = &properties.content_type {
        written.text("mqtt5ContentType", content_type.clone());
    }
    if let Some(topic) = &properties.response_topic {
        written.text("rbResponseTopic", topic.clone());
    }
    if let Some(data) = &properties.correlation_data {
        written.safe("rbCorrelationData", STANDARD.encode(data));
    }
    if let Some(format) = properties.payload_format {
        written.safe("rbPayloadFormat", format.to_string());
    }
}

/// Our own names; they are documented and never renamed.
fn push_own(written: &mut EncodedProperties, context: Context<'_>) {
    let envelope = context.envelope;
    written.safe("rbId", context.id);
    written.text("rbSession", envelope.arrival.session.as_str().to_owned());
    written.safe("rbConn", envelope.arrival.connection.to_string());
    written.safe("rbSeq", envelope.arrival.sequence.to_string());
    written.safe("rbGen", envelope.arrival.generation.to_string());
    written.safe("rbArrivedMs", envelope.arrival.wall_ms.to_string());
    written.safe("rbOrigin", context.origin);
    written.safe("rbRules", context.rules.to_owned());
    // Readers know the default kind from the topic, so only another kind is written.
    if context.kind != context.levels.default_kind() {
        written.safe("rbKind", context.kind.as_str().to_owned());
    }
    if let Some(original) = envelope.maybe_copy_of {
        written.safe("rbMaybeCopyOf", original.to_string());
    }
}

impl EncodedProperties {
    /// Writes `rbEncoded`; must be the last call.
    pub(crate) fn close(&mut self) {
        let encoded = std::mem::take(&mut self.encoded);
        self.safe(ENCODED, encoded);
    }

    /// Adds a value from outside, and encodes it if RocketMQ cannot hold it.
    pub(crate) fn text(&mut self, name: &'static str, value: String) {
        if !escape::is_unstorable(&value) {
            return self.safe(name, value);
        }
        if !self.encoded.is_empty() {
            self.encoded.push(',');
        }
        self.encoded.push_str(name);
        self.safe(name, escape::value(&value));
    }

    /// Adds a value of our own, which has no control characters; an empty one is left out.
    pub(crate) fn safe(&mut self, name: &'static str, value: String) {
        if value.is_empty() {
            return;
        }
        self.bytes += name.len() + value.len() + SEPARATORS_BYTES;
        self.list.push((name.into(), value));
    }
}

fn flag(set: bool) -> String {
    if set { "true" } else { "false" }.to_owned()
}

fn sender_of(source: &SenderSource, envelope: &Envelope) -> Option<String> {
    let user = |wanted: &str| {
        let mut properties = envelope.properties.user.iter();
        properties.find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
    };
    match source {
        SenderSource::TopicLevel(level) => envelope.topic.split('/').nth(*level).map(str::to_owned),
        SenderSource::UserProperty(name) => user(name),
        SenderSource::JsonField(name) => json_text(&envelope.payload, name),
        SenderSource::EmbeddedBroker => user(EMBEDDED_CLIENT_ID),
    }
}

/// The role of the sender, which the embedded broker writes as `ROLE#CONNECTION`.
fn role_of(envelope: &Envelope) -> Option<String> {
    let mut properties = envelope.properties.user.iter();
    let (_, value) = properties.find(|(name, _)| name == EMBEDDED_USER)?;
    let (label, _) = value.split_once('#')?;
    ["teacher", "student", "operator"].contains(&label).then(|| label.to_owned())
}

/// The text in that field of a JSON object.
fn json_text(body: &[u8], field: &str) -> Option<String> {
    match json_field(body, field)? {
        serde_json::Value::String(text) => Some(text),
        _ => None,
    }
}

/// The room in that field of a JSON object, as text or number.
pub(super) fn json_room(body: &[u8], field: &str) -> Option<RoomId> {
    match json_field(body, field)? {
        serde_json::Value::String(text) => RoomId::parse(&text),
        serde_json::Value::Number(number) => RoomId::parse(&number.to_string()),
        _ => None,
    }
}

/// The value of a field; if it is there twice, the last one, as JavaScript reads it.
fn json_field(body: &[u8], field: &str) -> Option<serde_json::Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let found = deserializer.deserialize_map(FieldOf(field)).ok()?;
    deserializer.end().ok()?;
    found
}

/// Reads one field and skips the others without building them.
struct FieldOf<'a>(&'a str);

impl<'de> Visitor<'de> for FieldOf<'_> {
    type Value = Option<serde_json::Value>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_in_the_body_must_be_a_text_of_an_object() {
        let peer = |body: &str| json_text(body.as_bytes(), "peer");
        assert_eq!(peer(r#"{"a":[{"peer":"inner"}],"peer":"GID@@@1"}"#), Some("GID@@@1".to_owned()));
        assert_eq!(peer(r#"{"peer":"first","peer":"l\u0061st"}"#), Some("last".to_owned()));
        for none in [r#"{"peer":7}"#, r#"["peer"]"#, r#"{"peer":"x"} tail"#, r#"{"peer":"x""#, "", "\u{0}"] {
            assert_eq!(peer(none), None, "{none}");
        }
    }
}
