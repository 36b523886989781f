//! The durable overflow: what RocketMQ cannot take now, fsynced in order per lane; and the local dead letters.
//!
//! Promises: an append is on the disk when it answers; rows come back in order per slot, byte for byte; after an I/O
//! error nothing more is taken in.
//! Must never: know a protocol, or answer for what is not on the disk.

mod clock;
mod dead_letters;
mod handle;
mod index;
mod inspection;
mod lane_table;
mod lent;
mod limits;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod memory;
mod open;
mod port;
mod reader;
mod requests;
mod row;
mod salvage;
mod schema;
mod settings;
mod shared;
mod stage;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use dead_letters::{LocalDeadLetters, StoredLetter};
pub(crate) use handle::SqliteSpool;
pub use inspection::SpoolInspection;
pub(crate) use inspection::TopicInspection;
pub use port::{
    Appended, DeadLetterStore, Depth, LaneKey, Overflow, Row, RowKey, SpoolError, SpoolMessage, Taken,
};
pub(crate) use settings::{OpenReport, Salvage, SpoolOpenError, SpoolSettings};

/// File names in the data directory.
pub(crate) const SPOOL_FILE: &str = "spool.sqlite3";
/// The file of the local dead letters in `data_dir`.
pub(crate) const DEAD_LETTERS_FILE: &str = "dead-letters.sqlite3";
