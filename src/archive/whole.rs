//! RocketMQ and the archive as one: what RocketMQ has forgotten is read from the pieces, and everything else from RocketMQ.
//!
//! Where a queue goes over from one to the other is an offset, fixed for each reader when it first looks at a topic: the end of the
//! last piece. So nothing is left out and nothing comes twice, whatever the clocks say. A topic that was made anew has a queue of
//! its own here for each time that it was made.
//!
//! Must never: take messages that RocketMQ has now for those that were archived under the same offsets.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;

use crate::archiver::{effective, is_the_same};
use crate::model::{FailureKind, QueueName, StoredMessage};
use crate::piece::{Directory, PieceKey, messages_of};
use crate::piece_store::{Listed, PieceStore, StoreError};
use crate::pipeline::ports::{Page, ReadError, Reader};

/// A reader for one question: it looks at each topic once, and keeps the last piece of each queue in memory.
pub(crate) struct Whole {
    rocketmq: Arc<dyn Reader>,
    store: PieceStore,
    topics: tokio::sync::Mutex<HashMap<String, Arc<Topic>>>,
    loaded: Mutex<HashMap<(String, QueueName), Loaded>>,
}

type Loaded = (PieceKey, Arc<Vec<StoredMessage>>);

/// What is known of a topic, by the names that its queues have here.
#[derive(Default)]
struct Topic {
    queues: BTreeMap<QueueName, Queue>,
    away: Vec<String>,
}

#[derive(Default)]
struct Queue {
    /// Parts of pieces, by rising offsets.
    parts: Vec<Part>,
    /// Whether RocketMQ has it too, and from there on answers for it.
    is_live: bool,
}

struct Part {
    from: u64,
    to: u64,
    piece: Listed,
    directory: Directory,
}

impl Queue {
    fn archived_from(&self) -> Option<u64> {
        self.parts.first().map(|part| part.from)
    }

    /// From this offset on RocketMQ answers.
    fn seam(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.to)
    }
}

impl Whole {
    /// Looks at nothing yet.
    pub(crate) fn new(rocketmq: Arc<dyn Reader>, store: PieceStore) -> Self {
        Self { rocketmq, store, topics: tokio::sync::Mutex::default(), loaded: Mutex::default() }
    }

    /// How many messages of the topics that were looked at were gone before they could be archived.
    pub(crate) async fn lost(&self) -> u64 {
        let topics = self.topics.lock().await;
        let parts = topics.values().flat_map(|topic| topic.queues.values()).flat_map(|queue| &queue.parts);
        parts
            .flat_map(|part| {
                part.directory.lost.iter().map(move |lost| (lost.from.max(part.from), lost.to.min(part.to)))
            })
            .map(|(from, to)| to.saturating_sub(from))
            .sum()
    }

    async fn topic(&self, topic: &str) -> Result<Arc<Topic>, ReadError> {
        let mut topics = self.topics.lock().await;
        if let Some(known) = topics.get(topic) {
            return Ok(known.clone());
        }
        let found = Arc::new(self.look_at(topic).await?);
        topics.insert(topic.to_owned(), found.clone());
        Ok(found)
    }

    async fn look_at(&self, topic: &str) -> Result<Topic, ReadError> {
        let away = self.rocketmq.away(topic).await?;
        let mut live = match self.rocketmq.queues(topic).await {
            Ok(queues) => queues,
            Err(error) if error.kind == FailureKind::TopicMissing => Vec::new(),
            Err(error) => return Err(error),
        };
        let failed = |error: StoreError| store_error(topic, &error);
        let mut places: BTreeMap<(QueueName, u32), Vec<(Listed, Directory)>> = BTreeMap::new();
        for listed in self.store.pieces(topic).await.map_err(failed)? {
            let directory = self.store.directory(&listed).await.map_err(failed)?;
            let place = (listed.key.place.queue.clone(), listed.key.place.generation);
            places.entry(place).or_default().push((listed, directory));
        }
        let mut found = Topic { away, ..Topic::default() };
        for ((name, generation), pieces) in &places {
            let is_newest = !places.contains_key(&(name.clone(), generation + 1));
            let queue = Queue { parts: parts_of(pieces), is_live: false };
            let is_live = is_newest && live.contains(name) && self.is_the_same(topic, name, &queue).await?;
            if is_live {
                live.retain(|other| other != name);
                found.queues.insert(name.clone(), Queue { is_live, ..queue });
            } else {
                // A blank sorts before all letters, so that the order of the queues stays.
                let broker = format!("{} (generation {generation})", name.broker);
                found.queues.insert(QueueName { broker: broker.into(), id: name.id }, queue);
            }
        }
        found.queues.extend(live.into_iter().map(|name| (name, Queue { parts: Vec::new(), is_live: true })));
        Ok(found)
    }

    /// Whether RocketMQ's queue is the one that was archived last under this name.
    async fn is_the_same(&self, topic: &str, name: &QueueName, queue: &Queue) -> Result<bool, ReadError> {
        let last = queue.parts.last().and_then(|part| part.directory.last.as_deref());
        is_the_same(&*self.rocketmq, topic, name, queue.seam(), last).await
    }

    /// All messages of a piece by rising offsets.
    async fn messages(
        &self,
        topic: &str,
        queue: &QueueName,
        part: &Part,
    ) -> Result<Arc<Vec<StoredMessage>>, ReadError> {
        let key = (topic.to_owned(), queue.clone());
        if let Some((loaded, messages)) = self.lock_loaded().get(&key)
            && *loaded == part.piece.key
        {
            return Ok(messages.clone());
        }
        let bytes = self.store.whole(&part.piece.key).await.map_err(|error| store_error(topic, &error))?;
        let mut messages = Vec::new();
        for (number, frame) in part.directory.frames.iter().enumerate() {
            let range = frame.range().map(|range| range.start as usize..range.end as usize);
            let Some(compressed) = range.and_then(|range| bytes.get(range)) else {
                return Err(unreadable(topic, part, "its directory names bytes that it has not"));
            };
            let read = messages_of(compressed, frame, number);
            messages.extend(read.map_err(|damage| unreadable(topic, part, &damage.to_string()))?);
        }
        messages.sort_by_key(|message| message.queue_offset);
        let messages = Arc::new(messages);
        self.lock_loaded().insert(key, (part.piece.key.clone(), messages.clone()));
        Ok(messages)
    }

    fn lock_loaded(&self) -> std::sync::MutexGuard<'_, HashMap<(String, QueueName), Loaded>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn end_of(&self, topic: &str, name: &QueueName, queue: &Queue) -> Result<u64, ReadError> {
        match queue.is_live {
            true => Ok(self.rocketmq.offsets(topic, name).await?.1.max(queue.seam())),
            false => Ok(queue.seam()),
        }
    }
}

impl Reader for Whole {
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        Box::pin(async move {
            let known = self.topic(topic).await?;
            match known.queues.is_empty() {
                false => Ok(known.queues.keys().cloned().collect()),
                // In RocketMQ's words.
                true => self.rocketmq.queues(topic).await,
            }
        })
    }

    fn away<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        Box::pin(async move { Ok(self.topic(topic).await?.away.clone()) })
    }

    fn offsets<'a>(
        &'a self,
        topic: &'a str,
        name: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        Box::pin(async move {
            let known = self.topic(topic).await?;
            let queue = known.queues.get(name).ok_or_else(|| unknown(topic, name))?;
            match queue.archived_from() {
                Some(first) => Ok((first, self.end_of(topic, name, queue).await?)),
                None => self.rocketmq.offsets(topic, name).await,
            }
        })
    }

    fn offset_at<'a>(
        &'a self,
        topic: &'a str,
        name: &'a QueueName,
        stored_ms: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(async move {
            let known = self.topic(topic).await?;
            let queue = known.queues.get(name).ok_or_else(|| unknown(topic, name))?;
            for part in queue.parts.iter().filter(|part| part.directory.store_time_ms >= stored_ms) {
                let messages = self.messages(topic, name, part).await?;
                let found = messages.iter().find(|message| message.stored_ms >= stored_ms);
                if let Some(found) = found.filter(|found| (part.from..part.to).contains(&found.queue_offset))
                {
                    return Ok(found.queue_offset);
                }
            }
            match queue.is_live {
                true => Ok(self.rocketmq.offset_at(topic, name, stored_ms).await?.max(queue.seam())),
                false => Ok(queue.seam()),
            }
        })
    }

    fn pull<'a>(
        &'a self,
        topic: &'a str,
        name: &'a QueueName,
        tag: Option<&'a str>,
        from_offset: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        Box::pin(async move {
            let known = self.topic(topic).await?;
            let queue = known.queues.get(name).ok_or_else(|| unknown(topic, name))?;
            let Some(first) = queue.archived_from().filter(|_| from_offset < queue.seam() || !queue.is_live)
            else {
                let mut page = self.rocketmq.pull(topic, name, tag, from_offset, limit).await?;
                if queue.is_live && page.first > from_offset && from_offset == queue.seam() {
                    // RocketMQ forgot them before they were archived: go on behind the hole, which is told as lost.
                    page.next_offset = page.first;
                }
                page.first = page.first.min(queue.archived_from().unwrap_or(page.first));
                return Ok(page);
            };
            let end = self.end_of(topic, name, queue).await?;
            let mut page = Page { messages: Vec::new(), next_offset: from_offset, first, end };
            let Some(part) = queue.parts.iter().find(|part| from_offset < part.to) else {
                return Ok(page);
            };
            page.next_offset = part.to;
            let messages = self.messages(topic, name, part).await?;
            let start = messages.partition_point(|message| message.queue_offset < from_offset.max(part.from));
            for message in messages.iter().skip(start).take_while(|message| message.queue_offset < part.to) {
                if page.messages.len() as u32 >= limit {
                    page.next_offset = message.queue_offset;
                    break;
                }
                if tag.is_none_or(|tag| message.tag == tag) {
                    page.messages.push(message.clone());
                }
            }
            Ok(page)
        })
    }
}

fn parts_of(pieces: &[(Listed, Directory)]) -> Vec<Part> {
    let parts = effective(pieces).into_iter();
    parts
        .map(|part| Part {
            from: part.from,
            to: part.to,
            piece: part.piece.clone(),
            directory: part.directory.clone(),
        })
        .collect()
}

fn store_error(topic: &str, error: &StoreError) -> ReadError {
    ReadError {
        what: format!("topic {topic}, archived"),
        cause: error.to_string(),
        kind: FailureKind::Unknown,
    }
}

fn unreadable(topic: &str, part: &Part, cause: &str) -> ReadError {
    ReadError {
        what: format!("topic {topic}, archived in {}", part.piece.key),
        cause: format!("{cause}; `roombridge archive verify` names all such pieces"),
        kind: FailureKind::Unknown,
    }
}

fn unknown(topic: &str, queue: &QueueName) -> ReadError {
    ReadError {
        what: format!("topic {topic}, queue {queue}"),
        cause: "neither RocketMQ nor the archive had this queue when the reading began".to_owned(),
        kind: FailureKind::Unknown,
    }
}
