//! The way back: what has ended is counted, its receipts end, its rows leave the spool. What can never be stored becomes a dead
//! letter before it ends.
//!
//! Promises: each message is settled once, after RocketMQ's SEND_OK, an fsync, a dead letter that is safe, or a counted end.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::batch::{End, Ends, InFlightBatch};
use super::dead_letters::{DeadLetters, PendingDeadLetter, report_dead};
use super::end_counters::EndCounters;
use super::jobs::Finished;
use super::lane::WriteResult;
use super::ticket::Ticket;
use crate::model::{DeadReason, DropReason, FilterReason, Kind, Outcome};
use crate::spool::{Overflow, RowKey};

/// Ends messages for the uplink, and starts the jobs that their ends need.
pub(super) struct Settlement {
    pub counters: EndCounters,
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
            self.counters.settle("", ends).await;
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
        running: &mut JoinSet<Finished>,
        topic: Arc<str>,
        (flight, ends): (InFlightBatch, Ends),
    ) {
        let (mut ended, mut dying) = (Vec::new(), Vec::new());
        for ((known, end), message) in flight.messages.into_iter().zip(ends).zip(&flight.batch.messages) {
            match end {
                // They have their end later, in the next process or in another lane.
                End::Kept | End::Aside => {}
                // It was dropped when it was to be written, and its end was counted then.
                End::Reached(_) | End::Dead(..) if known.ticket.is_none() && known.row.is_none() => {}
                End::Dead(reason, answer) => {
                    let (ticket, row) = (known.ticket, known.row);
                    dying.push(PendingDeadLetter::of(&topic, message, (reason, answer), ticket, row));
                }
                End::Reached(outcome) => ended.push((known.kind, known.ticket, known.row, outcome)),
            }
        }
        self.conclude(running, topic.clone(), ended).await;
        self.store_dead_letters(running, topic, dying);
    }

    /// A write to the spool was answered. `reason`: of what the topic's share has no room for.
    pub(super) async fn write_ended(
        &mut self,
        running: &mut JoinSet<Finished>,
        topic: Arc<str>,
        written: WriteResult,
        reason: DeadReason,
    ) {
        self.counters.spooled(written.spooled).await;
        if !written.dropped.is_empty() {
            let dropped = written.dropped.into_iter();
            let ends = dropped.map(|ticket| (ticket, Outcome::Dropped(DropReason::SpoolFull)));
            self.counters.settle(&topic, ends.collect()).await;
        }
        let dead = written.dead.into_iter();
        let dying = dead.map(|(message, ticket)| {
            PendingDeadLetter::of(&topic, &message, (reason, None), Some(ticket), None)
        });
        let dying = dying.collect();
        self.store_dead_letters(running, topic.clone(), dying);
        if let Some(finished) = written.finished_batch {
            self.batch_ended(running, topic, finished).await;
        }
    }

    /// They end when they are safe.
    pub(super) fn store_dead_letters(
        &mut self,
        running: &mut JoinSet<Finished>,
        topic: Arc<str>,
        dying: Vec<PendingDeadLetter>,
    ) {
        if dying.is_empty() {
            return;
        }
        for each in &dying {
            report_dead(&mut self.logged_dead, &each.letter);
        }
        let dead_letters = self.dead_letters.clone();
        running.spawn(async move {
            let letters = dying.iter().map(|each| each.letter.clone()).collect();
            dead_letters.put(letters).await;
            Finished::DeadLettersStored { topic, dying }
        });
    }

    pub(super) async fn dead_letters_stored(
        &self,
        running: &mut JoinSet<Finished>,
        topic: Arc<str>,
        dying: Vec<PendingDeadLetter>,
    ) {
        let ended = dying.into_iter().map(|each| {
            let outcome = Outcome::DeadLettered(each.letter.reason);
            (each.kind, each.ticket, each.row, outcome)
        });
        self.conclude(running, topic, ended.collect()).await;
    }

    /// Receipts end, and rows leave the spool.
    async fn conclude(&self, running: &mut JoinSet<Finished>, topic: Arc<str>, ended: Vec<Ended>) {
        let (mut settled, mut left, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for (kind, ticket, row, outcome) in ended {
            match ticket {
                Some(ticket) => settled.push((ticket, outcome)),
                None => left.push((kind, outcome)),
            }
            rows.extend(row);
        }
        self.counters.left_the_spool(&topic, &left);
        self.counters.settle(&topic, settled).await;
        let Some(overflow) = self.overflow.as_ref().filter(|_| !rows.is_empty()) else {
            return;
        };
        let removing = overflow.remove(topic, rows);
        running.spawn(async move {
            // What cannot be removed is sent once more by the next process, with the same id.
            let _ = removing.await;
            Finished::Removed
        });
    }
}
