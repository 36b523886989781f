//! What the spool said last: shown as metrics and readiness, and logged once when it changes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::spool::{Overflow, SpoolError};
use crate::telemetry::{Metrics, Readiness};

/// The spool, and when it is used.
#[derive(Clone)]
pub struct SpoolUse {
    pub overflow: Arc<dyn Overflow>,
    /// How long a message may wait in memory.
    pub after: Duration,
}

/// The state of the spool is asked for so often while nothing is written to it.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Accepts,
    Full,
    Poisoned,
}

/// The last answer of the spool, and the questions to it that nothing else asks.
pub(super) struct SpoolState {
    overflow: Option<Arc<dyn Overflow>>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    state: State,
    asking: bool,
    looks: Interval,
}

impl SpoolState {
    pub(crate) fn new(
        overflow: Option<Arc<dyn Overflow>>,
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
    ) -> Self {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { overflow, metrics, readiness, state: State::Accepts, asking: false, looks }
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.state == State::Poisoned
    }

    /// Rows were removed. Whether new ones may come is another question.
    pub(crate) fn rows_left(&self) {
        if let Some(overflow) = &self.overflow {
            self.metrics.spool_bytes.set(overflow.depth().bytes as i64);
        }
    }

    /// Returns when the spool should be asked again.
    pub(crate) async fn is_old(&mut self) {
        self.looks.tick().await;
    }

    /// A question to the spool, if its last answer may be out of date; [`SpoolState::told`] gets the answer.
    pub(crate) fn ask(&mut self) -> Option<BoxFuture<'static, Result<(), SpoolError>>> {
        let overflow = self.overflow.as_ref()?;
        // The spool may have broken while no caller waited for its answer.
        let has_broken = overflow.poisoned().is_some() && self.state != State::Poisoned;
        let may_have_room = self.state == State::Full;
        if self.asking || !(has_broken || may_have_room) {
            return None;
        }
        self.asking = true;
        Some(overflow.room())
    }

    /// The spool has answered [`SpoolState::ask`].
    pub(crate) fn room_answered(&mut self, answer: Result<(), SpoolError>) {
        self.asking = false;
        self.note(answer);
    }

    /// A write was answered.
    pub(crate) fn note(&mut self, answer: Result<(), SpoolError>) {
        let Some(overflow) = &self.overflow else { return };
        self.rows_left();
        let answer = match overflow.poisoned() {
            Some(why) => Err(SpoolError::Poisoned(why)),
            None => answer,
        };
        let state = match &answer {
            Ok(()) => State::Accepts,
            Err(SpoolError::Full(_)) => State::Full,
            Err(SpoolError::Poisoned(_)) => State::Poisoned,
            // The share of a topic says nothing of the spool.
            Err(SpoolError::TopicShare) => return,
        };
        self.metrics.spool_full.set(i64::from(state == State::Full));
        self.metrics.spool_poisoned.set(i64::from(state == State::Poisoned));
        self.readiness.set_spool_accepts(state == State::Accepts);
        if std::mem::replace(&mut self.state, state) == state {
            return;
        }
        match &answer {
            Ok(()) => tracing::info!("the spool takes messages in again"),
            Err(error) if state == State::Full => tracing::warn!(
                %error,
                "what RocketMQ does not take now is not acknowledged until the spool has room; it heals by itself"
            ),
            Err(error) => tracing::error!(
                %error,
                "the spool takes nothing in any more; what is readable is still sent. Check the disk, then restart"
            ),
        }
    }
}
