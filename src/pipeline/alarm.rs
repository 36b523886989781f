//! Says a thing again only after a while, so that an outage is a few lines and not a flood.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::model::{Clock, FailureKind};

const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Remembers when each cause was reported last.
pub struct Alarm {
    clock: Arc<dyn Clock>,
    reported: Mutex<HashMap<FailureKind, Duration>>,
}

impl Alarm {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, reported: Mutex::default() }
    }

    /// True the first time, and then once in 30 s, for each cause.
    pub fn is_due(&self, kind: FailureKind) -> bool {
        let now = self.clock.monotonic();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let due = reported.get(&kind).is_none_or(|last| now.saturating_sub(*last) >= AGAIN_AFTER);
        if due {
            reported.insert(kind, now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ManualClock;

    #[test]
    fn each_cause_is_said_once_in_thirty_seconds() {
        let clock = Arc::new(ManualClock::at(0));
        let alarm = Alarm::new(clock.clone());
        assert!(alarm.is_due(FailureKind::Transport));
        assert!(!alarm.is_due(FailureKind::Transport));
        assert!(alarm.is_due(FailureKind::Busy), "another cause is not silenced");
        clock.advance(AGAIN_AFTER);
        assert!(alarm.is_due(FailureKind::Transport));
    }
}
