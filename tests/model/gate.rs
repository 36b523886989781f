//! Pauses and kills one simulated process, at any of its awaits.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where a process can be killed to the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    Delivered,
    Acknowledging,
    Sending,
    Stored,
    Answered,
    SpoolWrote,
    RowsTaken,
    RowsRemoved,
}

impl Point {
    pub const ALL: [Self; 8] = [
        Self::Delivered,
        Self::Acknowledging,
        Self::Sending,
        Self::Stored,
        Self::Answered,
        Self::SpoolWrote,
        Self::RowsTaken,
        Self::RowsRemoved,
    ];
}

#[derive(Default)]
struct State {
    paused: bool,
    dead: bool,
    trip: Option<(Point, u64)>,
    wakers: Vec<Waker>,
}

/// Shared by all that belongs to one process.
#[derive(Clone, Default)]
pub struct Gate {
    state: Arc<Mutex<State>>,
    /// A trip wire killed the process.
    pub died: Arc<Notify>,
    /// Its system calls end with it.
    pub killed: CancellationToken,
}

impl Gate {
    pub fn set_paused(&self, paused: bool) {
        let mut state = self.state.lock().unwrap();
        state.paused = paused;
        if !paused {
            state.wakers.drain(..).for_each(Waker::wake);
        }
    }

    pub fn kill(&self) {
        self.state.lock().unwrap().dead = true;
        self.killed.cancel();
    }

    /// Kills the process when it has come to that point so many times.
    pub fn set_trip(&self, point: Point, times: u64) {
        self.state.lock().unwrap().trip = Some((point, times));
    }

    pub fn touch(&self, point: Point) {
        let mut state = self.state.lock().unwrap();
        if let Some((awaited, left)) = &mut state.trip
            && *awaited == point
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.trip = None;
                state.dead = true;
                self.killed.cancel();
                self.died.notify_one();
            }
        }
    }

    /// Returns while the process runs; never once it is dead.
    pub async fn pass(&self) {
        poll_fn(|context| self.poll_open(context)).await;
    }

    fn poll_open(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock().unwrap();
        if state.dead {
            return Poll::Pending;
        }
        if state.paused {
            state.wakers.push(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Polls the future only while the process runs, and notices one that spins without letting time pass.
    pub async fn around<T>(&self, future: impl Future<Output = T>) -> T {
        const MOST_POLLS_AT_ONE_INSTANT: u32 = 3_000;
        tokio::pin!(future);
        let (mut at, mut polls) = (Instant::now(), 0);
        poll_fn(|context| {
            if self.poll_open(context).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            polls = if now == at { polls + 1 } else { 0 };
            at = now;
            assert!(polls < MOST_POLLS_AT_ONE_INSTANT, "the process spins: no time passes");
            future.as_mut().poll(context)
        })
        .await
    }
}
