//! Keeps the index beside the archive: reads what is new in each queue, in the order of readers, and adds a row for each message.
//!
//! It reads archive and RocketMQ as one, from the index's own position on. So an index that is removed is made again by the same way.
//!
//! Promises: each message that can be read gets one row, in the order of readers as far as it is known; a topic that was made anew is
//! seen, and an index that remembers another queue is made anew; of two processes one writes the index.
//! Must never: stand in the way of the archiver or of a message: what fails here is told, counted and tried again.

mod round;
mod row;
mod writing;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::binding::RuleSet;
use crate::index::IndexError;
use crate::model::Clock;
use crate::piece_store::PieceStore;
use crate::pipeline::ports::{ReadError, Reader};
use crate::telemetry::{Metrics, Throttle};

pub(crate) use round::{Indexer, Progress};
pub(crate) use row::text_of;

/// How often the queues are looked at.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// After a failure, and while another process writes the index.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// Why a round of the indexer stopped.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexingError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("the thread that writes the index has died; please report this with the log")]
    Died,
}

/// What an indexer is made of.
pub(crate) struct IndexerParts {
    /// RocketMQ.
    pub rocketmq: Arc<dyn Reader>,
    /// The archive.
    pub store: PieceStore,
    /// The folder of the index.
    pub dir: PathBuf,
    /// With less free space on its disk it writes nothing.
    pub min_free_bytes: u64,
    /// The RocketMQ topics to index.
    pub topics: Vec<String>,
    /// Those of them that rooms hear: their lines can be searched, and make lessons.
    pub heard: BTreeSet<String>,
    /// Of a body that is a JSON object, these fields are searched.
    pub text_fields: Vec<String>,
    /// Say where a message of another program is heard.
    pub rules: Arc<RuleSet>,
    /// Says how old the position is.
    pub clock: Arc<dyn Clock>,
}

/// Works until `stop`; what is not committed then is read again by the next one.
pub(crate) async fn run(parts: IndexerParts, metrics: Arc<Metrics>, stop: CancellationToken) {
    let clock = parts.clock.clone();
    let mut indexer = Indexer::new(parts);
    let mut failures = Throttle::default();
    let (mut is_told, mut whole_at) = (false, clock.monotonic());
    while !stop.is_cancelled() {
        let age = || clock.monotonic().saturating_sub(whole_at).as_secs_f64();
        let mut count = |progress: Progress| {
            metrics.archive.index_rows_total.inc_by(progress.new_rows);
            metrics.archive.index_age_seconds.set(Some(age()));
        };
        let done = tokio::select! {
            () = stop.cancelled() => break,
            done = indexer.round(&mut count) => done,
        };
        let pause = match done {
            Ok(()) => {
                (is_told, whole_at) = (false, clock.monotonic());
                metrics.archive.index_age_seconds.set(Some(0.0));
                ROUND_EVERY
            }
            Err(IndexingError::Index(error @ IndexError::InUse { .. })) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::info!(%error, "this process archives, and leaves the index to the other one");
                }
                metrics.archive.index_age_seconds.set(None);
                AFTER_FAILURE
            }
            Err(error) => {
                metrics.archive.index_age_seconds.set(Some(age()));
                metrics.archive.index_failures_total.inc();
                if failures.is_due() {
                    tracing::error!(%error, "the index does not go on; everything can be read without it, only slower");
                }
                AFTER_FAILURE
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    indexer.close().await;
}
