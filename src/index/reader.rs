//! Reads an index beside its writer.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::IndexError;
use super::file::{holes_in, months_in, queues_in};
use super::month_reader::OpenFile;
use super::row::{Holes, Position, Row, RowId};
use super::selection::{Files, Selection, each};
use crate::model::Kind;
use crate::piece::Place;

/// Blocks on the disk; one question at a time.
pub(crate) struct Index {
    folder: PathBuf,
    files: Mutex<Files>,
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

    /// The holes of the queues, as far as they are known.
    pub(crate) fn holes(&self) -> Result<HashMap<Place, Holes>, IndexError> {
        let mut all: HashMap<Place, Holes> = HashMap::new();
        for file in self.files()?.values() {
            for (place, holes) in holes_in(&file.connection).map_err(|error| file.failed(&error))? {
                let known = all.entry(place).or_default();
                known.known_to = known.known_to.max(holes.known_to);
                known.from.extend(holes.from);
            }
        }
        Ok(all)
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
