//! Finds lines and lessons for people: asks the index where something lies, and the message itself what it says.
//!
//! Promises: a hit was read and compared with what was looked for; what could not be read, or was not looked at, is counted and said.
//! Must never: show what the index alone says of a text, or take a part of an answer for the whole one.

mod at_places;
mod behind;
mod conflicts;
mod hits;
mod lessons;
#[cfg(test)]
mod tests;

use crate::index::IndexError;
use crate::pipeline::ports::ReadError;

pub(crate) use behind::behind;
pub(crate) use hits::{Answer, Hit, Wanted, search};
pub(crate) use lessons::{Choice, ChoiceError, Lesson, choose, lessons_of, named, spans_of};

/// Why there is no answer.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum SearchError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the thread that asks the index has died; please report this with the log")]
    Died,
}

/// Asks the index on a thread that may wait for the disk.
async fn ask<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, SearchError> {
    let asked = tokio::task::spawn_blocking(question).await;
    Ok(asked.map_err(|_| SearchError::Died)??)
}
