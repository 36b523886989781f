//! What the uplink is made of, and what it is told of the MQTT link.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::attempts::Sending;
use super::batch::BatchLimits;
use super::dead_letters::DeadLetters;
use super::intake::IntakeReceiver;
use super::open_receipts::ReceiptNumber;
use super::ports::Lease;
use super::spool_state::SpoolUse;
use crate::data_dir::QueueTables;
use crate::model::Clock;

/// What is known of the MQTT link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    Up,
    Down,
    /// Another client took the session: what was not sent belongs to it now.
    TakenOver,
}

/// Keeps the queue tables where the next process finds them; answers when they are there, or cannot be put there.
pub(crate) type SaveTables = Box<dyn Fn(&QueueTables) -> BoxFuture<'static, ()> + Send>;

/// Told that a job of the uplink has died, and with which words: what it held has no end in this process.
pub(crate) type JobDied = Box<dyn Fn(&str) + Send>;

/// Everything the uplink is made of.
pub struct UplinkParts {
    pub sending: Arc<Sending>,
    pub spool: Option<SpoolUse>,
    pub dead_letters: Arc<DeadLetters>,
    pub lease: Arc<dyn Lease>,
    pub clock: Arc<dyn Clock>,
    pub intake: IntakeReceiver,
    /// Receipts that have ended, to the subscriber. Bounded; the subscriber never waits for the uplink.
    pub settled: mpsc::Sender<Vec<ReceiptNumber>>,
    pub link: watch::Receiver<LinkState>,
    pub tables: QueueTables,
    pub save_tables: SaveTables,
    pub job_died: JobDied,
    pub limits: BatchLimits,
}
