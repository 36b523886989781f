//! Divides a frozen batch until the message that RocketMQ refuses is alone: parts that may be sent next, and single messages
//! that are refused and wait.
//!
//! Promises: a message is sent only when every older one of its slot in the batch has ended.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::{End, Ends};
use super::ports::{Batch, OutgoingMessage};
use super::trial::{Accepted, Trial};
use crate::model::{FailureKind, Refusal};

/// A part of a frozen batch: its messages, and their places in the whole.
pub(super) struct Part {
    pub batch: Arc<Batch>,
    pub places: Vec<usize>,
    /// Of the part as it is, or of the one that it was split off from.
    trial: Option<Trial>,
    /// A single message that waits for the others to be tried; what is behind it of its slot, by place.
    behind: Option<Vec<(usize, OutgoingMessage)>>,
}

/// What is to be done with a part after its refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it is.
    Again,
    /// One of its messages may be to blame.
    Split,
    /// A single message: the others are tried first.
    Waits,
    /// A single message, and others are taken: it goes on in a lane of its own.
    StepsAside,
    /// RocketMQ takes others, and never this one.
    IsDead,
}

pub(super) struct Bisection {
    slots: Vec<u8>,
    /// In order, and of other slots than those that are postponed.
    parts: VecDeque<Part>,
    /// Single messages, in the order in which they are tried again; no two of one slot.
    postponed: VecDeque<Part>,
}

impl Bisection {
    /// Of a batch whose messages have these slots. Its parts are given back to it when they have failed.
    pub(crate) fn new(slots: Vec<u8>) -> Self {
        Self { slots, parts: VecDeque::new(), postponed: VecDeque::new() }
    }

    /// What is to be sent next; it is given back if it is not stored.
    pub(crate) fn next(&mut self) -> Option<Part> {
        if let Some(part) = self.parts.pop_front() {
            return Some(part);
        }
        let mut postponed = self.postponed.pop_front()?;
        // Behind it in order, should it be stored or dead.
        if let Some(behind) = postponed.behind.take().filter(|behind| !behind.is_empty()) {
            let (places, messages) = behind.into_iter().unzip();
            self.parts.push_front(Part::new(Part::of(&postponed.batch, messages), places));
        }
        Some(postponed)
    }

    pub(crate) fn put_back(&mut self, part: Part) {
        self.parts.push_front(part);
    }

    pub(crate) fn put_back_both(&mut self, (first, second): (Part, Part)) {
        self.parts.push_front(second);
        self.parts.push_front(first);
    }

    pub(crate) fn split(&mut self, part: Part) {
        match part.split() {
            Ok(halves) => self.put_back_both(halves),
            Err(single) => self.put_back(*single),
        }
    }

    /// The others are tried, except those behind it.
    pub(crate) fn postpone(&mut self, mut single: Part) {
        single.behind = Some(self.take_slot_of(&single));
        self.postponed.push_back(single);
    }

    /// It and what is behind it leave the batch.
    pub(crate) fn step_aside(&mut self, single: Part, ends: &mut Ends) {
        let behind = self.take_slot_of(&single);
        let places = behind.iter().map(|(place, _)| *place);
        for place in single.places.iter().copied().chain(places) {
            if let Some(end) = ends.get_mut(place) {
                *end = End::Aside;
            }
        }
    }

    fn slot_of(&self, place: usize) -> Option<u8> {
        self.slots.get(place).copied()
    }

    /// Takes what is left of its slot out of the parts, in order.
    fn take_slot_of(&mut self, single: &Part) -> Vec<(usize, OutgoingMessage)> {
        let slot = single.places.first().and_then(|place| self.slot_of(*place));
        let mut taken = Vec::new();
        for part in std::mem::take(&mut self.parts) {
            let (of_slot, others): (Vec<_>, Vec<_>) =
                part.places.iter().copied().enumerate().partition(|(_, place)| self.slot_of(*place) == slot);
            if of_slot.is_empty() {
                self.parts.push_back(part);
                continue;
            }
            let messages = &part.batch.messages;
            taken.extend(
                of_slot.iter().filter_map(|(index, place)| Some((*place, messages.get(*index)?.clone()))),
            );
            if !others.is_empty() {
                self.parts.push_back(part.keep(others));
            }
        }
        taken
    }
}

impl Part {
    /// The batch as it is.
    pub(crate) fn of_whole(batch: Arc<Batch>) -> Self {
        let places = (0..batch.messages.len()).collect();
        Self::new(batch, places)
    }

    fn new(batch: Arc<Batch>, places: Vec<usize>) -> Self {
        Self { batch, places, trial: None, behind: None }
    }

    /// Before an attempt.
    pub(crate) fn look(&mut self, accepted: &Accepted) {
        if let Some(trial) = &mut self.trial {
            trial.look(accepted, &self.batch.queue.broker);
        }
    }

    /// After a refusal.
    pub(crate) fn judge(&mut self, kind: FailureKind, answer: Option<&Refusal>, alone: bool) -> Verdict {
        let answer = answer.filter(|_| kind == FailureKind::Refused);
        let Some(answer) = answer else {
            // What the connection or the broker's load has to say is nothing about the message.
            self.trial = None;
            return Verdict::Again;
        };
        let Some(trial) = self.trial.as_mut().filter(|trial| trial.is_like(answer)) else {
            self.trial = Some(Trial::new(answer.clone()));
            return Verdict::Again;
        };
        trial.refused();
        match (self.places.len(), alone) {
            (2.., _) => Verdict::Split,
            _ if trial.is_over() => Verdict::IsDead,
            (_, false) if trial.may_step_aside() => Verdict::StepsAside,
            _ => Verdict::Waits,
        }
    }

    /// Only these messages, by index and place.
    pub(crate) fn keep(self, kept: Vec<(usize, usize)>) -> Self {
        if kept.len() == self.batch.messages.len() {
            return self;
        }
        let messages =
            kept.iter().filter_map(|(index, _)| self.batch.messages.get(*index).cloned()).collect();
        Self {
            batch: Self::of(&self.batch, messages),
            places: kept.into_iter().map(|(_, place)| place).collect(),
            ..self
        }
    }

    fn of(batch: &Batch, messages: Vec<OutgoingMessage>) -> Arc<Batch> {
        let (topic, queue) = (batch.topic.clone(), batch.queue.clone());
        Arc::new(Batch { topic, queue, messages })
    }

    /// Two halves, or the part itself if it is a single message.
    pub(crate) fn split(mut self) -> Result<(Self, Self), Box<Self>> {
        if self.places.len() < 2 {
            return Err(Box::new(self));
        }
        let middle = self.places.len() / 2;
        let places = self.places.split_off(middle);
        let (first, second) = self.batch.messages.split_at(middle.min(self.batch.messages.len()));
        let trial = self.trial.as_ref().map(Trial::of_a_half);
        let second = Self {
            trial: self.trial.as_ref().map(Trial::of_a_half),
            ..Self::new(Self::of(&self.batch, second.to_vec()), places)
        };
        let first = Self { trial, ..Self::new(Self::of(&self.batch, first.to_vec()), self.places) };
        Ok((first, second))
    }

    pub(crate) fn end_all(self, ends: &mut Ends, end: &End) {
        for place in self.places {
            if let Some(each) = ends.get_mut(place) {
                *each = end.clone();
            }
        }
    }
}
