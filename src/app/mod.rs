//! The wiring of a running bridge: builds the parts of all rooms, starts them in order and stops them in order.
//!
//! Must never: look into a message.

mod archive;
mod class;
mod leftovers;
mod own_thread;
mod topics;
mod uplink_builder;
mod way_down;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::binding::{BindingSettings, RuleSet};
use crate::config::Config;
use crate::consumer::{wakes, waking};
use crate::data_dir::{DataDir, QueueTables, SessionState, known_brokers};
use crate::lifecycle::Lifecycle;
use crate::live_class::ClientNews;
use crate::model::{Clock, MessageIds, SystemClock};
use crate::mqtt::{SessionParts, Subscriber, SubscriberParts};
use crate::pipeline::ports::Sink;
use crate::pipeline::{Intake, LinkState, Pulse, ReceiptLedger, ReceiptNumber, Remembered, intake, tail};
use crate::rocketmq::{Connector, Producer, RocketMqReader};
use crate::spool::{DEAD_LETTERS_FILE, LocalDeadLetters, Overflow, SPOOL_FILE, SpoolSettings, SqliteSpool};
use crate::telemetry::{Metrics, Readiness};
use crate::{http, service_manager, watch_data_dir, watch_rocketmq, watch_spool};

pub(crate) use archive::{archiver, indexer_parts};
use class::ClassListeners;
pub(crate) use class::{ClassAddresses, authenticator};
pub(crate) use leftovers::Ended;
use leftovers::Leftovers;
use own_thread::OwnThread;
use topics::TopicCreation;
pub(crate) use topics::archived_topics;
pub(crate) use uplink_builder::UplinkBuilder;

/// Bound of the settlements that wait for the subscriber. Each is a whole batch, so this is far more than there are queues.
const SETTLEMENTS: usize = 1024;

/// With a spool, the start waits only so long for a RocketMQ that does not answer.
const TAIL_PATIENCE: Duration = Duration::from_millis(1500);

/// A start that waits so long for the disk of the `data_dir` logs it.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// A bridge whose parts are ready to start.
pub struct Bridge {
    listener: TcpListener,
    class_listeners: ClassListeners,
    parts: BridgeParts,
}

/// All parts of a bridge but its listeners.
struct BridgeParts {
    config: Config,
    rules: Arc<RuleSet>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    data_dir: Arc<DataDir>,
    clock: Arc<dyn Clock>,
    connector: Connector,
    session: SessionState,
    tables: QueueTables,
    spool: Option<Arc<SqliteSpool>>,
    dead_letters: Arc<LocalDeadLetters>,
    /// The reports of an MQTT broker in this process about its clients; `None` = the broker is another program.
    news: Option<mpsc::Receiver<ClientNews>>,
    /// Whether the MQTT broker is another program, which does not deliver P2P messages without a subscription.
    has_foreign_broker: bool,
}

impl Bridge {
    /// Takes the data directory and the ports, and checks everything that can be checked without a connection.
    /// `accept_new_client_id`: go on although the directory belongs to another client id, whose session stays at the broker.
    pub async fn prepare(config: Config, accept_new_client_id: bool) -> anyhow::Result<Self> {
        // Nothing else runs yet, so the start may wait for a slow disk; but it says so in the log.
        let warning = tokio::spawn(warn_of_a_slow_disk(config.data_dir.clone()));
        let prepared = Self::prepare_now(config, accept_new_client_id).await;
        warning.abort();
        prepared
    }

    async fn prepare_now(config: Config, accept_new_client_id: bool) -> anyhow::Result<Self> {
        let data_dir = Arc::new(DataDir::open(&config.data_dir)?);
        let rules = Arc::new(rules(&config, &data_dir)?);
        let topics = rules.literal_topics();
        let tables = data_dir.queue_tables()?;
        let session = next_generation(&config, data_dir.session()?, accept_new_client_id)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let spool = open_spool(&config, clock.clone())?;
        let dead_letters = Arc::new(LocalDeadLetters::open(
            &config.data_dir.join(DEAD_LETTERS_FILE),
            config.dead_letter.max_bytes,
        )?);
        // Only now, when all files proved readable: a start that fails must not change them.
        data_dir.save_session(&session).await?;
        let listener = http::bind(config.http.listen, "http.listen").await?;
        let class_listeners = ClassListeners::bind(&config).await?;
        let parts = BridgeParts {
            metrics: Arc::new(Metrics::new(&topics).context("could not set the metrics up")?),
            readiness: Arc::new(Readiness::new(clock.clone())),
            clock,
            connector: Connector::new(&config.rocketmq),
            config,
            rules,
            data_dir,
            session,
            tables,
            spool,
            dead_letters,
            news: None,
            has_foreign_broker: true,
        };
        Ok(Self { listener, class_listeners, parts })
    }

    /// Takes the reports of an MQTT broker in this process about its clients.
    pub fn take_news(&mut self, news: mpsc::Receiver<ClientNews>) {
        self.parts.news = Some(news);
        self.parts.has_foreign_broker = false;
    }

    /// Where the pages and the login are served, if they are.
    pub fn class_addresses(&self) -> std::io::Result<ClassAddresses> {
        self.class_listeners.addresses()
    }

    /// Where metrics and health are served.
    pub fn http_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Says whether the bridge is ready.
    pub fn readiness(&self) -> Arc<Readiness> {
        self.parts.readiness.clone()
    }

    /// Runs until the lifecycle asks it to stop.
    pub async fn run(self, lifecycle: Lifecycle) -> anyhow::Result<Ended> {
        let stopped = lifecycle.stop_now.clone().cancelled_owned();
        let Self { listener, class_listeners, mut parts } = self;
        let (metrics, readiness) = (parts.metrics.clone(), parts.readiness.clone());
        let pages = http::serve(listener, metrics, readiness, stopped);
        let pages = lifecycle.spawn("the listener for operators", until_it_ends(pages));
        let (pulse, stop_notice) = service_manager::tell_ready(&lifecycle, parts.config.shutdown.drain);
        let ended = parts.run(&lifecycle, class_listeners, pulse).await;
        lifecycle.stop_now.cancel();
        if lifecycle.drain.is_cancelled() {
            stop_notice.said().await;
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), pages).await;
        // To close the files may need a slow disk. Nothing depends on it, so it gets a second.
        let closing = tokio::task::spawn_blocking(move || drop(parts));
        let _ = tokio::time::timeout(Duration::from_secs(1), closing).await;
        match lifecycle.failure() {
            Some(what) => {
                bail!("{what}; what was on its way then was ended in order; please report this with the log")
            }
            None => ended,
        }
    }
}

impl BridgeParts {
    async fn run(
        &mut self,
        lifecycle: &Lifecycle,
        listeners: ClassListeners,
        pulse: Pulse,
    ) -> anyhow::Result<Ended> {
        let known = known_brokers(&self.config.data_dir)?;
        let reader = RocketMqReader::new(&self.connector);
        let reader = Arc::new(reader.with_known_brokers(known.clone()));
        let topics = self.topics();
        let written: Vec<String> = self.tables.topics.keys().cloned().collect();
        let watching = watch_rocketmq::watch(
            self.connector.clone(),
            reader.clone(),
            topics,
            self.config.rocketmq.lag.clone(),
            known.clone(),
            self.metrics.clone(),
            self.readiness.clone(),
        );
        let watching_data_dir =
            watch_data_dir::watch(self.data_dir.clone(), self.metrics.clone(), self.readiness.clone());
        let watching_data_dir = lifecycle.spawn("the watch of data_dir", watching_data_dir);
        let watching = lifecycle.spawn("the watch of RocketMQ", watching);
        let watching_spool = self.spool.clone().map(|spool| {
            let (metrics, path) = (self.metrics.clone(), self.config.data_dir.join(SPOOL_FILE));
            metrics.spool_limit_bytes.set(self.config.spool.max_bytes as i64);
            let watching = watch_spool::watch(path, spool, self.clock.clone(), metrics);
            lifecycle.spawn("the spool, or its watch,", watching)
        });
        let remembered = tokio::select! {
            remembered = self.last_receipts(&reader, &written) => remembered?,
            () = lifecycle.drain.cancelled() => return Ok(self.log_leftovers()),
        };
        let pipeline = &self.config.pipeline;
        let (intake, receiver) = intake(self.rules.clone(), pipeline.intake_messages, pipeline.intake_bytes);
        let (link, link_seen) = watch::channel(LinkState::Up);
        let (settled, settled_receiver) = mpsc::channel(SETTLEMENTS);
        let messages = OwnThread::for_messages().context("could not start a thread")?;
        let producer = Arc::new(self.producer(&messages, &reader));
        self.make_topics(lifecycle, producer.clone()).await;
        let ((down_news, down_wakes), (class_news, class_wakes)) = (wakes(), wakes());
        let followers = [
            (!self.config.downlinks.is_empty()).then_some(down_news),
            self.config.classroom.is_some().then_some(class_news),
        ];
        let sink = waking(producer, followers.into_iter().flatten().collect());
        let dead_letters = self.uplink_builder(lifecycle).dead_letters(sink.clone());
        let uplink =
            self.uplink_builder(lifecycle).uplink(sink, dead_letters.clone(), receiver, settled, link_seen);
        let mut others = self.start_downlink(lifecycle, &reader, &dead_letters, down_wakes).await?;
        others.extend(
            self.start_classroom(lifecycle, &reader, &dead_letters, class_wakes, &intake, listeners).await?,
        );
        let all_stored = CancellationToken::new();
        let archive = self.start_archive(lifecycle, known, all_stored.clone())?;
        others.extend(archive.tasks);
        let subscriber = self.subscriber(remembered, link, intake, settled_receiver, lifecycle)?;
        let (uplink, subscriber) = messages.spawn_here(|| {
            let uplink = uplink.with_pulse(pulse);
            let uplink = lifecycle.spawn("the pipeline", uplink.run(lifecycle.stop_now.clone()));
            (uplink, lifecycle.spawn("the MQTT side", subscriber.run(lifecycle.drain.clone())))
        });
        subscriber.await.context("the MQTT side ended unexpectedly; please report this")?;
        uplink.await.context("the pipeline ended unexpectedly; please report this")?;
        all_stored.cancel();
        join(others).await?;
        self.write_the_last(lifecycle).await;
        let watches = [Some(watching), Some(watching_data_dir), watching_spool];
        watches.iter().flatten().for_each(JoinHandle::abort);
        Ok(self.log_leftovers())
    }

    /// With connections of its own on the thread that sends, so that no reader is in its way.
    fn producer(&self, messages: &OwnThread, reader: &RocketMqReader) -> Producer {
        let connector = Connector::on(messages.runtime(), &self.config.rocketmq);
        let reader = reader.beside(&connector);
        Producer::new(self.config.rocketmq.clone(), &connector, Arc::new(reader))
    }

    fn log_leftovers(&self) -> Ended {
        let spool = self.spool.as_deref();
        Leftovers::of(&self.metrics, spool.map_or(0, |spool| spool.depth().messages)).log()
    }

    /// Waits until the disk has the last files, the positions above all; but for a disk that does not answer no longer than
    /// the stop may take.
    async fn write_the_last(&self, lifecycle: &Lifecycle) {
        let waited_for = async {
            tokio::select! {
                () = lifecycle.stop_now.cancelled() => {}
                () = tokio::time::sleep(self.config.shutdown.drain) => {}
            }
        };
        tokio::select! {
            () = self.data_dir.idle() => {}
            () = waited_for => {}
        }
        if let Some(unwritten) = self.data_dir.unwritten() {
            tracing::error!(
                data_dir = %self.data_dir.path().display(),
                files = unwritten.files.join(", "),
                waited_s = unwritten.waits.as_secs(),
                "stopped before the disk had these files: the next start finds out again what they should say, and messages \
                 that went down to MQTT since then come again"
            );
        }
    }

    /// The messages that the last process stored or spooled last. With a spool, this does not wait long for RocketMQ, because
    /// the bridge can take messages from the MQTT broker without it.
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

    fn uplink_builder<'a>(&'a self, lifecycle: &'a Lifecycle) -> UplinkBuilder<'a> {
        UplinkBuilder {
            config: &self.config,
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            clock: self.clock.clone(),
            data_dir: self.data_dir.clone(),
            tables: self.tables.clone(),
            spool: self.spool.clone(),
            dead_letters: self.dead_letters.clone(),
            drain_batches: self.config.spool.drain_batches,
            lifecycle,
        }
    }

    fn subscriber(
        &self,
        remembered: Vec<Remembered>,
        link: watch::Sender<LinkState>,
        intake: Intake,
        settled: mpsc::Receiver<Vec<ReceiptNumber>>,
        lifecycle: &Lifecycle,
    ) -> anyhow::Result<Subscriber> {
        let (session, data_dir) = (self.session_parts(remembered)?, self.data_dir.clone());
        let come_back = lifecycle.come_back.clone();
        let parts = SubscriberParts { session, data_dir, link, intake, settled, come_back };
        let subscriber = Subscriber::new(&self.config.mqtt, parts)?;
        Ok(match self.config.goes_down_bytes() {
            Some(largest_bytes) => subscriber.beside_a_downlink(largest_bytes),
            None => subscriber,
        })
    }

    fn session_parts(&self, remembered: Vec<Remembered>) -> anyhow::Result<SessionParts> {
        let mut ledger = ReceiptLedger::new(usize::from(self.config.mqtt.receive_maximum));
        ledger.remember_previous(remembered);
        Ok(SessionParts {
            filters: self.rules.filters().map(ToString::to_string).collect(),
            receive_maximum: self.config.mqtt.receive_maximum,
            state: self.session.clone(),
            ledger,
            ids: new_ids()?,
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
        })
    }

    /// Early, so that readers find the topics before the first message. What fails is tried again, because a topic that is only
    /// followed has no message that would create it.
    async fn make_topics(&self, lifecycle: &Lifecycle, sink: Arc<dyn Sink>) {
        if !self.config.rocketmq.create_topics {
            return;
        }
        let mut creation = TopicCreation::new(sink, self.readiness.clone(), self.topics_to_make());
        if !creation.try_all().await {
            lifecycle.spawn("the creation of topics", creation.run(lifecycle.drain.clone()));
        }
    }

    /// The topics that the bridge will write or read, as far as the configuration names them.
    fn topics_to_make(&self) -> Vec<String> {
        let mut topics = self.rules.literal_topics();
        topics.extend(self.config.downlinks.iter().map(|downlink| downlink.topic.clone()));
        topics.extend(self.class_topics());
        topics.sort();
        topics.dedup();
        topics
    }

    /// The topics that the bindings name, and those that were written before.
    fn topics(&self) -> Vec<String> {
        let mut topics = self.rules.literal_topics();
        topics.extend(self.tables.topics.keys().cloned());
        topics.sort();
        topics.dedup();
        topics
    }
}

/// The source of message ids of this process.
fn new_ids() -> anyhow::Result<MessageIds> {
    let mut nonce = [0; 8];
    getrandom::fill(&mut nonce).map_err(|error| anyhow::anyhow!("could not draw random bytes: {error}"))?;
    Ok(MessageIds::new(u64::from_be_bytes(nonce)))
}

/// Logs why a listener failed.
async fn until_it_ends(listener: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = listener.await {
        tracing::error!(%error, "a listener failed");
    }
}

async fn join(tasks: Vec<JoinHandle<()>>) -> anyhow::Result<()> {
    for task in tasks {
        task.await.context("the downlink or the classroom ended unexpectedly; please report this")?;
    }
    Ok(())
}

async fn warn_of_a_slow_disk(data_dir: PathBuf) {
    tokio::time::sleep(START_PATIENCE).await;
    tracing::warn!(
        data_dir = %data_dir.display(),
        "the start still waits for the disk of the data_dir, after {} s; nothing is taken in before it answers",
        START_PATIENCE.as_secs()
    );
}

/// Compiles the bindings, with the configured origin key or the one of this data directory.
fn rules(config: &Config, data_dir: &DataDir) -> anyhow::Result<RuleSet> {
    let origin_key = match &config.origin.key {
        Some(key) => key.expose_secret().as_bytes().to_vec(),
        None => data_dir.origin_key()?,
    };
    let settings = BindingSettings { origin_key, max_message_bytes: config.rocketmq.max_message_bytes };
    Ok(RuleSet::compile(&config.bindings, settings)?.with_downlinks(&config.downlinks))
}

/// Opens the spool of `data_dir`; `None` if the configuration turns it off.
pub(crate) fn open_spool(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Option<Arc<SqliteSpool>>> {
    // A spool that is open counts its running time in its file. A start that fails must not change it.
    LocalDeadLetters::refuse_newer(&config.data_dir.join(DEAD_LETTERS_FILE))?;
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
        Some(known) if known.client_id == *client_id => {
            Ok(SessionState { generation: known.generation + 1, ..known })
        }
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
            subscriptions: Vec::new(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hazard 14: the ids of two processes are told apart by nothing but this number.
    #[test]
    fn each_process_draws_a_number_of_its_own_for_its_ids() {
        let ids: std::collections::HashSet<_> = (0..100).map(|_| new_ids().unwrap().next_id()).collect();
        assert_eq!(ids.len(), 100);
    }
}
