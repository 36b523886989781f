//! One look at a queue: which messages follow the offset that was reached, and whether the queue is still the same one.
//!
//! Promises: a look gives messages behind an offset only after it has seen the message before the offset in its place again,
//! in a later answer. A silent queue is compared now and then, because a queue that was made anew may have grown to the same
//! length.

use std::sync::Arc;

use crate::model::QueueName;
use crate::pipeline::ports::{Page, ReadError, Reader};
use crate::pipeline::same_queue::{Change, Compared, compare};

/// By default, an answer of RocketMQ holds 32 messages.
const PAGE_MESSAGES: u32 = 32;

/// One question to a queue: what comes after this offset?
pub(super) struct Look {
    pub reader: Arc<dyn Reader>,
    pub topic: Arc<str>,
    pub queue: QueueName,
    pub next: u64,
    /// The name of the message just before `next`, if it is known.
    pub last: Option<String>,
    /// Compare the queue even if nothing is found.
    pub compare: bool,
}

/// What was seen.
pub(super) enum Seen {
    Page {
        page: Page,
        /// Whether the look has seen that the queue is the same.
        compared: bool,
        /// The name of the message just before the offset, if the queue was compared.
        last: Option<String>,
    },
    Changed(Change),
}

impl Look {
    pub(crate) async fn take(self) -> Result<Seen, ReadError> {
        let (reader, topic, queue) = (&*self.reader, &*self.topic, &self.queue);
        let page = reader.pull(topic, queue, None, self.next, PAGE_MESSAGES).await?;
        let nothing_before = page.first == self.next;
        let nothing_new = page.holds(self.next) && page.next_offset == self.next;
        if nothing_before || (nothing_new && !self.compare) {
            return Ok(Seen::Page { page, compared: nothing_before, last: None });
        }
        let compared = compare(reader, topic, queue, self.next, self.last.as_deref()).await?;
        Ok(match compared {
            Compared::Changed(change) => Seen::Changed(change),
            Compared::Same { last } => Seen::Page { page, compared: true, last },
        })
    }
}
