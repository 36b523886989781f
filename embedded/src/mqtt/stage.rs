//! How far a connection has come. Others refuse or cut it from outside; its own stream looks here before it reads or writes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// Until the CONNACK.
    Arriving,
    Open,
    /// A request was refused: the answer is sent, then the connection ends.
    Refused,
    Cut,
}

/// The stage of a connection, and the task to wake when it changes.
pub(super) struct ConnectionStage(Mutex<State>);

struct State {
    stage: Stage,
    /// The last waker. The broker serves a connection in one task, so it is always the right one.
    waker: Option<Waker>,
}

impl ConnectionStage {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { stage: Stage::Arriving, waker: None }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stage(&self) -> Stage {
        self.state().stage
    }

    pub(super) fn open(&self) {
        let mut state = self.state();
        if state.stage == Stage::Arriving {
            state.stage = Stage::Open;
        }
    }

    pub(super) fn refuse(&self) {
        let mut state = self.state();
        if state.stage == Stage::Open {
            state.stage = Stage::Refused;
        }
    }

    pub(super) fn cut(&self) {
        let mut state = self.state();
        state.stage = Stage::Cut;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Also has the task woken when the connection is cut.
    pub(super) fn poll_stage(&self, context: &Context<'_>) -> Stage {
        let mut state = self.state();
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => state.waker = Some(context.waker().clone()),
        }
        state.stage
    }
}
