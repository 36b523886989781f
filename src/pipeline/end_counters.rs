//! Counts every end of the uplink, once, and tells the subscriber which receipts have ended.
//!
//! Promises, at any quiet moment:
//! `received + derived + spool_depth_at_start = stored + spool_depth + dead_lettered + filtered + dropped + in_flight`

use std::sync::Arc;

use tokio::sync::mpsc;

use super::intake::IntakeExit;
use super::ledger::ReceiptNumber;
use super::ticket::{DerivedOutcome, Receipt, Ticket};
use crate::model::{DropReason, FilterReason, Kind, Outcome};
use crate::telemetry::Metrics;

/// Counts ends, frees their places in the intake and tells the subscriber which receipts have ended.
pub(super) struct EndCounters {
    pub metrics: Arc<Metrics>,
    pub exit: IntakeExit,
    pub settled: mpsc::Sender<Vec<ReceiptNumber>>,
}

impl EndCounters {
    /// These messages have ended.
    pub(crate) async fn settle(&self, topic: &str, ends: Vec<(Ticket, Outcome)>) {
        let kinds = ends.iter().map(|(ticket, outcome)| (ticket.kind, outcome));
        self.count(topic, kinds);
        let tickets = ends.into_iter().map(|(ticket, outcome)| {
            let given_up = outcome == Outcome::Filtered(FilterReason::SessionTakenOver);
            (ticket, if given_up { DerivedOutcome::GivenUp } else { DerivedOutcome::Kept })
        });
        self.end_receipts(tickets.collect()).await;
    }

    /// These messages are fsynced in the spool: their receipts end, they themselves do not.
    pub(crate) async fn spooled(&self, tickets: Vec<Ticket>) {
        let count = tickets.len() as i64;
        self.metrics.spooled_total.inc_by(tickets.len() as u64);
        self.metrics.spool_depth.add(count);
        self.end_receipts(tickets.into_iter().map(|ticket| (ticket, DerivedOutcome::Kept)).collect()).await;
    }

    /// These messages have ended, and are in the spool no more.
    pub(crate) fn left_the_spool(&self, topic: &str, ends: &[(Kind, Outcome)]) {
        self.count(topic, ends.iter().map(|(kind, outcome)| (*kind, outcome)));
        self.metrics.spool_depth.sub(ends.len() as i64);
    }

    /// So many rows of the spool were given up.
    pub(crate) fn given_up_in_the_spool(&self, reason: DropReason, count: u64) {
        self.metrics.dropped(reason, count);
        self.metrics.spool_depth.sub(count as i64);
    }

    fn count<'a>(&self, topic: &str, ends: impl Iterator<Item = (Kind, &'a Outcome)>) {
        let mut stored = [0; Kind::ALL.len()];
        for (kind, outcome) in ends {
            match outcome {
                Outcome::Stored(_) => {
                    let place = Kind::ALL.iter().position(|each| *each == kind);
                    if let Some(count) = place.and_then(|place| stored.get_mut(place)) {
                        *count += 1;
                    }
                }
                Outcome::Filtered(reason) => self.metrics.filtered(*reason),
                Outcome::Dropped(reason) => self.metrics.dropped(*reason, 1),
                Outcome::DeadLettered(reason) => self.metrics.dead_lettered(*reason),
            }
        }
        for (kind, count) in Kind::ALL.iter().copied().zip(stored).filter(|(_, count)| *count > 0) {
            self.metrics.stored(topic, kind, count);
        }
    }

    /// Receipts have ended, whatever became of their messages.
    async fn end_receipts(&self, tickets: Vec<(Ticket, DerivedOutcome)>) {
        if tickets.is_empty() {
            return;
        }
        let weight_bytes = tickets.iter().map(|(ticket, _)| ticket.weight_bytes).sum();
        self.metrics.in_flight.sub(tickets.len() as i64);
        self.exit.leave(tickets.len(), weight_bytes);
        let mut receipts = Vec::with_capacity(tickets.len());
        for (ticket, told) in tickets {
            match ticket.receipt {
                Some(Receipt::Mqtt(receipt)) => receipts.push(receipt),
                // A maker that is gone asks again after its next start.
                Some(Receipt::Derived(receipt)) => _ = receipt.outcomes.send((receipt.number, told)),
                None => {}
            }
        }
        // A closed channel means that the subscriber is gone, and with it the right to acknowledge.
        let _ = self.settled.send(receipts).await;
    }
}
