//! Whether a queue of RocketMQ is the one that was archived, and which generation it is if not.

use super::books::effective;
use super::queue::Queue;
use super::{ArchiveError, ArchiverParts};
use crate::model::QueueName;
use crate::piece::Place;
use crate::pipeline::ports::{ReadError, Reader};
use crate::pipeline::same_queue::{Cause, Compared, compare};

/// So many messages are looked at, to find one that is archived.
const WITNESSES: u32 = 32;

/// What RocketMQ's queue is to the one that was archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sameness {
    /// The message before is the one that was archived.
    Proven,
    /// That message is gone, so nothing speaks for it and nothing against it.
    Possible,
    /// It is another queue.
    Another,
}

async fn sameness(
    reader: &dyn Reader,
    topic: &str,
    queue: &QueueName,
    archived_to: u64,
    last: Option<&str>,
) -> Result<Sameness, ReadError> {
    Ok(match compare(reader, topic, queue, archived_to, last).await? {
        // A message that was gone does not come back.
        Compared::Same { last: Some(_) } if last.is_none() => Sameness::Another,
        Compared::Same { last: Some(_) } => Sameness::Proven,
        Compared::Same { last: None } => Sameness::Possible,
        Compared::Changed(change) => match change.cause {
            // The next piece notes the range as lost.
            Cause::UnreadDeleted => Sameness::Possible,
            Cause::Shorter | Cause::AnotherBefore => Sameness::Another,
        },
    })
}

/// Whether RocketMQ's queue is the one that was archived up to that offset. `last`: names the message before it; `None`: that one was
/// lost.
pub(crate) async fn is_the_same(
    reader: &dyn Reader,
    topic: &str,
    queue: &QueueName,
    archived_to: u64,
    last: Option<&str>,
) -> Result<bool, ReadError> {
    Ok(sameness(reader, topic, queue, archived_to, last).await? != Sameness::Another)
}

/// Whether RocketMQ's queue is one that was archived up to that offset, and not the last one under its name: only the message before it
/// proves that.
pub(crate) async fn is_back(
    reader: &dyn Reader,
    topic: &str,
    queue: &QueueName,
    archived_to: u64,
    last: Option<&str>,
) -> Result<bool, ReadError> {
    Ok(sameness(reader, topic, queue, archived_to, last).await? == Sameness::Proven)
}

/// Begins a generation, or goes on with an earlier one, if RocketMQ's queue is not the one that was archived. `first`: the first
/// offset that it has now.
pub(super) async fn recognise(
    parts: &ArchiverParts,
    queue: &mut Queue,
    first: u64,
) -> Result<(), ArchiveError> {
    let (topic, name) = (queue.place.topic.clone(), queue.place.queue.clone());
    let reader = &*parts.reader;
    let mut found = sameness(reader, &topic, &name, queue.next, queue.last.as_deref()).await?;
    if found != Sameness::Proven {
        if let Some(newer) = queue.newer(&parts.store).await? {
            *queue = newer;
        }
        found = sameness(reader, &topic, &name, queue.next, queue.last.as_deref()).await?;
    }
    if found == Sameness::Possible && queue.last.is_some() {
        found = by_another_message(parts, queue).await?;
    }
    // A generation without a piece has nothing to tell it from others by.
    if found != Sameness::Another && !queue.is_without_piece {
        return Ok(());
    }
    match came_back(parts, queue).await? {
        Some(earlier) => *queue = earlier,
        None if found != Sameness::Another => {}
        None => queue.begin_generation(first),
    }
    Ok(())
}

/// Where RocketMQ keeps the last archived message back, though it has not deleted it, another archived one tells. If it gives none of them
/// out, a generation that begins there archives nothing twice.
async fn by_another_message(parts: &ArchiverParts, queue: &Queue) -> Result<Sameness, ArchiveError> {
    let Place { topic, queue: name, .. } = &queue.place;
    let (first, end) = parts.reader.offsets(topic, name).await?;
    if first >= queue.next || end < queue.next {
        return Ok(Sameness::Possible);
    }
    let page = parts.reader.pull(topic, name, None, first, WITNESSES).await?;
    let mut pieces = parts.store.pieces(topic).await?;
    pieces.retain(|piece| piece.key.place == queue.place);
    let pieces = parts.store.directories(pieces).await?;
    let counting = effective(&pieces);
    for message in page.messages.iter().filter(|message| message.queue_offset < queue.next) {
        let offset = message.queue_offset;
        let Some(part) = counting.iter().find(|part| (part.from..part.to).contains(&offset)) else {
            continue;
        };
        let taken = parts.store.take(&part.piece.key, part.directory, offset, offset + 1).await?;
        if let Some(archived) = taken.last() {
            return Ok(if archived == message.name() { Sameness::Possible } else { Sameness::Another });
        }
    }
    Ok(Sameness::Another)
}

/// The queue as an earlier generation knew it: a broker that crashed may bring back a topic that was deleted. Its messages are archived
/// once. It is asked again before the first piece of a generation: another archiver that could not tell may have gone on meanwhile.
pub(super) async fn came_back(parts: &ArchiverParts, queue: &Queue) -> Result<Option<Queue>, ArchiveError> {
    let (topic, name) = (&queue.place.topic, &queue.place.queue);
    for generation in (0..=queue.newest).rev().filter(|number| *number != queue.place.generation) {
        let earlier = Queue::in_generation(&parts.store, topic, name, generation).await?;
        if is_back(&*parts.reader, topic, name, earlier.next, earlier.last.as_deref()).await? {
            return Ok(Some(earlier));
        }
    }
    Ok(None)
}
