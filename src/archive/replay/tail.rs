//! Follows the queues of a history from where it ended: what comes later is read as it comes.
//!
//! Promises: a queue is read on from the offset at which the history ended, so nothing is left out and nothing comes twice; a queue
//! that is new is read from its beginning; it reads a page only when the last one was taken, so memory holds one page of each queue
//! however slow the listener is.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::error::ReplayError;
use crate::archive::history::QueueEnd;
use crate::archive::query::HistoryQuery;
use crate::archive::record::Record;
use crate::model::{FailureKind, QueueName, StoredMessage};
use crate::pipeline::ports::{Page, ReadError, Reader};

/// How often RocketMQ is asked while nothing comes.
const POLL: Duration = Duration::from_millis(200);
/// A topic may get more queues.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// RocketMQ may be away so long; RocketMQ keeps the messages meanwhile.
const PATIENCE: Duration = Duration::from_secs(300);
const AFTER_FAILURE: Duration = Duration::from_secs(1);
const PAGE_MESSAGES: u32 = 256;

/// What was found on one round over all queues.
pub(super) enum Found {
    /// Nothing new; ask again after this time.
    Nothing(Duration),
    /// RocketMQ did not answer; ask again after this time.
    Trouble(ReadError, Duration),
    /// There is something to take.
    Something,
}

pub(super) struct Tail<'a> {
    /// RocketMQ alone: the archive has nothing that comes later.
    rocketmq: &'a dyn Reader,
    query: HistoryQuery,
    /// Where the history ended; the queues of which RocketMQ knows nothing any more are among them.
    ends: BTreeMap<Queue, u64>,
    next: BTreeMap<Queue, u64>,
    ready: VecDeque<Record>,
    looked: Option<Instant>,
    failing_since: Option<Instant>,
}

impl<'a> Tail<'a> {
    /// `ends`: where the history of that query ended.
    pub(crate) fn new(rocketmq: &'a dyn Reader, query: HistoryQuery, ends: &[QueueEnd]) -> Self {
        let ends = ends.iter().map(|end| ((end.topic.clone(), end.queue.clone()), end.end));
        Self {
            rocketmq,
            query,
            ends: ends.collect(),
            next: BTreeMap::new(),
            ready: VecDeque::new(),
            looked: None,
            failing_since: None,
        }
    }

    /// The next record of those that were found.
    pub(crate) fn take(&mut self) -> Option<Record> {
        self.ready.pop_front()
    }

    /// Asks each queue once. Whoever does not wait for the answer loses nothing.
    pub(crate) async fn look(&mut self) -> Result<Found, ReplayError> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            match listed(self.rocketmq, &self.query).await {
                Ok(queues) => self.add(queues),
                Err(error) => return self.failed(error),
            }
        }
        let pages = match pages(self.rocketmq, &self.next).await {
            Ok(pages) => pages,
            Err(error) => return self.failed(error),
        };
        self.failing_since = None;
        self.take_pages(pages)?;
        Ok(if self.ready.is_empty() { Found::Nothing(POLL) } else { Found::Something })
    }

    fn add(&mut self, queues: Vec<(Queue, u64)>) {
        self.looked = Some(Instant::now());
        for (queue, first) in queues {
            let from = self.ends.get(&queue).copied().unwrap_or(first);
            self.next.entry(queue).or_insert(from);
        }
    }

    fn take_pages(&mut self, pages: Vec<(Queue, Page)>) -> Result<(), ReplayError> {
        let mut messages: Vec<StoredMessage> = Vec::new();
        for (queue, page) in pages {
            let Some(next) = self.next.get_mut(&queue) else { continue };
            if !page.holds(*next) {
                let (topic, queue) = (queue.0, queue.1.to_string());
                return Err(ReplayError::Cut { topic, queue, first: page.first, end: page.end, next: *next });
            }
            *next = page.next_offset.max(*next);
            messages.extend(page.messages);
        }
        messages.sort_by(|a, b| place(a).cmp(&place(b)));
        self.ready.extend(messages.iter().filter_map(|message| self.query.accept(message)));
        Ok(())
    }

    fn failed(&mut self, error: ReadError) -> Result<Found, ReplayError> {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        match since.elapsed() < PATIENCE {
            true => Ok(Found::Trouble(error, AFTER_FAILURE)),
            false => Err(error.into()),
        }
    }
}

fn place(message: &StoredMessage) -> (u64, &str, &QueueName, u64) {
    (message.stored_ms, &message.topic, &message.queue, message.queue_offset)
}

type Queue = (String, QueueName);

/// All queues of the topics of a query that there are now, with the first offset of each.
async fn listed(rocketmq: &dyn Reader, query: &HistoryQuery) -> Result<Vec<(Queue, u64)>, ReadError> {
    let mut found = Vec::new();
    for topic in query.topics() {
        let queues = match rocketmq.queues(topic).await {
            Ok(queues) => queues,
            // Nobody wrote there yet.
            Err(error) if error.kind == FailureKind::TopicMissing => continue,
            Err(error) => return Err(error),
        };
        for queue in queues {
            let (first, _) = rocketmq.offsets(topic, &queue).await?;
            found.push(((topic.to_owned(), queue), first));
        }
    }
    Ok(found)
}

/// A page of each queue.
async fn pages(rocketmq: &dyn Reader, next: &BTreeMap<Queue, u64>) -> Result<Vec<(Queue, Page)>, ReadError> {
    let asked = next.iter().map(async |(queue, from)| {
        let page = rocketmq.pull(&queue.0, &queue.1, None, *from, PAGE_MESSAGES).await?;
        Ok((queue.clone(), page))
    });
    join_all(asked).await.into_iter().collect()
}
