//! Dead letters: reads them back from RocketMQ's dead-letter topic, and shows those and the local ones.
//!
//! Scripts rely on the JSON fields, as on those of [`super::Record`]: they may grow and are never renamed.

use std::io::{self, Write};

use jiff::tz::TimeZone;
use serde::Serialize;

use super::cursor::{Cursor, Sought, earliest};
use super::record::{Payload, local_time, rfc3339};
use crate::binding::read_letter;
use crate::model::{DeadLetter, FailureKind, visible, visible_json};
use crate::pipeline::ports::{ReadError, Reader};

/// Where a dead letter lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "place")]
pub(crate) enum LetterPlace {
    /// In the local store of the data directory.
    #[serde(rename = "local")]
    Local,
    /// In RocketMQ's dead-letter topic.
    #[serde(rename = "rocketmq")]
    RocketMq {
        /// Name of the RocketMQ broker that owns the queue.
        broker: String,
        /// Number of the queue on that broker.
        queue_id: i32,
        /// Offset in the queue.
        queue_offset: u64,
    },
}

impl LetterPlace {
    fn name(&self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::RocketMq { .. } => "rocketmq",
        }
    }
}

/// Reads the dead-letter topic, oldest first, up to the end that it had when the reading began.
pub(crate) struct LetterReading<'a> {
    cursors: Vec<Cursor<'a>>,
}

impl<'a> LetterReading<'a> {
    /// Begins to read. A topic that does not exist holds no dead letters, and is no error.
    pub(crate) async fn open(reader: &'a dyn Reader, topic: &str) -> Result<Self, ReadError> {
        let queues = match reader.queues(topic).await {
            Ok(queues) => queues,
            Err(error) if error.kind == FailureKind::TopicMissing => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut cursors = Vec::with_capacity(queues.len());
        for queue in queues {
            let (first, end) = reader.offsets(topic, &queue).await?;
            let sought = Sought { topic: topic.to_owned(), queue, tag: None, room: None };
            cursors.push(Cursor::new(reader, sought, (first, 0), end));
        }
        Ok(Self { cursors })
    }

    /// The next dead letter. Messages that other programs wrote into the topic are left out.
    pub(crate) async fn next(&mut self) -> Result<Option<(DeadLetter, LetterPlace)>, ReadError> {
        while let Some((_, found)) = earliest(&mut self.cursors).await? {
            let message = found.message;
            if let Some(letter) = read_letter(&message) {
                let place = LetterPlace::RocketMq {
                    broker: message.queue.broker.to_string(),
                    queue_id: message.queue.id,
                    queue_offset: message.queue_offset,
                };
                return Ok(Some((letter, place)));
            }
        }
        Ok(None)
    }
}

/// A dead letter without its payload, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LetterSummary {
    /// Id of the message.
    pub id: String,
    /// Where it lies now.
    #[serde(flatten)]
    pub place: LetterPlace,
    /// Entry of the closed list of reasons, such as `too_large`.
    pub reason: &'static str,
    /// One sentence for people.
    pub detail: String,
    /// The MQTT topic that it was published on.
    pub mqtt_topic: String,
    /// RocketMQ topic where it belongs; empty if the rule gave no legal name.
    pub rocketmq_topic: String,
    /// RFC 3339, UTC, milliseconds.
    pub arrived_at: String,
    /// QoS of its delivery: 0, 1 or 2.
    pub qos: u8,
    /// Length of the payload.
    pub payload_bytes: usize,
    /// Arrival at the bridge, milliseconds since 1970-01-01 UTC.
    #[serde(skip)]
    pub arrived_ms: u64,
}

impl LetterSummary {
    /// The columns of [`Self::write`] for people.
    pub(crate) const HEADING: &'static str = "ARRIVED                  REASON                PLACE     BYTES       ID                    MQTT TOPIC";

    /// Everything about the letter but its payload and properties.
    pub(crate) fn of(letter: &DeadLetter, place: LetterPlace) -> Self {
        Self {
            id: letter.id.clone(),
            place,
            reason: letter.reason.as_str(),
            detail: letter.detail.clone(),
            mqtt_topic: letter.mqtt_topic.clone(),
            rocketmq_topic: letter.rocketmq_topic.clone(),
            arrived_at: rfc3339(letter.arrived_ms),
            qos: letter.qos,
            payload_bytes: letter.payload.len(),
            arrived_ms: letter.arrived_ms,
        }
    }

    /// Writes one line: JSON, or text for people.
    pub(crate) fn write(&self, out: &mut dyn Write, json: bool, zone: &TimeZone) -> io::Result<()> {
        if json {
            return writeln!(out, "{}", visible_json(serde_json::to_string(self)?));
        }
        writeln!(
            out,
            "{}  {:<20}  {:<8}  {:<10}  {:<20}  {}",
            local_time(self.arrived_ms, zone),
            self.reason,
            self.place.name(),
            self.payload_bytes,
            visible(&self.id),
            visible(&self.mqtt_topic)
        )
    }
}

/// A dead letter with all that is known of it.
#[derive(Debug, Serialize)]
pub(crate) struct LetterRecord {
    /// What lists show of it.
    #[serde(flatten)]
    pub summary: LetterSummary,
    /// MQTT 5 user properties, in order.
    pub user_properties: Vec<(String, String)>,
    /// Text, or base64 of the bytes.
    #[serde(flatten)]
    pub payload: Payload,
}

impl LetterRecord {
    /// The letter in the form in which it is shown.
    pub(crate) fn of(letter: &DeadLetter, place: LetterPlace) -> Self {
        Self {
            summary: LetterSummary::of(letter, place),
            user_properties: letter.user_properties.clone(),
            payload: Payload::of(&letter.payload),
        }
    }

    /// Writes one line of JSON, or some lines for people.
    pub(crate) fn write(&self, out: &mut dyn Write, json: bool, zone: &TimeZone) -> io::Result<()> {
        if json {
            return writeln!(out, "{}", visible_json(serde_json::to_string(self)?));
        }
        let summary = &self.summary;
        let place = match &summary.place {
            LetterPlace::Local => "local store".to_owned(),
            LetterPlace::RocketMq { broker, queue_id, queue_offset } => {
                format!("RocketMQ, queue {broker}/{queue_id}, offset {queue_offset}")
            }
        };
        writeln!(out, "id              {}", visible(&summary.id))?;
        writeln!(out, "place           {}", visible(&place))?;
        writeln!(out, "reason          {}: {}", summary.reason, visible(&summary.detail))?;
        writeln!(out, "arrived         {}, QoS {}", local_time(summary.arrived_ms, zone), summary.qos)?;
        writeln!(out, "MQTT topic      {}", visible(&summary.mqtt_topic))?;
        let topic = match summary.rocketmq_topic.as_str() {
            "" => "(none)",
            topic => topic,
        };
        writeln!(out, "RocketMQ topic  {}", visible(topic))?;
        for (name, value) in &self.user_properties {
            writeln!(out, "user property   {} = {}", visible(name), visible(value))?;
        }
        let (form, text) = match &self.payload {
            Payload::Text(text) => ("text", visible(text)),
            Payload::Base64(text) => ("base64", visible(text)),
        };
        writeln!(out, "payload         {} bytes, {form}\n{text}", summary.payload_bytes)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::DeadReason;

    fn letter() -> DeadLetter {
        DeadLetter {
            id: "0000000000000001-2".to_owned(),
            reason: DeadReason::TooLarge,
            detail: "needs \u{1b}[2J too much".to_owned(),
            mqtt_topic: "room/message/1".to_owned(),
            rocketmq_topic: "room".to_owned(),
            arrived_ms: 1_767_268_800_000,
            qos: 1,
            user_properties: vec![("a".to_owned(), "b".to_owned())],
            payload: Bytes::from_static(b"hi\x1b"),
        }
    }

    fn place() -> LetterPlace {
        LetterPlace::RocketMq { broker: "b".to_owned(), queue_id: 3, queue_offset: 7 }
    }

    #[test]
    fn a_record_holds_all_fields_for_scripts() {
        let mut out = Vec::new();
        LetterRecord::of(&letter(), place()).write(&mut out, true, &TimeZone::UTC).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected = serde_json::json!({
            "id": "0000000000000001-2", "place": "rocketmq", "broker": "b", "queue_id": 3, "queue_offset": 7,
            "reason": "too_large", "detail": "needs \u{1b}[2J too much", "mqtt_topic": "room/message/1",
            "rocketmq_topic": "room", "arrived_at": "2026-01-01T12:00:00.000Z", "qos": 1, "payload_bytes": 3,
            "user_properties": [["a", "b"]], "payload": "hi\u{1b}",
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn what_is_shown_cannot_command_a_terminal() {
        let mut out = Vec::new();
        let record = LetterRecord::of(&letter(), LetterPlace::Local);
        record.write(&mut out, false, &TimeZone::UTC).unwrap();
        record.write(&mut out, true, &TimeZone::UTC).unwrap();
        record.summary.write(&mut out, false, &TimeZone::UTC).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains('\u{1b}') && text.contains("payload         3 bytes, text"), "{text}");
    }
}
