//! The spool's own clock: for how long processes have held the file, in all. A wall clock that jumps does not move it.

use std::sync::Arc;
use std::time::Duration;

use crate::model::Clock;

pub(super) struct SpoolClock {
    clock: Arc<dyn Clock>,
    opened: Duration,
    before_ms: i64,
}

impl SpoolClock {
    /// Goes on from the time that the file remembers.
    pub(super) fn resume(clock: Arc<dyn Clock>, before_ms: i64) -> Self {
        let opened = clock.monotonic();
        Self { clock, opened, before_ms }
    }

    pub(super) fn running_ms(&self) -> i64 {
        let here = self.clock.monotonic().saturating_sub(self.opened);
        self.before_ms.saturating_add(here.as_millis() as i64)
    }

    pub(super) fn wall_ms(&self) -> i64 {
        self.clock.wall_ms() as i64
    }
}
