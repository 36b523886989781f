//! Reads an index beside its writer: finds the rows with some tokens, the newest first, over all months.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, params};

use super::columns::{Batch, Cells, Decoder, counted_name};
use super::error::IndexError;
use super::file::{
    months_in, open_to_read, path_of, push_client_token, push_kind_token, push_room_token, queues_in, stored,
    token,
};
use super::query::Tokens;
use super::row::{Month, Position, Row, RowId};
use crate::model::{Clock, Kind};
use crate::piece::Place;

/// Blocks on the disk; one question at a time.
pub(crate) struct Index {
    folder: PathBuf,
    files: Mutex<Files>,
}

/// The files of an index, the oldest first.
pub(super) type Files = BTreeMap<Month, OpenFile>;

pub(super) struct OpenFile {
    pub month: Month,
    pub path: PathBuf,
    pub connection: Connection,
    /// Device and number of the file: after a rebuild another one has its name.
    identity: (u64, u64),
}

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

/// What is asked for of a room.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowsAsked<'a> {
    /// The room; `None` = of all rooms, and of none.
    pub room: Option<&'a str>,
    /// Said at or after this time, milliseconds since 1970-01-01 UTC.
    pub from_ms: Option<u64>,
    /// Said before this time, milliseconds since 1970-01-01 UTC.
    pub to_ms: Option<u64>,
    /// Only so many of the newest; `None` = all.
    pub newest: Option<usize>,
    /// Only rows before this one.
    pub before: Option<RowId>,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only of this client.
    pub client_id: Option<&'a str>,
}

impl Index {
    /// `None`: the folder has no index.
    pub(crate) fn open(folder: &Path) -> Result<Option<Self>, IndexError> {
        let index = Self { folder: folder.to_owned(), files: Mutex::new(Files::new()) };
        let is_empty = index.files()?.is_empty();
        Ok((!is_empty).then_some(index))
    }

    /// How far each queue is indexed.
    pub(crate) fn positions(&self) -> Result<HashMap<Place, Position>, IndexError> {
        let mut positions: HashMap<Place, Position> = HashMap::new();
        for file in self.files()?.values() {
            for (_, place, position) in queues_in(&file.connection).map_err(|error| file.failed(&error))? {
                let known = positions.entry(place).or_default();
                if position.next_offset >= known.next_offset {
                    *known = position;
                }
            }
        }
        Ok(positions)
    }

    /// The rows of a room, the oldest first. Memory: about 150 bytes for each.
    pub(crate) fn rows_of_room(&self, asked: &RowsAsked<'_>) -> Result<Vec<Row>, IndexError> {
        let selection = Selection {
            room: asked.room,
            client_id: asked.client_id,
            kind: asked.kind,
            from_ms: asked.from_ms,
            to_ms: asked.to_ms,
            before: asked.before,
            ..Selection::default()
        };
        let mut rows = Vec::new();
        let is_enough = |count: usize| asked.newest.is_some_and(|newest| count >= newest);
        if is_enough(0) {
            return Ok(rows);
        }
        let files = self.files()?;
        each(&files, &selection, &mut |reader, row| {
            if selection.is_meant(reader.hit(row)?) {
                rows.push(reader.row(row)?);
            }
            Ok(if is_enough(rows.len()) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        rows.reverse();
        Ok(rows)
    }

    /// The files as they are now.
    pub(super) fn files(&self) -> Result<MutexGuard<'_, Files>, IndexError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let months = months_in(&self.folder)?;
        files.retain(|month, file| months.contains(month) && file.is_still_there());
        for month in months {
            if !files.contains_key(&month)
                && let Some(file) = OpenFile::open(&self.folder, month)?
            {
                files.insert(month, file);
            }
        }
        Ok(files)
    }
}

impl OpenFile {
    fn open(folder: &Path, month: Month) -> Result<Option<Self>, IndexError> {
        let path = path_of(folder, month);
        let identity = identity_of(&path).map_err(|error| IndexError::io(error, &path))?;
        let connection = open_to_read(folder, month)?;
        Ok(connection.map(|connection| Self { month, path, connection, identity }))
    }

    fn is_still_there(&self) -> bool {
        identity_of(&self.path).is_ok_and(|identity| identity == self.identity)
    }

    pub(super) fn failed(&self, error: &rusqlite::Error) -> IndexError {
        IndexError::of(error, &self.path)
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> IndexError {
        IndexError::Damaged { path: self.path.clone(), what: what.into() }
    }
}

fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
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
        match each_of_file(file, selection, visit)? {
            Ended::Whole => {}
            ended @ (Ended::Stopped | Ended::OutOfTime) => return Ok(ended),
        }
    }
    Ok(Ended::Whole)
}

const FIND: &str =
    "SELECT rowid FROM lines WHERE lines MATCH ?1 AND rowid >= ?2 AND rowid <= ?3 ORDER BY rowid DESC";

fn each_of_file(
    file: &OpenFile,
    selection: &Selection<'_>,
    visit: &mut Visit<'_>,
) -> Result<Ended, IndexError> {
    let failed = |error: rusqlite::Error| file.failed(&error);
    // One moment of the file: the writer puts batches together meanwhile.
    let _moment = file.connection.unchecked_transaction().map_err(failed)?;
    let Some((first, last)) = selection.range(file).map_err(failed)? else { return Ok(Ended::Whole) };
    let mut find = file.connection.prepare_cached(FIND).map_err(failed)?;
    let mut found = find.query(params![selection.expression(), first, last]).map_err(failed)?;
    let mut reader = RowReader::new(file)?;
    while let Some(row) = found.next().map_err(failed)? {
        let row = row.get::<_, i64>(0).map_err(failed)?.max(0) as u64;
        if visit(&mut reader, row)?.is_break() {
            return Ok(Ended::Stopped);
        }
        // SQLite's own ways to interrupt a statement do not reach into FTS5, where the time goes.
        if selection.is_out_of_time() {
            return Ok(Ended::OutOfTime);
        }
    }
    Ok(Ended::Whole)
}

/// A row as it stands in its batch.
#[derive(Clone, Copy)]
pub(super) struct Hit<'a> {
    pub cells: &'a Cells,
    pub batch: &'a Batch,
}

/// Says what stands in a row of one file; remembers the batch that was read last.
pub(super) struct RowReader<'a> {
    file: &'a OpenFile,
    decoder: Decoder,
    first: u64,
    batch: Batch,
    /// Of the batch that was asked for last, by its first row.
    words: (u64, Vec<u8>),
    /// Each once, however many rows have it.
    names: HashSet<Arc<str>>,
    places: HashMap<u32, Arc<Place>>,
}

impl<'a> RowReader<'a> {
    pub(super) fn new(file: &'a OpenFile) -> Result<Self, IndexError> {
        let queues = queues_in(&file.connection).map_err(|error| file.failed(&error))?;
        let places = queues.into_iter().map(|(id, place, _)| (id, Arc::new(place))).collect();
        Ok(Self {
            file,
            decoder: Decoder::default(),
            first: 0,
            batch: Batch::default(),
            words: (0, Vec::new()),
            names: HashSet::new(),
            places,
        })
    }

    pub(super) fn id(&self, row: u64) -> RowId {
        RowId { month: self.file.month, row }
    }

    pub(super) fn hit(&mut self, row: u64) -> Result<Hit<'_>, IndexError> {
        let of = |first: u64| row.checked_sub(first).and_then(|at| usize::try_from(at).ok());
        if of(self.first).is_none_or(|at| at >= self.batch.rows.len()) {
            (self.first, self.batch) = self.batch_with(row)?;
        }
        let (file, batch) = (self.file, &self.batch);
        let cells = of(self.first).and_then(|at| batch.rows.get(at));
        let cells =
            cells.ok_or_else(|| file.damaged(format!("row {row} has words and stands in no batch")))?;
        Ok(Hit { cells, batch })
    }

    /// How many words the text of a row has, 255 at most; reads nothing else of it.
    pub(super) fn words(&mut self, row: u64) -> Result<u8, IndexError> {
        let (first, words) = &self.words;
        let at = row.checked_sub(*first).and_then(|at| usize::try_from(at).ok());
        if let Some(words) = at.and_then(|at| words.get(at)) {
            return Ok(*words);
        }
        let sql =
            "SELECT first_row, words FROM batches WHERE first_row <= ?1 ORDER BY first_row DESC LIMIT 1";
        let read = || {
            let mut find = self.file.connection.prepare_cached(sql)?;
            find.query_row([stored(row)], |found| Ok((found.get::<_, i64>(0)?.max(0) as u64, found.get(1)?)))
        };
        let (first, words): (u64, Vec<u8>) = read().map_err(|error| self.file.failed(&error))?;
        let at = usize::try_from(row.saturating_sub(first)).unwrap_or(usize::MAX);
        let found = words.get(at).copied();
        self.words = (first, words);
        found.ok_or_else(|| self.file.damaged(format!("row {row} has words and stands in no batch")))
    }

    fn batch_with(&mut self, row: u64) -> Result<(u64, Batch), IndexError> {
        let file = self.file;
        let failed = |error: rusqlite::Error| file.failed(&error);
        let mut find = file
            .connection
            .prepare_cached(
                "SELECT first_row, rows, columns FROM batches WHERE first_row <= ?1 ORDER BY first_row DESC LIMIT 1",
            )
            .map_err(failed)?;
        let mut found = find.query([stored(row)]).map_err(failed)?;
        match found.next().map_err(failed)? {
            Some(found) => self.file.batch_of(found, &mut self.decoder),
            None => Err(self.file.damaged(format!("row {row} has words and stands in no batch"))),
        }
    }

    pub(super) fn row(&mut self, row: u64) -> Result<Row, IndexError> {
        let cells = self.hit(row)?.cells.clone();
        let place = self.place(cells.queue)?;
        Ok(Row {
            id: self.id(row),
            place,
            offset: cells.offset,
            at_ms: cells.at_ms,
            eff_ms: cells.eff_ms,
            room: self.name(cells.rooms[0]),
            other_room: self.name(cells.rooms[1]),
            client_id: self.name(cells.client),
            kind: cells.kind,
            is_text: cells.is_text,
            is_line: cells.is_line,
            mark: cells.mark,
        })
    }

    pub(super) fn place(&self, queue: u32) -> Result<Arc<Place>, IndexError> {
        let place = self.places.get(&queue).cloned();
        place.ok_or_else(|| self.file.damaged(format!("queue {queue} is not in its list")))
    }

    fn name(&mut self, number: u32) -> Option<Arc<str>> {
        let name = self.batch.name(number)?;
        if let Some(name) = self.names.get(name) {
            return Some(name.clone());
        }
        let name: Arc<str> = name.into();
        self.names.insert(name.clone());
        Some(name)
    }
}

impl OpenFile {
    /// The first row of a batch and its rows; `found`: its columns `first_row`, `rows` and `columns`.
    pub(super) fn batch_of(
        &self,
        found: &rusqlite::Row<'_>,
        decoder: &mut Decoder,
    ) -> Result<(u64, Batch), IndexError> {
        let mut read = || {
            let (first, rows): (i64, i64) = (found.get(0)?, found.get(1)?);
            let rows = usize::try_from(rows).unwrap_or(usize::MAX);
            let batch = found.get_ref(2)?.as_blob().map(|columns| decoder.decode(columns, rows));
            Ok((first.max(0) as u64, batch?))
        };
        let (first, batch) = read().map_err(|error: rusqlite::Error| self.failed(&error))?;
        Ok((first, batch.map_err(|error| IndexError::unreadable(&error, &self.path))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
