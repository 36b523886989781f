//! Explains what would become of messages on an MQTT topic, for people and for scripts.
//!
//! Promises: uses the code that binds messages, so that it says what really happens.
//! Must never: send anything, or need a message.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::levels::Levels;
use super::properties::EMBEDDED_CLIENT_ID;
use super::rules::{NotStored, Rule, RuleSet, id_of_keys};
use crate::config::SenderSource;
use crate::model::{Arrival, Envelope, FilterReason, MessageIds, MqttProperties, Qos, SessionStamp};

/// What becomes of messages on one MQTT topic. `rocketmq_topic` and the fields after it are empty if nothing is stored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Explanation {
    /// The topic that was asked for.
    pub mqtt_topic: String,
    /// Number of the first binding whose filter matches, from 1; `None` if none does.
    pub rule: Option<usize>,
    /// Filter of that binding.
    pub filter: Option<String>,
    /// Why nothing would be stored; `None` if something would be.
    pub not_stored: Option<String>,
    /// Where they would be stored.
    pub rocketmq_topic: Option<String>,
    /// Tag of each message; `None` = no tag.
    pub tag: Option<String>,
    /// Room of each message; `None` = no room.
    pub room: Option<String>,
    /// Kind of each message.
    pub kind: Option<&'static str>,
    /// RocketMQ's KEYS, with `<id>` for the message id.
    pub keys: Option<String>,
    /// Messages with the same order key keep their order.
    pub order_key: Option<String>,
    /// Slot of the order key, 0 to 255; the slot decides about the lane and the queue.
    pub slot: Option<u8>,
    /// All RocketMQ user properties that a message can get.
    pub properties: Vec<ExplainedProperty>,
}

/// One RocketMQ user property.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ExplainedProperty {
    /// As it is stored.
    pub name: String,
    /// The value, if it is the same for all messages on the topic; else a description in angle brackets.
    pub value: String,
}

impl RuleSet {
    /// Explains the topic; a text that is no topic name gets `not_stored`.
    pub fn explain(&self, topic: &str) -> Explanation {
        let rule = self.rule_for(topic);
        let mut explanation = Explanation {
            mqtt_topic: topic.to_owned(),
            rule: rule.map(|rule| rule.number),
            filter: rule.map(|rule| rule.filter.as_str().to_owned()),
            not_stored: self.why_not(topic, rule),
            rocketmq_topic: None,
            tag: None,
            room: None,
            kind: None,
            keys: None,
            order_key: None,
            slot: None,
            properties: Vec::new(),
        };
        let Some(rule) = rule.filter(|_| explanation.not_stored.is_none()) else {
            return explanation;
        };
        let levels = Levels::of(topic);
        let Ok(place) = rule.place(&levels) else {
            return explanation;
        };
        let Ok(bound) = self.bind(&sample(topic, Some(rule))) else {
            return explanation;
        };
        explanation.rocketmq_topic = Some(place.topic.to_string());
        explanation.tag = Some(place.tag.into_owned()).filter(|tag| !tag.is_empty());
        let keys = bound.message.keys();
        explanation.keys = Some(format!("{}<id>", keys.strip_suffix(id_of_keys(keys)).unwrap_or(keys)));
        explanation.room = place.room.map(Cow::into_owned);
        explanation.kind = Some(place.kind.as_str());
        explanation.order_key = Some(place.order_key.into_owned());
        explanation.slot = Some(place.slot);
        let shown = bound.message.properties.user();
        let shown = shown.map(|(name, value)| explained(name, value, rule.sender.as_ref()));
        explanation.properties = shown.collect();
        explanation
    }

    fn why_not(&self, topic: &str, rule: Option<&Rule>) -> Option<String> {
        if topic.is_empty() || topic.contains(['+', '#', '\0']) {
            return Some(
                "no MQTT topic name: it is empty or holds +, # or NUL; give a topic, not a filter".to_owned(),
            );
        }
        let missing = match rule {
            None => "no binding's filter matches; add a [[binding]]".to_owned(),
            Some(rule) => format!(
                "binding {} matches, but the topic lacks a level that its topic template needs",
                rule.number
            ),
        };
        match self.bind(&sample(topic, None)) {
            Ok(_) => None,
            Err(NotStored::Filtered(FilterReason::NoRule)) => Some(missing),
            Err(NotStored::Filtered(reason)) => Some(reason.to_string()),
            Err(NotStored::Dead { reason, detail }) => {
                Some(format!("can never be stored ({reason}): {detail}"))
            }
        }
    }
}

/// A small message on that topic; if a rule is given, with every property that a message can have.
fn sample(topic: &str, full: Option<&Rule>) -> Envelope {
    let id = MessageIds::new(0).next_id();
    let mut properties = MqttProperties::default();
    let mut payload = Bytes::from_static(b"{}");
    if let Some(rule) = full {
        properties.user.push(("name".to_owned(), "value".to_owned()));
        properties.content_type = Some("text/plain".to_owned());
        properties.response_topic = Some("reply".to_owned());
        properties.correlation_data = Some(Bytes::from_static(b"1"));
        properties.message_expiry_s = Some(1);
        properties.payload_format = Some(1);
        match &rule.sender {
            Some(SenderSource::UserProperty(name)) => {
                properties.user.push((name.clone(), "sender".to_owned()))
            }
            Some(SenderSource::EmbeddedBroker) => {
                properties.user.push((EMBEDDED_CLIENT_ID.to_owned(), "sender".to_owned()));
            }
            Some(SenderSource::JsonField(name)) => {
                payload = serde_json::json!({ name: "sender" }).to_string().into();
            }
            Some(SenderSource::TopicLevel(_)) | None => {}
        }
    }
    Envelope {
        id,
        maybe_copy_of: full.map(|_| id),
        arrival: Arrival {
            session: SessionStamp::new("session"),
            connection: 1,
            sequence: 1,
            generation: 1,
            wall_ms: 0,
            monotonic: Duration::ZERO,
        },
        topic: topic.to_owned(),
        payload,
        qos: Qos::AtLeastOnce,
        retain: false,
        duplicate: false,
        packet_id: 1,
        properties,
    }
}

fn explained(name: &str, value: &str, sender: Option<&SenderSource>) -> ExplainedProperty {
    let (name, value) = (name.to_owned(), value.to_owned());
    let pattern = match &*name {
        "qoslevel" | "qosLevel" => "<QoS of the delivery>",
        "mqttMessageId" => "<packet identifier of the delivery, with QoS above 0>",
        "mqttPublishDubFlag" => "<DUP flag of the delivery>",
        "mqttRetain" => "<retain flag of the delivery>",
        "mqtt5UserProperty" => "<MQTT 5 user properties, if any>",
        "mqtt5MsgExpireInterval" => "<message expiry in seconds, if set>",
        "mqtt5ContentType" => "<content type, if set>",
        "rbResponseTopic" => "<response topic, if set>",
        "rbCorrelationData" => "<correlation data in base64, if set>",
        "rbPayloadFormat" => "<payload format, if set>",
        "rbId" => "<id>",
        "rbSession" => "<session stamp>",
        "rbConn" => "<number of the connection>",
        "rbSeq" => "<number of the PUBLISH on its connection>",
        "rbGen" => "<number of the bridge's start>",
        "rbArrivedMs" => "<arrival, milliseconds since 1970-01-01 UTC>",
        "rbOrigin" => "<HMAC over topic, id and body>",
        "rbMaybeCopyOf" => "<id of the original, if this may be a copy>",
        "clientId" => match sender {
            Some(SenderSource::TopicLevel(_)) | None => return ExplainedProperty { name, value },
            Some(SenderSource::UserProperty(key)) => {
                return ExplainedProperty { name, value: format!("<user property {key}, if set>") };
            }
            Some(SenderSource::JsonField(field)) => {
                return ExplainedProperty {
                    name,
                    value: format!("<field {field} of the JSON payload, if it is a text>"),
                };
            }
            Some(SenderSource::EmbeddedBroker) => "<client id that the embedded broker verified>",
        },
        _ => return ExplainedProperty { name, value },
    };
    ExplainedProperty { name, value: pattern.to_owned() }
}

/// Control characters are escaped, because a topic name may hold what a terminal would obey.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "MQTT topic", &self.mqtt_topic)?;
        match (self.rule, &self.filter) {
            (Some(rule), Some(filter)) => line(f, "binding", &format!("{rule} ({filter})"))?,
            (_, _) => line(f, "binding", "none")?,
        }
        if let Some(why) = &self.not_stored {
            return line(f, "not stored", why);
        }
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
        line(f, "RocketMQ topic", &text(&self.rocketmq_topic))?;
        line(f, "tag", &text(&self.tag))?;
        line(f, "room", &text(&self.room))?;
        line(f, "kind", self.kind.unwrap_or("(none)"))?;
        line(f, "keys", &text(&self.keys))?;
        line(f, "order key", &text(&self.order_key))?;
        if let Some(slot) = self.slot {
            line(f, "slot", &format!("{slot} of 256"))?;
        }
        writeln!(f, "properties")?;
        for property in &self.properties {
            write!(f, "  {:<24}", property.name)?;
            escaped(f, &property.value)?;
            writeln!(f)?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    write!(f, "{name:<16}")?;
    escaped(f, value)?;
    writeln!(f)
}

fn escaped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    use fmt::Write as _;
    text.chars()
        .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_unicode()) } else { f.write_char(c) })
}
