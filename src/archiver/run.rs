//! The archiver as a task: rounds until a stop, and what they did as metrics and in the log.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{ArchiveError, Archiver, Round};
use crate::telemetry::{Metrics, Throttle};

/// How often the queues are looked at.
const ROUND_EVERY: Duration = Duration::from_secs(5);
/// What is left then stays in RocketMQ until the next start.
const LAST_ROUND: Duration = Duration::from_secs(5);

/// Works until `stop`, then copies what is left, for [`LAST_ROUND`] at most; `stop_now` ends it at once. Wherever it ends, the store
/// has whole pieces.
pub(crate) async fn run(
    archiver: Archiver,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    stop_now: CancellationToken,
) {
    tokio::select! {
        () = stop_now.cancelled() => {}
        () = run_until(archiver, metrics, stop) => {}
    }
}

async fn run_until(mut archiver: Archiver, metrics: Arc<Metrics>, stop: CancellationToken) {
    let mut failures = Throttle::default();
    metrics.archive.rocketmq_keeps_seconds.set(archiver.parts.rocketmq_keeps.as_secs_f64());
    let mut tell = |(round, failed): (Round, Option<ArchiveError>)| {
        round.count(&metrics);
        let Some(error) = failed else { return };
        metrics.archive.failures_total.inc();
        if !failures.is_due() {
            return;
        }
        if matches!(error, ArchiveError::Merge(_)) {
            tracing::error!(%error, "its pieces stay as they are, and count");
        } else {
            tracing::error!(%error, "the archive does not go on; RocketMQ keeps the messages meanwhile");
        }
    };
    // So that a store that will not do is known before anything waits to be archived.
    tokio::select! {
        () = stop.cancelled() => {}
        proven = archiver.parts.store.prove() => {
            if let Err(error) = proven {
                tell((Round::default(), Some(error.into())));
            }
        }
    }
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => {}
            done = archiver.turn() => {
                tell(done);
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(ROUND_EVERY) => {}
                }
            }
        }
    }
    if let Ok(done) = tokio::time::timeout(LAST_ROUND, archiver.round(true)).await {
        tell(done);
    }
}

impl Round {
    fn count(&self, metrics: &Metrics) {
        let archive = &metrics.archive;
        archive.headroom_seconds.set(self.headroom.map(|headroom| headroom.as_secs_f64()));
        archive.pieces_total.inc_by(self.pieces);
        archive.bytes_total.inc_by(self.bytes);
        archive.archived_total.inc_by(self.lines);
        archive.merged_total.inc_by(self.merged.replaced);
        for (kind, count) in &self.left_out {
            archive.left_out(*kind, *count);
        }
        for (cause, count) in &self.lost {
            archive.lost(*cause, *count);
        }
    }
}
