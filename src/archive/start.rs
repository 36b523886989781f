//! Where a reading begins: which queues, and of each the range, or what an index names of it.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};

use super::cursor::{Cursor, Sought};
use super::missing::{Missing, withheld_of};
use super::query::{Distinct, HistoryQuery, Stored, distinct_places};
use crate::model::{FailureKind, QueueName};
use crate::pipeline::ports::{Named, OfRoom, ReadError, Reader, RoomOffsets};

/// At most so many different messages may be in the range of one query.
pub(crate) const MAX_MESSAGES: usize = 1_000_000;
/// So many queues are asked at once.
pub(super) const QUEUES_AT_ONCE: usize = 8;
/// A broker's clock may be set back by so much: then what was stored late lies behind what was stored later still.
const SET_BACK_MS: u64 = 24 * 3_600_000;

/// Why a history cannot be read.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(
        "RocketMQ has no topic {topics}: nothing was stored there yet; or check the bindings and rocketmq.name_servers"
    )]
    NoTopic { topics: String },
    #[error(
        "RocketMQ broker {brokers} is away, and with it a part of topic {topic}: start it; or take --partial for what is \
         there; one that is gone for good is taken out of queues.json and the positions in data_dir while the bridge is \
         stopped"
    )]
    Away { topic: String, brokers: String },
    #[error("{0}; or take --partial for what is there")]
    Withheld(Missing),
    #[error("there are more than {MAX_MESSAGES} messages in this range; narrow it with --from and --to")]
    TooMany,
    #[error(
        "{0} messages that were there when the reading began are gone: their topic was emptied or made anew meanwhile; \
         read it again"
    )]
    Gone(usize),
    #[error(
        "there are too many messages to look through while somebody waits; `roombridge history` takes its time"
    )]
    TooSlow,
}

/// The cursors of a reading.
pub(super) struct ReadStart<'a> {
    pub cursors: Vec<Cursor<'a>>,
    /// The offsets of each in which something of it can be missing.
    pub ranges: Vec<std::ops::Range<u64>>,
    /// Whether no older message lies before them.
    pub is_first: bool,
    /// RocketMQ brokers that hold a part of it and are away.
    pub away: BTreeSet<String>,
    /// What RocketMQ has and does not hand out; empty unless the query is `partial`.
    pub missing: Vec<Missing>,
}

/// What to read of one queue.
struct Range {
    /// Its first message.
    first: u64,
    /// The first one to read.
    from: u64,
    /// The highest store time before that.
    before_ms: u64,
    /// The one after the last to read.
    end: u64,
}

/// What holds all messages of the queue that were stored in that time.
async fn range_of(
    reader: &dyn Reader,
    topic: &str,
    queue: &QueueName,
    stored: Stored,
) -> Result<Range, ReadError> {
    let at = async |ms: Option<u64>| match ms {
        Some(ms) => reader.offset_at(topic, queue, ms).await.map(Some),
        None => Ok(None),
    };
    let to_ms = stored.to_ms.map(|ms| ms.saturating_add(SET_BACK_MS));
    let ((first, end), from, to) =
        tokio::try_join!(reader.offsets(topic, queue), at(stored.from_ms), at(to_ms))?;
    let from = from.map_or(first, |from| from.max(first));
    let before_ms = if from > first { reader.store_time_before(topic, queue, from).await? } else { 0 };
    Ok(Range { first, from, before_ms, end: to.map_or(end, |to| to.min(end)) })
}

/// What to read of a queue page by page, and what by the index before that.
async fn start_of(
    reader: &dyn Reader,
    topic: &str,
    queue: &QueueName,
    stored: Stored,
    of_room: Option<OfRoom>,
) -> Result<(Range, Option<Vec<Named>>), ReadError> {
    let Some(OfRoom { named, next_offset, before_ms }) = of_room else {
        return Ok((range_of(reader, topic, queue, stored).await?, None));
    };
    let (first, end) = reader.offsets(topic, queue).await?;
    let named = named.into_iter().filter(|named| named.offset >= first).collect();
    Ok((Range { first, from: next_offset.max(first), before_ms, end }, Some(named)))
}

/// `known`: what an index knows of the room.
pub(super) async fn cursors_of<'a>(
    reader: &'a dyn Reader,
    query: &HistoryQuery,
    stored: Stored,
    mut known: Option<RoomOffsets>,
) -> Result<ReadStart<'a>, HistoryError> {
    let (mut cursors, mut ranges, mut is_first, mut away) = (Vec::new(), Vec::new(), true, BTreeSet::new());
    let mut missing: Vec<Missing> = Vec::new();
    let mut places = distinct_places(&query.places);
    if known.is_some() {
        // An index names a message once, whatever its tag.
        places = places.into_iter().map(|place| Distinct { tag: None, ..place }).collect();
    }
    for Distinct { topic, tag, room } in places {
        // Asked first: if the only broker of a topic is away, RocketMQ says that the topic does not exist.
        let away_now = reader.away(topic).await?;
        if !away_now.is_empty() && !query.partial {
            return Err(HistoryError::Away { topic: topic.to_owned(), brokers: away_now.join(" and ") });
        }
        away.extend(away_now);
        let queues = match reader.queues(topic).await {
            // Nobody wrote to this topic yet. That must not hide the messages of the others.
            Err(error) if error.kind == FailureKind::TopicMissing => continue,
            other => other?,
        };
        for withheld in withheld_of(reader, topic).await? {
            match query.partial {
                false => return Err(HistoryError::Withheld(withheld)),
                // Two places of one topic read the same queues.
                true if missing.contains(&withheld) => {}
                true => missing.push(withheld),
            }
        }
        let mut asked = Vec::with_capacity(queues.len());
        for queue in &queues {
            let key = (topic.to_owned(), queue.clone());
            let of_room = known.as_mut().and_then(|known| known.queues.remove(&key));
            asked.push(start_of(reader, topic, queue, stored, of_room));
        }
        let starts: Vec<_> = stream::iter(asked).buffered(QUEUES_AT_ONCE).try_collect().await?;
        for (queue, (Range { first, from, before_ms, end }, named)) in queues.into_iter().zip(starts) {
            is_first &= from == first;
            let (tag, hint) = (tag.map(str::to_owned), room.map(str::to_owned));
            let sought = Sought { topic: topic.to_owned(), queue, tag, room: hint };
            let cursor = Cursor::new(reader, sought, (from, before_ms), end);
            ranges.push(if named.is_some() { first..end.max(first) } else { cursor.range() });
            cursors.push(match named {
                Some(named) => cursor.after(query.room().unwrap_or_default(), named),
                None => cursor,
            });
        }
    }
    if cursors.is_empty() && away.is_empty() && missing.is_empty() {
        let topics: Vec<_> = query.places.iter().map(|place| place.topic.as_str()).collect();
        return Err(HistoryError::NoTopic { topics: topics.join(", ") });
    }
    Ok(ReadStart { cursors, ranges, is_first, away, missing })
}
