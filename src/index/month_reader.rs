//! Reads the file of one month: says what stands in its rows.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use super::columns::{Batch, Cells, Decoder};
use super::error::IndexError;
use super::file::{open_to_read, path_of, queues_in, stored};
use super::row::{Month, Row, RowId};
use crate::piece::Place;

pub(super) struct OpenFile {
    pub month: Month,
    pub path: PathBuf,
    pub connection: Connection,
    /// Device and number of the file: after a rebuild another one has its name.
    identity: (u64, u64),
}

impl OpenFile {
    pub(super) fn open(folder: &Path, month: Month) -> Result<Option<Self>, IndexError> {
        let path = path_of(folder, month);
        let identity = identity_of(&path).map_err(|error| IndexError::io(error, &path))?;
        let connection = open_to_read(folder, month)?;
        Ok(connection.map(|connection| Self { month, path, connection, identity }))
    }

    pub(super) fn is_still_there(&self) -> bool {
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
