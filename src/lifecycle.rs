//! Starting to stop: the first signal drains, the second stops at once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The two stages of a stop, and the wish to reconnect.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    /// Take nothing new in, let what is on its way end.
    pub drain: CancellationToken,
    /// Give up what is on its way; nothing of it was acknowledged.
    pub stop_now: CancellationToken,
    /// SIGHUP: connect again after another client took the session.
    pub come_back: Arc<Notify>,
}

impl Lifecycle {
    /// Listens for SIGTERM, SIGINT and SIGHUP for the rest of the process's life. After the first stop signal the
    /// drain has `drain_deadline`.
    pub fn listen_for_signals(&self, drain_deadline: Duration) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let lifecycle = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => lifecycle.stop_one_stage_further(drain_deadline),
                    _ = interrupt.recv() => lifecycle.stop_one_stage_further(drain_deadline),
                    _ = hang_up.recv() => lifecycle.come_back.notify_waiters(),
                }
            }
        });
        Ok(())
    }

    fn stop_one_stage_further(&self, drain_deadline: Duration) {
        if self.drain.is_cancelled() {
            tracing::warn!("second signal: stopping at once; what is not acknowledged is delivered again");
            self.stop_now.cancel();
            return;
        }
        tracing::info!(
            deadline_s = drain_deadline.as_secs(),
            "stopping: what is on its way is stored and acknowledged first; a second signal stops at once"
        );
        self.drain.cancel();
        let stop_now = self.stop_now.clone();
        tokio::spawn(async move {
            tokio::time::sleep(drain_deadline).await;
            stop_now.cancel();
        });
    }
}
