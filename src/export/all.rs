//! Writes all messages of all topics that are not in the folder yet, part by part.

use super::ExportError;
use super::folder::{Days, ExportFolder, Position, Range, Settings};
use super::room::MadeLine;
use crate::archive::{QueueRange, ReadProgress, StoredMessages};
use crate::model::{FailureKind, QueueName, StoredMessage};
use crate::piece::{CLOCKS_DIFFER_MS, Place, day_of};
use crate::pipeline::ports::{ReadError, Reader};
use crate::pipeline::same_queue::{Cause, Compared, compare};

/// So many bytes of lines make a part, which memory holds until it is written. A run that is killed loses at most its last one.
const PART_BYTES: usize = 32 << 20;

/// What to export.
pub(crate) struct AllAsked<'a> {
    /// RocketMQ and archive.
    pub reader: &'a dyn Reader,
    /// Which queue the reader means by a name; see [`Place`].
    pub place_of: &'a (dyn Fn(&str, &QueueName) -> Place + Sync),
    /// The RocketMQ topics.
    pub topics: Vec<String>,
    /// So many bytes make a part; `None` = as many as is good.
    pub part_bytes: Option<usize>,
}

/// What a run added.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Added {
    /// Parts.
    pub parts: u32,
    /// Files in them, without the manifests.
    pub files: u64,
    /// Lines, copies included.
    pub lines: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Messages that the settings leave out: before --since, or meant for one client.
    pub left_out: u64,
    /// Offsets without a message: the archive left them out, or they are erased or lost.
    pub absent: u64,
}

/// Exports what the folder does not have: all that was stored when this began.
pub(crate) async fn export_all(
    asked: AllAsked<'_>,
    folder: &mut ExportFolder,
    progress: &mut (dyn FnMut(ReadProgress) + Send),
) -> Result<Added, ExportError> {
    let mut queues = Vec::new();
    for topic in &asked.topics {
        queues.extend(queues_of(&asked, folder, topic).await?);
    }
    let ranges: Vec<_> = queues.iter().map(|queue| queue.range.clone()).collect();
    let mut messages = StoredMessages::of_ranges(asked.reader, &ranges);
    let part_bytes = asked.part_bytes.unwrap_or(PART_BYTES);
    let mut part = Part::new(queues, folder.settings());
    let mut added = Added::default();
    while let Some((queue, message)) = messages.next().await? {
        part.take(queue, &message)?;
        if part.bytes >= part_bytes {
            part.commit(folder, &mut added)?;
        }
        progress(messages.progress());
    }
    part.end();
    part.commit(folder, &mut added)?;
    Ok(added)
}

/// A queue with something new.
struct NewQueue {
    place: Place,
    range: QueueRange,
    /// Where the folder ends, which is before the range if messages are gone.
    from: u64,
    last: Option<String>,
}

async fn queues_of(
    asked: &AllAsked<'_>,
    folder: &ExportFolder,
    topic: &str,
) -> Result<Vec<NewQueue>, ExportError> {
    let reader = asked.reader;
    let names = match reader.queues(topic).await {
        Ok(names) => names,
        // Nobody wrote there yet.
        Err(error) if error.kind == FailureKind::TopicMissing => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut queues = Vec::new();
    for name in names {
        let place = (asked.place_of)(topic, &name);
        let (first, end) = reader.offsets(topic, &name).await?;
        let (from, last) = match folder.position(&place) {
            // A queue that RocketMQ has no more ends where it was archived, which may be before what was exported.
            Some(Position { next, .. }) if name != place.queue && *next >= end => continue,
            Some(Position { next, last }) => {
                is_the_same(reader, topic, &name, (*next, last.as_deref())).await?;
                (*next, last.clone())
            }
            None => (begin(reader, topic, &name, first, folder).await?, None),
        };
        if from < end {
            let first = from.max(first);
            let before_ms = reader.store_time_before(topic, &name, first).await?;
            let range = QueueRange { topic: topic.to_owned(), queue: name, from: first, before_ms, end };
            queues.push(NewQueue { place, range, from, last });
        }
    }
    Ok(queues)
}

/// Where a queue begins that the folder does not know.
async fn begin(
    reader: &dyn Reader,
    topic: &str,
    queue: &QueueName,
    first: u64,
    folder: &ExportFolder,
) -> Result<u64, ReadError> {
    let Some(since_ms) = folder.settings().since_ms else { return Ok(first) };
    // What was said then may have been stored a little earlier, by the clock of the broker.
    let stored_ms = since_ms.saturating_sub(CLOCKS_DIFFER_MS);
    Ok(reader.offset_at(topic, queue, stored_ms).await?.max(first))
}

/// Refuses to go on in another queue of that name: its first messages would be missing, without a word.
async fn is_the_same(
    reader: &dyn Reader,
    topic: &str,
    queue: &QueueName,
    (position, last): (u64, Option<&str>),
) -> Result<(), ExportError> {
    match compare(reader, topic, queue, position, last).await? {
        Compared::Same { .. } => Ok(()),
        Compared::Changed(change) => match change.cause {
            // The manifest says how many.
            Cause::UnreadDeleted => Ok(()),
            Cause::Shorter | Cause::AnotherBefore => {
                let (topic, queue) = (topic.to_owned(), queue.clone());
                Err(ExportError::MadeAnew { topic, queue, position })
            }
        },
    }
}

/// A part on its way.
struct Part {
    settings: Settings,
    queues: Vec<OpenRange>,
    days: Days,
    bytes: usize,
}

/// The range of a queue, up to what was read.
struct OpenRange {
    range: Range,
    /// Where it ends when everything is read.
    end: u64,
}

impl Part {
    fn new(queues: Vec<NewQueue>, settings: Settings) -> Self {
        let open = |NewQueue { place, range, from, last }: NewQueue| OpenRange {
            range: Range {
                topic: place.topic,
                broker: place.queue.broker.to_string(),
                queue_id: place.queue.id,
                generation: place.generation,
                from,
                to: from,
                lines: 0,
                left_out: 0,
                absent: 0,
                last,
            },
            end: range.end,
        };
        Self { settings, queues: queues.into_iter().map(open).collect(), days: Days::new(), bytes: 0 }
    }

    fn take(&mut self, queue: usize, message: &StoredMessage) -> Result<(), ExportError> {
        let Some(OpenRange { range, .. }) = self.queues.get_mut(queue) else { return Ok(()) };
        let line = MadeLine::of(message)?;
        range.absent += message.queue_offset.saturating_sub(range.to);
        range.to = message.queue_offset + 1;
        range.last = Some(message.name());
        let is_before = self.settings.since_ms.is_some_and(|since_ms| line.at_ms < since_ms);
        if is_before || line.is_private && !self.settings.private {
            range.left_out += 1;
            return Ok(());
        }
        range.lines += 1;
        let (lines, text) = self.days.entry(day_of(line.at_ms)).or_default();
        *lines += 1;
        text.extend_from_slice(&line.bytes);
        self.bytes += line.bytes.len();
        Ok(())
    }

    /// Everything is read: what lies behind the last message of a queue is no message.
    fn end(&mut self) {
        for OpenRange { range, end } in &mut self.queues {
            if range.to < *end {
                range.absent += *end - range.to;
                range.to = *end;
                range.last = None;
            }
        }
    }

    /// Writes what it has, and begins the next one behind it. Where nothing was read, nothing is written.
    fn commit(&mut self, folder: &mut ExportFolder, added: &mut Added) -> Result<(), ExportError> {
        let ranges = self.queues.iter().map(|queue| &queue.range).filter(|range| range.from < range.to);
        let ranges: Vec<_> = ranges.cloned().collect();
        if ranges.is_empty() {
            return Ok(());
        }
        let manifest = folder.commit(ranges, &self.days)?;
        added.parts += 1;
        for file in &manifest.files {
            added.files += 1;
            added.bytes += file.bytes;
        }
        for OpenRange { range, .. } in &mut self.queues {
            added.lines += range.lines;
            added.left_out += range.left_out;
            added.absent += range.absent;
            *range = Range { from: range.to, lines: 0, left_out: 0, absent: 0, ..range.clone() };
        }
        (self.days, self.bytes) = (Days::new(), 0);
        Ok(())
    }
}
