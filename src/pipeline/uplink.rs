//! The loop of the uplink. It takes messages from the intake and puts them into their lanes; it starts what the lanes
//! have to do (sends, writes to the spool, reads) and hands what comes of it to the settlement.
//!
//! Promises: every message that came in has exactly one end, counted once; first occurrences of one order key reach
//! one queue in order, directly or through the spool. With a spool no lane holds the others for longer than
//! `spool.after_ms` and a write to the disk.
//! Must never: acknowledge, or name a protocol.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::attempts::Sending;
use super::batch::{ReadyBatch, WaitingMessage};
use super::causes::dead_reason;
use super::due::{Alarm, DueTopics};
use super::intake::Arriving;
use super::jobs::{Died, Finished, Jobs, NewTables, look_up};
use super::lanes::TopicLanes;
use super::parts::{LinkState, UplinkParts};
use super::pulse::Pulse;
use super::settlement::Settlement;
use super::spool_state::SpoolState;
use super::ticket::Ticket;
use crate::binding::Bound;
use crate::data_dir::TopicQueues;
use crate::model::{DeadReason, DropReason, Outcome, QueueName};
use crate::spool::{Appended, SpoolError, Taken};

/// How long no send starts after the loss of the MQTT link: the session's next holder would get the same messages,
/// so the CONNACK is awaited. Longer than that nobody else can have it, because the broker itself is away.
const HOLD_AFTER_LINK_LOSS: Duration = Duration::from_secs(10);
const INTAKE_AT_ONCE: usize = 512;

/// What may be started at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Permissions {
    /// RocketMQ may be asked for the queues of a topic.
    ask: bool,
    /// What is in memory only may be sent. Rows of the spool are ours after a takeover, too.
    send: bool,
    /// It may be written to the spool. A spool that is out of use takes nothing; what waits goes behind its rows, or directly.
    write: bool,
    read: bool,
}

/// The task that owns all lanes.
pub struct Uplink {
    parts: UplinkParts,
    settlement: Settlement,
    topics: BTreeMap<Arc<str>, TopicLanes>,
    due: DueTopics,
    /// By which it was decided what each topic waits for.
    permitted: Permissions,
    jobs: Jobs,
    /// How many of the jobs find out about queues or write down what was found.
    asking: usize,
    /// Not written yet; at most one for each topic.
    new_tables: NewTables,
    is_saving: bool,
    held_until: Option<Duration>,
    /// The intake is open; when it is shut, nothing is read from the spool any more.
    open: bool,
    spool_state: SpoolState,
    /// A job has died. Its queue stands still until the next process gets its messages again.
    crippled: bool,
    pulse: Pulse,
}

impl Uplink {
    pub fn new(parts: UplinkParts) -> Self {
        let overflow = parts.spool.as_ref().map(|spool| spool.overflow.clone());
        let settlement = Settlement {
            metrics: parts.sending.metrics.clone(),
            exit: parts.intake.exit(),
            settled: parts.settled.clone(),
            dead_letters: parts.dead_letters.clone(),
            overflow: overflow.clone(),
            logged_dead: Default::default(),
        };
        let (metrics, readiness) = (parts.sending.metrics.clone(), parts.sending.readiness.clone());
        let spool_state = SpoolState::new(overflow, metrics, readiness);
        Self {
            parts,
            settlement,
            topics: BTreeMap::new(),
            due: DueTopics::default(),
            permitted: Permissions::default(),
            jobs: Jobs::default(),
            asking: 0,
            new_tables: Vec::new(),
            is_saving: false,
            held_until: None,
            open: true,
            spool_state,
            crippled: false,
            pulse: Pulse::none(),
        }
    }

    /// The loop tells by it that it goes round.
    pub(crate) fn with_pulse(mut self, pulse: Pulse) -> Self {
        self.pulse = pulse;
        self
    }

    /// Runs until the intake is closed and everything has ended or is safe in the spool, or until `stop_now`: what is in
    /// memory then is given up without an end, and the MQTT session delivers it again.
    pub async fn run(mut self, stop_now: CancellationToken) {
        self.find_lanes_in_the_spool().await;
        let mut arrived = Vec::with_capacity(INTAKE_AT_ONCE);
        let (mut subscriber_lives, mut alarm) = (true, Alarm::new());
        while self.open || !self.is_idle() {
            self.start_what_can_start();
            let (now, due) = (self.parts.clock.monotonic(), self.next_due());
            if self.nothing_more_can_end(due) {
                return;
            }
            if let Some(due) = due {
                alarm.set(now, due);
            }
            tokio::select! {
                biased;
                () = stop_now.cancelled() => return,
                // Before what may always be ready.
                () = self.pulse.beats() => {}
                Some(finished) = self.jobs.next_end() => self.finish(finished).await,
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
                () = alarm.rings() => {}
                () = self.spool_state.is_old() => self.ask_for_room(),
            }
            while let Some(finished) = self.jobs.take_ended() {
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
                    self.due.mark(&lane.topic);
                    self.topics
                        .entry(lane.topic.clone())
                        .or_insert_with(|| TopicLanes::new(lane.topic, table, true));
                }
            }
            Err(error) => self.spool_state.note(Err(error)),
        }
    }

    /// What came in goes into its lane, or it has ended already.
    async fn take_in(&mut self, arrived: &mut Vec<Arriving>) {
        if self.parts.sending.taken_over.load(Ordering::Relaxed) {
            // Behind the news of a takeover: what came before it belongs to the next holder, too.
            let tickets = arrived.drain(..).filter_map(Arriving::into_ticket).collect();
            return self.settlement.give_up(tickets).await;
        }
        let (mut ended, mut pending_letters) = (Vec::new(), Vec::new());
        for arriving in arrived.drain(..) {
            match arriving {
                Arriving::Bound(bound, ticket) => self.push(bound, ticket),
                Arriving::Filtered(reason, ticket) => ended.push((ticket, Outcome::Filtered(reason))),
                Arriving::Dead(pending_letter) => pending_letters.push(*pending_letter),
            }
        }
        self.settlement.end(ended).await;
        self.settlement.store_dead_letters(&mut self.jobs, "".into(), pending_letters);
    }

    fn push(&mut self, bound: Bound, ticket: Ticket) {
        let topic = bound.topic.clone();
        let (slot, since) = (bound.slot, self.parts.clock.monotonic());
        let waiting = WaitingMessage { ticket, slot, message: bound.message, since };
        self.due.mark(&topic);
        let table = || self.parts.tables.topics.get(&*topic).cloned();
        let lanes = self.topics.entry(topic.clone());
        lanes.or_insert_with(|| TopicLanes::new(topic.clone(), table(), false)).push(waiting);
    }

    /// Looks at the topics to which something has happened or whose time has come; at all, when something else may be done
    /// than before.
    fn start_what_can_start(&mut self) {
        let permitted = self.permissions();
        if std::mem::replace(&mut self.permitted, permitted) != permitted {
            self.topics.keys().for_each(|topic| self.due.mark(topic));
        }
        let now = self.parts.clock.monotonic();
        for topic in self.due.take(now) {
            self.start_of(&topic, now);
        }
    }

    fn permissions(&self) -> Permissions {
        let taken_over = self.parts.sending.taken_over.load(Ordering::Relaxed);
        let ask = !self.is_held() && self.parts.lease.is_held();
        let send = ask && !taken_over;
        let write = send && !self.spool_state.is_poisoned();
        Permissions { ask, send, write, read: self.open }
    }

    /// Starts what that topic has to do, and notes when it has to be looked at again.
    fn start_of(&mut self, topic: &Arc<str>, now: Duration) {
        let Some(lanes) = self.topics.get_mut(topic) else { return };
        let (permitted, jobs, sending) = (self.permitted, &mut self.jobs, &self.parts.sending);
        let mut limits = self.parts.limits;
        lanes.settle_down();
        // Also after a takeover: it was on its way before, or it is in the spool and therefore ours.
        while let Some(ready) = lanes.next_aside() {
            send(jobs, sending, topic, ready);
        }
        if !lanes.is_known() && !lanes.lookup_running && permitted.ask {
            lanes.lookup_running = true;
            self.asking += 1;
            jobs.start(look_up(sending.clone(), topic.clone(), lanes.lookup_retry.take()));
        }
        while let Some(ready) = permitted.send.then(|| lanes.next_ready(limits, now)).flatten() {
            send(jobs, sending, topic, ready);
        }
        let spool = self.parts.spool.as_ref();
        while let Some(spool) = spool.filter(|_| permitted.write)
            && let Some(job) = lanes.next_write(now, spool.after)
        {
            let (topic, lane_index) = (topic.clone(), job.lane_index);
            let writing = spool.overflow.append(topic.clone(), job.messages, job.lent, job.share_of_topic);
            jobs.start(async move { Finished::Wrote { topic, lane_index, answer: writing.await } });
        }
        while let Some(spool) = spool.filter(|_| permitted.read)
            && let Some(job) = lanes.next_read(now)
        {
            let (topic, lane_index) = (topic.clone(), job.lane_index);
            let reading = spool.overflow.take(topic.clone(), job.slots, limits.messages, limits.bytes);
            jobs.start(async move { Finished::Read { topic, lane_index, answer: reading.await } });
        }
        // A time at which nothing could be done would end the wait at once, again and again.
        let after = spool.filter(|_| permitted.write).map(|spool| spool.after);
        if !permitted.send {
            limits.linger = Duration::ZERO;
        }
        self.due.wait(topic, lanes.next_due(limits, after, permitted.read));
    }

    /// The lanes of a topic to which something has happened.
    fn touch(&mut self, topic: &Arc<str>) -> Option<&mut TopicLanes> {
        self.due.mark(topic);
        self.topics.get_mut(topic)
    }

    async fn finish(&mut self, finished: Result<Finished, Died>) {
        match finished {
            Ok(Finished::Batch { topic, lane_index, ends }) => {
                let lanes = self.touch(&topic);
                if let Some(finished) = lanes.and_then(|lanes| lanes.finish_batch(lane_index, ends)) {
                    self.settlement.batch_ended(&mut self.jobs, topic, finished).await;
                }
            }
            Ok(Finished::Lookup { topic, answer, retry }) => {
                self.asking -= 1;
                match (answer, self.touch(&topic)) {
                    (Ok(queues), _) => self.write_down(topic, queues),
                    (Err(cause), Some(lanes)) => {
                        lanes.lookup_running = false;
                        lanes.lookup_retry = Some(retry);
                        lanes.lookup_cause = Some(cause);
                    }
                    (Err(_), None) => {}
                }
            }
            Ok(Finished::TablesWritten(tables)) => {
                self.asking -= 1;
                self.is_saving = false;
                for (topic, table) in tables {
                    self.assign_queues(&topic, table);
                }
                self.save_new_tables();
            }
            Ok(Finished::Wrote { topic, lane_index, answer }) => {
                self.finish_spool_write(topic, lane_index, answer).await
            }
            Ok(Finished::Read { topic, lane_index, answer }) => self.read(&topic, lane_index, answer),
            Ok(Finished::Removed) => {
                self.spool_state.rows_left();
                self.ask_for_room();
            }
            Ok(Finished::Room(answer)) => self.spool_state.room_answered(answer),
            Ok(Finished::DeadLettersStored { topic, pending_letters }) => {
                self.settlement.dead_letters_stored(&mut self.jobs, topic, pending_letters).await;
            }
            // Its messages get no end here and its lane stays busy. They are not acknowledged, so they are not lost.
            Err(Died(words)) => {
                self.crippled = true;
                (self.parts.job_died)(&format!("a job of the pipeline died: {words}"));
            }
        }
    }

    /// Until the disk has the table, the topic's messages wait, and topics that are known do not.
    fn write_down(&mut self, topic: Arc<str>, queues: Vec<QueueName>) {
        let table = TopicQueues::first(queues);
        self.parts.tables.topics.insert(topic.to_string(), table.clone());
        self.new_tables.push((topic, table));
        self.save_new_tables();
    }

    /// All new tables in one write, one write at a time: each write holds every topic, and a first start may find a thousand.
    fn save_new_tables(&mut self) {
        if self.is_saving || self.new_tables.is_empty() {
            return;
        }
        self.is_saving = true;
        self.asking += 1;
        let tables = std::mem::take(&mut self.new_tables);
        let saving = (self.parts.save_tables)(&self.parts.tables);
        self.jobs.start(async move {
            saving.await;
            Finished::TablesWritten(tables)
        });
    }

    fn assign_queues(&mut self, topic: &Arc<str>, table: TopicQueues) {
        tracing::info!(topic = %topic, queues = table.queues().len(), "the topic's queues are known");
        if let Some(lanes) = self.touch(topic) {
            lanes.lookup_running = false;
            lanes.lookup_cause = None;
            lanes.assign_queues(table);
        }
    }

    async fn finish_spool_write(
        &mut self,
        topic: Arc<str>,
        lane_index: usize,
        answer: Result<Appended, SpoolError>,
    ) {
        let now = self.parts.clock.monotonic();
        let Some(lanes) = self.touch(&topic) else { return };
        let written = lanes.written(lane_index, answer.as_ref(), now);
        let reason = lanes.lookup_cause.map_or(DeadReason::NoPermission, dead_reason);
        if let Ok(appended) = &answer {
            self.settlement.given_up_in_the_spool(DropReason::SpoolFull, appended.dropped_oldest);
        }
        self.spool_state.note(answer.map(|_| ()));
        self.settlement.write_ended(&mut self.jobs, topic, written, reason).await;
    }

    fn read(&mut self, topic: &Arc<str>, lane_index: usize, answer: Result<Taken, SpoolError>) {
        match &answer {
            Ok(taken) => {
                self.settlement.given_up_in_the_spool(DropReason::SpoolDamaged, taken.damaged);
                self.settlement.given_up_in_the_spool(DropReason::SpoolExpired, taken.expired);
            }
            Err(error) => self.spool_state.note(Err(error.clone())),
        }
        let now = self.parts.clock.monotonic();
        let lanes = self.touch(topic);
        if let Some(ready) = lanes.and_then(|lanes| lanes.read(lane_index, answer, now)) {
            send(&mut self.jobs, &self.parts.sending, topic, ready);
        }
    }

    /// Where nothing is written any more, no answer would say that the spool has room again.
    fn ask_for_room(&mut self) {
        if let Some(asking) = self.spool_state.ask() {
            self.jobs.start(async { Finished::Room(asking.await) });
        }
    }

    async fn link_changed(&mut self) {
        let link = *self.parts.link.borrow_and_update();
        self.parts.sending.taken_over.store(link == LinkState::TakenOver, Ordering::Relaxed);
        match link {
            LinkState::Up => {
                if self.held_until.take().is_some() {
                    let now = self.parts.clock.monotonic();
                    for (topic, lanes) in &mut self.topics {
                        lanes.restart_timers(now);
                        self.due.mark(topic);
                    }
                }
            }
            LinkState::Down => self.held_until = Some(self.parts.clock.monotonic() + HOLD_AFTER_LINK_LOSS),
            LinkState::TakenOver => {
                self.held_until = None;
                let tickets = self.topics.values_mut().flat_map(TopicLanes::abandon).collect();
                self.settlement.give_up(tickets).await;
            }
        }
    }

    fn is_held(&self) -> bool {
        self.held_until.is_some_and(|until| self.parts.clock.monotonic() < until)
    }

    fn next_due(&self) -> Option<Duration> {
        let held_until = self.held_until.filter(|_| self.is_held());
        [held_until, self.due.next()].into_iter().flatten().min()
    }

    /// What is left belongs to a job that has died. To wait for the deadline of the stop would end none of it.
    fn nothing_more_can_end(&self, due: Option<Duration>) -> bool {
        self.crippled && !self.open && due.is_none() && self.jobs.len() == 0
    }

    fn is_idle(&self) -> bool {
        // A topic whose queues are still asked for keeps nobody here if nothing waits for it.
        self.jobs.len() == self.asking && self.topics.values().all(TopicLanes::is_idle)
    }
}

/// Sends a batch until each of its messages has ended.
fn send(jobs: &mut Jobs, sending: &Arc<Sending>, topic: &Arc<str>, ready: ReadyBatch) {
    sending.metrics.batch_messages(ready.batch.messages.len());
    let (sending, topic, lane_index) = (sending.clone(), topic.clone(), ready.lane_index);
    jobs.start(async move {
        let ends = sending.until_ended(ready.batch, &ready.slots, ready.alone, &ready.progress).await;
        Finished::Batch { topic, lane_index, ends }
    });
}

#[cfg(test)]
mod tests;
