//! What can be wrong with a piece.

/// What is wrong with the bytes of a piece.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("its last 32 bytes do not say where its directory is: it was cut, or it is no piece")]
    Tail,
    #[error("its directory has other bytes than were written")]
    DirectoryBytes,
    #[error("its directory cannot be read: {0}")]
    Directory(String),
    #[error("it has schema {0}, which this version does not know; use a newer one")]
    Schema(u32),
    #[error("its books do not balance: lines, skipped, erased and lost messages are not its range")]
    Books,
    #[error("frame {0} has other bytes than were written")]
    FrameBytes(usize),
    #[error("frame {frame} cannot be decompressed: {cause}")]
    Frame { frame: usize, cause: String },
    #[error("line {line} of frame {frame} cannot be read: {cause}")]
    Line { frame: usize, line: usize, cause: String },
    #[error("its frames do not lie one after the other")]
    Frames,
    #[error("its lines are not where the directory says, or not in order, or one stands twice")]
    Lines,
}
