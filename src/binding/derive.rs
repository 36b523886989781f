//! What the bridge itself has to say: messages that the classroom makes out of others.
//!
//! Promises: a derived message lies where a message published on that MQTT topic would lie, so that history finds both;
//! it has no proof of coming from MQTT, so the downlink publishes it; its sender is vouched for with the deployment's key.

use bytes::Bytes;

use super::levels::{Levels, slot_of};
use super::limits;
use super::properties::{EncodedProperties, MESSAGE_EXPIRY, body_of};
use super::rules::{Bound, NotStored, RuleSet, keys_of};
use crate::model::{FilterReason, Kind, MessageId};

/// Who said it, shown to others only together with a genuine `rbVouch`.
pub(super) const SENDER: &str = "clientId";
pub(super) const VOUCH: &str = "rbVouch";

/// One message to make.
#[derive(Debug, Clone)]
pub struct Derivation<'a> {
    /// The same again if it is made again.
    pub id: MessageId,
    /// Where it is to be published.
    pub mqtt_topic: &'a str,
    /// The room that it belongs to, where the topic names none.
    pub room: Option<&'a str>,
    /// Its place in the order; `None` = as the topic gives it.
    pub order_key: Option<&'a str>,
    /// The client that caused it, verified.
    pub sender: Option<&'a str>,
    /// Id of the message that it was made from.
    pub source: &'a str,
    /// Arrival of that message, milliseconds since 1970-01-01 UTC.
    pub arrived_ms: u64,
    /// MQTT 5 message expiry of that message, where its life is the life of this one too; seconds from its arrival.
    pub message_expiry_s: Option<u32>,
    pub payload: Bytes,
}

impl RuleSet {
    /// The message as RocketMQ is to store it, or why it cannot be.
    pub fn derive(&self, derivation: &Derivation<'_>) -> Result<Bound, NotStored> {
        let levels = Levels::of(derivation.mqtt_topic);
        let rule = self.rule_for(derivation.mqtt_topic).ok_or(NotStored::Filtered(FilterReason::NoRule))?;
        let place = rule.place(&levels)?;
        let id = derivation.id.to_string();
        let body = body_of(&derivation.payload);

        let mut written = EncodedProperties::default();
        if let Some(sub) = levels.below_first() {
            written.text("mqttSecondTopic", format!("/{sub}"));
        }
        written.text("originMqttTopic", derivation.mqtt_topic.to_owned());
        written.safe("qoslevel", "1".to_owned());
        if derivation.payload.is_empty() {
            written.safe("IS_EMPTY_MSG", "true".to_owned());
        }
        if let Some(sender) = derivation.sender {
            written.text(SENDER, sender.to_owned());
            written.safe(VOUCH, self.signer.vouch(&place.topic, &id, sender, &body));
        }
        written.safe("rbId", id.clone());
        written.safe("rbSource", derivation.source.to_owned());
        written.safe("rbArrivedMs", derivation.arrived_ms.to_string());
        if let Some(expiry_s) = derivation.message_expiry_s {
            written.safe(MESSAGE_EXPIRY, expiry_s.to_string());
        }
        if place.kind != levels.default_kind() {
            written.safe("rbKind", place.kind.as_str().to_owned());
        }
        written.close();

        let room = place.room.or_else(|| derivation.room.map(str::to_owned));
        let keys = keys_of(room.as_deref(), &id);
        let named_bytes = place.tag.len() + keys.len() + limits::HEADROOM_BYTES;
        limits::check_sizes(written.bytes + named_bytes, body.len(), self.max_message_bytes)
            .map_err(|(reason, detail)| NotStored::Dead { reason, detail })?;
        Ok(Bound {
            topic: place.topic,
            kind: place.kind,
            room,
            slot: derivation.order_key.map_or(place.slot, slot_of),
            tag: place.tag,
            keys,
            properties: written.list,
            body,
        })
    }
}

/// A record of the bridge's own for a RocketMQ topic that no MQTT topic belongs to.
pub(crate) fn own_record(
    topic: &str,
    tag: &str,
    room: Option<&str>,
    order_key: &str,
    id: MessageId,
    body: Bytes,
) -> Bound {
    let id = id.to_string();
    let keys = keys_of(room, &id);
    let mut written = EncodedProperties::default();
    written.safe("rbId", id);
    Bound {
        topic: topic.into(),
        kind: Kind::Other,
        room: room.map(str::to_owned),
        slot: slot_of(order_key),
        tag: tag.to_owned(),
        keys,
        properties: written.list,
        body: body_of(&body),
    }
}
