//! What is missing between the messages of a page: what is gone for good, and what RocketMQ does not hand out.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::page::{Before, Latest};
use crate::archive::cursor::{Cursor, Sought};
use crate::archive::missing::{Missing, missing_of};
use crate::archive::query::HistoryQuery;
use crate::model::QueueName;
use crate::pipeline::ports::{ReadError, Reader};

/// Where was looked, and where could not be.
#[derive(Default)]
pub(super) struct Looked {
    /// Which offsets, by topic and queue.
    queues: BTreeMap<(String, QueueName), (Arc<Sought>, Range<u64>)>,
    withheld: Vec<Missing>,
}

impl Looked {
    /// `ranges`: those of the cursors. `withheld`: what RocketMQ has of the query's topics and does not hand out. Each reading looks at
    /// all of them, so the last one counts.
    pub(super) fn add(&mut self, cursors: &[Cursor<'_>], ranges: Vec<Range<u64>>, withheld: Vec<Missing>) {
        self.withheld = withheld;
        for (cursor, range) in cursors.iter().zip(ranges) {
            let sought = cursor.shared_sought();
            let key = (sought.topic.clone(), sought.queue.clone());
            let (_, known) = self.queues.entry(key).or_insert_with(|| (sought, range.clone()));
            *known = known.start.min(range.start)..known.end.max(range.end);
        }
    }

    /// What RocketMQ does not hand out. When it was said, nobody knows, so it may belong to any page.
    pub(super) fn withheld(&self) -> Vec<Missing> {
        self.withheld.clone()
    }

    /// Of which room the lost messages were, nobody knows; those that were stored before the page or after it are of no other page.
    pub(super) async fn missing(
        &self,
        reader: &dyn Reader,
        query: &HistoryQuery,
        page: &Latest,
        earlier: Option<Before>,
    ) -> Result<Vec<Missing>, ReadError> {
        let oldest_ms = page.before.map(|before| before.place_ms);
        // Only where the page reaches its begin, something older can be missing.
        let from_ms = query.from_ms.filter(|_| oldest_ms.is_none());
        let to_ms = earlier.map(|before| before.place_ms.saturating_add(1)).or(query.stored().to_ms);
        let mut missing = self.withheld();
        for (sought, range) in self.queues.values() {
            missing.extend(missing_of(reader, sought, range.clone(), from_ms, to_ms).await?);
        }
        missing.retain(|missing| match missing {
            Missing::Lost { before_ms, .. } => {
                oldest_ms.is_none_or(|oldest_ms| before_ms.is_none_or(|before_ms| before_ms > oldest_ms))
            }
            Missing::Older { .. } | Missing::Withheld { .. } => true,
        });
        Ok(missing)
    }
}
