//! What can be wrong with an index. Nothing of it touches the archive: an index is made again from that.

use std::io;
use std::path::{Path, PathBuf};

use super::columns::Unreadable;
use crate::storage::{OpenError, StorageError};

/// Why the index did not do what was asked. Each text names the file.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("{path}: another roombridge writes the index; stop it, or let it go on")]
    InUse { path: PathBuf },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{path}: {error}; if it is damaged, `roombridge archive rebuild-index` makes the index anew")]
    File { path: PathBuf, error: StorageError },
    #[error("{path}: damaged: {what}; `roombridge archive rebuild-index` makes the index anew")]
    Damaged { path: PathBuf, what: String },
    #[error("{path}: only {free} bytes are free on its disk, and {keep} are left to others; make room")]
    NoRoom { path: PathBuf, free: u64, keep: u64 },
    #[error("{path}: {cause}; check the disk and the owner of the folder")]
    Io { path: PathBuf, cause: io::Error },
    #[error("{path}: an earlier write failed; open the index again and go on from its positions")]
    Failed { path: PathBuf },
}

impl IndexError {
    /// Whether only a rebuild helps.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Open(OpenError::Failed { error, .. }) | Self::File { error, .. } => {
                matches!(error, StorageError::Corrupt(_))
            }
            Self::Open(OpenError::Newer { .. })
            | Self::InUse { .. }
            | Self::NoRoom { .. }
            | Self::Io { .. }
            | Self::Failed { .. } => false,
        }
    }

    pub(super) fn of(error: &rusqlite::Error, path: &Path) -> Self {
        Self::File { path: path.to_owned(), error: StorageError::of(error, path) }
    }

    pub(super) fn io(cause: io::Error, path: &Path) -> Self {
        Self::Io { path: path.to_owned(), cause }
    }

    pub(super) fn unreadable(what: &Unreadable, path: &Path) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.0.clone() }
    }
}
