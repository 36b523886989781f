//! Finds messages: those of a room, of a person, with some words. Knows for each message where it lies, never what it says.
//!
//! `archive.dir` has one SQLite file for each month. It can be removed at any time: the archive and RocketMQ are the source, and the
//! index is made again from them. So whoever reads a message by a row of the index looks whether it is the one.
//!
//! Promises: rows that were committed are found beside the writer; the positions are those of the rows, after every crash; a full
//! disk is an error that names the file, and what was committed before stays; a search gives each hit once, over all its pages, and
//! says when it is not the whole answer.
//! Must never: be needed to read a message; keep a text; trust a number that it reads.

mod columns;
mod error;
mod file;
mod lessons;
mod month_reader;
mod month_writer;
mod query;
mod reader;
mod rooms;
mod row;
mod search;
mod selection;
#[cfg(test)]
mod tests;
mod words;
mod writer;

pub(crate) use error::IndexError;
pub(crate) use lessons::LessonSpan;
pub(crate) use query::{Query, Snippet};
pub(crate) use reader::{Index, RowsAsked};
pub(crate) use rooms::RoomSummary;
pub(crate) use row::{Holes, Mark, NewRow, Position, Row, RowId};
pub(crate) use search::{Found, Order, RANKED, SearchAsked, Total};
pub(crate) use selection::Deadline;
pub(crate) use writer::{COMMIT_ROWS, IndexWriter};
