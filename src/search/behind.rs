//! How much the index has not seen yet.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::{SearchError, ask};
use crate::archive::Whole;
use crate::index::Index;
use crate::model::FailureKind;
use crate::pipeline::ports::Reader;

/// Of how many queues the end is asked for at once.
const QUEUES_AT_ONCE: usize = 16;

/// How many messages of these topics the index has not seen yet.
pub(crate) async fn behind(index: &Arc<Index>, whole: &Whole, topics: &[String]) -> Result<u64, SearchError> {
    let index = index.clone();
    let positions = ask(move || index.positions()).await?;
    let mut behind = 0;
    for topic in topics {
        let places = match whole.places(topic).await {
            Ok(places) => places,
            Err(error) if error.kind == FailureKind::TopicMissing => continue,
            Err(error) => return Err(error.into()),
        };
        let mut asked = Vec::with_capacity(places.len());
        for name in places.keys() {
            asked.push(whole.offsets(topic, name));
        }
        let offsets: Vec<_> = stream::iter(asked).buffered(QUEUES_AT_ONCE).try_collect().await?;
        for (place, (first, end)) in places.values().zip(offsets) {
            let next = positions.get(place).map_or(first, |position| position.next_offset.max(first));
            behind += end.saturating_sub(next);
        }
    }
    Ok(behind)
}
