//! Finds the newest messages without an index: looks back through growing spans of time, so that a topic of many rooms is not read
//! whole for the last lines of one.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::gone::Looked;
use super::page::{Before, Latest, LatestQuery, Placed, leave_out_already_shown, mark_conflicts};
use crate::archive::copies::Copies;
use crate::archive::cursor::earliest;
use crate::archive::query::Stored;
use crate::archive::start::{HistoryError, MAX_MESSAGES, ReadStart, cursors_of};
use crate::pipeline::ports::{InOrder, Reader};

/// Read so many milliseconds more than asked on both sides, because each broker has its own clock; then compare exactly.
const MARGIN_MS: u64 = 60_000;
const FIRST_SPAN: Duration = Duration::from_secs(120);
const GROWTH: u64 = 4;

/// Of several copies of one message, the oldest one that was found counts.
pub(super) async fn newest(
    reader: &dyn Reader,
    mut asked: LatestQuery<'_>,
    deadline: Instant,
) -> Result<Latest, HistoryError> {
    let earlier = asked.before;
    let stored = asked.query.stored();
    let since_ms = stored.from_ms.unwrap_or(0);
    let mut to_ms = match earlier {
        Some(before) => Some(before.place_ms.saturating_add(1)),
        None => stored.to_ms.filter(|to_ms| *to_ms <= asked.now_ms),
    };
    let newest_ms = to_ms.map_or(asked.now_ms, |to_ms| to_ms.saturating_sub(1));
    let mut span_ms = FIRST_SPAN.as_millis() as u64;
    let mut records: VecDeque<Placed> = VecDeque::new();
    let (mut away, mut looked, mut copies) = (BTreeSet::new(), Looked::default(), Copies::default());
    loop {
        let from_ms = newest_ms.saturating_sub(span_ms).max(since_ms);
        let stored = Stored { from_ms: Some(from_ms), to_ms };
        let Ok(read) = timeout_at(deadline, read_span(reader, &asked, stored, &mut looked)).await else {
            // Only whole spans count: in a part of one, newer messages of a queue could still be missing.
            let reached = to_ms.map(|to_ms| Before { place_ms: to_ms.saturating_sub(1), already_shown: 0 });
            let before = asked.before.or(reached).ok_or(HistoryError::TooSlow)?;
            return Ok(Latest {
                before: Some(before),
                ran_out_of_time: true,
                away,
                missing: looked.withheld(),
                ..Latest::of(records)
            });
        };
        let span = read?;
        away.extend(span.away);
        records
            .retain(|Placed { record, .. }| record.id.is_none_or(|id| !span.copies.holds(id, &record.bytes)));
        for placed in span.records.into_iter().rev() {
            records.push_front(placed);
        }
        copies.extend(span.copies);
        mark_conflicts(&mut records, &copies);
        let is_full = span.more || records.len() > asked.limit;
        if is_full || span.is_first || from_ms <= since_ms {
            let mut found = match is_full {
                true => Latest::cut(records, asked.limit, earlier),
                false => Latest::of(records),
            };
            found.missing = looked.missing(reader, &asked.query, &found, earlier).await?;
            return Ok(Latest { away, ..found });
        }
        to_ms = Some(from_ms);
        asked.before = None;
        span_ms = span_ms.saturating_mul(GROWTH);
    }
}

struct Span {
    /// The newest records of the span, oldest first.
    records: VecDeque<Placed>,
    /// All that it has, also what is not among the records.
    copies: Copies,
    /// Whether older ones of the span were left out.
    more: bool,
    is_first: bool,
    away: BTreeSet<String>,
}

async fn read_span(
    reader: &dyn Reader,
    asked: &LatestQuery<'_>,
    mut stored: Stored,
    looked: &mut Looked,
) -> Result<Span, HistoryError> {
    let wider = Stored {
        from_ms: stored.from_ms.map(|ms| ms.saturating_sub(MARGIN_MS)),
        to_ms: stored.to_ms.map(|ms| ms.saturating_add(MARGIN_MS)),
    };
    let ReadStart { mut cursors, ranges, is_first, away, missing: withheld } =
        cursors_of(reader, &asked.query, wider, None).await?;
    looked.add(&cursors, ranges, withheld);
    if is_first {
        stored.from_ms = None;
    }
    let already_shown = asked.before.map_or(0, |before| before.already_shown);
    let (mut records, mut more) = (VecDeque::new(), false);
    let mut copies = Copies::default();
    while let Some((_, InOrder { message, .. })) = earliest(&mut cursors).await? {
        let found = if stored.holds(message.stored_ms) { asked.query.accept(&message) } else { None };
        let Some(record) = found.filter(|record| (asked.wanted)(record)) else {
            continue;
        };
        if record.id.is_some_and(|id| !copies.add(id, &record.bytes)) {
            continue;
        }
        if copies.len() > MAX_MESSAGES {
            return Err(HistoryError::TooMany);
        }
        records.push_back(Placed { place_ms: record.stored_ms, record });
        if records.len() > asked.limit.saturating_add(already_shown) {
            records.pop_front();
            more = true;
        }
    }
    if let Some(before) = asked.before {
        leave_out_already_shown(&mut records, before);
    }
    Ok(Span { records, copies, more, is_first, away })
}
