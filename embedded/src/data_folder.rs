//! The folder of one embedded broker. It is created if it is missing, and locked so that two processes never share it.
//!
//! Promises: the lock ends when the value is dropped, or when the process ends, however that happens. Other users of this
//! machine read nothing in it: the brokers' crates make files that everybody may read, so the folder is closed.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
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
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(TryLockError::Error)?;
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let lock = options.open(path.join(LOCK_FILE)).map_err(TryLockError::Error)?;
    lock.try_lock()?;
    // An earlier version left it open.
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(TryLockError::Error)?;
    Ok(lock)
}
