//! How long to wait before the next attempt, by cause. The only place that names the `backoff` crate, which is no
//! longer maintained.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

use crate::model::FailureKind;

/// Pauses differ by such a part from bridge to bridge and from queue to queue, so that they do not all knock at one time.
const JITTER: f64 = 0.3;

/// Makes the pauses of this thread repeatable, for tests in simulated time.
#[cfg(any(test, feature = "testing"))]
pub fn seed_jitter(seed: u64) {
    fastrand::seed(seed);
}

/// The pause, up to [`JITTER`] of it shorter or longer.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
}

/// The pauses between the attempts of one thing: growing, with jitter, capped, without end.
#[derive(Debug)]
pub(crate) struct Retry {
    pauses: ExponentialBackoff,
    cap: Duration,
    kind: Option<FailureKind>,
}

impl Retry {
    /// For reconnecting to the MQTT broker.
    pub(crate) fn reconnect() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }

    /// For sends; the pauses follow the cause of the last failure.
    pub(crate) fn send() -> Self {
        let (first, cap) = pauses(FailureKind::Transport);
        Self::new(first, cap)
    }

    fn new(first: Duration, cap: Duration) -> Self {
        let pauses = ExponentialBackoffBuilder::new()
            .with_initial_interval(first)
            .with_max_interval(cap)
            .with_multiplier(2.0)
            // `jittered` adds ours: two kinds of jitter would be one too many, and the crate's own cannot be seeded.
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        Self { pauses, cap, kind: None }
    }

    /// The pause before the next attempt.
    pub(crate) fn next_pause(&mut self) -> Duration {
        jittered(self.pauses.next_backoff().unwrap_or(self.cap)).min(self.cap)
    }

    /// The pause after a failure of that kind; another kind begins with its own first pause.
    pub(crate) fn next_pause_after(&mut self, kind: FailureKind) -> Duration {
        if self.kind != Some(kind) {
            let (first, cap) = pauses(kind);
            *self = Self::new(first, cap);
            self.kind = Some(kind);
        }
        self.next_pause()
    }

    /// The next pause is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.pauses.reset();
    }
}

/// First pause and cap. Away brokers are probed often, because the attempt itself is the probe and a fresh client
/// sends 0.1 s after the port is open; what only a person can mend is tried slowly.
fn pauses(kind: FailureKind) -> (Duration, Duration) {
    let milliseconds = |first, cap| (Duration::from_millis(first), Duration::from_millis(cap));
    match kind {
        FailureKind::Transport | FailureKind::Timeout | FailureKind::Unknown => milliseconds(20, 200),
        FailureKind::Busy | FailureKind::DiskFull => milliseconds(100, 5_000),
        FailureKind::TopicMissing | FailureKind::QueueMissing => milliseconds(200, 5_000),
        FailureKind::NoPermission => milliseconds(1_000, 30_000),
        // Each attempt appends the batch once more: slow from the start.
        FailureKind::NotDurable(_) => milliseconds(500, 30_000),
        FailureKind::MessageIllegal => milliseconds(100, 400),
        FailureKind::Refused => milliseconds(100, 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NotDurable;

    #[test]
    fn pauses_grow_up_to_their_cap_and_never_end() {
        let mut retry = Retry::send();
        let all: Vec<_> = (0..100).map(|_| retry.next_pause_after(FailureKind::Transport)).collect();
        assert!(all[0] <= Duration::from_millis(26), "{:?}", all[0]);
        assert!(all.iter().all(|pause| *pause <= Duration::from_millis(200)));
        assert!(all[99] >= Duration::from_millis(140), "{:?}", all[99]);
    }

    #[test]
    fn another_cause_has_other_pauses() {
        let mut retry = Retry::send();
        for _ in 0..20 {
            retry.next_pause_after(FailureKind::Transport);
        }
        assert!(retry.next_pause_after(FailureKind::NoPermission) >= Duration::from_millis(700));
    }

    /// Hazard 8: the master has the batch already, and each attempt appends it once more.
    #[test]
    fn what_is_not_durable_is_tried_again_slowly() {
        let mut retry = Retry::send();
        let why = FailureKind::NotDurable(NotDurable::FlushDiskTimeout);
        let waited: Duration = (0..8).map(|_| retry.next_pause_after(why)).sum();
        assert!(waited > Duration::from_secs(40), "{waited:?} for eight attempts");
    }
}
