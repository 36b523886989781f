//! Reads the table of lanes of a spool's file, for a start and for a salvage.

use rusqlite::Connection;

use super::index::Lane;
use super::{Depth, LaneKey, schema};

/// No lane of an undamaged file counts more.
const MAX_BYTES: i64 = 1 << 50;

/// The lanes of a file, each with counters that are possible.
pub(super) fn read_lanes(connection: &Connection) -> rusqlite::Result<Vec<(LaneKey, Lane)>> {
    let mut statement = connection.prepare("SELECT lane, topic, slot, next, messages, bytes FROM lanes")?;
    let lanes = statement.query_map([], |row| {
        let below = |limit: i64, column: usize| {
            let value: i64 = row.get(column)?;
            if (0..limit).contains(&value) {
                Ok(value as u64)
            } else {
                Err(rusqlite::Error::IntegralValueOutOfRange(column, value))
            }
        };
        let key = LaneKey { topic: row.get::<_, String>(1)?.into(), slot: row.get(2)? };
        let lane = Lane {
            id: below(schema::LANES, 0)? as i64,
            next: below(schema::NUMBERS, 3)?,
            depth: Depth { messages: below(schema::NUMBERS, 4)?, bytes: below(MAX_BYTES, 5)? },
            ..Lane::default()
        };
        Ok((key, lane))
    })?;
    lanes.collect()
}
