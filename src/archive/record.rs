//! One message of the archive, in the form for people and in the form for programs.
//!
//! Scripts rely on the JSON fields: they are documented here, may grow, and are never renamed.

use std::fmt::{Display, Write as _};
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};

use crate::binding::{Identity, the_rest};
use crate::model::{Kind, MessageId, StoredMessage, StoredProperties, visible, visible_json};
use crate::piece::said_ms;

/// Properties that RocketMQ and its clients write for themselves; users cannot set most of them.
const SYSTEM_PROPERTIES: [&str; 11] = [
    "KEYS",
    "TAGS",
    "UNIQ_KEY",
    "WAIT",
    "MIN_OFFSET",
    "MAX_OFFSET",
    "CLUSTER",
    "MSG_REGION",
    "TRACE_ON",
    "DELAY",
    "REAL_TOPIC",
];

/// Behind a line whose id another message has, too.
pub(crate) const CONFLICT: &str = "  (conflict: another message has the same id)";

/// The payload of a message in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum Payload {
    /// The payload, which is UTF-8.
    #[serde(rename = "payload")]
    Text(String),
    /// Base64 of bytes that are not UTF-8.
    #[serde(rename = "payload_base64")]
    Base64(String),
}

impl Payload {
    pub(super) fn of(bytes: &Bytes) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }
}

/// One message, with the number of its folded copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Record {
    /// The message id; absent on messages that roombridge did not write.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub id: Option<MessageId>,
    /// The room that it belongs to; absent on messages of no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// What it is for, such as `message` or `status`.
    #[serde(serialize_with = "kind_name")]
    pub kind: Kind,
    /// The MQTT topic that it was published on, or is heard on.
    pub mqtt_topic: String,
    /// The RocketMQ topic that holds it.
    pub rocketmq_topic: String,
    /// RocketMQ's tag; empty if it has none.
    pub tag: String,
    /// Name of the RocketMQ broker that owns the queue.
    pub broker: String,
    /// Number of the queue on that broker.
    pub queue_id: i32,
    /// Offset in the queue.
    pub queue_offset: u64,
    /// When roombridge received it: RFC 3339, UTC, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<String>,
    /// When RocketMQ stored it: RFC 3339, UTC, milliseconds.
    pub stored_at: String,
    /// QoS of the delivery to the bridge; absent where the message does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<u8>,
    /// Client id of the sender; absent where the message does not name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// All properties of the RocketMQ message, decoded where `rbEncoded` says so; those of users are shown.
    #[serde(serialize_with = "of_users")]
    pub properties: StoredProperties,
    /// `payload`, or `payload_base64`.
    #[serde(flatten)]
    pub payload: Payload,
    /// How many more copies, with this id and this body, the asked range holds; they are not shown.
    pub duplicates: u64,
    /// Whether the asked range holds another body under this id, which is shown, too: an id that anybody could write does not say
    /// which of them it was made for. Absent if not.
    #[serde(skip_serializing_if = "is_false")]
    pub conflict: bool,
    /// So many messages of its queue, between it and what was shown of that queue before, are lost; absent if there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub lost_before: u64,
    /// Id of the message that this one may be a copy of. Nothing proves it, so both are shown.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub maybe_copy_of: Option<MessageId>,
    /// When it was said, see [`said_ms`]; milliseconds since 1970-01-01 UTC.
    #[serde(skip)]
    pub time_ms: u64,
    /// When RocketMQ stored it, milliseconds since 1970-01-01 UTC.
    #[serde(skip)]
    pub stored_ms: u64,
    /// The payload, byte for byte.
    #[serde(skip)]
    pub bytes: Bytes,
    /// User properties of the MQTT message, in order.
    #[serde(skip)]
    pub mqtt_user_properties: Vec<(String, String)>,
    /// MIME type of the MQTT message; `None` if it had none.
    #[serde(skip)]
    pub content_type: Option<String>,
}

impl Record {
    /// Reads the rest of a stored message; `duplicates` is 0, and there is no conflict.
    pub(super) fn of(identity: Identity, message: &StoredMessage) -> Self {
        let recorded = the_rest(identity, message);
        let received_ms = recorded.received_ms;
        Self {
            id: recorded.id,
            room: recorded.room,
            kind: recorded.kind,
            mqtt_topic: recorded.mqtt_topic,
            rocketmq_topic: message.topic.clone(),
            tag: message.tag.clone(),
            broker: message.queue.broker.to_string(),
            queue_id: message.queue.id,
            queue_offset: message.queue_offset,
            received_at: received_ms.map(rfc3339),
            stored_at: rfc3339(message.stored_ms),
            qos: recorded.qos.and_then(|qos| qos.as_str().parse().ok()),
            client_id: recorded.client_id,
            properties: recorded.properties,
            payload: Payload::of(&recorded.payload),
            duplicates: 0,
            conflict: false,
            lost_before: 0,
            maybe_copy_of: recorded.maybe_copy_of,
            stored_ms: message.stored_ms,
            time_ms: said_ms(recorded.id.is_some(), received_ms, message.stored_ms),
            bytes: recorded.payload,
            mqtt_user_properties: recorded.user_properties,
            content_type: recorded.content_type,
        }
    }

    /// One line for people, in the given time zone, without the line end.
    pub(crate) fn text_line(&self, zone: &TimeZone) -> String {
        let who = self.client_id.as_deref().unwrap_or("-");
        let mut line =
            format!("{}  {:<7}  {}  ", local_time(self.time_ms, zone), self.kind.as_str(), visible(who));
        match &self.payload {
            Payload::Text(text) if text.is_empty() => line.push_str("(empty)"),
            Payload::Text(text) => line.push_str(&visible(text)),
            Payload::Base64(text) => {
                let _ = write!(line, "({} bytes, base64) {text}", self.bytes.len());
            }
        }
        match self.duplicates {
            0 => {}
            1 => line.push_str("  (1 copy folded)"),
            copies => {
                let _ = write!(line, "  ({copies} copies folded)");
            }
        }
        if self.conflict {
            line.push_str(CONFLICT);
        }
        if let Some(original) = self.maybe_copy_of {
            let _ = write!(line, "  (may be a copy of {})", original);
        }
        line
    }

    /// Writes one line: JSON, or text for people.
    pub(crate) fn write(&self, out: &mut dyn Write, json: bool, zone: &TimeZone) -> io::Result<()> {
        let mut line = if json { visible_json(serde_json::to_string(self)?) } else { self.text_line(zone) };
        line.push('\n');
        out.write_all(line.as_bytes())
    }
}

fn shown<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_false(value: &bool) -> bool {
    !value
}

fn kind_name<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

fn of_users<S: Serializer>(properties: &StoredProperties, serializer: S) -> Result<S::Ok, S::Error> {
    let sorted = properties.sorted();
    serializer.collect_map(sorted.into_iter().filter(|(name, _)| !SYSTEM_PROPERTIES.contains(name)))
}

fn timestamp(ms: u64) -> Timestamp {
    // Times beyond the calendar are shown as its last moment.
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

/// RFC 3339, UTC, milliseconds.
pub(crate) fn rfc3339(ms: u64) -> String {
    format!("{:.3}", timestamp(ms))
}

/// For people, with milliseconds and the offset: local time jumps back at the end of summer time.
pub(crate) fn local_time(ms: u64, zone: &TimeZone) -> String {
    in_zone(ms, zone, "%Y-%m-%d %H:%M:%S%.3f %:z")
}

/// For people, in tables.
pub(crate) fn local_second(ms: u64, zone: &TimeZone) -> String {
    in_zone(ms, zone, "%Y-%m-%d %H:%M:%S %:z")
}

/// For people, in tables.
pub(crate) fn local_minute(ms: u64, zone: &TimeZone) -> String {
    in_zone(ms, zone, "%Y-%m-%d %H:%M %:z")
}

fn in_zone(ms: u64, zone: &TimeZone, format: &str) -> String {
    timestamp(ms).to_zoned(zone.clone()).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clocks go back from 3:00 to 2:00 in the night to 2026-10-25.
    #[test]
    fn two_lines_an_hour_apart_at_the_end_of_summer_time_are_told_apart_by_their_offsets() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let summer: Timestamp = "2026-10-25T00:30:00.250Z".parse().unwrap();
        let summer_ms = summer.as_millisecond() as u64;
        let winter_ms = summer_ms + 3_600_000;
        let shown = |of: fn(u64, &TimeZone) -> String| [summer_ms, winter_ms].map(|ms| of(ms, &zone));
        assert_eq!(shown(local_time), ["2026-10-25 02:30:00.250 +02:00", "2026-10-25 02:30:00.250 +01:00"]);
        assert_eq!(shown(local_second), ["2026-10-25 02:30:00 +02:00", "2026-10-25 02:30:00 +01:00"]);
        assert_eq!(shown(local_minute), ["2026-10-25 02:30 +02:00", "2026-10-25 02:30 +01:00"]);
    }
}
