//! Why a piece was not read, and whether to list the store again helps.

use crate::model::FailureKind;
use crate::piece::{Damage, PieceKey};
use crate::piece_store::StoreError;
use crate::pipeline::ports::ReadError;

/// See the head of this file.
pub(super) enum Trouble {
    /// Something is no longer where it was when the store was listed: a merge replaces pieces, and the archiver goes on.
    Changed(ReadError),
    Failed(ReadError),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Failed(error)
    }
}

impl Trouble {
    pub(super) fn of_store(topic: &str, error: &StoreError) -> Self {
        let failed = ReadError {
            what: format!("topic {topic}, archived"),
            cause: error.to_string(),
            kind: FailureKind::Unknown,
        };
        match error {
            StoreError::Missing { .. } => Self::Changed(failed),
            StoreError::Open { .. }
            | StoreError::NoConditions { .. }
            | StoreError::Failed { .. }
            | StoreError::NoRoom { .. }
            | StoreError::Damaged { .. } => Self::Failed(failed),
        }
    }

    pub(super) fn damaged(key: &PieceKey, damage: &Damage) -> Self {
        Self::unreadable(key, &damage.to_string())
    }

    pub(super) fn unreadable(key: &PieceKey, cause: &str) -> Self {
        Self::Failed(ReadError {
            what: format!("topic {}, archived in {key}", key.place.topic),
            cause: format!("{cause}; `roombridge archive verify` names all such pieces"),
            kind: FailureKind::Unknown,
        })
    }
}
