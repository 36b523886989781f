//! Reads a range of one queue into a piece.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use futures::future::{BoxFuture, MaybeDone, maybe_done};

use super::ArchiveError;
use super::queue::Queue;
use crate::binding::read_back;
use crate::model::{FailureKind, Kind, LostCause};
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
    /// Offset and name of the first message, if there is one.
    pub first: Option<(u64, String)>,
}

/// Reads from the queue's next offset on, until the lines have so many bytes or `end` is reached. `None`: nothing of the queue is archived,
/// and it begins earlier than it did; it was made anew.
pub(super) async fn gather(
    reader: &dyn Reader,
    leave_out: &LeaveOut,
    queue: &Queue,
    mut end: u64,
    max_bytes: usize,
) -> Result<Option<Gathered>, ArchiveError> {
    let place = &queue.place;
    let mut writer = PieceWriter::new(place.clone(), queue.next, queue.store_time_ms);
    let (mut next, mut from_store_ms, mut first, mut attempts) = (queue.next, None, None, 0);
    let pull = |at| reader.pull(&place.topic, &place.queue, None, at, PAGE_MESSAGES);
    let mut ahead: Option<Ahead<'_>> = None;
    while next < end && writer.raw_bytes() < max_bytes {
        let asked = match ahead.take() {
            Some(ahead) if ahead.at == next => ahead.page().await,
            Some(_) | None => None,
        };
        let page = match asked {
            Some(page) => page,
            None => pull(next).await?,
        };
        if queue.is_without_piece && page.first < queue.next {
            return Ok(None);
        }
        if page.first > next {
            let to = page.first.min(end);
            writer.lose(Lost { from: next, to, cause: LostCause::Deleted });
            next = to;
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
            next = to;
            // A piece ends with a message, which tells the queue from others afterwards; what is kept back may be given out later.
            end = end.max(to + 1);
        }
        attempts = 0;
        if is_whole && page.next_offset < end {
            ahead = Some(Ahead::ask(page.next_offset, pull(page.next_offset)).await);
        }
        for message in messages {
            // What is behind a hole, or beyond the piece, is asked for again.
            if message.queue_offset != next || next == end || writer.raw_bytes() >= max_bytes {
                break;
            }
            from_store_ms.get_or_insert(queue.store_time_ms.max(message.stored_ms));
            first.get_or_insert_with(|| (next, message.name()));
            let recorded = read_back(message);
            match leave_out.reason(recorded.kind) {
                Some(reason) => writer.skip(message, reason),
                None => writer.push(message, &recorded).map_err(|error| unwritable(queue, &error))?,
            }
            next += 1;
        }
    }
    let from_store_ms = from_store_ms.unwrap_or(queue.store_time_ms);
    Ok(Some(Gathered { writer, from_store_ms, next, first }))
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
