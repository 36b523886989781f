//! Looks for words, rooms and people in an index.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::error::IndexError;
use super::file::{push_id_token, token};
use super::month_reader::Hit;
use super::query::{Query, Tokens};
use super::reader::Index;
use super::row::{Row, RowId};
use super::selection::{Deadline, Ended, Files, Selection, each, each_in, in_one_moment};
use crate::model::{Kind, MessageId};

/// Hits are counted up to so many.
const COUNTED: u64 = 1000;
/// [`Order::Best`] looks at so many of the newest hits.
pub(crate) const RANKED: u64 = 10_000;

/// In which order hits come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Order {
    /// The newest first.
    #[default]
    Newest,
    /// Of the newest [`RANKED`] hits those with the fewest words first: each hit has all words that were asked for, so a short line
    /// is more about them than a long one. Of equally long ones the newest first.
    Best,
}

/// What to look for; each hit has all that is not `None`.
#[derive(Clone, Default)]
pub(crate) struct SearchAsked<'a> {
    /// Words; `None` = each line that has text.
    pub query: Option<&'a Query>,
    /// The room; `None` = any.
    pub room: Option<&'a str>,
    /// Who said it.
    pub client_id: Option<&'a str>,
    /// What it is for.
    pub kind: Option<Kind>,
    /// Said at or after this time, milliseconds since 1970-01-01 UTC.
    pub from_ms: Option<u64>,
    /// Said before this time, milliseconds since 1970-01-01 UTC.
    pub to_ms: Option<u64>,
    /// In which order.
    pub order: Order,
    /// At most so many.
    pub limit: usize,
    /// Only hits before this row: [`Found::next`] of the page before.
    pub before: Option<RowId>,
    /// Then what is found so far is the answer. It is looked at after each hit, so an answer can be late by the time until the next one.
    pub deadline: Option<Deadline>,
}

/// How many hits there are, on all pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Total {
    /// So many.
    Exact(u64),
    /// So many lines have the parts of the words; fewer may have the words as they were asked for.
    AtMost(u64),
    /// More than so many.
    Over(u64),
    /// It was not counted.
    Unknown,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// In the order that was asked for. Whoever has the text asks [`Query::matches`] whether it is a hit: the index knows parts of words
    /// only, and a message can be gone.
    pub rows: Vec<Row>,
    /// Whether the time was over before all was looked at.
    pub is_partial: bool,
    /// Whether older hits were not compared with these: with [`Order::Best`] there are more than [`RANKED`].
    pub is_of_newest_only: bool,
    /// How many there are; [`Total::Unknown`] for every page but the first.
    pub total: Total,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<RowId>,
}

impl Index {
    /// Looks for hits.
    pub(crate) fn search(&self, asked: &SearchAsked<'_>) -> Result<Found, IndexError> {
        let selection = Selection {
            room: asked.room,
            client_id: asked.client_id,
            kind: asked.kind,
            tokens: asked.query.map(Query::tokens).unwrap_or_default(),
            from_ms: asked.from_ms,
            to_ms: asked.to_ms,
            before: asked.before,
            deadline: asked.deadline.clone(),
        };
        let files = self.files()?;
        match asked.order {
            Order::Newest => newest(&files, &selection, asked),
            Order::Best => best(&files, &selection, asked),
        }
    }

    /// For each of these ids all rows that may have it, the oldest first; the message itself says whether it has.
    pub(crate) fn copies_of(&self, ids: &[MessageId]) -> Result<Vec<Vec<Row>>, IndexError> {
        let mut copies = vec![Vec::new(); ids.len()];
        for file in self.files()?.values().rev() {
            // Ids that are asked for together often stand together, and the reader remembers the rows beside the last one.
            in_one_moment(file, |reader| {
                for (id, rows) in ids.iter().zip(&mut copies) {
                    let tokens = Tokens { wanted: [token(push_id_token, *id)].into(), ..Tokens::default() };
                    let selection = Selection { tokens, ..Selection::default() };
                    each_in(file, reader, &selection, &mut |reader, row| {
                        rows.push(reader.row(row)?);
                        Ok(ControlFlow::Continue(()))
                    })?;
                }
                Ok(())
            })?;
        }
        copies.iter_mut().for_each(|rows| rows.reverse());
        Ok(copies)
    }
}

fn newest(files: &Files, selection: &Selection<'_>, asked: &SearchAsked<'_>) -> Result<Found, IndexError> {
    let needs_hit = asked.needs_hit();
    let (mut rows, mut count) = (Vec::new(), 0);
    let ended = each(files, selection, &mut |reader, row| {
        let is_shown = rows.len() < asked.limit;
        if (is_shown || needs_hit) && !is_hit(selection, reader.hit(row)?) {
            return Ok(ControlFlow::Continue(()));
        }
        count += 1;
        if is_shown {
            rows.push(reader.row(row)?);
            return Ok(ControlFlow::Continue(()));
        }
        // The rest of the first page's hits is counted; of other pages it is enough that there is more.
        let is_enough = count > COUNTED || asked.before.is_some();
        Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    let is_partial = ended == Ended::OutOfTime;
    let has_more = is_partial || count > rows.len() as u64;
    let next = rows.last().map(|row: &Row| row.id).or(asked.before).filter(|_| has_more);
    let total = if asked.before.is_some() { Total::Unknown } else { asked.total(ended, count) };
    Ok(Found { rows, is_partial, is_of_newest_only: false, total, next })
}

fn best(files: &Files, selection: &Selection<'_>, asked: &SearchAsked<'_>) -> Result<Found, IndexError> {
    let needs_hit = asked.needs_hit();
    let mut best: BTreeMap<(u8, Reverse<RowId>), Row> = BTreeMap::new();
    let mut count = 0;
    let ended = each(files, selection, &mut |reader, row| {
        if needs_hit && !is_hit(selection, reader.hit(row)?) {
            return Ok(ControlFlow::Continue(()));
        }
        count += 1;
        if count > RANKED {
            return Ok(ControlFlow::Break(()));
        }
        let key = (reader.words(row)?, Reverse(reader.id(row)));
        let is_better =
            best.len() < asked.limit || best.last_key_value().is_some_and(|(last, _)| key < *last);
        if is_better && is_hit(selection, reader.hit(row)?) {
            best.insert(key, reader.row(row)?);
            if best.len() > asked.limit {
                best.pop_last();
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let is_partial = ended == Ended::OutOfTime;
    let total = if asked.before.is_some() { Total::Unknown } else { asked.total(ended, count) };
    let rows = best.into_values().collect();
    Ok(Found { rows, is_partial, is_of_newest_only: ended == Ended::Stopped, total, next: None })
}

/// A row without text has the tokens of its room and client.
fn is_hit(selection: &Selection<'_>, hit: Hit<'_>) -> bool {
    hit.cells.is_text && selection.is_meant(hit)
}

impl SearchAsked<'_> {
    /// Whether the tokens alone do not say what a hit is.
    fn needs_hit(&self) -> bool {
        self.query.is_none() || self.from_ms.is_some() || self.to_ms.is_some()
    }

    /// `count`: hits that were seen; the last one only says that there are more, if the reading stopped.
    fn total(&self, ended: Ended, count: u64) -> Total {
        let is_exact = self.query.is_none_or(Query::is_exact);
        match ended {
            Ended::Whole if is_exact => Total::Exact(count),
            Ended::Whole => Total::AtMost(count),
            Ended::Stopped if is_exact => Total::Over(count - 1),
            Ended::Stopped | Ended::OutOfTime => Total::Unknown,
        }
    }
}
