//! The rows of one batch as compact columns: numbers of few bytes, most of them differences, compressed.
//!
//! Must never: trust a number that it reads.

use std::collections::HashMap;
use std::io;

use super::row::Mark;
use crate::model::Kind;

/// More rows make a batch smaller for each row, and slower to read for one row.
pub(super) const BATCH_ROWS: usize = 1024;
/// No row is longer: nine numbers of ten bytes at most, and two bytes.
const MAX_ROW_BYTES: usize = 100;
const LEVEL: i32 = 3;

/// What the columns hold of a row. Queues, rooms and clients are numbers of the file; 0 = none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cells {
    pub queue: u32,
    pub offset: u64,
    pub at_ms: u64,
    pub eff_ms: u64,
    pub rooms: [u32; 2],
    pub client: u32,
    pub kind: Kind,
    pub is_text: bool,
    pub is_line: bool,
    pub mark: Option<Mark>,
    pub words: u8,
}

/// Why columns cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable(pub String);

/// At most [`BATCH_ROWS`] rows.
pub(super) fn encode(rows: &[Cells]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(rows.len() * 16);
    bytes.extend(rows.iter().map(|row| row.words));
    bytes.extend(rows.iter().map(bits_of));
    rows.iter().for_each(|row| push(&mut bytes, row.queue.into()));
    // Each queue by itself: there the offsets follow each other.
    let mut last_of: HashMap<u32, u64> = HashMap::new();
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
    rows.iter().for_each(|row| push(&mut bytes, row.rooms[0].into()));
    rows.iter().for_each(|row| push(&mut bytes, row.rooms[1].into()));
    rows.iter().for_each(|row| push(&mut bytes, row.client.into()));
    zstd::bulk::compress(&bytes, LEVEL)
}

/// `rows`: how many there are.
pub(super) fn decode(compressed: &[u8], rows: usize) -> Result<Vec<Cells>, Unreadable> {
    let unreadable = |what: &str| Unreadable(what.to_owned());
    if rows > BATCH_ROWS {
        return Err(Unreadable(format!("a batch of {rows} rows")));
    }
    let bytes = zstd::bulk::decompress(compressed, rows * MAX_ROW_BYTES)
        .map_err(|error| Unreadable(format!("columns that cannot be decompressed: {error}")))?;
    read(&bytes, rows).ok_or_else(|| unreadable("columns that are cut, or hold numbers that nobody wrote"))
}

fn read(bytes: &[u8], rows: usize) -> Option<Vec<Cells>> {
    let (words, rest) = bytes.split_at_checked(rows)?;
    let (bits, mut rest) = rest.split_at_checked(rows)?;
    let rest = &mut rest;
    let mut cells = Vec::with_capacity(rows);
    for (words, bits) in words.iter().zip(bits) {
        let (kind, is_text, is_line, mark) = of_bits(*bits)?;
        let rooms = [0; 2];
        let queue = narrow(take(rest)?)?;
        cells.push(Cells {
            queue,
            offset: 0,
            at_ms: 0,
            eff_ms: 0,
            rooms,
            client: 0,
            kind,
            is_text,
            is_line,
            mark,
            words: *words,
        });
    }
    let mut last_of: HashMap<u32, u64> = HashMap::new();
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
    for number in 0..2 {
        for row in &mut cells {
            row.rooms[number] = narrow(take(rest)?)?;
        }
    }
    for row in &mut cells {
        row.client = narrow(take(rest)?)?;
    }
    rest.is_empty().then_some(cells)
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
        let names = (0..3_u32, any::<[u32; 2]>(), any::<u32>());
        let rest = (prop::sample::select(Kind::ALL), any::<(bool, bool)>(), mark, any::<u8>());
        (times, names, rest).prop_map(|((offset, at_ms, eff_ms), (queue, rooms, client), rest)| {
            let (kind, (is_text, is_line), mark, words) = rest;
            Cells { queue, offset, at_ms, eff_ms, rooms, client, kind, is_text, is_line, mark, words }
        })
    }

    proptest! {
        #[test]
        fn rows_are_read_back(rows in prop::collection::vec(any_cells(), 0..50)) {
            let bytes = encode(&rows).unwrap();
            prop_assert_eq!(decode(&bytes, rows.len()), Ok(rows));
        }

        #[test]
        fn other_bytes_are_refused_or_read_and_never_trusted(
            rows in prop::collection::vec(any_cells(), 1..20),
            at in any::<prop::sample::Index>(),
            flip in 1..=255_u8,
            said in 0..=BATCH_ROWS + 1,
        ) {
            let mut bytes = encode(&rows).unwrap();
            if said != rows.len() {
                prop_assert!(decode(&bytes, said).is_err());
            }
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let _ = decode(&bytes, rows.len());
            let _ = decode(&bytes[..at], rows.len());
        }
    }

    #[test]
    fn lines_of_many_rooms_need_few_bytes() {
        let mut random = fastrand::Rng::with_seed(1);
        let rows: Vec<_> = (0..BATCH_ROWS as u64)
            .map(|number| Cells {
                queue: random.u32(1..9),
                offset: 1_000_000 + number / 8,
                at_ms: 1_800_000_000_000 + number * 20,
                eff_ms: 1_800_000_000_000 + number * 20 + random.u64(1..9),
                rooms: [random.u32(1..10_000), 0],
                client: random.u32(1..100_000),
                kind: Kind::Message,
                is_text: true,
                is_line: true,
                mark: None,
                words: random.u8(1..30),
            })
            .collect();
        let bytes = encode(&rows).unwrap().len();
        assert!(bytes < 10 * rows.len(), "{bytes} bytes for {} rows", rows.len());
    }
}
