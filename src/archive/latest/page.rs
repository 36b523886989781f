//! What is asked for, and what a page of it is.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::archive::copies::Copies;
use crate::archive::missing::Missing;
use crate::archive::query::HistoryQuery;
use crate::archive::record::Record;

/// What to look for.
pub(crate) struct LatestQuery<'a> {
    /// What to look for; its limit is ignored.
    pub query: HistoryQuery,
    /// Says which records the asker may see; others are neither shown nor counted.
    pub wanted: &'a (dyn Fn(&Record) -> bool + Sync),
    /// At most so many records.
    pub limit: usize,
    /// Give only messages that are older than those of an earlier answer; `None` = the newest.
    pub before: Option<Before>,
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
    /// What is gone for good between them, as far as the search came by, and what RocketMQ does not hand out.
    pub missing: Vec<Missing>,
}

/// The end of a page in the past of a room, written `MILLISECONDS.COUNT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Before {
    /// Messages of this time or before it are older, milliseconds since 1970-01-01 UTC: the highest store time of their queue up to
    /// them, or by spans their own.
    pub(super) place_ms: u64,
    /// But so many of exactly this millisecond were on an earlier page.
    pub(super) already_shown: usize,
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.place_ms, self.already_shown)
    }
}

impl FromStr for Before {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (place_ms, already_shown) = text.split_once('.').ok_or(())?;
        Ok(Self {
            place_ms: place_ms.parse().map_err(drop)?,
            already_shown: already_shown.parse().map_err(drop)?,
        })
    }
}

/// A record, and the time by which it stands on a page.
pub(super) struct Placed {
    pub place_ms: u64,
    pub record: Record,
}

/// Marks those whose id another message has, too.
pub(super) fn mark_conflicts(records: &mut VecDeque<Placed>, copies: &Copies) {
    for Placed { record, .. } in records {
        record.conflict = record.id.is_some_and(|id| copies.is_conflict(id));
    }
}

/// Leaves out the records that the last page gave: of its oldest millisecond, the newest `before.already_shown` ones.
pub(super) fn leave_out_already_shown(records: &mut VecDeque<Placed>, before: Before) {
    let of_it = |placed: &Placed| placed.place_ms == before.place_ms;
    let found = records.iter().filter(|placed| of_it(placed)).count();
    let mut left = found.saturating_sub(before.already_shown);
    records.retain(|placed| {
        let keep = !of_it(placed) || left > 0;
        left -= usize::from(of_it(placed) && keep);
        keep
    });
}

impl Latest {
    /// The newest `limit` records, with a place for the others. `earlier`: where this page began.
    pub(super) fn cut(mut records: VecDeque<Placed>, limit: usize, earlier: Option<Before>) -> Self {
        let beyond = records.len().saturating_sub(limit);
        records.drain(..beyond);
        let before = records.front().map(|oldest| {
            let place_ms = oldest.place_ms;
            let of_it = records.iter().filter(|placed| placed.place_ms == place_ms).count();
            let earlier = earlier.filter(|before| before.place_ms == place_ms);
            Before { place_ms, already_shown: of_it + earlier.map_or(0, |before| before.already_shown) }
        });
        Self { before, ..Self::of(records) }
    }

    /// All of these.
    pub(super) fn of(records: VecDeque<Placed>) -> Self {
        Self { records: records.into_iter().map(|placed| placed.record).collect(), ..Self::default() }
    }
}
