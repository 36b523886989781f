//! The tables of `spool.sqlite3`. Operators read them with the `sqlite3` tool, so their names are a promise.

use std::path::Path;

use super::SpoolSettings;
use crate::storage::{Durability, LocalFile};

/// One step for each version.
pub(super) const SCHEMA: &[&str] = &["
    -- One row for each RocketMQ topic and slot of order keys. The counters change in the transaction of their rows.
    CREATE TABLE lanes(
        lane INTEGER PRIMARY KEY,
        topic TEXT NOT NULL,
        slot INTEGER NOT NULL,
        next INTEGER NOT NULL,          -- the number of the next message
        messages INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        UNIQUE(topic, slot));
    -- What waits. Within a lane the numbers have no gap when they are written; rows leave in any order.
    CREATE TABLE messages(
        position INTEGER PRIMARY KEY,   -- lane * 2^40 + number
        lane INTEGER AS (position >> 40) VIRTUAL,
        number INTEGER AS (position & 1099511627775) VIRTUAL,
        kind TEXT NOT NULL,
        tag TEXT NOT NULL,
        keys TEXT NOT NULL,
        properties TEXT NOT NULL,       -- JSON: [[name, value], ...]
        body BLOB NOT NULL,
        bytes INTEGER NOT NULL,         -- what the row counts for in lanes.bytes
        spooled_ms INTEGER NOT NULL,    -- wall time, for people; nothing is decided by it
        age_clock_ms INTEGER NOT NULL,  -- spool_clock at that moment
        crc INTEGER NOT NULL);          -- CRC-32 of topic, slot, number and everything above
    -- Rows whose CRC was wrong when they were read.
    CREATE TABLE damaged(
        lane INTEGER, number INTEGER, kind, tag, keys, properties, body, bytes, spooled_ms, age_clock_ms, crc);
    -- For how long some process has held this file, in all.
    CREATE TABLE spool_clock(only_row INTEGER PRIMARY KEY CHECK(only_row = 1), running_ms INTEGER NOT NULL);
    INSERT INTO spool_clock VALUES(1, 0);
    "];

/// Keeps a row whose checksum is wrong.
pub(super) const SET_ASIDE: &str = "INSERT INTO damaged
    SELECT lane, number, kind, tag, keys, properties, body, bytes, spooled_ms, age_clock_ms, crc
    FROM messages WHERE position = ?1";

const NUMBER_BITS: u32 = 40;
/// Numbers of a lane, and ids of lanes, are below these.
pub(super) const NUMBERS: i64 = 1 << NUMBER_BITS;
pub(super) const LANES: i64 = 1 << 22;

/// The key of a row: one number for two, because a table WITHOUT ROWID would move every row of more than a quarter of a
/// page to pages of its own.
pub(super) fn position(lane: i64, number: u64) -> i64 {
    lane << NUMBER_BITS | (number as i64).clamp(0, NUMBERS - 1)
}

pub(super) const PAGE_BYTES: u32 = 4096;
pub(super) const CACHE_KIB: u32 = 4096;

/// A file needs more than the bytes that are counted: page headers, half-filled pages, JSON quotes. Beyond this it never
/// grows, which is the second limit behind `max_bytes`.
fn max_pages(max_bytes: u64) -> u32 {
    const RESERVE_BYTES: u64 = 16 * 1024 * 1024;
    let file_bytes = max_bytes.saturating_mul(2).saturating_add(RESERVE_BYTES);
    u32::try_from(file_bytes / u64::from(PAGE_BYTES)).map_or(u32::MAX - 1, |pages| pages.min(u32::MAX - 1))
}

/// How the spool's file is opened.
pub(super) fn file(settings: &SpoolSettings) -> LocalFile {
    file_at(&settings.path, Some(max_pages(settings.max_bytes)))
}

pub(super) fn file_at(path: &Path, max_pages: Option<u32>) -> LocalFile {
    LocalFile {
        path: path.to_owned(),
        schema: SCHEMA,
        page_bytes: PAGE_BYTES,
        cache_kib: CACHE_KIB,
        max_pages,
        durability: Durability::Commit,
    }
}
