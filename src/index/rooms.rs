//! Lists the rooms of an index, by going through the columns of all rows.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::columns::{Cells, Decoder};
use super::error::IndexError;
use super::file::stored;
use super::lessons::{Step, Steps};
use super::month_reader::{Hit, OpenFile, RowReader};
use super::reader::Index;
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
    numbers: FxHashMap<Arc<str>, u32>,
    clients: FxHashMap<Box<str>, u32>,
    /// Numbers of rooms and clients.
    people: FxHashSet<(u32, u32)>,
}

/// The numbers that the names of one batch have among all rooms and among all clients, once they are known.
struct Known {
    rooms: Vec<Option<u32>>,
    clients: Vec<Option<u32>>,
}

impl Index {
    /// All rooms, sorted by name. Only what was said at or after `from_ms` counts. Memory: about 100 bytes for each room, client, and
    /// client of a room.
    pub(crate) fn rooms(&self, from_ms: Option<u64>, gap_ms: u64) -> Result<Vec<RoomSummary>, IndexError> {
        let mut rooms = Rooms {
            from_ms: from_ms.unwrap_or(0),
            gap_ms,
            rooms: Vec::new(),
            numbers: FxHashMap::default(),
            clients: FxHashMap::default(),
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
        let (reader, mut decoder) = (RowReader::new(file)?, Decoder::default());
        let mut find = file
            .connection
            .prepare_cached(
                "SELECT first_row, rows, columns FROM batches WHERE at_max >= ?1 ORDER BY first_row",
            )
            .map_err(failed)?;
        let mut found = find.query([stored(self.from_ms)]).map_err(failed)?;
        while let Some(batch) = found.next().map_err(failed)? {
            let (_, batch) = file.batch_of(batch, &mut decoder)?;
            let unknown = vec![None; batch.names() as usize + 1];
            let mut known = Known { rooms: unknown.clone(), clients: unknown };
            let from_ms = self.from_ms;
            for cells in batch.rows.iter().filter(|cells| cells.at_ms >= from_ms) {
                for room in cells.rooms.into_iter().filter(|room| *room > 0) {
                    let place = reader.place(cells.queue)?;
                    self.add(Hit { cells, batch: &batch }, room, &mut known, place);
                }
            }
        }
        Ok(())
    }

    /// Adds a row to one of its rooms.
    fn add(&mut self, hit: Hit<'_>, room: u32, known: &mut Known, place: Arc<Place>) {
        let Hit { cells, batch } = hit;
        let name = |number| batch.name(number).unwrap_or_default();
        let Some(room) = known_or(&mut known.rooms, room, || self.room(name(room), cells.at_ms)) else {
            return;
        };
        let mut is_new_person = false;
        if cells.is_line
            && cells.client > 0
            && let Some(client) =
                known_or(&mut known.clients, cells.client, || self.client(name(cells.client)))
        {
            is_new_person = self.people.insert((room, client));
        }
        if let Some(room) = self.rooms.get_mut(room as usize) {
            room.summary.people += u64::from(is_new_person);
            room.add(cells, place);
        }
    }

    /// The number of a client.
    fn client(&mut self, client_id: &str) -> u32 {
        if let Some(number) = self.clients.get(client_id) {
            return *number;
        }
        let number = self.clients.len() as u32;
        self.clients.insert(client_id.into(), number);
        number
    }

    /// The number of a room.
    fn room(&mut self, room: &str, at_ms: u64) -> u32 {
        if let Some(number) = self.numbers.get(room) {
            return *number;
        }
        let number = self.rooms.len() as u32;
        let room: Arc<str> = room.into();
        self.numbers.insert(room.clone(), number);
        let (first_at_ms, last_at_ms) = (at_ms, at_ms);
        let summary = RoomSummary { room, first_at_ms, last_at_ms, lines: 0, people: 0, lessons: 0 };
        self.rooms.push(Room { summary, steps: Steps::new(self.gap_ms), last: None, is_out_of_order: false });
        number
    }
}

/// The number of a name, which is found if it is not known yet.
fn known_or(known: &mut [Option<u32>], name: u32, find: impl FnOnce() -> u32) -> Option<u32> {
    known.get_mut(name as usize).map(|number| *number.get_or_insert_with(find))
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
