//! The lanes of one topic: each slot of order keys belongs to one message queue, and each queue has one lane. A slot whose
//! message RocketMQ keeps refusing leaves its queue's lane for a lane of its own, so that the queue's other rooms go on; it
//! comes back when nothing of it waits behind a refusal any more.
//!
//! Promises: a slot belongs to one lane at a time; within the slot nothing overtakes anything, neither on the way out nor on
//! the way back.

use std::sync::Arc;
use std::time::Duration;

use super::batch::{BatchLimits, Ends, InFlightBatch, ReadyBatch, WaitingMessage};
use super::causes::is_of_one_topic;
use super::lane::{QueueLane, WriteResult};
use super::retry::Retry;
use super::ticket::Ticket;
use crate::data_dir::{SLOTS, TopicQueues};
use crate::model::FailureKind;
use crate::spool::{Appended, SpoolError, SpoolMessage, Taken};

/// What to write.
#[derive(Debug)]
pub(super) struct SpoolWriteJob {
    pub lane_index: usize,
    pub messages: Vec<SpoolMessage>,
    /// So many of the first are in the batch in flight.
    pub lent: usize,
    pub share_of_topic: bool,
}

/// What to read.
#[derive(Debug)]
pub(super) struct SpoolReadJob {
    pub lane_index: usize,
    pub slots: Vec<u8>,
}

/// All lanes of one topic.
#[derive(Debug)]
pub(crate) struct TopicLanes {
    pub topic: Arc<str>,
    /// First those of the topic's queues, then those of slots that stepped aside; one for all slots while the queues are not known.
    lanes: Vec<QueueLane>,
    /// Slots to queues, once it is known.
    table: Option<TopicQueues>,
    /// Became known while a write was on its way.
    next_table: Option<TopicQueues>,
    /// How many of the lanes belong to queues. 0 while the queues are not known.
    queues: usize,
    pub lookup_running: bool,
    pub(super) lookup_retry: Option<Retry>,
    /// Why the queues are not known, if they are not.
    pub lookup_cause: Option<FailureKind>,
}

impl TopicLanes {
    /// `has_rows`: the spool may have rows of this topic.
    pub(crate) fn new(topic: Arc<str>, table: Option<TopicQueues>, has_rows: bool) -> Self {
        let all = (0..SLOTS).filter_map(|slot| u8::try_from(slot).ok()).collect();
        let mut lanes = Self {
            topic,
            lanes: vec![QueueLane::new(None, all, has_rows)],
            table: None,
            next_table: None,
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
        self.table.is_some() || self.next_table.is_some()
    }

    /// The topic's queues became known: what waited goes to its lanes, in order.
    pub(crate) fn assign_queues(&mut self, table: TopicQueues) {
        let Some(unknown) = self.lanes.first_mut().filter(|_| self.table.is_none()) else {
            return;
        };
        if unknown.is_writing() {
            self.next_table = Some(table);
            return;
        }
        let (waiting, has_rows) = (unknown.take_waiting(), unknown.has_rows());
        let queues = table.queues();
        let mut slots = vec![Vec::new(); queues.len()];
        for slot in 0..=u8::MAX {
            if let Some(slots) = slots.get_mut(table.queue_of_slot(slot)) {
                slots.push(slot);
            }
        }
        let lanes = queues.into_iter().zip(slots);
        self.lanes = lanes.map(|(queue, slots)| QueueLane::new(Some(queue), slots, has_rows)).collect();
        self.queues = self.lanes.len();
        self.table = Some(table);
        for waiting in waiting {
            self.push(waiting);
        }
    }

    pub(crate) fn push(&mut self, waiting: WaitingMessage) {
        let index = self.lane_of_slot(waiting.slot);
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.push(waiting);
        }
    }

    /// Takes everything that waits and is not in flight.
    pub(crate) fn abandon(&mut self) -> Vec<Ticket> {
        let waiting = self.lanes.iter_mut().flat_map(QueueLane::take_waiting);
        waiting.map(|waiting| waiting.ticket).collect()
    }

    /// Waiting counts from now: while the link was down nothing was meant to leave.
    pub(crate) fn restart_timers(&mut self, now: Duration) {
        self.lanes.iter_mut().for_each(|lane| lane.restart_timers(now));
    }

    /// Nothing of it waits for its end, in memory or on its way to the disk.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.iter().all(QueueLane::is_idle)
    }

    /// When something of this topic becomes due that no event announces.
    pub(super) fn next_due(
        &self,
        limits: BatchLimits,
        spool_after: Option<Duration>,
        reading: bool,
    ) -> Option<Duration> {
        self.lanes.iter().filter_map(|lane| lane.next_due(limits, spool_after, reading)).min()
    }

    // === Sending ===

    /// Lanes that have nothing in the spool any more send directly again, and slots that stepped aside go back to the lane of
    /// their queue when nothing of them is in flight or on the disk.
    pub(super) fn settle_down(&mut self) {
        self.lanes.iter_mut().for_each(QueueLane::resume_direct_sends);
        let Some(table) = &self.table else { return };
        for index in self.queues..self.lanes.len() {
            let Some(aside) = self.lanes.get_mut(index).filter(|lane| lane.is_at_rest()) else {
                continue;
            };
            let Some(slot) = aside.slots.pop() else { continue };
            let waiting = aside.take_waiting();
            if let Some(main) = self.lanes.get_mut(table.queue_of_slot(slot)) {
                main.slots.push(slot);
                waiting.into_iter().for_each(|waiting| main.push(waiting));
            }
        }
    }

    /// The next batch that may leave now; its lane is busy until [`Self::finish_batch`].
    pub(crate) fn next_ready(&mut self, limits: BatchLimits, now: Duration) -> Option<ReadyBatch> {
        let mut lanes = self.lanes.iter_mut().enumerate();
        lanes.find_map(|(index, lane)| lane.next_direct(index, &self.topic, limits, now))
    }

    /// What stepped aside and is to be sent again.
    pub(super) fn next_aside(&mut self) -> Option<ReadyBatch> {
        self.lanes.iter_mut().enumerate().find_map(|(index, lane)| lane.next_aside(index))
    }

    /// The attempts for that lane's batch are over. Gives back what has ended of it, unless a write to the spool that holds it is
    /// still on its way.
    pub(crate) fn finish_batch(&mut self, lane_index: usize, ends: Ends) -> Option<(InFlightBatch, Ends)> {
        let (in_flight, ends) = self.lanes.get_mut(lane_index)?.finish_batch(ends)?;
        Some(self.set_aside_what_is_refused(lane_index, in_flight, ends))
    }

    fn set_aside_what_is_refused(
        &mut self,
        lane_index: usize,
        in_flight: InFlightBatch,
        ends: Ends,
    ) -> (InFlightBatch, Ends) {
        let (ended, ends, aside) = in_flight.split_aside(ends);
        for (slot, in_flight) in aside {
            self.set_aside(lane_index, slot, in_flight);
        }
        (ended, ends)
    }

    fn set_aside(&mut self, lane_index: usize, slot: u8, in_flight: InFlightBatch) {
        let Some(lane) = self.lanes.get_mut(lane_index) else {
            return;
        };
        let aside = lane.give_slot(slot, in_flight);
        tracing::debug!(topic = %self.topic, slot, "a slot waits by itself, because RocketMQ refuses a message of it");
        match self.lanes.iter_mut().skip(self.queues).find(|lane| lane.slots.is_empty()) {
            Some(free) => *free = aside,
            None => self.lanes.push(aside),
        }
    }

    fn lane_of_slot(&self, slot: u8) -> usize {
        let Some(table) = &self.table else { return 0 };
        let asides = self.lanes.iter().enumerate().skip(self.queues);
        let mut aside = asides.filter(|(_, lane)| lane.slots.contains(&slot)).map(|(index, _)| index);
        aside.next().unwrap_or_else(|| table.queue_of_slot(slot))
    }

    // === The spool ===

    /// The next write that is due. `after`: how long a message may wait in memory.
    pub(super) fn next_write(&mut self, now: Duration, after: Duration) -> Option<SpoolWriteJob> {
        let mut lanes = self.lanes.iter_mut().enumerate();
        let (lane_index, lane) =
            lanes.find(|(_, lane)| lane.write_due(after).is_some_and(|due| due <= now))?;
        let cause = lane.in_flight().map_or(self.lookup_cause, |in_flight| in_flight.progress.cause());
        let (messages, lent) = lane.begin_write();
        let share_of_topic = cause.is_some_and(is_of_one_topic);
        Some(SpoolWriteJob { lane_index, messages, lent, share_of_topic })
    }

    pub(super) fn written(
        &mut self,
        lane_index: usize,
        answer: Result<&Appended, &SpoolError>,
        now: Duration,
    ) -> WriteResult {
        let Some(lane) = self.lanes.get_mut(lane_index) else {
            return WriteResult::default();
        };
        let mut result = lane.end_write(answer, now);
        let finished = result.finished_batch.take();
        result.finished_batch =
            finished.map(|(in_flight, ends)| self.set_aside_what_is_refused(lane_index, in_flight, ends));
        if let Some(table) = self.next_table.take() {
            self.assign_queues(table);
        }
        result
    }

    /// The next read that is due.
    pub(super) fn next_read(&mut self, now: Duration) -> Option<SpoolReadJob> {
        let mut lanes = self.lanes.iter_mut().enumerate();
        let (lane_index, lane) = lanes.find(|(_, lane)| lane.read_due().is_some_and(|due| due <= now))?;
        lane.begin_read();
        Some(SpoolReadJob { lane_index, slots: lane.slots.clone() })
    }

    /// Rows came back, or nothing; a batch of them may leave.
    pub(super) fn read(
        &mut self,
        lane_index: usize,
        answer: Result<Taken, SpoolError>,
        now: Duration,
    ) -> Option<ReadyBatch> {
        self.lanes.get_mut(lane_index)?.end_read(lane_index, &self.topic, answer, now)
    }
}

#[cfg(test)]
mod tests;
