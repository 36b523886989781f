//! Makes the archiver and the indexer of a bridge, and of `roombridge archive`.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::BridgeParts;
use super::own_thread::OwnThread;
use super::topics::{archived_topics, status_topics};
use crate::archiver::{self, Archiver, ArchiverParts, LeaveOut};
use crate::binding::RuleSet;
use crate::config::{ArchiveConfig, Config};
use crate::indexer::{self, IndexerParts};
use crate::lifecycle::Lifecycle;
use crate::model::{Clock, KnownBrokers, SystemClock};
use crate::piece_store::{PieceStore, StoreError};
use crate::pipeline::ports::Reader;
use crate::rocketmq::{Connector, RocketMqReader};

/// An archiver for the store of the configuration.
pub(crate) fn archiver(
    config: &Config,
    archive: &ArchiveConfig,
    topics: Vec<String>,
    reader: Arc<dyn Reader>,
) -> Result<Archiver, StoreError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    Ok(Archiver::new(ArchiverParts {
        reader,
        store: PieceStore::open(archive)?.leaving_free(for_the_spool(config), &config.data_dir),
        topics,
        leave_out: LeaveOut { kinds: archive.leave_out.iter().copied().collect() },
        cut_every: archive.cut_every,
        rocketmq_keeps: archive.rocketmq_keeps,
        clock,
    }))
}

/// What archive and index leave free: the spool needs the disk more.
fn for_the_spool(config: &Config) -> u64 {
    config.spool.min_free_bytes.saturating_mul(2)
}

/// An indexer for the folder of the configuration; `None`: nothing is archived.
pub(crate) fn indexer_parts(
    config: &Config,
    rules: Arc<RuleSet>,
    rocketmq: Arc<dyn Reader>,
) -> Result<Option<IndexerParts>, StoreError> {
    let Some(archive) = &config.archive else { return Ok(None) };
    let topics = archived_topics(config, &rules);
    let mut heard: BTreeSet<String> = topics.iter().cloned().collect();
    if let Some(classroom) = &config.classroom {
        // What clients send, who came and went, and the records of the classroom.
        heard.remove(&classroom.send_topic);
        heard.remove(&classroom.audit_topic);
        status_topics(classroom).iter().for_each(|topic| _ = heard.remove(topic));
    }
    Ok(Some(IndexerParts {
        rocketmq,
        store: PieceStore::open(archive)?,
        dir: archive.dir.clone(),
        min_free_bytes: for_the_spool(config),
        topics,
        heard,
        text_fields: archive.text_fields.clone(),
        rules,
        clock: Arc::new(SystemClock::default()),
    }))
}

/// The archive of a running bridge.
#[derive(Default)]
pub(super) struct RunningArchive {
    pub tasks: Vec<JoinHandle<()>>,
    /// On which they run.
    _thread: Option<OwnThread>,
}

impl BridgeParts {
    /// Starts archiver and indexer, if there is an archive, on a thread of their own with connections of its own. The archiver copies
    /// what is left when `all_stored` says that the bridge stores no more; what the indexer has not seen at a stop it reads at the next
    /// start.
    pub(super) fn start_archive(
        &self,
        lifecycle: &Lifecycle,
        known: KnownBrokers,
        all_stored: CancellationToken,
    ) -> anyhow::Result<RunningArchive> {
        let Some(archive) = &self.config.archive else { return Ok(RunningArchive::default()) };
        let thread = OwnThread::for_the_archive().context("could not start a thread")?;
        let connector = Connector::on(thread.runtime(), &self.config.rocketmq);
        // With no lock in common with other readers.
        let reader = Arc::new(RocketMqReader::new(&connector).with_known_brokers(known));
        let topics = archived_topics(&self.config, &self.rules);
        let archiver = archiver(&self.config, archive, topics, reader.clone())?;
        let indexer = indexer_parts(&self.config, self.rules.clone(), reader)?;
        let told = (self.metrics.clone(), self.readiness.clone());
        let archiver = archiver::run(archiver, told, all_stored, lifecycle.stop_now.child_token());
        let metrics = self.metrics.clone();
        let indexer = indexer.map(|parts| indexer::run(parts, metrics, lifecycle.drain.child_token()));
        let tasks = thread.spawn_here(|| {
            let archiver = lifecycle.spawn("the archiver", archiver);
            let indexer = indexer.map(|running| lifecycle.spawn("the indexer", running));
            [Some(archiver), indexer].into_iter().flatten().collect()
        });
        Ok(RunningArchive { tasks, _thread: Some(thread) })
    }
}
