//! Plays one seed: its events, then health, then time to catch up, then judgement.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use roombridge::testing::spool::Overflow;
use roombridge::testing::spool::memory::Faults;
use tokio::time::{Instant, sleep, sleep_until};

use crate::bridge::Bridge;
use crate::lies::Lie;
use crate::mqtt;
use crate::oracle;
use crate::scenario::{Event, Setup};
use crate::world::World;

/// After all faults have ended everything is stored within this time. The slowest retries come every 30 s.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(240);
const RESTART_AFTER_MS: u64 = 700;

/// What came of one seed.
pub struct Played {
    pub violations: Vec<String>,
    pub story: String,
}

/// Plays the seed in simulated time, on this thread alone.
pub fn play(seed: u64, lie: Option<Lie>) -> Played {
    roombridge::testing::pipeline::seed_jitter(seed);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let world = runtime.block_on(async {
        let world = Arc::new(World::new(Setup::of(seed)));
        world.log(format!("{:?}", world.setup));
        let mut run = Run::new(world.clone(), lie);
        run.play().await;
        run.catch_up().await;
        oracle::judge(&world);
        world
    });
    drop(runtime);
    let violations = world.facts.lock().unwrap().violations.clone();
    Played { violations, story: world.story() }
}

struct Run {
    world: Arc<World>,
    started: Instant,
    /// In milliseconds, then in order.
    events: BTreeMap<(u64, u64), Event>,
    next: u64,
    bridges: [Bridge; 2],
    faults: Faults,
}

impl Run {
    fn new(world: Arc<World>, lie: Option<Lie>) -> Self {
        let bridge = |name, index: usize| Bridge::new(name, world.clone(), world.disks[index].clone(), lie);
        let mut run = Self {
            started: Instant::now(),
            events: BTreeMap::new(),
            next: 0,
            bridges: [bridge("a", 0), bridge("b", 1)],
            faults: Faults::default(),
            world: world.clone(),
        };
        for (at, event) in world.setup.timeline() {
            run.schedule(at, event);
        }
        run
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.next += 1;
        self.events.insert((at, self.next), event);
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    async fn play(&mut self) {
        while let Some((at, _)) = self.events.keys().next().copied() {
            let due = self.started + Duration::from_millis(at);
            let died = self.died_before(due).await;
            if let Some(index) = died {
                self.world.log(format!("{}: dies at a trip wire", self.bridges[index].name));
                self.bridges[index].kill().await;
                let at = self.now_ms() + RESTART_AFTER_MS;
                self.schedule(at, Event::Start(index));
                continue;
            }
            if let Some((_, event)) = self.events.pop_first() {
                self.happen(event).await;
            }
        }
    }

    /// The bridge that a trip wire killed before that time.
    async fn died_before(&self, due: Instant) -> Option<usize> {
        let died = |index: usize| {
            let gate = self.bridges[index].process.as_ref().map(|process| process.gate.clone());
            async move {
                match gate {
                    Some(gate) => gate.died.notified().await,
                    None => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            biased;
            () = died(0) => Some(0),
            () = died(1) => Some(1),
            () = sleep_until(due) => None,
        }
    }

    async fn happen(&mut self, event: Event) {
        if !matches!(event, Event::Publish(_)) {
            self.world.log(format!("-- {event:?}"));
        }
        match event {
            Event::Publish(message) => mqtt::publish(&self.world, message),
            Event::Cut { reset } => mqtt::cut(&self.world, reset),
            Event::MqttAway(away) => mqtt::set_away(&self.world, away),
            Event::LoseSession => mqtt::lose_session(&self.world),
            Event::LoseConnack => self.world.mqtt.lock().unwrap().lose_connack = true,
            Event::ClockJump(by_ms) => {
                self.world.wall_jump_ms.fetch_add(by_ms, Ordering::Relaxed);
            }
            Event::SpoolFull(full) => self.set_faults(|faults| faults.full = full),
            Event::SpoolSlow(ms) => self.set_faults(|faults| faults.write_time = Duration::from_millis(ms)),
            Event::SpoolPoison(index) => {
                let poison = Faults { poison: true, ..self.faults };
                self.bridges[index].disk.set_faults(poison);
            }
            Event::BrokerAway(..)
            | Event::Flaky(_)
            | Event::Slow(_)
            | Event::NotPermitted(..)
            | Event::Missing(..) => self.rocketmq(&event),
            Event::Start(index) => self.start(index).await,
            Event::Kill(index) => self.bridges[index].kill().await,
            Event::KillAt(..) | Event::Stop(_) | Event::Pause(..) | Event::ComeBack(_) => {
                self.process(&event)
            }
        }
    }

    fn set_faults(&mut self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.faults);
        self.bridges.iter().for_each(|bridge| bridge.disk.set_faults(self.faults));
    }

    fn rocketmq(&self, event: &Event) {
        let mut store = self.world.store.lock().unwrap();
        match *event {
            Event::BrokerAway(broker, away) => store.away[broker] = away,
            Event::Flaky(flaky) => store.flaky = flaky,
            Event::Slow(slow) => store.slow = slow,
            Event::NotPermitted(topic, true) => _ = store.not_permitted.insert(topic),
            Event::NotPermitted(topic, false) => _ = store.not_permitted.remove(topic),
            Event::Missing(topic, true) => _ = store.missing.insert(topic),
            Event::Missing(topic, false) => _ = store.missing.remove(topic),
            _ => {}
        }
    }

    fn process(&self, event: &Event) {
        let (Event::KillAt(index, ..) | Event::Stop(index) | Event::Pause(index, _) | Event::ComeBack(index)) =
            event
        else {
            return;
        };
        let Some(process) = &self.bridges[*index].process else {
            return;
        };
        match event {
            Event::KillAt(_, point, times) => process.gate.set_trip(*point, *times),
            Event::Stop(_) => process.drain.cancel(),
            Event::Pause(_, paused) => process.gate.set_paused(*paused),
            Event::ComeBack(_) => process.come_back.notify_waiters(),
            _ => {}
        }
    }

    /// Starts the bridge unless it runs; one that is stopping is waited for.
    async fn start(&mut self, index: usize) {
        let bridge = &mut self.bridges[index];
        let stops = bridge.process.as_ref().is_some_and(|process| process.drain.is_cancelled());
        if bridge.is_running() {
            if stops {
                let at = self.now_ms() + RESTART_AFTER_MS;
                self.schedule(at, Event::Start(index));
            }
            return;
        }
        self.bridges[index].reap().await;
        // A new process opens the file anew: the disk was repaired.
        self.bridges[index].disk.set_faults(self.faults);
        self.bridges[index].start();
    }

    /// All faults end; then everything must be stored within a bound.
    async fn catch_up(&mut self) {
        self.world.log("-- all faults end");
        self.world.store.lock().unwrap().heal();
        mqtt::set_away(&self.world, false);
        self.set_faults(|faults| *faults = Faults::default());
        for index in 0..2 {
            if let Some(process) = &self.bridges[index].process {
                process.gate.set_paused(false);
                process.gate.set_trip(crate::gate::Point::Sending, u64::MAX);
                if process.spool.disk.poisoned().is_some() {
                    self.bridges[index].kill().await;
                    self.start(index).await;
                }
            }
        }
        // What a stopped bridge left on its disk is sent by the next process on it.
        for index in [0, 1] {
            if index == 0 || !self.bridges[index].disk.rows().is_empty() {
                self.until_started(index).await;
            }
        }
        self.until_quiet().await;
        for index in 0..2 {
            if let Some(process) = &self.bridges[index].process {
                process.drain.cancel();
            }
            let stopped = self.until(Duration::from_secs(20), |run| !run.bridges[index].is_running()).await;
            if stopped {
                self.bridges[index].reap().await;
            } else {
                self.world.violation(format!("liveness: {} does not stop", self.bridges[index].name));
                self.bridges[index].kill().await;
            }
        }
        // What the network still carries.
        sleep(Duration::from_secs(10)).await;
    }

    async fn until_started(&mut self, index: usize) {
        for _ in 0..20 {
            let stops =
                |bridge: &Bridge| bridge.process.as_ref().is_some_and(|process| process.drain.is_cancelled());
            if self.bridges[index].is_running() && !stops(&self.bridges[index]) {
                return;
            }
            self.start(index).await;
            self.events.clear();
            sleep(Duration::from_millis(500)).await;
        }
        self.world.violation(format!("liveness: {} cannot be started", self.bridges[index].name));
    }

    async fn until_quiet(&mut self) {
        let deadline = Instant::now() + CATCH_UP_DEADLINE;
        loop {
            let idle = self.world.mqtt.lock().unwrap().is_idle();
            if idle && self.bridges.iter().all(Bridge::is_quiet) {
                return;
            }
            if Instant::now() > deadline {
                self.world.log("-- it did not catch up in time");
                return;
            }
            // Somebody must have the session; it is the operator who says who.
            if !self.world.mqtt.lock().unwrap().is_connected()
                && let Some(process) = &self.bridges[0].process
            {
                process.come_back.notify_waiters();
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    async fn until(&self, deadline: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + deadline;
        while !done(self) {
            if Instant::now() > deadline {
                return false;
            }
            sleep(Duration::from_millis(50)).await;
        }
        true
    }
}
