//! The way of a message from its arrival to its receipt: intake, binding, lanes, attempts, settlement.
//!
//! Promises: every queue is bounded; a receipt is settled only after the store's SEND_OK or a counted end.
//! Must never: name rumqttc or RocketMQ's protocol.

mod attempts;
mod batch;
mod bisection;
mod causes;
mod dead_letters;
mod delivery;
mod due;
mod intake;
mod jobs;
mod lane;
mod lanes;
mod ledger;
mod open_receipts;
mod parts;
pub(crate) mod ports;
mod pulse;
mod retry;
pub(crate) mod same_queue;
mod settlement;
mod spool_state;
pub mod tail;
mod ticket;
mod trial;
mod uplink;

pub use attempts::Sending;
pub use batch::BatchLimits;
pub use dead_letters::DeadLetters;
#[cfg(test)]
pub(crate) use intake::Arriving;
pub use intake::{Arrived, Intake, IntakeReceiver, intake};
pub(crate) use intake::{Derived, Full};
pub(crate) use jobs::die_with;

pub use delivery::{Delivery, Fingerprint};
pub use ledger::{Admission, ReceiptLedger, Remembered, WINDOWS_READ};
pub use open_receipts::ReceiptNumber;

pub use parts::{LinkState, UplinkParts};
pub(crate) use pulse::Pulse;
pub(crate) use retry::Retry;
#[cfg(any(test, feature = "testing"))]
pub use retry::seed_jitter;
pub use spool_state::SpoolUse;
pub(crate) use ticket::{DerivedOutcome, DerivedReceipt};
#[cfg(test)]
pub(crate) use ticket::{Receipt, Ticket};
pub use trial::Accepted;
pub use uplink::Uplink;
