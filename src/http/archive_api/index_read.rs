//! Asks the index, on a thread that may wait for a disk.

use std::sync::Arc;

use super::error::ApiError;
use super::limits::Permit;
use super::{Api, DEADLINE};
use crate::index::{Index, IndexError};

impl Api {
    /// The answer of the index to one question.
    ///
    /// One that takes longer than the deadline ends by itself, and counts until then. Each question opens the index for itself: one that takes long then holds up nobody.
    pub(super) async fn ask_index<T: Send + 'static>(
        self: &Arc<Self>,
        permit: Permit,
        question: impl FnOnce(&Index) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let folder = self.parts.folder.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            Index::open(&folder)?.map(|index| question(&index)).transpose()
        });
        match tokio::time::timeout(DEADLINE, asked).await {
            Ok(Ok(Ok(Some(answer)))) => Ok(answer),
            Ok(Ok(Ok(None))) => Err(ApiError::NoIndex),
            Ok(Ok(Err(error))) => Err(ApiError::Upstream(error.to_string())),
            Ok(Err(died)) => Err(ApiError::Upstream(format!("the index could not be asked: {died}"))),
            Err(_) => Err(ApiError::Late),
        }
    }
}
