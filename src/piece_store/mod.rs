//! Where pieces of the archive lie: a local folder, or a bucket.
//!
//! Promises: a piece that was created is on the disk (the local folder is fsynced) and is never changed; of two who create one name,
//! one wins and the other hears it; an upload that was stored although its answer was lost counts as stored.
//! Must never: know what a line says, or overwrite anything.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::piece::{self, Damage, Directory, PieceKey, TAIL_BYTES};

/// One question to the store may take so long.
const DEADLINE: Duration = Duration::from_secs(60);

/// Why a store did not do what was asked.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("could not open the archive at {place}: {cause}; check archive.dir")]
    Open { place: String, cause: String },
    #[error("the archive at {place} did not {what}: {cause}")]
    Failed { place: String, what: String, cause: String },
    #[error("the archive at {place} has no {name} any more")]
    Missing { place: String, name: String },
    #[error(
        "{name} in the archive at {place} is damaged: {damage}; `roombridge archive verify` names all such pieces"
    )]
    Damaged { place: String, name: String, damage: Damage },
}

/// What became of a piece that was to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    /// It is there, byte for byte, whoever wrote it.
    Ours,
    /// Another piece has this name.
    Another,
}

/// A piece as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    /// Its name.
    pub key: PieceKey,
    /// Its length.
    pub bytes: u64,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct PieceStore {
    store: Arc<dyn ObjectStore>,
    place: String,
}

impl fmt::Debug for PieceStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PieceStore({})", self.place)
    }
}

impl PieceStore {
    /// A folder, made if it is missing; only its owner can read it.
    pub(crate) fn in_folder(folder: &FilePath) -> Result<Self, StoreError> {
        let place = folder.display().to_string();
        let failed = |cause: String| StoreError::Open { place: place.clone(), cause };
        if !folder.exists() {
            fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(folder, private).map_err(|error| failed(error.to_string()))?;
        }
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| failed(error.to_string()))?;
        // Without it a piece that answered may be gone after a power cut.
        Ok(Self { store: Arc::new(store.with_fsync(true)), place })
    }

    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        Self { store: Arc::new(object_store::memory::InMemory::new()), place: "memory".to_owned() }
    }

    /// All pieces, sorted as those of a topic are.
    pub(crate) async fn all_pieces(&self) -> Result<Vec<Listed>, StoreError> {
        self.list("").await
    }

    /// All pieces of a topic, sorted by queue, generation, day and offset. What is no piece by its name is left out.
    pub(crate) async fn pieces(&self, topic: &str) -> Result<Vec<Listed>, StoreError> {
        self.list(&PieceKey::prefix_of(topic)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let path = Path::from(prefix);
        let listing = self.store.list(Some(&path)).try_filter_map(|object| async move {
            let key = PieceKey::parse(object.location.as_ref());
            Ok(key.map(|key| Listed { key, bytes: object.size }))
        });
        let mut pieces: Vec<Listed> = self.in_time("list its pieces", listing.try_collect()).await?;
        pieces.sort();
        Ok(pieces)
    }

    /// Creates the piece, unless there is one of that name.
    pub(crate) async fn create(&self, key: &PieceKey, piece: Bytes) -> Result<Created, StoreError> {
        let name = Path::from(key.to_string());
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = self.store.put_opts(&name, piece.clone().into(), options);
        match tokio::time::timeout(DEADLINE, put).await {
            Ok(Ok(_)) => Ok(Created::Ours),
            // It may be our own: an earlier attempt was stored, and its answer was lost.
            Ok(Err(Error::AlreadyExists { .. } | Error::Precondition { .. })) => {
                let there = self.whole(key).await?;
                Ok(if there == piece { Created::Ours } else { Created::Another })
            }
            Ok(Err(error)) => Err(self.failed(&format!("store {key}"), &error)),
            Err(_) => Err(self.late(&format!("store {key}"))),
        }
    }

    /// Reads the directory of a piece.
    pub(crate) async fn directory(&self, piece: &Listed) -> Result<Directory, StoreError> {
        let damaged = |damage| self.damaged(&piece.key, damage);
        let start = piece.bytes.checked_sub(TAIL_BYTES as u64).ok_or_else(|| damaged(Damage::Tail))?;
        let tail = self.range(&piece.key, start..piece.bytes).await?;
        let tail: &[u8; TAIL_BYTES] = tail.as_ref().try_into().map_err(|_| damaged(Damage::Tail))?;
        let range = piece::directory_range(tail, piece.bytes).map_err(damaged)?;
        let bytes = self.range(&piece.key, range).await?;
        piece::directory_of(&bytes, tail, piece.bytes).map_err(damaged)
    }

    /// Some bytes of a piece.
    pub(crate) async fn range(&self, key: &PieceKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        let name = Path::from(key.to_string());
        self.in_time(&format!("give {key}"), self.store.get_range(&name, range)).await
    }

    /// A whole piece.
    pub(crate) async fn whole(&self, key: &PieceKey) -> Result<Bytes, StoreError> {
        let name = Path::from(key.to_string());
        let reading = async { self.store.get(&name).await?.bytes().await };
        self.in_time(&format!("give {key}"), reading).await
    }

    /// Reads and compares a whole piece.
    pub(crate) async fn verify(&self, key: &PieceKey) -> Result<Directory, StoreError> {
        let whole = self.whole(key).await?;
        let verified = tokio::task::spawn_blocking(move || piece::verify(&whole)).await;
        let verified = verified.map_err(|error| self.problem("verify", &error.to_string()))?;
        verified.map_err(|damage| self.damaged(key, damage))
    }

    async fn in_time<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(DEADLINE, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.failed(what, &error)),
            Err(_) => Err(self.late(what)),
        }
    }

    fn failed(&self, what: &str, error: &Error) -> StoreError {
        if let Error::NotFound { path, .. } = error {
            return StoreError::Missing { place: self.place.clone(), name: path.clone() };
        }
        self.problem(what, &error.to_string())
    }

    fn late(&self, what: &str) -> StoreError {
        self.problem(what, &format!("it gave no answer within {} s", DEADLINE.as_secs()))
    }

    fn problem(&self, what: &str, cause: &str) -> StoreError {
        let (what, cause) = (what.to_owned(), cause.to_owned());
        StoreError::Failed { place: self.place.clone(), what, cause }
    }

    fn damaged(&self, key: &PieceKey, damage: Damage) -> StoreError {
        StoreError::Damaged { place: self.place.clone(), name: key.to_string(), damage }
    }
}

/// Where a piece of a local folder lies.
pub(crate) fn file_of(folder: &FilePath, key: &PieceKey) -> PathBuf {
    folder.join(key.to_string())
}

#[cfg(test)]
mod tests;
