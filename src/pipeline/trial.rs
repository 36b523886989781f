//! One message that RocketMQ keeps refusing with the same answer: decides whether the message is to blame, or RocketMQ.
//!
//! Promises: a message is condemned only while its broker takes others; a broker that refuses everything condemns none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Refusal;

/// The same answer so often, over at least this time, while the broker takes other messages.
const ANSWERS: u32 = 5;
const AT_LEAST: Duration = Duration::from_secs(10);
/// Longer than two attempts can lie apart: the process stood still, and what it knows of the broker is old.
const GAP: Duration = Duration::from_secs(30);

/// When each broker last answered SEND_OK, to whatever.
#[derive(Debug, Default)]
pub struct Accepted(Mutex<HashMap<Arc<str>, Instant>>);

impl Accepted {
    pub(super) fn note(&self, broker: &Arc<str>) {
        let mut accepted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match accepted.get_mut(broker) {
            Some(last) => *last = Instant::now(),
            None => _ = accepted.insert(broker.clone(), Instant::now()),
        }
    }

    pub(super) fn since(&self, broker: &str, then: Instant) -> bool {
        let accepted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.get(broker).is_some_and(|last| *last > then)
    }
}

/// What one message was answered so far.
#[derive(Debug)]
pub(super) struct Trial {
    answer: Refusal,
    first: Instant,
    last: Instant,
    answers: u32,
    /// Since the broker was seen to take others: from when on, and how often it was refused since.
    alone: Option<(Instant, u32)>,
}

impl Trial {
    pub(crate) fn new(answer: Refusal) -> Self {
        let now = Instant::now();
        Self { answer, first: now, last: now, answers: 1, alone: None }
    }

    /// Of the first message that is refused alone its own answers count; that the broker takes others is known.
    pub(crate) fn of_a_half(&self) -> Self {
        Self { answer: self.answer.clone(), answers: 0, alone: None, ..*self }
    }

    pub(crate) fn is_like(&self, answer: &Refusal) -> bool {
        self.answer.is_like(answer) && self.last.elapsed() < GAP
    }

    /// Before an attempt, because an answer that was under way while the broker recovered proves nothing.
    pub(crate) fn look(&mut self, accepted: &Accepted, broker: &str) {
        if self.alone.is_none() && accepted.since(broker, self.first) {
            self.alone = Some((Instant::now(), 0));
        }
    }

    /// The same answer again.
    pub(crate) fn refused(&mut self) {
        self.last = Instant::now();
        self.answers += 1;
        if let Some((_, answers)) = &mut self.alone {
            *answers += 1;
        }
    }

    /// RocketMQ takes other messages, and never this one.
    pub(crate) fn is_over(&self) -> bool {
        self.alone.is_some_and(|(since, answers)| answers >= ANSWERS && since.elapsed() >= AT_LEAST)
    }

    /// Whether the messages of other rooms should be tried without it: the broker takes others, or nobody knows for long.
    pub(crate) fn may_step_aside(&self) -> bool {
        self.alone.is_some() || (self.answers >= ANSWERS && self.first.elapsed() >= AT_LEAST)
    }
}
