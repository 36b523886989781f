//! The rows of one batch as compact columns: numbers of few bytes, most of them differences, and the names of rooms and clients once
//! each; all compressed.
//!
//! Must never: trust a number that it reads.

use std::io;

use rustc_hash::FxHashMap;

use super::row::Mark;
use crate::model::Kind;

/// More rows make a batch smaller for each row, and slower to read for one row.
pub(super) const BATCH_ROWS: usize = 1024;
/// Of a longer name of a room or a client only the beginning counts.
const NAME_BYTES: usize = 1024;
/// No row is longer: eleven numbers of ten bytes at most, a byte, and three names with their lengths.
const MAX_ROW_BYTES: usize = 128 + 3 * (NAME_BYTES + 10);
const LEVEL: i32 = 3;

/// What the columns hold of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cells {
    /// The number of the queue in its file.
    pub queue: u32,
    pub offset: u64,
    pub at_ms: u64,
    pub eff_ms: u64,
    /// Numbers of names in the batch, from 1; 0 = none.
    pub rooms: [u32; 2],
    pub client: u32,
    pub kind: Kind,
    pub is_text: bool,
    pub is_line: bool,
    pub mark: Option<Mark>,
}

/// Rows, and the names that they use.
#[derive(Debug, Clone, Default)]
pub(super) struct Batch {
    pub rows: Vec<Cells>,
    names: Names,
}

/// One text after the other.
#[derive(Debug, Clone, Default)]
struct Names {
    text: String,
    ends: Vec<usize>,
}

/// Why columns cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable(pub String);

/// The part of a name that counts.
pub(super) fn counted_name(name: &str) -> &str {
    name.get(..name.floor_char_boundary(NAME_BYTES)).unwrap_or(name)
}

impl Names {
    fn get(&self, number: u32) -> Option<&str> {
        let at = (number as usize).checked_sub(1)?;
        let begin = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.text.get(begin..*self.ends.get(at)?)
    }

    fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }
}

impl Batch {
    /// `None`: the row has none.
    pub(super) fn name(&self, number: u32) -> Option<&str> {
        self.names.get(number)
    }

    /// How many names there are; they have the numbers from 1 on.
    pub(super) fn names(&self) -> u32 {
        self.names.ends.len() as u32
    }

    /// Adds a name, which is not there yet, and returns its number.
    pub(super) fn push_name(&mut self, name: &str) -> u32 {
        self.names.push(name);
        self.names()
    }
}

/// At most [`BATCH_ROWS`] rows of a batch.
pub(super) fn encode(rows: &[Cells], batch: &Batch) -> io::Result<Vec<u8>> {
    // Sorted, neighbours are alike, and need little room.
    let mut used: Vec<_> = rows.iter().flat_map(numbers_of).filter(|number| *number > 0).collect();
    used.sort_unstable_by_key(|number| batch.name(*number));
    used.dedup();
    let new: FxHashMap<u32, u64> = used.iter().copied().zip(1..).collect();
    let new = |number: u32| new.get(&number).copied().unwrap_or(0);

    let mut bytes = Vec::with_capacity(rows.len() * 32);
    bytes.extend(rows.iter().map(bits_of));
    rows.iter().for_each(|row| push(&mut bytes, row.queue.into()));
    // Each queue by itself: there the offsets follow each other.
    let mut last_of: FxHashMap<u32, u64> = FxHashMap::default();
    for row in rows {
        let last = last_of.insert(row.queue, row.offset).unwrap_or(0);
        push(&mut bytes, difference(row.offset, last));
    }
    let mut last = 0;
    for row in rows {
        push(&mut bytes, difference(row.at_ms, last));
        last = row.at_ms;
    }
    rows.iter().for_each(|row| push(&mut bytes, difference(row.eff_ms, row.at_ms)));
    for column in 0..3 {
        rows.iter().for_each(|row| push(&mut bytes, new(numbers_of(row)[column])));
    }
    push(&mut bytes, used.len() as u64);
    let names = || used.iter().filter_map(|number| batch.name(*number));
    names().for_each(|name| push(&mut bytes, name.len() as u64));
    names().for_each(|name| bytes.extend_from_slice(name.as_bytes()));
    zstd::bulk::compress(&bytes, LEVEL)
}

fn numbers_of(row: &Cells) -> [u32; 3] {
    [row.rooms[0], row.rooms[1], row.client]
}

/// Reads batches, one after the other.
#[derive(Default)]
pub(super) struct Decoder(Option<zstd::bulk::Decompressor<'static>>);

impl Decoder {
    /// `rows`: how many there are.
    pub(super) fn decode(&mut self, compressed: &[u8], rows: usize) -> Result<Batch, Unreadable> {
        if rows > BATCH_ROWS {
            return Err(Unreadable(format!("a batch of {rows} rows")));
        }
        let bytes = self
            .decompress(compressed, rows * MAX_ROW_BYTES + 1)
            .map_err(|error| Unreadable(format!("columns that cannot be decompressed: {error}")))?;
        let unreadable = || Unreadable("columns that are cut, or hold numbers that nobody wrote".to_owned());
        read(&bytes, rows).ok_or_else(unreadable)
    }

    fn decompress(&mut self, compressed: &[u8], most_bytes: usize) -> io::Result<Vec<u8>> {
        let decompressor = match self.0.take() {
            Some(decompressor) => decompressor,
            None => zstd::bulk::Decompressor::new()?,
        };
        self.0.insert(decompressor).decompress(compressed, most_bytes)
    }
}

fn read(bytes: &[u8], rows: usize) -> Option<Batch> {
    let (bits, mut rest) = bytes.split_at_checked(rows)?;
    let rest = &mut rest;
    let mut cells = Vec::with_capacity(rows);
    for bits in bits {
        let (kind, is_text, is_line, mark) = of_bits(*bits)?;
        let queue = narrow(take(rest)?)?;
        let (offset, at_ms, eff_ms, rooms, client) = (0, 0, 0, [0; 2], 0);
        cells.push(Cells { queue, offset, at_ms, eff_ms, rooms, client, kind, is_text, is_line, mark });
    }
    let mut last_of: FxHashMap<u32, u64> = FxHashMap::default();
    for row in &mut cells {
        let last = last_of.entry(row.queue).or_insert(0);
        row.offset = plus(*last, take(rest)?);
        *last = row.offset;
    }
    let mut last = 0;
    for row in &mut cells {
        row.at_ms = plus(last, take(rest)?);
        last = row.at_ms;
    }
    for row in &mut cells {
        row.eff_ms = plus(row.at_ms, take(rest)?);
    }
    let mut highest = 0;
    let mut name = || -> Option<u32> {
        let number = narrow(take(rest)?)?;
        highest = highest.max(number);
        Some(number)
    };
    for row in &mut cells {
        row.rooms[0] = name()?;
    }
    for row in &mut cells {
        row.rooms[1] = name()?;
    }
    for row in &mut cells {
        row.client = name()?;
    }
    let names = read_names(rest)?;
    (highest as usize <= names.ends.len()).then_some(Batch { rows: cells, names })
}

fn read_names(rest: &mut &[u8]) -> Option<Names> {
    // Each has at least its length, so there are no more than bytes.
    let count = usize::try_from(take(rest)?).ok().filter(|count| *count <= rest.len())?;
    let mut ends = Vec::with_capacity(count);
    let mut end = 0_usize;
    for _ in 0..count {
        end = end.checked_add(usize::try_from(take(rest)?).ok()?)?;
        ends.push(end);
    }
    let text = str::from_utf8(rest).ok()?;
    let is_whole = text.len() == end && ends.iter().all(|end| text.is_char_boundary(*end));
    is_whole.then(|| Names { text: text.to_owned(), ends })
}

fn narrow(number: u64) -> Option<u32> {
    u32::try_from(number).ok()
}

/// The smaller the difference, in either direction, the smaller the number.
fn difference(number: u64, before: u64) -> u64 {
    let signed = number.wrapping_sub(before) as i64;
    ((signed << 1) ^ (signed >> 63)) as u64
}

/// The way back of [`difference`].
fn plus(before: u64, difference: u64) -> u64 {
    before.wrapping_add((difference >> 1) ^ (difference & 1).wrapping_neg())
}

/// Seven bits a byte, the lowest first; the highest bit says that more follows.
fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    // Most are short.
    if let Some((byte, rest)) = bytes.split_first().filter(|(byte, _)| **byte < 0x80) {
        *bytes = rest;
        return Some(u64::from(*byte));
    }
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

const IS_TEXT: u8 = 1 << 3;
const IS_LINE: u8 = 1 << 4;
const MARK_START: u8 = 1 << 5;
const MARK_END: u8 = 1 << 6;

/// The numbers are in files, so they never change.
fn bits_of(row: &Cells) -> u8 {
    let kind = match row.kind {
        Kind::Other => 0,
        Kind::Message => 1,
        Kind::Command => 2,
        Kind::Status => 3,
        Kind::System => 4,
        Kind::P2p => 5,
    };
    let mark = match row.mark {
        None => 0,
        Some(Mark::Start) => MARK_START,
        Some(Mark::End) => MARK_END,
    };
    kind | mark | if row.is_text { IS_TEXT } else { 0 } | if row.is_line { IS_LINE } else { 0 }
}

fn of_bits(bits: u8) -> Option<(Kind, bool, bool, Option<Mark>)> {
    let kind = match bits & 7 {
        0 => Kind::Other,
        1 => Kind::Message,
        2 => Kind::Command,
        3 => Kind::Status,
        4 => Kind::System,
        5 => Kind::P2p,
        _ => return None,
    };
    let mark = match bits & !(7 | IS_TEXT | IS_LINE) {
        0 => None,
        MARK_START => Some(Mark::Start),
        MARK_END => Some(Mark::End),
        _ => return None,
    };
    Some((kind, bits & IS_TEXT != 0, bits & IS_LINE != 0, mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn any_cells() -> impl Strategy<Value = Cells> {
        let mark = prop_oneof![Just(None), Just(Some(Mark::Start)), Just(Some(Mark::End))];
        let number = prop_oneof![0..20_u64, any::<u64>()];
        let times = (number.clone(), number.clone(), number);
        let names = (0..3_u32, [0..6_u32, 0..6], 0..6_u32);
        let rest = (prop::sample::select(Kind::ALL), any::<(bool, bool)>(), mark);
        (times, names, rest).prop_map(|((offset, at_ms, eff_ms), (queue, rooms, client), rest)| {
            let (kind, (is_text, is_line), mark) = rest;
            Cells { queue, offset, at_ms, eff_ms, rooms, client, kind, is_text, is_line, mark }
        })
    }

    fn batch_of(rows: Vec<Cells>) -> Batch {
        let mut batch = Batch { rows, names: Names::default() };
        for name in ["b", "课", "", "a", "GID_x@@@1"] {
            batch.push_name(name);
        }
        batch
    }

    /// The rows with their names in the place of numbers.
    fn told(batch: &Batch) -> Vec<(Cells, [Option<&str>; 3])> {
        let told = |row: &Cells| {
            let names = numbers_of(row).map(|number| batch.name(number));
            (Cells { rooms: [0; 2], client: 0, ..row.clone() }, names)
        };
        batch.rows.iter().map(told).collect()
    }

    proptest! {
        #[test]
        fn rows_are_read_back(rows in prop::collection::vec(any_cells(), 0..50)) {
            let batch = batch_of(rows);
            let bytes = encode(&batch.rows, &batch).unwrap();
            let found = Decoder::default().decode(&bytes, batch.rows.len()).unwrap();
            prop_assert_eq!(told(&found), told(&batch));
        }

        #[test]
        fn other_bytes_are_refused_or_read_and_never_trusted(
            rows in prop::collection::vec(any_cells(), 1..20),
            at in any::<prop::sample::Index>(),
            flip in 1..=255_u8,
            said in 0..=BATCH_ROWS + 1,
        ) {
            let batch = batch_of(rows);
            let mut bytes = encode(&batch.rows, &batch).unwrap();
            if said != batch.rows.len() {
                prop_assert!(Decoder::default().decode(&bytes, said).is_err());
            }
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            for bytes in [&bytes[..], &bytes[..at]] {
                if let Ok(found) = Decoder::default().decode(bytes, batch.rows.len()) {
                    told(&found);
                }
            }
            let raw: Vec<u8> = bytes.iter().map(|byte| byte & 0x0f).collect();
            read(&raw, batch.rows.len());
        }
    }

    #[test]
    fn lines_of_many_rooms_and_people_need_few_bytes() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut batch = Batch::default();
        let mut name = |name: String| batch.push_name(&name);
        let rows: Vec<_> = (0..BATCH_ROWS as u64)
            .map(|number| {
                let room = random.u32(1..10_000);
                Cells {
                    queue: random.u32(1..9),
                    offset: 1_000_000 + number / 8,
                    at_ms: 1_800_000_000_000 + number * 20,
                    eff_ms: 1_800_000_000_000 + number * 20 + random.u64(1..9),
                    rooms: [name(format!("room{room}")), 0],
                    client: name(format!("GID_student@@@{room}-{}", random.u32(0..40))),
                    kind: Kind::Message,
                    is_text: true,
                    is_line: true,
                    mark: None,
                }
            })
            .collect();
        let bytes = encode(&rows, &batch).unwrap().len();
        assert!(bytes < 20 * rows.len(), "{bytes} bytes for {} rows", rows.len());
    }

    #[test]
    fn a_very_long_name_counts_by_its_beginning() {
        let long = "学".repeat(1000);
        assert_eq!(counted_name(&long).chars().count(), 341);
        assert_eq!(counted_name("kim"), "kim");
    }
}
