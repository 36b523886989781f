//! Sends one frozen batch until each of its messages has reached its end.
//!
//! Promises: the same messages with the same ids on the same queue at each attempt, in order; a refusal is bisected,
//! so that one illegal message condemns only itself; only SEND_OK counts as stored, unless the user accepts less.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::alarm::Alarm;
use super::ports::{Batch, OutgoingMessage, Sink};
use super::retry::Retry;
use crate::model::{DeadReason, FailureKind, FilterReason, Outcome, Sent};
use crate::telemetry::{Metrics, Readiness};

/// What all lanes share when they send.
pub struct Sending {
    pub sink: Arc<dyn Sink>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub alarm: Alarm,
    /// Take FLUSH_DISK_TIMEOUT and its like for stored.
    pub accept_not_durable: bool,
    /// Without permission for so long, a message becomes a dead letter.
    pub give_up_after: Duration,
    /// Batches from the spool whose first attempt runs at once, so that a drain does not starve live lanes.
    pub drain_permits: Arc<Semaphore>,
    /// Another client has the session: nothing is tried again, because it gets the same messages.
    pub taken_over: AtomicBool,
    /// The bridge stops: what is safe in the spool is not tried again.
    pub stopping: CancellationToken,
}

/// What the uplink and the attempts of one batch tell each other.
#[derive(Debug, Default)]
pub struct Progress {
    /// The batch is safe in the spool: it belongs to us, whoever has the session.
    spooled: CancellationToken,
    from_spool: bool,
    cause: Mutex<Option<FailureKind>>,
    /// What is not stored yet becomes dead letters.
    give_up: CancellationToken,
}

impl Progress {
    /// Of a batch that was read from the spool.
    pub fn from_spool() -> Self {
        let progress = Self {
            from_spool: true,
            ..Self::default()
        };
        progress.set_spooled();
        progress
    }

    pub fn set_spooled(&self) {
        self.spooled.cancel();
    }

    pub fn is_spooled(&self) -> bool {
        self.spooled.is_cancelled()
    }

    /// Why the last attempt failed, if one did.
    pub fn cause(&self) -> Option<FailureKind> {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_cause(&self, kind: FailureKind) {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(kind);
    }

    pub fn give_up(&self) {
        self.give_up.cancel();
    }
}

/// A part of a frozen batch: its messages, and their places in the whole.
struct Part {
    batch: Arc<Batch>,
    places: Vec<usize>,
}

/// The ends of a batch, by place. `None`: not stored, and kept in the spool for the next process.
pub type Ends = Vec<Option<Outcome>>;

impl Sending {
    /// Returns when all have ended. No deadline: what cannot be stored now is tried again. The uplink writes to the
    /// spool what takes longer than `spool.after_ms`, and then nobody waits for it.
    pub async fn until_settled(&self, whole: Arc<Batch>, progress: &Progress) -> Ends {
        let mut ends: Ends = vec![None; whole.messages.len()];
        let places = (0..whole.messages.len()).collect();
        let mut parts = VecDeque::from([Part { batch: whole, places }]);
        let mut retry = Retry::send();
        let mut refused_since: Option<tokio::time::Instant> = None;
        // Held until the first failure only: a lane that cannot send must not keep others from draining.
        let mut permit = if progress.from_spool {
            self.drain_permits.acquire().await.ok()
        } else {
            None
        };
        while let Some(part) = parts.pop_front() {
            let answers = self.attempt(&part.batch).await;
            let Some((rest, kind)) = self.collect(part, answers, &mut ends) else {
                continue;
            };
            permit.take();
            if kind == FailureKind::MessageIllegal {
                match rest.split() {
                    Ok((first, second)) => {
                        parts.push_front(second);
                        parts.push_front(first);
                    }
                    Err(alone) => {
                        alone.end_all(&mut ends, &Outcome::DeadLettered(DeadReason::RefusedByRocketmq))
                    }
                }
                continue;
            }
            progress.set_cause(kind);
            if self.taken_over.load(Ordering::Relaxed) && !progress.is_spooled() {
                rest.end_all(&mut ends, &Outcome::Filtered(FilterReason::SessionTakenOver));
                continue;
            }
            let refused = kind == FailureKind::NoPermission;
            refused_since = refused.then(|| refused_since.unwrap_or_else(tokio::time::Instant::now));
            let over = refused_since.is_some_and(|since| since.elapsed() >= self.give_up_after);
            if over || progress.give_up.is_cancelled() {
                rest.end_all(&mut ends, &Outcome::DeadLettered(dead_reason(kind)));
                continue;
            }
            let pause = retry.next_pause_after(kind);
            self.report(&rest, kind, pause);
            parts.push_front(rest);
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                () = progress.give_up.cancelled() => {}
                () = self.stopped_and(progress) => break,
            }
        }
        ends
    }

    /// The bridge stops, and the batch is safe.
    async fn stopped_and(&self, progress: &Progress) {
        self.stopping.cancelled().await;
        progress.spooled.cancelled().await;
    }

    async fn attempt(&self, batch: &Arc<Batch>) -> Vec<Sent> {
        let started = tokio::time::Instant::now();
        let answers = self.sink.send(batch.clone()).await;
        self.metrics.send_seconds(started.elapsed().as_secs_f64());
        answers
    }

    /// Notes what is stored in `ends`; gives back what is not, in order, with the first cause.
    fn collect(&self, part: Part, answers: Vec<Sent>, ends: &mut Ends) -> Option<(Part, FailureKind)> {
        let mut first_cause = None;
        let mut kept = Vec::new();
        let mut answers = answers.into_iter();
        for (index, place) in part.places.iter().copied().enumerate() {
            let mut end = |outcome| {
                if let Some(end) = ends.get_mut(place) {
                    *end = Some(outcome);
                }
            };
            // A sink that answers for too few messages said nothing of the others.
            match answers.next().unwrap_or(Sent::Failed(FailureKind::Unknown)) {
                Sent::Stored(at) => end(Outcome::Stored(at)),
                Sent::NotDurable(at, why) if self.accept_not_durable => {
                    self.metrics.send_failed(FailureKind::NotDurable(why));
                    end(Outcome::Stored(at));
                }
                Sent::NotDurable(_, why) => {
                    first_cause.get_or_insert(FailureKind::NotDurable(why));
                    kept.push((index, place));
                }
                Sent::Failed(kind) => {
                    first_cause.get_or_insert(kind);
                    kept.push((index, place));
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
                "the queues of a RocketMQ topic are not known; its messages wait: {}",
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
                messages = part.places.len(),
                retry_in_ms = pause.as_millis() as u64,
                "RocketMQ did not store a batch; it is sent again: {}",
                remedy(kind)
            );
        }
    }
}

impl Part {
    fn keep(batch: &Arc<Batch>, kept: Vec<(usize, usize)>) -> Self {
        if kept.len() == batch.messages.len() {
            return Self {
                batch: batch.clone(),
                places: kept.into_iter().map(|(_, place)| place).collect(),
            };
        }
        let messages = kept
            .iter()
            .filter_map(|(index, _)| batch.messages.get(*index).cloned())
            .collect();
        Self {
            batch: Self::of(batch, messages),
            places: kept.into_iter().map(|(_, place)| place).collect(),
        }
    }

    fn of(batch: &Batch, messages: Vec<OutgoingMessage>) -> Arc<Batch> {
        let (topic, queue) = (batch.topic.clone(), batch.queue.clone());
        Arc::new(Batch {
            topic,
            queue,
            messages,
        })
    }

    /// Two halves, or the part itself if it is a single message.
    fn split(mut self) -> Result<(Self, Self), Self> {
        if self.places.len() < 2 {
            return Err(self);
        }
        let middle = self.places.len() / 2;
        let places = self.places.split_off(middle);
        let (first, second) = self
            .batch
            .messages
            .split_at(middle.min(self.batch.messages.len()));
        let second = Self {
            batch: Self::of(&self.batch, second.to_vec()),
            places,
        };
        let first = Self {
            batch: Self::of(&self.batch, first.to_vec()),
            places: self.places,
        };
        Ok((first, second))
    }

    fn end_all(self, ends: &mut Ends, outcome: &Outcome) {
        for place in self.places {
            if let Some(end) = ends.get_mut(place) {
                *end = Some(outcome.clone());
            }
        }
    }
}

/// Why a message became a dead letter that RocketMQ kept refusing with that cause.
pub(super) fn dead_reason(kind: FailureKind) -> DeadReason {
    match kind {
        FailureKind::TopicMissing => DeadReason::TopicMissing,
        FailureKind::NoPermission => DeadReason::NoPermission,
        FailureKind::Transport
        | FailureKind::Timeout
        | FailureKind::Busy
        | FailureKind::NotDurable(_)
        | FailureKind::MessageIllegal
        | FailureKind::UnsupportedServer
        | FailureKind::Unknown => DeadReason::RefusedByRocketmq,
    }
}

/// Whether that cause is the topic's own, so that other topics are well.
pub(super) fn is_of_one_topic(kind: FailureKind) -> bool {
    match kind {
        FailureKind::TopicMissing | FailureKind::NoPermission => true,
        FailureKind::Transport
        | FailureKind::Timeout
        | FailureKind::Busy
        | FailureKind::NotDurable(_)
        | FailureKind::MessageIllegal
        | FailureKind::UnsupportedServer
        | FailureKind::Unknown => false,
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
