//! The folder of one embedded broker. It is created if it is missing, and locked so that two processes never share it.
//!
//! Promises: the lock ends when the value is dropped, or when the process ends, however that happens.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::EmbeddedError;

const LOCK_FILE: &str = "roombridge.lock";

/// A locked folder.
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Creates the folder if it is missing, and locks it; an error if another process has it.
    pub(crate) fn open(path: PathBuf) -> Result<Self, EmbeddedError> {
        match open_lock(&path) {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(EmbeddedError::DataFolderInUse { path }),
            Err(TryLockError::Error(source)) => Err(EmbeddedError::DataFolder { path, source }),
        }
    }

    /// Where the broker writes.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn open_lock(path: &Path) -> Result<File, TryLockError> {
    std::fs::create_dir_all(path).map_err(TryLockError::Error)?;
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join(LOCK_FILE))
        .map_err(TryLockError::Error)?;
    lock.try_lock()?;
    Ok(lock)
}
