//! The uplink's middle: takes messages from the intake, binds them, puts them into their lanes, sends batches, writes to
//! the spool what waits too long, reads it back, and tells the subscriber which receipts have ended.
//!
//! Promises: every message that came in has exactly one end, counted once; first occurrences of one order key reach
//! one queue in order, directly or through the spool. With a spool no lane holds the others for longer than
//! `spool.after_ms` and a write to the disk.
//! Must never: acknowledge, or name a protocol.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::attempts::Ends;
use super::end_counters::EndCounters;
use super::intake::{Arrived, Arriving};
use super::jobs::{Ended, Finished, PendingDeadLetter, ended_and_dead, look_up, report_dead, start};
use super::lanes::{InFlightBatch, TopicLanes, WaitingMessage};
use super::parts::{LinkState, UplinkParts};
use super::spool_state::SpoolState;
use super::ticket::{Receipt, Ticket};
use crate::binding::{self, Bound, NotStored};
use crate::data_dir::TopicQueues;
use crate::model::{DeadReason, DropReason, FilterReason, Kind, Outcome, QueueName};
use crate::spool::{Appended, RowKey, SpoolError, Taken};

/// How long no send starts after the loss of the MQTT link: the session's next holder would get the same messages,
/// so the CONNACK is awaited. Longer than that nobody else can have it, because the broker itself is away.
const HOLD_AFTER_LINK_LOSS: Duration = Duration::from_secs(10);
const INTAKE_AT_ONCE: usize = 512;

/// See the module's words.
pub struct Uplink {
    parts: UplinkParts,
    counters: EndCounters,
    topics: BTreeMap<Arc<str>, TopicLanes>,
    running: JoinSet<Finished>,
    held_until: Option<Duration>,
    /// The intake is open; when it is shut, nothing is read from the spool any more.
    open: bool,
    spool_state: SpoolState,
    /// A job has died; its queue stands still until the next process gets its messages again.
    crippled: bool,
    logged_dead: [bool; DeadReason::ALL.len()],
}

impl Uplink {
    pub fn new(parts: UplinkParts) -> Self {
        let books = EndCounters {
            metrics: parts.sending.metrics.clone(),
            exit: parts.intake.exit(),
            settled: parts.settled.clone(),
        };
        let spool_state = SpoolState::new(
            parts.spool.as_ref().map(|spool| spool.overflow.clone()),
            parts.sending.metrics.clone(),
            parts.sending.readiness.clone(),
        );
        Self {
            parts,
            counters: books,
            topics: BTreeMap::new(),
            running: JoinSet::new(),
            held_until: None,
            open: true,
            spool_state,
            crippled: false,
            logged_dead: Default::default(),
        }
    }

    /// Runs until the intake is closed and everything has ended or is safe in the spool, or until `stop_now`: what is in
    /// memory then is given up without an end, and the MQTT session delivers it again.
    pub async fn run(mut self, stop_now: CancellationToken) {
        self.find_lanes_in_the_spool().await;
        let mut arrived = Vec::with_capacity(INTAKE_AT_ONCE);
        let mut subscriber_lives = true;
        while self.open || !self.is_idle() {
            self.start_what_can_start();
            let due_in = self.next_due_in();
            if self.nothing_more_can_end(due_in) {
                return;
            }
            tokio::select! {
                biased;
                () = stop_now.cancelled() => return,
                Some(finished) = self.running.join_next() => self.finish(finished).await,
                changed = self.parts.link.changed(), if subscriber_lives => {
                    subscriber_lives = changed.is_ok();
                    self.link_changed().await;
                }
                count = self.parts.intake.receiver.recv_many(&mut arrived, INTAKE_AT_ONCE), if self.open => {
                    self.take_in(&mut arrived).await;
                    if count == 0 {
                        self.open = false;
                        self.parts.sending.stopping.cancel();
                    }
                }
                () = tokio::time::sleep(due_in.unwrap_or_default()), if due_in.is_some() => {}
                () = self.spool_state.is_old() => self.ask_for_room(),
            }
            while let Some(finished) = self.running.try_join_next() {
                self.finish(finished).await;
            }
        }
    }

    /// Rows of an earlier process go out first.
    async fn find_lanes_in_the_spool(&mut self) {
        let Some(spool) = self.parts.spool.clone() else {
            return;
        };
        let depth = spool.overflow.depth();
        let metrics = &self.parts.sending.metrics;
        metrics.spool_depth_at_start.set(depth.messages as i64);
        metrics.spool_depth.set(depth.messages as i64);
        self.spool_state.note(Ok(()));
        match spool.overflow.lanes().await {
            Ok(lanes) => {
                for (lane, _) in lanes {
                    let table = self.parts.tables.topics.get(&*lane.topic).cloned();
                    self.topics
                        .entry(lane.topic.clone())
                        .or_insert_with(|| TopicLanes::new(lane.topic, table, true));
                }
            }
            Err(error) => self.spool_state.note(Err(error)),
        }
    }

    async fn take_in(&mut self, arrived: &mut Vec<Arriving>) {
        let mut ended = Vec::new();
        let mut dying = Vec::new();
        for arriving in arrived.drain(..) {
            let Arrived { envelope, receipt } = match arriving {
                Arriving::Mqtt(arrived) => arrived,
                Arriving::Derived(derived) => {
                    let ticket = derived.ticket();
                    if self.parts.sending.taken_over.load(Ordering::Relaxed) {
                        let outcome = Outcome::Filtered(FilterReason::SessionTakenOver);
                        ended.push((ticket, outcome));
                    } else {
                        self.push(derived.bound, ticket);
                    }
                    continue;
                }
            };
            let ticket = |kind| Ticket {
                receipt: receipt.map(Receipt::Mqtt),
                weight_bytes: envelope.weight_bytes(),
                kind,
            };
            // Behind the news of a takeover: what came before it belongs to the next holder, too.
            if self.parts.sending.taken_over.load(Ordering::Relaxed) {
                let outcome = Outcome::Filtered(FilterReason::SessionTakenOver);
                ended.push((ticket(Kind::Other), outcome));
                continue;
            }
            match self.parts.rules.bind(&envelope) {
                Ok(bound) => {
                    let ticket = ticket(bound.kind);
                    self.push(bound, ticket);
                }
                Err(NotStored::Filtered(reason)) => {
                    ended.push((ticket(Kind::Other), Outcome::Filtered(reason)));
                }
                Err(NotStored::Dead { reason, detail }) => {
                    let ticket = Some(ticket(Kind::Other));
                    let letter = binding::letter_of_envelope(&envelope, reason, detail);
                    dying.push(PendingDeadLetter::new(letter, Kind::Other, ticket, None));
                }
            }
        }
        if !ended.is_empty() {
            self.counters.settle("", ended).await;
        }
        self.store_dead_letters("".into(), dying);
    }

    fn push(&mut self, bound: Bound, ticket: Ticket) {
        let topic = bound.topic.clone();
        let waiting = WaitingMessage {
            ticket,
            slot: bound.slot,
            message: bound.into_message(),
            since: self.parts.clock.monotonic(),
        };
        self.lanes(&topic).push(waiting);
    }

    fn lanes(&mut self, topic: &Arc<str>) -> &mut TopicLanes {
        let table = || self.parts.tables.topics.get(&**topic).cloned();
        self.topics.entry(topic.clone()).or_insert_with(|| TopicLanes::new(topic.clone(), table(), false))
    }

    fn store_dead_letters(&mut self, topic: Arc<str>, dying: Vec<PendingDeadLetter>) {
        if dying.is_empty() {
            return;
        }
        for each in &dying {
            report_dead(&mut self.logged_dead, &each.letter);
        }
        let dead_letters = self.parts.dead_letters.clone();
        self.running.spawn(async move {
            let letters = dying.iter().map(|each| each.letter.clone()).collect();
            dead_letters.put(letters).await;
            Finished::DeadLettersStored { topic, dying }
        });
    }

    fn start_what_can_start(&mut self) {
        let taken_over = self.parts.sending.taken_over.load(Ordering::Relaxed);
        let may_ask = !self.is_held() && self.parts.lease.is_held();
        // What is in memory only; rows of the spool are ours after a takeover, too.
        let may_act = may_ask && !taken_over;
        let now = self.parts.clock.monotonic();
        for lanes in self.topics.values_mut() {
            lanes.resume_direct_sends();
            lanes.return_slots();
            // It was on its way already, and what is in the spool is ours after a takeover, too.
            while let Some(ready) = lanes.next_aside() {
                start(&mut self.running, &self.parts.sending, lanes.topic.clone(), ready);
            }
            if !lanes.is_known() && !lanes.lookup_running && may_ask {
                lanes.lookup_running = true;
                let retry = lanes.lookup_retry.take();
                self.running.spawn(look_up(self.parts.sending.clone(), lanes.topic.clone(), retry));
            }
            while let Some(ready) = may_act.then(|| lanes.next_ready(self.parts.limits, now)).flatten() {
                start(&mut self.running, &self.parts.sending, lanes.topic.clone(), ready);
            }
            let Some(spool) = &self.parts.spool else { continue };
            // A spool that is out of use takes nothing; what waits goes behind its rows, or directly.
            let usable = may_act && !self.spool_state.is_poisoned();
            while let Some(job) = usable.then(|| lanes.next_write(now, spool.after)).flatten() {
                let writing =
                    spool.overflow.append(job.topic.clone(), job.messages, job.lent, job.share_of_topic);
                self.running.spawn(async move {
                    Finished::Wrote { topic: job.topic, queue_index: job.queue_index, answer: writing.await }
                });
            }
            while let Some(job) = self.open.then(|| lanes.next_read(now)).flatten() {
                let limits = self.parts.limits;
                let reading =
                    spool.overflow.take(job.topic.clone(), job.slots, limits.messages, limits.bytes);
                self.running.spawn(async move {
                    Finished::Read { topic: job.topic, queue_index: job.queue_index, answer: reading.await }
                });
            }
        }
    }

    async fn finish(&mut self, finished: Result<Finished, tokio::task::JoinError>) {
        match finished {
            Ok(Finished::Batch { topic, queue_index, ends }) => {
                let lanes = self.topics.get_mut(&topic);
                if let Some((flight, ends)) = lanes.and_then(|lanes| lanes.finish_batch(queue_index, ends)) {
                    self.batch_finished(topic, flight, ends).await;
                }
            }
            Ok(Finished::Lookup { topic, answer, retry }) => match (answer, self.topics.get_mut(&topic)) {
                (Ok(queues), _) => self.write_down(topic, queues),
                (Err(cause), Some(lanes)) => {
                    lanes.lookup_running = false;
                    lanes.lookup_retry = Some(retry);
                    lanes.lookup_cause = Some(cause);
                }
                (Err(_), None) => {}
            },
            Ok(Finished::TableWritten { topic, table }) => self.assign_queues(&topic, table),
            Ok(Finished::Wrote { topic, queue_index, answer }) => {
                self.wrote(topic, queue_index, answer).await
            }
            Ok(Finished::Read { topic, queue_index, answer }) => self.read(topic, queue_index, answer),
            Ok(Finished::Removed) => {
                self.spool_state.rows_left();
                self.ask_for_room();
            }
            Ok(Finished::Room(answer)) => self.spool_state.told(answer),
            Ok(Finished::DeadLettersStored { topic, dying }) => self.dead_letters_stored(topic, dying).await,
            // Its messages stay without an end and its lane stays busy: not acknowledged, thus not lost.
            Err(error) => {
                self.crippled = true;
                (self.parts.job_died)(&format!("a job of the pipeline died: {error}"));
            }
        }
    }

    /// Until the disk has the table, the topic's messages wait, and other topics do not.
    fn write_down(&mut self, topic: Arc<str>, queues: Vec<QueueName>) {
        let table = TopicQueues::first(queues);
        self.parts.tables.topics.insert(topic.to_string(), table.clone());
        let saving = (self.parts.save_tables)(&self.parts.tables);
        self.running.spawn(async move {
            saving.await;
            Finished::TableWritten { topic, table }
        });
    }

    fn assign_queues(&mut self, topic: &Arc<str>, table: TopicQueues) {
        tracing::info!(topic = %topic, queues = table.queues().len(), "the topic's queues are known and written down");
        if let Some(lanes) = self.topics.get_mut(topic) {
            lanes.lookup_running = false;
            lanes.lookup_cause = None;
            lanes.assign_queues(table);
        }
    }

    async fn wrote(&mut self, topic: Arc<str>, queue_index: usize, answer: Result<Appended, SpoolError>) {
        let now = self.parts.clock.monotonic();
        let Some(lanes) = self.topics.get_mut(&topic) else {
            return;
        };
        let written = lanes.written(queue_index, answer.as_ref(), now);
        let reason = lanes.lookup_cause.map_or(DeadReason::NoPermission, super::attempts::dead_reason);
        if let Ok(appended) = &answer {
            self.counters.given_up_in_the_spool(DropReason::SpoolFull, appended.dropped_oldest);
        }
        self.spool_state.note(answer.map(|_| ()));
        self.counters.spooled(written.spooled).await;
        if !written.dropped.is_empty() {
            let dropped = written.dropped.into_iter();
            let ends = dropped.map(|ticket| (ticket, Outcome::Dropped(DropReason::SpoolFull)));
            self.counters.settle(&topic, ends.collect()).await;
        }
        let dead = written.dead.into_iter();
        let dying = dead.map(|(message, ticket)| {
            PendingDeadLetter::of(&topic, &message, (reason, None), Some(ticket), None)
        });
        let dying = dying.collect();
        self.store_dead_letters(topic.clone(), dying);
        if let Some((flight, ends)) = written.finished_batch {
            self.batch_finished(topic, flight, ends).await;
        }
    }

    fn read(&mut self, topic: Arc<str>, queue_index: usize, answer: Result<Taken, SpoolError>) {
        match &answer {
            Ok(taken) => {
                self.counters.given_up_in_the_spool(DropReason::SpoolDamaged, taken.damaged);
                self.counters.given_up_in_the_spool(DropReason::SpoolExpired, taken.expired);
            }
            Err(error) => self.spool_state.note(Err(error.clone())),
        }
        let now = self.parts.clock.monotonic();
        let lanes = self.topics.get_mut(&topic);
        if let Some(ready) = lanes.and_then(|lanes| lanes.read(queue_index, answer, now)) {
            start(&mut self.running, &self.parts.sending, topic, ready);
        }
    }

    /// A batch has ended; dead letters are buried before they end.
    async fn batch_finished(&mut self, topic: Arc<str>, flight: InFlightBatch, ends: Ends) {
        let (ended, dying) = ended_and_dead(&topic, flight, ends);
        self.conclude(topic.clone(), ended).await;
        self.store_dead_letters(topic, dying);
    }

    async fn dead_letters_stored(&mut self, topic: Arc<str>, dying: Vec<PendingDeadLetter>) {
        let ended = dying.into_iter().map(|each| {
            let outcome = Outcome::DeadLettered(each.letter.reason);
            (each.kind, each.ticket, each.row, outcome)
        });
        self.conclude(topic, ended.collect()).await;
    }

    /// Receipts end, and rows leave the spool.
    async fn conclude(&mut self, topic: Arc<str>, ended: Vec<Ended>) {
        let (mut settled, mut left, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for (kind, ticket, row, outcome) in ended {
            match ticket {
                Some(ticket) => settled.push((ticket, outcome)),
                None => left.push((kind, outcome)),
            }
            rows.extend(row);
        }
        self.counters.left_the_spool(&topic, &left);
        self.counters.settle(&topic, settled).await;
        self.remove(topic, rows);
    }

    /// Nothing may be written any more that would tell.
    fn ask_for_room(&mut self) {
        if let Some(asking) = self.spool_state.ask() {
            self.running.spawn(async { Finished::Room(asking.await) });
        }
    }

    fn remove(&mut self, topic: Arc<str>, rows: Vec<RowKey>) {
        let Some(spool) = self.parts.spool.as_ref().filter(|_| !rows.is_empty()) else {
            return;
        };
        let removing = spool.overflow.remove(topic, rows);
        self.running.spawn(async move {
            // What cannot be removed is sent once more by the next process, with the same id.
            let _ = removing.await;
            Finished::Removed
        });
    }

    async fn link_changed(&mut self) {
        let link = *self.parts.link.borrow_and_update();
        self.parts.sending.taken_over.store(link == LinkState::TakenOver, Ordering::Relaxed);
        match link {
            LinkState::Up => {
                if self.held_until.take().is_some() {
                    let now = self.parts.clock.monotonic();
                    self.topics.values_mut().for_each(|lanes| lanes.restart_timers(now));
                }
            }
            LinkState::Down => self.held_until = Some(self.parts.clock.monotonic() + HOLD_AFTER_LINK_LOSS),
            LinkState::TakenOver => {
                self.held_until = None;
                let tickets = self.topics.values_mut().flat_map(TopicLanes::abandon);
                let outcome = Outcome::Filtered(FilterReason::SessionTakenOver);
                let ends = tickets.map(|ticket| (ticket, outcome.clone())).collect();
                self.counters.settle("", ends).await;
            }
        }
    }

    fn is_held(&self) -> bool {
        self.held_until.is_some_and(|until| self.parts.clock.monotonic() < until)
    }

    fn next_due_in(&self) -> Option<Duration> {
        let now = self.parts.clock.monotonic();
        if self.is_held() {
            return self.held_until.map(|until| until.saturating_sub(now));
        }
        // What may not act now must not be waited for either: the wait would be over at once, again and again.
        let taken_over = self.parts.sending.taken_over.load(Ordering::Relaxed);
        let writes = !taken_over && !self.spool_state.is_poisoned();
        let spool = self.parts.spool.as_ref();
        let after = spool.filter(|_| writes).map(|spool| spool.after);
        let mut limits = self.parts.limits;
        if taken_over {
            limits.linger = Duration::ZERO;
        }
        let topics = self.topics.values();
        let due = topics.filter_map(|lanes| lanes.next_due(limits, after, self.open)).min()?;
        Some(due.saturating_sub(now))
    }

    /// What is left belongs to a job that has died: waiting for the deadline would end none of it.
    fn nothing_more_can_end(&self, due_in: Option<Duration>) -> bool {
        self.crippled && !self.open && due_in.is_none() && self.running.is_empty()
    }

    fn is_idle(&self) -> bool {
        // A topic whose queues are still asked for keeps nobody here if nothing waits for it.
        let lookups = self.topics.values().filter(|lanes| lanes.lookup_running).count();
        self.running.len() == lookups && self.topics.values().all(TopicLanes::is_idle)
    }
}

#[cfg(test)]
#[path = "tests/spooling.rs"]
mod tests;
