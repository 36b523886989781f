//! Says what an error of SQLite means: whether anything was written, and whether the file can still be trusted.

use std::path::{Path, PathBuf};

use rusqlite::ffi::{self, ErrorCode};

use super::disk;

/// If less space than this is free, a failed write counts as lack of space, whatever SQLite calls it.
const NO_SPACE_BYTES: u64 = 1024 * 1024;

/// What can go wrong with an open file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// Nothing was written; the file works again once there is room.
    #[error("no room: {0}")]
    Full(String),
    /// The file's structure is not what was written.
    #[error("the file is damaged: {0}")]
    Corrupt(String),
    /// Another connection or program holds the file; nothing was written.
    #[error("held by another program: {0}")]
    Busy(String),
    /// Every other error. Nobody knows what the disk has now, so this process must not promise anything more about the file.
    #[error("I/O error: {0}")]
    Io(String),
}

/// Why a file could not be opened.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("{path}: {error}; check the disk, the owner of the folder and its permissions")]
    Failed { path: PathBuf, error: StorageError },
    #[error(
        "{path}: written by a newer roombridge (schema {found}, this one knows {known}); use that version"
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
}

impl StorageError {
    /// Classifies an error that came from the file at `path`.
    pub fn of(error: &rusqlite::Error, path: &Path) -> Self {
        let text = error.to_string();
        let rusqlite::Error::SqliteFailure(failure, _) = error else {
            // A value of another type than the schema says, text that is no UTF-8, a statement that fits no table.
            return Self::Corrupt(text);
        };
        match failure.code {
            ErrorCode::DiskFull => Self::Full(text),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Corrupt(text),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy(text),
            // "no such table": the schema is gone from a file that we made.
            ErrorCode::Unknown if failure.extended_code == ffi::SQLITE_ERROR => Self::Corrupt(text),
            _ if lacks_space(failure.extended_code, path) => Self::Full(text),
            _ => Self::Io(text),
        }
    }
}

/// Whether an I/O error comes from lack of space. SQLite reports ENOSPC as SQLITE_FULL when it writes pages, but not when it
/// grows the index of the WAL, and it never does so for EDQUOT. A failed fsync does not count here, because the data may be
/// gone from the page cache.
fn lacks_space(extended_code: i32, path: &Path) -> bool {
    let may_lack_space = [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_SHMMAP]
        .contains(&extended_code);
    let folder = path.parent().unwrap_or(path);
    may_lack_space && disk::free_bytes(folder).is_ok_and(|free| free < NO_SPACE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(extended_code: i32) -> StorageError {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(extended_code), None);
        StorageError::of(&error, Path::new("/"))
    }

    #[test]
    fn a_full_disk_heals_and_a_failed_fsync_does_not() {
        assert!(matches!(meaning(ffi::SQLITE_FULL), StorageError::Full(_)));
        assert!(matches!(meaning(ffi::SQLITE_IOERR_FSYNC), StorageError::Io(_)));
        assert!(matches!(meaning(ffi::SQLITE_IOERR_WRITE), StorageError::Io(_)));
        assert!(matches!(meaning(ffi::SQLITE_READONLY), StorageError::Io(_)));
    }

    #[test]
    fn a_damaged_file_and_a_held_one_are_told_apart() {
        assert!(matches!(meaning(ffi::SQLITE_CORRUPT), StorageError::Corrupt(_)));
        assert!(matches!(meaning(ffi::SQLITE_NOTADB), StorageError::Corrupt(_)));
        assert!(matches!(meaning(ffi::SQLITE_BUSY), StorageError::Busy(_)));
    }
}
