//! One bridge on its own disk: the real session, ledger, intake, uplink, rules and tail, started and stopped as `app.rs` does it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use roombridge::testing::binding::{BindingSettings, RuleSet};
use roombridge::testing::config::Config;
use roombridge::testing::data_dir::{QueueTables, SessionState};
use roombridge::testing::model::{Clock, MessageIds};
use roombridge::testing::mqtt::{Session, SessionParts};
use roombridge::testing::pipeline::ports::SoleHolder;
use roombridge::testing::pipeline::{
    Accepted, BatchLimits, DeadLetters, IntakeReceiver, LinkState, ReceiptLedger, ReceiptNumber, Remembered,
    Sending, SpoolUse, Uplink, UplinkParts, intake, tail,
};
use roombridge::testing::spool::memory::MemorySpool;
use roombridge::testing::telemetry::{Metrics, Readiness};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::gate::Gate;
use crate::lies::Lie;
use crate::oracle;
use crate::rocketmq::{Client, DEAD_LETTER_TOPIC};
use crate::scenario::MAX_MESSAGE_BYTES;
use crate::spool::Spool;
use crate::subscriber::Subscriber;
use crate::world::{ProcessClock, World};

const STOP_DEADLINE: Duration = Duration::from_secs(4);
const TAIL_PATIENCE: Duration = Duration::from_secs(3);

/// What outlives the process, beside the spool.
#[derive(Default)]
pub struct Saved {
    pub tables: QueueTables,
    pub session: Option<SessionState>,
}

/// One bridge: its disk, and its process while one runs.
pub struct Bridge {
    pub name: &'static str,
    world: Arc<World>,
    lie: Option<Lie>,
    pub disk: Arc<MemorySpool>,
    pub saved: Arc<Mutex<Saved>>,
    starts: u64,
    pub process: Option<Process>,
}

pub struct Process {
    pub gate: Gate,
    pub drain: CancellationToken,
    pub come_back: Arc<Notify>,
    pub metrics: Arc<Metrics>,
    pub spool: Spool,
    main: JoinHandle<()>,
}

impl Bridge {
    pub fn new(name: &'static str, world: Arc<World>, disk: Arc<MemorySpool>, lie: Option<Lie>) -> Self {
        Self { name, world, lie, disk, saved: Arc::default(), starts: 0, process: None }
    }

    pub fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.main.is_finished())
    }

    /// Nothing is on its way in it, and nothing is on its disk.
    pub fn is_quiet(&self) -> bool {
        let in_flight = self.process.as_ref().map_or(0, |process| process.metrics.in_flight.get());
        in_flight == 0 && self.disk.rows().is_empty()
    }

    pub fn start(&mut self) {
        self.starts += 1;
        self.world.facts.lock().unwrap().starts += 1;
        self.world.log(format!("{}: starts", self.name));
        let gate = Gate::default();
        let disk = Arc::new(self.disk.reopen());
        let spool = Spool::new(self.name, self.world.clone(), gate.clone(), disk, self.lie);
        let metrics = Arc::new(Metrics::new(&rules().literal_topics()).unwrap());
        let (drain, come_back) = (CancellationToken::new(), Arc::new(Notify::new()));
        let session = {
            let mut saved = self.saved.lock().unwrap();
            let mut session = saved.session.clone().unwrap_or_else(|| SessionState {
                client_id: "model".to_owned(),
                stamp: String::new(),
                connection: 0,
                generation: 0,
                filters: Vec::new(),
                subscriptions: Vec::new(),
            });
            session.generation += 1;
            saved.session = Some(session.clone());
            session
        };
        let nonce = if self.lie == Some(Lie::IdsBeginAnew) {
            1
        } else {
            self.world.dice(self.name, self.starts).next()
        };
        let carrier = Carrier {
            name: self.name,
            world: self.world.clone(),
            lie: self.lie,
            gate: gate.clone(),
            spool: spool.clone(),
            metrics: metrics.clone(),
            saved: self.saved.clone(),
            session,
            ids: MessageIds::new(nonce),
            drain: drain.clone(),
            come_back: come_back.clone(),
        };
        let around = gate.clone();
        let main = tokio::spawn(async move { around.around(carrier.carry()).await });
        self.process = Some(Process { gate, drain, come_back, metrics, spool, main });
    }

    /// SIGKILL.
    pub async fn kill(&mut self) {
        let Some(process) = self.process.take() else {
            return;
        };
        process.gate.kill();
        self.world.log(format!("{}: is killed", self.name));
        process.main.abort();
        if let Err(error) = process.main.await
            && error.is_panic()
        {
            self.world.violation(format!("panic: {} ended with {error}", self.name));
        }
        oracle::check_books(&self.world, self.name, &process.metrics);
        process.spool.lose_what_was_not_synced().await;
    }

    /// The process has ended by itself, after a stop.
    pub async fn reap(&mut self) {
        let Some(process) = self.process.take() else {
            return;
        };
        if let Err(error) = process.main.await {
            self.world.violation(format!("panic: {} ended with {error}", self.name));
        }
        self.world.log(format!("{}: has stopped", self.name));
        oracle::check_books(&self.world, self.name, &process.metrics);
    }
}

/// All that one process is made of before it runs.
struct Carrier {
    name: &'static str,
    world: Arc<World>,
    lie: Option<Lie>,
    gate: Gate,
    spool: Spool,
    metrics: Arc<Metrics>,
    saved: Arc<Mutex<Saved>>,
    session: SessionState,
    ids: MessageIds,
    drain: CancellationToken,
    come_back: Arc<Notify>,
}

impl Carrier {
    async fn carry(self) {
        let setup = &self.world.setup;
        let client = Client { world: self.world.clone(), gate: self.gate.clone(), lie: self.lie };
        let clock: Arc<dyn Clock> =
            Arc::new(ProcessClock { world: self.world.clone(), started: Instant::now() });
        let tables = self.saved.lock().unwrap().tables.clone();
        let remembered = tokio::select! {
            biased;
            () = self.drain.cancelled() => return,
            remembered = self.last_receipts(&client, &tables) => remembered,
        };
        let (intake, receiver) = intake(rules(), setup.intake_messages, 1 << 20);
        let (link, link_seen) = watch::channel(LinkState::Up);
        let (settled, settled_receiver) = mpsc::channel(setup.settlements);
        let uplink = self.uplink(client, clock.clone(), tables, receiver, settled, link_seen);
        let mut ledger = ReceiptLedger::new(setup.receive_maximum);
        ledger.remember_previous(remembered);
        let stop_now = CancellationToken::new();
        let parts = SessionParts {
            filters: rules().filters().map(ToString::to_string).collect(),
            receive_maximum: setup.receive_maximum as u16,
            state: self.session,
            ledger,
            ids: self.ids,
            readiness: Arc::new(Readiness::new(clock.clone())),
            clock,
            metrics: self.metrics.clone(),
        };
        let mut identifiers = setup.seed as u32;
        let session = Session::new(parts, u32::MAX, || {
            identifiers = identifiers.wrapping_add(1);
            identifiers
        });
        let subscriber = Subscriber {
            name: self.name,
            world: self.world.clone(),
            gate: self.gate.clone(),
            lie: self.lie,
            saved: self.saved.clone(),
            session,
            metrics: self.metrics,
            link,
            intake: Some(intake),
            settled: settled_receiver,
            drain: self.drain.clone(),
            come_back: self.come_back,
            connection: None,
        };
        let deadline = async {
            self.drain.cancelled().await;
            tokio::time::sleep(STOP_DEADLINE).await;
            stop_now.cancel();
            std::future::pending::<()>().await;
        };
        let work = async { tokio::join!(uplink.run(stop_now.clone()), subscriber.run()) };
        tokio::select! {
            biased;
            _ = work => {}
            () = deadline => {}
        }
    }

    fn uplink(
        &self,
        client: Client,
        clock: Arc<dyn Clock>,
        tables: QueueTables,
        intake: IntakeReceiver,
        settled: mpsc::Sender<Vec<ReceiptNumber>>,
        link: watch::Receiver<LinkState>,
    ) -> Uplink {
        let setup = &self.world.setup;
        let saved = self.saved.clone();
        Uplink::new(UplinkParts {
            sending: Arc::new(Sending {
                sink: Arc::new(client.clone()),
                metrics: self.metrics.clone(),
                readiness: Arc::new(Readiness::new(clock.clone())),
                throttles: Mutex::default(),
                accept_not_durable: false,
                give_up_after: Duration::from_secs(setup.give_up_after_s),
                accepted: Accepted::default(),
                drain_permits: Arc::new(Semaphore::new(2)),
                taken_over: AtomicBool::new(false),
                stopping: CancellationToken::new(),
            }),
            spool: setup.spool_after_ms.map(|after_ms| SpoolUse {
                overflow: Arc::new(self.spool.clone()),
                after: Duration::from_millis(after_ms),
            }),
            dead_letters: Arc::new(DeadLetters {
                sink: Arc::new(client),
                topic: Some(DEAD_LETTER_TOPIC.into()),
                store: Arc::new(self.spool.clone()),
                max_message_bytes: MAX_MESSAGE_BYTES,
                next_queue: AtomicUsize::new(0),
            }),
            lease: Arc::new(SoleHolder),
            clock,
            intake,
            settled,
            link,
            tables,
            job_died: Box::new(|what| panic!("{what}")),
            save_tables: Box::new(move |tables| {
                saved.lock().unwrap().tables = tables.clone();
                Box::pin(async {})
            }),
            limits: BatchLimits {
                messages: setup.batch_messages,
                bytes: 1 << 20,
                linger: Duration::from_millis(setup.linger_ms),
            },
        })
    }

    /// As `app.rs` does it: RocketMQ first, but not for long; then the spool.
    async fn last_receipts(&self, client: &Client, tables: &QueueTables) -> Vec<Remembered> {
        let window = self.world.setup.receive_maximum as u16;
        let topics: Vec<String> = tables.topics.keys().cloned().collect();
        let has_spool = self.world.setup.spool_after_ms.is_some();
        let patience = has_spool.then_some(TAIL_PATIENCE);
        let mut receipts = tail::last_receipts(client, &topics, &self.session, window, patience).await;
        if has_spool {
            let spooled = tail::last_in_the_spool(&self.spool, &self.session, window).await;
            receipts.extend(spooled.unwrap_or_default());
        }
        tail::in_order(receipts).collect()
    }
}

fn rules() -> Arc<RuleSet> {
    static RULES: OnceLock<Arc<RuleSet>> = OnceLock::new();
    RULES
        .get_or_init(|| {
            let text = r#"
[mqtt]
url = "mqtt://127.0.0.1:9"
client_id = "model"
[rocketmq]
name_servers = ["127.0.0.1:9"]
[[binding]]
filter = "room/#"
[[binding]]
filter = "second/#"
"#;
            let config = Config::from_toml("model", text, &BTreeMap::new()).unwrap();
            let settings = BindingSettings { origin_key: vec![1; 32], max_message_bytes: MAX_MESSAGE_BYTES };
            Arc::new(RuleSet::compile(&config.bindings, settings).unwrap())
        })
        .clone()
}
