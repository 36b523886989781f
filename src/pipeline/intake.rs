//! The bounded door into the pipeline.
//!
//! Bounds: messages and bytes on their way, from arrival to their end. When full: QoS 0 is dropped and counted; for
//! QoS 1 the caller drops its connection without acknowledging and comes back below half; the classroom waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};

use super::ledger::ReceiptNumber;
use super::ticket::{DerivedReceipt, Receipt, Ticket};
use crate::binding::Bound;
use crate::model::Envelope;

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
    pub(super) fn ticket(&self) -> Ticket {
        Ticket {
            receipt: Some(Receipt::Derived(self.receipt.clone())),
            weight_bytes: self.weight_bytes(),
            kind: self.bound.kind,
        }
    }

    pub(super) fn weight_bytes(&self) -> usize {
        512 + self.bound.message.body.len() + self.bound.message.properties_bytes()
    }
}

/// Whoever comes through the door.
#[derive(Debug)]
pub enum Arriving {
    /// From the MQTT broker.
    Mqtt(Arrived),
    /// Made by the classroom.
    Derived(Derived),
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
}

/// The outside of the door.
#[derive(Debug, Clone)]
pub struct Intake {
    sender: mpsc::Sender<Arriving>,
    load: Arc<Load>,
}

/// The inside of the door.
#[derive(Debug)]
pub struct IntakeReceiver {
    pub receiver: mpsc::Receiver<Arriving>,
    load: Arc<Load>,
}

/// A door for so many messages and bytes at once.
pub fn intake(messages_limit: usize, bytes_limit: usize) -> (Intake, IntakeReceiver) {
    let (sender, receiver) = mpsc::channel(messages_limit.max(1));
    let load = Arc::new(Load {
        messages: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        messages_limit,
        bytes_limit,
        relieved: Notify::new(),
    });
    (Intake { sender, load: load.clone() }, IntakeReceiver { receiver, load })
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
        self.load.messages.fetch_add(1, Ordering::Relaxed);
        self.load.bytes.fetch_add(weight_bytes, Ordering::Relaxed);
        match self.sender.try_reserve() {
            Ok(place) => {
                place.send(Arriving::Mqtt(arrived));
                Ok(())
            }
            Err(_) => {
                self.load.leave(1, weight_bytes);
                Err(Full(Box::new(arrived)))
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
        self.load.messages.fetch_add(1, Ordering::Relaxed);
        self.load.bytes.fetch_add(weight_bytes, Ordering::Relaxed);
        place.send(Arriving::Derived(derived));
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
}

impl Load {
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
