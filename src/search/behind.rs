//! How much the index has not seen yet.

use std::sync::Arc;

use super::{SearchError, ask};
use crate::archive::Whole;
use crate::index::Index;
use crate::model::FailureKind;
use crate::pipeline::ports::Reader;

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
        for (name, place) in places {
            let (first, end) = whole.offsets(topic, &name).await?;
            let next = positions.get(&place).map_or(first, |position| position.next_offset.max(first));
            behind += end.saturating_sub(next);
        }
    }
    Ok(behind)
}
