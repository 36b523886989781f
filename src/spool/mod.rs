//! The durable overflow holds what RocketMQ cannot take now, fsynced, in order per lane. The local dead letters lie here, too.
//!
//! Promises: when an append answers, its messages are on the disk. Rows come back in order per slot, byte for byte. After an
//! I/O error the spool takes nothing more in.
//! Must never: know a protocol, or say that something is on the disk which is not.

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
