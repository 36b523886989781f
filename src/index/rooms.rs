//! Lists the rooms of an index, by going through the columns of all rows.

use std::collections::HashMap;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::columns::Cells;
use super::error::IndexError;
use super::file::stored;
use super::lessons::{Step, Steps};
use super::reader::{Index, OpenFile, RowReader};
use crate::piece::Place;

/// What is known of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomSummary {
    /// Its name.
    pub room: Arc<str>,
    /// When its first message was said, of whatever kind, milliseconds since 1970-01-01 UTC.
    pub first_at_ms: u64,
    /// When its last message was said, milliseconds since 1970-01-01 UTC.
    pub last_at_ms: u64,
    /// Lines, copies included.
    pub lines: u64,
    /// How many clients said them.
    pub people: u64,
    /// How many lessons they are, see [`super::lessons()`].
    pub lessons: u64,
}

/// One room while its rows come by.
struct Room {
    summary: RoomSummary,
    steps: Steps,
    last: Option<(u64, Arc<Place>, u64)>,
    /// A row came that belongs before another one.
    is_out_of_order: bool,
}

/// All rooms so far.
struct Rooms {
    from_ms: u64,
    gap_ms: u64,
    rooms: Vec<Room>,
    numbers: HashMap<Arc<str>, u32>,
    clients: HashMap<Arc<str>, u32>,
    /// Numbers of rooms and clients.
    people: FxHashSet<(u32, u32)>,
}

/// The numbers that the names of one file have among all; by their number there.
struct OfFile {
    rooms: HashMap<u32, u32>,
    clients: HashMap<u32, u32>,
}

impl Index {
    /// All rooms, sorted by name. Only what was said at or after `from_ms` counts. Memory: about 100 bytes for each room, client, and
    /// client of a room.
    pub(crate) fn rooms(&self, from_ms: Option<u64>, gap_ms: u64) -> Result<Vec<RoomSummary>, IndexError> {
        let mut rooms = Rooms {
            from_ms: from_ms.unwrap_or(0),
            gap_ms,
            rooms: Vec::new(),
            numbers: HashMap::new(),
            clients: HashMap::new(),
            people: FxHashSet::default(),
        };
        for file in self.files()?.values() {
            rooms.read(file)?;
        }
        let mut summaries = Vec::with_capacity(rooms.rooms.len());
        for Room { mut summary, is_out_of_order, .. } in rooms.rooms {
            if is_out_of_order {
                summary.lessons = self.lessons(&summary.room, gap_ms, from_ms)?.len() as u64;
            }
            summaries.push(summary);
        }
        summaries.sort_by(|a, b| a.room.cmp(&b.room));
        Ok(summaries)
    }
}

impl Rooms {
    fn read(&mut self, file: &OpenFile) -> Result<(), IndexError> {
        let failed = |error: rusqlite::Error| file.failed(&error);
        let _moment = file.connection.unchecked_transaction().map_err(failed)?;
        let mut reader = RowReader::new(file)?;
        let mut of_file = OfFile { rooms: HashMap::new(), clients: HashMap::new() };
        let mut find = file
            .connection
            .prepare_cached(
                "SELECT first_row, rows, columns FROM batches WHERE at_max >= ?1 ORDER BY first_row",
            )
            .map_err(failed)?;
        let mut found = find.query([stored(self.from_ms)]).map_err(failed)?;
        while let Some(batch) = found.next().map_err(failed)? {
            let (_, cells) = file.batch_of(batch)?;
            let from_ms = self.from_ms;
            for cells in cells.iter().filter(|cells| cells.at_ms >= from_ms) {
                self.add(cells, &mut of_file, &mut reader)?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        cells: &Cells,
        of_file: &mut OfFile,
        reader: &mut RowReader<'_>,
    ) -> Result<(), IndexError> {
        for room in cells.rooms.iter().filter(|room| **room > 0) {
            let number = match of_file.rooms.get(room) {
                Some(number) => *number,
                None => {
                    let number = self.room(reader.name(*room)?.unwrap_or_default(), cells.at_ms);
                    of_file.rooms.insert(*room, number);
                    number
                }
            };
            let is_new_person = cells.is_line && cells.client > 0 && {
                let client = match of_file.clients.get(&cells.client) {
                    Some(client) => *client,
                    None => {
                        let name = reader.name(cells.client)?.unwrap_or_default();
                        let next = self.clients.len() as u32;
                        let client = *self.clients.entry(name).or_insert(next);
                        of_file.clients.insert(cells.client, client);
                        client
                    }
                };
                self.people.insert((number, client))
            };
            if let Some(room) = self.rooms.get_mut(number as usize) {
                room.summary.people += u64::from(is_new_person);
                room.add(cells, reader.place(cells.queue)?);
            }
        }
        Ok(())
    }

    /// The number of a room.
    fn room(&mut self, room: Arc<str>, at_ms: u64) -> u32 {
        let next = self.rooms.len() as u32;
        let number = *self.numbers.entry(room.clone()).or_insert(next);
        if number == next {
            let summary =
                RoomSummary { room, first_at_ms: at_ms, last_at_ms: at_ms, lines: 0, people: 0, lessons: 0 };
            self.rooms.push(Room {
                summary,
                steps: Steps::new(self.gap_ms),
                last: None,
                is_out_of_order: false,
            });
        }
        number
    }
}

impl Room {
    fn add(&mut self, cells: &Cells, place: Arc<Place>) {
        let summary = &mut self.summary;
        summary.first_at_ms = summary.first_at_ms.min(cells.at_ms);
        summary.last_at_ms = summary.last_at_ms.max(cells.at_ms);
        summary.lines += u64::from(cells.is_line);
        if !cells.is_line && cells.mark.is_none() {
            return;
        }
        let order = (cells.eff_ms, place, cells.offset);
        self.is_out_of_order |= self.last.as_ref().is_some_and(|last| order < *last);
        self.last = Some(order);
        let (step, _) = self.steps.next(cells.at_ms, cells.mark);
        summary.lessons += u64::from(step == Step::Begins);
    }
}
