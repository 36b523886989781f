//! What is on its way: requests whose consequences are not all stored yet.
//!
//! Bounded by the follower, which hands on no more than it may have open.

use std::collections::HashMap;

use tokio::sync::mpsc;

use crate::binding::Bound;
use crate::consumer::QueuePosition;
use crate::pipeline::{Derived, DerivedOutcome, DerivedReceipt};

/// See the module's words.
pub(super) struct OpenRequests {
    tell: mpsc::UnboundedSender<(u64, DerivedOutcome)>,
    next: u64,
    sources: HashMap<u64, Source>,
    derived: HashMap<u64, OpenDerived>,
    /// Given back by the pipeline.
    again: Vec<u64>,
}

struct Source {
    /// `None`: nothing waits for it in RocketMQ.
    place: Option<QueuePosition>,
    left: usize,
}

struct OpenDerived {
    source: u64,
    /// `None`: a dead letter.
    bound: Option<Bound>,
}

impl OpenRequests {
    pub(crate) fn new(tell: mpsc::UnboundedSender<(u64, DerivedOutcome)>) -> Self {
        Self { tell, next: 0, sources: HashMap::new(), derived: HashMap::new(), again: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// A request, or something of our own, with what follows from it; to be given to the pipeline in this order. The number
    /// is that of its dead letter, if there is one, to be told when that is safe.
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
        Derived { bound, receipt: DerivedReceipt { number, outcomes: self.tell.clone() } }
    }

    /// The place of the request, if this was the last that followed from it.
    pub(crate) fn told(&mut self, number: u64, told: DerivedOutcome) -> Option<QueuePosition> {
        match told {
            DerivedOutcome::GivenUp => {
                self.again.push(number);
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

    /// What the pipeline gave back, in the order in which it was made.
    pub(crate) fn take_again(&mut self) -> Vec<Derived> {
        let mut again = std::mem::take(&mut self.again);
        again.sort_unstable();
        again
            .into_iter()
            .filter_map(|number| {
                let bound = self.derived.get(&number)?.bound.clone()?;
                Some(self.derived_of(number, bound))
            })
            .collect()
    }
}
