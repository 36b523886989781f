//! Plays one seed: events and faults, then health, then judgement.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Lie;
use super::gate::{Asked, Gates, What};
use super::oracle::Oracle;
use super::rocketmq::{RocketMq, STORED_MS, Seen, TOPIC};
use crate::archive::Whole;
use crate::archiver::{Archiver, ArchiverParts, LeaveOut, Merger};
use crate::model::{Kind, ManualClock};
use crate::piece_store::PieceStore;
use crate::piece_store::double::{Fate, Objects, Question};

pub(super) const PROCESSES: usize = 3;
const STEPS: usize = 150;
/// Most questions of one process after another.
const BURST: usize = 40;
const MINUTE_MS: u64 = 60_000;
pub(super) const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
pub(super) const YEAR_MS: u64 = 365 * DAY_MS;

/// What came of one seed.
pub(super) struct Played {
    pub violations: Vec<String>,
    pub story: String,
    /// What its faults hit.
    pub hit: Hit,
}

/// So that a run that tried nothing is seen.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Hit {
    pub pieces: u64,
    pub merges: u64,
    pub removed: u64,
    pub deaths: u64,
    pub faults: u64,
    pub generations: u64,
    pub conflicts: u64,
}

pub(super) fn play(seed: u64, lie: Option<Lie>) -> Played {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut run = Run::new(seed, lie);
        for _ in 0..STEPS {
            run.step().await;
            run.look().await;
            if !run.violations.is_empty() {
                break;
            }
        }
        if run.violations.is_empty() {
            run.heal_and_judge().await;
        }
        run.hit.generations =
            run.oracle.places.keys().map(|place| u64::from(place.generation)).max().unwrap_or(0);
        run.hit.conflicts = run.oracle.conflicts;
        Played { violations: run.violations, story: run.story, hit: run.hit }
    })
}

pub(super) enum State {
    Dead,
    Idle(Box<Archiver>),
    /// At a question, or on the way to the next one.
    Works {
        task: JoinHandle<()>,
        at: Option<(What, oneshot::Sender<Fate>)>,
    },
}

pub(super) struct Process {
    pub(super) state: State,
    pub(super) clock: Arc<ManualClock>,
    /// How far its clock is ahead.
    pub(super) ahead_ms: u64,
    /// Steps for which it stands still.
    pub(super) stopped: usize,
}

enum News {
    Asked(Asked),
    Done(usize, Box<Archiver>, Option<String>),
}

pub(super) struct Run {
    pub(super) random: Rng,
    pub(super) story: String,
    pub(super) violations: Vec<String>,
    pub(super) hit: Hit,
    pub(super) lie: Option<Lie>,
    pub(super) now_ms: u64,
    pub(super) rocketmq: Arc<RocketMq>,
    pub(super) objects: Objects,
    pub(super) oracle: Oracle,
    pub(super) processes: Vec<Process>,
    pub(super) asked: mpsc::UnboundedSender<Asked>,
    pub(super) ask: mpsc::UnboundedReceiver<Asked>,
    pub(super) done: mpsc::UnboundedSender<(usize, Box<Archiver>, Option<String>)>,
    pub(super) ended: mpsc::UnboundedReceiver<(usize, Box<Archiver>, Option<String>)>,
    /// Of 1000 questions.
    pub(super) faults: u64,
    pub(super) queues: i32,
    /// Whether a broker may bring deleted topics back.
    pub(super) comes_back: bool,
    pub(super) brokers: Vec<&'static str>,
}

impl Run {
    fn new(seed: u64, lie: Option<Lie>) -> Self {
        let (asked, ask) = mpsc::unbounded_channel();
        let (done, ended) = mpsc::unbounded_channel();
        let objects = Objects::default();
        if lie == Some(Lie::StoreOverwrites) {
            objects.set_overwrites();
        }
        let mut random = Rng::with_seed(seed);
        let faults = if random.u8(..4) == 0 { 0 } else { random.u64(1..40) };
        let run = Self {
            oracle: Oracle::new(&objects),
            processes: Vec::new(),
            rocketmq: Arc::default(),
            now_ms: STORED_MS,
            story: String::new(),
            violations: Vec::new(),
            hit: Hit::default(),
            queues: random.i32(1..4),
            comes_back: random.u8(..4) == 0,
            brokers: vec!["a"],
            random,
            lie,
            objects,
            asked,
            ask,
            done,
            ended,
            faults,
        };
        run.rocketmq.lock().clock_ms = STORED_MS;
        run.rocketmq.lock().make(&run.brokers, run.queues);
        run.begun()
    }

    fn begun(mut self) -> Self {
        for _ in 0..PROCESSES {
            let clock = Arc::new(ManualClock::at(self.now_ms));
            self.processes.push(Process { state: State::Dead, clock, ahead_ms: 0, stopped: 0 });
        }
        self.pass(0);
        self
    }

    pub(super) fn tell(&mut self, what: impl std::fmt::Display) {
        let line = format!("{:>9} {what}\n", (self.now_ms - STORED_MS) / 1000);
        if !self.story.ends_with(&line) {
            self.story.push_str(&line);
        }
    }

    /// Time goes on for all.
    pub(super) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.rocketmq.lock().clock_ms += ms;
        self.objects.set_clock_ms(self.now_ms);
        for process in &self.processes {
            process.clock.advance(Duration::from_millis(ms));
            process.clock.set_wall_ms(self.now_ms + process.ahead_ms);
        }
    }

    async fn look(&mut self) {
        let wrong = self.oracle.look(&self.rocketmq).await;
        self.are_wrong(wrong);
    }

    /// A topic that was deleted, made anew and came back may be archived under two generations, if several archivers looked at it meanwhile,
    /// or be taken for the new one, if RocketMQ had deleted what would tell them apart. Nothing may be lost.
    fn are_wrong(&mut self, wrong: Vec<String>) {
        let may_be = ["twice", "reader", "mixed", "changed"];
        let came_back = self.rocketmq.lock().came_back;
        for what in wrong {
            if !came_back || !may_be.iter().any(|kind| what.starts_with(kind)) {
                self.tell(format_args!("VIOLATION {what}"));
                self.violations.push(what);
            }
        }
    }

    async fn step(&mut self) {
        if self.rocketmq.lock().is_silent && self.random.u8(..5) == 0 {
            self.rocketmq.lock().is_silent = false;
            self.tell("RocketMQ answers again");
        }
        match self.random.u32(..100) {
            0..62 => {
                let number = self.random.usize(..PROCESSES);
                for _ in 0..self.random.usize(1..BURST) {
                    self.move_on(number).await;
                    self.look().await;
                }
            }
            62..78 => self.say(),
            78..88 => {
                let ms = match self.random.u8(..10) {
                    0 => DAY_MS + self.random.u64(..DAY_MS),
                    1..4 => self.random.u64(..8 * 60 * MINUTE_MS),
                    _ => self.random.u64(..40 * MINUTE_MS),
                };
                self.pass(ms);
                self.tell(format_args!("{} min later", ms / MINUTE_MS));
            }
            88..95 => self.trouble_rocketmq(),
            _ => self.trouble_process(),
        }
    }

    pub(super) fn kill(&mut self, number: usize) {
        self.hit.deaths += 1;
        if let State::Works { task, .. } = std::mem::replace(&mut self.processes[number].state, State::Dead) {
            task.abort();
        }
        self.tell(format_args!("process {number} dies"));
    }

    /// One process begins its turn, or gets the answer that it waits for.
    async fn move_on(&mut self, number: usize) {
        if self.processes[number].stopped > 0 {
            self.processes[number].stopped -= 1;
            return;
        }
        match std::mem::replace(&mut self.processes[number].state, State::Dead) {
            State::Dead => {
                let archiver = self.archiver(number);
                self.processes[number].state = State::Idle(Box::new(archiver));
            }
            State::Idle(mut archiver) => {
                let (is_flush, done) = (self.random.bool(), self.done.clone());
                let task = tokio::spawn(async move {
                    let (_, failed) = match is_flush {
                        true => archiver.round(true).await,
                        false => archiver.turn().await,
                    };
                    let _ = done.send((number, archiver, failed.map(|error| error.to_string())));
                });
                self.processes[number].state = State::Works { task, at: None };
                self.wait_for(number).await;
            }
            State::Works { task, at: None } => {
                self.processes[number].state = State::Works { task, at: None };
                self.wait_for(number).await;
            }
            State::Works { task, at: Some((what, answer)) } => {
                let fate = self.fate(&what);
                self.processes[number].state = State::Works { task, at: None };
                let is_change = matches!(what, What::Store(Question::Put(_) | Question::Delete(_)));
                self.hit.faults += u64::from(fate != Fate::Answered);
                if fate != Fate::Answered || is_change {
                    self.tell(format_args!("process {number} at {what:?}: {fate:?}"));
                }
                let _ = answer.send(fate);
                if matches!(fate, Fate::DiesBefore | Fate::DiesAfter) {
                    // What it does before it dies is done when nothing else is to be done.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    self.kill(number);
                } else {
                    self.wait_for(number).await;
                }
            }
        }
    }

    fn archiver(&self, number: usize) -> Archiver {
        let gates = Gates { process: number, asked: self.asked.clone() };
        let store = self.objects.through(gates.of_store());
        let reader = Seen { rocketmq: self.rocketmq.clone(), gates: Some(gates) };
        archiver(reader, store, &self.processes[number].clock)
    }

    fn fate(&mut self, what: &What) -> Fate {
        let is_put = matches!(what, What::Store(Question::Put(_)));
        if is_put && self.lie == Some(Lie::StoreForgets) && self.random.u8(..4) == 0 {
            return Fate::OnlySaid;
        }
        if self.random.u64(..1000) >= self.faults {
            return Fate::Answered;
        }
        let fates = [
            Fate::Refused,
            Fate::DiesBefore,
            Fate::DiesAfter,
            Fate::AnswerLost,
            Fate::Slow(Duration::from_secs(61)),
        ];
        match self.random.usize(..7) {
            5 | 6 if is_put => Fate::Conflict,
            other => fates[other % 5],
        }
    }

    /// Until that process asks something or has ended its turn. Others may be woken by their deadlines.
    async fn wait_for(&mut self, number: usize) {
        let long = tokio::time::Instant::now() + Duration::from_secs(3600);
        loop {
            let news = tokio::select! {
                biased;
                Some(asked) = self.ask.recv() => News::Asked(asked),
                Some((number, archiver, failed)) = self.ended.recv() => News::Done(number, archiver, failed),
                () = tokio::time::sleep_until(long) => {
                    self.violations.push(format!("liveness: process {number} stands still"));
                    return;
                }
            };
            let of = match news {
                News::Asked(asked) => {
                    let of = asked.process;
                    if let State::Works { at, .. } = &mut self.processes[of].state {
                        *at = Some((asked.what, asked.answer));
                    }
                    of
                }
                News::Done(of, archiver, failed) => {
                    if let Some(failed) = failed {
                        self.tell(format_args!("process {of}: {failed}"));
                    }
                    // One that was killed in this moment.
                    if matches!(self.processes[of].state, State::Works { .. }) {
                        self.processes[of].state = State::Idle(archiver);
                    }
                    of
                }
            };
            if of == number {
                return;
            }
        }
    }

    /// All faults end, a new archiver copies and merges what is left, and then all must be right.
    async fn heal_and_judge(&mut self) {
        self.tell("all faults end");
        for number in 0..PROCESSES {
            self.kill(number);
            self.processes[number].ahead_ms = 0;
        }
        self.rocketmq.lock().heal();
        let store = self.objects.plain();
        let clock = self.processes[0].clock.clone();
        let reader = || Seen { rocketmq: self.rocketmq.clone(), gates: None };
        let mut last = archiver(reader(), store.clone(), &clock);
        for _ in 0..3 {
            let (round, failed) = last.round(true).await;
            self.hit.pieces += round.pieces;
            self.violations.extend(failed.map(|error| format!("liveness: {error}")));
        }
        let (round, _) = last.round(true).await;
        if round.pieces > 0 {
            self.violations.push("liveness: a fourth round finds more".to_owned());
        }
        // A day that was merged too early is merged again, and what it replaces goes an hour later.
        for wait_ms in [3 * DAY_MS + YEAR_MS, DAY_MS, DAY_MS] {
            self.pass(wait_ms);
            let mut merger = Merger::new(store.clone(), clock.clone());
            while merger.is_due() {
                match merger.step().await {
                    Ok(merged) => {
                        self.hit.merges += merged.written;
                        self.hit.removed += merged.removed;
                    }
                    Err(error) => self.violations.push(format!("liveness: {error}")),
                }
            }
            if self.lie == Some(Lie::RemovesWhatCounts) {
                let pieces = store.all_pieces().await.unwrap();
                if let Some(piece) = self.random.choice(pieces) {
                    store.remove(&piece.key).await.unwrap();
                }
            }
            self.look().await;
        }
        let reader: Arc<Seen> = Arc::new(Seen { rocketmq: self.rocketmq.clone(), gates: None });
        let whole = Whole::new(reader, store);
        let wrong = self.oracle.judge(&self.rocketmq, &whole).await;
        self.are_wrong(wrong);
    }
}

fn archiver(reader: Seen, store: PieceStore, clock: &Arc<ManualClock>) -> Archiver {
    Archiver::new(ArchiverParts {
        reader: Arc::new(reader),
        store,
        topics: vec![TOPIC.to_owned()],
        leave_out: LeaveOut { kinds: [Kind::P2p].into() },
        cut_every: Duration::from_secs(3600),
        rocketmq_keeps: Duration::from_secs(72 * 3600),
        clock: clock.clone(),
    })
}
