//! Gives the stored messages themselves, in the order of a history: every copy of each, as it lies in RocketMQ or lay there.

use std::collections::BTreeSet;

use super::cursor::{Cursor, earliest};
use super::history::{HistoryError, HistoryQuery, ReadProgress, ReadStart, cursors_of};
use crate::model::{QueueName, StoredMessage};
use crate::pipeline::ports::{ReadError, Reader};

/// The messages of one query, or of ranges of queues: those that were stored when it was opened. Memory holds two pages of each queue.
pub(crate) struct StoredMessages<'a> {
    query: Option<HistoryQuery>,
    cursors: Vec<Cursor<'a>>,
    total: u64,
    away: BTreeSet<String>,
}

/// Offsets of one queue, the first included and the last not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueRange {
    /// RocketMQ topic.
    pub topic: String,
    /// The queue, by the name that the reader has for it.
    pub queue: QueueName,
    /// The first offset.
    pub from: u64,
    /// The offset after the last one.
    pub end: u64,
}

impl<'a> StoredMessages<'a> {
    /// Those that the query asks for; its limit is ignored.
    pub(crate) async fn of_query(reader: &'a dyn Reader, query: HistoryQuery) -> Result<Self, HistoryError> {
        let ReadStart { cursors, away, .. } = cursors_of(reader, &query).await?;
        Ok(Self { total: remaining(&cursors), query: Some(query), cursors, away })
    }

    /// All of these ranges.
    pub(crate) fn of_ranges(reader: &'a dyn Reader, ranges: &[QueueRange]) -> Self {
        let cursor = |range: &QueueRange| {
            Cursor::new(reader, &range.topic, range.queue.clone(), None, range.from, range.end)
        };
        let cursors: Vec<_> = ranges.iter().map(cursor).collect();
        Self { total: remaining(&cursors), query: None, cursors, away: BTreeSet::new() }
    }

    /// RocketMQ brokers that are away, so that their part is missing; empty unless the query is `partial`.
    pub(crate) fn away(&self) -> impl Iterator<Item = &str> {
        self.away.iter().map(String::as_str)
    }

    /// How far it has read.
    pub(crate) fn progress(&self) -> ReadProgress {
        ReadProgress { done: self.total - remaining(&self.cursors), total: self.total }
    }

    /// The next message, and which of the ranges it is of.
    pub(crate) async fn next(&mut self) -> Result<Option<(usize, StoredMessage)>, ReadError> {
        while let Some((range, message)) = earliest(&mut self.cursors).await? {
            if self.query.as_ref().is_none_or(|query| query.accept(&message).is_some()) {
                return Ok(Some((range, message)));
            }
        }
        Ok(None)
    }
}

fn remaining(cursors: &[Cursor<'_>]) -> u64 {
    cursors.iter().map(Cursor::remaining).sum()
}
