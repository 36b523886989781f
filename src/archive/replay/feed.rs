//! The records of a replay: the history, and then, if it is followed, what comes.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::error::ReplayError;
use super::tail::{Found, Tail};
use crate::archive::copies::BodyHash;
use crate::archive::history::{History, ReadProgress};
use crate::archive::query::HistoryQuery;
use crate::archive::record::Record;
use crate::model::MessageId;
use crate::pipeline::ports::{ReadError, Reader};

/// So many messages are remembered, so that a copy that RocketMQ stores later is not played again.
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
                        self.seen.add(id, &record.bytes);
                    }
                    return Ok(Next::Record(Box::new(record)));
                }
                None => self.is_history = false,
            }
        }
        let Some(tail) = &mut self.tail else { return Ok(Next::End) };
        loop {
            while let Some(mut record) = tail.take() {
                if record.id.is_none_or(|id| self.seen.add(id, &record.bytes)) {
                    // The other one may have been played already.
                    record.conflict = record.id.is_some_and(|id| self.seen.is_conflict(id));
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

/// The latest messages, by id and body.
#[derive(Default)]
struct Seen {
    known: HashSet<(MessageId, BodyHash)>,
    /// How many of them have this id.
    bodies: HashMap<MessageId, usize>,
    order: VecDeque<(MessageId, BodyHash)>,
}

impl Seen {
    /// `false`: it was there already.
    fn add(&mut self, id: MessageId, body: &[u8]) -> bool {
        let message = (id, BodyHash::of(body));
        if !self.known.insert(message) {
            return false;
        }
        *self.bodies.entry(id).or_insert(0) += 1;
        self.order.push_back(message);
        if self.order.len() > SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
            if let Entry::Occupied(mut bodies) = self.bodies.entry(oldest.0) {
                *bodies.get_mut() -= 1;
                if *bodies.get() == 0 {
                    bodies.remove();
                }
            }
        }
        true
    }

    /// Whether several bodies of this id are known.
    fn is_conflict(&self, id: MessageId) -> bool {
        self.bodies.get(&id).is_some_and(|bodies| *bodies > 1)
    }
}
