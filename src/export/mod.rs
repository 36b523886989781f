//! Copies stored messages into files of the user: a room into one file, or everything into a folder that grows run by run.
//!
//! Promises: a line is the archive's own (`docs/ARCHIVE.md`, schema 1), so it holds all that RocketMQ stored, copies included; a file
//! that is there was written to its end, and is never changed; however often a run is killed, the next one makes the folder whole, and
//! no message stands in it twice.
//! Must never: overwrite, or write what one client was told alone unless that is asked for.

mod all;
mod folder;
mod lines_file;
mod room;

use std::io;
use std::path::PathBuf;

use crate::archive::HistoryError;
use crate::model::QueueName;
use crate::pipeline::ports::ReadError;

pub(crate) use all::{Added, AllAsked, export_all};
pub(crate) use folder::{ExportFolder, Settings};
pub(crate) use lines_file::{LinesFile, file_stem};
pub(crate) use room::{Exported, Lines, export_room};

#[cfg(test)]
mod tests;

/// Why an export does not come to its end.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("could not write a line of topic {topic}, queue {queue}, offset {offset}: {cause}")]
    Line { topic: String, queue: QueueName, offset: u64, cause: String },
    #[error("could not write the export: {0}")]
    Output(#[source] io::Error),
    #[error("{} is there already, and an export overwrites nothing; name another one", path.display())]
    Exists { path: PathBuf },
    #[error("could not write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("could not read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("another export works on {}; wait until it has ended", path.display())]
    InUse { path: PathBuf },
    #[error("{} holds other things than an export; name a new or an empty folder", path.display())]
    Foreign { path: PathBuf },
    #[error("{} is damaged: {cause}; move it away, and the next run writes its messages again", path.display())]
    Damaged { path: PathBuf, cause: String },
    #[error("{} was begun with {there}, and goes on so; name another folder for {wanted}", path.display())]
    Otherwise { path: PathBuf, there: String, wanted: String },
    #[error(
        "topic {topic}, queue {queue} is no longer the one that was exported up to offset {position}: the topic was made anew; \
         with an archive both are told apart; without one, name another folder"
    )]
    MadeAnew { topic: String, queue: QueueName, position: u64 },
}
