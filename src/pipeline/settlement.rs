//! The way back: what has ended is counted, frees its place in the intake, and the subscriber is told; its rows leave the spool.
//! What can never be stored becomes a dead letter before it ends.
//!
//! Promises: each message is settled once, after RocketMQ's SEND_OK, an fsync, a dead letter that is safe, or a counted end. At
//! any quiet moment:
//! `received + derived + spool_depth_at_start = stored + spool_depth + dead_lettered + filtered + dropped + in_flight`

use std::sync::Arc;

use tokio::sync::mpsc;

use super::batch::{End, Ends, InFlightBatch};
use super::dead_letters::{DeadLetters, PendingDeadLetter, report_dead};
use super::intake::IntakeExit;
use super::jobs::{Finished, Jobs};
use super::lane::WriteResult;
use super::open_receipts::ReceiptNumber;
use super::ticket::{DerivedOutcome, Receipt, Ticket};
use crate::model::{DeadReason, DropReason, FilterReason, Kind, Outcome};
use crate::spool::{Overflow, RowKey};
use crate::telemetry::Metrics;

/// Ends messages for the uplink, and starts the jobs that their ends need.
pub(super) struct Settlement {
    pub metrics: Arc<Metrics>,
    pub exit: IntakeExit,
    /// To the subscriber: which receipts have ended.
    pub settled: mpsc::Sender<Vec<ReceiptNumber>>,
    pub dead_letters: Arc<DeadLetters>,
    pub overflow: Option<Arc<dyn Overflow>>,
    /// Each cause is logged once.
    pub logged_dead: [bool; DeadReason::ALL.len()],
}

/// A message that has ended: its ticket if its receipt has not, its row if it is in the spool.
type Ended = (Kind, Option<Ticket>, Option<RowKey>, Outcome);

impl Settlement {
    /// These messages never came into a lane.
    pub(super) async fn end(&self, ends: Vec<(Ticket, Outcome)>) {
        if !ends.is_empty() {
            self.settle("", ends).await;
        }
    }

    /// Another client has the session, and gets these messages, too.
    pub(super) async fn give_up(&self, tickets: Vec<Ticket>) {
        let outcome = Outcome::Filtered(FilterReason::SessionTakenOver);
        self.end(tickets.into_iter().map(|ticket| (ticket, outcome.clone())).collect()).await;
    }

    /// A batch has ended, but for what steps aside.
    pub(super) async fn batch_ended(
        &mut self,
        jobs: &mut Jobs,
        topic: Arc<str>,
        (in_flight, ends): (InFlightBatch, Ends),
    ) {
        let (mut ended, mut pending_letters) = (Vec::with_capacity(ends.len()), Vec::new());
        for ((known, end), message) in in_flight.messages.into_iter().zip(ends).zip(&in_flight.batch.messages)
        {
            match end {
                // They have their end later, in the next process or in another lane.
                End::Kept | End::Aside => {}
                // It was dropped when it was to be written, and its end was counted then.
                End::Reached(_) | End::Dead(..) if known.ticket.is_none() && known.row.is_none() => {}
                End::Dead(reason, answer) => {
                    let (ticket, row) = (known.ticket, known.row);
                    pending_letters.push(PendingDeadLetter::of(
                        &topic,
                        message,
                        (reason, answer),
                        ticket,
                        row,
                    ));
                }
                End::Reached(outcome) => ended.push((known.kind, known.ticket, known.row, outcome)),
            }
        }
        self.exit.give_back(in_flight.batch);
        self.conclude(jobs, topic.clone(), ended).await;
        self.store_dead_letters(jobs, topic, pending_letters);
    }

    /// A write to the spool was answered. `reason`: of what the topic's share has no room for.
    pub(super) async fn write_ended(
        &mut self,
        jobs: &mut Jobs,
        topic: Arc<str>,
        written: WriteResult,
        reason: DeadReason,
    ) {
        self.spooled(written.spooled).await;
        if !written.dropped.is_empty() {
            let dropped = written.dropped.into_iter();
            let ends = dropped.map(|ticket| (ticket, Outcome::Dropped(DropReason::SpoolFull)));
            self.settle(&topic, ends.collect()).await;
        }
        let dead = written.dead.into_iter();
        let pending_letters = dead.map(|(message, ticket)| {
            PendingDeadLetter::of(&topic, &message, (reason, None), Some(ticket), None)
        });
        let pending_letters = pending_letters.collect();
        self.store_dead_letters(jobs, topic.clone(), pending_letters);
        if let Some(finished) = written.finished_batch {
            self.batch_ended(jobs, topic, finished).await;
        }
    }

    /// They end when they are safe.
    pub(super) fn store_dead_letters(
        &mut self,
        jobs: &mut Jobs,
        topic: Arc<str>,
        pending_letters: Vec<PendingDeadLetter>,
    ) {
        if pending_letters.is_empty() {
            return;
        }
        for each in &pending_letters {
            report_dead(&mut self.logged_dead, &each.letter);
        }
        let dead_letters = self.dead_letters.clone();
        jobs.start(async move {
            let letters = pending_letters.iter().map(|each| each.letter.clone()).collect();
            dead_letters.put(letters).await;
            Finished::DeadLettersStored { topic, pending_letters }
        });
    }

    pub(super) async fn dead_letters_stored(
        &self,
        jobs: &mut Jobs,
        topic: Arc<str>,
        pending_letters: Vec<PendingDeadLetter>,
    ) {
        let ended = pending_letters.into_iter().map(|each| {
            let outcome = Outcome::DeadLettered(each.letter.reason);
            (each.kind, each.ticket, each.row, outcome)
        });
        self.conclude(jobs, topic, ended.collect()).await;
    }

    /// Receipts end, and rows leave the spool.
    async fn conclude(&self, jobs: &mut Jobs, topic: Arc<str>, ended: Vec<Ended>) {
        let (mut settled, mut left, mut rows) = (Vec::with_capacity(ended.len()), Vec::new(), Vec::new());
        for (kind, ticket, row, outcome) in ended {
            match ticket {
                Some(ticket) => settled.push((ticket, outcome)),
                None => left.push((kind, outcome)),
            }
            rows.extend(row);
        }
        self.left_the_spool(&topic, &left);
        self.settle(&topic, settled).await;
        let Some(overflow) = self.overflow.as_ref().filter(|_| !rows.is_empty()) else {
            return;
        };
        let removing = overflow.remove(topic, rows);
        jobs.start(async move {
            // What cannot be removed is sent once more by the next process, with the same id.
            let _ = removing.await;
            Finished::Removed
        });
    }

    /// These messages have ended.
    async fn settle(&self, topic: &str, ends: Vec<(Ticket, Outcome)>) {
        let kinds = ends.iter().map(|(ticket, outcome)| (ticket.kind, outcome));
        self.count(topic, kinds);
        let tickets = ends.into_iter().map(|(ticket, outcome)| {
            let given_up = outcome == Outcome::Filtered(FilterReason::SessionTakenOver);
            (ticket, if given_up { DerivedOutcome::GivenUp } else { DerivedOutcome::Kept })
        });
        self.end_receipts(tickets.collect()).await;
    }

    /// These messages are fsynced in the spool: their receipts end, they themselves do not.
    async fn spooled(&self, tickets: Vec<Ticket>) {
        let count = tickets.len() as i64;
        self.metrics.spooled_total.inc_by(tickets.len() as u64);
        self.metrics.spool_depth.add(count);
        self.end_receipts(tickets.into_iter().map(|ticket| (ticket, DerivedOutcome::Kept)).collect()).await;
    }

    /// These messages have ended, and are in the spool no more.
    fn left_the_spool(&self, topic: &str, ends: &[(Kind, Outcome)]) {
        self.count(topic, ends.iter().map(|(kind, outcome)| (*kind, outcome)));
        self.metrics.spool_depth.sub(ends.len() as i64);
    }

    /// So many rows of the spool were given up.
    pub(super) fn given_up_in_the_spool(&self, reason: DropReason, count: u64) {
        self.metrics.dropped(reason, count);
        self.metrics.spool_depth.sub(count as i64);
    }

    fn count<'a>(&self, topic: &str, ends: impl Iterator<Item = (Kind, &'a Outcome)>) {
        let mut stored = [0; Kind::ALL.len()];
        for (kind, outcome) in ends {
            match outcome {
                Outcome::Stored => {
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
