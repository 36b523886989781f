//! What the pipeline keeps of a message beside its bytes.

use tokio::sync::mpsc;

use super::open_receipts::ReceiptNumber;
use crate::model::Kind;

/// Settled together with its message.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    /// `None`: QoS 0, nobody waits for its end.
    pub receipt: Option<Receipt>,
    /// What it counts in the intake.
    pub weight_bytes: usize,
    /// A label of metrics.
    pub kind: Kind,
}

/// Who waits for the end of a message.
#[derive(Debug, Clone)]
pub(crate) enum Receipt {
    /// The MQTT broker, for its PUBACK.
    Mqtt(ReceiptNumber),
    /// The classroom, for what it made.
    Derived(DerivedReceipt),
}

/// Names a derived message to its maker.
#[derive(Debug, Clone)]
pub struct DerivedReceipt {
    /// The number that the maker gave it.
    pub number: u64,
    /// Holds no more than the maker has open, which the intake bounds.
    pub outcomes: mpsc::UnboundedSender<(u64, DerivedOutcome)>,
}

/// What became of a derived message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DerivedOutcome {
    /// Stored, in the spool, or at an end that the user chose.
    Kept,
    /// Another bridge has the session: it is not stored, and it is for its maker to decide what follows.
    GivenUp,
}
