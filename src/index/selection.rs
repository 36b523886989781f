//! Finds the rows with some tokens, the newest first, over all months.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::params;

use super::columns::{Cells, counted_name};
use super::error::IndexError;
use super::file::{push_client_token, push_kind_token, push_room_token, stored, token};
use super::month_reader::{Hit, OpenFile, RowReader};
use super::query::Tokens;
use super::row::{Month, RowId};
use crate::model::{Clock, Kind};

/// The files of an index, the oldest first.
pub(super) type Files = BTreeMap<Month, OpenFile>;

/// When an answer is due, whether it is whole or not.
#[derive(Clone)]
pub(crate) struct Deadline {
    clock: Arc<dyn Clock>,
    at: Duration,
}

impl Deadline {
    /// So long from now.
    pub(crate) fn after(clock: Arc<dyn Clock>, time: Duration) -> Self {
        let at = clock.monotonic().saturating_add(time);
        Self { clock, at }
    }

    fn is_over(&self) -> bool {
        self.clock.monotonic() >= self.at
    }
}

/// Which rows to find; each has all that is not `None` or empty.
#[derive(Clone, Default)]
pub(super) struct Selection<'a> {
    pub room: Option<&'a str>,
    pub client_id: Option<&'a str>,
    pub kind: Option<Kind>,
    pub tokens: Tokens,
    /// Said at or after this time, milliseconds since 1970-01-01 UTC.
    pub from_ms: Option<u64>,
    /// Said before this time.
    pub to_ms: Option<u64>,
    pub before: Option<RowId>,
    pub deadline: Option<Deadline>,
}

/// Why no more rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// There are none.
    Whole,
    /// Nobody wanted more.
    Stopped,
    OutOfTime,
}

impl Selection<'_> {
    /// Whether it is what the tokens say that it is, and was said in time.
    pub(super) fn is_meant(&self, hit: Hit<'_>) -> bool {
        let Cells { at_ms, rooms, client, .. } = hit.cells;
        let is_named = |name: &str, number: u32| hit.batch.name(number) == Some(counted_name(name));
        self.from_ms.is_none_or(|from| *at_ms >= from)
            && self.to_ms.is_none_or(|to| *at_ms < to)
            && self.room.is_none_or(|room| rooms.iter().any(|number| is_named(room, *number)))
            && self.client_id.is_none_or(|client_id| is_named(client_id, *client))
    }

    fn is_out_of_time(&self) -> bool {
        self.deadline.as_ref().is_some_and(Deadline::is_over)
    }

    /// What FTS5 is asked.
    fn expression(&self) -> String {
        let room = self.room.map(|room| token(push_room_token, room));
        let client = self.client_id.map(|client_id| token(push_client_token, client_id));
        let kind = self.kind.map(|kind| token(push_kind_token, kind));
        let mut wanted: Vec<_> = room.into_iter().chain(client).chain(kind).collect();
        wanted.extend(self.tokens.wanted.iter().cloned());
        let joined = |tokens: Vec<String>, between| {
            tokens.iter().map(|token| format!("\"{token}\"")).collect::<Vec<_>>().join(between)
        };
        let mut expression = match wanted.is_empty() {
            // Each row has a kind.
            true => joined(Kind::ALL.iter().map(|kind| token(push_kind_token, *kind)).collect(), " OR "),
            false => joined(wanted, " AND "),
        };
        for token in &self.tokens.excluded {
            expression = format!("({expression}) NOT \"{token}\"");
        }
        expression
    }

    /// The first and the last row of a file that can be meant. `None`: none can.
    fn range(&self, file: &OpenFile) -> rusqlite::Result<Option<(i64, i64)>> {
        let last = match self.before {
            Some(before) if before.month < file.month => return Ok(None),
            Some(before) if before.month == file.month => stored(before.row).saturating_sub(1),
            Some(_) | None => i64::MAX,
        };
        if self.from_ms.is_none() && self.to_ms.is_none() {
            return Ok(Some((1, last)));
        }
        let mut find = file.connection.prepare_cached(
            "SELECT min(first_row), max(first_row + rows - 1) FROM batches WHERE at_max >= ?1 AND at_min < ?2",
        )?;
        let from = stored(self.from_ms.unwrap_or(0));
        let to = self.to_ms.map_or(i64::MAX, stored);
        let found = find.query_row([from, to], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (first, last_of_time): (Option<i64>, Option<i64>) = found;
        Ok(first.zip(last_of_time).map(|(first, last_of_time)| (first, last.min(last_of_time))))
    }
}

/// Is given the rows that have what was asked for, but for the time, and says whether more are wanted.
pub(super) type Visit<'a> = dyn FnMut(&mut RowReader<'_>, u64) -> Result<ControlFlow<()>, IndexError> + 'a;

/// Goes through the rows of all files, the newest first.
pub(super) fn each(
    files: &Files,
    selection: &Selection<'_>,
    visit: &mut Visit<'_>,
) -> Result<Ended, IndexError> {
    for file in files.values().rev() {
        if selection.is_out_of_time() {
            return Ok(Ended::OutOfTime);
        }
        match in_one_moment(file, |reader| each_in(file, reader, selection, visit))? {
            Ended::Whole => {}
            ended @ (Ended::Stopped | Ended::OutOfTime) => return Ok(ended),
        }
    }
    Ok(Ended::Whole)
}

const FIND: &str =
    "SELECT rowid FROM lines WHERE lines MATCH ?1 AND rowid >= ?2 AND rowid <= ?3 ORDER BY rowid DESC";

/// The writer puts batches together meanwhile.
pub(super) fn in_one_moment<T>(
    file: &OpenFile,
    read: impl FnOnce(&mut RowReader<'_>) -> Result<T, IndexError>,
) -> Result<T, IndexError> {
    let _moment = file.connection.unchecked_transaction().map_err(|error| file.failed(&error))?;
    read(&mut RowReader::new(file)?)
}

/// Goes through the rows of one file, the newest first. `reader`: of this file.
pub(super) fn each_in(
    file: &OpenFile,
    reader: &mut RowReader<'_>,
    selection: &Selection<'_>,
    visit: &mut Visit<'_>,
) -> Result<Ended, IndexError> {
    let failed = |error: rusqlite::Error| file.failed(&error);
    let Some((first, last)) = selection.range(file).map_err(failed)? else { return Ok(Ended::Whole) };
    let mut find = file.connection.prepare_cached(FIND).map_err(failed)?;
    let mut found = find.query(params![selection.expression(), first, last]).map_err(failed)?;
    while let Some(row) = found.next().map_err(failed)? {
        let row = row.get::<_, i64>(0).map_err(failed)?.max(0) as u64;
        if visit(reader, row)?.is_break() {
            return Ok(Ended::Stopped);
        }
        // SQLite's own ways to interrupt a statement do not reach into FTS5, where the time goes.
        if selection.is_out_of_time() {
            return Ok(Ended::OutOfTime);
        }
    }
    Ok(Ended::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::index::columns::Batch;

    use rusqlite::types::Null;

    /// A token is shorter than a name, so another room can have the same one. Nobody may read that room for it.
    #[test]
    fn a_row_of_another_room_with_the_same_token_is_not_meant() {
        let mut batch = Batch::default();
        let (room, client) = (batch.push_name("1"), batch.push_name("kim"));
        let cells = Cells {
            queue: 1,
            offset: 0,
            at_ms: 5,
            eff_ms: 5,
            rooms: [0, room],
            client,
            kind: Kind::Message,
            is_text: true,
            is_line: true,
            mark: None,
        };
        let is_meant = |selection: Selection<'_>| selection.is_meant(Hit { cells: &cells, batch: &batch });
        let (room, client_id) = (Some("1"), Some("kim"));
        assert!(is_meant(Selection { room, client_id, ..Selection::default() }));
        assert!(!is_meant(Selection { room: client_id, ..Selection::default() }));
        assert!(!is_meant(Selection { client_id: room, ..Selection::default() }));
        assert!(!is_meant(Selection { room, from_ms: Some(6), ..Selection::default() }));
        assert!(!is_meant(Selection { room, to_ms: Some(5), ..Selection::default() }));
    }

    /// What is asked streams out of the words, the newest first: nothing is sorted, and only the wanted rows are read.
    #[test]
    fn the_newest_come_first_without_a_sort() {
        let folder = tempfile::tempdir().unwrap();
        let connection = super::super::file::local_file(folder.path(), Month::of(0), None).open().unwrap();
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {FIND}")).unwrap();
        let plan: Vec<String> = explain
            .query_map([Null, Null, Null], |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(plan.len(), 1, "{plan:?}");
        assert!(!plan[0].contains("TEMP"), "{plan:?}");
    }
}
