//! The writer of an index: adds messages in the order of the history, and remembers how far each queue is.
//!
//! Each month has a file, and its position of a queue is in the transaction of its rows. A queue goes on from one month to the next; so
//! before a later file is committed, the earlier ones are on the disk. Whatever a crash or a power cut takes away, no file says of
//! a queue that it is farther than the rows of all files are.

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::IndexError;
use super::file::{holes_in, lock_path, months_in, open_to_read, path_of, queues_in};
use super::month_writer::MonthWriter;
use super::row::{Holes, Month, NewRow, Position};
use crate::piece::Place;
use crate::storage::{free_bytes, remove};

/// A commit with more rows makes other commits of the disk wait, one with fewer costs more for each row.
pub(crate) const COMMIT_ROWS: usize = 5000;
/// At the turn of a month two are written to. More are needed only where brokers' clocks are far apart.
const OPEN_FILES: usize = 3;

/// Blocks on the disk. There is one for a folder, whichever process holds it.
pub(crate) struct IndexWriter {
    folder: PathBuf,
    min_free_bytes: u64,
    max_pages: Option<u32>,
    files: BTreeMap<Month, MonthWriter>,
    /// Of the files that are not open.
    positions: HashMap<Place, Position>,
    /// Up to which offset of each queue all holes are known.
    holes_known: HashMap<Place, u64>,
    has_failed: bool,
    _lock: File,
}

impl IndexWriter {
    /// Opens the index of a folder, or begins one. With less free space than `min_free_bytes` on its disk nothing is written.
    pub(crate) fn open(folder: &Path, min_free_bytes: u64) -> Result<Self, IndexError> {
        Self::open_with(folder, min_free_bytes, None)
    }

    /// `max_pages`: see [`crate::storage::LocalFile`].
    pub(super) fn open_with(
        folder: &Path,
        min_free_bytes: u64,
        max_pages: Option<u32>,
    ) -> Result<Self, IndexError> {
        let lock = locked(folder)?;
        let (mut positions, mut holes_known) = (HashMap::new(), HashMap::new());
        for month in months_in(folder)? {
            let Some(connection) = open_to_read(folder, month)? else { continue };
            let failed = |error: rusqlite::Error| IndexError::of(&error, &path_of(folder, month));
            let queues = queues_in(&connection).map_err(failed)?;
            for (place, holes) in holes_in(&connection).map_err(failed)? {
                let known = holes_known.entry(place).or_insert(0);
                *known = holes.known_to.max(*known);
            }
            queues
                .into_iter()
                .for_each(|(_, place, position)| keep_farthest(&mut positions, place, position));
        }
        Ok(Self {
            folder: folder.to_owned(),
            min_free_bytes,
            max_pages,
            files: BTreeMap::new(),
            positions,
            holes_known,
            has_failed: false,
            _lock: lock,
        })
    }

    /// Removes all files of the index, so that it is made anew. Nobody may write it meanwhile.
    pub(crate) fn remove_all(folder: &Path) -> Result<(), IndexError> {
        let _lock = locked(folder)?;
        // The newest first: what a crash leaves then still is the beginning of an index.
        for month in months_in(folder)?.into_iter().rev() {
            let path = path_of(folder, month);
            remove(&path).map_err(|error| IndexError::io(error, &path))?;
        }
        Ok(())
    }

    /// How far a queue is indexed, with what was added and is not committed yet; `None`: nothing of it is.
    pub(crate) fn position(&self, place: &Place) -> Option<&Position> {
        let open = self.files.values().filter_map(|file| file.position(place));
        open.chain(self.positions.get(place)).max_by_key(|position| position.next_offset)
    }

    /// All queues, each as far as [`Self::position`] says.
    pub(crate) fn positions(&self) -> HashMap<Place, Position> {
        let mut all = self.positions.clone();
        for (place, position) in self.files.values().flat_map(MonthWriter::positions) {
            keep_farthest(&mut all, place.clone(), position.clone());
        }
        all
    }

    /// Up to which offset of a queue all holes are known.
    pub(crate) fn holes_known(&self) -> &HashMap<Place, u64> {
        &self.holes_known
    }

    /// Adds a message; one before the position of its queue is in the index already, and is left out. After an error the writer
    /// is of no more use: drop it, open the index again and go on from its positions.
    pub(crate) fn add(&mut self, row: &NewRow<'_>) -> Result<(), IndexError> {
        if self.position(row.place).is_some_and(|position| row.offset < position.next_offset) {
            return Ok(());
        }
        self.remember_failure(|writer| writer.file(Month::of(row.eff_ms))?.add(row))
    }

    /// Notes that the offsets of a queue before `position` hold nothing to index; as [`Self::add`].
    pub(crate) fn skip_to(&mut self, place: &Place, position: &Position) -> Result<(), IndexError> {
        if self.position(place).is_some_and(|old| position.next_offset <= old.next_offset) {
            return Ok(());
        }
        let Position { next_offset, last_name, eff_ms } = position;
        self.remember_failure(|writer| {
            writer.file(Month::of(*eff_ms))?.move_to(place, *next_offset, last_name.as_deref(), *eff_ms)
        })
    }

    /// Notes the holes of a queue, in the month of `eff_ms`; as [`Self::add`].
    pub(crate) fn note_holes(&mut self, place: &Place, holes: &Holes, eff_ms: u64) -> Result<(), IndexError> {
        self.holes_known.insert(place.clone(), holes.known_to);
        self.remember_failure(|writer| writer.file(Month::of(eff_ms))?.note_holes(place, holes))
    }

    /// Makes everything that was added part of the index, with the positions; readers see it from now on. As [`Self::add`].
    pub(crate) fn commit(&mut self) -> Result<(), IndexError> {
        self.remember_failure(Self::commit_files)
    }

    fn commit_files(&mut self) -> Result<(), IndexError> {
        self.check_free_space()?;
        let changed = |(month, file): (&Month, &MonthWriter)| file.is_in_transaction().then_some(*month);
        for month in self.files.iter().filter_map(changed).collect::<Vec<_>>() {
            for (other, file) in &mut self.files {
                if *other != month {
                    file.sync()?;
                }
            }
            if let Some(file) = self.files.get_mut(&month) {
                file.commit()?;
            }
        }
        self.close_all_but(OPEN_FILES)
    }

    /// Closes the files, so that whoever reads them needs no log. What is not committed is given up.
    pub(crate) fn close(mut self) -> Result<(), IndexError> {
        self.close_all_but(0)
    }

    fn close_all_but(&mut self, count: usize) -> Result<(), IndexError> {
        while self.files.len() > count
            && let Some((_, mut file)) = self.files.pop_first()
        {
            let positions = file.positions().map(|(place, position)| (place.clone(), position.clone()));
            positions.for_each(|(place, position)| keep_farthest(&mut self.positions, place, position));
            file.sync()?;
            file.close()?;
        }
        Ok(())
    }

    fn file(&mut self, month: Month) -> Result<&mut MonthWriter, IndexError> {
        use std::collections::btree_map::Entry;
        match self.files.entry(month) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(MonthWriter::open(&self.folder, month, self.max_pages)?)),
        }
    }

    fn check_free_space(&self) -> Result<(), IndexError> {
        let free = free_bytes(&self.folder).map_err(|error| IndexError::io(error, &self.folder))?;
        if free < self.min_free_bytes {
            return Err(IndexError::NoRoom { path: self.folder.clone(), free, keep: self.min_free_bytes });
        }
        Ok(())
    }

    fn remember_failure(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        if self.has_failed {
            return Err(IndexError::Failed { path: self.folder.clone() });
        }
        let done = work(self);
        if done.is_err() {
            // Half a transaction would come into the file with the next commit.
            self.has_failed = true;
            self.files.clear();
        }
        done
    }
}

fn keep_farthest(positions: &mut HashMap<Place, Position>, place: Place, position: Position) {
    let known = positions.entry(place).or_default();
    if position.next_offset >= known.next_offset {
        *known = position;
    }
}

fn locked(folder: &Path) -> Result<File, IndexError> {
    let path = lock_path(folder);
    let failed = |error| IndexError::io(error, &path);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mut options = OpenOptions::new();
    let lock = options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(IndexError::InUse { path }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::index::{Index, RowsAsked};
    use crate::model::{Kind, QueueName};

    const DECEMBER_MS: u64 = 1_796_083_200_000;

    fn add(writer: &mut IndexWriter, offset: u64, eff_ms: u64) {
        let place = place();
        let row = NewRow {
            place: &place,
            offset,
            name: "name",
            at_ms: eff_ms,
            eff_ms,
            rooms: &["1"],
            client_id: None,
            kind: Kind::Message,
            id: None,
            text: Some("hello"),
            is_line: true,
            mark: None,
        };
        writer.add(&row).unwrap();
    }

    fn place() -> Place {
        Place { topic: "room".to_owned(), queue: QueueName { broker: "b".into(), id: 0 }, generation: 0 }
    }

    fn next_offset(folder: &Path) -> Option<u64> {
        IndexWriter::open(folder, 0).unwrap().position(&place()).map(|position| position.next_offset)
    }

    /// Rule 31: a crash between the files of one commit leaves the rows of the first and their position.
    #[test]
    fn a_crash_between_two_months_leaves_the_first_and_its_position() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = IndexWriter::open(folder.path(), 0).unwrap();
        add(&mut writer, 7, DECEMBER_MS - 1);
        add(&mut writer, 8, DECEMBER_MS);
        writer.files.first_entry().unwrap().get_mut().commit().unwrap();
        drop(writer);
        assert_eq!(next_offset(folder.path()), Some(8));
        let index = Index::open(folder.path()).unwrap().unwrap();
        assert_eq!(index.rows_of_room(&RowsAsked::default()).unwrap().len(), 1);
    }

    /// Rule 31: before a position of a later month can reach the disk, the rows before it are there.
    #[test]
    fn an_earlier_month_is_on_the_disk_before_a_later_one_is_committed() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = IndexWriter::open(folder.path(), 0).unwrap();
        add(&mut writer, 0, DECEMBER_MS - 1);
        writer.commit().unwrap();
        let unsynced = |writer: &IndexWriter| -> Vec<bool> {
            writer.files.values().map(MonthWriter::is_unsynced).collect()
        };
        assert_eq!(unsynced(&writer), [true]);
        add(&mut writer, 1, DECEMBER_MS);
        writer.commit().unwrap();
        assert_eq!(unsynced(&writer), [false, true]);
        // Another queue may still be in the month before.
        writer
            .skip_to(
                &Place { generation: 1, ..place() },
                &Position { next_offset: 5, last_name: None, eff_ms: 0 },
            )
            .unwrap();
        writer.commit().unwrap();
        assert_eq!(unsynced(&writer), [true, false, false]);
    }

    #[test]
    fn files_of_many_months_are_not_open_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = IndexWriter::open(folder.path(), 0).unwrap();
        for number in 0..6 {
            add(&mut writer, number, DECEMBER_MS + number * 31 * 24 * 3_600_000);
            writer.commit().unwrap();
            assert!(writer.files.len() <= OPEN_FILES);
            assert_eq!(writer.position(&place()).unwrap().next_offset, number + 1);
        }
    }

    /// Whatever a crash leaves is the beginning of an index, and its positions are those of its rows.
    #[test]
    fn a_removal_begins_with_the_newest_month() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = IndexWriter::open(folder.path(), 0).unwrap();
        add(&mut writer, 0, DECEMBER_MS - 1);
        add(&mut writer, 1, DECEMBER_MS);
        writer.commit().unwrap();
        drop(writer);
        let newest = path_of(folder.path(), Month::of(DECEMBER_MS));
        remove(&newest).unwrap();
        // It cannot be removed as a file.
        std::fs::create_dir(&newest).unwrap();
        let error = IndexWriter::remove_all(folder.path()).unwrap_err();
        assert!(error.to_string().contains("index-2026-12.sqlite3"), "{error}");
        std::fs::remove_dir(&newest).unwrap();
        assert_eq!(next_offset(folder.path()), Some(1));
        IndexWriter::remove_all(folder.path()).unwrap();
        assert_eq!(next_offset(folder.path()), None);
    }
}
