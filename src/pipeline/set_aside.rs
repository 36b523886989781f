//! A slot whose message RocketMQ keeps refusing leaves its queue's lane for a lane of its own, so that the queue's other
//! rooms go on; it comes back when nothing of it waits behind a refusal any more.
//!
//! Promises: within the slot nothing overtakes anything, neither on the way out nor on the way back.

use std::sync::Arc;

use super::attempts::{BatchProgress, End, Ends};
use super::lanes::{InFlightBatch, InFlightMessage, QueueLane, ReadyBatch, TopicLanes};
use super::ports::{Batch, OutgoingMessage};

impl TopicLanes {
    /// The batch in flight has ended, but for what steps aside. What was kept in the spool for the next process still comes
    /// before everything newer.
    pub(super) fn end_batch(&mut self, queue_index: usize, ends: Ends) -> Option<(InFlightBatch, Ends)> {
        let lane = self.lanes.get_mut(queue_index)?;
        let flight = lane.in_flight.take()?;
        lane.unread |= ends.contains(&End::Kept);
        if !ends.contains(&End::Aside) {
            return Some((flight, ends));
        }
        let (batch, progress, since) = (flight.batch, flight.progress, flight.since);
        let of =
            |(held, messages): (Vec<InFlightMessage>, Vec<OutgoingMessage>), progress, rests| InFlightBatch {
                batch: Arc::new(Batch { topic: batch.topic.clone(), queue: batch.queue.clone(), messages }),
                messages: held,
                progress,
                since,
                ends: None,
                rests,
            };
        let each = flight.messages.into_iter().zip(batch.messages.iter().cloned()).zip(ends);
        let (aside, ended): (Vec<_>, Vec<_>) = each.partition(|(_, end)| *end == End::Aside);
        let mut left: Vec<_> = aside.into_iter().map(|(message, _)| message).collect();
        while let Some(slot) = left.first().map(|(held, _)| held.slot) {
            let (of_slot, others): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|(held, _)| held.slot == slot);
            left = others;
            let is_spooled = progress.is_spooled();
            let flight = of(of_slot.into_iter().unzip(), Arc::new(BatchProgress::aside(is_spooled)), true);
            self.set_aside(queue_index, slot, flight);
        }
        let (ended, ends): (Vec<_>, Ends) = ended.into_iter().unzip();
        Some((of(ended.into_iter().unzip(), progress.clone(), false), ends))
    }

    /// What stepped aside and is to be sent again.
    pub(super) fn next_aside(&mut self) -> Option<ReadyBatch> {
        let mut lanes = self.lanes.iter_mut().enumerate();
        let (index, lane) =
            lanes.find(|(_, lane)| lane.in_flight.as_ref().is_some_and(|flight| flight.rests))?;
        lane.ready(index)
    }

    /// Slots with nothing in flight and nothing on the disk go back to the lane of their queue.
    pub(super) fn return_slots(&mut self) {
        let Some(table) = &self.table else { return };
        for index in self.queues..self.lanes.len() {
            let Some(lane) = self.lanes.get_mut(index) else {
                return;
            };
            let Some(slot) = lane.slots.first().copied().filter(|_| lane.is_at_rest()) else {
                continue;
            };
            lane.slots.clear();
            let waiting = std::mem::take(&mut lane.waiting);
            if let Some(main) = self.lanes.get_mut(table.queue_of_slot(slot)) {
                main.slots.push(slot);
                main.waiting.extend(waiting);
            }
        }
    }

    pub(super) fn lane_of_slot(&self, slot: u8) -> usize {
        let Some(table) = &self.table else { return 0 };
        let main = table.queue_of_slot(slot);
        let asides = self.lanes.iter().enumerate().skip(self.queues);
        let aside = asides.map(|(index, lane)| (index, &lane.slots)).find(|(_, slots)| slots.contains(&slot));
        aside.map_or(main, |(index, _)| index)
    }

    /// No write and no read of the lane is on its way.
    fn set_aside(&mut self, queue_index: usize, slot: u8, flight: InFlightBatch) {
        let Some(lane) = self.lanes.get_mut(queue_index) else {
            return;
        };
        lane.slots.retain(|each| *each != slot);
        let (of_slot, others) =
            std::mem::take(&mut lane.waiting).into_iter().partition(|waiting| waiting.slot == slot);
        lane.waiting = others;
        let mut aside = QueueLane::new(lane.queue.clone(), vec![slot], lane.spills);
        (aside.waiting, aside.unread, aside.in_flight) = (of_slot, lane.unread, Some(flight));
        tracing::debug!(topic = %self.topic, slot, "a slot waits by itself, because RocketMQ refuses a message of it");
        match self.lanes.iter_mut().skip(self.queues).find(|lane| lane.slots.is_empty()) {
            Some(free) => *free = aside,
            None => self.lanes.push(aside),
        }
    }
}

impl QueueLane {
    fn is_at_rest(&self) -> bool {
        self.in_flight.is_none() && !self.spills && self.write.is_none() && !self.reads
    }
}
