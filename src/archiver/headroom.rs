//! How long until RocketMQ deletes what is not archived yet.
//!
//! RocketMQ deletes by age, once a day; and when its disk is nearly full it deletes the oldest, whatever the age. So the age alone
//! says too little: the speed at which the first offset of a queue moves counts, too.

use std::collections::VecDeque;
use std::time::Duration;

/// The speed is measured over so long.
const WINDOW_MS: u64 = 10 * 60_000;
/// Bound of the samples, one for each round.
const SAMPLES: usize = 128;

/// The first offsets that a queue had, each with the time at which it was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Headroom {
    firsts: VecDeque<(u64, u64)>,
}

impl Headroom {
    /// RocketMQ's first offset at that time.
    pub(super) fn saw(&mut self, now_ms: u64, first: u64) {
        let is_old = |(at_ms, _): &(u64, u64)| now_ms.saturating_sub(*at_ms) > WINDOW_MS;
        while self.firsts.len() >= SAMPLES
            || (self.firsts.len() > 1 && self.firsts.front().is_some_and(is_old))
        {
            self.firsts.pop_front();
        }
        self.firsts.push_back((now_ms, first));
    }

    /// For a queue whose first message that is not archived has that offset and that store time. `keeps`: how long RocketMQ keeps a
    /// message by its settings.
    pub(super) fn left(&self, now_ms: u64, next: u64, stored_ms: u64, keeps: Duration) -> Duration {
        let by_age = keeps.saturating_sub(Duration::from_millis(now_ms.saturating_sub(stored_ms)));
        self.by_speed(next).map_or(by_age, |by_speed| by_speed.min(by_age))
    }

    fn by_speed(&self, next: u64) -> Option<Duration> {
        let ((then_ms, from), (now_ms, to)) = (*self.firsts.front()?, *self.firsts.back()?);
        let (deleted, took_ms) = (to.saturating_sub(from), now_ms.saturating_sub(then_ms));
        if deleted == 0 {
            return None;
        }
        let left = u128::from(next.saturating_sub(to)) * u128::from(took_ms) / u128::from(deleted);
        Some(Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const KEEPS: Duration = Duration::from_secs(72 * 3600);

    fn left(headroom: &Headroom, now_ms: u64, next: u64, stored_ms: u64) -> u64 {
        headroom.left(now_ms, next, stored_ms, KEEPS).as_secs()
    }

    #[test]
    fn a_message_that_is_as_old_as_rocketmq_keeps_has_none() {
        let mut headroom = Headroom::default();
        headroom.saw(100 * HOUR_MS, 5);
        assert_eq!(left(&headroom, 100 * HOUR_MS, 10, 90 * HOUR_MS), 62 * 3600);
        assert_eq!(left(&headroom, 100 * HOUR_MS, 10, 20 * HOUR_MS), 0);
        // A broker whose clock is ahead.
        assert_eq!(left(&headroom, 100 * HOUR_MS, 10, 101 * HOUR_MS), 72 * 3600);
    }

    #[test]
    fn a_full_disk_is_seen_by_the_speed_at_which_messages_go() {
        let mut headroom = Headroom::default();
        headroom.saw(0, 1000);
        headroom.saw(60_000, 1600);
        // Ten messages a second go, and 400 are between them and the position.
        assert_eq!(left(&headroom, 60_000, 2000, 60_000), 40);
        assert_eq!(left(&headroom, 60_000, 1600, 60_000), 0);
        // When it stands still again, the speed is forgotten with its samples.
        for minute in 2..30 {
            headroom.saw(minute * 60_000, 1600);
        }
        assert_eq!(left(&headroom, 30 * 60_000, 2000, 30 * 60_000), 72 * 3600);
    }
}
