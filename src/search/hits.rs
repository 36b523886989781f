//! Looks for words, and compares each hit of the index with the text itself.

use std::sync::Arc;
use std::time::Duration;

use super::at_places::messages_at;
use super::conflicts::{Line, in_conflict};
use super::{SearchError, ask};
use crate::archive::{Copies, Whole};
use crate::binding::{Recorded, read_back};
use crate::index::{Deadline, Found, Index, Order, Query, Row, RowId, SearchAsked, Snippet, Total};
use crate::indexer::text_of;
use crate::model::{Clock, Kind, MessageId, StoredMessage};

/// What to look for; each hit has all that is not `None`.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Words.
    pub query: Query,
    /// The room.
    pub room: Option<String>,
    /// Who said it.
    pub client_id: Option<String>,
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
    /// Only hits before this row: [`Answer::next`] of the page before.
    pub before: Option<RowId>,
    /// Of a body that is a JSON object, these fields were indexed.
    pub text_fields: Vec<String>,
    /// Then what is found so far is the answer.
    pub time: Duration,
    /// So many characters of a line are shown.
    pub width: usize,
}

/// One line that was found.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    /// What the index knows of it.
    pub row: Row,
    /// The room where it was said or heard.
    pub room: Option<Arc<str>>,
    /// Its message id.
    pub id: Option<MessageId>,
    /// What the message says.
    pub recorded: Box<Recorded>,
    /// The part that was looked for.
    pub snippet: Snippet,
    /// Whether another line of its room has its id, too, and another body.
    pub conflict: bool,
}

impl Hit {
    /// `None`: it has no id.
    fn line(&self) -> Option<Line<'_>> {
        let Self { row, room, recorded, .. } = self;
        Some(Line { row, room: room.as_deref(), id: self.id?, payload: &recorded.payload })
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Answer {
    /// In the order that was asked for; a copy of a message is no hit of its own.
    pub hits: Vec<Hit>,
    /// How many lines the index has, copies included.
    pub total: Total,
    /// Whether the time was over before all was looked at.
    pub is_partial: bool,
    /// Whether older hits were not compared with these: see [`Order::Best`].
    pub is_of_newest_only: bool,
    /// Rows whose message is not there any more.
    pub gone: u64,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<RowId>,
}

/// Looks for hits until there are enough, all are found, or the time is over.
pub(crate) async fn search(
    index: &Arc<Index>,
    whole: &Whole,
    wanted: &Wanted,
    clock: &Arc<dyn Clock>,
) -> Result<Answer, SearchError> {
    let deadline = Deadline::after(clock.clone(), wanted.time);
    let mut found = Hits::new(wanted);
    let mut answer: Option<Answer> = None;
    let mut before = wanted.before;
    loop {
        let page = rows(index, wanted, before, deadline.clone()).await?;
        let messages = messages_at(whole, &page.rows.iter().collect::<Vec<_>>()).await?;
        for (row, message) in page.rows.iter().zip(messages) {
            found.look_at(row, message);
        }
        before = page.next;
        let first = answer.get_or_insert_with(|| Answer {
            hits: Vec::new(),
            total: page.total,
            is_partial: false,
            is_of_newest_only: page.is_of_newest_only,
            gone: 0,
            next: None,
        });
        first.is_partial |= page.is_partial;
        if before.is_none() || first.is_partial || found.is_enough() {
            break;
        }
    }
    let mut answer = answer.ok_or(SearchError::Died)?;
    answer.next = found.next_page(before);
    (answer.hits, answer.gone) = (found.hits, found.gone);
    mark_conflicts(index, whole, &mut answer.hits).await?;
    Ok(answer)
}

async fn mark_conflicts(index: &Arc<Index>, whole: &Whole, hits: &mut [Hit]) -> Result<(), SearchError> {
    let lines: Vec<Line<'_>> = hits.iter().filter_map(Hit::line).collect();
    let conflicts = in_conflict(index, whole, &lines).await?;
    for hit in hits {
        hit.conflict = conflicts.contains(&hit.row.id);
    }
    Ok(())
}

async fn rows(
    index: &Arc<Index>,
    wanted: &Wanted,
    before: Option<RowId>,
    deadline: Deadline,
) -> Result<Found, SearchError> {
    let (index, wanted) = (index.clone(), wanted.clone());
    ask(move || {
        index.search(&SearchAsked {
            query: Some(&wanted.query),
            room: wanted.room.as_deref(),
            client_id: wanted.client_id.as_deref(),
            kind: wanted.kind,
            from_ms: wanted.from_ms,
            to_ms: wanted.to_ms,
            order: wanted.order,
            limit: wanted.limit,
            before,
            deadline: Some(deadline),
        })
    })
    .await
}

/// The hits so far.
struct Hits<'a> {
    wanted: &'a Wanted,
    hits: Vec<Hit>,
    copies: Copies,
    gone: u64,
    /// Whether a hit was left out because there were enough.
    is_cut: bool,
}

impl<'a> Hits<'a> {
    fn new(wanted: &'a Wanted) -> Self {
        Self { wanted, hits: Vec::new(), copies: Copies::default(), gone: 0, is_cut: false }
    }

    fn is_enough(&self) -> bool {
        self.hits.len() >= self.wanted.limit
    }

    fn look_at(&mut self, row: &Row, message: Option<StoredMessage>) {
        let Some(message) = message else {
            self.gone += 1;
            return;
        };
        let recorded = read_back(&message);
        let text = text_of(&recorded.payload, &self.wanted.text_fields);
        let Some(text) = text.filter(|text| self.wanted.query.matches(text)) else { return };
        if recorded.id.is_some_and(|id| !self.copies.add(id, &recorded.payload)) {
            return;
        }
        if self.is_enough() {
            self.is_cut = true;
            return;
        }
        let asked = self.wanted.room.as_deref().map(Arc::from);
        self.hits.push(Hit {
            room: asked.or_else(|| row.room.clone()).or_else(|| row.other_room.clone()),
            id: recorded.id,
            snippet: self.wanted.query.snippet(&text, self.wanted.width),
            row: row.clone(),
            recorded: Box::new(recorded),
            conflict: false,
        });
    }

    /// `next`: behind the last row that was looked at.
    fn next_page(&self, next: Option<RowId>) -> Option<RowId> {
        match self.wanted.order {
            Order::Best => None,
            Order::Newest if self.is_cut => self.hits.last().map(|hit| hit.row.id),
            Order::Newest => next,
        }
    }
}
