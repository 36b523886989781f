//! A store in memory whose door a story opens and shuts, and the bridge's uplink in front of it.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use roombridge::testing::binding::{BindingSettings, RuleSet};
use roombridge::testing::config::Config;
use roombridge::testing::data_dir::{DataDir, QueueTables, SessionState};
use roombridge::testing::model::{FailureKind, MessageIds, QueueName, Sent, SystemClock};
use roombridge::testing::mqtt::{SessionParts, Subscriber, SubscriberParts};
use roombridge::testing::pipeline::ports::{Batch, ReadError, Sink, SoleHolder};
use roombridge::testing::pipeline::{
    Accepted, BatchLimits, DeadLetters, LinkState, ReceiptLedger, Sending, Uplink, UplinkParts, intake,
};
use roombridge::testing::telemetry::{Metrics, Readiness};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const QUEUES: i32 = 8;

/// Stores in memory; every send fails while the door is shut, and those of a blocked queue always.
#[derive(Default)]
pub struct GatedSink {
    shut: AtomicBool,
    blocked_queue: Mutex<Option<i32>>,
    stored: Mutex<Vec<Stored>>,
    refused: AtomicUsize,
    stored_more: Notify,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub queue_id: i32,
    /// The message's id, from KEYS.
    pub id: String,
    pub body: String,
}

impl GatedSink {
    pub fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    pub fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
    }

    pub fn block_queue(&self, queue_id: Option<i32>) {
        *self.blocked_queue.lock().unwrap() = queue_id;
    }

    pub fn stored(&self) -> Vec<Stored> {
        self.stored.lock().unwrap().clone()
    }

    pub fn bodies(&self) -> HashSet<String> {
        self.stored().into_iter().map(|stored| stored.body).collect()
    }

    /// Waits until so many are stored.
    pub async fn holds(&self, count: usize) {
        let holds = || self.stored.lock().unwrap().len() >= count;
        assert!(self.until(holds).await, "{count} stored, got {:?}", self.stored());
    }

    /// Waits until so many sends of a message were refused.
    pub async fn refused(&self, count: usize) {
        let refused = || self.refused.load(Ordering::SeqCst) >= count;
        assert!(self.until(refused).await, "{count} sends refused");
    }

    async fn until(&self, met: impl Fn() -> bool) -> bool {
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                let more = self.stored_more.notified();
                if met() {
                    return;
                }
                more.await;
            }
        });
        waited.await.is_ok()
    }
}

impl Sink for GatedSink {
    fn queues<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        Box::pin(async { Ok((0..QUEUES).map(|id| QueueName { broker: "memory".into(), id }).collect()) })
    }

    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'static, Vec<Sent>> {
        let blocked = *self.blocked_queue.lock().unwrap() == Some(batch.queue.id);
        let shut = self.shut.load(Ordering::SeqCst) || blocked;
        let answers = batch.messages.iter().map(|message| {
            if shut {
                self.refused.fetch_add(1, Ordering::SeqCst);
                return Sent::Failed(FailureKind::Transport);
            }
            let mut stored = self.stored.lock().unwrap();
            let id = message.keys().rsplit(' ').next().unwrap().to_owned();
            let body = String::from_utf8_lossy(&message.body).into_owned();
            stored.push(Stored { queue_id: batch.queue.id, id, body });
            Sent::Stored
        });
        let answers: Vec<_> = answers.collect();
        self.stored_more.notify_waiters();
        Box::pin(std::future::ready(answers))
    }
}

/// Subscriber and pipeline of the bridge, before a [`GatedSink`].
pub struct UplinkUnderTest {
    pub sink: Arc<GatedSink>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub come_back: Arc<Notify>,
    pub drain: CancellationToken,
    pub stop_now: CancellationToken,
    pub tasks: Vec<JoinHandle<()>>,
    pub data_dir: tempfile::TempDir,
}

impl UplinkUnderTest {
    pub fn start(mqtt_port: u16) -> Self {
        Self::start_with(mqtt_port, "", "")
    }

    /// With further lines for `[mqtt]` and further tables.
    pub fn start_with(mqtt_port: u16, mqtt: &str, more: &str) -> Self {
        Self::start_with_tables(mqtt_port, mqtt, more, QueueTables::default())
    }

    /// As a bridge that has written to its topics before.
    pub fn start_with_tables(mqtt_port: u16, mqtt: &str, more: &str, tables: QueueTables) -> Self {
        Self::begin(mqtt_port, mqtt, more, tables, CancellationToken::new())
    }

    /// As a bridge that was asked to stop before it began.
    pub fn start_stopped(mqtt_port: u16) -> Self {
        let drain = CancellationToken::new();
        drain.cancel();
        Self::begin(mqtt_port, "", "", QueueTables::default(), drain)
    }

    fn begin(mqtt_port: u16, mqtt: &str, more: &str, tables: QueueTables, drain: CancellationToken) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[mqtt]\nurl = \"mqtt://127.0.0.1:{mqtt_port}\"\nclient_id = \"story\"\n{mqtt}\n[rocketmq]\nname_servers = [\"127.0.0.1:9\"]\n{more}"
        );
        let file = folder.path().join("roombridge.toml");
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file, &BTreeMap::new()).unwrap();
        let data_dir = Arc::new(DataDir::open(&folder.path().join("data")).unwrap());
        let settings = BindingSettings { origin_key: vec![1; 32], max_message_bytes: 4 << 20 };
        let rules = Arc::new(RuleSet::compile(&config.bindings, settings).unwrap());
        let metrics = Arc::new(Metrics::new(&rules.literal_topics()).unwrap());
        let readiness = Arc::new(Readiness::default());
        let clock = Arc::new(SystemClock::default());
        let sink = Arc::new(GatedSink::default());
        let limits = &config.pipeline;
        let (intake, receiver) = intake(rules.clone(), limits.intake_messages, limits.intake_bytes);
        let (link, link_seen) = watch::channel(LinkState::Up);
        let (settled, settled_receiver) = mpsc::channel(64);
        let uplink = Uplink::new(UplinkParts {
            sending: sending(&sink, &metrics, &readiness),
            spool: None,
            dead_letters: Arc::new(DeadLetters {
                sink: sink.clone(),
                topic: Some("dead".into()),
                store: Arc::new(NoStore),
                max_message_bytes: 4 << 20,
                next_queue: AtomicUsize::new(0),
            }),
            lease: Arc::new(SoleHolder),
            clock: clock.clone(),
            intake: receiver,
            settled,
            link: link_seen,
            tables,
            job_died: Box::new(|what| panic!("{what}")),
            save_tables: Box::new(|_| Box::pin(async {})),
            limits: BatchLimits { messages: 128, bytes: 1 << 20, linger: Duration::ZERO },
        });
        let state = SessionState {
            client_id: "story".into(),
            stamp: String::new(),
            connection: 0,
            generation: 1,
            filters: vec![],
            subscriptions: Vec::new(),
        };
        let session = SessionParts {
            filters: rules.filters().map(ToString::to_string).collect(),
            receive_maximum: config.mqtt.receive_maximum,
            state,
            ledger: ReceiptLedger::new(usize::from(config.mqtt.receive_maximum)),
            ids: MessageIds::new(1),
            clock,
            metrics: metrics.clone(),
            readiness: readiness.clone(),
        };
        let come_back = Arc::new(Notify::new());
        let parts = SubscriberParts {
            session,
            data_dir,
            link,
            intake,
            settled: settled_receiver,
            come_back: come_back.clone(),
        };
        let subscriber = Subscriber::new(&config.mqtt, parts).unwrap();
        let stop_now = CancellationToken::new();
        let tasks =
            vec![tokio::spawn(uplink.run(stop_now.clone())), tokio::spawn(subscriber.run(drain.clone()))];
        Self { sink, metrics, readiness, come_back, drain, stop_now, tasks, data_dir: folder }
    }

    /// Both sides end within a time in which what is held after the loss of the link is sent.
    pub async fn ends(self) {
        for task in self.tasks {
            let ended = tokio::time::timeout(Duration::from_secs(20), task).await;
            ended.expect("both sides end").unwrap();
        }
    }

    /// received = stored + filtered + dropped + in_flight, and nothing is in flight any more.
    pub async fn assert_books_balance(&self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        loop {
            let books = super::metrics::Metrics::parse(&self.metrics.render());
            if books.value("roombridge_in_flight", &[]) == 0.0 {
                return assert!(books.books().balanced(), "{}", self.metrics.render());
            }
            assert!(tokio::time::Instant::now() < deadline, "still in flight: {}", self.metrics.render());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Sends that are tried again for an hour, two batches of the spool at once.
fn sending(sink: &Arc<GatedSink>, metrics: &Arc<Metrics>, readiness: &Arc<Readiness>) -> Arc<Sending> {
    Arc::new(Sending {
        sink: sink.clone(),
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        throttles: Mutex::default(),
        accept_not_durable: false,
        give_up_after: Duration::from_secs(3600),
        accepted: Accepted::default(),
        drain_permits: Arc::new(tokio::sync::Semaphore::new(2)),
        taken_over: AtomicBool::new(false),
        stopping: CancellationToken::new(),
    })
}

/// The sink takes the dead letters of these stories.
struct NoStore;

impl roombridge::testing::spool::DeadLetterStore for NoStore {
    fn store(
        &self,
        _: Vec<roombridge::testing::model::DeadLetter>,
    ) -> BoxFuture<'static, Result<(), roombridge::testing::spool::SpoolError>> {
        Box::pin(async { Err(roombridge::testing::spool::SpoolError::Full("no store".to_owned())) })
    }
}
