//! The downlink: what a stored message becomes on MQTT.
//!
//! Promises: reads the property names of ApsaraMQ, with and without the leading slash, and of Apache rocketmq-mqtt. A
//! message that [`RuleSet::to_mqtt`] gives is legal for an MQTT broker: a topic name with a wildcard would close the
//! connection, again and again. A message that came from MQTT never goes back. A message that expires goes down with the
//! seconds that are left, or not at all.
//! Must never: publish outside of the parent topic that the configuration names.

use super::derive::{SENDER, VOUCH};
use super::mqtt_destination::{SubTopic, below_parent, sub_topic};
use super::origin::MAX_HOPS;
use super::properties::{EMBEDDED_CLIENT_ID, EMBEDDED_USER, MARK};
use super::read_back::{Recorded, read_back};
use super::rules::RuleSet;
use crate::model::{DeadLetter, DeadReason, FilterReason, MqttMessage, MqttProperties, Qos, StoredMessage};

/// MQTT's limit for a text (MQTT 5.0, section 1.5.4).
const MAX_TEXT_BYTES: usize = 65_535;

/// User properties that only the bridge may set; values from producers are dropped.
const RESERVED: [&str; 6] = [MARK, "rbId", "rbArrivedMs", SENDER, EMBEDDED_CLIENT_ID, EMBEDDED_USER];

/// What becomes of a stored message on its way down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownOutcome {
    /// It is published as this.
    Publish(MqttMessage),
    /// It is not meant to be published.
    Filtered(FilterReason),
    /// It can never be published.
    Dead {
        /// Entry of the closed list.
        reason: DeadReason,
        /// One sentence for people.
        detail: String,
    },
}

impl RuleSet {
    /// What the message becomes below that MQTT parent topic. `now_ms`: milliseconds since 1970-01-01 UTC.
    pub fn to_mqtt(&self, message: &StoredMessage, parent: &str, now_ms: u64) -> DownOutcome {
        let recorded = read_back(message);
        let id = id_of(&recorded, message);
        let origin = recorded.origin.as_deref().filter(|_| recorded.id.is_some());
        let hop_on =
            |topic: &str| origin.and_then(|value| self.signer.hop_of(topic, &id, &message.body, value));
        if hop_on(&message.topic).is_some() {
            return DownOutcome::Filtered(FilterReason::FromMqtt);
        }
        // Somebody copied it, with its properties, from a topic that we wrote: it goes through the bridge once more.
        let earlier = self.literal_topics().iter().find_map(|topic| hop_on(topic));
        let hop = earlier.unwrap_or(0) + 1;
        if hop > MAX_HOPS {
            return DownOutcome::Filtered(FilterReason::HopLimit);
        }
        let left_s = left_of_life_s(&recorded, message, now_ms);
        if left_s == Some(0) {
            return DownOutcome::Filtered(FilterReason::Expired);
        }
        match published(&recorded, message, parent) {
            Ok(mut published) => {
                published.properties.message_expiry_s = left_s;
                let mark = self.signer.mark(&published.topic, &id, hop, &published.payload);
                let user = &mut published.properties.user;
                if let Some((sender, arrived_ms)) = self.vouched_for(&recorded, message, &id) {
                    user.push((SENDER.to_owned(), sender));
                    user.push(("rbArrivedMs".to_owned(), arrived_ms.to_string()));
                }
                user.push(("rbId".to_owned(), id));
                user.push((MARK.to_owned(), mark));
                DownOutcome::Publish(published)
            }
            Err(detail) => DownOutcome::Dead { reason: DeadReason::IllegalMqttTopic, detail },
        }
    }

    /// Whether it came from MQTT through this deployment, and nobody copied it to another topic since.
    pub fn came_from_mqtt(&self, message: &StoredMessage, recorded: &Recorded) -> bool {
        let (Some(id), Some(origin)) = (recorded.id, &recorded.origin) else {
            return false;
        };
        let hop = self.signer.hop_of(&message.topic, &id.to_string(), &message.body, origin);
        hop.is_some()
    }

    /// Sender and arrival of a message that the bridge made. A producer can write these properties, but not the proof.
    fn vouched_for(&self, recorded: &Recorded, message: &StoredMessage, id: &str) -> Option<(String, u64)> {
        let sender = recorded.client_id.clone()?;
        let vouch = recorded.properties.get(VOUCH)?;
        let genuine = self.signer.is_vouched(&message.topic, id, &sender, &message.body, vouch);
        (genuine && fits(&sender)).then_some((sender, recorded.received_ms?))
    }
}

/// The dead letter of a stored message that cannot be published, or that the classroom cannot understand.
pub(crate) fn letter_of_stored(message: &StoredMessage, reason: DeadReason, detail: String) -> DeadLetter {
    let recorded = read_back(message);
    DeadLetter {
        id: id_of(&recorded, message),
        reason,
        detail,
        mqtt_topic: recorded.mqtt_topic,
        rocketmq_topic: message.topic.clone(),
        arrived_ms: recorded.received_ms.unwrap_or(message.stored_ms),
        qos: recorded.qos.map_or(1, Qos::level),
        user_properties: recorded.user_properties,
        payload: recorded.payload,
    }
}

/// Our message id; without one, the id that RocketMQ's client gave; without that, queue and offset.
pub(crate) fn id_of(recorded: &Recorded, message: &StoredMessage) -> String {
    match (recorded.id, message.properties.get("UNIQ_KEY")) {
        (Some(id), _) => id.to_string(),
        (None, Some(unique)) => unique.to_owned(),
        (None, None) => format!("{}/{}", message.queue, message.queue_offset),
    }
}

/// Seconds that are left of its MQTT 5 message expiry, rounded up; 0 = it has expired, `None` = it does not expire. They
/// count from its arrival at the bridge, or, if that is not known, from its store time. They are never more than it had,
/// however the clocks differ.
fn left_of_life_s(recorded: &Recorded, message: &StoredMessage, now_ms: u64) -> Option<u32> {
    let life_ms = u64::from(recorded.message_expiry_s?) * 1000;
    let arrived_ms = recorded.received_ms.filter(|_| recorded.id.is_some());
    let age_ms = now_ms.saturating_sub(arrived_ms.unwrap_or(message.stored_ms));
    let left_s = life_ms.saturating_sub(age_ms).div_ceil(1000);
    u32::try_from(left_s).ok()
}

fn published(recorded: &Recorded, message: &StoredMessage, parent: &str) -> Result<MqttMessage, String> {
    let SubTopic { name, is_p2p } = sub_topic(&recorded.properties, &message.topic);
    let topic = below_parent(parent, name);
    check_topic(&topic)?;
    if is_p2p && topic.matches('/').count() != parent.matches('/').count() + 2 {
        return Err(format!("{topic:?} names no client: a P2P topic is {parent}/p2p/CLIENT_ID"));
    }
    Ok(MqttMessage {
        topic,
        payload: recorded.payload.clone(),
        qos: match recorded.qos {
            Some(Qos::AtMostOnce) => Qos::AtMostOnce,
            Some(Qos::AtLeastOnce | Qos::ExactlyOnce) | None => Qos::AtLeastOnce,
        },
        properties: MqttProperties {
            user: user_properties(recorded, is_p2p),
            content_type: short(recorded.content_type.clone()),
            response_topic: recorded.response_topic.clone().filter(|topic| check_topic(topic).is_ok()),
            correlation_data: recorded.correlation_data.clone().filter(|data| data.len() <= MAX_TEXT_BYTES),
            message_expiry_s: None,
            payload_format: recorded.payload_format.filter(|format| *format <= 1),
        },
    })
}

fn user_properties(recorded: &Recorded, is_p2p: bool) -> Vec<(String, String)> {
    let mut user: Vec<_> = recorded
        .user_properties
        .iter()
        .filter(|(name, value)| !RESERVED.contains(&name.as_str()) && fits(name) && fits(value))
        .cloned()
        .collect();
    if is_p2p {
        // An MQTT broker cannot show a client another topic than the published one, so these go along as properties.
        let documented = ["mqttRealTopic", "cleansessionflag"].into_iter();
        user.extend(
            documented
                .filter_map(|name| Some((name.to_owned(), recorded.properties.get(name)?.to_owned())))
                .filter(|(_, value)| fits(value)),
        );
    }
    user
}

fn fits(text: &str) -> bool {
    text.len() <= MAX_TEXT_BYTES && !text.contains('\0')
}

fn short(text: Option<String>) -> Option<String> {
    text.filter(|text| fits(text))
}

/// Refuses a topic for which a broker would close the connection (MQTT 5.0, section 4.7).
fn check_topic(topic: &str) -> Result<(), String> {
    let shown: String = topic.chars().take(80).collect();
    if topic.is_empty() || topic.len() > MAX_TEXT_BYTES {
        return Err(format!("the MQTT topic has {} bytes; 1 to {MAX_TEXT_BYTES} are allowed", topic.len()));
    }
    if topic.starts_with('$') {
        return Err(format!("the MQTT topic {shown:?} belongs to the broker"));
    }
    match topic.chars().find(|letter| ['+', '#'].contains(letter) || letter.is_control()) {
        Some(letter) => Err(format!("the MQTT topic {shown:?} must not hold {letter:?}")),
        None => Ok(()),
    }
}
