//! Reports when the disk of the `data_dir` does not answer, and what waits for it.
//!
//! Looks only at the list of unanswered writes, never at the disk itself, so that it does not hang with the disk.

use std::sync::Arc;
use std::time::Duration;

use crate::data_dir::{DataDir, Unwritten};
use crate::telemetry::{Metrics, Readiness};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A write that has waited for so long is reported.
const STANDS_STILL_AFTER: Duration = Duration::from_secs(5);

/// Runs until aborted, or until nothing can be written any more.
pub(crate) async fn watch(data_dir: Arc<DataDir>, metrics: Arc<Metrics>, readiness: Arc<Readiness>) {
    let mut logged = false;
    let ended = data_dir.writer_ended();
    tokio::pin!(ended);
    loop {
        let unwritten = data_dir.unwritten();
        let waits = unwritten.as_ref().map_or(Duration::ZERO, |unwritten| unwritten.waits);
        metrics.data_dir_unwritten_seconds.set(waits.as_secs_f64());
        let note = unwritten
            .filter(|_| waits >= STANDS_STILL_AFTER)
            .map(|unwritten| sentence(&data_dir, &unwritten));
        match &note {
            Some(note) if !std::mem::replace(&mut logged, true) => tracing::error!("{note}"),
            None if std::mem::take(&mut logged) => {
                tracing::info!(data_dir = %data_dir.path().display(), "the disk of the data_dir answers again");
            }
            Some(_) | None => {}
        }
        readiness.set_data_dir_note(note);
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = &mut ended => return dead(&data_dir, &readiness),
        }
    }
}

/// Reports that the thread that writes has ended. From now on every write is answered with an error.
fn dead(data_dir: &DataDir, readiness: &Readiness) {
    let note = format!(
        "nothing can be written to the data_dir {} any more, because the thread that writes has ended; restart, and \
         please report this",
        data_dir.path().display()
    );
    tracing::error!("{note}");
    readiness.set_data_dir_note(Some(note));
}

fn sentence(data_dir: &DataDir, unwritten: &Unwritten) -> String {
    format!(
        "the disk of the data_dir {} has not answered for {} s ({}); new MQTT connections, new topics, mutes and positions \
         wait for it: look at the disk",
        data_dir.path().display(),
        unwritten.waits.as_secs(),
        unwritten.files.join(", ")
    )
}
