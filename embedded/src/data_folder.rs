//! The folder of one embedded broker: made if missing, and locked so that two processes never share it.
//!
//! Promises: the lock ends with the last owner of the value, or with the process, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::EmbeddedError;

const LOCK_FILE: &str = "roombridge.lock";

pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    pub(crate) fn open(path: PathBuf) -> Result<Self, EmbeddedError> {
        match open_lock(&path) {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(EmbeddedError::DataFolderInUse { path }),
            Err(TryLockError::Error(source)) => Err(EmbeddedError::DataFolder { path, source }),
        }
    }

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
