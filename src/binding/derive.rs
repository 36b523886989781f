//! Derived messages: those that the classroom makes out of others, or says itself.
//!
//! Promises: a derived message is stored where a message published on its MQTT topic would be stored, so that history finds
//! both; it has no proof that it came from MQTT, so the downlink publishes it; a proof with the deployment's key (`rbVouch`)
//! names its sender.

use bytes::Bytes;

use super::levels::{Levels, slot_of};
use super::limits;
use super::properties::{EncodedProperties, MESSAGE_EXPIRY, body_of};
use super::rules::{Bound, NotStored, RuleSet, keys_of};
use crate::model::{FilterReason, Kind, MessageId};

/// Client id of the sender. Others see it only if the message also has a genuine `rbVouch`.
pub(super) const SENDER: &str = "clientId";
pub(super) const VOUCH: &str = "rbVouch";

/// What a derived message is made from.
#[derive(Debug, Clone)]
pub struct Derivation<'a> {
    /// Its id, which must be the same when it is made again after a crash.
    pub id: MessageId,
    /// The MQTT topic that it will be published on.
    pub mqtt_topic: &'a str,
    /// The room that it belongs to if the topic names none.
    pub room: Option<&'a str>,
    /// Messages of one order key keep their order; `None` = the topic's own key.
    pub order_key: Option<&'a str>,
    /// The verified client that said it; `None` if the bridge says it.
    pub sender: Option<&'a str>,
    /// Id of the message that it was made from.
    pub source: &'a str,
    /// When that message arrived, milliseconds since 1970-01-01 UTC.
    pub arrived_ms: u64,
    /// MQTT 5 message expiry in seconds from `arrived_ms`; `None` = it does not expire.
    pub message_expiry_s: Option<u32>,
    /// The MQTT payload.
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

/// A record of the bridge itself, for a RocketMQ topic to which no MQTT topic belongs.
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
