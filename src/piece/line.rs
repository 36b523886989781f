//! One line of a piece, schema 1: a stored message with every field on every line.
//!
//! The first fields are for people and programs that look for something; the others are what RocketMQ stored, from which
//! [`Line::message`] makes the message again.

use std::borrow::Cow;
use std::ops::Deref;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::binding::Recorded;
use crate::model::{Kind, QueueName, StoredMessage};

/// Of the fields of a line. They may grow with a new number, and are never renamed.
pub(crate) const SCHEMA: u32 = 1;
/// A message may wait so long in the spool before RocketMQ stores it.
pub(crate) const STORED_LATE_MS: u64 = 7 * 24 * 3_600_000;
/// The clocks of a bridge and a broker may differ by so much.
pub(crate) const CLOCKS_DIFFER_MS: u64 = 60_000;

/// Every field stands on every line, as null where a message has none: a reader that guesses columns from the first lines would
/// drop later ones.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line<'a> {
    pub schema: u32,
    /// When it was said: see [`at_ms`]. RFC 3339, UTC, milliseconds.
    #[serde(borrow)]
    pub at: Cow<'a, str>,
    #[serde(borrow)]
    pub room: Option<Text<'a>>,
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// The message id; null on messages that roombridge did not write.
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub client_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub mqtt_topic: Cow<'a, str>,
    #[serde(borrow)]
    pub rocketmq_topic: Cow<'a, str>,
    #[serde(borrow)]
    pub tag: Cow<'a, str>,
    #[serde(borrow)]
    pub keys: Cow<'a, str>,
    #[serde(borrow)]
    pub broker: Cow<'a, str>,
    pub queue_id: i32,
    pub queue_offset: u64,
    /// RocketMQ's store time, milliseconds since 1970-01-01 UTC.
    pub stored_ms: u64,
    /// When its producer made it, milliseconds since 1970-01-01 UTC.
    pub born_ms: u64,
    /// A number of the producer's own; 0 unless it set one.
    pub flag: i32,
    /// Names and values in the order in which RocketMQ has them, its own included.
    #[serde(borrow)]
    pub properties: Vec<(Text<'a>, Text<'a>)>,
    /// The body, if it is UTF-8 that JSON does not blow up; else null.
    #[serde(borrow)]
    pub body: Option<Text<'a>>,
    /// Base64 of any other body; else null.
    #[serde(borrow)]
    pub body_base64: Option<Text<'a>>,
}

/// Serde borrows a `Cow` only where it stands alone; within an `Option` or a list it would copy each text that it reads.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// What a writer must know of a line beside its bytes.
pub(super) struct Written {
    pub room: Option<String>,
    pub is_private: bool,
    pub at_ms: u64,
    /// JSON and a line feed.
    pub bytes: Box<[u8]>,
}

/// When it was said, milliseconds since 1970-01-01 UTC: the arrival that our own message names, if its store time can be true
/// beside it; else the store time.
pub(crate) fn at_ms(recorded: &Recorded, stored_ms: u64) -> u64 {
    said_ms(recorded.id.is_some(), recorded.received_ms, stored_ms)
}

/// As [`at_ms`], of a message that was not read back. `is_ours`: it has an id of ours.
pub(crate) fn said_ms(is_ours: bool, arrived_ms: Option<u64>, stored_ms: u64) -> u64 {
    let possible = stored_ms.saturating_sub(STORED_LATE_MS)..=stored_ms.saturating_add(CLOCKS_DIFFER_MS);
    arrived_ms.filter(|arrived| is_ours && possible.contains(arrived)).unwrap_or(stored_ms)
}

/// The message as a line, with its line feed.
pub(crate) fn line_of(message: &StoredMessage, recorded: &Recorded) -> serde_json::Result<Vec<u8>> {
    Ok(write(message, recorded, &mut Vec::new())?.bytes.into_vec())
}

/// Writes the message as a line. `buffer`: for the time of writing, so that a line takes no more memory than it has bytes.
pub(super) fn write(
    message: &StoredMessage,
    recorded: &Recorded,
    buffer: &mut Vec<u8>,
) -> serde_json::Result<Written> {
    let at_ms = at_ms(recorded, message.stored_ms);
    let (body, body_base64) = body_of(&message.body);
    let line = Line {
        schema: SCHEMA,
        at: rfc3339(at_ms).into(),
        room: recorded.room.as_deref().map(Text::from),
        kind: recorded.kind.as_str().into(),
        id: recorded.id.map(|id| id.to_string().into()),
        client_id: recorded.client_id.as_deref().map(Text::from),
        mqtt_topic: recorded.mqtt_topic.as_str().into(),
        rocketmq_topic: message.topic.as_str().into(),
        tag: message.tag.as_str().into(),
        keys: message.keys.as_str().into(),
        broker: (&*message.queue.broker).into(),
        queue_id: message.queue.id,
        queue_offset: message.queue_offset,
        stored_ms: message.stored_ms,
        born_ms: message.born_ms,
        flag: message.flag,
        properties: message.properties.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        body,
        body_base64,
    };
    buffer.clear();
    serde_json::to_writer(&mut *buffer, &line)?;
    buffer.push(b'\n');
    let is_private = recorded.kind == Kind::P2p;
    Ok(Written { room: recorded.room.clone(), is_private, at_ms, bytes: buffer.as_slice().into() })
}

/// A body of control characters is six times as long in JSON, and a third longer in base64.
fn body_of(body: &[u8]) -> (Option<Text<'_>>, Option<Text<'_>>) {
    let text = str::from_utf8(body).ok().filter(|text| {
        let control = text.bytes().filter(|byte| *byte < 0x20).count();
        let json_bytes = text.len() + 5 * control;
        json_bytes <= body.len().div_ceil(3) * 4 * 3 / 2
    });
    match text {
        Some(text) => (Some(text.into()), None),
        None => (None, Some(STANDARD.encode(body).into())),
    }
}

impl Line<'_> {
    /// The message as RocketMQ gave it out. `None`: a body that is no base64, or a message without one.
    pub(crate) fn message(&self) -> Option<StoredMessage> {
        let body = match (&self.body, &self.body_base64) {
            (Some(text), None) => Bytes::copy_from_slice(text.as_bytes()),
            (None, Some(base64)) => STANDARD.decode(&**base64).ok()?.into(),
            (None, None) | (Some(_), Some(_)) => return None,
        };
        Some(StoredMessage {
            topic: self.rocketmq_topic.clone().into_owned(),
            tag: self.tag.clone().into_owned(),
            keys: self.keys.clone().into_owned(),
            queue: QueueName { broker: (*self.broker).into(), id: self.queue_id },
            queue_offset: self.queue_offset,
            stored_ms: self.stored_ms,
            born_ms: self.born_ms,
            flag: self.flag,
            properties: self.properties.iter().map(|(name, value)| (&**name, &**value)).collect(),
            body,
        })
    }
}

impl Written {
    /// A line of another piece, byte for byte. `None`: its time is no time.
    pub(super) fn of_line(line: &Line<'_>, bytes: &[u8]) -> Option<Self> {
        let at: Timestamp = line.at.parse().ok()?;
        Some(Self {
            room: line.room.as_deref().map(str::to_owned),
            is_private: line.kind == Kind::P2p.as_str(),
            at_ms: u64::try_from(at.as_millisecond()).ok()?,
            bytes: bytes.into(),
        })
    }
}

fn rfc3339(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    // Times beyond the calendar are shown as its last moment; `stored_ms` has them as they are.
    format!("{:.3}", time.unwrap_or(Timestamp::MAX))
}
