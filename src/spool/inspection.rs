//! What a spool holds, read from its file without disturbing the process that writes it.

use std::path::Path;

use rusqlite::params;

use super::schema;
use crate::storage::{OpenError, StorageError};

/// One topic's part of a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInspection {
    /// The RocketMQ topic.
    pub topic: String,
    /// Lanes with rows.
    pub lanes: u64,
    /// How many messages of the topic are in the spool.
    pub messages: u64,
    /// Their bytes, as the limits count them.
    pub bytes: u64,
    /// Wall time at which the oldest row came, milliseconds since 1970-01-01 UTC.
    pub oldest_spooled_ms: Option<u64>,
}

/// What a spool's file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpoolInspection {
    /// Topics that have rows, by name.
    pub topics: Vec<TopicInspection>,
    /// Rows whose checksum was wrong. They stay in the file for people, and are never sent.
    pub damaged: u64,
    /// Length of the file, its free pages included.
    pub file_bytes: u64,
}

impl SpoolInspection {
    /// Reads the file at `path`. If there is no file, the spool is empty.
    pub fn read(path: &Path) -> Result<Self, OpenError> {
        let Ok(metadata) = std::fs::metadata(path) else {
            return Ok(Self::default());
        };
        let connection = schema::file_at(path, None).open_read_only()?;
        let read = || -> rusqlite::Result<Self> {
            // One transaction, so that all figures are of one moment.
            connection.execute_batch("BEGIN")?;
            let topics = topics(&connection)?;
            let damaged: i64 = connection.query_row("SELECT count(*) FROM damaged", [], |row| row.get(0))?;
            Ok(Self { topics, damaged: damaged.max(0) as u64, file_bytes: metadata.len() })
        };
        read().map_err(|error| OpenError::Failed {
            path: path.to_owned(),
            error: StorageError::of(&error, path),
        })
    }

    pub fn messages(&self) -> u64 {
        self.topics.iter().map(|topic| topic.messages).sum()
    }
}

fn topics(connection: &rusqlite::Connection) -> rusqlite::Result<Vec<TopicInspection>> {
    let count =
        |row: &rusqlite::Row<'_>, column| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)?.max(0) as u64);
    let mut topics = connection.prepare(
        "SELECT topic, count(*), sum(messages), sum(bytes) FROM lanes WHERE messages > 0 GROUP BY topic ORDER BY topic",
    )?;
    let topics = topics.query_map([], |row| {
        Ok(TopicInspection {
            topic: row.get(0)?,
            lanes: count(row, 1)?,
            messages: count(row, 2)?,
            bytes: count(row, 3)?,
            oldest_spooled_ms: None,
        })
    })?;
    let mut topics = topics.collect::<rusqlite::Result<Vec<_>>>()?;
    // The first row of each lane is its oldest, so no scan is needed.
    let mut oldest = connection.prepare(
        "SELECT min((SELECT spooled_ms FROM messages
                     WHERE position >= (lanes.lane << 40) AND position < ((lanes.lane + 1) << 40)
                     ORDER BY position LIMIT 1))
         FROM lanes WHERE topic = ?1 AND messages > 0",
    )?;
    for topic in &mut topics {
        let found: Option<i64> = oldest.query_row(params![topic.topic], |row| row.get(0))?;
        topic.oldest_spooled_ms = found.map(|ms| ms.max(0) as u64);
    }
    Ok(topics)
}
