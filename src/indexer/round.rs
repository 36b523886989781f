//! One round: what is new in each queue, read in the order of readers and handed to the thread that writes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::row::Rows;
use super::writing::Writing;
use super::{IndexerParts, IndexingError};
use crate::archive::{Cursor, Sought, Whole, earliest};
use crate::index::{Index, IndexWriter, Position, RowsAsked};
use crate::model::{FailureKind, QueueName};
use crate::piece::Place;
use crate::pipeline::ports::{InOrder, Reader, Wanted};
use crate::pipeline::same_queue::{Cause, Compared, compare};

/// So many rows go to the thread together.
const ROWS_TOGETHER: usize = 500;
/// New queues and topics are looked for each so many rounds.
const LOOK_AGAIN: u32 = 10;

/// The pieces are listed anew each so many rounds: in each hour there are new ones.
const LIST_AGAIN: u32 = 600;
/// After so many rows the archiver has cut a piece. Of pieces whose holes are not noted each reader must look at each.
const ROWS_OF_A_PIECE: u64 = 16 << 10;

/// How far a round is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Rows since the last word.
    pub new_rows: u64,
    /// Rows of this round.
    pub rows: u64,
    /// Offsets that this round has to read.
    pub total: u64,
}

/// See the head of this room.
pub(crate) struct Indexer {
    parts: IndexerParts,
    rows: Rows,
    whole: Whole,
    /// Rounds so far.
    rounds: u32,
    /// Rows since the pieces were listed for their holes.
    unlisted_rows: u64,
    open: Option<Open>,
}

/// The index, opened to write.
struct Open {
    writing: Writing,
    /// What is on its way included.
    positions: HashMap<Place, Position>,
    holes_known: HashMap<Place, u64>,
    /// Queues that RocketMQ no longer has, and whose pieces, up to that offset, are of what was indexed.
    compared: HashMap<Place, u64>,
}

/// One queue that has something new.
struct Due {
    topic: String,
    name: QueueName,
    place: Arc<Place>,
    from: u64,
    before_ms: u64,
    end: u64,
    /// As far as the pieces are listed, nobody has what lies before `from`, or nothing proves that it is the same queue.
    is_doubtful: bool,
}

/// What a queue is to the one that the index remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Likeness {
    Same,
    /// The message that would tell is deleted.
    Unproven,
    Another,
}

impl Indexer {
    /// Opens nothing yet.
    pub(crate) fn new(parts: IndexerParts) -> Self {
        let (rules, heard) = (parts.rules.clone(), parts.heard.clone());
        let rows = Rows { rules, heard, text_fields: parts.text_fields.clone() };
        let whole = Whole::new(parts.rocketmq.clone(), parts.store.clone());
        Self { parts, rows, whole, rounds: 0, unlisted_rows: 0, open: None }
    }

    /// Adds what is new until now. After an error the next round begins at the last commit.
    pub(crate) async fn round(
        &mut self,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), IndexingError> {
        let done = self.try_round(progress).await;
        if let Err(error) = &done {
            self.whole = self.whole.anew();
            self.close().await;
            if let IndexingError::Index(damage) = error
                && damage.is_damage()
            {
                tracing::error!(error = %damage, "the index is damaged, and is made anew");
                self.remove().await?;
            }
        }
        done
    }

    async fn try_round(&mut self, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<(), IndexingError> {
        self.open().await?;
        self.rounds += 1;
        let is_old = self.rounds.is_multiple_of(LIST_AGAIN);
        if is_old || (self.rounds.is_multiple_of(LOOK_AGAIN) && !self.is_listed().await?) {
            self.whole = self.whole.anew();
        }
        let mut due = match self.due().await {
            // A topic that was there when it was listed.
            Err(IndexingError::Read(error)) if error.kind == FailureKind::TopicMissing => None,
            other => other?,
        };
        if due.is_none() {
            // If it was made anew since it was listed, it has another place now. If not, the index remembers a queue that is no more.
            self.whole = self.whole.anew();
            due = self.due().await?;
        }
        if due.is_none() {
            tracing::warn!("a queue is another one than the index remembers: the index is made anew");
            self.close().await;
            self.remove().await?;
            self.open().await?;
            due = self.due().await?;
        }
        if due.iter().flatten().any(|due| due.is_doubtful) {
            // Since the pieces were listed, more may have been archived, and deleted from RocketMQ.
            self.whole = self.whole.anew();
            due = self.due().await?;
        }
        self.index(due.unwrap_or_default(), progress).await?;
        self.note_holes().await
    }

    /// Notes where messages are lost, up to the end of the pieces that are listed. Readers look themselves at those that came later.
    async fn note_holes(&mut self) -> Result<(), IndexingError> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        let is_to_list = self.rounds.is_multiple_of(LOOK_AGAIN) && self.unlisted_rows >= ROWS_OF_A_PIECE;
        // Only for this: what is indexed goes on from where it is read now.
        let listed = is_to_list.then(|| self.whole.anew());
        if is_to_list {
            self.unlisted_rows = 0;
        }
        let (mut new, whole) = (Vec::new(), listed.as_ref().unwrap_or(&self.whole));
        for topic in &self.parts.topics {
            for (name, place) in whole.places(topic).await? {
                let known_to = open.holes_known.get(&place).copied().unwrap_or(0);
                if let Some((holes, eff_ms)) = whole.holes_from(topic, &name, known_to).await? {
                    open.holes_known.insert(place.clone(), holes.known_to);
                    new.push((place, holes, eff_ms));
                }
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        open.writing.note_holes(new).await?;
        open.writing.commit().await
    }

    async fn open(&mut self) -> Result<(), IndexingError> {
        if self.open.is_none() {
            let dir = self.parts.dir.clone();
            let (writing, (positions, holes_known)) = Writing::open(dir, self.parts.min_free_bytes).await?;
            self.open = Some(Open { writing, positions, holes_known, compared: HashMap::new() });
        }
        Ok(())
    }

    /// Removes the index, so that the next round makes it anew.
    pub(crate) async fn remove(&mut self) -> Result<(), IndexingError> {
        self.open = None;
        let dir = self.parts.dir.clone();
        let removed = tokio::task::spawn_blocking(move || IndexWriter::remove_all(&dir)).await;
        Ok(removed.map_err(|_| IndexingError::Died)??)
    }

    /// Closes the files.
    pub(crate) async fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.writing.close().await;
        }
    }

    /// Whether the queues are still those that were listed.
    async fn is_listed(&self) -> Result<bool, IndexingError> {
        for topic in &self.parts.topics {
            let known = self.whole.places(topic).await?;
            match self.parts.rocketmq.queues(topic).await {
                Ok(queues) if queues.iter().any(|queue| !known.contains_key(queue)) => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind == FailureKind::TopicMissing => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// The queues with something new. `None`: RocketMQ has another queue in the place of one that the index remembers.
    async fn due(&mut self) -> Result<Option<Vec<Due>>, IndexingError> {
        let is_to_compare_all = self.rounds % LOOK_AGAIN <= 1;
        let mut due = Vec::new();
        for topic in &self.parts.topics {
            for (name, place) in self.whole.places(topic).await? {
                let position = self.open.as_ref().and_then(|open| open.positions.get(&place));
                let (first, end) = self.whole.offsets(topic, &name).await?;
                let (next, before_ms) = position.map_or((0, 0), |known| (known.next_offset, known.eff_ms));
                let mut likeness = Likeness::Same;
                if let Some(position) = position
                    && (end != next || is_to_compare_all)
                {
                    let is_live = self.whole.has_live(topic, &name).await?;
                    likeness = match is_live {
                        true => self.of_live(topic, &name, position).await?,
                        false => self.of_archived(topic, &name, &place, position, end).await?,
                    };
                    if likeness == Likeness::Another {
                        return Ok(None);
                    }
                    if let Some(open) = self.open.as_mut().filter(|_| !is_live) {
                        open.compared.insert(place.clone(), end);
                    }
                }
                let is_doubtful = next < first || likeness == Likeness::Unproven;
                let from = next.max(first);
                if from < end {
                    let (topic, place) = (topic.clone(), Arc::new(place));
                    due.push(Due { topic, name, place, from, before_ms, end, is_doubtful });
                }
            }
        }
        Ok(Some(due))
    }

    async fn of_live(
        &self,
        topic: &str,
        name: &QueueName,
        position: &Position,
    ) -> Result<Likeness, IndexingError> {
        let (next, last) = (position.next_offset, position.last_name.as_deref());
        Ok(match compare(&*self.parts.rocketmq, topic, name, next, last).await? {
            Compared::Same { last: found } if found.is_some() || last.is_none() => Likeness::Same,
            Compared::Same { .. } => Likeness::Unproven,
            Compared::Changed(change) => match change.cause {
                // They are in the archive, or lost.
                Cause::UnreadDeleted => Likeness::Unproven,
                Cause::Shorter | Cause::AnotherBefore => Likeness::Another,
            },
        })
    }

    /// The same of a queue that RocketMQ no longer has. Its pieces never change, but they may be of another time than the queue that was
    /// indexed under its name before it was archived. `end`: of the pieces.
    async fn of_archived(
        &self,
        topic: &str,
        name: &QueueName,
        place: &Place,
        position: &Position,
        end: u64,
    ) -> Result<Likeness, IndexingError> {
        if self.open.as_ref().is_some_and(|open| open.compared.get(place) == Some(&end)) {
            return Ok(Likeness::Same);
        }
        if end < position.next_offset {
            return self.of_shorter(topic, name, place, end).await;
        }
        let Some(last) = position.last_name.as_ref() else { return Ok(Likeness::Same) };
        let before = position.next_offset.saturating_sub(1);
        let page = self.whole.pull(topic, name, None, before, 1).await?;
        let found = page.messages.first().filter(|found| found.queue_offset == before);
        // What is lost or left out tells nothing.
        Ok(match found {
            Some(found) if found.name() != *last => Likeness::Another,
            Some(_) | None => Likeness::Same,
        })
    }

    /// Of pieces that end before what was indexed: they may grow, and a broker that is away comes back. If they are of the same queue, the
    /// index has their last message.
    async fn of_shorter(
        &self,
        topic: &str,
        name: &QueueName,
        place: &Place,
        end: u64,
    ) -> Result<Likeness, IndexingError> {
        let Some(offset) = end.checked_sub(1) else { return Ok(Likeness::Same) };
        let page = self.whole.read_on(topic, name, Wanted::default(), (offset, 0), 1).await?;
        let Some(last) = page.messages.first().filter(|last| last.message.queue_offset == offset) else {
            return Ok(Likeness::Same);
        };
        let at_ms = self.rows.row_of(&Arc::new(place.clone()), last.eff_ms, &last.message).at_ms;
        let (dir, place) = (self.parts.dir.clone(), place.clone());
        let is_indexed = move || {
            let asked = RowsAsked { from_ms: Some(at_ms), to_ms: Some(at_ms + 1), ..RowsAsked::default() };
            let Some(index) = Index::open(&dir)? else { return Ok(true) };
            let rows = index.rows_of_room(&asked)?;
            Ok(rows.iter().any(|row| *row.place == place && row.offset == offset))
        };
        let is_indexed = tokio::task::spawn_blocking(is_indexed).await.map_err(|_| IndexingError::Died)?;
        match is_indexed.map_err(IndexingError::Index)? {
            true => Ok(Likeness::Same),
            false => Ok(Likeness::Another),
        }
    }

    async fn index(
        &mut self,
        due: Vec<Due>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), IndexingError> {
        let Some(open) = self.open.as_mut().filter(|_| !due.is_empty()) else { return Ok(()) };
        let mut told =
            Progress { total: due.iter().map(|due| due.end - due.from).sum(), ..Progress::default() };
        let cursor = |due: &Due| {
            let sought = Sought { topic: due.topic.clone(), queue: due.name.clone(), tag: None, room: None };
            Cursor::new(&self.whole, sought, (due.from, due.before_ms), due.end)
        };
        let mut cursors: Vec<Cursor<'_>> = due.iter().map(cursor).collect();
        let mut ends: BTreeMap<usize, Position> = BTreeMap::new();
        loop {
            let mut rows = Vec::with_capacity(ROWS_TOGETHER);
            while rows.len() < ROWS_TOGETHER
                && let Some((number, InOrder { eff_ms, message })) = earliest(&mut cursors).await?
                && let Some(due) = due.get(number)
            {
                let row = self.rows.row_of(&due.place, eff_ms, &message);
                let position =
                    Position { next_offset: row.offset + 1, last_name: Some(row.name.clone()), eff_ms };
                ends.insert(number, position);
                rows.push(row);
            }
            let new_rows = rows.len() as u64;
            if new_rows == 0 {
                break;
            }
            open.writing.add(rows).await?;
            told = Progress { new_rows, rows: told.rows + new_rows, ..told };
            progress(told);
        }
        self.unlisted_rows += told.rows;
        // What lies behind the last message of a queue is lost, or was left out.
        let skipped = due.iter().enumerate().filter_map(|(number, due)| {
            let last = ends.get(&number);
            let is_behind = last.is_none_or(|last| last.next_offset < due.end);
            // Of what was left out the archive knows the store time.
            let read_ms = cursors.get(number).map_or(0, Cursor::before_ms);
            let eff_ms = last.map_or(due.before_ms, |last| last.eff_ms).max(read_ms);
            let position = Position { next_offset: due.end, last_name: None, eff_ms };
            is_behind.then(|| (due.place.clone(), position))
        });
        let skipped: Vec<_> = skipped.collect();
        open.writing.skip_to(skipped.clone()).await?;
        open.writing.commit().await?;
        for (number, position) in ends {
            if let Some(due) = due.get(number) {
                open.positions.insert((*due.place).clone(), position);
            }
        }
        open.positions.extend(skipped.into_iter().map(|(place, position)| ((*place).clone(), position)));
        Ok(())
    }
}
