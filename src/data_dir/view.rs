//! What commands read of a data directory that a running bridge may hold.
//!
//! Files are replaced whole, so reading needs no lock.

use std::fs;
use std::path::{Path, PathBuf};

use super::{DataDirError, QueueTables, read, version};

/// A data directory, for reading only.
#[derive(Debug, Clone)]
pub struct DataDirView {
    path: PathBuf,
}

impl DataDirView {
    /// The folder must be there, and hold no file of a newer version.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        fs::read_dir(path).map_err(|cause| DataDirError::Io {
            path: path.to_owned(),
            cause,
        })?;
        version::check_all(path)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// `None` before the first start.
    pub fn origin_key(&self) -> Result<Option<Vec<u8>>, DataDirError> {
        read(&self.path, "origin-key.json", "origin key")
    }

    pub fn queue_tables(&self) -> Result<QueueTables, DataDirError> {
        Ok(read(&self.path, "queues.json", "queue tables")?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::DataDir;

    #[test]
    fn a_held_folder_can_be_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataDir::open(folder.path()).unwrap();
        let view = DataDirView::open(folder.path()).unwrap();
        assert_eq!(view.origin_key().unwrap(), None);
        let key = held.origin_key().unwrap();
        assert_eq!(view.origin_key().unwrap(), Some(key));
        assert_eq!(view.queue_tables().unwrap(), QueueTables::default());
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_and_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent");
        let error = DataDirView::open(&absent).unwrap_err().to_string();
        assert!(error.contains("absent") && error.contains("data_dir"), "{error}");
        assert!(!absent.exists());
    }
}
