//! Finds the newest messages of a room, for a page that waits for the answer.
//!
//! By an index where there is one ([`by_index`]), else back through the topic ([`by_spans`]). It ends when it has enough messages, at
//! the beginning of the topic, or when its time is over, and says which it was.

mod by_index;
mod by_spans;
mod gone;
mod page;

use tokio::time::{Instant, timeout_at};

use super::start::HistoryError;
use crate::pipeline::ports::Reader;

pub(crate) use page::{Before, Latest, LatestQuery};

/// Finds the newest messages; each of them once.
pub(crate) async fn latest(reader: &dyn Reader, asked: LatestQuery<'_>) -> Result<Latest, HistoryError> {
    let deadline = Instant::now() + asked.time;
    let mut so_far = None;
    let by_index = timeout_at(deadline, by_index::newest(reader, &asked, &mut so_far)).await;
    match by_index {
        Ok(Ok(Some(found))) => Ok(found),
        Ok(Ok(None)) => by_spans::newest(reader, asked, deadline).await,
        Ok(Err(error)) => Err(error),
        Err(_) => {
            let none = || Latest { before: asked.before, ran_out_of_time: true, ..Latest::default() };
            so_far.or_else(|| asked.before.map(|_| none())).ok_or(HistoryError::TooSlow)
        }
    }
}
