//! Says when a thing is to be logged again, so that an outage is a few lines of the log and not a flood.

use std::time::Duration;

use tokio::time::Instant;

const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Remembers when one thing was logged last, by tokio's clock, which tests can move.
#[derive(Debug, Default)]
pub struct Throttle {
    logged: Option<Instant>,
}

impl Throttle {
    /// True the first time, and then when 30 s have passed since it was true last.
    pub(crate) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.logged.is_none_or(|logged| now - logged >= AGAIN_AFTER);
        if due {
            self.logged = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thing_is_due_at_once_and_then_each_thirty_seconds() {
        let mut throttle = Throttle::default();
        let mut due_at_s = Vec::new();
        for second in 0..=100 {
            if throttle.is_due() {
                due_at_s.push(second);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(due_at_s, [0, 30, 60, 90]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_long_silence_the_thirty_seconds_begin_anew() {
        let mut throttle = Throttle::default();
        assert!(throttle.is_due());
        tokio::time::advance(AGAIN_AFTER * 5).await;
        assert!(throttle.is_due());
        tokio::time::advance(AGAIN_AFTER - Duration::from_millis(1)).await;
        assert!(!throttle.is_due(), "what was not logged in the silence is not logged later");
    }
}
