//! Writes the file of one month: rows, words and positions of one commit in one transaction.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use rustc_hash::FxHashMap;

use super::columns::{BATCH_ROWS, Batch, Cells, Decoder, counted_name, encode};
use super::error::IndexError;
use super::file::{
    local_file, push_client_token, push_id_token, push_kind_token, push_room_token, queues_in, stored,
};
use super::row::{Holes, Month, NewRow, Position};
use super::words::{fold, push_tokens};
use crate::piece::Place;
use crate::storage::{checkpoint, checkpoint_if_due, sync_log};

pub(super) struct MonthWriter {
    path: PathBuf,
    connection: Connection,
    next_row: u64,
    /// Rows of this transaction.
    new: OpenBatch,
    /// The batches at the end of the file that are not full.
    open: Vec<OpenBatch>,
    queues: HashMap<Place, Queue>,
    is_in_transaction: bool,
    /// Whether something was committed that a power cut can take away.
    is_unsynced: bool,
    folded: String,
    tokens: String,
}

/// Rows that others may be put to.
#[derive(Default)]
struct OpenBatch {
    first: u64,
    batch: Batch,
    /// How many words the text of each row has.
    words: Vec<u8>,
    numbers: FxHashMap<Box<str>, u32>,
}

struct Queue {
    id: u32,
    position: Position,
    has_moved: bool,
}

impl MonthWriter {
    pub(super) fn open(folder: &Path, month: Month, max_pages: Option<u32>) -> Result<Self, IndexError> {
        let file = local_file(folder, month, max_pages);
        let connection = file.open()?;
        let path = file.path;
        let failed = |error: rusqlite::Error| IndexError::of(&error, &path);
        let queues = queues_in(&connection).map_err(failed)?;
        let queue = |(id, place, position)| (place, Queue { id, position, has_moved: false });
        let (next_row, open) = batches_at_the_end(&connection, &path)?;
        Ok(Self {
            queues: queues.into_iter().map(queue).collect(),
            path,
            connection,
            next_row,
            new: OpenBatch::default(),
            open,
            is_in_transaction: false,
            is_unsynced: false,
            folded: String::new(),
            tokens: String::new(),
        })
    }

    /// How far a queue is in this file, with what is not committed yet.
    pub(super) fn position(&self, place: &Place) -> Option<&Position> {
        self.queues.get(place).map(|queue| &queue.position)
    }

    pub(super) fn positions(&self) -> impl Iterator<Item = (&Place, &Position)> {
        self.queues.iter().map(|(place, queue)| (place, &queue.position))
    }

    pub(super) fn is_in_transaction(&self) -> bool {
        self.is_in_transaction
    }

    #[cfg(test)]
    pub(super) fn is_unsynced(&self) -> bool {
        self.is_unsynced
    }

    pub(super) fn add(&mut self, row: &NewRow<'_>) -> Result<(), IndexError> {
        self.move_to(row.place, row.offset.saturating_add(1), Some(row.name), row.eff_ms)?;
        let words = self.write_words(row).map_err(|error| IndexError::of(&error, &self.path))?;
        let queue = self.queues.get(row.place).map_or(0, |queue| queue.id);
        if self.new.len() == 0 {
            self.new.first = self.next_row;
        }
        self.new.push(row, queue, words);
        self.next_row += 1;
        Ok(())
    }

    /// Notes that all offsets of a queue before this one were looked at.
    pub(super) fn move_to(
        &mut self,
        place: &Place,
        next_offset: u64,
        last_name: Option<&str>,
        eff_ms: u64,
    ) -> Result<(), IndexError> {
        self.begin().map_err(|error| IndexError::of(&error, &self.path))?;
        if !self.queues.contains_key(place) {
            let id = self.queues.len() as u32 + 1;
            let queue = Queue { id, position: Position::default(), has_moved: true };
            self.queues.insert(place.clone(), queue);
        }
        if let Some(Queue { position, has_moved, .. }) = self.queues.get_mut(place) {
            *has_moved = true;
            position.next_offset = next_offset;
            position.eff_ms = position.eff_ms.max(eff_ms);
            match (&mut position.last_name, last_name) {
                (Some(old), Some(name)) => name.clone_into(old),
                (old, name) => *old = name.map(str::to_owned),
            }
        }
        Ok(())
    }

    /// Notes the holes of a queue.
    pub(super) fn note_holes(&mut self, place: &Place, holes: &Holes) -> Result<(), IndexError> {
        let known = self.position(place).cloned().unwrap_or_default();
        self.move_to(place, known.next_offset, known.last_name.as_deref(), known.eff_ms)?;
        let queue = self.queues.get(place).map_or(0, |queue| queue.id);
        let write = || -> rusqlite::Result<()> {
            let mut hole = self.connection.prepare_cached("INSERT OR IGNORE INTO holes VALUES(?1, ?2)")?;
            for from in &holes.from {
                hole.execute(params![queue, stored(*from)])?;
            }
            let mut known =
                self.connection.prepare_cached("INSERT OR REPLACE INTO holes_known VALUES(?1, ?2)")?;
            known.execute(params![queue, stored(holes.known_to)])?;
            Ok(())
        };
        write().map_err(|error| IndexError::of(&error, &self.path))
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        if !self.is_in_transaction {
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            self.is_in_transaction = true;
        }
        Ok(())
    }

    /// Writes the tokens of the next row. Returns how many words its text has.
    fn write_words(&mut self, row: &NewRow<'_>) -> rusqlite::Result<u64> {
        let tokens = &mut self.tokens;
        tokens.clear();
        push_kind_token(row.kind, tokens);
        for room in row.rooms.iter().take(2) {
            tokens.push(' ');
            push_room_token(room, tokens);
        }
        if let Some(client_id) = row.client_id {
            tokens.push(' ');
            push_client_token(client_id, tokens);
        }
        if let Some(id) = row.id {
            tokens.push(' ');
            push_id_token(id, tokens);
        }
        let words = row.text.map_or(0, |text| {
            fold(text, &mut self.folded);
            push_tokens(&self.folded, tokens)
        });
        self.connection
            .prepare_cached("INSERT INTO lines(rowid, text) VALUES(?1, ?2)")?
            .execute(params![stored(self.next_row), *tokens])?;
        Ok(words)
    }

    /// Returns when everything so far is in the file; a power cut can still take it away.
    pub(super) fn commit(&mut self) -> Result<(), IndexError> {
        if !self.is_in_transaction {
            return Ok(());
        }
        self.write_batches()?;
        let failed = |error: rusqlite::Error| IndexError::of(&error, &self.path);
        write_queues(&self.connection, &mut self.queues).map_err(failed)?;
        self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])).map_err(failed)?;
        self.is_in_transaction = false;
        self.is_unsynced = true;
        checkpoint_if_due(&self.connection).map_err(failed)
    }

    /// Returns when a power cut takes nothing away.
    pub(super) fn sync(&mut self) -> Result<(), IndexError> {
        if std::mem::take(&mut self.is_unsynced) {
            sync_log(&self.path).map_err(|error| IndexError::io(error, &self.path))?;
        }
        Ok(())
    }

    /// Writes the new rows as batches. Small ones at the end become one with them: with a commit each second there would be as many
    /// batches as lines, and with one batch for all each line would be written a thousand times. This way it is written ten times.
    fn write_batches(&mut self) -> Result<(), IndexError> {
        let mut all = std::mem::take(&mut self.new);
        if all.len() == 0 {
            return Ok(());
        }
        while let Some(mut last) = self.open.pop_if(|last| last.len() <= 2 * all.len()) {
            last.append(&all.batch.rows, &all.words, &all.batch);
            all = last;
        }
        let mut delete = self.statement("DELETE FROM batches WHERE first_row >= ?1")?;
        delete.execute([stored(all.first)]).map_err(|error| IndexError::of(&error, &self.path))?;
        drop(delete);
        let mut first = all.first;
        for (rows, words) in all.batch.rows.chunks(BATCH_ROWS).zip(all.words.chunks(BATCH_ROWS)) {
            self.write_batch(first, rows, words, &all.batch)?;
            if rows.len() < BATCH_ROWS {
                let mut rest = OpenBatch { first, ..OpenBatch::default() };
                rest.append(rows, words, &all.batch);
                self.open.push(rest);
            } else {
                self.open.clear();
            }
            first += rows.len() as u64;
        }
        Ok(())
    }

    fn write_batch(&self, first: u64, rows: &[Cells], words: &[u8], batch: &Batch) -> Result<(), IndexError> {
        let columns = encode(rows, batch).map_err(|error| IndexError::io(error, &self.path))?;
        let at_min = rows.iter().map(|row| row.at_ms).min().unwrap_or(0);
        let at_max = rows.iter().map(|row| row.at_ms).max().unwrap_or(0);
        let (row, count) = (stored(first), stored(rows.len() as u64));
        self.statement("INSERT INTO batches VALUES(?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![row, count, stored(at_min), stored(at_max), words, columns])
            .map_err(|error| IndexError::of(&error, &self.path))?;
        Ok(())
    }

    fn statement(&self, sql: &str) -> Result<rusqlite::CachedStatement<'_>, IndexError> {
        self.connection.prepare_cached(sql).map_err(|error| IndexError::of(&error, &self.path))
    }

    /// Moves the log into the file, for the next program that opens it. What is not committed is given up.
    pub(super) fn close(self) -> Result<(), IndexError> {
        if self.is_in_transaction {
            return Ok(());
        }
        checkpoint(&self.connection).map_err(|error| IndexError::of(&error, &self.path))
    }
}

impl OpenBatch {
    fn len(&self) -> usize {
        self.batch.rows.len()
    }

    fn push(&mut self, row: &NewRow<'_>, queue: u32, words: u64) {
        let first_room = row.rooms.first().map_or(0, |room| self.number(room));
        let other_room = row.rooms.get(1).map_or(0, |room| self.number(room));
        // A room that is named twice would be counted twice.
        let rooms = [first_room, if other_room == first_room { 0 } else { other_room }];
        let client = row.client_id.map_or(0, |client| self.number(client));
        self.batch.rows.push(Cells {
            queue,
            offset: row.offset,
            at_ms: row.at_ms,
            eff_ms: row.eff_ms,
            rooms,
            client,
            kind: row.kind,
            is_text: row.text.is_some(),
            is_line: row.is_line,
            mark: row.mark,
        });
        self.words.push(u8::try_from(words).unwrap_or(u8::MAX));
    }

    /// Adds some rows of a batch.
    fn append(&mut self, rows: &[Cells], words: &[u8], of: &Batch) {
        self.words.extend_from_slice(words);
        for row in rows {
            let mut number = |number| of.name(number).map_or(0, |name| self.number(name));
            let (rooms, client) = (row.rooms.map(&mut number), number(row.client));
            self.batch.rows.push(Cells { rooms, client, ..row.clone() });
        }
    }

    /// The number of a name.
    fn number(&mut self, name: &str) -> u32 {
        let name = counted_name(name);
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.batch.push_name(name);
        self.numbers.insert(name.into(), number);
        number
    }
}

fn write_queues(connection: &Connection, queues: &mut HashMap<Place, Queue>) -> rusqlite::Result<()> {
    let mut write = connection.prepare_cached(
        "INSERT INTO queues VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT(id) DO UPDATE SET next_offset = ?6, last_name = ?7, eff_ms = ?8",
    )?;
    for (place, queue) in queues.iter_mut().filter(|(_, queue)| queue.has_moved) {
        let Place { topic, queue: name, generation } = place;
        let Position { next_offset, last_name, eff_ms } = &queue.position;
        write.execute(params![
            queue.id,
            topic,
            &*name.broker,
            name.id,
            generation,
            stored(*next_offset),
            last_name,
            stored(*eff_ms)
        ])?;
        queue.has_moved = false;
    }
    Ok(())
}

/// The number of the next row, and the batches that are not full.
fn batches_at_the_end(connection: &Connection, path: &Path) -> Result<(u64, Vec<OpenBatch>), IndexError> {
    let failed = |error: rusqlite::Error| IndexError::of(&error, path);
    let mut statement = connection
        .prepare("SELECT first_row, rows, columns, words FROM batches ORDER BY first_row DESC")
        .map_err(failed)?;
    let mut found = statement.query([]).map_err(failed)?;
    let (mut next_row, mut open, mut decoder) = (1, Vec::new(), Decoder::default());
    while let Some(row) = found.next().map_err(failed)? {
        let read = || {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, Vec<u8>>(2)?,
                row.get::<_, Vec<u8>>(3)?,
            ))
        };
        let (first, rows, columns, words) = read().map_err(failed)?;
        let (first, rows) = (first.max(0) as u64, usize::try_from(rows).unwrap_or(usize::MAX));
        let batch = decoder.decode(&columns, rows).map_err(|error| IndexError::unreadable(&error, path))?;
        if words.len() != rows {
            let what = format!("the batch of row {first} has other words than rows");
            return Err(IndexError::Damaged { path: path.to_owned(), what });
        }
        next_row = next_row.max(first.saturating_add(batch.rows.len() as u64));
        if batch.rows.len() >= BATCH_ROWS {
            break;
        }
        let mut last = OpenBatch { first, ..OpenBatch::default() };
        last.append(&batch.rows, &words, &batch);
        open.insert(0, last);
    }
    Ok((next_row, open))
}
