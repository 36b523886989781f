//! The folder of what must outlive the process: session stamp, queue tables, positions, origin key; one process at a time.
//!
//! Promises: a write is on the disk, whole or not at all, when the call returns; the folder is readable by its owner
//! only; two processes never hold one folder.
//! Must never: know a protocol, or keep what can be read back from RocketMQ.

mod positions;
mod queue_tables;
mod session;
mod version;
mod view;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use positions::{Position, Positions};
pub use queue_tables::{QueueTables, SLOTS, TopicQueues};
pub use session::SessionState;
pub use view::DataDirView;

const MUTES_FILE: &str = "mutes.json";

/// Why the folder cannot be used: what happened, to what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error(
        "{path}: another roombridge (or another command that writes) holds this data directory; stop it, or set another data_dir"
    )]
    Held { path: PathBuf },
    #[error("{path}: {cause}; check that the data_dir exists or can be made, and its owner")]
    Io { path: PathBuf, cause: io::Error },
    #[error(
        "{path}: not readable as {what}: {source}; restore it from a backup, or move it away to begin anew"
    )]
    Corrupt {
        path: PathBuf,
        what: &'static str,
        source: serde_json::Error,
    },
    #[error(
        "{path}: written by a newer roombridge (version {found}, this one knows {known}); use that version"
    )]
    Newer { path: PathBuf, found: u64, known: u64 },
    #[error("could not draw random bytes: {0}")]
    Random(getrandom::Error),
}

/// An open, locked data directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held for its lock, which ends with the process.
    _lock: File,
}

impl DataDir {
    /// Makes the folder (mode 0700) where needed, takes its lock, and refuses files of a newer version.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |cause| DataDirError::Io {
            path: path.to_owned(),
            cause,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|cause| DataDirError::Io {
                path: lock_path,
                cause,
            })?;
        match lock.try_lock() {
            Ok(()) => {
                version::check_all(path)?;
                Ok(Self {
                    path: path.to_owned(),
                    _lock: lock,
                })
            }
            Err(TryLockError::WouldBlock) => Err(DataDirError::Held {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// `None` before the first connection.
    pub fn session(&self) -> Result<Option<SessionState>, DataDirError> {
        self.read("session.json", "session state")
    }

    pub fn save_session(&self, session: &SessionState) -> Result<(), DataDirError> {
        self.write("session.json", session)
    }

    pub fn queue_tables(&self) -> Result<QueueTables, DataDirError> {
        Ok(self.read("queues.json", "queue tables")?.unwrap_or_default())
    }

    pub fn save_queue_tables(&self, tables: &QueueTables) -> Result<(), DataDirError> {
        self.write("queues.json", tables)
    }

    /// Where that follower of topics has come to; empty before its first save.
    pub fn positions(&self, follower: &str) -> Result<Positions, DataDirError> {
        let positions = self.read(&positions_file(follower), "positions in RocketMQ")?;
        Ok(positions.unwrap_or_default())
    }

    pub fn save_positions(&self, follower: &str, positions: &Positions) -> Result<(), DataDirError> {
        self.write(&positions_file(follower), positions)
    }

    /// The classroom's mutes as it wrote them; what they mean is its own affair.
    pub fn mutes(&self) -> Result<Option<String>, DataDirError> {
        let mutes: Option<serde_json::Value> = self.read(MUTES_FILE, "the classroom's mutes")?;
        Ok(mutes.map(|mutes| mutes.to_string()))
    }

    /// `mutes`: JSON.
    pub fn save_mutes(&self, mutes: &str) -> Result<(), DataDirError> {
        let value: serde_json::Value =
            serde_json::from_str(mutes).map_err(|source| DataDirError::Corrupt {
                path: self.path.join(MUTES_FILE),
                what: "the classroom's mutes",
                source,
            })?;
        self.write(MUTES_FILE, &value)
    }

    /// The key that marks what this bridge stored, made on first use. Bridges that share topics set a common one.
    pub fn origin_key(&self) -> Result<Vec<u8>, DataDirError> {
        if let Some(key) = self.read::<Vec<u8>>("origin-key.json", "origin key")? {
            return Ok(key);
        }
        let mut key = vec![0; 32];
        getrandom::fill(&mut key).map_err(DataDirError::Random)?;
        self.write("origin-key.json", &key)?;
        Ok(key)
    }

    fn read<T: DeserializeOwned>(&self, name: &str, what: &'static str) -> Result<Option<T>, DataDirError> {
        read(&self.path, name, what)
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), DataDirError> {
        let path = self.path.join(name);
        self.replace(&path, value)
            .map_err(|cause| DataDirError::Io { path, cause })
    }

    fn replace<T: Serialize>(&self, path: &Path, value: &T) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
        file.write_all(&serde_json::to_vec_pretty(&version::stamped(value)?)?)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(&self.path)?.sync_all()
    }
}

fn positions_file(follower: &str) -> String {
    format!("positions-{follower}.json")
}

/// `None` if there is no such file.
fn read<T: DeserializeOwned>(
    folder: &Path,
    name: &str,
    what: &'static str,
) -> Result<Option<T>, DataDirError> {
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(bytes) => {
            let corrupt = |source| DataDirError::Corrupt {
                path: path.clone(),
                what,
                source,
            };
            let value = serde_json::from_slice(&bytes).map_err(corrupt)?;
            version::check(&path, &value)?;
            serde_json::from_value(value).map(Some).map_err(corrupt)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(DataDirError::Io { path, cause }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::QueueName;

    #[test]
    fn a_second_process_is_kept_off() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataDir::open(folder.path()).unwrap();
        let error = DataDir::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("another roombridge"), "{error}");
        drop(held);
        DataDir::open(folder.path()).unwrap();
    }

    #[test]
    fn what_was_written_is_there_for_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let mut tables = QueueTables::default();
        let queues = (0..4)
            .map(|id| QueueName {
                broker: "a".into(),
                id,
            })
            .collect();
        tables.topics.insert("room".into(), TopicQueues::first(queues));
        let key = {
            let data_dir = DataDir::open(folder.path()).unwrap();
            assert!(data_dir.session().unwrap().is_none());
            data_dir.save_queue_tables(&tables).unwrap();
            data_dir.origin_key().unwrap()
        };
        let data_dir = DataDir::open(folder.path()).unwrap();
        assert_eq!(data_dir.queue_tables().unwrap(), tables);
        assert_eq!(data_dir.origin_key().unwrap(), key);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("session.json"), "{").unwrap();
        let error = DataDir::open(folder.path()).unwrap().session().unwrap_err();
        assert!(error.to_string().contains("session.json"), "{error}");
    }
}
