//! Tells systemd, or what speaks its protocol, how the process is: ready, alive, stopping.
//!
//! Promises: READY says that `data_dir` is held and the listeners are open, and waits for no broker; WATCHDOG comes from the
//! loop that moves messages, once that loop runs. Without `NOTIFY_SOCKET`, or with an empty one, nothing is said.
//! Source: sd_notify(3) and systemd.service(5) of systemd 252.
//!
//! Must never: delay the work. The socket of a service manager that hangs may be full.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::lifecycle::Lifecycle;
use crate::pipeline::Pulse;

/// A stop may take so much longer than its drain: the last files and the log.
const AFTER_THE_DRAIN: Duration = Duration::from_secs(10);

/// A full socket of a service manager that hangs delays the end of the process by no more.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The task that says that the process stops.
pub(crate) struct StopNotice(JoinHandle<()>);

impl StopNotice {
    /// To be called when a stop was asked for: a process that has nothing to drain would be gone before it has said so.
    pub(crate) async fn said(self) {
        let _ = tokio::time::timeout(LAST_WORD, self.0).await;
    }
}

/// Says READY, and from now on that the process lives and when it stops. The loop that moves messages gets the [`Pulse`].
/// `drain`: how long a drain may take.
pub(crate) fn tell_ready(lifecycle: &Lifecycle, drain: Duration) -> (Pulse, StopNotice) {
    tokio::spawn(tell(vec![NotifyState::Ready]));
    let stopping = lifecycle.drain.clone();
    let notice = StopNotice(tokio::spawn(async move {
        stopping.cancelled().await;
        tell(vec![NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros(drain + AFTER_THE_DRAIN))])
            .await;
    }));
    // A period of 0 would be a loop without a pause.
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return (Pulse::none(), notice);
    };
    let (beat, period) = (Arc::new(Notify::new()), limit / 3);
    lifecycle.spawn(
        "the answer to the service manager's watchdog",
        answer_watchdog(lifecycle.clone(), beat.clone(), period),
    );
    (Pulse::every(period, beat), notice)
}

async fn answer_watchdog(lifecycle: Lifecycle, beat: Arc<Notify>, period: Duration) {
    let mut loop_runs = false;
    loop {
        next_answer(&lifecycle, &beat, period, &mut loop_runs).await;
        tell(vec![NotifyState::Watchdog]).await;
    }
}

/// Returns at each beat. The process answers for itself before the loop runs, because a start may wait for brokers, and during a
/// stop, which has a deadline of its own.
async fn next_answer(lifecycle: &Lifecycle, beat: &Notify, period: Duration, loop_runs: &mut bool) {
    let stops = lifecycle.drain.is_cancelled();
    tokio::select! {
        () = beat.notified() => *loop_runs = true,
        () = tokio::time::sleep(period), if !*loop_runs || stops => {}
        () = lifecycle.drain.cancelled(), if !stops => {}
    }
}

async fn tell(states: Vec<NotifyState<'static>>) {
    // Compose files pass a variable that nobody set as an empty text.
    if std::env::var_os("NOTIFY_SOCKET").is_none_or(|socket| socket.is_empty()) {
        return;
    }
    let told = tokio::task::spawn_blocking(move || sd_notify::notify(&states)).await;
    if let Ok(Err(error)) = told {
        tracing::warn!(
            %error,
            "the service manager could not be told (NOTIFY_SOCKET): it may take the process for one that hangs, and stop it; \
             remove Type=notify and WatchdogSec from the unit if this stays"
        );
    }
}

fn micros(length: Duration) -> u32 {
    u32::try_from(length.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(20);

    #[tokio::test(start_paused = true)]
    async fn once_the_loop_runs_only_the_loop_answers_until_the_stop() {
        let (lifecycle, beat, mut loop_runs) = (Lifecycle::new(PERIOD), Notify::new(), false);
        let answered = async |loop_runs: &mut bool| {
            let answer = next_answer(&lifecycle, &beat, PERIOD, loop_runs);
            tokio::time::timeout(PERIOD * 10, answer).await.is_ok()
        };
        assert!(answered(&mut loop_runs).await, "the start waits for brokers");
        beat.notify_one();
        assert!(answered(&mut loop_runs).await, "the first beat");
        assert!(!answered(&mut loop_runs).await, "the loop stands still");
        beat.notify_one();
        assert!(answered(&mut loop_runs).await, "it goes round again");
        lifecycle.drain.cancel();
        assert!(answered(&mut loop_runs).await, "a drain has a deadline of its own");
    }
}
