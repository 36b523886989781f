//! Reads single messages by where they lie.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::{StreamExt, TryStreamExt, stream};

use crate::archive::Whole;
use crate::index::Row;
use crate::model::{QueueName, StoredMessage};
use crate::piece::Place;
use crate::pipeline::ports::{Named, ReadError, Reader};

/// So many queues and rooms are read at once.
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
    // What lies in one queue and one room is read together: in the archive it shares frames.
    let mut wanted: BTreeMap<(&Place, &str), BTreeMap<u64, Named>> = BTreeMap::new();
    for row in rows {
        let Row { offset, at_ms, eff_ms, .. } = **row;
        let together = wanted.entry((&*row.place, row.room.as_deref().unwrap_or_default())).or_default();
        together.insert(offset, Named { offset, at_ms, eff_ms });
    }
    let mut asked = Vec::with_capacity(wanted.len());
    for ((place, room), named) in wanted {
        let name = names.get(place);
        asked.push(async move {
            let Some(name) = name else { return Ok(Vec::new()) };
            let named: Vec<Named> = named.into_values().collect();
            let found = whole.read_named(&place.topic, name, room, &named).await?;
            let at = |message: StoredMessage| ((place, message.queue_offset), message);
            Ok::<_, ReadError>(found.into_iter().map(|found| at(found.message)).collect())
        });
    }
    let found: Vec<Vec<_>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    let found: HashMap<(&Place, u64), StoredMessage> = found.into_iter().flatten().collect();
    Ok(rows.iter().map(|row| found.get(&(&*row.place, row.offset)).cloned()).collect())
}
