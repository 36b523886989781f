//! The history of a room: merges all message queues into one order, filters the messages and folds copies.
//!
//! Within a queue the offsets give the order, across queues the highest store times so far. Every queue of the topic is read, because
//! a changed number of queues moves rooms to other queues and leaves their old messages behind.
//!
//! The range is read twice. The first reading keeps ids only, to count the messages and the copies of each. The second one
//! reads from the first wanted message to the last and gives the records one by one. So a copy that was stored hours later
//! is still folded, and memory holds two pages for each queue and 40 bytes for each message, however large the messages are. Of
//! the two pages one is looked at, and the broker reads the other one meanwhile.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::cursor::{Cursor, Narrow, Sought, earliest};
use super::missing::{Missing, missing_of};
use super::record::Record;
use crate::binding::{Identity, MqttDestination, RoomQuery, RuleSet, arrived_ms, identity};
use crate::model::{FailureKind, Kind, MessageId, QueueName, StoredMessage};
use crate::piece::{CLOCKS_DIFFER_MS, STORED_LATE_MS, said_ms};
use crate::pipeline::ports::{InOrder, ReadError, Reader};

/// At most so many different messages may be in the range of one query.
pub(crate) const MAX_MESSAGES: usize = 1_000_000;
/// The first reading asks so many queues at once, which keeps the broker busy and bounds what waits here.
const QUEUES_AT_ONCE: usize = 8;
/// A broker's clock may be set back by so much: then what was stored late lies behind what was stored later still.
const SET_BACK_MS: u64 = 24 * 3_600_000;

/// What to read.
#[derive(Debug, Clone, Default)]
pub(crate) struct HistoryQuery {
    /// The topics and tags to read and the room to compare with, as the rules give them.
    pub places: Vec<RoomQuery>,
    /// They say where a message of another program is heard; `None` = no downlinks, each message stands under its own topic.
    pub rules: Option<Arc<RuleSet>>,
    /// Said at or after this time (see [`said_ms`]), milliseconds since 1970-01-01 UTC; `None` = from the beginning.
    pub from_ms: Option<u64>,
    /// Said before this time, milliseconds since 1970-01-01 UTC; `None` = up to now.
    pub to_ms: Option<u64>,
    /// Only messages of this kind; `None` = of every kind.
    pub kind: Option<Kind>,
    /// Only so many of the newest messages, as a chat shows them; `None` = all.
    pub limit: Option<u64>,
    /// Give the messages of the other brokers if a RocketMQ broker with a part of them is away; if `false`, that is an error.
    pub partial: bool,
}

/// Progress of the first reading, counted in queue offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadProgress {
    /// Offsets that were read.
    pub done: u64,
    /// Offsets of the whole range.
    pub total: u64,
}

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

/// The messages of one query, oldest first: those that were stored when it was opened.
pub(crate) struct History<'a> {
    query: HistoryQuery,
    cursors: Vec<Cursor<'a>>,
    /// By id of each message that [`Self::next`] has not given yet: how many times it is stored.
    copies: HashMap<MessageId, u64>,
    skip: u64,
    len: u64,
    ends: Vec<QueueEnd>,
    away: BTreeSet<String>,
    missing: Vec<Missing>,
    /// How many of the missing were told by [`Record::lost_before`].
    told: BTreeSet<usize>,
}

/// Where a history ends in one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueEnd {
    /// RocketMQ topic.
    pub topic: String,
    /// The queue, by the name that the reader has for it.
    pub queue: QueueName,
    /// The first offset that is not part of the history.
    pub end: u64,
}

impl<'a> History<'a> {
    /// Does the first reading. Messages that are stored later are not part of the history.
    pub(crate) async fn open(
        reader: &'a dyn Reader,
        query: HistoryQuery,
        progress: &mut (dyn FnMut(ReadProgress) + Send),
    ) -> Result<History<'a>, HistoryError> {
        let ReadStart { mut cursors, away, .. } = cursors_of(reader, &query, query.stored()).await?;
        let ranges: Vec<_> = cursors.iter().map(Cursor::range).collect();
        let total = cursors.iter().map(Cursor::remaining).sum();
        let mut counted = Counted::default();
        let mut done = 0;
        for starts in cursors.chunks_mut(QUEUES_AT_ONCE) {
            let mut readings: Vec<_> = starts.iter().map(|start| (start.restarted(), None)).collect();
            for (cursor, _) in &mut readings {
                cursor.ask_ahead().await;
            }
            // A page of each in turn, because the order does not matter for counting.
            while readings.iter().any(|(cursor, _)| cursor.remaining() > 0) {
                for (cursor, range) in &mut readings {
                    let before = cursor.remaining();
                    counted.add(&query, cursor.next_page().await?, range)?;
                    done += before - cursor.remaining();
                    progress(ReadProgress { done, total });
                }
            }
            for (start, (_, range)) in starts.iter_mut().zip(readings) {
                start.narrow(range);
            }
        }
        let Counted { copies, different } = counted;
        let skip = query.limit.map_or(0, |limit| different.saturating_sub(limit));
        let mut missing = Vec::new();
        let mut ends = Vec::new();
        for (cursor, range) in cursors.iter().zip(ranges) {
            let Sought { topic, queue, .. } = cursor.sought();
            ends.push(QueueEnd { topic: topic.clone(), queue: queue.clone(), end: range.end });
            for found in missing_of(reader, cursor.sought(), range, query.from_ms, query.to_ms).await? {
                // Two places of one topic read the same queue.
                if !missing.contains(&found) {
                    missing.push(found);
                }
            }
        }
        let told = BTreeSet::new();
        Ok(Self { query, cursors, copies, skip, len: different - skip, ends, away, missing, told })
    }

    /// What was there once and cannot be read any more, so that this history may not be all.
    pub(crate) fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// RocketMQ brokers that are away, so that their part is missing; empty unless the query is `partial`.
    pub(crate) fn away(&self) -> impl Iterator<Item = &str> {
        self.away.iter().map(String::as_str)
    }

    /// Where it ends: messages from there on were stored after it was opened.
    pub(super) fn ends(&self) -> &[QueueEnd] {
        &self.ends
    }

    /// How many records [`Self::next`] gives in all.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The next record. Of several copies, the first one gives the place in the order.
    pub(crate) async fn next(&mut self) -> Result<Option<Record>, HistoryError> {
        loop {
            let Some((cursor, InOrder { message, .. })) = earliest(&mut self.cursors).await? else {
                return match self.copies.len() {
                    0 => Ok(None),
                    missing => Err(HistoryError::Gone(missing)),
                };
            };
            let Some(mut record) = self.query.accept(&message) else {
                continue;
            };
            if let Some(id) = record.id {
                match self.copies.remove(&id) {
                    Some(stored) => record.duplicates = stored.saturating_sub(1),
                    None => continue,
                }
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            record.lost_before = self.lost_before(cursor, message.queue_offset);
            return Ok(Some(record));
        }
    }

    /// How many messages are lost in the queue of that cursor before that offset; each is told once.
    fn lost_before(&mut self, cursor: usize, offset: u64) -> u64 {
        let Some(Sought { topic, queue, .. }) = self.cursors.get(cursor).map(Cursor::sought) else {
            return 0;
        };
        let lies_before = |missing: &Missing| match missing {
            Missing::Lost { topic: of, queue: lost, offsets, .. } => {
                let is_here = of == topic && lost == queue && offsets.end <= offset;
                is_here.then(|| offsets.end - offsets.start)
            }
            Missing::Older { .. } => None,
        };
        let mut lost = 0;
        for (number, missing) in self.missing.iter().enumerate() {
            if let Some(count) = lies_before(missing)
                && self.told.insert(number)
            {
                lost += count;
            }
        }
        lost
    }
}

/// What the first reading keeps.
#[derive(Default)]
struct Counted {
    /// By id, how many times the message is stored.
    copies: HashMap<MessageId, u64>,
    different: u64,
}

impl Counted {
    /// `range`: from the first to the last message in the queue that the query asks for.
    fn add(
        &mut self,
        query: &HistoryQuery,
        page: VecDeque<InOrder>,
        range: &mut Option<Narrow>,
    ) -> Result<(), HistoryError> {
        for InOrder { eff_ms, message } in page {
            let Some(Identity { id, .. }) = query.find(&message) else {
                continue;
            };
            let offset = message.queue_offset;
            range.get_or_insert(Narrow { first: offset, eff_ms, last: offset }).last = offset;
            // A message without id has no copies: two equal texts are two messages.
            let mut no_copies = 0;
            let stored = id.map_or(&mut no_copies, |id| self.copies.entry(id).or_insert(0));
            *stored += 1;
            self.different += u64::from(*stored == 1);
            if self.copies.len() > MAX_MESSAGES {
                return Err(HistoryError::TooMany);
            }
        }
        Ok(())
    }
}

impl HistoryQuery {
    /// The topics to read, none of them twice.
    pub(super) fn topics(&self) -> BTreeSet<&str> {
        self.places.iter().map(|place| place.topic.as_str()).collect()
    }

    /// The record, if the query asks for the message.
    pub(super) fn accept(&self, message: &StoredMessage) -> Option<Record> {
        Some(Record::of(self.find(message)?, message))
    }

    /// When a message of the range can have been stored: it is stored when it has arrived, by two clocks, or late.
    pub(super) fn stored(&self) -> Stored {
        Stored {
            from_ms: self.from_ms.map(|ms| ms.saturating_sub(CLOCKS_DIFFER_MS)),
            to_ms: self.to_ms.map(|ms| ms.saturating_add(STORED_LATE_MS + 1)),
        }
    }

    /// Which message it is and where it is heard, if the query asks for it. Tags and times only limit what is read; this decides.
    fn find(&self, message: &StoredMessage) -> Option<Identity> {
        // Most messages need not be read for this.
        if !self.stored().holds(message.stored_ms) {
            return None;
        }
        let mut found = identity(message);
        let at_ms = said_ms(found.id.is_some(), arrived_ms(&found.properties), message.stored_ms);
        let in_time = self.from_ms.is_none_or(|from| at_ms >= from) && self.to_ms.is_none_or(|to| at_ms < to);
        if !in_time {
            return None;
        }
        let rules = self.rules.as_ref();
        let destination = rules.and_then(|rules| rules.mqtt_destination(message, &found.properties));
        let is_of = |place: &RoomQuery| {
            let destination = destination.as_ref().filter(|_| place.shared);
            let has_tag = |tag: &String| {
                *tag == message.tag || destination.is_some_and(|destination| destination.tag == *tag)
            };
            let in_room = |room: &String| {
                let also = destination.and_then(|destination| destination.room.as_ref());
                found.room.as_ref() == Some(room) || also == Some(room)
            };
            place.topic == message.topic
                && place.tag.as_ref().is_none_or(has_tag)
                && place.room.as_ref().is_none_or(in_room)
        };
        let is_asked = self.places.iter().any(is_of);
        // A message of another program has the topic, room and kind under which it is heard.
        if let Some(MqttDestination { mqtt_topic, room, kind, .. }) = destination
            && found.id.is_none()
        {
            found = Identity { mqtt_topic, room, kind, ..found };
        }
        let wanted = is_asked && self.kind.is_none_or(|kind| kind == found.kind);
        wanted.then_some(found)
    }
}

/// What to read of a topic.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Distinct<'a> {
    topic: &'a str,
    /// Only messages of this tag.
    tag: Option<&'a str>,
    /// Only what says itself that it is of this room.
    room: Option<&'a str>,
}

/// The topics to read, each with the tags and the room by which a reader may leave something out; none of them twice, although several
/// bindings can lead to the same place. A topic is read without a tag, which means whole, if one place asks for that or if other
/// programs may write to it; then what a message says of its room proves nothing, either.
fn distinct_places(places: &[RoomQuery]) -> BTreeSet<Distinct<'_>> {
    places
        .iter()
        .map(|place| {
            let topic = place.topic.as_str();
            let mut of_topic = places.iter().filter(|place| place.topic == topic);
            let is_one_room = (of_topic.clone())
                .all(|other| other.room.is_some() && other.room == place.room && !other.shared);
            let is_whole = of_topic.any(|place| place.tag.is_none() || place.shared);
            let tag = place.tag.as_deref().filter(|_| !is_whole);
            Distinct { topic, tag, room: place.room.as_deref().filter(|_| is_one_room) }
        })
        .collect()
}

/// The cursors of a reading.
pub(super) struct ReadStart<'a> {
    pub cursors: Vec<Cursor<'a>>,
    /// Whether no older message lies before them.
    pub is_first: bool,
    /// RocketMQ brokers that hold a part of it and are away.
    pub away: BTreeSet<String>,
}

/// When messages were stored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stored {
    /// At or after this time; `None` = from the beginning.
    pub from_ms: Option<u64>,
    /// Before this time; `None` = up to now.
    pub to_ms: Option<u64>,
}

impl Stored {
    pub(super) fn holds(self, stored_ms: u64) -> bool {
        self.from_ms.is_none_or(|from| stored_ms >= from) && self.to_ms.is_none_or(|to| stored_ms < to)
    }
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

pub(super) async fn cursors_of<'a>(
    reader: &'a dyn Reader,
    query: &HistoryQuery,
    stored: Stored,
) -> Result<ReadStart<'a>, HistoryError> {
    let (mut cursors, mut is_first, mut away) = (Vec::new(), true, BTreeSet::new());
    for Distinct { topic, tag, room } in distinct_places(&query.places) {
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
        let mut asked = Vec::with_capacity(queues.len());
        for queue in &queues {
            asked.push(range_of(reader, topic, queue, stored));
        }
        let ranges: Vec<_> = stream::iter(asked).buffered(QUEUES_AT_ONCE).try_collect().await?;
        for (queue, Range { first, from, before_ms, end }) in queues.into_iter().zip(ranges) {
            is_first &= from == first;
            let (tag, room) = (tag.map(str::to_owned), room.map(str::to_owned));
            let sought = Sought { topic: topic.to_owned(), queue, tag, room };
            cursors.push(Cursor::new(reader, sought, (from, before_ms), end));
        }
    }
    if cursors.is_empty() && away.is_empty() {
        let topics: Vec<_> = query.places.iter().map(|place| place.topic.as_str()).collect();
        return Err(HistoryError::NoTopic { topics: topics.join(", ") });
    }
    Ok(ReadStart { cursors, is_first, away })
}
