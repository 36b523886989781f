//! One row as bytes and back: the columns, the checksum over them, and what a row counts for.

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Row, params};

use super::schema::position;
use super::{LaneKey, SpoolMessage};
use crate::model::{Kind, OutgoingMessage, OutgoingProperties};

/// What a row costs beside its texts and its body: the numbers, and SQLite's own header.
const ROW_OVERHEAD_BYTES: usize = 96;

pub(super) const INSERT: &str = "INSERT INTO messages
    (position, kind, tag, keys, properties, body, bytes, spooled_ms, age_clock_ms, crc)
    VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

/// The columns in the order of [`read`]; a WHERE follows.
pub(super) const SELECT: &str =
    "SELECT number, kind, tag, keys, properties, body, bytes, spooled_ms, age_clock_ms, crc FROM messages";

/// When a message came to the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowTimes {
    pub spooled_ms: i64,
    pub age_clock_ms: i64,
}

/// What was read: `stored` is `None` if it is not what was written.
pub(super) struct ReadRow {
    pub number: u64,
    pub stored: Option<StoredRow>,
}

pub(super) struct StoredRow {
    pub message: SpoolMessage,
    pub bytes: u64,
    pub times: RowTimes,
}

/// What a message counts for in the limits: never less than its row has.
pub(super) fn row_bytes(message: &OutgoingMessage) -> u64 {
    // The JSON of a property: brackets, quotes and commas.
    const JSON_BYTES: usize = 8;
    let properties = message.properties.user();
    let properties: usize =
        properties.map(|(name, value)| JSON_BYTES + json_bytes(name) + json_bytes(value)).sum();
    (ROW_OVERHEAD_BYTES + message.tag().len() + message.keys().len() + properties + message.body.len()) as u64
}

/// A text inside the quotes of JSON. Without branches, because every byte that is spooled comes by here.
fn json_bytes(text: &str) -> usize {
    let more = |byte: u8| {
        let has_short_form = matches!(byte, b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c);
        let is_control = byte < 0x20 && !has_short_form;
        usize::from(has_short_form) + 5 * usize::from(is_control)
    };
    text.len() + text.bytes().map(more).sum::<usize>()
}

/// Writes a message as a row of the lane with this id. `bytes`: what [`row_bytes`] says of it.
pub(super) fn insert(
    statement: &mut CachedStatement<'_>,
    (key, lane): (&LaneKey, i64),
    number: u64,
    (spooled, bytes): (&SpoolMessage, u64),
    times: RowTimes,
) -> rusqlite::Result<()> {
    let message = &spooled.message;
    let properties = serde_json::to_string(&message.properties)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let bytes = bytes as i64;
    let columns = Columns {
        kind: spooled.kind.as_str(),
        tag: message.tag(),
        keys: message.keys(),
        properties: &properties,
        body: &message.body,
        bytes,
    };
    statement.execute(params![
        position(lane, number),
        columns.kind,
        columns.tag,
        columns.keys,
        columns.properties,
        columns.body,
        bytes,
        times.spooled_ms,
        times.age_clock_ms,
        columns.checksum(key, number, times),
    ])?;
    Ok(())
}

/// Reads a row of this lane and proves it.
pub(super) fn read(key: &LaneKey, row: &Row<'_>) -> rusqlite::Result<ReadRow> {
    let number = row.get::<_, i64>(0)? as u64;
    Ok(ReadRow { number, stored: prove(key, number, row)? })
}

fn prove(key: &LaneKey, number: u64, row: &Row<'_>) -> rusqlite::Result<Option<StoredRow>> {
    let (
        ValueRef::Text(kind),
        ValueRef::Text(tag),
        ValueRef::Text(keys),
        ValueRef::Text(properties),
        ValueRef::Blob(body),
        ValueRef::Integer(bytes),
        ValueRef::Integer(spooled_ms),
        ValueRef::Integer(age_clock_ms),
        ValueRef::Integer(crc),
    ) = (
        row.get_ref(1)?,
        row.get_ref(2)?,
        row.get_ref(3)?,
        row.get_ref(4)?,
        row.get_ref(5)?,
        row.get_ref(6)?,
        row.get_ref(7)?,
        row.get_ref(8)?,
        row.get_ref(9)?,
    )
    else {
        return Ok(None);
    };
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let (Some(kind), Some(tag), Some(keys), Some(properties)) =
        (text(kind), text(tag), text(keys), text(properties))
    else {
        return Ok(None);
    };
    let columns = Columns { kind, tag, keys, properties, body, bytes };
    let times = RowTimes { spooled_ms, age_clock_ms };
    if i64::from(columns.checksum(key, number, times)) != crc {
        return Ok(None);
    }
    Ok(columns.message(key.slot).map(|message| StoredRow { message, bytes: bytes as u64, times }))
}

struct Columns<'a> {
    kind: &'a str,
    tag: &'a str,
    keys: &'a str,
    properties: &'a str,
    body: &'a [u8],
    bytes: i64,
}

impl Columns<'_> {
    /// Each part goes in with its length, so that no byte can move from one column to the next unnoticed.
    fn checksum(&self, key: &LaneKey, number: u64, times: RowTimes) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let texts = [&key.topic, self.kind, self.tag, self.keys, self.properties];
        for part in texts.into_iter().map(str::as_bytes).chain([self.body]) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let number = number as i64;
        for value in [i64::from(key.slot), number, self.bytes, times.spooled_ms, times.age_clock_ms] {
            hasher.update(&value.to_le_bytes());
        }
        hasher.finalize()
    }

    fn message(&self, slot: u8) -> Option<SpoolMessage> {
        let mut properties = OutgoingProperties::new(self.keys, self.tag, self.properties.len());
        for (name, value) in serde_json::from_str::<Vec<(String, String)>>(self.properties).ok()? {
            properties.push(&name, &value);
        }
        Some(SpoolMessage {
            slot,
            kind: Kind::from_name(self.kind),
            message: OutgoingMessage { properties, body: Bytes::copy_from_slice(self.body) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What counts against `spool.max_bytes` is what is written.
        #[test]
        fn a_row_counts_for_no_less_than_it_has(
            tag in ".{0,40}",
            keys in ".{0,80}",
            properties in prop::collection::vec(("[a-zA-Z\"\\\\\u{1}]{0,20}", ".{0,60}|[\u{0}-\u{1f}\"]{0,60}"), 0..30),
            body in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut stored = OutgoingProperties::new(&keys, &tag, 0);
            for (name, value) in properties {
                stored.push(&name, &value);
            }
            let message = OutgoingMessage { properties: stored, body: body.into() };
            let json = serde_json::to_string(&message.properties).unwrap();
            // Six numbers of at most nine bytes each, kind, and a byte of header for each column.
            let numbers_and_kind = 6 * 9 + 8 + 11;
            let written = message.tag().len() + message.keys().len() + json.len() + message.body.len() + numbers_and_kind;
            let counted = row_bytes(&message) as usize;
            prop_assert!(written <= counted, "{written} bytes count for {counted}");
            prop_assert!(counted <= written + 64, "{written} bytes count for {counted}");
        }
    }
}
