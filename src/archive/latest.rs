//! Finds the newest messages of a room, for a page that waits for the answer.
//!
//! Looks back through growing spans of time, so that a topic of many rooms is not read whole for the last lines of one. It
//! ends when it has enough messages, at the beginning of the topic, or when its time is over, and says which it was.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::cursor::earliest;
use super::query::{HistoryQuery, Stored};
use super::record::Record;
use super::start::{HistoryError, MAX_MESSAGES, ReadStart, cursors_of};
use crate::pipeline::ports::{InOrder, Reader};

/// Read so many milliseconds more than asked on both sides, because each broker has its own clock; then compare exactly.
const MARGIN_MS: u64 = 60_000;
const FIRST_SPAN: Duration = Duration::from_secs(120);
const GROWTH: u64 = 4;

/// What to look for.
pub(crate) struct LatestQuery<'a> {
    /// Where to look; its times and its limit are ignored.
    pub query: HistoryQuery,
    /// Says which records the asker may see; others are neither already_shown nor counted.
    pub wanted: &'a (dyn Fn(&Record) -> bool + Sync),
    /// At most so many records.
    pub limit: usize,
    /// Give only messages that are older than those of an earlier answer; `None` = the newest.
    pub before: Option<Before>,
    /// Look no further back than to what was stored then, milliseconds since 1970-01-01 UTC; `None` = to the beginning.
    pub since_ms: Option<u64>,
    /// How long the search may take.
    pub time: Duration,
    /// Wall time, milliseconds since 1970-01-01 UTC.
    pub now_ms: u64,
}

/// The newest messages, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    /// At most as many as were asked for.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` = there is nothing older.
    pub before: Option<Before>,
    /// Whether the time was over before enough messages were found.
    pub ran_out_of_time: bool,
    /// RocketMQ brokers that hold a part of it and are away.
    pub away: BTreeSet<String>,
}

/// The end of a page in the past of a room, written `MILLISECONDS.COUNT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Before {
    /// Messages stored at or before this time are older, milliseconds since 1970-01-01 UTC.
    stored_ms: u64,
    /// But so many of exactly this millisecond were on an earlier page.
    already_shown: usize,
}

impl Before {
    /// Begins with what was stored at or before that time, milliseconds since 1970-01-01 UTC.
    pub(crate) fn stored_at(stored_ms: u64) -> Self {
        Self { stored_ms, already_shown: 0 }
    }
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.stored_ms, self.already_shown)
    }
}

impl FromStr for Before {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (stored_ms, already_shown) = text.split_once('.').ok_or(())?;
        Ok(Self {
            stored_ms: stored_ms.parse().map_err(drop)?,
            already_shown: already_shown.parse().map_err(drop)?,
        })
    }
}

/// Finds the newest messages. Of several copies of one message, the oldest one that was found counts.
pub(crate) async fn latest(reader: &dyn Reader, mut asked: LatestQuery<'_>) -> Result<Latest, HistoryError> {
    let deadline = Instant::now() + asked.time;
    let earlier = asked.before;
    let newest_ms = asked.before.map_or(asked.now_ms, |before| before.stored_ms);
    let since_ms = asked.since_ms.unwrap_or(0);
    let mut span_ms = FIRST_SPAN.as_millis() as u64;
    let mut records: VecDeque<Record> = VecDeque::new();
    let mut away = BTreeSet::new();
    (asked.query.from_ms, asked.query.to_ms) = (None, None);
    let mut to_ms = asked.before.map(|before| before.stored_ms.saturating_add(1));
    loop {
        let from_ms = newest_ms.saturating_sub(span_ms).max(since_ms);
        let stored = Stored { from_ms: Some(from_ms), to_ms };
        let Ok(read) = timeout_at(deadline, read_span(reader, &asked, stored)).await else {
            // Only whole spans count: in a part of one, newer messages of a queue could still be missing.
            let reached = to_ms.map(|to_ms| Before { stored_ms: to_ms.saturating_sub(1), already_shown: 0 });
            let before = asked.before.or(reached).ok_or(HistoryError::TooSlow)?;
            return Ok(Latest { records: records.into(), before: Some(before), ran_out_of_time: true, away });
        };
        let span = read?;
        away.extend(span.away);
        let older: HashSet<_> = span.records.iter().filter_map(|record| record.id).collect();
        records.retain(|record| record.id.is_none_or(|id| !older.contains(&id)));
        for record in span.records.into_iter().rev() {
            records.push_front(record);
        }
        if span.more || records.len() > asked.limit {
            return Ok(Latest { away, ..cut(records, asked.limit, earlier) });
        }
        if span.is_first || from_ms <= since_ms {
            return Ok(Latest { records: records.into(), before: None, ran_out_of_time: false, away });
        }
        to_ms = Some(from_ms);
        asked.before = None;
        span_ms = span_ms.saturating_mul(GROWTH);
    }
}

/// Keeps the newest `limit` records.
fn cut(mut records: VecDeque<Record>, limit: usize, earlier: Option<Before>) -> Latest {
    let beyond = records.len().saturating_sub(limit);
    let records: Vec<_> = records.drain(..).skip(beyond).collect();
    let before = records.first().map(|oldest| {
        let stored_ms = oldest.stored_ms;
        let of_it = records.iter().filter(|record| record.stored_ms == stored_ms);
        let earlier = earlier.filter(|before| before.stored_ms == stored_ms);
        Before { stored_ms, already_shown: of_it.count() + earlier.map_or(0, |before| before.already_shown) }
    });
    Latest { records, before, ran_out_of_time: false, away: BTreeSet::new() }
}

struct Span {
    /// The newest records of the span, oldest first.
    records: VecDeque<Record>,
    /// Whether older ones of the span were left out.
    more: bool,
    is_first: bool,
    away: BTreeSet<String>,
}

async fn read_span(
    reader: &dyn Reader,
    asked: &LatestQuery<'_>,
    mut stored: Stored,
) -> Result<Span, HistoryError> {
    let wider = Stored {
        from_ms: stored.from_ms.map(|ms| ms.saturating_sub(MARGIN_MS)),
        to_ms: stored.to_ms.map(|ms| ms.saturating_add(MARGIN_MS)),
    };
    let ReadStart { mut cursors, is_first, away, .. } = cursors_of(reader, &asked.query, wider, None).await?;
    if is_first {
        stored.from_ms = None;
    }
    let already_shown = asked.before.map_or(0, |before| before.already_shown);
    let (mut records, mut more) = (VecDeque::new(), false);
    let mut seen = HashSet::new();
    while let Some((_, InOrder { message, .. })) = earliest(&mut cursors).await? {
        let found = if stored.holds(message.stored_ms) { asked.query.accept(&message) } else { None };
        let Some(record) = found.filter(|record| (asked.wanted)(record)) else {
            continue;
        };
        if record.id.is_some_and(|id| !seen.insert(id)) {
            continue;
        }
        if seen.len() > MAX_MESSAGES {
            return Err(HistoryError::TooMany);
        }
        records.push_back(record);
        if records.len() > asked.limit.saturating_add(already_shown) {
            records.pop_front();
            more = true;
        }
    }
    Ok(Span {
        records: match asked.before {
            Some(before) => without_already_shown(records, before),
            None => records,
        },
        more,
        is_first,
        away,
    })
}

/// Leaves out the records that the last page gave: of its oldest millisecond, the newest `before.already_shown` ones.
fn without_already_shown(mut records: VecDeque<Record>, before: Before) -> VecDeque<Record> {
    let of_it = |record: &Record| record.stored_ms == before.stored_ms;
    let found = records.iter().filter(|record| of_it(record)).count();
    let mut left = found.saturating_sub(before.already_shown);
    let keep = |record: &Record| {
        let keep = !of_it(record) || left > 0;
        left -= usize::from(of_it(record) && keep);
        keep
    };
    records.retain(keep);
    records
}
