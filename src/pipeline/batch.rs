//! The messages of a lane: one that waits, and the frozen batch that is on its way, with what its lane and its attempts tell
//! each other and how each of its messages ends.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ports::{Batch, OutgoingMessage};
use super::ticket::Ticket;
use crate::model::{DeadReason, FailureKind, Kind, Outcome, QueueName, Refusal};
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

/// What became of one message of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Not stored, and kept in the spool for the next process.
    Kept,
    /// RocketMQ keeps refusing it, or it is behind such a message of its slot: it goes on in a lane of its own.
    Aside,
    /// It has this end.
    Reached(Outcome),
    /// It can never be stored; with RocketMQ's words, if it said any.
    Dead(DeadReason, Option<Refusal>),
}

/// The ends of a batch, by place.
pub(crate) type Ends = Vec<End>;

/// What the lane of a batch and its attempts tell each other.
#[derive(Debug, Default)]
pub struct BatchProgress {
    /// The batch is safe in the spool: it belongs to us, whoever has the session.
    spooled: CancellationToken,
    from_spool: bool,
    cause: Mutex<Option<FailureKind>>,
    /// What is not stored yet becomes dead letters.
    give_up: CancellationToken,
}

impl BatchProgress {
    /// For a batch that was read from the spool.
    pub fn from_spool() -> Self {
        let progress = Self { from_spool: true, ..Self::default() };
        progress.set_spooled();
        progress
    }

    /// For messages that left their batch. `is_spooled`: the batch was in the spool.
    pub fn aside(is_spooled: bool) -> Self {
        let progress = Self::default();
        if is_spooled {
            progress.set_spooled();
        }
        progress
    }

    /// The spool has all messages of the batch.
    pub fn set_spooled(&self) {
        self.spooled.cancel();
    }

    /// Whether the spool has all messages of the batch.
    pub fn is_spooled(&self) -> bool {
        self.spooled.is_cancelled()
    }

    /// Returns when the batch is in the spool. No deadline: it may be stored without ever getting there.
    pub(super) async fn spooled(&self) {
        self.spooled.cancelled().await;
    }

    pub(super) fn is_from_spool(&self) -> bool {
        self.from_spool
    }

    /// Why the last attempt failed, if one did.
    pub fn cause(&self) -> Option<FailureKind> {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_cause(&self, kind: FailureKind) {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(kind);
    }

    /// The attempts stop, and what has no end yet becomes a dead letter.
    pub fn give_up(&self) {
        self.give_up.cancel();
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.give_up.is_cancelled()
    }

    /// Returns when the batch is given up. No deadline: most batches never are.
    pub(super) async fn given_up(&self) {
        self.give_up.cancelled().await;
    }
}

/// What is known of one message of a batch in flight, beside its bytes.
#[derive(Debug)]
pub(crate) struct InFlightMessage {
    pub slot: u8,
    pub kind: Kind,
    /// Taken when its receipt has ended.
    pub ticket: Option<Ticket>,
    /// Its place in the spool; the row is removed when the message has ended.
    pub row: Option<RowKey>,
}

/// What happens to a batch in flight at the moment.
#[derive(Debug)]
pub(super) enum BatchStage {
    /// It stepped aside and has a lane of its own now, but nobody sends it yet.
    Rests,
    /// Its attempts run.
    Sending,
    /// Its attempts are over, but a write to the spool is on its way that holds the batch, or messages that step aside with it.
    Ended(Ends),
}

/// The batch that a lane has in flight.
#[derive(Debug)]
pub(crate) struct InFlightBatch {
    pub batch: Arc<Batch>,
    pub messages: Vec<InFlightMessage>,
    pub progress: Arc<BatchProgress>,
    /// When its oldest message came into the lane.
    pub(super) since: Duration,
    pub(super) stage: BatchStage,
}

/// A batch that is ready to leave.
#[derive(Debug)]
pub(crate) struct ReadyBatch {
    /// Its lane among the lanes of the topic.
    pub lane_index: usize,
    pub batch: Arc<Batch>,
    /// Of its messages.
    pub slots: Vec<u8>,
    /// The lane has one slot only.
    pub alone: bool,
    pub progress: Arc<BatchProgress>,
}

impl InFlightBatch {
    /// Takes the next batch off the front.
    pub(super) fn freeze(
        topic: Arc<str>,
        queue: QueueName,
        waiting: &mut VecDeque<WaitingMessage>,
        limits: BatchLimits,
    ) -> Self {
        let count = waiting.len().min(limits.messages);
        let (mut messages, mut in_flight) = (Vec::with_capacity(count), Vec::with_capacity(count));
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
            let kind = next.ticket.kind;
            in_flight.push(InFlightMessage { slot: next.slot, kind, ticket: Some(next.ticket), row: None });
        }
        Self {
            batch: Arc::new(Batch { topic, queue, messages }),
            messages: in_flight,
            progress: Arc::default(),
            since,
            stage: BatchStage::Sending,
        }
    }

    /// Rows that came back from the spool.
    pub(super) fn of_rows(topic: Arc<str>, queue: QueueName, rows: Vec<(RowKey, SpoolMessage)>) -> Self {
        let (mut messages, mut in_flight) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for (row, spooled) in rows {
            messages.push(spooled.message);
            let (slot, kind) = (spooled.slot, spooled.kind);
            in_flight.push(InFlightMessage { slot, kind, ticket: None, row: Some(row) });
        }
        Self {
            batch: Arc::new(Batch { topic, queue, messages }),
            messages: in_flight,
            progress: Arc::new(BatchProgress::from_spool()),
            since: Duration::ZERO,
            stage: BatchStage::Sending,
        }
    }

    /// To be sent by its lane of that index. `alone`: the lane has one slot only.
    pub(super) fn ready(&mut self, lane_index: usize, alone: bool) -> ReadyBatch {
        self.stage = BatchStage::Sending;
        ReadyBatch {
            lane_index,
            batch: self.batch.clone(),
            slots: self.messages.iter().map(|message| message.slot).collect(),
            alone,
            progress: self.progress.clone(),
        }
    }

    /// Separates what has ended from what steps aside: one new batch for each slot that does.
    pub(super) fn split_aside(self, ends: Ends) -> (Self, Ends, Vec<(u8, Self)>) {
        if !ends.contains(&End::Aside) {
            return (self, ends, Vec::new());
        }
        let (batch, progress, since) = (self.batch, self.progress, self.since);
        let part = |messages: Vec<(InFlightMessage, OutgoingMessage)>, progress, stage| {
            let (in_flight, messages) = messages.into_iter().unzip();
            let (topic, queue) = (batch.topic.clone(), batch.queue.clone());
            let batch = Arc::new(Batch { topic, queue, messages });
            Self { batch, messages: in_flight, progress, since, stage }
        };
        let each = self.messages.into_iter().zip(batch.messages.iter().cloned()).zip(ends);
        let (aside, ended): (Vec<_>, Vec<_>) = each.partition(|(_, end)| *end == End::Aside);
        let mut left: Vec<_> = aside.into_iter().map(|(message, _)| message).collect();
        let mut slots = Vec::new();
        while let Some(slot) = left.first().map(|(message, _)| message.slot) {
            let (of_slot, others) = left.into_iter().partition(|(message, _)| message.slot == slot);
            left = others;
            let own_progress = Arc::new(BatchProgress::aside(progress.is_spooled()));
            slots.push((slot, part(of_slot, own_progress, BatchStage::Rests)));
        }
        let (ended, ends): (Vec<_>, Ends) = ended.into_iter().unzip();
        (part(ended, progress.clone(), BatchStage::Sending), ends, slots)
    }
}
