//! What the index keeps of a message, and the number by which it is known.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::{Kind, MessageId, QueueName};
use crate::piece::Place;

/// Files of the index are named by four digits of a year.
const MAX_YEAR: u32 = 9999;

/// A month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Month(u32);

impl Month {
    /// The month of a time, milliseconds since 1970-01-01 UTC; of times beyond the calendar its last one.
    pub(crate) fn of(ms: u64) -> Self {
        let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let date = time.unwrap_or(Timestamp::MAX).to_zoned(TimeZone::UTC).date();
        Self(u32::from(date.year().unsigned_abs()) * 12 + u32::from(date.month().unsigned_abs()) - 1)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0 / 12, self.0 % 12 + 1)
    }
}

/// The text is no month or no row of the index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no row of the index; a row is written as 2026-11.42")]
pub(crate) struct NotARow(pub String);

impl FromStr for Month {
    type Err = NotARow;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (year, month) = text.split_once('-')?;
            let (year, month): (u32, u32) = (year.parse().ok()?, month.parse().ok()?);
            let is_month = year <= MAX_YEAR && (1..=12).contains(&month);
            let found = is_month.then(|| Self(year * 12 + month - 1))?;
            (found.to_string() == text).then_some(found)
        };
        read().ok_or_else(|| NotARow(text.to_owned()))
    }
}

/// Names a row; the order of these is the order of the history, as far as it was known when the rows were written. Written as
/// `2026-11.42`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RowId {
    /// The file.
    pub month: Month,
    /// The number there, from 1.
    pub row: u64,
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.month, self.row)
    }
}

impl FromStr for RowId {
    type Err = NotARow;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotARow(text.to_owned());
        let (month, row) = text.split_once('.').ok_or_else(wrong)?;
        Ok(Self { month: month.parse()?, row: row.parse().map_err(|_| wrong())? })
    }
}

/// A message that begins or ends a lesson, because somebody said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// `lesson/start/ROOM`.
    Start,
    /// `lesson/end/ROOM`.
    End,
}

/// What the index knows of a message. Whether it is still the one that lies there, only the message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its number.
    pub id: RowId,
    /// The queue that it lies in.
    pub place: Arc<Place>,
    /// The offset there.
    pub offset: u64,
    /// When it was said, milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// The highest store time of its queue so far, milliseconds since 1970-01-01 UTC.
    pub eff_ms: u64,
    /// The room that the message names.
    pub room: Option<Arc<str>>,
    /// Another room where it is heard.
    pub other_room: Option<Arc<str>>,
    /// Who said it.
    pub client_id: Option<Arc<str>>,
    /// What it is for.
    pub kind: Kind,
    /// Whether a search can find its text.
    pub is_text: bool,
    /// Whether it counts as a line of a lesson.
    pub is_line: bool,
    /// Whether it begins or ends a lesson.
    pub mark: Option<Mark>,
}

impl Row {
    /// What readers sort by.
    pub(crate) fn order(&self) -> (u64, &str, &QueueName, u32, u64) {
        let Place { topic, queue, generation } = &*self.place;
        (self.eff_ms, topic, queue, *generation, self.offset)
    }

    /// Whether it is said or heard in this room.
    pub(crate) fn is_in(&self, room: &str) -> bool {
        self.room.as_deref() == Some(room) || self.other_room.as_deref() == Some(room)
    }
}

/// A message to be indexed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRow<'a> {
    /// The queue that it lies in.
    pub place: &'a Place,
    /// The offset there.
    pub offset: u64,
    /// [`crate::model::StoredMessage::name`].
    pub name: &'a str,
    /// When it was said, milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// The highest store time of its queue so far, milliseconds since 1970-01-01 UTC.
    pub eff_ms: u64,
    /// The room that it names, and another one where it is heard; more than two are not kept.
    pub rooms: &'a [&'a str],
    /// Who said it.
    pub client_id: Option<&'a str>,
    /// What it is for.
    pub kind: Kind,
    /// Its message id.
    pub id: Option<MessageId>,
    /// What a search shall find; only of lines that were heard and of notices.
    pub text: Option<&'a str>,
    /// Whether it counts as a line of a lesson.
    pub is_line: bool,
    /// Whether it begins or ends a lesson.
    pub mark: Option<Mark>,
}

/// How far a queue is indexed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// The first offset that is not.
    pub next_offset: u64,
    /// Names the message before it, so that a queue that was made anew is noticed; `None`: that one is not known.
    pub last_name: Option<String>,
    /// The highest store time before it, milliseconds since 1970-01-01 UTC.
    pub eff_ms: u64,
}

/// Where in the archive's part of a queue messages are lost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Holes {
    /// All of them that begin before this offset are known.
    pub known_to: u64,
    /// Their first offsets.
    pub from: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn a_month_is_that_of_utc() {
        assert_eq!(Month::of(0).to_string(), "1970-01");
        assert_eq!(Month::of(1_796_083_199_999).to_string(), "2026-11");
        assert_eq!(Month::of(1_796_083_200_000).to_string(), "2026-12");
        assert_eq!(Month::of(u64::MAX).to_string(), "9999-12");
    }

    proptest! {
        #[test]
        fn a_row_is_read_back_from_its_text(ms: u64, row: u64) {
            let id = RowId { month: Month::of(ms), row };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn other_text_is_no_row(text in "[0-9.+-]{0,12}") {
            if let Ok(id) = text.parse::<RowId>() {
                prop_assert_eq!(id.month.to_string(), text.split('.').next().unwrap());
            }
        }
    }
}
