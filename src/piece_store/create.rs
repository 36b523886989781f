//! Creates pieces, unless they are there; and proves before, that the store is one that can say so.

use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::{DEADLINE, PieceStore, StoreError, in_words};
use crate::piece::PieceKey;

/// How often a piece is created whose name is taken and which is not there: S3 answers 409 while somebody else's creation of that
/// name is under way, which may fail.
const ATTEMPTS: u32 = 5;
/// Before the next attempt, times its number.
const PAUSE: Duration = Duration::from_millis(200);
/// It stays there, so that the next start asks once.
pub(super) const CONTROL: &str = "control/created-once";
const FIRST: &str =
    "roombridge creates this object twice, to see whether the store refuses the second time\n";
const SECOND: &str = "the store did not refuse to create this object twice\n";

/// What became of a piece that was to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    /// It is there, byte for byte, whoever wrote it.
    Ours,
    /// Another piece has this name.
    Another,
}

impl PieceStore {
    /// Creates the piece, unless there is one of that name.
    pub(crate) async fn create(&self, key: &PieceKey, piece: Bytes) -> Result<Created, StoreError> {
        self.create_object(&Path::from(key.to_string()), piece).await
    }

    /// The same of any object.
    pub(super) async fn create_object(&self, name: &Path, bytes: Bytes) -> Result<Created, StoreError> {
        self.has_room_for(bytes.len())?;
        self.prove().await?;
        for attempt in 1..=ATTEMPTS {
            if self.put_if_absent(name, &bytes).await? {
                return Ok(Created::Ours);
            }
            // It may be our own: an earlier attempt was stored, and its answer was lost.
            match self.object(name).await {
                Ok(there) => return Ok(if there == bytes { Created::Ours } else { Created::Another }),
                Err(StoreError::Missing { .. }) => tokio::time::sleep(PAUSE * attempt).await,
                Err(error) => return Err(error),
            }
        }
        Err(self.problem(&format!("store {name}"), "it says that it has such a file, and has none"))
    }

    /// Whether it was created; if not, somebody has or had this name.
    async fn put_if_absent(&self, name: &Path, bytes: &Bytes) -> Result<bool, StoreError> {
        let what = format!("store {name}");
        if self.is_shared {
            return self.put_new(name, bytes.clone().into(), &what).await;
        }
        match self.in_time(&what, self.store.head(name)).await {
            Ok(_) => Ok(false),
            Err(StoreError::Missing { .. }) => {
                let put = self.store.put(name, bytes.clone().into());
                self.in_time(&what, put).await.map(|_| true)
            }
            Err(error) => Err(error),
        }
    }

    /// The store itself says who was first.
    async fn put_new(&self, name: &Path, bytes: PutPayload, what: &str) -> Result<bool, StoreError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match tokio::time::timeout(DEADLINE, self.store.put_opts(name, bytes, options)).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(Error::AlreadyExists { .. } | Error::Precondition { .. })) => Ok(false),
            Ok(Err(error)) => Err(self.problem(what, &in_words(&error))),
            Err(_) => Err(self.late(what)),
        }
    }

    /// Whether two archivers may work here: asked once, and again only after a failure. Writes nothing but one small object.
    pub(crate) async fn prove(&self) -> Result<(), StoreError> {
        if !self.is_shared {
            return Ok(());
        }
        self.proven.get_or_try_init(|| self.create_twice()).await.copied()
    }

    async fn create_twice(&self) -> Result<(), StoreError> {
        let (name, what) = (Path::from(CONTROL), format!("create {CONTROL}"));
        let was_absent = self.put_new(&name, FIRST.into(), &what).await?;
        if was_absent && self.put_new(&name, SECOND.into(), &what).await? {
            return Err(StoreError::NoConditions { place: self.place.clone() });
        }
        Ok(())
    }
}
