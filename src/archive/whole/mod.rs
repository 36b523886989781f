//! RocketMQ and the archive as one: what RocketMQ has forgotten is read from the pieces, and everything else from RocketMQ.
//!
//! Where a queue goes over from one to the other is an offset: the end of the last piece when its topic was listed. So nothing is left
//! out and nothing comes twice, whatever the clocks say. If pieces were merged meanwhile, or RocketMQ forgot what was archived
//! meanwhile, the store is listed again, and the reading goes on by offset. A topic that was made anew has a queue of its own here for
//! each time that it was made.
//!
//! Promises: messages come in the order of readers, exactly, from wherever a reading begins, if the archive has the beginning of
//! the queue; memory is bounded by [`pieces`], however large the pieces are; what is gone for good is noted where it lay.
//! Must never: take messages that RocketMQ has now for those that were archived under the same offsets.

mod bounded;
mod indexed;
mod listing;
mod pieces;
mod topic;
mod trouble;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};

use self::pieces::{Part, Pieces, WINDOWS_BYTES};
use self::topic::{Found, Queue, Topic};
use self::trouble::Trouble;
use crate::index::Index;
use crate::model::{FailureKind, MessageId, QueueName};
use crate::piece::{Place, day_of};
use crate::piece_store::PieceStore;
use crate::pipeline::ports::{
    Elsewhere, InOrder, Named, OfId, Page, PageInOrder, ReadError, Reader, RoomAsked, RoomOffsets, Wanted,
    Withheld,
};

/// At least so many windows find room beside each other.
const WINDOWS: usize = 4;
/// A page ends when its messages have so many bytes.
const PAGE_BYTES: usize = 1 << 20;
const PAGE_MESSAGES: u32 = 256;
/// Lines of so many pieces are looked up at once.
const PIECES_AT_ONCE: usize = 16;

/// A reader that looks at each topic once, and again when it must.
pub(crate) struct Whole {
    rocketmq: Arc<dyn Reader>,
    pieces: Arc<Pieces>,
    topics: Mutex<HashMap<String, Arc<Topic>>>,
    /// Ranges that nobody can read any more, as far as this reader came by. As many as the archive's books have.
    lost: Mutex<HashMap<(String, QueueName), Ranges>>,
    index: Option<Arc<Index>>,
}

/// First offset and the one after the last.
type Ranges = BTreeSet<(u64, u64)>;

/// One queue, as it was listed.
struct Known {
    topic: Arc<Topic>,
    queue: Arc<Queue>,
}

impl Whole {
    /// Looks at nothing yet.
    pub(crate) fn new(rocketmq: Arc<dyn Reader>, store: PieceStore) -> Self {
        Self {
            rocketmq,
            pieces: Arc::new(Pieces::new(store)),
            topics: Mutex::default(),
            lost: Mutex::default(),
            index: None,
        }
    }

    /// Asks this index where messages of a room lie; `None` = there is none.
    pub(crate) fn with_index(self, index: Option<Arc<Index>>) -> Self {
        Self { index, ..self }
    }

    /// A reader of the same store that looks at each topic anew.
    pub(crate) fn anew(&self) -> Self {
        Self {
            rocketmq: self.rocketmq.clone(),
            pieces: self.pieces.clone(),
            topics: Mutex::default(),
            lost: Mutex::default(),
            index: self.index.clone(),
        }
    }

    /// The queues of a topic, by the names that they have here: which queue of RocketMQ, and which one of that name.
    pub(crate) async fn places(&self, topic: &str) -> Result<BTreeMap<QueueName, Place>, ReadError> {
        let known = self.topic(topic).await?;
        Ok(known.queues.iter().map(|(name, queue)| (name.clone(), queue.place.clone())).collect())
    }

    /// Whether RocketMQ has that queue.
    pub(crate) async fn has_live(&self, topic: &str, name: &QueueName) -> Result<bool, ReadError> {
        Ok(self.known(topic, name).await?.queue.is_live)
    }

    /// How many messages were gone before they could be archived, as far as this reader came by.
    pub(crate) fn lost_in_all(&self) -> u64 {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.values().flatten().map(|(from, to)| to.saturating_sub(*from)).sum()
    }

    async fn known(&self, topic: &str, name: &QueueName) -> Result<Known, ReadError> {
        let known = self.topic(topic).await?;
        let queue = known.queues.get(name).cloned().ok_or_else(|| unknown(topic, name))?;
        Ok(Known { topic: known, queue })
    }

    /// What the archive has at that offset, or the offset behind a gap.
    async fn found_at(
        &self,
        topic: &str,
        name: &QueueName,
        queue: &Queue,
        offset: u64,
    ) -> Result<Found, Trouble> {
        let found = queue.found_at(offset, &self.pieces).await?;
        match &found {
            Found::Part(part) => {
                for lost in queue.lost_in(part, &self.pieces).await? {
                    self.note_lost(topic, name, lost);
                }
            }
            Found::Gap(to) => self.note_lost(topic, name, offset..*to),
        }
        Ok(found)
    }

    fn note_lost(&self, topic: &str, name: &QueueName, offsets: Range<u64>) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let of_queue = lost.entry((topic.to_owned(), name.clone())).or_default();
        of_queue.insert((offsets.start, offsets.end));
    }

    /// So many bytes of lines are kept for each queue, so that a merge of all queues reads no piece again and again.
    fn window_bytes(&self) -> usize {
        let topics = self.lock_topics();
        WINDOWS_BYTES / topics.values().map(|topic| topic.queues.len()).sum::<usize>().max(WINDOWS)
    }

    async fn read_archived(
        &self,
        part: &Part,
        wanted: Wanted<'_>,
        from: u64,
        limit: u32,
    ) -> Result<PageInOrder, Trouble> {
        let window = self.pieces.window(part, wanted.room, from, self.window_bytes()).await?;
        let end = window.to.min(part.to);
        let mut page = PageInOrder { messages: Vec::new(), next_offset: end, before_ms: 0, first: from, end };
        let mut bytes = 0;
        for message in window.messages(from) {
            let message = message.map_err(|cause| Trouble::unreadable(&part.piece.key, &cause))?;
            let offset = message.message.queue_offset;
            if offset >= end {
                break;
            }
            if page.messages.len() as u32 >= limit || bytes > PAGE_BYTES {
                page.next_offset = offset;
                break;
            }
            if wanted.tag.is_none_or(|tag| message.message.tag == tag) {
                bytes += message.message.body.len();
                page.messages.push(message);
            }
        }
        let is_all = page.next_offset == part.directory.to;
        page.before_ms =
            if is_all { part.directory.store_time_ms } else { window.before_ms(page.next_offset) };
        Ok(page)
    }

    async fn read_rocketmq(
        &self,
        known: &Known,
        (topic, name): (&str, &QueueName),
        wanted: Wanted<'_>,
        (from, before_ms): (u64, u64),
        limit: u32,
        is_last_try: bool,
    ) -> Result<PageInOrder, Trouble> {
        let queue = &known.queue;
        let is_archived = queue.archived_from().is_some();
        // The store times of all messages make the order.
        let asked = if is_archived { Wanted::default() } else { wanted };
        let before_ms = if from == queue.seam { before_ms.max(queue.store_time_ms) } else { before_ms };
        let mut page = self.rocketmq.read_on(topic, name, asked, (from, before_ms), limit).await?;
        if is_archived && page.first > from {
            if !is_last_try {
                // They may have been archived meanwhile.
                return Err(Trouble::Changed(forgotten(topic, name, from, page.first)));
            }
            self.note_lost(topic, name, from..page.first);
            page.next_offset = page.first;
        }
        page.messages.retain(|message| wanted.tag.is_none_or(|tag| message.message.tag == tag));
        page.first = queue.archived_from().map_or(page.first, |first| first.min(page.first));
        Ok(page)
    }

    async fn end_of(&self, topic: &str, name: &QueueName, queue: &Queue) -> Result<u64, ReadError> {
        match queue.is_live {
            true => Ok(self.rocketmq.offsets(topic, name).await?.1.max(queue.seam)),
            false => Ok(queue.seam),
        }
    }

    async fn read_known(
        &self,
        known: &Known,
        (topic, name): (&str, &QueueName),
        wanted: Wanted<'_>,
        (from, before_ms): (u64, u64),
        limit: u32,
        is_last_try: bool,
    ) -> Result<PageInOrder, Trouble> {
        let queue = &*known.queue;
        let (first, seam) = (queue.archived_from().unwrap_or(0), queue.seam);
        if from >= seam && queue.is_live {
            let at = (from, before_ms);
            return self.read_rocketmq(known, (topic, name), wanted, at, limit, is_last_try).await;
        }
        let mut page = if from >= seam {
            PageInOrder { messages: Vec::new(), next_offset: from, before_ms, first, end: seam }
        } else {
            match self.found_at(topic, name, queue, from.max(first)).await? {
                Found::Part(part) => self.read_archived(&part, wanted, from.max(first), limit).await?,
                Found::Gap(to) => {
                    PageInOrder { messages: Vec::new(), next_offset: to, before_ms, first, end: seam }
                }
            }
        };
        (page.first, page.end) = (first, seam);
        Ok(page)
    }

    /// The messages at these offsets, from pieces and from RocketMQ.
    async fn named_known(
        &self,
        known: &Known,
        (topic, name): (&str, &QueueName),
        room: &str,
        named: &[Named],
        is_last_try: bool,
    ) -> Result<Vec<InOrder>, Trouble> {
        let queue = &*known.queue;
        let (archived, live) = named.split_at(named.partition_point(|named| named.offset < queue.seam));
        let mut parts: Vec<(Part, &[Named])> = Vec::new();
        let mut left = archived;
        while let Some(first) = left.first() {
            let here = match self.found_at(topic, name, queue, first.offset).await? {
                Found::Gap(to) => left.partition_point(|named| named.offset < to),
                Found::Part(part) => {
                    let count = left.partition_point(|named| named.offset < part.to);
                    parts.push((part, left.get(..count).unwrap_or_default()));
                    count
                }
            };
            left = left.get(here.max(1)..).unwrap_or_default();
        }
        let mut asked = Vec::with_capacity(parts.len());
        for (part, named) in &parts {
            asked.push(self.pieces.named(part, room, named));
        }
        let found: Vec<_> = stream::iter(asked).buffered(PIECES_AT_ONCE).try_collect().await?;
        let mut found = found.concat();
        if queue.is_live && !live.is_empty() {
            let pulled = self.rocketmq.read_named(topic, name, room, live).await?;
            if let (true, Some(first), false) = (pulled.len() < live.len(), live.first(), is_last_try) {
                // They may have been archived meanwhile.
                return Err(Trouble::Changed(forgotten(topic, name, first.offset, first.offset)));
            }
            found.extend(pulled);
        }
        Ok(found)
    }

    async fn offset_known(
        &self,
        (topic, name): (&str, &QueueName),
        queue: &Queue,
        stored_ms: u64,
    ) -> Result<u64, Trouble> {
        let mut offset = queue.begin_for(&day_of(stored_ms));
        while queue.archived_from().is_some() && offset < queue.seam {
            offset = match self.found_at(topic, name, queue, offset).await? {
                Found::Gap(to) => to,
                Found::Part(part) if part.directory.store_time_ms < stored_ms => part.to,
                Found::Part(part) => match self.pieces.offset_at(&part, offset, stored_ms).await? {
                    Some(found) => return Ok(found),
                    None => part.to,
                },
            };
        }
        match queue.is_live {
            true => Ok(self.rocketmq.offset_at(topic, name, stored_ms).await?.max(queue.seam)),
            false => Ok(queue.seam),
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

    fn withheld<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<Withheld>, ReadError>> {
        Box::pin(async move {
            let mut withheld = self.rocketmq.withheld(topic).await?;
            if !withheld.is_empty() {
                let known = self.topic(topic).await?;
                withheld.retain_mut(|withheld| known.is_left_of(withheld));
            }
            Ok(withheld)
        })
    }

    fn offsets<'a>(
        &'a self,
        topic: &'a str,
        name: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        Box::pin(async move {
            let Known { queue, .. } = self.known(topic, name).await?;
            match queue.archived_from() {
                Some(first) => Ok((first, self.end_of(topic, name, &queue).await?)),
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
            let mut listings = 0;
            loop {
                let known = self.known(topic, name).await?;
                match self.offset_known((topic, name), &known.queue, stored_ms).await {
                    Ok(found) => return Ok(found),
                    Err(trouble) => self.list_again(&known, trouble, &mut listings).await?,
                }
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
            let wanted = Wanted { tag, room: None };
            let page = self.read_on(topic, name, wanted, (from_offset, 0), limit).await?;
            let PageInOrder { messages, next_offset, first, end, .. } = page;
            let messages = messages.into_iter().map(|message| message.message).collect();
            Ok(Page { messages, next_offset, first, end })
        })
    }

    fn read_on<'a>(
        &'a self,
        topic: &'a str,
        name: &'a QueueName,
        wanted: Wanted<'a>,
        at: (u64, u64),
        limit: u32,
    ) -> BoxFuture<'a, Result<PageInOrder, ReadError>> {
        Box::pin(async move {
            let mut listings = 0;
            loop {
                let known = self.known(topic, name).await?;
                let read = self.read_known(&known, (topic, name), wanted, at, limit, listings > 0).await;
                match read {
                    Ok(page) => return Ok(page),
                    Err(trouble) => self.list_again(&known, trouble, &mut listings).await?,
                }
            }
        })
    }

    fn store_time_before<'a>(
        &'a self,
        topic: &'a str,
        name: &'a QueueName,
        offset: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(async move {
            let Known { queue, .. } = self.known(topic, name).await?;
            // A piece knows by itself, and where nothing was archived nobody wrote it down.
            if !queue.is_live || queue.archived_from().is_none() || offset <= queue.seam {
                return Ok(0);
            }
            let (mut next, mut before_ms) = (queue.seam, queue.store_time_ms);
            while next < offset {
                let limit = u32::try_from(offset - next).unwrap_or(PAGE_MESSAGES).min(PAGE_MESSAGES);
                let page = self.read_on(topic, name, Wanted::default(), (next, before_ms), limit).await?;
                if page.next_offset <= next {
                    break;
                }
                let before = page.messages.iter().take_while(|message| message.message.queue_offset < offset);
                before_ms = before.last().map_or(before_ms, |message| message.eff_ms);
                next = page.next_offset;
            }
            Ok(before_ms)
        })
    }

    fn read_named<'a>(
        &'a self,
        topic: &'a str,
        name: &'a QueueName,
        room: &'a str,
        named: &'a [Named],
    ) -> BoxFuture<'a, Result<Vec<InOrder>, ReadError>> {
        Box::pin(async move {
            let mut listings = 0;
            loop {
                let known = self.known(topic, name).await?;
                match self.named_known(&known, (topic, name), room, named, listings > 0).await {
                    Ok(found) => return Ok(found),
                    Err(trouble) => self.list_again(&known, trouble, &mut listings).await?,
                }
            }
        })
    }

    fn of_room<'a>(
        &'a self,
        asked: &'a RoomAsked<'a>,
    ) -> BoxFuture<'a, Result<Option<RoomOffsets>, ReadError>> {
        Box::pin(self.rows_of(asked))
    }

    fn look_for_ids<'a>(
        &'a self,
        asked: &'a RoomAsked<'a>,
        ids: &'a [MessageId],
        elsewhere: Elsewhere<'a>,
        found: &'a mut (dyn FnMut(OfId<'_>) -> ControlFlow<()> + Send),
    ) -> BoxFuture<'a, Result<(), ReadError>> {
        Box::pin(self.find_ids(asked, ids, elsewhere, found))
    }

    fn lost(&self, topic: &str, name: &QueueName, offsets: Range<u64>) -> Vec<Range<u64>> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let of_queue = lost.get(&(topic.to_owned(), name.clone()));
        let mut found: Vec<Range<u64>> = Vec::new();
        for (from, to) in of_queue.into_iter().flatten() {
            let (from, to) = ((*from).max(offsets.start), (*to).min(offsets.end));
            match found.last_mut() {
                _ if from >= to => {}
                Some(last) if from <= last.end => last.end = last.end.max(to),
                Some(_) | None => found.push(from..to),
            }
        }
        found
    }
}

fn forgotten(topic: &str, queue: &QueueName, from: u64, first: u64) -> ReadError {
    ReadError {
        what: format!("topic {topic}, queue {queue} at offset {from}"),
        cause: format!("it begins with offset {first} now"),
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
