//! Reads message queues forward, page by page, each up to the end that it had when the reading began.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, MaybeDone, maybe_done};

use crate::model::{FailureKind, QueueName};
use crate::pipeline::ports::{InOrder, Named, PageInOrder, ReadError, Reader, Wanted};

const PAGE_MESSAGES: u32 = 256;
/// RocketMQ hands a message out some milliseconds after it confirmed it.
const SETTLE: Duration = Duration::from_millis(20);
const SETTLE_ATTEMPTS: u32 = 150;

/// So many messages that an index names are read together.
const NAMED_TOGETHER: usize = 256;

/// The position in one queue; holds at most two pages of messages.
pub(crate) struct Cursor<'a> {
    reader: &'a dyn Reader,
    sought: Arc<Sought>,
    /// Read first, all of them before `next`.
    named: VecDeque<Named>,
    named_room: Arc<str>,
    next: u64,
    /// The highest store time before `next`.
    before_ms: u64,
    end: u64,
    page: VecDeque<InOrder>,
    /// The page from `next` on, which was asked for while this one is handed out.
    ahead: Option<MaybeDone<Pull<'a>>>,
}

/// What a cursor reads.
pub(crate) struct Sought {
    /// RocketMQ topic.
    pub topic: String,
    /// One of its queues.
    pub queue: QueueName,
    /// Only messages of this tag; `None` = of all tags.
    pub tag: Option<String>,
    /// Only what says itself that it is of this room is needed; `None` = everything is.
    pub room: Option<String>,
}

/// The part of a range that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Narrow {
    /// Its first offset.
    pub first: u64,
    /// The highest store time up to that offset.
    pub eff_ms: u64,
    /// Its last offset.
    pub last: u64,
}

type Pull<'a> = BoxFuture<'a, Result<PageInOrder, ReadError>>;

impl<'a> Cursor<'a> {
    /// Reads the offsets from `from` up to, but not including, `end`. `before_ms`: the highest store time before `from`.
    pub(crate) fn new(
        reader: &'a dyn Reader,
        sought: Sought,
        (from, before_ms): (u64, u64),
        end: u64,
    ) -> Self {
        let sought = Arc::new(sought);
        let (named, page) = (VecDeque::new(), VecDeque::new());
        let named_room = Arc::from("");
        Self { reader, sought, named, named_room, next: from, before_ms, end, page, ahead: None }
    }

    /// Reads these messages of a room first; they lie before its range.
    pub(crate) fn after(self, room: &str, named: Vec<Named>) -> Self {
        Self { named: named.into(), named_room: room.into(), ..self }
    }

    /// A second cursor for the same range. Only before this one has read anything.
    pub(crate) fn restarted(&self) -> Self {
        Self {
            reader: self.reader,
            sought: self.sought.clone(),
            named: self.named.clone(),
            named_room: self.named_room.clone(),
            next: self.next,
            before_ms: self.before_ms,
            end: self.end,
            page: VecDeque::new(),
            ahead: None,
        }
    }

    /// Narrows the range; `None` = to nothing. Only before this one has read anything.
    pub(crate) fn narrow(&mut self, to: Option<Narrow>) {
        match to {
            Some(Narrow { first, eff_ms, last }) => {
                self.named.retain(|named| (first..=last).contains(&named.offset));
                if first >= self.next {
                    (self.next, self.before_ms) = (first, eff_ms);
                }
                self.end = self.end.min(last + 1);
            }
            None => {
                self.named.clear();
                self.next = self.end;
            }
        }
    }

    /// Which queue it reads.
    pub(crate) fn sought(&self) -> &Sought {
        &self.sought
    }

    /// As [`Self::sought`], for whoever waits meanwhile: who holds a cursor while waiting cannot move to another thread.
    pub(crate) fn shared_sought(&self) -> Arc<Sought> {
        self.sought.clone()
    }

    /// The highest store time before what was not asked for yet.
    pub(crate) fn before_ms(&self) -> u64 {
        self.before_ms
    }

    /// The offsets that are still to be read, and those that lie between.
    pub(crate) fn range(&self) -> Range<u64> {
        let from = self.named.front().map_or(self.next, |named| named.offset);
        from..self.end.max(self.next)
    }

    /// How many offsets are still to be read.
    pub(crate) fn remaining(&self) -> u64 {
        self.named.len() as u64 + self.end.saturating_sub(self.next)
    }

    /// How many offsets are still to be read of which no index knows what they hold.
    pub(crate) fn unnamed(&self) -> u64 {
        self.end.saturating_sub(self.next)
    }

    /// All messages of the next page that holds any; empty at the end.
    pub(crate) async fn next_page(&mut self) -> Result<VecDeque<InOrder>, ReadError> {
        self.fill().await?;
        Ok(std::mem::take(&mut self.page))
    }

    /// Pulls until there is a message or the end is reached.
    async fn fill(&mut self) -> Result<(), ReadError> {
        let mut attempts = 0;
        while self.is_without_page() {
            let is_named = !self.named.is_empty();
            let mut page = self.pulled().await?;
            if is_named {
                self.named.drain(..NAMED_TOGETHER.min(self.named.len()));
                self.page = page.messages.into();
                self.ask_ahead().await;
                continue;
            }
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
            (self.next, self.before_ms) = (page.next_offset, page.before_ms);
            page.messages.retain(|message| message.message.queue_offset < self.end);
            self.page = page.messages.into();
            self.ask_ahead().await;
        }
        Ok(())
    }

    fn is_without_page(&self) -> bool {
        self.page.is_empty() && self.remaining() > 0
    }

    /// Asks for the next page, and does not wait for it.
    pub(crate) async fn ask_ahead(&mut self) {
        if self.remaining() > 0 && self.ahead.is_none() {
            let mut ahead = maybe_done(self.pull());
            // The request waits to be written; what has come already is kept.
            let _ = futures::poll!(&mut ahead);
            self.ahead = Some(ahead);
            // The connection's task writes it, so that the broker works while this page is looked at.
            tokio::task::yield_now().await;
        }
    }

    /// The page from `next` on.
    async fn pulled(&mut self) -> Result<PageInOrder, ReadError> {
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
        let (reader, sought, at) = (self.reader, self.sought.clone(), (self.next, self.before_ms));
        let named: Vec<Named> = self.named.iter().take(NAMED_TOGETHER).copied().collect();
        if !named.is_empty() {
            let room = self.named_room.clone();
            return Box::pin(async move {
                let messages = reader.read_named(&sought.topic, &sought.queue, &room, &named).await?;
                Ok(PageInOrder { messages, next_offset: at.0, before_ms: at.1, first: 0, end: at.0 })
            });
        }
        Box::pin(async move {
            let Sought { topic, queue, tag, room } = &*sought;
            let wanted = Wanted { tag: tag.as_deref(), room: room.as_deref() };
            reader.read_on(topic, queue, wanted, at, PAGE_MESSAGES).await
        })
    }

    fn no_progress(&self) -> ReadError {
        self.failed(
            "the broker counts messages there but does not hand them out; see the broker's log".to_owned(),
        )
    }

    /// The error for a queue whose next offset is gone: to go on would leave messages out without a word.
    fn cut(&self, page: &PageInOrder) -> ReadError {
        self.failed(format!(
            "the queue was emptied, or old messages were deleted, while it was read: it holds the offsets from {} up to {} \
             now; read it again",
            page.first, page.end
        ))
    }

    fn failed(&self, cause: String) -> ReadError {
        ReadError {
            what: format!("topic {}, queue {} at offset {}", self.sought.topic, self.sought.queue, self.next),
            cause,
            kind: FailureKind::Unknown,
        }
    }
}

/// Takes the first of the next messages of all queues, in the order of readers: by the highest store time of its queue up to it, then
/// by topic, queue and offset. So every reading gives the same order, from wherever it begins. Says whose it was, too.
pub(crate) async fn earliest(cursors: &mut [Cursor<'_>]) -> Result<Option<(usize, InOrder)>, ReadError> {
    if cursors.iter().any(Cursor::is_without_page) {
        // First all are asked, and then waited for.
        for cursor in cursors.iter_mut().filter(|cursor| cursor.is_without_page()) {
            cursor.ask_ahead().await;
        }
        for cursor in cursors.iter_mut() {
            cursor.fill().await?;
        }
    }
    let fronts = cursors.iter_mut().enumerate().filter(|(_, cursor)| !cursor.page.is_empty());
    let first = fronts.min_by(|(_, a), (_, b)| a.front_order().cmp(&b.front_order()));
    Ok(first.and_then(|(number, cursor)| Some((number, cursor.page.pop_front()?))))
}

impl Cursor<'_> {
    fn front_order(&self) -> Option<(u64, &str, &QueueName, u64)> {
        let InOrder { eff_ms, message } = self.page.front()?;
        Some((*eff_ms, &self.sought.topic, &self.sought.queue, message.queue_offset))
    }
}
