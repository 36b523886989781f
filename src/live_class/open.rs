//! The open requests: those whose deliveries and records are not all stored yet.
//!
//! Bounded by the follower, which stops reading while too many requests are open.

use std::collections::HashMap;

use tokio::sync::mpsc;

use crate::binding::Bound;
use crate::consumer::QueuePosition;
use crate::pipeline::{Derived, DerivedOutcome, DerivedReceipt};

/// The open requests, and the messages that follow from each.
pub(super) struct OpenRequests {
    outcomes: mpsc::UnboundedSender<(u64, DerivedOutcome)>,
    next: u64,
    sources: HashMap<u64, Source>,
    derived: HashMap<u64, OpenDerived>,
    /// Messages that the pipeline gave back, to be sent again.
    given_back: Vec<u64>,
}

struct Source {
    /// Its place in RocketMQ; `None` for a notice or a status message, which follows from no request.
    place: Option<QueuePosition>,
    left: usize,
}

struct OpenDerived {
    source: u64,
    /// The message, to send it again; `None` for a dead letter, which is never given back.
    bound: Option<Bound>,
}

impl OpenRequests {
    pub(crate) fn new(outcomes: mpsc::UnboundedSender<(u64, DerivedOutcome)>) -> Self {
        Self { outcomes, next: 0, sources: HashMap::new(), derived: HashMap::new(), given_back: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Opens a request, or something of our own, with the messages that follow from it; the caller gives them to the
    /// pipeline in this order. The number is that of its dead letter, if it has one: report it when the letter is safe.
    pub(crate) fn begin(
        &mut self,
        place: Option<QueuePosition>,
        made: Vec<Bound>,
        letter: bool,
    ) -> (Vec<Derived>, Option<u64>) {
        self.next += 1;
        let source = self.next;
        let left = made.len() + usize::from(letter);
        self.sources.insert(source, Source { place, left });
        let letter = letter.then(|| self.number(source, None));
        let derived = made.into_iter().map(|bound| {
            let number = self.number(source, Some(bound.clone()));
            self.derived_of(number, bound)
        });
        (derived.collect(), letter)
    }

    fn number(&mut self, source: u64, bound: Option<Bound>) -> u64 {
        self.next += 1;
        self.derived.insert(self.next, OpenDerived { source, bound });
        self.next
    }

    fn derived_of(&self, number: u64, bound: Bound) -> Derived {
        Derived { bound, receipt: DerivedReceipt { number, outcomes: self.outcomes.clone() } }
    }

    /// Takes the outcome of one message. Gives the place of the request if this was its last open message.
    pub(crate) fn take_outcome(&mut self, number: u64, outcome: DerivedOutcome) -> Option<QueuePosition> {
        match outcome {
            DerivedOutcome::GivenUp => {
                self.given_back.push(number);
                None
            }
            DerivedOutcome::Kept => {
                let source = self.derived.remove(&number)?.source;
                let left = {
                    let waiting = self.sources.get_mut(&source)?;
                    waiting.left -= 1;
                    waiting.left
                };
                if left > 0 {
                    return None;
                }
                self.sources.remove(&source)?.place
            }
        }
    }

    /// Takes the messages that the pipeline gave back, in the order in which they were made.
    pub(crate) fn take_given_back(&mut self) -> Vec<Derived> {
        let mut given_back = std::mem::take(&mut self.given_back);
        given_back.sort_unstable();
        given_back
            .into_iter()
            .filter_map(|number| {
                let bound = self.derived.get(&number)?.bound.clone()?;
                Some(self.derived_of(number, bound))
            })
            .collect()
    }
}
