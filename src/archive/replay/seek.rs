//! Moves a replay: to a time, to a message, so much forward or back.
//!
//! The history is read again from there, so that a replay can go back without keeping what it has played.

use super::feed::{Feed, Next};
use super::{Position, Replay, ReplayError, ReplayEvent, Watch};
use crate::archive::query::HistoryQuery;

impl Replay<'_> {
    /// Holds the first record, and remembers when it was said.
    pub(super) async fn read_first(&mut self) -> Result<(), ReplayError> {
        if let Next::Record(record) = self.feed.next().await? {
            self.begin_ms = Some(record.time_ms);
            self.held = Some(record);
        }
        Ok(())
    }

    /// As [`Self::go_to`]; where there is no such message it stays where it is, and says so.
    pub(super) async fn seek(&mut self, position: Position, watch: Watch<'_>) -> Result<(), ReplayError> {
        let now_ms = self.position_ms();
        let position = match (position, now_ms) {
            (Position::By(by_ms), Some(now_ms)) => Position::At(now_ms.saturating_add_signed(by_ms)),
            _ => position,
        };
        match self.go_to(position).await {
            Err(ReplayError::NoSuchMessage(id)) => {
                watch(ReplayEvent::NotThere(id));
                self.go_to(Position::At(now_ms.unwrap_or(0))).await
            }
            other => other,
        }
    }

    /// Reads again from there, and plays on at once.
    pub(super) async fn go_to(&mut self, position: Position) -> Result<(), ReplayError> {
        // Where nothing was said there is nowhere to go.
        let Some(begin_ms) = self.begin_ms else { return Ok(()) };
        self.held = None;
        match position {
            Position::Message(id) => {
                self.feed = self.read_again(self.query.clone()).await?;
                while let Next::Record(record) = self.feed.next().await? {
                    if record.id == Some(id) {
                        self.pace.begin_at(Some(record.time_ms));
                        self.held = Some(record);
                        return Ok(());
                    }
                }
                Err(ReplayError::NoSuchMessage(id))
            }
            Position::Offset(offset) => {
                self.go_to_time(begin_ms.saturating_add(offset.as_millis() as u64)).await
            }
            // Nothing is before the beginning, and to wait for it would be a hang.
            Position::At(at_ms) => self.go_to_time(at_ms.max(begin_ms)).await,
            Position::By(by_ms) => self.go_to_time(begin_ms.saturating_add_signed(by_ms).max(begin_ms)).await,
        }
    }

    async fn go_to_time(&mut self, at_ms: u64) -> Result<(), ReplayError> {
        let from_ms = Some(self.query.from_ms.map_or(at_ms, |from_ms| from_ms.max(at_ms)));
        self.feed = self.read_again(HistoryQuery { from_ms, ..self.query.clone() }).await?;
        self.pace.begin_at(Some(at_ms));
        Ok(())
    }
}

impl<'a> Replay<'a> {
    async fn read_again(&mut self, query: HistoryQuery) -> Result<Feed<'a>, ReplayError> {
        self.is_live = false;
        Feed::open(self.readers, query, &mut |_| {}).await
    }
}
