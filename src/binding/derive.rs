//! Derived messages: those that the classroom makes out of others, or says itself.
//!
//! Promises: a derived message is stored where a message published on its MQTT topic would be stored, so that history finds
//! both; it has no proof that it came from MQTT, so the downlink publishes it, unless it is to be unheard; a proof with the deployment's key (`rbVouch`)
//! names its sender.

use bytes::Bytes;

use super::levels::{Levels, slot_of};
use super::limits;
use super::properties::{EncodedProperties, MARK, MESSAGE_EXPIRY, body_of};
use super::rules::{Bound, NotStored, RuleSet, id_of_keys, keys_of};
use crate::model::{FilterReason, Kind, MessageId, OutgoingMessage, OutgoingProperties};

/// About as many bytes as the properties take.
const MORE_BYTES: usize = 256;

/// It has been through the bridge once.
const FIRST_HOP: u8 = 1;

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
        self.made(derivation, None)
    }

    /// As [`Self::derive`], for what is stored where a message on its MQTT topic would be, and is never heard there: it has the proof of
    /// a message that came from MQTT, with which nothing goes down, and which nobody else can make.
    pub fn derive_unheard(&self, derivation: &Derivation<'_>, kind: Kind) -> Result<Bound, NotStored> {
        self.made(derivation, Some(kind))
    }

    /// `unheard`: the kind of what is never heard.
    fn made(&self, derivation: &Derivation<'_>, unheard: Option<Kind>) -> Result<Bound, NotStored> {
        let levels = Levels::of(derivation.mqtt_topic);
        let rule = self.rule_for(derivation.mqtt_topic).ok_or(NotStored::Filtered(FilterReason::NoRule))?;
        let place = rule.place(&levels)?;
        let body = body_of(&derivation.payload);
        let room = place.room.as_deref().or(derivation.room);
        let keys = keys_of(room, derivation.id);
        let id = id_of_keys(&keys);

        let mut written = EncodedProperties::after(OutgoingProperties::new(&keys, &place.tag, MORE_BYTES));
        if let Some(sub) = levels.below_first_with_slash() {
            written.text("mqttSecondTopic", sub);
        }
        written.text("originMqttTopic", derivation.mqtt_topic);
        written.safe("qoslevel", "1");
        if derivation.payload.is_empty() {
            written.safe("IS_EMPTY_MSG", "true");
        }
        if let Some(sender) = derivation.sender {
            written.text(SENDER, sender);
            written.safe(VOUCH, &self.signer.vouch(&place.topic, id, sender, &body));
        }
        written.safe("rbId", id);
        written.safe("rbSource", derivation.source);
        written.number("rbArrivedMs", derivation.arrived_ms);
        if let Some(expiry_s) = derivation.message_expiry_s {
            written.number(MESSAGE_EXPIRY, expiry_s.into());
        }
        let kind = unheard.unwrap_or(place.kind);
        if kind != levels.default_kind() {
            written.safe("rbKind", kind.as_str());
        }
        if unheard.is_some() {
            let mut origin = String::new();
            self.signer.sign(&mut origin, &place.topic, id, FIRST_HOP, &body);
            written.safe(MARK, &origin);
        }
        let message = OutgoingMessage { properties: written.close(), body };
        limits::check_sizes(message.properties_bytes(), message.body.len(), self.max_message_bytes)
            .map_err(|(reason, detail)| NotStored::Dead { reason, detail })?;
        let slot = derivation.order_key.map_or(place.slot, slot_of);
        Ok(Bound { topic: place.topic, kind, slot, message })
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
    let keys = keys_of(room, id);
    let mut written = EncodedProperties::after(OutgoingProperties::new(&keys, tag, MORE_BYTES));
    written.safe("rbId", id_of_keys(&keys));
    let message = OutgoingMessage { properties: written.close(), body: body_of(&body) };
    Bound { topic: topic.into(), kind: Kind::Other, slot: slot_of(order_key), message }
}
