//! The stages of a stop: the first signal starts a drain, a second one stops at once; a task that dies starts a drain, too.
//!
//! Promises: the process never goes on with a part missing. If a task that was started here ends before a stop was asked for,
//! by a panic or by itself, the process stops in order, and [`Lifecycle::failure`] says which task it was.

use std::any::Any;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The two stages of a stop, and the request to connect again.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    /// Take no new messages in; let those that are inside end.
    pub drain: CancellationToken,
    /// Give up the messages that are inside; none of them was acknowledged.
    pub stop_now: CancellationToken,
    /// SIGHUP: connect again after another client took the session.
    pub come_back: Arc<Notify>,
    drain_deadline: Duration,
    failure: Arc<OnceLock<String>>,
}

impl Lifecycle {
    /// `drain_deadline`: how long a drain may take before the messages that are still inside are given up.
    pub fn new(drain_deadline: Duration) -> Self {
        Self {
            drain: CancellationToken::new(),
            stop_now: CancellationToken::new(),
            come_back: Arc::default(),
            drain_deadline,
            failure: Arc::default(),
        }
    }

    /// Listens for SIGTERM, SIGINT and SIGHUP until the process ends, and stops a drain at its deadline.
    pub fn listen_for_signals(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let lifecycle = self.clone();
        self.spawn("listening for signals", async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => lifecycle.stop_one_stage_further(),
                    _ = interrupt.recv() => lifecycle.stop_one_stage_further(),
                    _ = hang_up.recv() => {
                        tracing::info!("SIGHUP: asking again for what was refused; connecting again, if another client took the session");
                        lifecycle.come_back.notify_waiters();
                    }
                }
            }
        });
        self.hold_the_drain_to_its_deadline();
        Ok(())
    }

    fn hold_the_drain_to_its_deadline(&self) {
        let Self { drain, stop_now, drain_deadline, .. } = self.clone();
        tokio::spawn(async move {
            drain.cancelled().await;
            tokio::time::sleep(drain_deadline).await;
            stop_now.cancel();
        });
    }

    /// Acts before it logs, so that a log that nobody reads delays nothing.
    fn stop_one_stage_further(&self) {
        if self.drain.is_cancelled() {
            self.stop_now.cancel();
            tracing::warn!("second signal: stopping at once; what is not acknowledged is delivered again");
            return;
        }
        self.drain.cancel();
        tracing::info!(
            deadline_s = self.drain_deadline.as_secs(),
            "stopping: what is on its way is stored and acknowledged first; a second signal stops at once"
        );
    }

    /// Starts a task that must run until the stop. If it ends before, or panics at any time, that is a failure; `name` stands
    /// in the error.
    pub fn spawn(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let lifecycle = self.clone();
        tokio::spawn(async move {
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(()) if lifecycle.drain.is_cancelled() || lifecycle.stop_now.is_cancelled() => {}
                Ok(()) => lifecycle.fail(&format!("{name} ended by itself")),
                Err(panic) => lifecycle.fail(&format!("{name} died: {}", words_of(&*panic))),
            }
        })
    }

    /// Reports that a necessary part has died, and starts the drain.
    pub fn fail(&self, what: &str) {
        let first = self.failure.set(what.to_owned()).is_ok();
        self.drain.cancel();
        tracing::error!(
            first,
            "{what}; stopping: what is on its way is stored and acknowledged first; please report this"
        );
    }

    /// The first failure; `None` if there was none.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }
}

/// The message of a panic.
pub(crate) fn words_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    async fn drains(lifecycle: &Lifecycle) {
        tokio::time::timeout(SOON, lifecycle.drain.cancelled()).await.expect("a drain begins");
    }

    #[tokio::test]
    async fn a_task_that_dies_ends_the_process_in_order_and_the_first_one_is_named() {
        let lifecycle = Lifecycle::new(SOON);
        lifecycle.spawn("the follower", async { panic!("no such queue: {}", 7) });
        drains(&lifecycle).await;
        lifecycle.spawn("the pages", async { panic!("later") }).await.unwrap();
        assert_eq!(lifecycle.failure(), Some("the follower died: no such queue: 7"));
        assert!(!lifecycle.stop_now.is_cancelled(), "what is on its way has its time");
    }

    #[tokio::test]
    async fn a_task_that_ends_early_is_a_failure_and_one_that_ends_with_a_stop_is_none() {
        let lifecycle = Lifecycle::new(SOON);
        let stop = lifecycle.drain.clone();
        let well = lifecycle.spawn("the follower", stop.cancelled_owned());
        lifecycle.drain.cancel();
        well.await.unwrap();
        assert_eq!(lifecycle.failure(), None);

        let lifecycle = Lifecycle::new(SOON);
        lifecycle.spawn("the follower", async {});
        drains(&lifecycle).await;
        assert_eq!(lifecycle.failure(), Some("the follower ended by itself"));
    }

    #[tokio::test]
    async fn a_task_that_dies_while_all_stop_is_a_failure_all_the_same() {
        let lifecycle = Lifecycle::new(SOON);
        lifecycle.drain.cancel();
        lifecycle.spawn("the pipeline", async { panic!("half way") }).await.unwrap();
        assert_eq!(lifecycle.failure(), Some("the pipeline died: half way"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_after_a_death_has_the_same_deadline_as_one_after_a_signal() {
        let lifecycle = Lifecycle::new(Duration::from_secs(20));
        lifecycle.hold_the_drain_to_its_deadline();
        lifecycle.fail("the follower died");
        tokio::time::sleep(Duration::from_millis(19_900)).await;
        assert!(!lifecycle.stop_now.is_cancelled());
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(lifecycle.stop_now.is_cancelled());
    }
}
