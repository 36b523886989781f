//! The data directory, which keeps what must survive a restart: session stamp, queue tables, positions, mutes, origin key.
//!
//! Promises: when a [`Saving`] is answered, the file is on the disk as a whole; a crash before leaves the old file. To ask for
//! a write never waits for the disk, so a disk that does not answer stops only those who need the answer. Only the owner can
//! read the folder. Two processes never use the same folder.
//! Must never: know a protocol, or keep what can be read back from RocketMQ.
//!
//! Reading blocks on the disk, so only the start of a process reads.

mod positions;
mod queue_tables;
mod session;
mod version;
mod view;
mod writer;

#[cfg(test)]
pub(crate) mod gate;
#[cfg(test)]
mod tests;

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use positions::{Position, Positions};
pub(crate) use queue_tables::SLOTS;
pub use queue_tables::{QueueTables, TopicQueues};
pub use session::SessionState;
pub(crate) use session::Subscription;
pub(crate) use view::{DataDirView, known_brokers};
use writer::{BeforeWrite, Writer};
pub(crate) use writer::{Saving, Unwritten, answered};

const MUTES_FILE: &str = "mutes.json";

/// Why the folder cannot be used. Each text says what happened, to which file, and what to do.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error(
        "{path}: another roombridge (or another command that writes) holds this data directory; stop it, or set another data_dir"
    )]
    InUse { path: PathBuf },
    #[error("{path}: {cause}; check that the data_dir exists or can be made, and its owner")]
    Io { path: PathBuf, cause: io::Error },
    #[error(
        "{path}: could not be written: {cause}; check the disk of the data_dir, its free space and its owner"
    )]
    NotWritten { path: PathBuf, cause: Arc<io::Error> },
    #[error(
        "{path}: could not be written, because the thread that writes has ended; restart, and please report this"
    )]
    WriterEnded { path: PathBuf },
    #[error(
        "{path}: not readable as {what}: {source}; restore it from a backup, or move it away to begin anew"
    )]
    Corrupt { path: PathBuf, what: &'static str, source: serde_json::Error },
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
    writer: Writer,
}

impl DataDir {
    /// Creates the folder (mode 0700) if it is missing, takes its lock, and refuses files of a newer version.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        Self::open_with(path, None)
    }

    fn open_with(path: &Path, before_write: Option<BeforeWrite>) -> Result<Self, DataDirError> {
        let failed = |cause| DataDirError::Io { path: path.to_owned(), cause };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|cause| DataDirError::Io { path: lock_path, cause })?;
        match lock.try_lock() {
            Ok(()) => {
                version::check_all(path)?;
                Ok(Self {
                    path: path.to_owned(),
                    writer: Writer::start(path, lock, before_write).map_err(failed)?,
                })
            }
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// `None` before the first connection.
    pub fn session(&self) -> Result<Option<SessionState>, DataDirError> {
        self.read("session.json", "session state")
    }

    pub fn save_session(&self, session: &SessionState) -> Saving {
        self.save("session.json", session)
    }

    pub fn queue_tables(&self) -> Result<QueueTables, DataDirError> {
        Ok(self.read("queues.json", "queue tables")?.unwrap_or_default())
    }

    pub fn save_queue_tables(&self, tables: &QueueTables) -> Saving {
        self.save("queues.json", tables)
    }

    /// How far this follower of topics has come; empty before its first save.
    pub fn positions(&self, follower: &str) -> Result<Positions, DataDirError> {
        let positions = self.read(&positions_file(follower), "positions in RocketMQ")?;
        Ok(positions.unwrap_or_default())
    }

    pub fn save_positions(&self, follower: &str, positions: &Positions) -> Saving {
        self.save(&positions_file(follower), positions)
    }

    /// The classroom's mutes, in the JSON that it wrote; only the classroom knows what it means.
    pub fn mutes(&self) -> Result<Option<String>, DataDirError> {
        let mutes: Option<serde_json::Value> = self.read(MUTES_FILE, "the classroom's mutes")?;
        Ok(mutes.map(|mutes| mutes.to_string()))
    }

    /// `mutes`: JSON.
    pub fn save_mutes(&self, mutes: &str) -> Saving {
        match serde_json::from_str::<serde_json::Value>(mutes) {
            Ok(mutes) => self.save(MUTES_FILE, &mutes),
            Err(source) => {
                let path = self.path.join(MUTES_FILE);
                let what = "the classroom's mutes";
                Box::pin(async move { Err(DataDirError::Corrupt { path, what, source }) })
            }
        }
    }

    /// The writes that the disk has not answered yet; `None` if there are none.
    pub fn unwritten(&self) -> Option<Unwritten> {
        self.writer.unwritten()
    }

    /// Returns when every write has ended, also those that failed. It has no deadline, so the caller needs one: a disk may never
    /// answer.
    pub async fn idle(&self) {
        self.writer.idle().await;
    }

    /// Returns when nothing can be written any more, because the thread that writes has ended.
    pub async fn writer_ended(&self) {
        self.writer.ended().await;
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key that proves what this bridge stored; drawn on first use. (Bridges that share topics configure a common key
    /// instead.) Blocks on the disk.
    pub fn origin_key(&self) -> Result<Vec<u8>, DataDirError> {
        if let Some(key) = self.read::<Vec<u8>>("origin-key.json", "origin key")? {
            return Ok(key);
        }
        let mut key = vec![0; 32];
        getrandom::fill(&mut key).map_err(DataDirError::Random)?;
        let bytes = serde_json::to_vec_pretty(&key).map_err(io::Error::from);
        let written = bytes.and_then(|bytes| writer::replace(&self.path, "origin-key.json", &bytes));
        written.map_err(|cause| DataDirError::Io { path: self.path.join("origin-key.json"), cause })?;
        Ok(key)
    }

    fn read<T: DeserializeOwned>(&self, name: &str, what: &'static str) -> Result<Option<T>, DataDirError> {
        read(&self.path, name, what)
    }

    fn save<T: Serialize>(&self, name: &str, value: &T) -> Saving {
        let bytes = version::stamped(value).and_then(|value| serde_json::to_vec_pretty(&value));
        match bytes {
            Ok(bytes) => self.writer.save(name, bytes),
            Err(error) => {
                let path = self.path.join(name);
                let cause = Arc::new(io::Error::from(error));
                Box::pin(async move { Err(DataDirError::NotWritten { path, cause }) })
            }
        }
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
            let corrupt = |source| DataDirError::Corrupt { path: path.clone(), what, source };
            let value = serde_json::from_slice(&bytes).map_err(corrupt)?;
            version::check(&path, &value)?;
            serde_json::from_value(value).map(Some).map_err(corrupt)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(DataDirError::Io { path, cause }),
    }
}
