//! What the user can configure about the spool, and what was found when it was opened.

use std::path::PathBuf;
use std::time::Duration;

use super::Depth;
use crate::model::WhenFull;
use crate::storage::{OpenError, StorageError};

/// How large the spool may grow, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpoolSettings {
    /// The file.
    pub path: PathBuf,
    /// Bodies, properties, tags and keys, and a little for each row.
    pub max_bytes: u64,
    /// How many messages it may hold.
    pub max_messages: u64,
    /// The share of one topic that is refused for a reason of its own.
    pub topic_bytes: u64,
    /// A row that has waited longer is deleted and not lent; only time in which a process held the spool counts. `None` = never.
    pub max_age: Option<Duration>,
    /// What becomes of a message that finds no room.
    pub when_full: WhenFull,
    /// With less free space on the file system nothing is taken in.
    pub min_free_bytes: u64,
}

/// What was found when the spool was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OpenReport {
    /// What lay in it already.
    pub depth: Depth,
    /// The file was damaged: what could be read is in a new one.
    pub salvaged: Option<Salvage>,
}

/// What became of a damaged file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Salvage {
    /// The damaged file; it holds what could not be read.
    pub set_aside: PathBuf,
    /// Rows that are in the new file.
    pub rows: u64,
    /// Rows that the file should have had and that are not in the new one; `None` if its own count is unreadable too.
    pub missing: Option<u64>,
}

/// Why there is no spool.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpoolOpenError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "{path}: damaged, and what is readable cannot be copied into a new file: {error}; make room, or move the file away and keep it"
    )]
    Salvage { path: PathBuf, error: StorageError },
    #[error("cannot start a thread for the spool: {0}")]
    Thread(String),
}
