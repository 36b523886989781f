//! The bounded door into the pipeline. A message is bound as it comes in, so that what waits behind the door is small and in the
//! form in which it leaves.
//!
//! Bounds: messages and bytes on their way, from arrival to their end. When full: QoS 0 is dropped and counted; for
//! QoS 1 the caller drops its connection without acknowledging and comes back below half; the classroom waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::dead_letters::PendingDeadLetter;
use super::open_receipts::ReceiptNumber;
use super::ports::Batch;
use super::ticket::{DerivedReceipt, Receipt, Ticket};
use crate::binding::{Bound, NotStored, RuleSet, letter_of_envelope};
use crate::model::{Envelope, FilterReason, Kind, OutgoingProperties};

/// Buffers that are kept for the properties of the next messages, and how large one may be.
const SPARE_BUFFERS: usize = 256;
const SPARE_BUFFER_BYTES: usize = 4096;

/// A message at the door. Without a receipt (QoS 0) nobody waits for its end.
#[derive(Debug)]
pub struct Arrived {
    pub envelope: Envelope,
    pub receipt: Option<ReceiptNumber>,
}

/// A message that the bridge made itself, already bound.
#[derive(Debug)]
pub struct Derived {
    /// The message, bound already.
    pub bound: Bound,
    /// Names it to its maker.
    pub receipt: DerivedReceipt,
}

impl Derived {
    fn weight_bytes(&self) -> usize {
        512 + self.bound.message.body.len() + self.bound.message.properties_bytes()
    }
}

/// Whoever came through the door.
#[derive(Debug)]
pub(crate) enum Arriving {
    /// It is on its way to RocketMQ.
    Bound(Bound, Ticket),
    /// It is not meant to be stored.
    Filtered(FilterReason, Ticket),
    /// It can never be stored.
    Dead(Box<PendingDeadLetter>),
}

impl Arriving {
    pub(super) fn into_ticket(self) -> Option<Ticket> {
        match self {
            Self::Bound(_, ticket) | Self::Filtered(_, ticket) => Some(ticket),
            Self::Dead(pending_letter) => pending_letter.ticket,
        }
    }
}

/// The door is shut; the message is given back.
#[derive(Debug)]
pub struct Full(pub Box<Arrived>);

#[derive(Debug)]
struct Load {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    messages_limit: usize,
    bytes_limit: usize,
    relieved: Notify,
    /// Buffers of messages that have ended.
    spare: Mutex<Vec<String>>,
}

/// The outside of the door.
#[derive(Debug, Clone)]
pub struct Intake {
    rules: Arc<RuleSet>,
    sender: mpsc::Sender<Arriving>,
    load: Arc<Load>,
}

/// The inside of the door.
#[derive(Debug)]
pub struct IntakeReceiver {
    /// In order of their arrival.
    pub(crate) receiver: mpsc::Receiver<Arriving>,
    load: Arc<Load>,
}

/// A door for so many messages and bytes at once.
pub fn intake(rules: Arc<RuleSet>, messages_limit: usize, bytes_limit: usize) -> (Intake, IntakeReceiver) {
    let (sender, receiver) = mpsc::channel(messages_limit.max(1));
    let load = Arc::new(Load {
        messages: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        messages_limit,
        bytes_limit,
        relieved: Notify::new(),
        spare: Mutex::default(),
    });
    (Intake { rules, sender, load: load.clone() }, IntakeReceiver { receiver, load })
}

impl Intake {
    /// Takes the message in at once or not at all. A message that is alone always fits.
    pub fn try_enter(&self, arrived: Arrived) -> Result<(), Full> {
        let weight_bytes = arrived.envelope.weight_bytes();
        let messages = self.load.messages.load(Ordering::Relaxed);
        let bytes = self.load.bytes.load(Ordering::Relaxed);
        let over = messages >= self.load.messages_limit || bytes + weight_bytes > self.load.bytes_limit;
        if over && messages > 0 {
            return Err(Full(Box::new(arrived)));
        }
        let Ok(place) = self.sender.try_reserve() else {
            return Err(Full(Box::new(arrived)));
        };
        self.load.enter(weight_bytes);
        place.send(self.bind(arrived, weight_bytes));
        Ok(())
    }

    fn bind(&self, arrived: Arrived, weight_bytes: usize) -> Arriving {
        let Arrived { envelope, receipt } = arrived;
        let mut ticket = Ticket { receipt: receipt.map(Receipt::Mqtt), weight_bytes, kind: Kind::Other };
        match self.rules.bind_into(&envelope, self.load.spare_buffer()) {
            Ok(bound) => {
                ticket.kind = bound.kind;
                Arriving::Bound(bound, ticket)
            }
            Err(NotStored::Filtered(reason)) => Arriving::Filtered(reason, ticket),
            Err(NotStored::Dead { reason, detail }) => {
                let letter = letter_of_envelope(&envelope, reason, detail);
                Arriving::Dead(Box::new(PendingDeadLetter::new(letter, Kind::Other, Some(ticket), None)))
            }
        }
    }

    /// Takes a derived message in; waits while there is no room. `false`: the pipeline has ended.
    /// No deadline: like [`Self::relieved`].
    pub async fn enter_derived(&self, derived: Derived) -> bool {
        let weight_bytes = derived.weight_bytes();
        self.relieved().await;
        let Ok(place) = self.sender.reserve().await else {
            return false;
        };
        self.load.enter(weight_bytes);
        let (bound, receipt) = (derived.bound, Some(Receipt::Derived(derived.receipt)));
        let ticket = Ticket { receipt, weight_bytes, kind: bound.kind };
        place.send(Arriving::Bound(bound, ticket));
        true
    }

    /// Returns when less than half of both bounds is used. No deadline: only the end of messages can shorten it.
    pub async fn relieved(&self) {
        loop {
            let relieved = self.load.relieved.notified();
            if self.load.below_half() {
                return;
            }
            relieved.await;
        }
    }
}

/// Tells the door that messages have left.
#[derive(Debug, Clone)]
pub(super) struct IntakeExit {
    load: Arc<Load>,
}

impl IntakeReceiver {
    pub(super) fn exit(&self) -> IntakeExit {
        IntakeExit { load: self.load.clone() }
    }
}

impl IntakeExit {
    /// Receipts have reached their end.
    pub(crate) fn leave(&self, messages: usize, weight_bytes: usize) {
        self.load.leave(messages, weight_bytes);
    }

    /// The messages of the batch have ended.
    pub(crate) fn give_back(&self, batch: Arc<Batch>) {
        // A job that has not dropped it yet frees the buffers itself.
        if let Some(batch) = Arc::into_inner(batch) {
            let properties = batch.messages.into_iter().map(|message| message.properties);
            self.load.keep_spare(properties.map(OutgoingProperties::into_buffer));
        }
    }
}

impl Load {
    fn enter(&self, weight_bytes: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(weight_bytes, Ordering::Relaxed);
    }

    fn spare_buffer(&self) -> String {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn keep_spare(&self, buffers: impl Iterator<Item = String>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let room = SPARE_BUFFERS.saturating_sub(spare.len());
        spare.extend(buffers.filter(|buffer| buffer.capacity() <= SPARE_BUFFER_BYTES).take(room));
    }

    fn leave(&self, messages: usize, weight_bytes: usize) {
        self.messages.fetch_sub(messages, Ordering::Relaxed);
        self.bytes.fetch_sub(weight_bytes, Ordering::Relaxed);
        if self.below_half() {
            self.relieved.notify_waiters();
        }
    }

    fn below_half(&self) -> bool {
        self.messages.load(Ordering::Relaxed) <= self.messages_limit / 2
            && self.bytes.load(Ordering::Relaxed) <= self.bytes_limit / 2
    }
}
