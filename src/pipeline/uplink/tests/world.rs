//! A bridge without its ends: the uplink before a store and a disk in memory, in paused time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use super::super::*;
use crate::binding::{BindingSettings, RuleSet};
use crate::config::BindingConfig;
use crate::data_dir::QueueTables;
use crate::model::{
    Arrival, Clock, Envelope, FailureKind, MessageIds, MqttProperties, Qos, Refusal, Sent, SessionStamp,
};
use crate::pipeline::ports::{Batch, OutgoingMessage, ReadError, Sink, SoleHolder};
use crate::pipeline::{
    Accepted, Arrived, BatchLimits, DeadLetters, Intake, ReceiptLedger, ReceiptNumber, Sending, SpoolUse,
    intake,
};
use crate::spool::Overflow;
use crate::spool::memory::MemorySpool;
use crate::telemetry::{Metrics, Readiness};

const QUEUES: i32 = 2;

/// A store that fails as a story says, for all topics or one queue.
#[derive(Default)]
pub(super) struct Store {
    pub failure: Mutex<Option<FailureKind>>,
    pub only_queue: Mutex<Option<i32>>,
    pub topic_missing: AtomicBool,
    /// Answers only after that time.
    pub send_time: Mutex<Duration>,
    pub illegal: Mutex<Option<String>>,
    /// A send to that queue panics.
    pub dies: Mutex<Option<i32>>,
    /// A batch of the topic `room` that holds one of these is answered with code 1.
    pub refused: Mutex<Vec<String>>,
    pub stored: Mutex<Vec<(String, i32, String)>>,
}

impl Store {
    pub(crate) fn fails(&self, failure: Option<FailureKind>) {
        *self.failure.lock().unwrap() = failure;
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        let stored = self.stored.lock().unwrap();
        let bodies = stored.iter().filter(|(topic, ..)| topic == "room");
        bodies.map(|(_, _, body)| body.clone()).collect()
    }
}

impl Sink for Store {
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        let failure = *self.failure.lock().unwrap();
        let missing = self.topic_missing.load(Ordering::Relaxed) && topic == "room";
        Box::pin(async move {
            match failure {
                _ if missing => Err(ReadError::of(FailureKind::TopicMissing)),
                Some(FailureKind::Transport) => Err(ReadError::of(FailureKind::Transport)),
                _ => Ok((0..QUEUES).map(queue).collect()),
            }
        })
    }

    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'static, Vec<Sent>> {
        let concerned = self.only_queue.lock().unwrap().is_none_or(|id| id == batch.queue.id);
        if *self.dies.lock().unwrap() == Some(batch.queue.id) {
            return Box::pin(async { panic!("a send that dies") });
        }
        let failure = self.failure.lock().unwrap().filter(|_| concerned);
        let illegal = self.illegal.lock().unwrap().clone();
        let body = |message: &OutgoingMessage| String::from_utf8_lossy(&message.body).into_owned();
        let refused = batch.messages.iter().any(|message| Some(body(message)) == illegal);
        let failure =
            if refused && &*batch.topic == "room" { Some(FailureKind::MessageIllegal) } else { failure };
        let marked = self.refused.lock().unwrap();
        let holds_marked = batch.messages.iter().any(|message| marked.contains(&body(message)));
        let answered = (holds_marked && &*batch.topic == "room") || failure == Some(FailureKind::Refused);
        if failure.is_none() && !answered {
            let stored =
                batch.messages.iter().map(|message| (batch.topic.to_string(), batch.queue.id, body(message)));
            self.stored.lock().unwrap().extend(stored);
        }
        let refusal = Sent::Refused(Refusal {
            kind: FailureKind::Refused,
            code: 1,
            remark: "java.lang.IllegalStateException: not this one".into(),
        });
        let answer = failure.filter(|_| !answered).map_or(Sent::Stored, Sent::Failed);
        let answer = if answered { refusal } else { answer };
        let time = *self.send_time.lock().unwrap();
        Box::pin(async move {
            tokio::time::sleep(time).await;
            vec![answer; batch.messages.len()]
        })
    }
}

pub(super) fn queue(id: i32) -> QueueName {
    QueueName { broker: "a".into(), id }
}

/// Simulated time, as the runtime has it.
pub(super) struct RuntimeClock(tokio::time::Instant);

impl Clock for RuntimeClock {
    fn wall_ms(&self) -> u64 {
        1_767_268_800_000 + self.0.elapsed().as_millis() as u64
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// One process of the bridge.
pub(super) struct Process {
    pub store: Arc<Store>,
    pub disk: Arc<MemorySpool>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub intake: Option<Intake>,
    pub settled: mpsc::Receiver<Vec<ReceiptNumber>>,
    pub link: watch::Sender<LinkState>,
    pub uplink: JoinHandle<()>,
    pub ledger: ReceiptLedger,
    pub ids: MessageIds,
    pub published: u64,
    pub ended: usize,
    pub died: Arc<Mutex<Vec<String>>>,
    /// How often the queue tables were written.
    pub saves: Arc<AtomicUsize>,
}

fn rules() -> Arc<RuleSet> {
    let binding = |filter: &str, topic: &str| BindingConfig {
        filter: filter.into(),
        topic: topic.into(),
        tag: "{sub}".into(),
        room: None,
        kind: None,
        order_key: None,
        order_key_field: None,
        sender: None,
    };
    let bindings = [binding("room/#", "{0}"), binding("many/+/#", "many-{1}")];
    let settings = BindingSettings { origin_key: vec![1; 32], max_message_bytes: 4 << 20 };
    Arc::new(RuleSet::compile(&bindings, settings).unwrap())
}

impl Process {
    pub(crate) fn start(store: &Arc<Store>, disk: MemorySpool) -> Self {
        Self::start_with(store, disk, Duration::from_secs(3600))
    }

    pub(crate) fn start_with(store: &Arc<Store>, disk: MemorySpool, give_up_after: Duration) -> Self {
        Self::start_watched(store, disk, give_up_after, Pulse::none())
    }

    pub(crate) fn start_watched(
        store: &Arc<Store>,
        disk: MemorySpool,
        give_up_after: Duration,
        pulse: Pulse,
    ) -> Self {
        let disk = Arc::new(disk);
        let (intake, receiver) = intake(rules(), 10_000, 64 << 20);
        let (settled, settled_receiver) = mpsc::channel(1024);
        let (link, link_seen) = watch::channel(LinkState::Up);
        let clock = Arc::new(RuntimeClock(tokio::time::Instant::now()));
        let metrics = Arc::new(Metrics::new(&["room".to_owned()]).unwrap());
        let readiness = Arc::new(Readiness::default());
        let died: Arc<Mutex<Vec<String>>> = Arc::default();
        let deaths = died.clone();
        let saves: Arc<AtomicUsize> = Arc::default();
        let count = saves.clone();
        let uplink = Uplink::new(UplinkParts {
            sending: Arc::new(Sending {
                sink: store.clone(),
                metrics: metrics.clone(),
                readiness: readiness.clone(),
                throttles: Mutex::default(),
                accept_not_durable: false,
                give_up_after,
                accepted: Accepted::default(),
                drain_permits: Arc::new(Semaphore::new(2)),
                taken_over: AtomicBool::new(false),
                stopping: CancellationToken::new(),
            }),
            spool: Some(SpoolUse { overflow: disk.clone(), after: Duration::from_secs(1) }),
            dead_letters: Arc::new(DeadLetters {
                sink: store.clone(),
                topic: Some("dead".into()),
                store: disk.clone(),
                max_message_bytes: 4 << 20,
                next_queue: AtomicUsize::new(0),
            }),
            lease: Arc::new(SoleHolder),
            clock,
            intake: receiver,
            settled,
            link: link_seen,
            tables: QueueTables::default(),
            job_died: Box::new(move |what| deaths.lock().unwrap().push(what.to_owned())),
            save_tables: Box::new(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
                Box::pin(tokio::time::sleep(Duration::from_millis(5)))
            }),
            limits: BatchLimits { messages: 4, bytes: 1 << 20, linger: Duration::ZERO },
        });
        let mut ledger = ReceiptLedger::new(1000);
        ledger.connected(false);
        Self {
            store: store.clone(),
            disk,
            metrics,
            readiness,
            intake: Some(intake),
            settled: settled_receiver,
            link,
            uplink: tokio::spawn(uplink.with_pulse(pulse).run(CancellationToken::new())),
            ledger,
            ids: MessageIds::new(7),
            published: 0,
            ended: 0,
            died,
            saves,
        }
    }

    pub(crate) fn publish(&mut self, room: &str, body: &str) {
        self.publish_to(format!("room/message/{room}"), body);
    }

    pub(crate) fn publish_to(&mut self, topic: String, body: &str) {
        self.published += 1;
        let payload = Bytes::copy_from_slice(body.as_bytes());
        let delivery = crate::pipeline::Delivery {
            packet_id: self.published as u16,
            duplicate: false,
            fingerprint: crate::pipeline::Fingerprint::of(&topic, &payload),
            arrived: Duration::ZERO,
        };
        let ids = &mut self.ids;
        let (admission, id) = self.ledger.admit(delivery, || ids.next_id());
        let crate::pipeline::Admission::New { receipt, .. } = admission else { panic!("new: {admission:?}") };
        let envelope = Envelope {
            id,
            maybe_copy_of: None,
            arrival: Arrival {
                session: SessionStamp::new("s"),
                connection: 1,
                sequence: self.published,
                generation: 1,
                wall_ms: 0,
                monotonic: Duration::ZERO,
            },
            topic,
            payload,
            qos: Qos::AtLeastOnce,
            retain: false,
            duplicate: false,
            packet_id: self.published as u16,
            properties: MqttProperties::default(),
        };
        self.metrics.received(1);
        self.metrics.in_flight.inc();
        let arrived = Arrived { envelope, receipt: Some(receipt) };
        self.intake.as_ref().unwrap().try_enter(arrived).unwrap();
    }

    /// Lets simulated time pass, and counts what was settled meanwhile.
    pub(crate) async fn pass(&mut self, time: Duration) -> usize {
        tokio::time::sleep(time).await;
        while let Ok(receipts) = self.settled.try_recv() {
            self.ended += receipts.len();
        }
        self.ended
    }

    pub(crate) fn value(&self, name: &str) -> i64 {
        let text = self.metrics.render();
        let lines = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as i64).sum()
    }

    pub(crate) fn assert_books_balance(&self) {
        let value = |name: &str| self.value(&format!("roombridge_{name}"));
        assert_eq!(
            value("received_total") + value("spool_depth_at_start"),
            value("stored_total")
                + value("spool_depth")
                + value("dead_lettered_total")
                + value("filtered_total")
                + value("dropped_total")
                + value("in_flight"),
            "{}",
            self.metrics.render()
        );
        assert_eq!(value("spool_depth"), self.disk.depth().messages as i64);
    }

    /// SIGKILL, and the next process on the same disk.
    pub(crate) fn kill_and_restart(self) -> Self {
        self.uplink.abort();
        Self::start(&self.store, self.disk.reopen())
    }
}
