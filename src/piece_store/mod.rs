//! Where pieces of the archive lie: a local folder, or a bucket.
//!
//! Promises: a piece that was created is on the disk (the local folder is fsynced) and is never changed; of two who create one name,
//! one wins and the other hears it; an upload that was stored although its answer was lost counts as stored.
//! Must never: know what a line says, or overwrite anything.

mod claim;
mod create;
#[cfg(test)]
pub(crate) mod double;
mod leftovers;
#[cfg(feature = "s3")]
mod s3;
mod trial;

use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use tokio::sync::OnceCell;

use crate::config::ArchiveConfig;
use crate::piece::{self, Damage, Directory, PieceKey, TAIL_BYTES, Taken};
use crate::storage::free_bytes;

pub(crate) use create::Created;
pub(crate) use trial::may_write;

/// One question to the store may take so long.
const DEADLINE: Duration = Duration::from_secs(60);
/// Most directories are shorter, so that one question brings them with the tail.
const END_BYTES: u64 = 16 << 10;
/// So many pieces are asked for their directories at once.
const READ_AT_ONCE: usize = 8;

/// Why a store did not do what was asked.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("could not open the archive at {place}: {cause}; check archive.dir and archive.store")]
    Open { place: String, cause: String },
    #[error(
        "the store at {place} creates an object although it is there (it ignores If-None-Match), so two archivers could overwrite each \
         other's pieces: use another store, or let one archiver work there alone and set archive.single_writer = true"
    )]
    NoConditions { place: String },
    #[error("the archive at {place} did not {what}: {cause}")]
    Failed { place: String, what: String, cause: String },
    #[error(
        "the archive at {place} takes nothing in: {free} bytes are free on its disk, and {least} must stay free for the spool (twice \
         spool.min_free_bytes); make room, or give the archive a disk of its own"
    )]
    NoRoom { place: String, free: u64, least: u64 },
    #[error("the archive at {place} has no {name} any more")]
    Missing { place: String, name: String },
    #[error(
        "{name} in the archive at {place} is damaged: {damage}; `roombridge archive verify` names all such pieces"
    )]
    Damaged { place: String, name: String, damage: Damage },
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
    /// If it is a local one.
    folder: Option<PathBuf>,
    /// Whether somebody else may write, so that the store itself must say who was first.
    is_shared: bool,
    /// So much stays free on the folder's disk.
    leaves_free_bytes: u64,
    /// The store was seen to do that.
    proven: Arc<OnceCell<()>>,
}

impl fmt::Debug for PieceStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PieceStore({})", self.place)
    }
}

impl PieceStore {
    /// The bucket of the configuration, else its folder. Asks a bucket nothing yet.
    pub(crate) fn open(config: &ArchiveConfig) -> Result<Self, StoreError> {
        let Some(bucket) = &config.bucket else {
            return Self::in_folder(&config.dir);
        };
        let place = format!("s3://{}/{}", bucket.name, bucket.prefix);
        #[cfg(feature = "s3")]
        let opened = s3::open(bucket);
        #[cfg(not(feature = "s3"))]
        let opened = Err("this program was built without S3: build it with `--features s3`".to_owned());
        let store: Arc<dyn ObjectStore> =
            opened.map_err(|cause| StoreError::Open { place: place.clone(), cause })?;
        let proven = Arc::new(OnceCell::new());
        let is_shared = !bucket.single_writer;
        Ok(Self { store, place, folder: None, is_shared, leaves_free_bytes: 0, proven })
    }

    /// A folder, made if it is missing; only its owner can read it.
    pub(crate) fn in_folder(folder: &FilePath) -> Result<Self, StoreError> {
        let place = folder.display().to_string();
        let failed = |cause: String| StoreError::Open { place: place.clone(), cause };
        if !folder.exists() {
            make(folder).map_err(|error| failed(error.to_string()))?;
        }
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| failed(error.to_string()))?;
        // Without it a piece that answered may be gone after a power cut.
        let store = Arc::new(store.with_fsync(true));
        // A file system creates a name once.
        let proven = Arc::new(OnceCell::new_with(Some(())));
        let folder = Some(folder.to_owned());
        Ok(Self { store, place, folder, is_shared: true, leaves_free_bytes: 0, proven })
    }

    /// Leaves so many bytes free, if the pieces share a disk with that folder.
    pub(crate) fn leaving_free(mut self, bytes: u64, folder: &FilePath) -> Self {
        let disk_of = |folder: &FilePath| fs::metadata(folder).map(|about| about.dev()).ok();
        if let Some(own) = &self.folder
            && disk_of(own).is_some()
            && disk_of(own) == disk_of(folder)
        {
            self.leaves_free_bytes = bytes;
        }
        self
    }

    /// An archive can wait, because RocketMQ keeps the messages; the spool cannot.
    fn has_room_for(&self, bytes: usize) -> Result<(), StoreError> {
        let Some(folder) = self.folder.as_ref().filter(|_| self.leaves_free_bytes > 0) else { return Ok(()) };
        // Where the disk does not say, it says itself when it is full.
        let Ok(free) = free_bytes(folder) else { return Ok(()) };
        match free < self.leaves_free_bytes.saturating_add(bytes as u64) {
            true => {
                Err(StoreError::NoRoom { place: self.place.clone(), free, least: self.leaves_free_bytes })
            }
            false => Ok(()),
        }
    }

    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        Self::over(Arc::new(object_store::memory::InMemory::new()))
    }

    #[cfg(test)]
    pub(crate) fn over(store: Arc<dyn ObjectStore>) -> Self {
        let proven = Arc::new(OnceCell::new_with(Some(())));
        Self {
            store,
            place: "memory".to_owned(),
            folder: None,
            is_shared: true,
            leaves_free_bytes: 0,
            proven,
        }
    }

    /// All pieces, sorted as those of a topic are.
    pub(crate) async fn all_pieces(&self) -> Result<Vec<Listed>, StoreError> {
        self.list("").await
    }

    /// All pieces of a topic, sorted by queue, generation, day and offset. What is no piece by its name is left out.
    pub(crate) async fn pieces(&self, topic: &str) -> Result<Vec<Listed>, StoreError> {
        self.list(&PieceKey::prefix_of(topic)).await
    }

    /// All pieces of the place and the day of that one.
    pub(crate) async fn pieces_beside(&self, key: &PieceKey) -> Result<Vec<Listed>, StoreError> {
        self.list(&key.folder()).await
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

    /// When the store got the piece, by its own clock, milliseconds since 1970-01-01 UTC.
    pub(crate) async fn stored_ms(&self, key: &PieceKey) -> Result<u64, StoreError> {
        let name = Path::from(key.to_string());
        let object = self.in_time(&format!("say how old {key} is"), self.store.head(&name)).await?;
        Ok(u64::try_from(object.last_modified.timestamp_millis()).unwrap_or(0))
    }

    /// Removes a piece. Somebody else may have done it.
    pub(crate) async fn remove(&self, key: &PieceKey) -> Result<(), StoreError> {
        let name = Path::from(key.to_string());
        match self.in_time(&format!("remove {key}"), self.store.delete(&name)).await {
            Ok(()) | Err(StoreError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads the directory of a piece.
    pub(crate) async fn directory(&self, piece: &Listed) -> Result<Directory, StoreError> {
        let damaged = |damage| self.damaged(&piece.key, damage);
        let start = piece.bytes.saturating_sub(END_BYTES);
        let end = self.range(&piece.key, start..piece.bytes).await?;
        let is_whole = end.len() as u64 == piece.bytes - start;
        let tail = end.last_chunk::<TAIL_BYTES>().filter(|_| is_whole);
        let tail = tail.ok_or_else(|| damaged(Damage::Tail))?;
        let range = piece::directory_range(tail, piece.bytes).map_err(damaged)?;
        let bytes = match range.start.checked_sub(start) {
            Some(at) => end.slice(at as usize..end.len() - TAIL_BYTES),
            None => self.range(&piece.key, range).await?,
        };
        piece::directory_of(&bytes, tail, piece.bytes).map_err(damaged)
    }

    /// The same of several, in their order.
    pub(crate) async fn directories(
        &self,
        pieces: Vec<Listed>,
    ) -> Result<Vec<(Listed, Directory)>, StoreError> {
        let read = |piece: Listed| async move {
            let directory = self.directory(&piece).await?;
            Ok((piece, directory))
        };
        futures::stream::iter(pieces.into_iter().map(read)).buffered(READ_AT_ONCE).try_collect().await
    }

    /// Some bytes of a piece.
    pub(crate) async fn range(&self, key: &PieceKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        let name = Path::from(key.to_string());
        self.in_time(&format!("give {key}"), self.store.get_range(&name, range)).await
    }

    /// A whole piece.
    pub(crate) async fn whole(&self, key: &PieceKey) -> Result<Bytes, StoreError> {
        self.object(&Path::from(key.to_string())).await
    }

    async fn object(&self, name: &Path) -> Result<Bytes, StoreError> {
        let reading = async { self.store.get(name).await?.bytes().await };
        self.in_time(&format!("give {name}"), reading).await
    }

    /// Reads and compares a whole piece.
    pub(crate) async fn verify(&self, key: &PieceKey) -> Result<Directory, StoreError> {
        let whole = self.whole(key).await?;
        let verified = tokio::task::spawn_blocking(move || piece::verify(&whole)).await;
        let verified = verified.map_err(|error| self.problem("verify", &error.to_string()))?;
        verified.map_err(|damage| self.damaged(key, damage))
    }

    /// Takes a range out of a piece.
    pub(crate) async fn take(
        &self,
        key: &PieceKey,
        directory: &Directory,
        from: u64,
        to: u64,
    ) -> Result<Taken, StoreError> {
        let (whole, directory) = (self.whole(key).await?, directory.clone());
        let taken = tokio::task::spawn_blocking(move || Taken::of(&whole, &directory, from, to)).await;
        let taken = taken.map_err(|error| self.problem("read", &error.to_string()))?;
        taken.map_err(|damage| self.damaged(key, damage))
    }

    /// Where a piece lies, as other programs name it.
    pub(crate) fn address(&self, key: &PieceKey) -> String {
        match &self.folder {
            Some(folder) => folder.join(key.to_string()).display().to_string(),
            None => format!("{}/{key}", self.place.trim_end_matches('/')),
        }
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
        match error {
            // It is also how a store says that the bucket is not there.
            Error::NotFound { path, source } if !source.to_string().contains("NoSuchBucket") => {
                StoreError::Missing { place: self.place.clone(), name: path.clone() }
            }
            error => self.problem(what, &in_words(error)),
        }
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

/// Makes the folder, and those above it that are missing. A power cut takes none of them away then.
fn make(folder: &FilePath) -> io::Result<()> {
    let missing: Vec<_> = folder.ancestors().take_while(|above| !above.exists()).collect();
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for above in missing.into_iter().filter_map(FilePath::parent) {
        let above = if above.as_os_str().is_empty() { FilePath::new(".") } else { above };
        fs::File::open(above)?.sync_all()?;
    }
    Ok(())
}

/// With all its causes, once each.
fn in_words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(because) = cause {
        let words = because.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = because.source();
    }
    text
}

#[cfg(test)]
mod tests;
