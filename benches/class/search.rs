//! The largest class that holds: doubles until one does not, then halves the gap.
//!
//! Promises to begin nothing that would end after its time, by how long the last attempt took.

use std::time::{Duration, Instant};

/// Classes are told apart no finer than this; a shared machine says no more.
const STEP: usize = 50;

pub struct Search {
    pub first: usize,
    pub most: usize,
    pub budget: Duration,
}

impl Search {
    pub fn run(&self, mut holds: impl FnMut(usize) -> bool) {
        let started = Instant::now();
        let (mut largest, mut too_large) = (0, None);
        let mut next = Some(self.first);
        while let Some(students) = next {
            let begun = Instant::now();
            if holds(students) {
                largest = students;
            } else {
                too_large = Some(students);
            }
            let in_time = started.elapsed() + begun.elapsed() < self.budget;
            next = in_time.then(|| self.next(largest, too_large)).flatten();
        }
    }

    fn next(&self, largest: usize, too_large: Option<usize>) -> Option<usize> {
        let Some(too_large) = too_large else {
            return (largest < self.most).then(|| (2 * largest).min(self.most));
        };
        // Within a tenth it is the machine's mood.
        let is_close = too_large - largest <= STEP.max(largest / 10);
        let middle = (largest + too_large) / 2 / STEP * STEP;
        (!is_close && middle > largest).then_some(middle)
    }
}
