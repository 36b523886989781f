//! Gives the stored messages themselves, in the order of a history: every copy of each, as it lies in RocketMQ or lay there.

use std::collections::BTreeSet;
use std::ops::Range;

use super::cursor::{Cursor, Sought, earliest};
use super::history::ReadProgress;
use super::missing::{Missing, missing_of};
use super::query::HistoryQuery;
use super::start::{HistoryError, ReadStart, cursors_of};
use crate::model::{QueueName, StoredMessage};
use crate::pipeline::ports::{InOrder, ReadError, Reader};

/// The messages of one query, or of ranges of queues: those that were stored when it was opened. Memory holds two pages of each queue.
pub(crate) struct StoredMessages<'a> {
    reader: &'a dyn Reader,
    query: Option<HistoryQuery>,
    cursors: Vec<Cursor<'a>>,
    /// Of the cursors, before they were read.
    ranges: Vec<Range<u64>>,
    total: u64,
    away: BTreeSet<String>,
    withheld: Vec<Missing>,
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
    /// The highest store time of the queue before it, milliseconds since 1970-01-01 UTC.
    pub before_ms: u64,
    /// The offset after the last one.
    pub end: u64,
}

impl<'a> StoredMessages<'a> {
    /// Those that the query asks for; its limit is ignored.
    pub(crate) async fn of_query(reader: &'a dyn Reader, query: HistoryQuery) -> Result<Self, HistoryError> {
        let known = match query.asked_of_index(None) {
            Some(asked) => reader.of_room(&asked.borrowed()).await?,
            None => None,
        };
        let start = cursors_of(reader, &query, query.stored(), known).await?;
        let ReadStart { cursors, ranges, away, missing: withheld, .. } = start;
        let total = remaining(&cursors);
        Ok(Self { reader, query: Some(query), total, cursors, ranges, away, withheld })
    }

    /// All of these ranges.
    pub(crate) fn of_ranges(reader: &'a dyn Reader, ranges: &[QueueRange]) -> Self {
        let cursor = |range: &QueueRange| {
            let (topic, queue) = (range.topic.clone(), range.queue.clone());
            let sought = Sought { topic, queue, tag: None, room: None };
            Cursor::new(reader, sought, (range.from, range.before_ms), range.end)
        };
        let cursors: Vec<_> = ranges.iter().map(cursor).collect();
        let ranges = cursors.iter().map(Cursor::range).collect();
        let (away, withheld) = (BTreeSet::new(), Vec::new());
        Self { reader, query: None, total: remaining(&cursors), cursors, ranges, away, withheld }
    }

    /// What was there once and cannot be read any more; known when everything was read.
    pub(crate) async fn missing(&self) -> Result<Vec<Missing>, ReadError> {
        let (from_ms, to_ms) = self.query.as_ref().map_or((None, None), |query| (query.from_ms, query.to_ms));
        let mut missing = self.withheld.clone();
        for (cursor, range) in self.cursors.iter().zip(&self.ranges) {
            for found in missing_of(self.reader, cursor.sought(), range.clone(), from_ms, to_ms).await? {
                if !missing.contains(&found) {
                    missing.push(found);
                }
            }
        }
        Ok(missing)
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
        while let Some((range, InOrder { message, .. })) = earliest(&mut self.cursors).await? {
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
