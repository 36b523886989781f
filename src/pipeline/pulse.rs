//! Tells whoever watches over the process that the pipeline's loop goes round.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior};

/// Beats at intervals, from within the loop; a loop that stands still is silent.
pub(crate) struct Pulse {
    interval: Option<Interval>,
    beat: Arc<Notify>,
}

impl Pulse {
    /// Nobody watches.
    pub(crate) fn none() -> Self {
        Self { interval: None, beat: Arc::default() }
    }

    /// To be made inside of a runtime.
    pub(crate) fn every(period: Duration, beat: Arc<Notify>) -> Self {
        let mut interval = tokio::time::interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { interval: Some(interval), beat }
    }

    /// Returns after each beat; never, if nobody watches.
    pub(super) async fn beats(&mut self) {
        match &mut self.interval {
            Some(interval) => {
                interval.tick().await;
                self.beat.notify_one();
            }
            // No deadline: it is one of the loop's several causes to go on.
            None => std::future::pending().await,
        }
    }
}
