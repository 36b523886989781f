//! Whether a queue of RocketMQ is the one that was archived, and which generation it is if not.

use super::queue::Queue;
use super::{ArchiveError, ArchiverParts};
use crate::model::QueueName;
use crate::pipeline::ports::{ReadError, Reader};
use crate::pipeline::same_queue::{Cause, Compared, compare};

/// Whether RocketMQ's queue is the one that was archived up to that offset. `last`: names the message before it; `None`: that one was
/// lost.
pub(crate) async fn is_the_same(
    reader: &dyn Reader,
    topic: &str,
    queue: &QueueName,
    archived_to: u64,
    last: Option<&str>,
) -> Result<bool, ReadError> {
    Ok(match compare(reader, topic, queue, archived_to, last).await? {
        // A message that was gone does not come back.
        Compared::Same { last: Some(_) } => last.is_some(),
        Compared::Same { last: None } => true,
        Compared::Changed(change) => match change.cause {
            // The next piece notes the range as lost.
            Cause::UnreadDeleted => true,
            Cause::Shorter | Cause::AnotherBefore => false,
        },
    })
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
    let Some(last) = last else { return Ok(false) };
    let compared = compare(reader, topic, queue, archived_to, Some(last)).await?;
    Ok(matches!(compared, Compared::Same { last: Some(_) }))
}

/// Begins a generation, or goes on with an earlier one, if RocketMQ's queue is not the one that was archived. `first`: the first
/// offset that it has now.
pub(super) async fn recognise(
    parts: &ArchiverParts,
    queue: &mut Queue,
    first: u64,
) -> Result<(), ArchiveError> {
    let (topic, name) = (&queue.place.topic, &queue.place.queue);
    let is_the_same = is_the_same(&*parts.reader, topic, name, queue.next, queue.last.as_deref()).await?;
    // A generation without a piece has nothing to tell it from others by.
    if is_the_same && !queue.is_without_piece {
        return Ok(());
    }
    match came_back(parts, queue).await? {
        Some(earlier) => *queue = earlier,
        None if is_the_same => {}
        None => queue.begin_generation(first),
    }
    Ok(())
}

/// The queue as an earlier generation knew it: a broker that crashed may bring back a topic that was deleted. Its messages are archived
/// once.
async fn came_back(parts: &ArchiverParts, queue: &Queue) -> Result<Option<Queue>, ArchiveError> {
    let (topic, name) = (&queue.place.topic, &queue.place.queue);
    for generation in (0..=queue.newest).rev().filter(|number| *number != queue.place.generation) {
        let earlier = Queue::in_generation(&parts.store, topic, name, generation).await?;
        if is_back(&*parts.reader, topic, name, earlier.next, earlier.last.as_deref()).await? {
            return Ok(Some(earlier));
        }
    }
    Ok(None)
}
