//! The lanes of one topic: each slot of order keys belongs to one message queue, each queue sends one batch at a
//! time, and whatever gathers meanwhile is the next batch. A queue that is stuck writes to the spool, oldest first and the
//! batch in flight included; while it may have rows there, everything newer goes behind them.
//!
//! Bounds: what waits here is counted by the intake.
//! Must never: let a message overtake an older one of its slot, in memory or on the disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::attempts::{BatchProgress, End, Ends};
use super::ports::{Batch, OutgoingMessage};
use super::retry::Retry;
use super::spill::SpoolWrite;
use super::ticket::Ticket;
use crate::data_dir::{SLOTS, TopicQueues};
use crate::model::{FailureKind, Kind, QueueName};
use crate::spool::{RowKey, SpoolMessage};

/// When a batch leaves.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    pub messages: usize,
    /// Bodies and properties together; a single larger message still leaves, alone.
    pub bytes: usize,
    /// How long a batch that is not full waits for more.
    pub linger: Duration,
}

/// One message in its lane.
#[derive(Debug)]
pub(crate) struct WaitingMessage {
    pub message: OutgoingMessage,
    pub ticket: Ticket,
    pub slot: u8,
    /// Monotonic time at which it came into the lane.
    pub since: Duration,
}

/// What is known of one message of a batch in flight, beside its bytes.
#[derive(Debug)]
pub(crate) struct InFlightMessage {
    pub slot: u8,
    pub kind: Kind,
    /// Taken when its receipt has ended.
    pub ticket: Option<Ticket>,
    /// Its place in the spool, to be removed when the message has ended.
    pub row: Option<RowKey>,
}

/// One frozen batch on its way.
#[derive(Debug)]
pub(crate) struct InFlightBatch {
    pub batch: Arc<Batch>,
    pub messages: Vec<InFlightMessage>,
    pub progress: Arc<BatchProgress>,
    /// When its oldest message came into the lane.
    pub(super) since: Duration,
    /// The ends, while a write to the spool is not answered yet that holds this batch, or what goes with it.
    pub(super) ends: Option<Ends>,
    /// It stepped aside and has a lane of its own now, but nobody sends it yet.
    pub(super) rests: bool,
}

/// A batch that is ready to leave.
#[derive(Debug)]
pub(crate) struct ReadyBatch {
    pub queue_index: usize,
    pub batch: Arc<Batch>,
    /// Of its messages.
    pub slots: Vec<u8>,
    /// The lane has one slot only.
    pub alone: bool,
    pub progress: Arc<BatchProgress>,
}

/// One queue of the topic and the slots that lead to it; or all slots, while the topic's queues are not known.
#[derive(Debug)]
pub(super) struct QueueLane {
    pub queue: Option<QueueName>,
    pub slots: Vec<u8>,
    pub waiting: VecDeque<WaitingMessage>,
    pub in_flight: Option<InFlightBatch>,
    /// There may be rows of ours in the spool, so everything goes behind them.
    pub spills: bool,
    /// There may be rows that were not read yet.
    pub unread: bool,
    /// A write is on its way, with the batch in flight or without.
    pub write: Option<SpoolWrite>,
    pub reads: bool,
    /// A write was answered while a read was on its way, which may not have seen its rows.
    pub wrote_while_reading: bool,
    /// After a refused write, or a failed read: not before this time.
    pub write_at: Duration,
    pub read_at: Duration,
}

/// All lanes of one topic.
#[derive(Debug)]
pub(crate) struct TopicLanes {
    pub topic: Arc<str>,
    pub(super) lanes: Vec<QueueLane>,
    is_known: bool,
    /// Became known while a write was on its way.
    next_table: Option<TopicQueues>,
    pub(super) table: Option<TopicQueues>,
    /// How many of the lanes belong to queues; what is behind them stepped aside. 0 while the queues are not known.
    pub(super) queues: usize,
    pub lookup_running: bool,
    pub(super) lookup_retry: Option<Retry>,
    /// Why the queues are not known, if they are not.
    pub lookup_cause: Option<FailureKind>,
}

impl TopicLanes {
    /// `spills`: the spool may have rows of this topic.
    pub(crate) fn new(topic: Arc<str>, table: Option<TopicQueues>, spills: bool) -> Self {
        let all = (0..SLOTS).filter_map(|slot| u8::try_from(slot).ok()).collect();
        let mut lanes = Self {
            topic,
            lanes: vec![QueueLane::new(None, all, spills)],
            is_known: false,
            next_table: None,
            table: None,
            queues: 0,
            lookup_running: false,
            lookup_retry: None,
            lookup_cause: None,
        };
        if let Some(table) = table {
            lanes.assign_queues(table);
        }
        lanes
    }

    pub(crate) fn is_known(&self) -> bool {
        self.is_known || self.next_table.is_some()
    }

    /// The topic's queues became known: what waited goes to its lanes, in order.
    pub(crate) fn assign_queues(&mut self, table: TopicQueues) {
        let Some(unknown) = self.lanes.first_mut().filter(|_| !self.is_known) else {
            return;
        };
        if unknown.write.is_some() {
            self.next_table = Some(table);
            return;
        }
        let waiting = std::mem::take(&mut unknown.waiting);
        let spills = unknown.spills;
        let queues = table.queues();
        let mut slots = vec![Vec::new(); queues.len()];
        for slot in 0..=u8::MAX {
            if let Some(slots) = slots.get_mut(table.queue_of_slot(slot)) {
                slots.push(slot);
            }
        }
        self.lanes = queues
            .into_iter()
            .zip(slots)
            .map(|(queue, slots)| QueueLane::new(Some(queue), slots, spills))
            .collect();
        self.table = Some(table);
        self.queues = self.lanes.len();
        self.is_known = true;
        for waiting in waiting {
            self.push(waiting);
        }
    }

    /// After a write has been answered.
    pub(super) fn assign_queues_if_due(&mut self) {
        if let Some(table) = self.next_table.take() {
            self.assign_queues(table);
        }
    }

    pub(crate) fn push(&mut self, waiting: WaitingMessage) {
        let index = self.lane_of_slot(waiting.slot);
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.waiting.push_back(waiting);
        }
    }

    /// The batch of that queue has ended, unless a write to the spool that holds it is still on its way.
    pub(crate) fn finish_batch(&mut self, queue_index: usize, ends: Ends) -> Option<(InFlightBatch, Ends)> {
        let lane = self.lanes.get_mut(queue_index)?;
        let steps_aside = ends.contains(&End::Aside);
        if lane.write.as_ref().is_some_and(|write| write.of_batch > 0 || steps_aside) {
            if let Some(flight) = &mut lane.in_flight {
                flight.ends = Some(ends);
            }
            return None;
        }
        self.end_batch(queue_index, ends)
    }

    /// The next batch that may leave now, and its queue is busy until [`Self::land`].
    pub(crate) fn next_ready(&mut self, limits: BatchLimits, now: Duration) -> Option<ReadyBatch> {
        let topic = self.topic.clone();
        let (queue_index, lane) = self
            .lanes
            .iter_mut()
            .enumerate()
            .find(|(_, lane)| lane.in_flight.is_none() && !lane.spills && lane.is_due(limits, now))?;
        let queue = lane.queue.clone()?;
        lane.in_flight = Some(lane_batch(topic, queue, &mut lane.waiting, limits));
        lane.ready(queue_index)
    }

    /// Rows came back from the spool.
    pub(super) fn begin_batch(
        &mut self,
        queue_index: usize,
        rows: Vec<(RowKey, SpoolMessage)>,
    ) -> Option<ReadyBatch> {
        let topic = self.topic.clone();
        let lane = self.lanes.get_mut(queue_index)?;
        let queue = lane.queue.clone()?;
        let (mut messages, mut held) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for (row, spooled) in rows {
            messages.push(spooled.message);
            held.push(InFlightMessage {
                slot: spooled.slot,
                kind: spooled.kind,
                ticket: None,
                row: Some(row),
            });
        }
        let batch = Arc::new(Batch { topic, queue, messages });
        lane.in_flight = Some(InFlightBatch {
            batch,
            messages: held,
            progress: Arc::new(BatchProgress::from_spool()),
            since: Duration::ZERO,
            ends: None,
            rests: false,
        });
        lane.ready(queue_index)
    }

    /// Takes everything that waits and is not in flight.
    pub(crate) fn abandon(&mut self) -> Vec<Ticket> {
        let waiting = self.lanes.iter_mut().flat_map(|lane| lane.waiting.drain(..));
        waiting.map(|waiting| waiting.ticket).collect()
    }

    /// Waiting counts from now: while the link was down nothing was meant to leave.
    pub(crate) fn restart_timers(&mut self, now: Duration) {
        for waiting in self.lanes.iter_mut().flat_map(|lane| &mut lane.waiting) {
            waiting.since = now;
        }
    }

    /// Nothing of it waits for its end, in memory or on its way to the disk.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| {
            lane.in_flight.is_none() && lane.waiting.is_empty() && lane.write.is_none() && !lane.reads
        })
    }
}

impl QueueLane {
    pub(super) fn new(queue: Option<QueueName>, slots: Vec<u8>, spills: bool) -> Self {
        Self {
            queue,
            slots,
            waiting: VecDeque::new(),
            in_flight: None,
            spills,
            unread: spills,
            write: None,
            reads: false,
            wrote_while_reading: false,
            write_at: Duration::ZERO,
            read_at: Duration::ZERO,
        }
    }

    /// Its batch in flight, to be sent.
    pub(super) fn ready(&mut self, queue_index: usize) -> Option<ReadyBatch> {
        let alone = self.slots.len() == 1;
        let flight = self.in_flight.as_mut()?;
        flight.rests = false;
        Some(ReadyBatch {
            queue_index,
            batch: flight.batch.clone(),
            slots: flight.messages.iter().map(|held| held.slot).collect(),
            alone,
            progress: flight.progress.clone(),
        })
    }

    fn is_due(&self, limits: BatchLimits, now: Duration) -> bool {
        self.waiting.front().is_some_and(|oldest| {
            self.waiting.len() >= limits.messages || now >= oldest.since + limits.linger
        })
    }
}

fn lane_batch(
    topic: Arc<str>,
    queue: QueueName,
    waiting: &mut VecDeque<WaitingMessage>,
    limits: BatchLimits,
) -> InFlightBatch {
    let count = waiting.len().min(limits.messages);
    let (mut messages, mut held) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let since = waiting.front().map_or(Duration::ZERO, |oldest| oldest.since);
    let mut bytes = 0;
    while messages.len() < limits.messages {
        let Some(next) = waiting.front() else { break };
        bytes += next.message.encoded_bytes();
        if bytes > limits.bytes && !messages.is_empty() {
            break;
        }
        let Some(next) = waiting.pop_front() else { break };
        messages.push(next.message);
        held.push(InFlightMessage {
            slot: next.slot,
            kind: next.ticket.kind,
            ticket: Some(next.ticket),
            row: None,
        });
    }
    let batch = Arc::new(Batch { topic, queue, messages });
    InFlightBatch { batch, messages: held, progress: Arc::default(), since, ends: None, rests: false }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
