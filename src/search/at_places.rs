//! Reads single messages by where they lie.

use std::collections::{BTreeSet, HashMap};

use futures::{StreamExt, TryStreamExt, stream};

use crate::archive::Whole;
use crate::index::Row;
use crate::model::{QueueName, StoredMessage};
use crate::piece::Place;
use crate::pipeline::ports::{ReadError, Reader};

/// So many are read at once.
const AT_ONCE: usize = 16;

/// The message of each row, in their order; `None`: there is none any more, or not yet.
pub(super) async fn messages_at(
    whole: &Whole,
    rows: &[&Row],
) -> Result<Vec<Option<StoredMessage>>, ReadError> {
    let topics: BTreeSet<&str> = rows.iter().map(|row| row.place.topic.as_str()).collect();
    let mut names: HashMap<Place, QueueName> = HashMap::new();
    for topic in topics {
        names.extend(whole.places(topic).await?.into_iter().map(|(name, place)| (place, name)));
    }
    let names = &names;
    let mut asked = Vec::with_capacity(rows.len());
    for row in rows {
        asked.push(async move {
            let Some(name) = names.get(&*row.place) else { return Ok(None) };
            let page = whole.pull(&row.place.topic, name, None, row.offset, 1).await?;
            Ok(page.messages.into_iter().next().filter(|message| message.queue_offset == row.offset))
        });
    }
    stream::iter(asked).buffered(AT_ONCE).try_collect().await
}
