//! Copies what is readable of a damaged file into a new one, row by row. `storage` sets the damaged file aside.

use std::fs;
use std::io;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::index::Lane;
use super::lane_table::read_lanes;
use super::row::{self, ReadRow, StoredRow};
use super::schema::position;
use super::{LaneKey, Salvage, SpoolOpenError, schema};
use crate::storage::{self, StorageError, beside};

/// Rows in one transaction.
const CHUNK: u64 = 10_000;

/// Refuses an empty file that has a log: somebody cut it to nothing. SQLite would take it for a new one and delete the log.
pub(super) fn refuse_emptied(path: &Path) -> Result<(), StorageError> {
    let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    if path.exists() && length(path) == 0 && length(&beside(path, "-wal")) > 0 {
        return Err(StorageError::Corrupt("the file is empty and its log is not".to_owned()));
    }
    Ok(())
}

/// Salvages the file at `path` and sets it aside.
pub(super) fn run(path: &Path, reason: &str) -> Result<Salvage, SpoolOpenError> {
    let new = storage::salvage_path(path);
    storage::remove(&new).map_err(|error| failed(path, &error))?;
    let (rows, missing) = copy(path, &new)?;
    let set_aside = storage::set_aside(path).map_err(|error| failed(path, &error))?;
    tracing::error!(
        path = %path.display(),
        set_aside = %set_aside.display(),
        rows,
        missing = missing.map_or_else(|| "not known".to_owned(), |missing| missing.to_string()),
        reason,
        "the spool was damaged: what is readable is in a new file; keep the old one, it may hold acknowledged messages"
    );
    Ok(Salvage { set_aside, rows, missing })
}

pub(super) fn failed(path: &Path, error: &io::Error) -> SpoolOpenError {
    SpoolOpenError::Salvage { path: path.to_owned(), error: StorageError::Io(error.to_string()) }
}

/// Copies what is readable. Gives the number of rows that were copied, and of those that are missing.
fn copy(from: &Path, to: &Path) -> Result<(u64, Option<u64>), SpoolOpenError> {
    let old = storage::open_to_salvage(from).and_then(|old| Ok((read_lanes(&old)?, old)));
    let target = schema::file_at(to, None).open()?;
    let sql_failed = |error: rusqlite::Error| SpoolOpenError::Salvage {
        path: from.to_owned(),
        error: StorageError::of(&error, to),
    };
    let mut counts = (0, None);
    match old {
        Ok((lanes, old)) => {
            let expected: u64 = lanes.iter().map(|(_, lane)| lane.depth.messages).sum();
            let mut copier = Copier { old: &old, target: &target, rows: 0 };
            copier.copy(&lanes).map_err(sql_failed)?;
            counts = (copier.rows, Some(expected.saturating_sub(copier.rows)));
        }
        Err(error) => tracing::error!(%error, "not even the lanes of the spool are readable"),
    }
    storage::checkpoint(&target).map_err(sql_failed)?;
    target.close().map_err(|(_, error)| sql_failed(error))?;
    Ok(counts)
}

struct Copier<'a> {
    old: &'a Connection,
    target: &'a Connection,
    rows: u64,
}

impl Copier<'_> {
    fn copy(&mut self, lanes: &[(LaneKey, Lane)]) -> rusqlite::Result<()> {
        self.target.execute_batch("BEGIN")?;
        if let Ok(running_ms) =
            self.old.query_row("SELECT running_ms FROM spool_clock", [], |row| row.get::<_, i64>(0))
        {
            self.target.execute("UPDATE spool_clock SET running_ms = ?1", [running_ms])?;
        }
        for (key, lane) in lanes {
            let insert = "INSERT INTO lanes VALUES(?1, ?2, ?3, ?4, 0, 0)";
            self.target.execute(insert, params![lane.id, &*key.topic, key.slot, lane.next as i64])?;
            self.copy_lane(key, lane)?;
            self.target.execute(
                "UPDATE lanes SET (messages, bytes) =
                   (SELECT count(*), coalesce(sum(bytes), 0) FROM messages WHERE position >= ?2 AND position < ?3)
                 WHERE lane = ?1",
                [lane.id, position(lane.id, 0), position(lane.id, lane.next)],
            )?;
        }
        self.target.execute_batch("COMMIT")
    }

    /// Copies the rows of a lane in order. At an unreadable place it tries one number after the other.
    fn copy_lane(&mut self, key: &LaneKey, lane: &Lane) -> rusqlite::Result<()> {
        let select =
            format!("{} WHERE position >= ?1 AND position < ?2 ORDER BY position LIMIT 1", row::SELECT);
        let exact = format!("{} WHERE position = ?1 AND position < ?2", row::SELECT);
        let mut number = 0;
        while number < lane.next {
            let next = self.read(&select, key, lane, number);
            match next {
                Ok(Some(found)) if found.number >= number => {
                    number = found.number + 1;
                    self.write(key, lane.id, found)?;
                }
                Ok(None) => break,
                // Perhaps only the row after it cannot be read. A search through damaged pages may also end at a row before it,
                // which was copied already.
                Ok(Some(_)) | Err(_) => {
                    let found = self.read(&exact, key, lane, number).ok().flatten();
                    if let Some(found) = found.filter(|found| found.number == number) {
                        self.write(key, lane.id, found)?;
                    }
                    number += 1;
                }
            }
        }
        Ok(())
    }

    fn read(
        &self,
        select: &str,
        key: &LaneKey,
        lane: &Lane,
        number: u64,
    ) -> rusqlite::Result<Option<ReadRow>> {
        let mut statement = self.old.prepare_cached(select)?;
        let found = statement
            .query_row([position(lane.id, number), position(lane.id, lane.next)], |row| row::read(key, row));
        found.optional()
    }

    fn write(&mut self, key: &LaneKey, lane: i64, found: ReadRow) -> rusqlite::Result<()> {
        let Some(StoredRow { message, times, .. }) = found.stored else {
            return Ok(());
        };
        let mut statement = self.target.prepare_cached(row::INSERT)?;
        let bytes = row::row_bytes(&message.message);
        row::insert(&mut statement, (key, lane), found.number, (&message, bytes), times)?;
        self.rows += 1;
        if self.rows.is_multiple_of(CHUNK) {
            self.target.execute_batch("COMMIT; BEGIN")?;
            storage::checkpoint_if_due(self.target)?;
        }
        Ok(())
    }
}
