//! What is gone for good between the messages of a page.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::page::{Before, Latest};
use crate::archive::cursor::{Cursor, Sought};
use crate::archive::missing::{Missing, missing_of};
use crate::archive::query::HistoryQuery;
use crate::model::QueueName;
use crate::pipeline::ports::{ReadError, Reader};

/// Which offsets were looked at, by topic and queue.
#[derive(Default)]
pub(super) struct Looked(BTreeMap<(String, QueueName), (Arc<Sought>, Range<u64>)>);

impl Looked {
    /// `ranges`: those of the cursors.
    pub(super) fn add(&mut self, cursors: &[Cursor<'_>], ranges: Vec<Range<u64>>) {
        for (cursor, range) in cursors.iter().zip(ranges) {
            let sought = cursor.shared_sought();
            let key = (sought.topic.clone(), sought.queue.clone());
            let (_, known) = self.0.entry(key).or_insert_with(|| (sought, range.clone()));
            *known = known.start.min(range.start)..known.end.max(range.end);
        }
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
        let mut missing = Vec::new();
        for (sought, range) in self.0.values() {
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
