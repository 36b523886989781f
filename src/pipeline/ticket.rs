//! What the pipeline keeps of a message beside its bytes.

use super::ledger::ReceiptNumber;
use crate::model::Kind;

/// Settled together with its message.
#[derive(Debug, Clone)]
pub struct Ticket {
    pub receipt: Option<ReceiptNumber>,
    pub weight_bytes: usize,
    pub kind: Kind,
}
