//! The files of an index, one for each month, and what stands in them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use xxhash_rust::xxh3::xxh3_64;

use super::columns::counted_name;
use super::error::IndexError;
use super::row::{Holes, Month, Position};
use crate::model::{Kind, MessageId, QueueName};
use crate::piece::Place;
use crate::storage::{Durability, LocalFile, beside};

/// One step for each version.
const SCHEMA: &[&str] = &["
    -- How far each queue is indexed in this file. The position of a queue is the farthest of all files.
    CREATE TABLE queues(
        id INTEGER PRIMARY KEY,
        topic TEXT NOT NULL,
        broker TEXT NOT NULL,
        queue_id INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        next_offset INTEGER NOT NULL,
        last_name TEXT,
        eff_ms INTEGER NOT NULL,
        UNIQUE(topic, broker, queue_id, generation));
    -- Rows are numbered from 1 without a gap; a batch holds those from first_row on, as compressed columns
    -- with the names of rooms and clients that they use.
    CREATE TABLE batches(
        first_row INTEGER PRIMARY KEY,
        rows INTEGER NOT NULL,
        at_min INTEGER NOT NULL,
        at_max INTEGER NOT NULL,
        words BLOB NOT NULL,            -- a byte for each row: how many its text has, 255 at most
        columns BLOB NOT NULL);
    -- The words of each row, by its number. The texts themselves are not here.
    CREATE VIRTUAL TABLE lines USING fts5(text, content='', detail=none, columnsize=0, tokenize='ascii');
    -- Deleted words leave the file.
    INSERT INTO lines(lines, rank) VALUES('secure-delete', 1);
    ", "
    -- Where in a queue of the archive messages are lost, so that a reading of a few rows can look there.
    CREATE TABLE holes(queue INTEGER NOT NULL, from_offset INTEGER NOT NULL, PRIMARY KEY(queue, from_offset)) WITHOUT ROWID;
    -- Up to which offset all of them are known.
    CREATE TABLE holes_known(queue INTEGER PRIMARY KEY, to_offset INTEGER NOT NULL);
    "];
/// The first version with holes.
const WITH_HOLES: i64 = 2;
const PREFIX: &str = "index-";
const SUFFIX: &str = ".sqlite3";
const LOCK: &str = "index.lock";
const PAGE_BYTES: u32 = 4096;
/// Of the writer, and of a reader, which has a connection for each month.
const CACHE_KIB: u32 = 8192;
const READER_CACHE_KIB: u32 = 1024;

pub(super) fn path_of(folder: &Path, month: Month) -> PathBuf {
    folder.join(format!("{PREFIX}{month}{SUFFIX}"))
}

pub(super) fn lock_path(folder: &Path) -> PathBuf {
    folder.join(LOCK)
}

pub(super) fn local_file(folder: &Path, month: Month, max_pages: Option<u32>) -> LocalFile {
    LocalFile {
        path: path_of(folder, month),
        schema: SCHEMA,
        page_bytes: PAGE_BYTES,
        cache_kib: CACHE_KIB,
        max_pages,
        durability: Durability::Checkpoint,
    }
}

/// Opens it for reading only. `None`: it is just being made.
pub(super) fn open_to_read(folder: &Path, month: Month) -> Result<Option<Connection>, IndexError> {
    let file = LocalFile { cache_kib: READER_CACHE_KIB, ..local_file(folder, month, None) };
    // Until it has its log it has a journal. If that was left by a process that was killed, only a writer can open the file.
    if beside(&file.path, "-journal").exists() {
        return Ok(None);
    }
    let connection = file.open_read_only()?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
    let version = version.map_err(|error| IndexError::of(&error, &file.path))?;
    Ok((version > 0).then_some(connection))
}

/// The months that have a file, the oldest first. A folder that is missing has none.
pub(super) fn months_in(folder: &Path) -> Result<Vec<Month>, IndexError> {
    let failed = |cause| IndexError::io(cause, folder);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut months = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let month = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
        months.extend(month.and_then(|month| month.parse::<Month>().ok()));
    }
    months.sort();
    Ok(months)
}

/// The queues of a file with their numbers, and how far each is indexed there.
pub(super) fn queues_in(connection: &Connection) -> rusqlite::Result<Vec<(u32, Place, Position)>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, topic, broker, queue_id, generation, next_offset, last_name, eff_ms FROM queues",
    )?;
    let rows = statement.query_map([], |row| {
        let broker: String = row.get(2)?;
        let queue = QueueName { broker: broker.into(), id: row.get(3)? };
        let place = Place { topic: row.get(1)?, queue, generation: row.get(4)? };
        let next_offset = row.get::<_, i64>(5)?.max(0) as u64;
        let eff_ms = row.get::<_, i64>(7)?.max(0) as u64;
        Ok((row.get(0)?, place, Position { next_offset, last_name: row.get(6)?, eff_ms }))
    })?;
    rows.collect()
}

/// The holes of each queue, as far as this file knows them. A file of an earlier version knows none.
pub(super) fn holes_in(connection: &Connection) -> rusqlite::Result<Vec<(Place, Holes)>> {
    if connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? < WITH_HOLES {
        return Ok(Vec::new());
    }
    let mut from_of: HashMap<u32, Vec<u64>> = HashMap::new();
    let mut statement = connection.prepare_cached("SELECT queue, from_offset FROM holes")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        from_of.entry(row.get(0)?).or_default().push(row.get::<_, i64>(1)?.max(0) as u64);
    }
    let mut statement = connection.prepare_cached("SELECT queue, to_offset FROM holes_known")?;
    let known = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.max(0) as u64)))?;
    let known: HashMap<u32, u64> = known.collect::<rusqlite::Result<_>>()?;
    let holes = |(id, place, _)| {
        let known_to = known.get(&id).copied()?;
        Some((place, Holes { known_to, from: from_of.remove(&id).unwrap_or_default() }))
    };
    Ok(queues_in(connection)?.into_iter().filter_map(holes).collect())
}

/// Numbers that SQLite cannot hold become its largest.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

// Tokens that no text makes: each begins with a sign, and a text's tokens hold letters and digits only.
const ROOM: char = '§';
const CLIENT: char = '¶';
const KIND: char = '¤';
const ID: char = '©';

/// Appends the token of a room. Two names may have one token, so a hit is looked at.
pub(super) fn push_room_token(room: &str, tokens: &mut String) {
    push_name_token(ROOM, room, tokens);
}

/// Appends the token of a client; as [`push_room_token`].
pub(super) fn push_client_token(client_id: &str, tokens: &mut String) {
    push_name_token(CLIENT, client_id, tokens);
}

fn push_name_token(sign: char, name: &str, tokens: &mut String) {
    const HASHES: u64 = 36_u64.pow(9);
    tokens.push(sign);
    push_number(tokens, xxh3_64(counted_name(name).as_bytes()) % HASHES, 1);
}

/// Appends the token of a kind.
pub(super) fn push_kind_token(kind: Kind, tokens: &mut String) {
    tokens.push(KIND);
    tokens.push_str(kind.as_str());
}

/// Appends the token of a message id. It is shorter than the id, so a hit is looked at; ids that a boot counts up are near each other,
/// and need little room.
pub(super) fn push_id_token(id: MessageId, tokens: &mut String) {
    const NONCE_BITS: u32 = 15;
    const COUNTERS: u64 = 36_u64.pow(5);
    let (nonce, counter) = id.parts();
    let nonce = nonce.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - NONCE_BITS);
    tokens.push(ID);
    push_number(tokens, nonce, 3);
    push_number(tokens, counter % COUNTERS, 5);
}

/// The token that was appended to nothing.
pub(super) fn token<T>(push: impl FnOnce(T, &mut String), of: T) -> String {
    let mut token = String::new();
    push(of, &mut token);
    token
}

/// Appends a number to the base 36.
fn push_number(text: &mut String, number: u64, least_digits: u32) {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let more = std::iter::successors(Some(number / 36), |rest| Some(rest / 36)).take_while(|rest| *rest > 0);
    let digits = (1 + more.count() as u32).max(least_digits);
    let places = (0..digits).rev().map(|place| number / 36_u64.saturating_pow(place) % 36);
    text.extend(places.map(|digit| char::from(DIGITS[digit as usize])));
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::HashSet;

    #[test]
    fn other_files_of_the_folder_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "index-2026-11.sqlite3",
            "index-2025-01.sqlite3",
            "index-2026-11.sqlite3-wal",
            "index-2026-13.sqlite3",
            "index.lock",
            "v1",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let months = months_in(folder.path()).unwrap();
        assert_eq!(months.iter().map(Month::to_string).collect::<Vec<_>>(), ["2025-01", "2026-11"]);
        assert_eq!(months_in(&folder.path().join("missing")).unwrap(), []);
    }

    #[test]
    fn tokens_of_different_things_differ() {
        let ids = [(0, 0), (0, 1), (1, 0), (7, 36), (7, 35)];
        let names: Vec<_> = (0..100).map(|number| number.to_string()).collect();
        let tokens: Vec<_> = names
            .iter()
            .flat_map(|name| [token(push_room_token, name), token(push_client_token, name)])
            .chain(Kind::ALL.iter().map(|kind| token(push_kind_token, *kind)))
            .chain(ids.map(|(nonce, counter)| token(push_id_token, MessageId::from_parts(nonce, counter))))
            .collect();
        assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), tokens.len());
        // They are in files.
        assert_eq!(token(push_room_token, "room-1"), "§6k50kgdtz");
        assert_eq!(token(push_id_token, MessageId::from_parts(0, 37)), "©00000011");
        assert_eq!(token(push_id_token, MessageId::from_parts(u64::MAX, u64::MAX)).chars().count(), 9);
    }
}
