//! The wiring of a running bridge: which rooms are made of what, in which order they start and stop.
//!
//! Must never: branch on the content of a message.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::binding::{BindingSettings, RuleSet};
use crate::config::Config;
use crate::data_dir::{DataDir, QueueTables, SessionState};
use crate::lifecycle::Lifecycle;
use crate::model::{Clock, MessageIds, SystemClock};
use crate::mqtt::{SessionParts, Subscriber};
use crate::pipeline::ports::{Sink, SoleHolder};
use crate::pipeline::{
    Alarm, BatchLimits, DeadLetters, IntakeReceiver, Link, ReceiptLedger, ReceiptNumber, Remembered, Sending,
    SpoolUse, Uplink, UplinkParts, intake, tail,
};
use crate::rocketmq::{Connector, Producer, RocketMqReader};
use crate::spool::{DEAD_LETTERS_FILE, LocalDeadLetters, SPOOL_FILE, SpoolSettings, SqliteSpool};
use crate::telemetry::{Metrics, Readiness};
use crate::{http, watch_rocketmq, watch_spool};

/// Settlements on their way to the subscriber: batches, thus far more than there are queues.
const SETTLEMENTS: usize = 1024;

/// How long a start that has a spool waits for a RocketMQ that does not answer.
const TAIL_PATIENCE: Duration = Duration::from_millis(1500);

/// How a bridge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything that came in has ended and is acknowledged.
    Drained,
    /// The deadline passed, or a second signal came; what was not acknowledged is delivered again.
    StoppedEarly,
}

/// A bridge whose parts are ready to start.
pub struct Bridge {
    listener: TcpListener,
    carrier: Carrier,
}

/// All of a bridge but its listener.
struct Carrier {
    config: Config,
    rules: Arc<RuleSet>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    data_dir: Arc<DataDir>,
    clock: Arc<dyn Clock>,
    connector: Arc<Connector>,
    session: SessionState,
    tables: QueueTables,
    spool: Option<Arc<SqliteSpool>>,
    dead_letters: Arc<LocalDeadLetters>,
}

impl Bridge {
    /// Takes the data directory and the HTTP port, and checks all that can be checked without a connection.
    /// `accept_new_client_id`: go on although the directory knows another client id, whose session stays behind.
    pub async fn prepare(config: Config, accept_new_client_id: bool) -> anyhow::Result<Self> {
        let data_dir = Arc::new(DataDir::open(&config.data_dir)?);
        let rules = Arc::new(rules(&config, &data_dir)?);
        let topics = rules.literal_topics();
        let tables = data_dir.queue_tables()?;
        let session = next_generation(&config, data_dir.session()?, accept_new_client_id)?;
        data_dir.save_session(&session)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let spool = open_spool(&config, clock.clone())?;
        let dead_letters = Arc::new(LocalDeadLetters::open(
            &config.data_dir.join(DEAD_LETTERS_FILE),
            config.dead_letter.max_bytes,
        )?);
        let listener = http::bind(config.http.listen).await?;
        let carrier = Carrier {
            metrics: Arc::new(Metrics::new(&topics).context("could not set the metrics up")?),
            readiness: Arc::new(Readiness::new(clock.clone())),
            clock,
            connector: Arc::new(Connector::new(&config.rocketmq)?),
            config,
            rules,
            data_dir,
            session,
            tables,
            spool,
            dead_letters,
        };
        Ok(Self { listener, carrier })
    }

    /// Where metrics and health are served.
    pub fn http_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Tells when the bridge has become ready.
    pub fn readiness(&self) -> Arc<Readiness> {
        self.carrier.readiness.clone()
    }

    /// Runs until the lifecycle says stop.
    pub async fn run(self, lifecycle: Lifecycle) -> anyhow::Result<Ended> {
        let stopped = lifecycle.stop_now.clone().cancelled_owned();
        let Self { listener, carrier } = self;
        let (metrics, readiness) = (carrier.metrics.clone(), carrier.readiness.clone());
        let pages = tokio::spawn(http::serve(listener, metrics, readiness, stopped));
        let ended = carrier.carry(&lifecycle).await;
        lifecycle.stop_now.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(1), pages).await;
        ended
    }
}

impl Carrier {
    async fn carry(self, lifecycle: &Lifecycle) -> anyhow::Result<Ended> {
        let reader = Arc::new(RocketMqReader::start(self.connector.clone()).await?);
        let topics = self.topics();
        let written: Vec<String> = self.tables.topics.keys().cloned().collect();
        let watching = watch_rocketmq::start(
            self.connector.clone(),
            reader.clone(),
            topics,
            self.config.rocketmq.lag.clone(),
            self.metrics.clone(),
            self.readiness.clone(),
        );
        let watching_spool = self.spool.clone().map(|spool| {
            let (metrics, path) = (self.metrics.clone(), self.config.data_dir.join(SPOOL_FILE));
            metrics.spool_limit_bytes.set(self.config.spool.max_bytes as i64);
            watch_spool::start(path, spool, self.clock.clone(), metrics)
        });
        let remembered = tokio::select! {
            remembered = self.last_receipts(&reader, &written) => remembered?,
            () = lifecycle.drain.cancelled() => return Ok(Ended::Drained),
        };
        let pipeline = &self.config.pipeline;
        let (intake, receiver) = intake(pipeline.intake_messages, pipeline.intake_bytes);
        let (link, link_seen) = watch::channel(Link::Up);
        let (settled, settled_receiver) = mpsc::channel(SETTLEMENTS);
        let sink = Arc::new(Producer::new(
            self.config.rocketmq.clone(),
            self.connector.clone(),
            reader.clone(),
        ));
        if self.config.rocketmq.create_topics {
            // Early, so that readers find the topic before the first message; what fails is tried again with it.
            for topic in self.rules.literal_topics() {
                let _ = sink.queues(&topic).await;
            }
        }
        let uplink = self.uplink(sink, receiver, settled, link_seen);
        let parts = self.session_parts(link, remembered)?;
        let come_back = lifecycle.come_back.clone();
        let subscriber = Subscriber::new(&self.config.mqtt, parts, intake, settled_receiver, come_back)?;

        let uplink = tokio::spawn(uplink.run(lifecycle.stop_now.clone()));
        let subscriber = tokio::spawn(subscriber.run(lifecycle.drain.clone()));
        subscriber
            .await
            .context("the MQTT side ended unexpectedly; please report this")?;
        uplink
            .await
            .context("the pipeline ended unexpectedly; please report this")?;
        watching.abort();
        if let Some(watching) = watching_spool {
            watching.abort();
        }
        let left = self.metrics.in_flight.get();
        if left == 0 {
            tracing::info!("stopped: everything that came in has ended and is acknowledged");
            return Ok(Ended::Drained);
        }
        tracing::warn!(
            messages = left,
            "stopped early: the MQTT broker delivers again what was not acknowledged"
        );
        Ok(Ended::StoppedEarly)
    }

    /// What the last process stored or spooled last. With a spool, RocketMQ being away must not keep the bridge from
    /// relieving the MQTT broker.
    async fn last_receipts(
        &self,
        reader: &RocketMqReader,
        topics: &[String],
    ) -> anyhow::Result<Vec<Remembered>> {
        let window = self.config.mqtt.receive_maximum;
        let patience = self.spool.as_ref().map(|_| TAIL_PATIENCE);
        let mut receipts = tail::last_receipts(reader, topics, &self.session, window, patience).await;
        if let Some(spool) = &self.spool {
            receipts.extend(tail::last_in_the_spool(&**spool, &self.session, window).await?);
        }
        Ok(tail::in_order(receipts).collect())
    }

    fn uplink(
        &self,
        sink: Arc<dyn Sink>,
        intake: IntakeReceiver,
        settled: mpsc::Sender<Vec<ReceiptNumber>>,
        link: watch::Receiver<Link>,
    ) -> Uplink {
        let middle = Middle {
            config: &self.config,
            rules: self.rules.clone(),
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            clock: self.clock.clone(),
            data_dir: self.data_dir.clone(),
            tables: self.tables.clone(),
            spool: self.spool.clone(),
            dead_letters: self.dead_letters.clone(),
            drain_batches: self.config.spool.drain_batches,
        };
        middle.uplink(sink, intake, settled, link)
    }

    fn session_parts(
        &self,
        link: watch::Sender<Link>,
        remembered: Vec<Remembered>,
    ) -> anyhow::Result<SessionParts> {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce)
            .map_err(|error| anyhow::anyhow!("could not draw random bytes: {error}"))?;
        let mut ledger = ReceiptLedger::new(usize::from(self.config.mqtt.receive_maximum));
        ledger.remember_previous(remembered);
        Ok(SessionParts {
            filters: self.rules.filters().map(str::to_owned).collect(),
            receive_maximum: self.config.mqtt.receive_maximum,
            data_dir: self.data_dir.clone(),
            state: self.session.clone(),
            ledger,
            ids: MessageIds::new(u64::from_be_bytes(nonce)),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            link,
        })
    }

    /// Topics that stand in the rules, and those that were written to before.
    fn topics(&self) -> Vec<String> {
        let mut topics = self.rules.literal_topics();
        topics.extend(self.tables.topics.keys().cloned());
        topics.sort();
        topics.dedup();
        topics
    }
}

/// What the middle of a bridge is made of, with an MQTT side or without.
pub(crate) struct Middle<'a> {
    pub config: &'a Config,
    pub rules: Arc<RuleSet>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub clock: Arc<dyn Clock>,
    pub data_dir: Arc<DataDir>,
    pub tables: QueueTables,
    pub spool: Option<Arc<SqliteSpool>>,
    pub dead_letters: Arc<LocalDeadLetters>,
    pub drain_batches: usize,
}

impl Middle<'_> {
    pub(crate) fn uplink(
        self,
        sink: Arc<dyn Sink>,
        intake: IntakeReceiver,
        settled: mpsc::Sender<Vec<ReceiptNumber>>,
        link: watch::Receiver<Link>,
    ) -> Uplink {
        let Self { config, data_dir, .. } = self;
        let dead_letters = DeadLetters {
            sink: sink.clone(),
            topic: config.dead_letter.topic.as_deref().map(Arc::from),
            store: self.dead_letters,
            max_message_bytes: config.rocketmq.max_message_bytes,
            next_queue: AtomicUsize::new(0),
        };
        let sending = Sending {
            sink,
            metrics: self.metrics,
            readiness: self.readiness,
            alarm: Alarm::new(self.clock.clone()),
            accept_not_durable: config.rocketmq.accept_not_durable,
            give_up_after: config.dead_letter.give_up_after,
            drain_permits: Arc::new(Semaphore::new(self.drain_batches)),
            taken_over: AtomicBool::new(false),
            stopping: CancellationToken::new(),
        };
        Uplink::new(UplinkParts {
            rules: self.rules,
            sending: Arc::new(sending),
            spool: self.spool.map(|spool| SpoolUse {
                overflow: spool,
                after: config.spool.after,
            }),
            dead_letters: Arc::new(dead_letters),
            lease: Arc::new(SoleHolder),
            clock: self.clock,
            intake,
            settled,
            link,
            tables: self.tables,
            save_tables: Box::new(move |tables| {
                if let Err(error) = data_dir.save_queue_tables(tables) {
                    tracing::error!(%error, "the queue tables could not be written; rooms may change queues at the next start");
                }
            }),
            limits: BatchLimits {
                messages: config.pipeline.batch_messages,
                bytes: config.pipeline.batch_bytes,
                linger: config.pipeline.linger,
            },
        })
    }
}

/// Compiles the rules with the deployment's origin key, or the one of this data directory.
fn rules(config: &Config, data_dir: &DataDir) -> anyhow::Result<RuleSet> {
    let origin_key = match &config.origin.key {
        Some(key) => key.expose_secret().as_bytes().to_vec(),
        None => data_dir.origin_key()?,
    };
    let settings = BindingSettings {
        origin_key,
        max_message_bytes: config.rocketmq.max_message_bytes,
    };
    Ok(RuleSet::compile(&config.bindings, settings)?)
}

pub(crate) fn open_spool(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Option<Arc<SqliteSpool>>> {
    if !config.spool.enabled {
        return Ok(None);
    }
    let settings = SpoolSettings {
        path: config.data_dir.join(SPOOL_FILE),
        max_bytes: config.spool.max_bytes,
        max_messages: config.spool.max_messages,
        topic_bytes: config.spool.topic_bytes,
        max_age: config.spool.max_age,
        when_full: config.spool.when_full,
        min_free_bytes: config.spool.min_free_bytes,
    };
    let (spool, report) = SqliteSpool::open(settings, clock)?;
    if report.depth.messages > 0 {
        tracing::info!(
            messages = report.depth.messages,
            bytes = report.depth.bytes,
            "the spool holds messages of an earlier process; they are sent first"
        );
    }
    Ok(Some(Arc::new(spool)))
}

fn next_generation(
    config: &Config,
    known: Option<SessionState>,
    accept_new_client_id: bool,
) -> anyhow::Result<SessionState> {
    let client_id = &config.mqtt.client_id;
    match known {
        Some(known) if known.client_id == *client_id => Ok(SessionState {
            generation: known.generation + 1,
            ..known
        }),
        Some(known) if !accept_new_client_id => bail!(
            "mqtt.client_id is {client_id:?}, but {} belongs to the session of {:?}, which would stay behind at the \
             MQTT broker and fill up; set mqtt.client_id back, or start once with --accept-new-client-id",
            config.data_dir.display(),
            known.client_id
        ),
        other => Ok(SessionState {
            client_id: client_id.clone(),
            stamp: String::new(),
            connection: 0,
            generation: other.map_or(0, |known| known.generation) + 1,
            filters: Vec::new(),
        }),
    }
}
