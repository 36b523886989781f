//! What all parts of one run share: the time, the event log, and the facts that only the model knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use roombridge::testing::model::Clock;
use roombridge::testing::spool::memory::MemorySpool;
use tokio::time::Instant;

use crate::mqtt::{Broker, Identifiers};
use crate::random::Random;
use crate::rocketmq::Store;
use crate::scenario::Setup;

/// 2026-01-01.
const WALL_MS: u64 = 1_767_225_600_000;

/// One message as it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub topic: String,
    pub body: Bytes,
}

/// What is true, whatever the bridge believes.
#[derive(Debug, Default)]
pub struct Facts {
    /// By number.
    pub published: Vec<Published>,
    /// The MQTT broker gave it up or never had it for us.
    pub lost_elsewhere: BTreeSet<usize>,
    pub acknowledged: BTreeSet<usize>,
    /// Given up by the spool, as its user chose.
    pub dropped: BTreeSet<usize>,
    pub number_of_id: BTreeMap<String, usize>,
    /// How often each may lie in the store.
    pub copies_allowed: BTreeMap<usize, usize>,
    /// Rooms whose messages lay in the spool of a bridge that lost the session, or were on their way there: their order
    /// is not promised.
    pub unordered_rooms: BTreeSet<String>,
    /// There was a connection that the bridge knows nothing of.
    pub had_unseen_connection: bool,
    pub starts: usize,
    pub violations: Vec<String>,
}

/// See the module's words.
pub struct World {
    pub setup: Setup,
    started: Instant,
    log: Mutex<Vec<(Duration, String)>>,
    /// Each line at once, because a run that hangs never ends.
    is_shown: bool,
    pub facts: Mutex<Facts>,
    pub mqtt: Mutex<Broker>,
    pub store: Mutex<Store>,
    /// Of each bridge.
    pub disks: Vec<Arc<MemorySpool>>,
    pub wall_jump_ms: AtomicI64,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        Self {
            started: Instant::now(),
            log: Mutex::default(),
            is_shown: std::env::var_os("ROOMBRIDGE_SEED").is_some(),
            facts: Mutex::default(),
            mqtt: Mutex::new(Broker::new(&setup)),
            store: Mutex::new(Store::new(&setup)),
            disks: vec![Arc::default(), Arc::default()],
            wall_jump_ms: AtomicI64::new(0),
            setup,
        }
    }

    pub fn dice(&self, what: &str, number: u64) -> Random {
        Random::of(self.setup.seed, what, number)
    }

    pub fn log(&self, line: impl Into<String>) {
        let (at, line) = (self.started.elapsed(), line.into());
        if self.is_shown {
            println!("{:>9.3} {line}", at.as_secs_f64());
        }
        self.log.lock().unwrap().push((at, line));
    }

    pub fn violation(&self, what: impl Into<String>) {
        let what = what.into();
        self.log(format!("VIOLATION {what}"));
        self.facts.lock().unwrap().violations.push(what);
    }

    pub fn story(&self) -> String {
        let log = self.log.lock().unwrap();
        let lines = log.iter().map(|(at, line)| format!("{:>9.3} {line}\n", at.as_secs_f64()));
        lines.collect()
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn number_of_id(&self, id: &str) -> Option<usize> {
        self.facts.lock().unwrap().number_of_id.get(id).copied()
    }

    pub fn allow_copy(&self, number: usize) {
        *self.facts.lock().unwrap().copies_allowed.entry(number).or_default() += 1;
    }

    /// The bridge gave this message that id. One id must never name two messages.
    pub fn named(&self, number: usize, id: &str) {
        let known = self.facts.lock().unwrap().number_of_id.insert(id.to_owned(), number);
        if let Some(other) = known.filter(|known| *known != number && !self.may_be_taken_for(*known, number))
        {
            self.violation(format!("identity: the id {id} names #{other} and #{number}"));
        }
    }

    /// A broker that begins its identifiers anew on a connection that nobody saw: GUARANTEES names it among what no bridge can tell.
    fn may_be_taken_for(&self, original: usize, number: usize) -> bool {
        let facts = self.facts.lock().unwrap();
        let is_equal = facts.published[original] == facts.published[number];
        is_equal && facts.had_unseen_connection && self.setup.identifiers == Identifiers::Restarting
    }
}

/// The clock of one process: its monotonic time is the simulated one, its wall time jumps.
pub struct ProcessClock {
    pub world: Arc<World>,
    pub started: Instant,
}

impl Clock for ProcessClock {
    fn wall_ms(&self) -> u64 {
        let now = WALL_MS + self.world.elapsed().as_millis() as u64;
        now.saturating_add_signed(self.world.wall_jump_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}
