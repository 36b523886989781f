//! What the pipeline needs of the outside world: traits, so that tests can stand in for either end.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

pub use crate::model::OutgoingMessage;
use crate::model::{FailureKind, Kind, MessageId, MqttMessage, QueueName, Sent, StoredMessage};

/// A frozen batch: its messages, their ids and their queue never change from one attempt to the next.
#[derive(Debug)]
pub struct Batch {
    pub topic: Arc<str>,
    pub queue: QueueName,
    pub messages: Vec<OutgoingMessage>,
}

/// Takes batches. One answer per message, in the order of the batch.
pub trait Sink: Send + Sync + 'static {
    /// The queues of the topic that can be written now, sorted. May be incomplete while a broker is away.
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>>;

    /// Sends the batch once, to its queue, and answers within the send timeout. Never retries by itself.
    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'static, Vec<Sent>>;
}

/// One answer of [`Reader::pull`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub messages: Vec<StoredMessage>,
    /// Where the next pull begins; beyond the last offset that was looked at, whether or not it matched.
    pub next_offset: u64,
    /// The first offset that the queue held when it answered.
    pub first: u64,
    /// The offset after the last one that it held.
    pub end: u64,
}

impl Page {
    /// Whether one can read on from there. If not, the queue was emptied, cut or rolled back, or RocketMQ deleted what is
    /// old: then no message comes, and the page leads nowhere.
    pub fn holds(&self, from_offset: u64) -> bool {
        (self.first..=self.end).contains(&from_offset)
    }
}

/// Why a read failed: what happened, to what, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("could not read RocketMQ {what}: {cause}")]
pub struct ReadError {
    pub what: String,
    pub cause: String,
    pub kind: FailureKind,
}

#[cfg(any(test, feature = "testing"))]
impl ReadError {
    /// That and no more, for tests.
    pub fn of(kind: FailureKind) -> Self {
        Self { what: "what a test asks for".to_owned(), cause: kind.to_string(), kind }
    }
}

/// The messages of one queue that RocketMQ has and does not hand out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// Which one.
    pub queue: QueueName,
    /// What it has, and does not hand out.
    pub offsets: Range<u64>,
    /// `false`: nobody may read the topic on that broker. `true`: it has too few read queues.
    pub may_be_read: bool,
}

/// A message, and where it stands in the order of readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InOrder {
    /// The highest store time of its queue up to it, milliseconds since 1970-01-01 UTC. Queues are merged by it, because a broker's
    /// clock can be set back.
    pub eff_ms: u64,
    /// As it lies there.
    pub message: StoredMessage,
}

/// One answer of [`Reader::read_on`]. Where a part of a queue is in the archive, `end` may be where that part ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageInOrder {
    /// By rising offsets.
    pub messages: Vec<InOrder>,
    /// As in [`Page`].
    pub next_offset: u64,
    /// The highest store time before `next_offset`, as far as the reader saw.
    pub before_ms: u64,
    /// As in [`Page`].
    pub first: u64,
    /// As in [`Page`].
    pub end: u64,
}

impl PageInOrder {
    /// In order from messages of one queue, all of them or some.
    pub(crate) fn of(page: Page, mut before_ms: u64) -> Self {
        let in_order = |message: StoredMessage| {
            before_ms = before_ms.max(message.stored_ms);
            InOrder { eff_ms: before_ms, message }
        };
        let messages = page.messages.into_iter().map(in_order).collect();
        Self { messages, next_offset: page.next_offset, before_ms, first: page.first, end: page.end }
    }

    /// As [`Page::holds`].
    pub fn holds(&self, from_offset: u64) -> bool {
        (self.first..=self.end).contains(&from_offset)
    }
}

/// What is wanted of a queue; a reader may give more.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Only messages with this tag; `None` = with any.
    pub tag: Option<&'a str>,
    /// Only messages that say themselves that they are of this room; `None` = of any and of none.
    pub room: Option<&'a str>,
}

/// A place in the order of readers: the highest store time of the queue so far, the topic, the queue, the offset.
pub(crate) type OrderKey = (u64, String, QueueName, u64);

/// A message that an index names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Offset in the queue.
    pub offset: u64,
    /// When it was said, milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// As in [`InOrder`].
    pub eff_ms: u64,
}

/// Asks where the messages of a room lie.
#[derive(Debug, Clone)]
pub struct RoomAsked<'a> {
    /// The room.
    pub room: &'a str,
    /// RocketMQ topics; what lies elsewhere is left out.
    pub topics: &'a [&'a str],
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Said at or after this time.
    pub from_ms: Option<u64>,
    /// Said before this time.
    pub to_ms: Option<u64>,
    /// Only so many of the newest, of all topics.
    pub newest: Option<usize>,
}

/// The messages of a room in one queue, as far as an index knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfRoom {
    /// By rising offsets.
    pub named: Vec<Named>,
    /// From this offset on the index does not know.
    pub next_offset: u64,
    /// The highest store time before that.
    pub before_ms: u64,
}

/// Where the messages of a room lie, as far as an index knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomOffsets {
    /// By topic and queue; the index does not know the others.
    pub queues: BTreeMap<(String, QueueName), OfRoom>,
    /// The place of the first one.
    pub oldest: Option<OrderKey>,
    /// Whether there are none before that.
    pub is_all: bool,
}

/// What a reading did not come by; with neither, there is nothing.
#[derive(Debug, Clone, Copy)]
pub struct Elsewhere<'a> {
    /// What lies before this place in the order of readers.
    pub before: Option<&'a OrderKey>,
    /// What was said at or after this time, milliseconds since 1970-01-01 UTC.
    pub from_ms: Option<u64>,
}

/// A message that was found by its id.
#[derive(Debug)]
pub struct OfId<'a> {
    /// Its id.
    pub id: MessageId,
    /// Whether it lies before [`Elsewhere::before`].
    pub is_earlier: bool,
    /// As it lies there.
    pub message: &'a StoredMessage,
}

/// Reads stored messages by queue offset; belongs to no consumer group and commits nothing.
pub trait Reader: Send + Sync {
    /// All readable queues of the topic, sorted.
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>>;

    /// Brokers that were seen to have queues of the topic and whose master is away now, so that [`Reader::queues`] may leave
    /// them out.
    fn away<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        let _ = topic;
        Box::pin(async { Ok(Vec::new()) })
    }

    /// What RocketMQ has of the topic and does not hand out: queues that were taken from its readers.
    fn withheld<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<Withheld>, ReadError>> {
        let _ = topic;
        Box::pin(async { Ok(Vec::new()) })
    }

    /// First offset and the offset after the last of one queue.
    fn offsets<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>>;

    /// The first offset whose message was stored at or after that time (milliseconds since 1970-01-01 UTC).
    fn offset_at<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        stored_ms: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>>;

    /// Up to `limit` messages from that offset on, of that tag only if one is given. An offset that the queue does not hold
    /// ([`Page::holds`]) is an answer without messages; where only a replica answers, it is an error.
    fn pull<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        tag: Option<&'a str>,
        from_offset: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>>;

    /// As [`Self::pull`], with the place of each message in the order of readers. `before_ms`: the highest store time before
    /// `from_offset`. Where messages are left out, their store times may be unknown, and count only if the reader says so.
    fn read_on<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        wanted: Wanted<'a>,
        (from_offset, before_ms): (u64, u64),
        limit: u32,
    ) -> BoxFuture<'a, Result<PageInOrder, ReadError>> {
        Box::pin(async move {
            let page = self.pull(topic, queue, wanted.tag, from_offset, limit).await?;
            Ok(PageInOrder::of(page, before_ms))
        })
    }

    /// The highest store time of the queue before that offset; 0 where nobody wrote it down.
    fn store_time_before<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        offset: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        let _ = (topic, queue, offset);
        Box::pin(async { Ok(0) })
    }

    /// The messages at these offsets, which rise; those that are not there are left out. `room`: they are of that room, if the index is
    /// right.
    fn read_named<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        room: &'a str,
        named: &'a [Named],
    ) -> BoxFuture<'a, Result<Vec<InOrder>, ReadError>> {
        let _ = room;
        Box::pin(pulled(self, topic, queue, named))
    }

    /// Where the messages of a room lie. `None`: there is no index, or it is of no use now.
    fn of_room<'a>(
        &'a self,
        asked: &'a RoomAsked<'a>,
    ) -> BoxFuture<'a, Result<Option<RoomOffsets>, ReadError>> {
        let _ = asked;
        Box::pin(async { Ok(None) })
    }

    /// Reads the messages that an index knows under these ids, of those that are asked for and lie elsewhere. `found` says whether it
    /// wants more of that id; what is gone is left out, and of an id with very many messages only some are read.
    fn look_for_ids<'a>(
        &'a self,
        asked: &'a RoomAsked<'a>,
        ids: &'a [MessageId],
        elsewhere: Elsewhere<'a>,
        found: &'a mut (dyn FnMut(OfId<'_>) -> ControlFlow<()> + Send),
    ) -> BoxFuture<'a, Result<(), ReadError>> {
        let _ = (asked, ids, elsewhere, found);
        Box::pin(async { Ok(()) })
    }

    /// Those of the offsets that were found to be gone for good, as far as the reader came by; sorted, none twice.
    fn lost(&self, topic: &str, queue: &QueueName, offsets: Range<u64>) -> Vec<Range<u64>> {
        let _ = (topic, queue, offsets);
        Vec::new()
    }
}

/// Offsets that lie so close to each other are pulled together.
const CLOSE: u64 = 8;
/// As many messages as a broker gives at once by default.
const PULLED_TOGETHER: u64 = 32;
/// So many pulls are open at once.
const PULLS_AT_ONCE: usize = 16;

/// The messages at these offsets, by pulls.
async fn pulled<R: Reader + ?Sized>(
    reader: &R,
    topic: &str,
    queue: &QueueName,
    named: &[Named],
) -> Result<Vec<InOrder>, ReadError> {
    let mut runs: Vec<&[Named]> = Vec::new();
    let mut begin = 0;
    for (number, one) in named.iter().enumerate() {
        let is_far = |first: &Named, last: &Named| {
            one.offset.saturating_sub(last.offset) > CLOSE || one.offset - first.offset >= PULLED_TOGETHER
        };
        let run = named.get(begin..number).unwrap_or_default();
        if let (Some(first), Some(last)) = (run.first(), run.last())
            && is_far(first, last)
        {
            runs.push(run);
            begin = number;
        }
    }
    runs.extend(named.get(begin..).filter(|run| !run.is_empty()));
    let mut pulls = Vec::with_capacity(runs.len());
    for run in runs {
        pulls.push(pulled_together(reader, topic, queue, run));
    }
    let found: Vec<_> = stream::iter(pulls).buffered(PULLS_AT_ONCE).try_collect().await?;
    Ok(found.concat())
}

async fn pulled_together<R: Reader + ?Sized>(
    reader: &R,
    topic: &str,
    queue: &QueueName,
    run: &[Named],
) -> Result<Vec<InOrder>, ReadError> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(Vec::new()) };
    let (mut next, mut found) = (first.offset, Vec::with_capacity(run.len()));
    while next <= last.offset {
        let limit = u32::try_from(last.offset - next + 1).unwrap_or(u32::MAX);
        let page = reader.pull(topic, queue, None, next, limit).await?;
        for message in page.messages {
            let named = run.binary_search_by_key(&message.queue_offset, |named| named.offset);
            if let Some(named) = named.ok().and_then(|number| run.get(number))
                && message.queue_offset >= next
            {
                found.push(InOrder { eff_ms: named.eff_ms, message });
            }
        }
        // What was deleted from the beginning of the run must not hide the rest of it.
        let from = page.next_offset.max(page.first);
        if from <= next {
            break;
        }
        next = from;
    }
    Ok(found)
}

/// A message for the MQTT broker, with a number to tell its end by.
#[derive(Debug)]
pub struct Publishing {
    pub number: u64,
    pub message: MqttMessage,
    /// The end of its life, if it has one.
    pub expires: Option<Instant>,
}

impl Publishing {
    /// From now on; its life, if it has one, goes on while it waits.
    pub fn new(number: u64, message: MqttMessage) -> Self {
        let life_s = message.properties.message_expiry_s;
        let expires =
            life_s.and_then(|life_s| Instant::now().checked_add(Duration::from_secs(life_s.into())));
        Self { number, message, expires }
    }

    /// What is left of its life, rounded up to seconds; `None` = it has no end.
    pub fn left_s(&self) -> Option<u32> {
        let left = self.expires?.saturating_duration_since(Instant::now());
        u32::try_from(left.as_millis().div_ceil(1000)).ok()
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// PUBACK; for QoS 0, written to the connection.
    Acknowledged,
    /// Never, whatever is tried; with the broker's word for it.
    Refused(String),
    /// Over the broker's limit for packets.
    TooLarge,
    /// Its life has ended before it was written.
    Expired,
}

/// Publishes on MQTT one message after the other.
pub trait Publisher: Send {
    /// Returns when the broker has acknowledged the message.
    fn publish(&mut self, message: MqttMessage) -> BoxFuture<'_, Result<(), PublishError>>;
}

/// The MQTT broker did not take a message.
#[derive(Debug, thiserror::Error)]
#[error("could not publish to {topic}: {cause}")]
pub struct PublishError {
    /// The MQTT topic.
    pub topic: String,
    /// The broker's words, or those of the connection.
    pub cause: String,
}

/// Says whether this process may act for the session and its state.
pub trait Lease: Send + Sync + 'static {
    /// Asked before anything is sent or written.
    fn is_held(&self) -> bool;
}

/// The lease of a bridge that runs alone on its `data_dir` and client id, as each does today. The port stays for two bridges of
/// which one stands by.
#[derive(Debug)]
pub struct SoleHolder;

impl Lease for SoleHolder {
    fn is_held(&self) -> bool {
        true
    }
}
