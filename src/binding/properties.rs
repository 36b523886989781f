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
use serde_json::value::RawValue;

use super::escape;
use super::levels::Levels;
use super::origin::Signer;
use crate::config::SenderSource;
use crate::model::{Envelope, Kind, MqttProperties, OutgoingProperties, Qos, RoomId};

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
    pub id: &'a str,
    pub hop: u8,
    pub rules: &'a str,
    /// Where the message is stored, and with which body.
    pub topic: &'a str,
    pub body: &'a [u8],
    pub signer: &'a Signer,
}

/// The properties while they are written.
#[derive(Default)]
pub(super) struct EncodedProperties {
    pub properties: OutgoingProperties,
    /// Names of those whose values are percent-encoded.
    encoded: String,
}

/// The stored body. RocketMQ refuses an empty one, so one byte 0x00 stands for an empty payload.
pub(super) fn body_of(payload: &Bytes) -> Bytes {
    if payload.is_empty() { Bytes::from_static(&[0]) } else { payload.clone() }
}

/// Adds the properties of the message to its KEYS and TAGS.
pub(super) fn write(named: OutgoingProperties, context: &Context<'_>) -> OutgoingProperties {
    let mut written = EncodedProperties::after(named);
    push_documented(&mut written, context);
    apache(&mut written, context.envelope);
    mqtt5(&mut written, &context.envelope.properties, context.sender);
    push_own(&mut written, context);
    written.close()
}

/// The names of ApsaraMQ's mapping and of its Java client.
fn push_documented(written: &mut EncodedProperties, context: &Context<'_>) {
    let envelope = context.envelope;
    if let Some(sub) = context.levels.below_first_with_slash() {
        written.text("mqttSecondTopic", sub);
    }
    written.text("topic", &envelope.topic);
    written.safe("qoslevel", envelope.qos.as_str());
    if let Some(sender) = context.sender.and_then(|source| sender_of(source, envelope)) {
        written.text("clientId", &sender);
    }
    if let Some(SenderSource::EmbeddedBroker) = context.sender
        && let Some(role) = role_of(envelope)
    {
        written.safe("rbSenderRole", role);
    }
    if envelope.qos != Qos::AtMostOnce {
        written.number("mqttMessageId", envelope.packet_id.into());
    }
    written.safe("mqttPublishDubFlag", flag(envelope.duplicate));
    written.safe("mqttRetain", flag(envelope.retain));
}

/// The names of Apache rocketmq-mqtt.
fn apache(written: &mut EncodedProperties, envelope: &Envelope) {
    written.text("originMqttTopic", &envelope.topic);
    written.safe("qosLevel", envelope.qos.as_str());
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
        written.safe("mqtt5UserProperty", &serde_json::to_string(&user).unwrap_or_default());
    }
    if let Some(expiry_s) = properties.message_expiry_s {
        written.number(MESSAGE_EXPIRY, expiry_s.into());
    }
    if let Some(content_type) = &properties.content_type {
        written.text("mqtt5ContentType", content_type);
    }
    if let Some(topic) = &properties.response_topic {
        written.text("rbResponseTopic", topic);
    }
    if let Some(data) = properties.correlation_data.as_ref().filter(|data| !data.is_empty()) {
        written.properties.push_with("rbCorrelationData", |text| STANDARD.encode_string(data, text));
    }
    if let Some(format) = properties.payload_format {
        written.number("rbPayloadFormat", format.into());
    }
}

/// Our own names; they are documented and never renamed.
fn push_own(written: &mut EncodedProperties, context: &Context<'_>) {
    let (envelope, id) = (context.envelope, context.id);
    written.safe("rbId", id);
    written.text("rbSession", envelope.arrival.session.as_str());
    written.number("rbConn", envelope.arrival.connection);
    written.number("rbSeq", envelope.arrival.sequence);
    written.number("rbGen", envelope.arrival.generation);
    written.number("rbArrivedMs", envelope.arrival.wall_ms);
    written.properties.push_with(MARK, |text| {
        context.signer.sign(text, context.topic, id, context.hop, context.body);
    });
    written.safe("rbRules", context.rules);
    // Readers know the default kind from the topic, so only another kind is written.
    if context.kind != context.levels.default_kind() {
        written.safe("rbKind", context.kind.as_str());
    }
    if let Some(original) = envelope.maybe_copy_of {
        written.properties.push_with("rbMaybeCopyOf", |text| original.push_to(text));
    }
}

impl EncodedProperties {
    /// Goes on behind these.
    pub(crate) fn after(properties: OutgoingProperties) -> Self {
        Self { properties, encoded: String::new() }
    }

    /// Writes `rbEncoded`; must be the last call.
    pub(crate) fn close(mut self) -> OutgoingProperties {
        let encoded = std::mem::take(&mut self.encoded);
        self.safe(ENCODED, &encoded);
        self.properties
    }

    /// Adds a value from outside, and encodes it if RocketMQ cannot hold it.
    pub(crate) fn text(&mut self, name: &'static str, value: &str) {
        if value.is_empty() {
            return;
        }
        if !escape::is_unstorable(value) {
            return self.properties.push_with(name, |text| text.push_str(value));
        }
        if !self.encoded.is_empty() {
            self.encoded.push(',');
        }
        self.encoded.push_str(name);
        self.safe(name, &escape::value(value));
    }

    /// Adds a value of our own, which has no control characters; an empty one is left out.
    pub(crate) fn safe(&mut self, name: &'static str, value: &str) {
        if !value.is_empty() {
            self.properties.push(name, value);
        }
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, name: &'static str, value: u64) {
        let mut digits = itoa::Buffer::new();
        self.properties.push_with(name, |text| text.push_str(digits.format(value)));
    }
}

fn flag(set: bool) -> &'static str {
    if set { "true" } else { "false" }
}

fn sender_of<'a>(source: &SenderSource, envelope: &'a Envelope) -> Option<Cow<'a, str>> {
    let user = |wanted: &str| {
        let mut properties = envelope.properties.user.iter();
        properties.find(|(name, _)| name == wanted).map(|(_, value)| Cow::Borrowed(value.as_str()))
    };
    match source {
        SenderSource::TopicLevel(level) => envelope.topic.split('/').nth(*level).map(Cow::Borrowed),
        SenderSource::UserProperty(name) => user(name),
        SenderSource::JsonField(name) => json_text(&envelope.payload, name).map(Cow::Owned),
        SenderSource::EmbeddedBroker => user(EMBEDDED_CLIENT_ID),
    }
}

/// The role of the sender, which the embedded broker writes as `ROLE#CONNECTION`.
fn role_of(envelope: &Envelope) -> Option<&str> {
    let mut properties = envelope.properties.user.iter();
    let (_, value) = properties.find(|(name, _)| name == EMBEDDED_USER)?;
    let (label, _) = value.split_once('#')?;
    ["teacher", "student", "operator"].contains(&label).then_some(label)
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
        while let Some(name) = map.next_key::<&'de RawValue>()? {
            if is_name(name.get(), self.0) {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a name, as it is written, is that one. With half a character in it, it cannot be read, and is another one.
fn is_name(written: &str, name: &str) -> bool {
    match written.contains('\\') {
        true => serde_json::from_str::<String>(written).is_ok_and(|read| read == name),
        false => written.get(1..written.len().saturating_sub(1)) == Some(name),
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
        assert_eq!(peer(r#"{"\ud83d":1, "p\u0065er" : "x"}"#), Some("x".to_owned()));
        for none in [r#"{"peer":7}"#, r#"["peer"]"#, r#"{"peer":"x"} tail"#, r#"{"peer":"x""#, "", "\u{0}"] {
            assert_eq!(peer(none), None, "{none}");
        }
    }
}
