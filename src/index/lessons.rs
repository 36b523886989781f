//! Finds the lessons of a room: runs of lines without a long gap.
//!
//! A lesson goes on until nothing was said for longer than the gap, until somebody ends it, or until somebody begins another one. Times are
//! made to rise in the order of the history, so a line that comes late neither ends a lesson nor begins one. A mark that ends a lesson
//! where none is going on is none.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::IndexError;
use super::reader::{Index, RowsAsked};
use super::row::{Mark, Row};

/// One lesson. Its name is the id of its first message; its revision is the number of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LessonSpan {
    /// Its first message; a mark, if somebody began it.
    pub first: Row,
    /// Its last message; a mark, if somebody ended it.
    pub last: Row,
    /// When it began, milliseconds since 1970-01-01 UTC.
    pub begin_ms: u64,
    /// When the last message was said, milliseconds since 1970-01-01 UTC; never before `begin_ms`.
    pub end_ms: u64,
    /// Lines, copies included.
    pub lines: u64,
    /// Who said how many of them, the most first.
    pub people: Vec<(Arc<str>, u64)>,
    /// Whether somebody began it.
    pub is_begun_by_mark: bool,
    /// Whether somebody ended it.
    pub is_ended_by_mark: bool,
}

impl LessonSpan {
    /// Whether a message of the room stands in it.
    pub(crate) fn holds(&self, row: &Row) -> bool {
        (self.first.order()..=self.last.order()).contains(&row.order())
    }
}

/// What a line is for the lessons of its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Begins,
    GoesOn,
    Ends,
    IsNone,
}

/// Goes through the lines of a room.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    gap_ms: u64,
    is_going_on: bool,
    at_ms: u64,
}

impl Steps {
    pub(super) fn new(gap_ms: u64) -> Self {
        Self { gap_ms, is_going_on: false, at_ms: 0 }
    }

    /// What the next line is, and its time, which never goes back.
    pub(super) fn next(&mut self, at_ms: u64, mark: Option<Mark>) -> (Step, u64) {
        let at_ms = at_ms.max(self.at_ms);
        let goes_on = self.is_going_on && at_ms - self.at_ms <= self.gap_ms;
        self.at_ms = at_ms;
        let step = match mark {
            None if goes_on => Step::GoesOn,
            None | Some(Mark::Start) => Step::Begins,
            Some(Mark::End) if goes_on => Step::Ends,
            Some(Mark::End) => Step::IsNone,
        };
        self.is_going_on = match step {
            Step::Begins | Step::GoesOn => true,
            Step::Ends | Step::IsNone => false,
        };
        (step, at_ms)
    }
}

/// The lessons of a room, from its rows in the order of the history.
pub(crate) fn lessons(rows: &[Row], gap_ms: u64) -> Vec<LessonSpan> {
    let mut steps = Steps::new(gap_ms);
    let mut lessons: Vec<(LessonSpan, HashMap<Arc<str>, u64>)> = Vec::new();
    for row in rows.iter().filter(|row| row.is_line || row.mark.is_some()) {
        let (step, at_ms) = steps.next(row.at_ms, row.mark);
        match step {
            Step::Begins => lessons.push((LessonSpan::begun_by(row, at_ms), HashMap::new())),
            Step::GoesOn | Step::Ends => {}
            Step::IsNone => continue,
        }
        let Some((lesson, people)) = lessons.last_mut() else { continue };
        lesson.last = row.clone();
        lesson.end_ms = at_ms;
        lesson.is_ended_by_mark = step == Step::Ends;
        if row.is_line {
            lesson.lines += 1;
            if let Some(client_id) = &row.client_id {
                *people.entry(client_id.clone()).or_default() += 1;
            }
        }
    }
    let with_people = |(mut lesson, people): (LessonSpan, HashMap<_, _>)| {
        lesson.people = people.into_iter().collect();
        lesson.people.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
        lesson
    };
    lessons.into_iter().map(with_people).collect()
}

impl LessonSpan {
    fn begun_by(row: &Row, at_ms: u64) -> Self {
        Self {
            first: row.clone(),
            last: row.clone(),
            begin_ms: at_ms,
            end_ms: at_ms,
            lines: 0,
            people: Vec::new(),
            is_begun_by_mark: row.mark.is_some(),
            is_ended_by_mark: false,
        }
    }
}

impl Index {
    /// The lessons of a room, the oldest first. `gap_ms`: a longer silence ends one; `from_ms`: only what was said at or after this time
    /// counts, milliseconds since 1970-01-01 UTC.
    pub(crate) fn lessons(
        &self,
        room: &str,
        gap_ms: u64,
        from_ms: Option<u64>,
    ) -> Result<Vec<LessonSpan>, IndexError> {
        let asked = RowsAsked { room: Some(room), from_ms, ..RowsAsked::default() };
        let mut rows = self.rows_of_room(&asked)?;
        // Rows of another commit can belong between those of one.
        rows.sort_by(|a, b| a.order().cmp(&b.order()));
        Ok(lessons(&rows, gap_ms))
    }
}
