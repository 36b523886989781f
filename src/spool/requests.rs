//! What the handle and the reader ask of the thread that writes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::index::DiskRemoval;
use super::{Appended, RowKey, SpoolError, SpoolMessage};

/// Messages of one topic, to be written in this order.
pub(super) struct Append {
    pub topic: Arc<str>,
    pub messages: Vec<SpoolMessage>,
    pub bytes: u64,
    /// How many of them, counted from the first, are lent to the caller from the start.
    pub lent: usize,
    pub share_of_topic: bool,
    pub reply: oneshot::Sender<Result<Appended, SpoolError>>,
    /// The request's place in the queue.
    pub _place: OwnedSemaphorePermit,
}

/// One request to that thread.
pub(super) enum WriteRequest {
    Append(Append),
    Remove {
        topic: Arc<str>,
        rows: Vec<RowKey>,
        reply: oneshot::Sender<Result<(), SpoolError>>,
        _place: OwnedSemaphorePermit,
    },
    /// Would it take messages?
    Room {
        reply: oneshot::Sender<Result<(), SpoolError>>,
        _place: OwnedSemaphorePermit,
    },
    /// The reader has found rows that are expired or damaged; the index has counted them already.
    Discard(DiskRemoval),
}
