//! Reads a range of one queue into a piece.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use futures::future::{BoxFuture, MaybeDone, maybe_done};

use super::ArchiveError;
use super::queue::Queue;
use crate::binding::read_back;
use crate::model::{FailureKind, Kind, LostCause, StoredMessage};
use crate::piece::{Lost, PieceWriter};
use crate::pipeline::ports::{Page, ReadError, Reader};

const PAGE_MESSAGES: u32 = 256;
/// RocketMQ hands a message out some milliseconds after it confirmed it.
const SETTLE: Duration = Duration::from_millis(20);
const SETTLE_ATTEMPTS: u32 = 150;

/// What is read and not archived; it is counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeaveOut {
    /// Messages of these kinds.
    pub kinds: BTreeSet<Kind>,
}

impl LeaveOut {
    /// The reason, if the message is left out.
    fn reason(&self, kind: Kind) -> Option<&'static str> {
        self.kinds.contains(&kind).then(|| kind.as_str())
    }
}

/// A piece that is read, and not made yet.
pub(super) struct Gathered {
    pub writer: PieceWriter,
    /// The store time at which it begins.
    pub from_store_ms: u64,
    /// The offset after its last one.
    pub next: u64,
    /// Whether the message before it is the one that was archived.
    pub is_proven: bool,
}

/// What a page shows of the time of its queue: a topic can be made anew between two questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// The message before is the one that was read before.
    Proven,
    /// That message is not given out any more, or none is known.
    Open,
    /// It is another queue than before.
    Broken,
}

impl Link {
    /// `before`: names the message before `next`; `first`: the first offset that the queue had.
    fn of(page: &Page, next: u64, before: Option<&str>, first: u64) -> Self {
        if page.first < first || page.end < next {
            return Self::Broken;
        }
        let at = |message: &&StoredMessage| message.queue_offset + 1 == next;
        match (page.messages.iter().find(at), before) {
            (Some(found), Some(before)) if found.name() == before => Self::Proven,
            (Some(_), Some(_)) => Self::Broken,
            (None, _) | (Some(_), None) => Self::Open,
        }
    }
}

/// Reads from the queue's next offset on, until the lines have so many bytes or `end` is reached. Each page begins with the last message
/// that is known, so all of a piece is of one time of the queue. `None`: it is another queue than the one that was archived.
pub(super) async fn gather(
    reader: &dyn Reader,
    leave_out: &LeaveOut,
    queue: &Queue,
    mut end: u64,
    max_bytes: usize,
) -> Result<Option<Gathered>, ArchiveError> {
    let place = &queue.place;
    let mut writer = PieceWriter::new(place.clone(), queue.next, queue.store_time_ms);
    let (mut next, mut from_store_ms, mut attempts, mut is_proven) = (queue.next, None, 0, false);
    let mut before = queue.last.clone();
    // Nothing of it is archived: where it begins earlier, it is another one.
    let mut first = if queue.is_without_piece { queue.next } else { 0 };
    let pull = |at| reader.pull(&place.topic, &place.queue, None, at, PAGE_MESSAGES);
    let mut ahead: Option<Ahead<'_>> = None;
    while next < end && writer.raw_bytes() < max_bytes {
        let at = if before.is_some() { next.saturating_sub(1) } else { next };
        let asked = match ahead.take() {
            Some(ahead) if ahead.at == at => ahead.page().await,
            Some(_) | None => None,
        };
        let page = match asked {
            Some(page) => page,
            None => pull(at).await?,
        };
        let link = Link::of(&page, next, before.as_deref(), first);
        match (link, from_store_ms) {
            (Link::Broken, None) => return Ok(None),
            (Link::Proven, None) => is_proven = true,
            (Link::Open, None) | (Link::Proven, Some(_)) => {}
            // What was read is of one time. What follows is the next piece, or of another queue.
            (Link::Broken | Link::Open, Some(_)) => break,
        }
        first = first.max(page.first);
        if page.first > at {
            // RocketMQ deleted what was asked for, and gave nothing out.
            let lost = Lost { from: next, to: page.first.min(end), cause: LostCause::Deleted };
            (next, before) = (lost.to, None);
            if lost.from < lost.to {
                writer.lose(lost);
            }
            continue;
        }
        // A broker may begin with messages that stand before the one that was asked for.
        let messages: Vec<_> = page.messages.iter().filter(|message| message.queue_offset >= next).collect();
        let is_whole = messages.first().is_some_and(|message| message.queue_offset == next);
        if !is_whole {
            attempts += 1;
            if attempts <= SETTLE_ATTEMPTS {
                tokio::time::sleep(SETTLE).await;
                continue;
            }
            let Some(to) = messages.first().map(|message| message.queue_offset) else {
                return Err(silent(queue, next).into());
            };
            writer.lose(Lost { from: next, to, cause: LostCause::NotGivenOut });
            (next, before) = (to, None);
            // A piece ends with a message, which tells the queue from others afterwards; what is kept back may be given out later.
            end = end.max(to + 1);
        }
        attempts = 0;
        if is_whole && page.next_offset < end {
            let at = page.next_offset.saturating_sub(1);
            ahead = Some(Ahead::ask(at, pull(at)).await);
        }
        for message in messages {
            // What is behind a hole, or beyond the piece, is asked for again.
            if message.queue_offset != next || next == end || writer.raw_bytes() >= max_bytes {
                break;
            }
            from_store_ms.get_or_insert(queue.store_time_ms.max(message.stored_ms));
            let recorded = read_back(message);
            match leave_out.reason(recorded.kind) {
                Some(reason) => writer.skip(message, reason),
                None => writer.push(message, &recorded).map_err(|error| unwritable(queue, &error))?,
            }
            (next, before) = (next + 1, Some(message.name()));
        }
    }
    let from_store_ms = from_store_ms.unwrap_or(queue.store_time_ms);
    Ok(Some(Gathered { writer, from_store_ms, next, is_proven }))
}

/// A page that was asked for before it is needed, so that RocketMQ works while the one before it is looked at.
struct Ahead<'a> {
    at: u64,
    page: MaybeDone<Pull<'a>>,
}

type Pull<'a> = BoxFuture<'a, Result<Page, ReadError>>;

impl<'a> Ahead<'a> {
    /// Does not wait for the answer.
    async fn ask(at: u64, pull: Pull<'a>) -> Self {
        let mut page = maybe_done(pull);
        let _ = futures::poll!(&mut page);
        // The connection's task writes the request.
        tokio::task::yield_now().await;
        Self { at, page }
    }

    /// `None`: it failed, which may be over when it is asked for again.
    async fn page(mut self) -> Option<Page> {
        (&mut self.page).await;
        Pin::new(&mut self.page).take_output()?.ok()
    }
}

fn silent(queue: &Queue, next: u64) -> ReadError {
    ReadError {
        what: format!("topic {}, queue {} at offset {next}", queue.place.topic, queue.place.queue),
        cause: "the broker counts messages there but does not hand them out; see the broker's log".to_owned(),
        kind: FailureKind::Unknown,
    }
}

fn unwritable(queue: &Queue, error: &serde_json::Error) -> ArchiveError {
    let Queue { place, .. } = queue;
    ArchiveError::Piece { topic: place.topic.clone(), queue: place.queue.clone(), cause: error.to_string() }
}
