//! One lane: the messages of some slots on their way to one queue, directly or through the spool. It says when a batch may
//! leave, when messages have to be written to the spool, and when rows are to be read back.
//!
//! Promises: a lane writes strictly oldest first, the batch in flight included: there is no row while an older message of
//! the lane is neither ended nor written. What was written is read back and sent before anything newer of the lane. There is
//! one batch in flight, one write and one read at a time.
//! Bounds: what waits here is counted by the intake.
//! Must never: let a message overtake an older one of its slot, in memory or on the disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::batch::{BatchLimits, BatchStage, End, Ends, InFlightBatch, ReadyBatch, WaitingMessage};
use super::ports::OutgoingMessage;
use super::ticket::Ticket;
use crate::model::{Kind, QueueName};
use crate::spool::{Appended, Row, SpoolError, SpoolMessage, Taken};

/// Bounds of one write; the batch in flight comes on top.
const WRITE_MESSAGES: usize = 4096;
const WRITE_BYTES: usize = 8 << 20;
/// A refused write is tried again after that time, and so is a failed read.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Marks a message that went through the spool.
const SPOOLED: (&str, &str) = ("rbSpooled", "true");

/// Where the lane's rows of the spool are, and thus where the next message goes.
///
/// Two things are no part of it, because neither waits for it or for the other: the batch in flight, which RocketMQ answers,
/// and the write on its way, which the disk answers. Either answer may come first, and in every state but two each of the four
/// combinations occurs: while a read is on its way nothing is in flight, and a lane that sends directly writes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaneState {
    /// The spool has no rows of the lane. Batches leave directly.
    Direct,
    /// The spool may have rows of the lane, but none that is not in flight. What waits leaves after them: directly when the
    /// batch in flight and the write have ended, from the disk if it is written before that.
    AllRead,
    /// The spool may have rows that were not read. They are read when nothing is in flight, but not before this time, and
    /// what waits goes behind them at once.
    Unread { not_before: Duration },
    /// A read is on its way. `wrote_meanwhile`: it may not have seen the rows of a write that was answered since.
    Reading { wrote_meanwhile: bool },
}

/// The lane's one write to the spool.
#[derive(Debug)]
enum WriteState {
    /// After a refusal the next one begins not before this time.
    Idle { not_before: Duration },
    /// On its way.
    Writing {
        /// So many messages of the batch in flight are in it, all or none.
        of_batch: usize,
        /// The others, in order; they are given back if the write is refused.
        waiting: Vec<WaitingMessage>,
    },
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

/// One queue of a topic and the slots that lead to it; or all slots, while the topic's queues are not known.
#[derive(Debug)]
pub(super) struct QueueLane {
    pub queue: Option<QueueName>,
    pub slots: Vec<u8>,
    waiting: VecDeque<WaitingMessage>,
    state: LaneState,
    in_flight: Option<InFlightBatch>,
    write: WriteState,
}

impl QueueLane {
    /// `has_rows`: the spool may have rows of these slots.
    pub(super) fn new(queue: Option<QueueName>, slots: Vec<u8>, has_rows: bool) -> Self {
        let state =
            if has_rows { LaneState::Unread { not_before: Duration::ZERO } } else { LaneState::Direct };
        Self {
            queue,
            slots,
            waiting: VecDeque::new(),
            state,
            in_flight: None,
            write: WriteState::Idle { not_before: Duration::ZERO },
        }
    }

    pub(super) fn push(&mut self, waiting: WaitingMessage) {
        self.waiting.push_back(waiting);
    }

    /// Takes what waits, not what is in flight or being written.
    pub(super) fn take_waiting(&mut self) -> VecDeque<WaitingMessage> {
        std::mem::take(&mut self.waiting)
    }

    /// Waiting counts from now.
    pub(super) fn restart_timers(&mut self, now: Duration) {
        self.waiting.iter_mut().for_each(|waiting| waiting.since = now);
    }

    pub(super) fn in_flight(&self) -> Option<&InFlightBatch> {
        self.in_flight.as_ref()
    }

    pub(super) fn is_writing(&self) -> bool {
        matches!(self.write, WriteState::Writing { .. })
    }

    /// The spool may have rows of the lane.
    pub(super) fn has_rows(&self) -> bool {
        self.state != LaneState::Direct
    }

    /// Nothing of it waits for its end, in memory or on its way to the disk.
    pub(super) fn is_idle(&self) -> bool {
        let is_reading = matches!(self.state, LaneState::Reading { .. });
        self.in_flight.is_none() && self.waiting.is_empty() && !self.is_writing() && !is_reading
    }

    /// Nothing of it is in flight or on the disk.
    pub(super) fn is_at_rest(&self) -> bool {
        self.in_flight.is_none() && !self.has_rows() && !self.is_writing()
    }

    // === Sending ===

    /// A lane whose rows were all read and sent sends directly again.
    pub(super) fn resume_direct_sends(&mut self) {
        if self.state == LaneState::AllRead && self.in_flight.is_none() && !self.is_writing() {
            self.state = LaneState::Direct;
        }
    }

    /// The next batch that may leave directly; the lane is busy until it has ended.
    pub(super) fn next_direct(
        &mut self,
        lane_index: usize,
        topic: &Arc<str>,
        limits: BatchLimits,
        now: Duration,
    ) -> Option<ReadyBatch> {
        let oldest = self.waiting.front().filter(|_| self.in_flight.is_none() && !self.has_rows())?;
        if self.waiting.len() < limits.messages && now < oldest.since + limits.linger {
            return None;
        }
        let queue = self.queue.clone()?;
        self.in_flight = Some(InFlightBatch::freeze(topic.clone(), queue, &mut self.waiting, limits));
        self.ready(lane_index)
    }

    /// What stepped aside into this lane and is not sent yet.
    pub(super) fn next_aside(&mut self, lane_index: usize) -> Option<ReadyBatch> {
        let rests =
            self.in_flight.as_ref().is_some_and(|in_flight| matches!(in_flight.stage, BatchStage::Rests));
        if rests { self.ready(lane_index) } else { None }
    }

    fn ready(&mut self, lane_index: usize) -> Option<ReadyBatch> {
        let alone = self.slots.len() == 1;
        Some(self.in_flight.as_mut()?.ready(lane_index, alone))
    }

    /// The attempts are over. Gives the batch back, unless a write is on its way that the end has to wait for.
    pub(super) fn finish_batch(&mut self, ends: Ends) -> Option<(InFlightBatch, Ends)> {
        if let WriteState::Writing { of_batch, .. } = self.write
            && (of_batch > 0 || ends.contains(&End::Aside))
        {
            if let Some(in_flight) = &mut self.in_flight {
                in_flight.stage = BatchStage::Ended(ends);
            }
            return None;
        }
        self.end_batch(ends)
    }

    fn end_batch(&mut self, ends: Ends) -> Option<(InFlightBatch, Ends)> {
        let in_flight = self.in_flight.take()?;
        // What was kept in the spool for the next process still comes before everything newer.
        if self.state == LaneState::AllRead && ends.contains(&End::Kept) {
            self.state = LaneState::Unread { not_before: Duration::ZERO };
        }
        Some((in_flight, ends))
    }

    /// A lane of its own for one slot, with what waits of it and with its part of the batch that has just ended. No write and no
    /// read of this lane is on its way.
    pub(super) fn give_slot(&mut self, slot: u8, in_flight: InFlightBatch) -> Self {
        self.slots.retain(|each| *each != slot);
        let (of_slot, others) = self.take_waiting().into_iter().partition(|waiting| waiting.slot == slot);
        self.waiting = others;
        Self {
            waiting: of_slot,
            state: self.state,
            in_flight: Some(in_flight),
            ..Self::new(self.queue.clone(), vec![slot], false)
        }
    }

    // === Writing to the spool ===

    /// When the messages that are in memory only have to be written: when the oldest has waited for so long. What comes behind
    /// rows that were not read yet does not wait at all.
    pub(super) fn write_due(&self, after: Duration) -> Option<Duration> {
        let WriteState::Idle { not_before } = self.write else {
            return None;
        };
        let in_flight = self.unwritten_batch().map(|in_flight| in_flight.since);
        let oldest = in_flight.or_else(|| self.waiting.front().map(|oldest| oldest.since))?;
        let wait = match self.state {
            LaneState::Direct | LaneState::AllRead => after,
            LaneState::Unread { .. } | LaneState::Reading { .. } => Duration::ZERO,
        };
        Some((oldest + wait).max(not_before))
    }

    fn unwritten_batch(&self) -> Option<&InFlightBatch> {
        self.in_flight.as_ref().filter(|in_flight| !in_flight.progress.is_spooled())
    }

    /// What to write, and how many of it are in the batch in flight.
    pub(super) fn begin_write(&mut self) -> (Vec<SpoolMessage>, usize) {
        if self.state == LaneState::Direct {
            self.state = LaneState::AllRead;
        }
        let mut messages: Vec<SpoolMessage> = self.unwritten_batch().map_or_else(Vec::new, |in_flight| {
            let messages = in_flight.messages.iter().zip(&in_flight.batch.messages);
            messages.map(|(known, message)| spooled(known.slot, known.kind, message)).collect()
        });
        let of_batch = messages.len();
        let (mut count, mut bytes) = (0, 0);
        for waiting in &self.waiting {
            bytes += waiting.message.encoded_bytes();
            if count >= WRITE_MESSAGES || (bytes > WRITE_BYTES && count > 0) {
                break;
            }
            count += 1;
        }
        let waiting: Vec<_> = self.waiting.drain(..count).collect();
        messages.extend(
            waiting.iter().map(|waiting| spooled(waiting.slot, waiting.ticket.kind, &waiting.message)),
        );
        self.write = WriteState::Writing { of_batch, waiting };
        (messages, of_batch)
    }

    /// The disk has answered.
    pub(super) fn end_write(&mut self, answer: Result<&Appended, &SpoolError>, now: Duration) -> WriteResult {
        let mut result = WriteResult::default();
        let idle = WriteState::Idle { not_before: Duration::ZERO };
        let WriteState::Writing { of_batch, waiting } = std::mem::replace(&mut self.write, idle) else {
            return result;
        };
        match answer {
            Ok(appended) => self.note_rows(of_batch, waiting, &appended.rows, &mut result),
            Err(SpoolError::TopicShare) => {
                result.dead.extend(waiting.into_iter().map(|waiting| (waiting.message, waiting.ticket)));
                if let Some(in_flight) = self.in_flight.as_ref().filter(|_| of_batch > 0) {
                    in_flight.progress.give_up();
                }
            }
            Err(SpoolError::Full(_) | SpoolError::Poisoned(_)) => {
                self.write = WriteState::Idle { not_before: now + AGAIN_AFTER };
                for waiting in waiting.into_iter().rev() {
                    self.waiting.push_front(waiting);
                }
            }
        }
        if let Some(in_flight) = &mut self.in_flight
            && let BatchStage::Ended(ends) = &mut in_flight.stage
        {
            let ends = std::mem::take(ends);
            result.finished_batch = self.end_batch(ends);
        }
        result
    }

    fn note_rows(
        &mut self,
        of_batch: usize,
        waiting: Vec<WaitingMessage>,
        rows: &[Row],
        result: &mut WriteResult,
    ) {
        let (rows_of_batch, rows_of_waiting) = rows.split_at(of_batch.min(rows.len()));
        if let Some(in_flight) = self.in_flight.as_mut().filter(|_| of_batch > 0) {
            for (message, row) in in_flight.messages.iter_mut().zip(rows_of_batch) {
                match row {
                    Row::Written(row) => {
                        message.row = Some(*row);
                        result.spooled.extend(message.ticket.take());
                    }
                    // Its end is counted now. It is still on its way and may be stored, which is no second end.
                    Row::Dropped => result.dropped.extend(message.ticket.take()),
                }
            }
            in_flight.progress.set_spooled();
        }
        for (waiting, row) in waiting.into_iter().zip(rows_of_waiting) {
            match row {
                Row::Written(_) => {
                    self.state = match self.state {
                        LaneState::Reading { .. } => LaneState::Reading { wrote_meanwhile: true },
                        LaneState::Unread { not_before } => LaneState::Unread { not_before },
                        LaneState::Direct | LaneState::AllRead => {
                            LaneState::Unread { not_before: Duration::ZERO }
                        }
                    };
                    result.spooled.push(waiting.ticket);
                }
                Row::Dropped => result.dropped.push(waiting.ticket),
            }
        }
    }

    // === Reading back ===

    /// When its rows are to be read, if nothing else has to happen first.
    pub(super) fn read_due(&self) -> Option<Duration> {
        match self.state {
            LaneState::Unread { not_before } if self.in_flight.is_none() && self.queue.is_some() => {
                Some(not_before)
            }
            LaneState::Unread { .. } | LaneState::Direct | LaneState::AllRead | LaneState::Reading { .. } => {
                None
            }
        }
    }

    pub(super) fn begin_read(&mut self) {
        self.state = LaneState::Reading { wrote_meanwhile: false };
    }

    /// Rows came back, or nothing; a batch of them may leave.
    pub(super) fn end_read(
        &mut self,
        lane_index: usize,
        topic: &Arc<str>,
        answer: Result<Taken, SpoolError>,
        now: Duration,
    ) -> Option<ReadyBatch> {
        let Ok(taken) = answer else {
            self.state = LaneState::Unread { not_before: now + AGAIN_AFTER };
            return None;
        };
        let has_more = taken.more || self.state == LaneState::Reading { wrote_meanwhile: true };
        self.state =
            if has_more { LaneState::Unread { not_before: Duration::ZERO } } else { LaneState::AllRead };
        if taken.rows.is_empty() {
            return None;
        }
        self.in_flight = Some(InFlightBatch::of_rows(topic.clone(), self.queue.clone()?, taken.rows));
        self.ready(lane_index)
    }

    /// When something becomes due that no event announces. `spool_after`: how long a message may wait in memory, where the spool can
    /// be used; `reading`: rows are read.
    pub(super) fn next_due(
        &self,
        limits: BatchLimits,
        spool_after: Option<Duration>,
        reading: bool,
    ) -> Option<Duration> {
        let lingers =
            self.queue.is_some() && self.in_flight.is_none() && !self.has_rows() && !limits.linger.is_zero();
        let linger = self.waiting.front().filter(|_| lingers).map(|oldest| oldest.since + limits.linger);
        let write = spool_after.and_then(|after| self.write_due(after));
        let read = self.read_due().filter(|_| reading);
        [linger, write, read].into_iter().flatten().min()
    }
}

fn spooled(slot: u8, kind: Kind, message: &OutgoingMessage) -> SpoolMessage {
    let mut message = message.clone();
    let (name, value) = SPOOLED;
    if message.property(name).is_none() {
        message.properties.push(name, value);
    }
    SpoolMessage { slot, kind, message }
}
