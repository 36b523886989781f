//! Builds the uplink: the pipeline with its spool and its dead letters. A running bridge uses it, and `spool drain`, which has
//! no MQTT side.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::data_dir::{DataDir, QueueTables};
use crate::lifecycle::Lifecycle;
use crate::model::Clock;
use crate::pipeline::ports::{Sink, SoleHolder};
use crate::pipeline::{
    Accepted, BatchLimits, DeadLetters, IntakeReceiver, LinkState, ReceiptNumber, Sending, SpoolUse, Uplink,
    UplinkParts,
};
use crate::spool::{LocalDeadLetters, SqliteSpool};
use crate::telemetry::{Metrics, Readiness};

/// The parts of an uplink.
pub(crate) struct UplinkBuilder<'a> {
    /// Limits of the pipeline, the spool and the dead letters.
    pub config: &'a Config,
    /// Counts the messages.
    pub metrics: Arc<Metrics>,
    /// Learns whether RocketMQ and the spool take messages.
    pub readiness: Arc<Readiness>,
    /// Wall time and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Keeps the queue tables.
    pub data_dir: Arc<DataDir>,
    /// The queue tables of the last run, by which rooms keep their queues.
    pub tables: QueueTables,
    /// `None` = the configuration turns it off.
    pub spool: Option<Arc<SqliteSpool>>,
    /// The local store of dead letters.
    pub dead_letters: Arc<LocalDeadLetters>,
    /// Batches of spooled messages that are sent at the same time.
    pub drain_batches: usize,
    /// Stops the bridge when one of the pipeline's jobs dies.
    pub lifecycle: &'a Lifecycle,
}

impl UplinkBuilder<'_> {
    /// Takes messages that can never be stored or published where they belong.
    pub(crate) fn dead_letters(&self, sink: Arc<dyn Sink>) -> Arc<DeadLetters> {
        let config = self.config;
        Arc::new(DeadLetters {
            sink,
            topic: config.dead_letter.topic.as_deref().map(Arc::from),
            store: self.dead_letters.clone(),
            max_message_bytes: config.rocketmq.max_message_bytes,
            next_queue: AtomicUsize::new(0),
        })
    }

    /// The pipeline, between the intake of MQTT messages and the sink.
    pub(crate) fn uplink(
        self,
        sink: Arc<dyn Sink>,
        dead_letters: Arc<DeadLetters>,
        intake: IntakeReceiver,
        settled: mpsc::Sender<Vec<ReceiptNumber>>,
        link: watch::Receiver<LinkState>,
    ) -> Uplink {
        let Self { config, data_dir, .. } = self;
        let lifecycle = self.lifecycle.clone();
        let sending = Sending {
            sink,
            metrics: self.metrics,
            readiness: self.readiness,
            throttles: Mutex::default(),
            accept_not_durable: config.rocketmq.accept_not_durable,
            give_up_after: config.dead_letter.give_up_after,
            accepted: Accepted::default(),
            drain_permits: Arc::new(Semaphore::new(self.drain_batches)),
            taken_over: AtomicBool::new(false),
            stopping: CancellationToken::new(),
        };
        Uplink::new(UplinkParts {
            sending: Arc::new(sending),
            spool: self.spool.map(|spool| SpoolUse { overflow: spool, after: config.spool.after }),
            dead_letters,
            lease: Arc::new(SoleHolder),
            clock: self.clock,
            intake,
            settled,
            link,
            tables: self.tables,
            save_tables: Box::new(move |tables| {
                let saving = data_dir.save_queue_tables(tables);
                Box::pin(async move {
                    if let Err(error) = saving.await {
                        tracing::error!(%error, "the queue tables could not be written; rooms may change queues at the next start");
                    }
                })
            }),
            job_died: Box::new(move |what| lifecycle.fail(what)),
            limits: BatchLimits {
                messages: config.pipeline.batch_messages,
                bytes: config.pipeline.batch_bytes,
                linger: config.pipeline.linger,
            },
        })
    }
}
