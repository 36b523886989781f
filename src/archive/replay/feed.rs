//! The records of a replay: the history, and then, if it is followed, what comes.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::error::ReplayError;
use super::tail::{Found, Tail};
use crate::archive::history::{History, ReadProgress};
use crate::archive::query::HistoryQuery;
use crate::archive::record::Record;
use crate::model::MessageId;
use crate::pipeline::ports::{ReadError, Reader};

/// So many ids are remembered, so that a copy that RocketMQ stores later is not played again.
const SEEN: usize = 100_000;

/// Where to read.
#[derive(Clone, Copy)]
pub(crate) struct Readers<'a> {
    /// What was said until now.
    pub until_now: &'a dyn Reader,
    /// What comes: RocketMQ. `None`: the replay ends where the history ends.
    pub follow: Option<&'a dyn Reader>,
}

/// What comes next.
pub(super) enum Next {
    Record(Box<Record>),
    /// Nothing was said since; look again after this time.
    Nothing(Duration),
    /// RocketMQ did not answer; look again after this time.
    Trouble(ReadError, Duration),
    End,
}

pub(super) struct Feed<'a> {
    history: History<'a>,
    /// `false`: it has given everything.
    is_history: bool,
    tail: Option<Tail<'a>>,
    /// Only if it is followed: in a history copies are folded.
    seen: Seen,
}

impl<'a> Feed<'a> {
    pub(crate) async fn open(
        readers: Readers<'a>,
        query: HistoryQuery,
        progress: &mut (dyn FnMut(ReadProgress) + Send),
    ) -> Result<Self, ReplayError> {
        let history = History::open(readers.until_now, query.clone(), progress).await?;
        let tail = readers.follow.map(|rocketmq| Tail::new(rocketmq, query, history.ends()));
        Ok(Self { history, is_history: true, tail, seen: Seen::default() })
    }

    pub(crate) fn history(&self) -> &History<'a> {
        &self.history
    }

    pub(crate) async fn next(&mut self) -> Result<Next, ReplayError> {
        if self.is_history {
            match self.history.next().await? {
                Some(record) => {
                    if let (Some(id), true) = (record.id, self.tail.is_some()) {
                        self.seen.add(id);
                    }
                    return Ok(Next::Record(Box::new(record)));
                }
                None => self.is_history = false,
            }
        }
        let Some(tail) = &mut self.tail else { return Ok(Next::End) };
        loop {
            while let Some(record) = tail.take() {
                if record.id.is_none_or(|id| self.seen.add(id)) {
                    return Ok(Next::Record(Box::new(record)));
                }
            }
            match tail.look().await? {
                Found::Something => {}
                Found::Nothing(wait) => return Ok(Next::Nothing(wait)),
                Found::Trouble(error, wait) => return Ok(Next::Trouble(error, wait)),
            }
        }
    }
}

/// The latest ids.
#[derive(Default)]
struct Seen {
    known: HashSet<MessageId>,
    order: VecDeque<MessageId>,
}

impl Seen {
    /// `false`: it was there already.
    fn add(&mut self, id: MessageId) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
