//! Finds the newest messages of a room by an index, which names them; what it does not know yet is read as it lies there.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;

use super::gone::Looked;
use super::page::{Before, Latest, LatestQuery, Placed, leave_out_already_shown, mark_conflicts};
use crate::archive::copies::Copies;
use crate::archive::cursor::{Cursor, earliest};
use crate::archive::query::{HistoryQuery, Stored};
use crate::archive::start::{HistoryError, ReadStart, cursors_of};
use crate::model::MessageId;
use crate::piece::CLOCKS_DIFFER_MS;
use crate::pipeline::ports::{Elsewhere, InOrder, OfId, Reader, RoomOffsets};

/// The index is asked for so many rows more than messages are wanted: rows of several brokers stand in the order of their coming. Of so
/// many of the oldest rows it is not sure that no other one belongs behind them.
const UNSURE_ROWS: usize = 64;
/// Then so many times as many rows, if they were too few.
const GROWTH: usize = 4;
/// Somebody waits: an index that is further behind is of no use.
const BEHIND: u64 = 10_000;
/// Queues that the index does not know are read from so long before the oldest row on, because each broker has its own clock.
const MARGIN_MS: u64 = 60_000;

/// `None`: there is no index, or it is of no use now. `so_far`: the answer, should the time be over before this ends.
pub(super) async fn newest(
    reader: &dyn Reader,
    asked: &LatestQuery<'_>,
    so_far: &mut Option<Latest>,
) -> Result<Option<Latest>, HistoryError> {
    let query = up_to(asked);
    let mut rows = asked.limit.saturating_add(UNSURE_ROWS);
    loop {
        let Some(of_index) = query.asked_of_index(Some(rows as u64)) else { return Ok(None) };
        let Some(known) = reader.of_room(&of_index.borrowed()).await? else { return Ok(None) };
        rows = rows.saturating_mul(GROWTH);
        let Some(reach) = Reach::of(&known) else { continue };
        let Some(found) = read(reader, (asked, &query), known, reach).await? else {
            return Ok(None);
        };
        let is_all = reach.from_ms.is_none();
        let is_full = found.records.len() > asked.limit || (found.records.len() == asked.limit && !is_all);
        let mut page = match is_full {
            true => Latest::cut(found.records, asked.limit, asked.before),
            false => Latest::of(found.records),
        };
        page.away = found.away;
        // Should the time be over before the rest is known.
        page.missing = found.looked.withheld();
        if !is_full && let Some(from_ms) = reach.from_ms {
            let before = Some(Before { place_ms: from_ms, already_shown: 0 });
            *so_far = Some(Latest { before, ran_out_of_time: true, ..page });
            continue;
        }
        page.missing = found.looked.missing(reader, &query, &page, asked.before).await?;
        return Ok(Some(page));
    }
}

/// Without what can only be newer than the page.
fn up_to(asked: &LatestQuery<'_>) -> HistoryQuery {
    let mut query = asked.query.clone();
    if let Some(before) = asked.before {
        let to_ms = before.place_ms.saturating_add(CLOCKS_DIFFER_MS + 1);
        query.to_ms = Some(query.to_ms.map_or(to_ms, |asked| asked.min(to_ms)));
    }
    query
}

/// How far back all rows are known.
#[derive(Clone, Copy)]
struct Reach {
    /// To what stands behind this time; `None`: to the beginning.
    from_ms: Option<u64>,
}

impl Reach {
    /// `None`: to nowhere, because there are too few rows.
    fn of(known: &RoomOffsets) -> Option<Self> {
        if known.is_all {
            return Some(Self { from_ms: None });
        }
        let named = known.queues.values().flat_map(|of_room| &of_room.named);
        let mut places: Vec<u64> = named.map(|named| named.eff_ms).collect();
        places.sort_unstable();
        places.get(UNSURE_ROWS - 1).map(|from_ms| Self { from_ms: Some(*from_ms) })
    }

    fn holds(self, place_ms: u64) -> bool {
        self.from_ms.is_none_or(|from_ms| place_ms > from_ms)
    }
}

struct Found {
    /// Oldest first, one more than are wanted at most.
    records: VecDeque<Placed>,
    away: BTreeSet<String>,
    looked: Looked,
}

/// `None`: the index is too far behind.
async fn read(
    reader: &dyn Reader,
    (asked, query): (&LatestQuery<'_>, &HistoryQuery),
    known: RoomOffsets,
    reach: Reach,
) -> Result<Option<Found>, HistoryError> {
    let oldest = known.oldest.clone();
    let since_ms = reach.from_ms.map(|from_ms| from_ms.saturating_sub(MARGIN_MS));
    let stored = Stored { from_ms: since_ms.max(query.stored().from_ms), to_ms: None };
    let ReadStart { mut cursors, ranges, away, missing: withheld, .. } =
        cursors_of(reader, query, stored, Some(known)).await?;
    if cursors.iter().map(Cursor::unnamed).sum::<u64>() > BEHIND {
        return Ok(None);
    }
    let mut looked = Looked::default();
    looked.add(&cursors, ranges, withheld);
    let (mut records, mut copies) = (VecDeque::new(), Copies::default());
    while let Some((_, InOrder { eff_ms: place_ms, message })) = earliest(&mut cursors).await? {
        let found = asked.query.accept(&message);
        let Some(record) = found.filter(|record| (asked.wanted)(record)) else { continue };
        // A message stands where it was first, also if that is on another page.
        let is_copy = record.id.is_some_and(|id| !copies.add(id, &record.bytes));
        let is_newer = asked.before.is_some_and(|before| place_ms > before.place_ms);
        if !is_copy && !is_newer && reach.holds(place_ms) {
            records.push_back(Placed { place_ms, record });
        }
    }
    let elsewhere = Elsewhere {
        before: oldest.as_ref().filter(|_| reach.from_ms.is_some()),
        from_ms: asked.before.and(query.to_ms),
    };
    compare_elsewhere(reader, asked, elsewhere, &mut records, &mut copies).await?;
    mark_conflicts(&mut records, &copies);
    if let Some(before) = asked.before {
        leave_out_already_shown(&mut records, before);
    }
    let beyond = records.len().saturating_sub(asked.limit.saturating_add(1));
    records.drain(..beyond);
    Ok(Some(Found { records, away, looked }))
}

/// Takes away the copies of what lies before that which was read, and learns of other bodies there and on newer pages.
async fn compare_elsewhere(
    reader: &dyn Reader,
    asked: &LatestQuery<'_>,
    elsewhere: Elsewhere<'_>,
    records: &mut VecDeque<Placed>,
    copies: &mut Copies,
) -> Result<(), HistoryError> {
    let Some(of_index) = asked.query.asked_of_index(None) else { return Ok(()) };
    if elsewhere.before.is_none() && elsewhere.from_ms.is_none() {
        return Ok(());
    }
    let ids: Vec<MessageId> = records.iter().filter_map(|placed| placed.record.id).collect();
    let mut compare = |OfId { id, is_earlier, message }: OfId<'_>| {
        let found = asked.query.accept(message).filter(|record| (asked.wanted)(record));
        found.map_or(ControlFlow::Continue(()), |record| copies.compare(id, &record.bytes, is_earlier))
    };
    reader.look_for_ids(&of_index.borrowed(), &ids, elsewhere, &mut compare).await?;
    records.retain(|Placed { record, .. }| record.id.is_none_or(|id| copies.holds(id, &record.bytes)));
    Ok(())
}
