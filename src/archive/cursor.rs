//! Reads message queues forward, page by page, each up to the end that it had when the reading began.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::{FailureKind, QueueName, StoredMessage};
use crate::pipeline::ports::{Page, ReadError, Reader};

const PAGE_MESSAGES: u32 = 256;
/// RocketMQ hands a message out some milliseconds after it confirmed it.
const SETTLE: Duration = Duration::from_millis(20);
const SETTLE_ATTEMPTS: u32 = 150;

/// The position in one queue; holds at most one page of messages.
#[derive(Debug)]
pub(crate) struct Cursor {
    topic: String,
    queue: QueueName,
    tag: Option<String>,
    next: u64,
    end: u64,
    page: VecDeque<StoredMessage>,
}

impl Cursor {
    /// Reads the offsets from `from` up to, but not including, `end`; `tag`: `None` = messages of all tags.
    pub(crate) fn new(topic: &str, queue: QueueName, tag: Option<String>, from: u64, end: u64) -> Self {
        Self { topic: topic.to_owned(), queue, tag, next: from, end, page: VecDeque::new() }
    }

    /// A second cursor for the same range. Only before this one has read anything.
    pub(crate) fn restarted(&self) -> Self {
        Self::new(&self.topic, self.queue.clone(), self.tag.clone(), self.next, self.end)
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

    /// Whether the next call of [`Self::next`] has to pull a page.
    pub(crate) fn is_at_page_end(&self) -> bool {
        self.page.is_empty()
    }

    /// The next message.
    pub(crate) async fn next(&mut self, reader: &dyn Reader) -> Result<Option<StoredMessage>, ReadError> {
        self.fill(reader).await?;
        Ok(self.page.pop_front())
    }

    /// Pulls until there is a message or the end is reached.
    async fn fill(&mut self, reader: &dyn Reader) -> Result<(), ReadError> {
        let mut attempts = 0;
        while self.page.is_empty() && self.next < self.end {
            let page =
                reader.pull(&self.topic, &self.queue, self.tag.as_deref(), self.next, PAGE_MESSAGES).await?;
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
            let end = self.end;
            self.page.extend(page.messages.into_iter().filter(|message| message.queue_offset < end));
        }
        Ok(())
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
            what: format!("topic {}, queue {} at offset {}", self.topic, self.queue, self.next),
            cause,
            kind: FailureKind::Unknown,
        }
    }
}

/// Takes the message that was stored first among the next messages of all queues.
pub(crate) async fn earliest(
    cursors: &mut [Cursor],
    reader: &dyn Reader,
) -> Result<Option<StoredMessage>, ReadError> {
    for cursor in cursors.iter_mut() {
        cursor.fill(reader).await?;
    }
    // With equal times the topic, queue and offset decide, so that every reading gives the same order.
    let first = cursors
        .iter_mut()
        .filter(|cursor| !cursor.page.is_empty())
        .min_by(|a, b| a.front_order().cmp(&b.front_order()));
    Ok(first.and_then(|cursor| cursor.page.pop_front()))
}

impl Cursor {
    fn front_order(&self) -> Option<(u64, &str, &QueueName, u64)> {
        let message = self.page.front()?;
        Some((message.stored_ms, &self.topic, &self.queue, message.queue_offset))
    }
}
