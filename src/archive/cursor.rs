//! Reads message queues forward, page by page, each up to the end that it had when the reading began.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, MaybeDone, maybe_done};

use crate::model::{FailureKind, QueueName, StoredMessage};
use crate::pipeline::ports::{Page, ReadError, Reader};

const PAGE_MESSAGES: u32 = 256;
/// RocketMQ hands a message out some milliseconds after it confirmed it.
const SETTLE: Duration = Duration::from_millis(20);
const SETTLE_ATTEMPTS: u32 = 150;

/// The position in one queue; holds at most two pages of messages.
pub(crate) struct Cursor<'a> {
    reader: &'a dyn Reader,
    place: Arc<Place>,
    next: u64,
    end: u64,
    page: VecDeque<StoredMessage>,
    /// The page from `next` on, which was asked for while this one is handed out.
    ahead: Option<MaybeDone<Pull<'a>>>,
}

struct Place {
    topic: String,
    queue: QueueName,
    tag: Option<String>,
}

type Pull<'a> = BoxFuture<'a, Result<Page, ReadError>>;

impl<'a> Cursor<'a> {
    /// Reads the offsets from `from` up to, but not including, `end`; `tag`: `None` = messages of all tags.
    pub(crate) fn new(
        reader: &'a dyn Reader,
        topic: &str,
        queue: QueueName,
        tag: Option<String>,
        from: u64,
        end: u64,
    ) -> Self {
        let place = Arc::new(Place { topic: topic.to_owned(), queue, tag });
        Self { reader, place, next: from, end, page: VecDeque::new(), ahead: None }
    }

    /// A second cursor for the same range. Only before this one has read anything.
    pub(crate) fn restarted(&self) -> Self {
        let place = self.place.clone();
        Self {
            reader: self.reader,
            place,
            next: self.next,
            end: self.end,
            page: VecDeque::new(),
            ahead: None,
        }
    }

    /// Narrows the range to these offsets, the first and the last included; `None` = to nothing.
    pub(crate) fn narrow(&mut self, offsets: Option<(u64, u64)>) {
        match offsets {
            Some((first, last)) => {
                self.next = self.next.max(first);
                self.end = self.end.min(last + 1);
            }
            None => self.next = self.end,
        }
    }

    /// How many offsets are still to be read.
    pub(crate) fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.next)
    }

    /// All messages of the next page that holds any; empty at the end.
    pub(crate) async fn next_page(&mut self) -> Result<VecDeque<StoredMessage>, ReadError> {
        self.fill().await?;
        Ok(std::mem::take(&mut self.page))
    }

    /// Pulls until there is a message or the end is reached.
    async fn fill(&mut self) -> Result<(), ReadError> {
        let mut attempts = 0;
        while self.is_without_page() {
            let mut page = self.pulled().await?;
            if !page.holds(self.next) {
                return Err(self.cut(&page));
            }
            if page.next_offset <= self.next {
                attempts += 1;
                if attempts > SETTLE_ATTEMPTS {
                    return Err(self.no_progress());
                }
                tokio::time::sleep(SETTLE).await;
                continue;
            }
            attempts = 0;
            self.next = page.next_offset;
            page.messages.retain(|message| message.queue_offset < self.end);
            self.page = page.messages.into();
            self.ask_ahead().await;
        }
        Ok(())
    }

    fn is_without_page(&self) -> bool {
        self.page.is_empty() && self.next < self.end
    }

    /// Asks for the next page, and does not wait for it.
    pub(crate) async fn ask_ahead(&mut self) {
        if self.next < self.end && self.ahead.is_none() {
            let mut ahead = maybe_done(self.pull());
            // The request waits to be written; what has come already is kept.
            let _ = futures::poll!(&mut ahead);
            self.ahead = Some(ahead);
            // The connection's task writes it, so that the broker works while this page is looked at.
            tokio::task::yield_now().await;
        }
    }

    /// The page from `next` on.
    async fn pulled(&mut self) -> Result<Page, ReadError> {
        if let Some(mut ahead) = self.ahead.take() {
            (&mut ahead).await;
            // A failure may be long over: a replay pauses as long as the lesson did.
            if let Some(Ok(page)) = Pin::new(&mut ahead).take_output() {
                return Ok(page);
            }
        }
        self.pull().await
    }

    fn pull(&self) -> Pull<'a> {
        let (reader, place, from) = (self.reader, self.place.clone(), self.next);
        Box::pin(async move {
            let Place { topic, queue, tag } = &*place;
            reader.pull(topic, queue, tag.as_deref(), from, PAGE_MESSAGES).await
        })
    }

    fn no_progress(&self) -> ReadError {
        self.failed(
            "the broker counts messages there but does not hand them out; see the broker's log".to_owned(),
        )
    }

    /// The error for a queue whose next offset is gone: to go on would leave messages out without a word.
    fn cut(&self, page: &Page) -> ReadError {
        self.failed(format!(
            "the queue was emptied, or old messages were deleted, while it was read: it holds the offsets from {} up to {} \
             now; read it again",
            page.first, page.end
        ))
    }

    fn failed(&self, cause: String) -> ReadError {
        ReadError {
            what: format!("topic {}, queue {} at offset {}", self.place.topic, self.place.queue, self.next),
            cause,
            kind: FailureKind::Unknown,
        }
    }
}

/// Takes the message that was stored first among the next messages of all queues.
pub(crate) async fn earliest(cursors: &mut [Cursor<'_>]) -> Result<Option<StoredMessage>, ReadError> {
    if cursors.iter().any(Cursor::is_without_page) {
        // First all are asked, and then waited for.
        for cursor in cursors.iter_mut().filter(|cursor| cursor.is_without_page()) {
            cursor.ask_ahead().await;
        }
        for cursor in cursors.iter_mut() {
            cursor.fill().await?;
        }
    }
    // With equal times the topic, queue and offset decide, so that every reading gives the same order.
    let first = cursors
        .iter_mut()
        .filter(|cursor| !cursor.page.is_empty())
        .min_by(|a, b| a.front_order().cmp(&b.front_order()));
    Ok(first.and_then(|cursor| cursor.page.pop_front()))
}

impl Cursor<'_> {
    fn front_order(&self) -> Option<(u64, &str, &QueueName, u64)> {
        let message = self.page.front()?;
        Some((message.stored_ms, &self.place.topic, &self.place.queue, message.queue_offset))
    }
}
