//! Tries what an archiver asks of a store, without touching a piece.

use std::path::Path as FilePath;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use rustix::fs::{Access, access};

use super::create::CONTROL;
use super::{PieceStore, StoreError};
use crate::model::QueueName;
use crate::piece::{PieceKey, Place};

impl PieceStore {
    /// Creates one small object that stays, reads it, lists, and removes something that is not there. `Err`: in the store's own words.
    pub(crate) async fn try_out(&self) -> Result<(), StoreError> {
        let nowhere = Place {
            topic: "roombridge-check".to_owned(),
            queue: QueueName { broker: "none".into(), id: 0 },
            generation: 0,
        };
        self.pieces(&nowhere.topic).await?;
        if self.folder.is_none() && self.is_shared {
            self.prove().await?;
            let control = Path::from(CONTROL);
            self.in_time(&format!("give {CONTROL}"), self.store.get(&control)).await?;
        }
        self.remove(&PieceKey::new(nowhere, 0, 0, 0)).await
    }
}

/// Whether pieces can be written to that folder, which may not be there yet. Changes nothing.
pub(crate) fn may_write(folder: &FilePath) -> Result<(), StoreError> {
    let failed = |at: &FilePath, cause: &str| StoreError::Open {
        place: folder.display().to_string(),
        cause: format!("{} {cause}", at.display()),
    };
    let there = folder.ancestors().find(|part| part.exists()).unwrap_or(folder);
    if !there.is_dir() {
        return Err(failed(there, "is no folder"));
    }
    access(there, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| failed(there, &format!("cannot be written: {error}")))
}
