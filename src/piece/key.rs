//! The name of a piece in the store, and what it says.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::model::QueueName;

/// Of the layout of names; a later one may live beside it.
const LAYOUT: &str = "v1";
const SUFFIX: &str = ".jsonl.zst";
/// A number of 64 bits has at most so many digits.
const OFFSET_DIGITS: usize = 20;

/// A message queue, and which one of that name: a topic that was made anew begins a generation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// The RocketMQ topic.
    pub topic: String,
    /// The queue.
    pub queue: QueueName,
    /// Counts from 0.
    pub generation: u32,
}

/// Where a piece lies. Two pieces of one place with the same first offset differ in their version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PieceKey {
    /// Which queue it is of.
    pub place: Place,
    /// `YYYY-MM-DD`: the day, in UTC, of the store time at which the piece begins.
    pub day: String,
    /// The first offset.
    pub from: u64,
    /// A merge or an erasure writes the next one. The highest version that covers an offset counts.
    pub version: u32,
}

impl PieceKey {
    /// `from_store_ms`: the store time at which the piece begins, milliseconds since 1970-01-01 UTC.
    pub(crate) fn new(place: Place, from_store_ms: u64, from: u64, version: u32) -> Self {
        Self { place, day: day_of(from_store_ms), from, version }
    }

    /// Reads a name back. `None`: it is no name of a piece, and so no piece.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('/');
        let mut next = |prefix: &str| parts.next()?.strip_prefix(prefix);
        next(LAYOUT)?.is_empty().then_some(())?;
        let topic = decode(next("topic=")?)?;
        let day = next("day=")?.to_owned();
        let (broker, id) = next("q=")?.rsplit_once('.')?;
        let queue = QueueName { broker: decode(broker)?.into(), id: id.parse().ok()? };
        let generation = next("g=")?.parse().ok()?;
        let (from, version) = next("")?.strip_suffix(SUFFIX)?.split_once('.')?;
        let key = Self {
            place: Place { topic, queue, generation },
            day,
            from: from.parse().ok()?,
            version: version.parse().ok()?,
        };
        // A name that says the same in another way would hide a piece behind a piece.
        (key.to_string() == name).then_some(key)
    }

    /// What the names of all pieces of a topic begin with.
    pub(crate) fn prefix_of(topic: &str) -> String {
        format!("{LAYOUT}/topic={}", encode(topic))
    }
}

impl PieceKey {
    /// What the names of all pieces of its place and day begin with.
    pub(crate) fn folder(&self) -> String {
        let Place { topic, queue, generation } = &self.place;
        let (topic, broker) = (encode(topic), encode(&queue.broker));
        let (day, id) = (&self.day, queue.id);
        format!("{LAYOUT}/topic={topic}/day={day}/q={broker}.{id}/g={generation}")
    }

    /// When its day is over, milliseconds since 1970-01-01 UTC. `None`: it is no day of the calendar.
    pub(crate) fn day_ends_ms(&self) -> Option<u64> {
        let next = self.day.parse::<Date>().ok()?.tomorrow().ok()?;
        let end = next.to_zoned(TimeZone::UTC).ok()?.timestamp();
        u64::try_from(end.as_millisecond()).ok()
    }
}

impl fmt::Display for PieceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (folder, from, version) = (self.folder(), self.from, self.version);
        write!(f, "{folder}/{from:0OFFSET_DIGITS$}.{version:04}{SUFFIX}")
    }
}

/// What the names of all claims of a queue begin with: see [`crate::piece_store`].
pub(crate) fn claims_of(topic: &str, queue: &QueueName) -> String {
    format!("{}/claims/q={}.{}", PieceKey::prefix_of(topic), encode(&queue.broker), queue.id)
}

/// `YYYY-MM-DD`, in UTC.
pub(crate) fn day_of(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.unwrap_or(Timestamp::MAX).to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string()
}

/// Every object store takes letters, digits, `_` and `-`. What is another byte is a dot and two digits of base 16; topics have
/// no dot.
fn encode(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => name.push(char::from(byte)),
            other => name.push_str(&format!(".{other:02x}")),
        }
    }
    name
}

fn decode(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut parts = name.split('.');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}
