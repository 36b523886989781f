//! How a lane goes through the spool: when it writes, when it reads, and when it may send directly again.
//!
//! Promises: a lane writes strictly oldest first, the batch in flight included (no row while an older message of the
//! lane is neither ended nor written); what was written is read back and sent before anything newer of the lane; one
//! write and one read at a time for each queue.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::attempts::{Ends, is_of_one_topic};
use super::lanes::{BatchLimits, InFlightBatch, QueueLane, ReadyBatch, TopicLanes, WaitingMessage};
use super::ticket::Ticket;
use crate::model::OutgoingMessage;
use crate::spool::{Appended, Row, SpoolError, SpoolMessage, Taken};

/// Bounds of one write; the batch in flight comes on top.
const WRITE_MESSAGES: usize = 4096;
const WRITE_BYTES: usize = 8 << 20;
/// A refused write is tried again after that time, and so is a failed read.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Marks a message that went through the spool.
const SPOOLED: (&str, &str) = ("rbSpooled", "true");

/// A write that is on its way.
#[derive(Debug)]
pub(super) struct SpoolWrite {
    /// So many messages of the batch in flight are in it, all or none.
    pub of_batch: usize,
    /// The others, in order; they are given back if the write is refused.
    waiting: Vec<WaitingMessage>,
}

/// What to write.
#[derive(Debug)]
pub(super) struct SpoolWriteJob {
    pub queue_index: usize,
    pub topic: Arc<str>,
    pub messages: Vec<SpoolMessage>,
    pub lent: usize,
    pub share_of_topic: bool,
}

/// What to read.
#[derive(Debug)]
pub(super) struct SpoolReadJob {
    pub queue_index: usize,
    pub topic: Arc<str>,
    pub slots: Vec<u8>,
}

/// What came of a write.
#[derive(Debug, Default)]
pub(super) struct WriteResult {
    pub spooled: Vec<Ticket>,
    /// The spool is full and drops the newest.
    pub dropped: Vec<Ticket>,
    /// The topic's share is used up, for a cause that is the topic's own.
    pub dead: Vec<(OutgoingMessage, Ticket)>,
    /// The batch had ended while it was being written.
    pub finished_batch: Option<(InFlightBatch, Ends)>,
}

impl TopicLanes {
    /// A lane whose rows are all read and sent sends directly again.
    pub(super) fn resume_direct_sends(&mut self) {
        for lane in &mut self.lanes {
            if lane.spills && !lane.unread && !lane.reads && lane.write.is_none() && lane.in_flight.is_none()
            {
                lane.spills = false;
            }
        }
    }

    /// The next write that is due. `after`: how long a message may wait in memory.
    pub(super) fn next_write(&mut self, now: Duration, after: Duration) -> Option<SpoolWriteJob> {
        let (topic, lookup_cause) = (self.topic.clone(), self.lookup_cause);
        let (queue_index, lane) = self
            .lanes
            .iter_mut()
            .enumerate()
            .find(|(_, lane)| lane.write_due(after).is_some_and(|due| due <= now))?;
        lane.spills = true;
        let flight = lane.unwritten_batch();
        let mut messages: Vec<SpoolMessage> = flight.map_or_else(Vec::new, |flight| {
            let messages = flight.messages.iter().zip(&flight.batch.messages);
            messages.map(|(held, message)| spooled(held.slot, held.kind, message)).collect()
        });
        let cause = lane.in_flight.as_ref().map_or(lookup_cause, |flight| flight.progress.cause());
        let lent = messages.len();
        let waiting = lane.take_waiting();
        messages.extend(
            waiting.iter().map(|waiting| spooled(waiting.slot, waiting.ticket.kind, &waiting.message)),
        );
        lane.write = Some(SpoolWrite { of_batch: lent, waiting });
        Some(SpoolWriteJob {
            queue_index,
            topic,
            messages,
            lent,
            share_of_topic: cause.is_some_and(is_of_one_topic),
        })
    }

    pub(super) fn written(
        &mut self,
        queue_index: usize,
        answer: Result<&Appended, &SpoolError>,
        now: Duration,
    ) -> WriteResult {
        let mut written = WriteResult::default();
        let Some(lane) = self.lanes.get_mut(queue_index) else {
            return written;
        };
        let Some(write) = lane.write.take() else {
            return written;
        };
        match answer {
            Ok(appended) => lane.note_rows(write, &appended.rows, &mut written),
            Err(SpoolError::TopicShare) => {
                let dead = write.waiting.into_iter();
                written.dead.extend(dead.map(|waiting| (waiting.message, waiting.ticket)));
                if let Some(flight) = lane.in_flight.as_ref().filter(|_| write.of_batch > 0) {
                    flight.progress.give_up();
                }
            }
            Err(SpoolError::Full(_) | SpoolError::Poisoned(_)) => {
                lane.write_at = now + AGAIN_AFTER;
                for waiting in write.waiting.into_iter().rev() {
                    lane.waiting.push_front(waiting);
                }
            }
        }
        let ends = lane.in_flight.as_mut().and_then(|flight| flight.ends.take());
        written.finished_batch = ends.and_then(|ends| self.end_batch(queue_index, ends));
        self.assign_queues_if_due();
        written
    }

    /// The next read that is due.
    pub(super) fn next_read(&mut self, now: Duration) -> Option<SpoolReadJob> {
        let topic = self.topic.clone();
        let mut lanes = self.lanes.iter_mut().enumerate();
        let (queue_index, lane) = lanes.find(|(_, lane)| lane.may_read() && lane.read_at <= now)?;
        lane.reads = true;
        let slots = lane.slots.clone();
        Some(SpoolReadJob { queue_index, topic, slots })
    }

    /// Rows came back, or nothing; a batch of them may leave.
    pub(super) fn read(
        &mut self,
        queue_index: usize,
        answer: Result<Taken, SpoolError>,
        now: Duration,
    ) -> Option<ReadyBatch> {
        let lane = self.lanes.get_mut(queue_index)?;
        lane.reads = false;
        match answer {
            Ok(taken) => {
                // The file was read before a write that was answered meanwhile, perhaps.
                lane.unread = taken.more || std::mem::take(&mut lane.wrote_while_reading);
                if taken.rows.is_empty() {
                    return None;
                }
                self.begin_batch(queue_index, taken.rows)
            }
            Err(_) => {
                lane.read_at = now + AGAIN_AFTER;
                None
            }
        }
    }

    /// When something of this topic becomes due that no event announces.
    pub(super) fn next_due(
        &self,
        limits: BatchLimits,
        spool_after: Option<Duration>,
        reading: bool,
    ) -> Option<Duration> {
        let due = |lane: &QueueLane| {
            let linger = lane
                .waiting
                .front()
                .filter(|_| {
                    lane.queue.is_some()
                        && lane.in_flight.is_none()
                        && !lane.spills
                        && !limits.linger.is_zero()
                })
                .map(|oldest| oldest.since + limits.linger);
            let write = spool_after.and_then(|after| lane.write_due(after));
            let read = (reading && lane.may_read()).then_some(lane.read_at);
            [linger, write, read].into_iter().flatten().min()
        };
        self.lanes.iter().filter_map(due).min()
    }
}

impl QueueLane {
    /// Of the messages that are in memory only: when the oldest has waited too long. What comes behind rows that were
    /// not read yet does not wait at all.
    fn write_due(&self, after: Duration) -> Option<Duration> {
        if self.write.is_some() {
            return None;
        }
        let flight = self.unwritten_batch().map(|flight| flight.since);
        let oldest = flight.or_else(|| self.waiting.front().map(|oldest| oldest.since))?;
        let wait = if self.spills && self.unread { Duration::ZERO } else { after };
        Some((oldest + wait).max(self.write_at))
    }

    fn may_read(&self) -> bool {
        self.spills && self.unread && !self.reads && self.in_flight.is_none() && self.queue.is_some()
    }

    fn unwritten_batch(&self) -> Option<&InFlightBatch> {
        self.in_flight.as_ref().filter(|flight| !flight.progress.is_spooled())
    }

    fn take_waiting(&mut self) -> Vec<WaitingMessage> {
        let (mut count, mut bytes) = (0, 0);
        for waiting in &self.waiting {
            bytes += waiting.message.encoded_bytes();
            if count >= WRITE_MESSAGES || (bytes > WRITE_BYTES && count > 0) {
                break;
            }
            count += 1;
        }
        self.waiting.drain(..count).collect()
    }

    fn note_rows(&mut self, write: SpoolWrite, rows: &[Row], written: &mut WriteResult) {
        let (of_flight, of_waiting) = rows.split_at(write.of_batch.min(rows.len()));
        if let Some(flight) = self.in_flight.as_mut().filter(|_| write.of_batch > 0) {
            for (held, row) in flight.messages.iter_mut().zip(of_flight) {
                match row {
                    Row::Written(row) => {
                        held.row = Some(*row);
                        written.spooled.extend(held.ticket.take());
                    }
                    // Its end is told now; that it is on its way still, and may be stored, is no second one.
                    Row::Dropped => written.dropped.extend(held.ticket.take()),
                }
            }
            flight.progress.set_spooled();
        }
        for (waiting, row) in write.waiting.into_iter().zip(of_waiting) {
            match row {
                Row::Written(_) => {
                    self.unread = true;
                    self.wrote_while_reading = self.reads;
                    written.spooled.push(waiting.ticket);
                }
                Row::Dropped => written.dropped.push(waiting.ticket),
            }
        }
    }
}

fn spooled(slot: u8, kind: crate::model::Kind, message: &OutgoingMessage) -> SpoolMessage {
    let mut message = message.clone();
    let (name, value) = SPOOLED;
    if message.property(name).is_none() {
        message.properties.push((Cow::Borrowed(name), value.to_owned()));
    }
    SpoolMessage { slot, kind, message }
}
