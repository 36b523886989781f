//! The archiver as a task: rounds until a stop, and what they did as metrics and in the log.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{ArchiveError, Archiver, Round};
use crate::telemetry::{Metrics, Readiness, Throttle};

/// How often the queues are looked at.
const ROUND_EVERY: Duration = Duration::from_secs(5);
/// What is left then stays in RocketMQ until the next start.
const LAST_ROUND: Duration = Duration::from_secs(5);

/// Works until `stop`, then copies what is left, for [`LAST_ROUND`] at most; `stop_now` ends it at once. Wherever it ends, the store
/// has whole pieces.
pub(crate) async fn run(
    archiver: Archiver,
    (metrics, readiness): (Arc<Metrics>, Arc<Readiness>),
    stop: CancellationToken,
    stop_now: CancellationToken,
) {
    tokio::select! {
        () = stop_now.cancelled() => {}
        () = run_until(archiver, metrics, readiness, stop) => {}
    }
}

async fn run_until(
    mut archiver: Archiver,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    stop: CancellationToken,
) {
    let (mut failures, mut withheld) = (Throttle::default(), Throttle::default());
    let keeps = archiver.parts.rocketmq_keeps;
    let clock = archiver.parts.clock.clone();
    metrics.archive.rocketmq_keeps_seconds.set(keeps.as_secs_f64());
    let mut tell = |(round, failed): (Round, Option<ArchiveError>)| {
        round.count(&metrics, clock.wall_ms());
        let notes = round.notes(keeps);
        if round.withheld.is_some_and(|messages| messages > 0) && withheld.is_due() {
            tracing::error!("{}", notes.join("; "));
        }
        readiness.set_archive_notes(notes);
        let Some(error) = failed else { return };
        metrics.archive.failures_total.inc();
        if error.is_of_store() {
            metrics.archive.store_failures_total.inc();
        }
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
    /// What will be lost if nobody does anything.
    fn notes(&self, keeps: Duration) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(messages @ 1..) = self.withheld {
            notes.push(format!(
                "RocketMQ hands out to nobody, so not to the archive, what it has: {messages} messages; a topic has fewer read \
                 queues than before, or may not be read, and `roombridge archive status` names the queues"
            ));
        }
        if let Some(left) = self.headroom.filter(|left| *left < keeps / 4) {
            let minutes = left.as_secs() / 60;
            notes.push(format!(
                "RocketMQ deletes what is not archived in {} h {} min; the log says what keeps the archiver",
                minutes / 60,
                minutes % 60
            ));
        }
        notes
    }

    fn count(&self, metrics: &Metrics, now_ms: u64) {
        let archive = &metrics.archive;
        archive.headroom_seconds.set(self.headroom.map(|headroom| headroom.as_secs_f64()));
        archive.withheld_messages.set(self.withheld.map(|messages| messages as f64));
        // Where the headroom is not known, it is not known what waits.
        let age_ms = self.headroom.map(|_| self.oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest)));
        archive.position_age_seconds.set(age_ms.map(|age_ms| age_ms as f64 / 1000.0));
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
