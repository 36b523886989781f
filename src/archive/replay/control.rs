//! How a replay is driven from outside while it runs: by keys, or by a program.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::speed::Speed;
use crate::model::MessageId;

/// So many controls wait for a replay whose output is slow; whoever gives more of them waits.
pub(super) const CONTROLS: usize = 16;

/// What a replay is told to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Control {
    /// Rest until [`Control::Resume`].
    Pause,
    /// Go on.
    Resume,
    /// From now on as fast as that.
    Speed(Speed),
    /// Go on from there.
    Seek(Position),
    /// End.
    Stop,
}

/// A place in a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// So long after its first message.
    Offset(Duration),
    /// So many milliseconds later than now; less than 0 = earlier.
    By(i64),
    /// This time, milliseconds since 1970-01-01 UTC.
    At(u64),
    /// The message with this id.
    Message(MessageId),
}

/// Where a replay is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ReplayState {
    /// The original time of its first message, milliseconds since 1970-01-01 UTC; `None` = there is none yet.
    pub begin_ms: Option<u64>,
    /// The original time that it has reached; `None` = it has not begun.
    pub position_ms: Option<u64>,
    /// Records that were played, again after a seek back.
    pub played: u64,
    /// How many records there were when it was opened, or when it was last moved; those that come later are not counted.
    pub total: u64,
    /// How fast it plays.
    pub speed: Speed,
    /// Whether it rests.
    pub is_paused: bool,
    /// Whether it has played all that there was, and plays what comes.
    pub is_live: bool,
}

/// Drives a running replay; cheap to clone. When all of them are gone, the replay plays on, unless it is paused: then it ends.
#[derive(Debug, Clone)]
pub(crate) struct ReplayHandle {
    controls: mpsc::Sender<Control>,
    state: watch::Receiver<ReplayState>,
}

/// The other ends of a handle.
pub(super) struct Driven {
    pub controls: mpsc::Receiver<Control>,
    pub state: watch::Sender<ReplayState>,
}

pub(super) fn handle(state: ReplayState) -> (ReplayHandle, Driven) {
    let (controls, taken) = mpsc::channel(CONTROLS);
    let (told, state) = watch::channel(state);
    (ReplayHandle { controls, state }, Driven { controls: taken, state: told })
}

impl ReplayHandle {
    /// Tells it what to do; `false` = it has ended. Waits while [`CONTROLS`] others wait.
    pub(crate) async fn tell(&self, control: Control) -> bool {
        self.controls.send(control).await.is_ok()
    }

    /// Where it was when it last played, was moved, paused or resumed.
    pub(crate) fn state(&self) -> ReplayState {
        *self.state.borrow()
    }
}
