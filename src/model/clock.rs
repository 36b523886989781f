//! Time as the program sees it, so that tests can move it.

#[cfg(test)]
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall time for people and records, monotonic time for ages and deadlines.
///
/// The wall clock may jump in both directions; nothing that decides about a message may be derived from it.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970-01-01 UTC.
    fn wall_ms(&self) -> u64;
    /// Time since some fixed moment of this process; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that stands still until a test moves it.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct ManualClock {
    now: Mutex<(u64, Duration)>,
}

#[cfg(test)]
impl ManualClock {
    /// Starts at the given wall time, in milliseconds since 1970-01-01 UTC.
    pub(crate) fn at(wall_ms: u64) -> Self {
        Self { now: Mutex::new((wall_ms, Duration::ZERO)) }
    }

    /// Moves both clocks forward.
    pub(crate) fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        now.0 += by.as_millis() as u64;
        now.1 += by;
    }

    /// Makes the wall clock jump; the monotonic clock does not notice.
    pub(crate) fn set_wall_ms(&self, wall_ms: u64) {
        self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0 = wall_ms;
    }
}

#[cfg(test)]
impl Clock for ManualClock {
    fn wall_ms(&self) -> u64 {
        self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    fn monotonic(&self) -> Duration {
        self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1
    }
}
