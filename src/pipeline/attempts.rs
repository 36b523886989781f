//! Sends one frozen batch until each of its messages has reached its end.
//!
//! Promises: the same messages with the same ids on the same queue at each attempt, in order; a refusal is bisected,
//! so that one illegal message condemns only itself; only SEND_OK counts as stored, unless the user accepts less.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::alarm::Alarm;
use super::ports::{Batch, OutgoingMessage, Sink};
use super::retry::Retry;
use super::ticket::Ticket;
use crate::model::{DropReason, FailureKind, FilterReason, Outcome, QueueName, Sent};
use crate::telemetry::{Metrics, Readiness};

/// What all lanes share when they send.
pub struct Sending {
    pub sink: Arc<dyn Sink>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub alarm: Alarm,
    /// Take FLUSH_DISK_TIMEOUT and its like for stored.
    pub accept_not_durable: bool,
    /// Another client has the session: nothing is tried again, because it gets the same messages.
    pub taken_over: AtomicBool,
}

/// A part of a frozen batch; `messages` and `tickets` belong together by position.
struct Part {
    batch: Arc<Batch>,
    tickets: Vec<Ticket>,
}

impl Sending {
    /// Returns when all have ended. No deadline: what cannot be stored now must not be acknowledged, and waits.
    /// (The spool will take it over here after `spool_after`.)
    pub async fn until_settled(
        &self,
        topic: Arc<str>,
        queue: QueueName,
        messages: Vec<OutgoingMessage>,
        tickets: Vec<Ticket>,
    ) -> Vec<(Ticket, Outcome)> {
        let mut ends = Vec::with_capacity(tickets.len());
        let batch = Arc::new(Batch {
            topic,
            queue,
            messages,
        });
        let mut parts = VecDeque::from([Part { batch, tickets }]);
        let mut retry = Retry::send();
        while let Some(part) = parts.pop_front() {
            let answers = self.attempt(&part.batch).await;
            let Some((rest, kind)) = self.collect(part, answers, &mut ends) else {
                continue;
            };
            if kind == FailureKind::MessageIllegal {
                match rest.split() {
                    Ok((first, second)) => {
                        parts.push_front(second);
                        parts.push_front(first);
                    }
                    Err(alone) => ends.extend(alone.refused()),
                }
                continue;
            }
            if self.taken_over.load(Ordering::Relaxed) {
                let outcome = Outcome::Filtered(FilterReason::SessionTakenOver);
                ends.extend(rest.tickets.into_iter().map(|ticket| (ticket, outcome.clone())));
                continue;
            }
            let pause = retry.next_pause_after(kind);
            self.report(&rest, kind, pause);
            parts.push_front(rest);
            tokio::time::sleep(pause).await;
        }
        ends
    }

    async fn attempt(&self, batch: &Arc<Batch>) -> Vec<Sent> {
        let started = tokio::time::Instant::now();
        let answers = self.sink.send(batch.clone()).await;
        self.metrics.send_seconds(started.elapsed().as_secs_f64());
        answers
    }

    /// Moves what is stored to `ends`; gives back what is not, in order, with the first cause.
    fn collect(
        &self,
        part: Part,
        answers: Vec<Sent>,
        ends: &mut Vec<(Ticket, Outcome)>,
    ) -> Option<(Part, FailureKind)> {
        let mut first_cause = None;
        let mut kept = Vec::new();
        let mut answers = answers.into_iter();
        for (index, ticket) in part.tickets.into_iter().enumerate() {
            // A sink that answers for too few messages said nothing of the others.
            match answers.next().unwrap_or(Sent::Failed(FailureKind::Unknown)) {
                Sent::Stored(at) => ends.push((ticket, Outcome::Stored(at))),
                Sent::NotDurable(at, why) if self.accept_not_durable => {
                    self.metrics.send_failed(FailureKind::NotDurable(why));
                    ends.push((ticket, Outcome::Stored(at)));
                }
                Sent::NotDurable(_, why) => {
                    first_cause.get_or_insert(FailureKind::NotDurable(why));
                    kept.push((index, ticket));
                }
                Sent::Failed(kind) => {
                    first_cause.get_or_insert(kind);
                    kept.push((index, ticket));
                }
            }
        }
        let Some(kind) = first_cause else {
            self.readiness.set_rocketmq_reachable(true);
            return None;
        };
        self.metrics.send_failed(kind);
        if matches!(
            kind,
            FailureKind::Transport | FailureKind::Timeout | FailureKind::UnsupportedServer
        ) {
            self.readiness.set_rocketmq_reachable(false);
        }
        Some((Part::keep(&part.batch, kept), kind))
    }

    /// The queues of a topic could not be asked for.
    pub fn report_lookup(&self, topic: &str, kind: FailureKind, pause: Duration) {
        self.metrics.send_failed(kind);
        if kind != FailureKind::TopicMissing {
            self.readiness.set_rocketmq_reachable(false);
        }
        if self.alarm.is_due(kind) {
            tracing::warn!(
                cause = kind.as_str(),
                topic,
                retry_in_ms = pause.as_millis() as u64,
                "the queues of a RocketMQ topic are not known; its messages wait and are not acknowledged: {}",
                remedy(kind)
            );
        }
    }

    fn report(&self, part: &Part, kind: FailureKind, pause: Duration) {
        if self.alarm.is_due(kind) {
            tracing::warn!(
                cause = kind.as_str(),
                topic = %part.batch.topic,
                queue = %part.batch.queue,
                messages = part.tickets.len(),
                retry_in_ms = pause.as_millis() as u64,
                "RocketMQ did not store a batch; nothing of it is acknowledged, it is sent again: {}",
                remedy(kind)
            );
        }
    }
}

impl Part {
    fn keep(batch: &Arc<Batch>, kept: Vec<(usize, Ticket)>) -> Self {
        if kept.len() == batch.messages.len() {
            return Self {
                batch: batch.clone(),
                tickets: kept.into_iter().map(|(_, ticket)| ticket).collect(),
            };
        }
        let messages = kept
            .iter()
            .filter_map(|(index, _)| batch.messages.get(*index).cloned())
            .collect();
        let batch = Batch {
            topic: batch.topic.clone(),
            queue: batch.queue.clone(),
            messages,
        };
        Self {
            batch: Arc::new(batch),
            tickets: kept.into_iter().map(|(_, ticket)| ticket).collect(),
        }
    }

    /// Two halves, or the part itself if it is a single message.
    fn split(mut self) -> Result<(Self, Self), Self> {
        if self.tickets.len() < 2 {
            return Err(self);
        }
        let middle = self.tickets.len() / 2;
        let second_tickets = self.tickets.split_off(middle);
        let half = |messages: &[OutgoingMessage]| {
            let (topic, queue) = (self.batch.topic.clone(), self.batch.queue.clone());
            Arc::new(Batch {
                topic,
                queue,
                messages: messages.to_vec(),
            })
        };
        let (first, second) = self
            .batch
            .messages
            .split_at(middle.min(self.batch.messages.len()));
        let second = Self {
            batch: half(second),
            tickets: second_tickets,
        };
        Ok((
            Self {
                batch: half(first),
                tickets: self.tickets,
            },
            second,
        ))
    }

    fn refused(self) -> impl Iterator<Item = (Ticket, Outcome)> {
        self.tickets
            .into_iter()
            .map(|ticket| (ticket, Outcome::Dropped(DropReason::RefusedByRocketmq)))
    }
}

/// What a person can do about it.
fn remedy(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Transport => {
            "no connection; check that the broker and the name servers run and are reachable"
        }
        FailureKind::Timeout => "no answer within rocketmq.send_timeout_ms; check the broker's load and disk",
        FailureKind::Busy => "the broker is busy; it is given more time",
        FailureKind::TopicMissing => "the topic does not exist; create it, or set rocketmq.create_topics",
        FailureKind::NoPermission => "not permitted; check the topic's permission and the access key",
        FailureKind::NotDurable(_) => {
            "stored less safely than configured; check the broker's disk and replicas"
        }
        FailureKind::MessageIllegal => "RocketMQ calls a message illegal; it is looked for",
        FailureKind::UnsupportedServer => {
            "the name server is older than RocketMQ 5; put a 5.x name server in front"
        }
        FailureKind::Unknown => "an error that is not known; please report it with the debug log",
    }
}

#[cfg(test)]
#[path = "attempts_tests.rs"]
mod tests;
