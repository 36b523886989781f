//! What an index says of a room, in the words of a reader: which offsets of which queues, and from where on it does not know.
//!
//! The index is asked only if its queues are those that are read: each remembers the message before its position. Otherwise, and after
//! every failure of the index, everything is read as if there were none.

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, future, stream};

use super::topic::{Found, Queue};
use super::trouble::Trouble;
use super::{PIECES_AT_ONCE, Whole, forgotten};
use crate::archiver::is_the_same;
use crate::binding::identity;
use crate::index::{Holes, Index, IndexError, Position, Row, RowsAsked};
use crate::model::{Kind, MessageId, QueueName, StoredMessage};
use crate::piece::Place;
use crate::pipeline::ports::{
    Elsewhere, Named, OfId, OfRoom, OrderKey, ReadError, Reader, RoomAsked, RoomOffsets,
};

/// The positions of so many queues are compared at once.
const QUEUES_AT_ONCE: usize = 16;
/// Of one id so many messages are read at most; whoever writes more of them only has more of them shown.
const MESSAGES_OF_ONE_ID: usize = 64;

impl Whole {
    /// Where the messages of a room lie. `None`: there is no index, or it is of no use now.
    pub(super) async fn rows_of(&self, asked: &RoomAsked<'_>) -> Result<Option<RoomOffsets>, ReadError> {
        let Some(index) = self.index.clone() else { return Ok(None) };
        let rows = RowsOwned::of(asked);
        // The positions first: a row that comes in between is left to the reading from there on.
        let asked_index =
            tokio::task::spawn_blocking(move || Ok((index.positions()?, rows.find(&index)?, index.holes()?)));
        let (positions, found, holes) = match asked_index.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Ok(of_no_use(&error)),
            Err(_) => return Ok(None),
        };
        let names = self.names(asked.topics).await?;
        if !self.is_of_these_queues(&names, &positions).await? {
            return Ok(None);
        }
        self.look_for_lost(&names, &holes).await?;
        let is_all = asked.newest.is_none_or(|newest| found.len() < newest);
        let mut queues: BTreeMap<(String, QueueName), OfRoom> = BTreeMap::new();
        for (place, name) in &names {
            if let Some(Position { next_offset, eff_ms, .. }) = positions.get(place) {
                let of_room = OfRoom { named: Vec::new(), next_offset: *next_offset, before_ms: *eff_ms };
                queues.insert((place.topic.clone(), name.clone()), of_room);
            }
        }
        let mut oldest = None;
        for row in found {
            let Some(name) = names.get(&*row.place) else { continue };
            let Some(of_room) = queues.get_mut(&(row.place.topic.clone(), name.clone())) else { continue };
            if row.offset < of_room.next_offset {
                oldest.get_or_insert((row.eff_ms, row.place.topic.clone(), name.clone(), row.offset));
                of_room.named.push(Named { offset: row.offset, at_ms: row.at_ms, eff_ms: row.eff_ms });
            }
        }
        for of_room in queues.values_mut() {
            of_room.named.sort_unstable_by_key(|named| named.offset);
        }
        Ok(Some(RoomOffsets { queues, oldest, is_all }))
    }

    /// Notes what is lost in these queues, because a reading by rows does not come by.
    async fn look_for_lost(
        &self,
        names: &HashMap<Place, QueueName>,
        holes: &HashMap<Place, Holes>,
    ) -> Result<(), ReadError> {
        let none = Holes::default();
        let mut asked = Vec::with_capacity(names.len());
        for (place, name) in names {
            let holes = holes.get(place).unwrap_or(&none);
            asked.push(self.look_for_lost_in(&place.topic, name, holes));
        }
        stream::iter(asked).buffer_unordered(QUEUES_AT_ONCE).try_collect().await
    }

    async fn look_for_lost_in(&self, topic: &str, name: &QueueName, holes: &Holes) -> Result<(), ReadError> {
        for from in &holes.from {
            self.look_for_holes(topic, name, *from..from.saturating_add(1)).await?;
        }
        self.look_for_holes(topic, name, holes.known_to..u64::MAX).await?;
        self.look_for_forgotten(topic, name).await
    }

    /// What is lost in the pieces that count for these offsets.
    async fn look_for_holes(
        &self,
        topic: &str,
        name: &QueueName,
        offsets: Range<u64>,
    ) -> Result<(), ReadError> {
        let (mut at, mut listings) = (offsets.start, 0);
        self.read_directories(&self.known(topic, name).await?.queue, &offsets).await;
        loop {
            let known = self.known(topic, name).await?;
            let first = known.queue.archived_from().unwrap_or(u64::MAX);
            at = at.max(first);
            if at >= known.queue.seam.min(offsets.end.max(first)) {
                return Ok(());
            }
            match self.found_at(topic, name, &known.queue, at).await {
                Ok(Found::Part(part)) => at = part.to,
                Ok(Found::Gap(to)) => at = to,
                Err(trouble) => self.list_again(&known, trouble, &mut listings).await?,
            }
        }
    }

    /// Beside each other, so that nobody waits for one after the other. What fails is told by whoever needs it.
    async fn read_directories(&self, queue: &Queue, offsets: &Range<u64>) {
        let mut asked = Vec::new();
        for piece in queue.pieces.iter().filter(|piece| offsets.contains(&piece.key.from)) {
            asked.push(self.pieces.directory(piece));
        }
        stream::iter(asked).buffer_unordered(PIECES_AT_ONCE).for_each(|_| future::ready(())).await;
    }

    /// The holes of what is archived of a queue, from that offset on, and its highest store time. `None`: nothing is archived there.
    pub(crate) async fn holes_from(
        &self,
        topic: &str,
        name: &QueueName,
        from: u64,
    ) -> Result<Option<(Holes, u64)>, ReadError> {
        self.look_for_holes(topic, name, from..u64::MAX).await?;
        let queue = self.known(topic, name).await?.queue;
        let lost = self.lost(topic, name, from..queue.seam);
        let holes = Holes { known_to: queue.seam, from: lost.into_iter().map(|lost| lost.start).collect() };
        Ok((queue.seam > from).then_some((holes, queue.store_time_ms)))
    }

    /// What RocketMQ gave up before it was archived.
    async fn look_for_forgotten(&self, topic: &str, name: &QueueName) -> Result<(), ReadError> {
        let mut listings = 0;
        loop {
            let known = self.known(topic, name).await?;
            let queue = &known.queue;
            if !queue.is_live || queue.archived_from().is_none() {
                return Ok(());
            }
            let first = self.rocketmq.offsets(topic, name).await?.0;
            if first <= queue.seam {
                return Ok(());
            }
            if listings > 0 {
                self.note_lost(topic, name, queue.seam..first);
                return Ok(());
            }
            let trouble = Trouble::Changed(forgotten(topic, name, queue.seam, first));
            self.list_again(&known, trouble, &mut listings).await?;
        }
    }

    /// See [`Reader::look_for_ids`].
    pub(super) async fn find_ids(
        &self,
        asked: &RoomAsked<'_>,
        ids: &[MessageId],
        elsewhere: Elsewhere<'_>,
        found: &mut (dyn FnMut(OfId<'_>) -> ControlFlow<()> + Send),
    ) -> Result<(), ReadError> {
        let Some(index) = self.index.clone() else { return Ok(()) };
        let wanted = ids.to_vec();
        let rows = match tokio::task::spawn_blocking(move || index.copies_of(&wanted)).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a late copy may be shown");
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        let names = self.names(asked.topics).await?;
        let is_asked = |row: &&Row| {
            row.is_in(asked.room)
                && asked.kind.is_none_or(|kind| kind == row.kind)
                && asked.from_ms.is_none_or(|from| row.at_ms >= from)
                && asked.to_ms.is_none_or(|to| row.at_ms < to)
        };
        for (id, rows) in ids.iter().zip(&rows) {
            let rows = rows.iter().filter(is_asked).filter_map(|row| Some((row, names.get(&*row.place)?)));
            let placed = rows.filter_map(|(row, name)| Some((row, name, is_earlier(elsewhere, row, name)?)));
            for (row, name, is_earlier) in placed.take(MESSAGES_OF_ONE_ID) {
                // Only the message says its whole id, and what is gone hides nothing.
                let Some(message) = self.message_of(row, name, asked.room, *id).await? else { continue };
                if found(OfId { id: *id, is_earlier, message: &message }).is_break() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The message of that row, if it is still there and has that id.
    async fn message_of(
        &self,
        row: &Row,
        name: &QueueName,
        room: &str,
        id: MessageId,
    ) -> Result<Option<StoredMessage>, ReadError> {
        let named = [Named { offset: row.offset, at_ms: row.at_ms, eff_ms: row.eff_ms }];
        let found = self.read_named(&row.place.topic, name, room, &named).await?;
        let mut messages = found.into_iter().map(|found| found.message);
        Ok(messages.rfind(|message| identity(message).id == Some(id)))
    }

    /// The names that the queues of these topics have here.
    async fn names(&self, topics: &[&str]) -> Result<HashMap<Place, QueueName>, ReadError> {
        let mut names = HashMap::new();
        for topic in topics {
            names.extend(self.places(topic).await?.into_iter().map(|(name, place)| (place, name)));
        }
        Ok(names)
    }

    async fn is_of_these_queues(
        &self,
        names: &HashMap<Place, QueueName>,
        positions: &HashMap<Place, Position>,
    ) -> Result<bool, ReadError> {
        let mut asked = Vec::new();
        for (place, name) in names {
            if let Some(position) = positions.get(place) {
                asked.push(self.is_of_this_queue(place, name, position));
            }
        }
        let same: Vec<bool> = stream::iter(asked).buffer_unordered(QUEUES_AT_ONCE).try_collect().await?;
        Ok(same.into_iter().all(|is_same| is_same))
    }

    async fn is_of_this_queue(
        &self,
        place: &Place,
        name: &QueueName,
        position: &Position,
    ) -> Result<bool, ReadError> {
        let queue = self.known(&place.topic, name).await?.queue;
        let (next, last) = (position.next_offset, position.last_name.as_deref());
        if next == queue.seam
            && let (Some(archived), Some(last)) = (queue.last.as_deref(), last)
        {
            return Ok(archived == last);
        }
        // A queue that only the archive has is the one that was archived, by its place.
        Ok(!queue.is_live
            || last.is_none()
            || is_the_same(&*self.rocketmq, &place.topic, &place.queue, next, last).await?)
    }
}

fn of_no_use<T>(error: &IndexError) -> Option<T> {
    tracing::warn!(%error, "the index is of no use now; everything is read without it");
    None
}

/// Whether it lies before; `None`: it does not lie elsewhere.
fn is_earlier(elsewhere: Elsewhere<'_>, row: &Row, name: &QueueName) -> Option<bool> {
    let is_before = |(eff_ms, topic, queue, offset): &OrderKey| {
        (row.eff_ms, &row.place.topic, name, row.offset) < (*eff_ms, topic, queue, *offset)
    };
    let is_earlier = elsewhere.before.is_some_and(is_before);
    let is_later = elsewhere.from_ms.is_some_and(|from_ms| row.at_ms >= from_ms);
    (is_earlier || is_later).then_some(is_earlier)
}

/// A question to the index that can travel to another thread.
struct RowsOwned {
    room: String,
    kind: Option<Kind>,
    from_ms: Option<u64>,
    to_ms: Option<u64>,
    newest: Option<usize>,
}

impl RowsOwned {
    fn of(asked: &RoomAsked<'_>) -> Self {
        let RoomAsked { room, kind, from_ms, to_ms, newest, .. } = *asked;
        Self { room: room.to_owned(), kind, from_ms, to_ms, newest }
    }

    fn find(&self, index: &Arc<Index>) -> Result<Vec<Row>, IndexError> {
        let Self { room, kind, from_ms, to_ms, newest } = self;
        index.rows_of_room(&RowsAsked {
            room: Some(room),
            kind: *kind,
            from_ms: *from_ms,
            to_ms: *to_ms,
            newest: *newest,
            ..RowsAsked::default()
        })
    }
}
