//! Sends one frozen batch until each of its messages has reached its end.
//!
//! Promises: the same messages with the same ids on the same queue at each attempt, in order; a refusal is bisected,
//! so that one illegal message condemns only itself; a message that only it is refused again and again steps aside with its
//! room, and becomes a dead letter if its broker takes others; only SEND_OK counts as stored, unless the user accepts less.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::batch::{BatchProgress, End, Ends};
use super::bisection::{Bisection, Part, Verdict};
use super::causes::{dead_reason, remedy};
use super::ports::{Batch, Sink};
use super::retry::Retry;
use super::trial::Accepted;
use crate::model::{FailureKind, FilterReason, Outcome, Refusal, Sent};
use crate::telemetry::{Metrics, Readiness, Throttle};

/// The message that is to blame is looked for at this pace; a broker that refuses everything is asked no faster.
const SPLIT_PAUSE: Duration = Duration::from_millis(100);
const TAKEN_OVER: End = End::Reached(Outcome::Filtered(FilterReason::SessionTakenOver));

/// What all lanes share when they send.
pub struct Sending {
    pub sink: Arc<dyn Sink>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    /// For the log lines of each cause.
    pub throttles: Mutex<HashMap<FailureKind, Throttle>>,
    /// Take FLUSH_DISK_TIMEOUT and its like for stored.
    pub accept_not_durable: bool,
    /// Without permission for so long, a message becomes a dead letter.
    pub give_up_after: Duration,
    /// Batches from the spool whose first attempt runs at once, so that a drain does not starve live lanes.
    pub drain_permits: Arc<Semaphore>,
    /// Which brokers take messages.
    pub accepted: Accepted,
    /// Another client has the session: nothing is tried again, because it gets the same messages.
    pub taken_over: AtomicBool,
    /// The bridge stops: what is safe in the spool is not tried again.
    pub stopping: CancellationToken,
}

/// What the first attempt did not store, until it has ended, too.
struct Rest<'a> {
    sending: &'a Sending,
    bisection: Bisection,
    retry: Retry,
    /// Since when RocketMQ gives no permission, without a pause.
    forbidden_since: Option<tokio::time::Instant>,
    /// The lane has one slot only.
    alone: bool,
    progress: &'a BatchProgress,
    ends: Ends,
}

/// Why an attempt did not store a part.
struct Failure {
    kind: FailureKind,
    answer: Option<Refusal>,
}

impl Sending {
    /// Returns when all have ended or stepped aside. `slots`: of the messages; `alone`: their lane has one slot only, so
    /// there is nobody to step aside for. No deadline: what cannot be stored now is tried again. The uplink writes to the
    /// spool what takes longer than `spool.after_ms`, and then nobody waits for it.
    pub async fn until_ended(
        &self,
        whole: Arc<Batch>,
        slots: &[u8],
        alone: bool,
        progress: &BatchProgress,
    ) -> Ends {
        let mut ends: Ends = vec![End::Kept; whole.messages.len()];
        // Held until the first failure only: a lane that cannot send must not keep others from draining.
        let permit = if progress.is_from_spool() { self.drain_permits.acquire().await.ok() } else { None };
        if self.belongs_to_next_holder(progress) {
            ends.fill(TAKEN_OVER);
            return ends;
        }
        let answers = self.attempt(&whole).await;
        let Some((left, failure)) = self.collect(0..whole.messages.len(), answers, &mut ends) else {
            return ends;
        };
        drop(permit);
        let bisection = Bisection::new(slots.to_vec());
        let rest = Rest {
            sending: self,
            bisection,
            retry: Retry::send(),
            forbidden_since: None,
            alone,
            progress,
            ends,
        };
        rest.until_ended(Part::of_whole(whole).keep(left), failure).await
    }

    /// Another client has the session and gets these messages, too, because they are not in the spool.
    fn belongs_to_next_holder(&self, progress: &BatchProgress) -> bool {
        self.taken_over.load(Ordering::Relaxed) && !progress.is_spooled()
    }

    /// The bridge stops, and the batch is safe.
    async fn stopped_and(&self, progress: &BatchProgress) {
        self.stopping.cancelled().await;
        progress.spooled().await;
    }

    async fn attempt(&self, batch: &Arc<Batch>) -> Vec<Sent> {
        let started = tokio::time::Instant::now();
        let answers = self.sink.send(batch.clone()).await;
        self.metrics.send_seconds(started.elapsed().as_secs_f64());
        if answers.iter().any(|answer| matches!(answer, Sent::Stored)) {
            self.accepted.note(&batch.queue.broker);
            self.readiness.set_topic_problem(&batch.topic, None);
        }
        answers
    }

    /// Notes what is stored in `ends`; gives back the index and the place of what is not, in order, with the first cause.
    fn collect(
        &self,
        places: impl Iterator<Item = usize>,
        answers: Vec<Sent>,
        ends: &mut Ends,
    ) -> Option<(Vec<(usize, usize)>, Failure)> {
        let mut first: Option<Failure> = None;
        let mut kept = Vec::new();
        let mut answers = answers.into_iter();
        for (index, place) in places.enumerate() {
            // A sink that answers for too few messages said nothing of the others.
            let answer = answers.next().unwrap_or(Sent::Failed(FailureKind::Unknown));
            let failure = match answer {
                Sent::Stored => None,
                Sent::NotDurable(why) if self.accept_not_durable => {
                    self.metrics.send_failed(FailureKind::NotDurable(why));
                    None
                }
                Sent::NotDurable(why) => Some(Failure::of(FailureKind::NotDurable(why))),
                Sent::Failed(kind) => Some(Failure::of(kind)),
                Sent::Refused(refusal) => Some(Failure { kind: refusal.kind, answer: Some(refusal) }),
            };
            if let Some(failure) = failure {
                kept.push((index, place));
                first.get_or_insert(failure);
            } else if let Some(end) = ends.get_mut(place) {
                *end = End::Reached(Outcome::Stored);
            }
        }
        let Some(failure) = first else {
            self.readiness.set_rocketmq_reachable(true);
            return None;
        };
        self.metrics.send_failed(failure.kind);
        if !failure.kind.is_an_answer() {
            self.readiness.set_rocketmq_reachable(false);
        }
        Some((kept, failure))
    }

    /// Each cause is logged by itself.
    fn is_to_be_logged(&self, kind: FailureKind) -> bool {
        let mut throttles = self.throttles.lock().unwrap_or_else(PoisonError::into_inner);
        throttles.entry(kind).or_default().is_due()
    }

    /// The queues of a topic could not be asked for.
    pub fn report_lookup(&self, topic: &str, kind: FailureKind, words: &str, pause: Duration) {
        self.metrics.send_failed(kind);
        self.readiness.set_rocketmq_reachable(kind.is_an_answer());
        self.readiness.set_topic_problem(
            topic,
            kind.is_an_answer().then(|| format!("the queues of topic {topic} are not known: {words}")),
        );
        if self.is_to_be_logged(kind) {
            tracing::warn!(
                cause = kind.as_str(),
                words,
                topic,
                retry_in_ms = pause.as_millis() as u64,
                "the queues of a RocketMQ topic are not known; its messages wait: {}",
                remedy(kind)
            );
        }
    }

    fn report(&self, part: &Part, failure: &Failure, pause: Duration) {
        let kind = failure.kind;
        let topic = &part.batch.topic;
        let refused = failure.answer.as_ref().map(|answer| {
            format!("RocketMQ does not store messages of topic {topic} ({answer}): {}", remedy(kind))
        });
        self.readiness.set_topic_problem(topic, refused);
        if self.is_to_be_logged(kind) {
            tracing::warn!(
                cause = kind.as_str(),
                answer = failure.answer.as_ref().map(tracing::field::display),
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

impl Rest<'_> {
    async fn until_ended(mut self, left: Part, failure: Failure) -> Ends {
        let topic = left.batch.topic.clone();
        let mut failed = Some((left, failure));
        loop {
            if let Some((left, failure)) = failed
                && let Some(pause) = self.decide(left, failure)
                && self.is_stopped_during(pause).await
            {
                return self.ends;
            }
            let Some(part) = self.bisection.next() else {
                self.sending.readiness.set_topic_problem(&topic, None);
                return self.ends;
            };
            failed = self.attempt(part).await;
        }
    }

    /// Gives back what is not stored, with the first cause.
    async fn attempt(&mut self, mut part: Part) -> Option<(Part, Failure)> {
        if self.sending.belongs_to_next_holder(self.progress) {
            part.end_all(&mut self.ends, &TAKEN_OVER);
            return None;
        }
        part.look(&self.sending.accepted);
        let answers = self.sending.attempt(&part.batch).await;
        let places = part.places.iter().copied();
        let (left, failure) = self.sending.collect(places, answers, &mut self.ends)?;
        Some((part.keep(left), failure))
    }

    /// What becomes of a part that failed; gives the pause before the next attempt, if one is needed.
    fn decide(&mut self, mut part: Part, failure: Failure) -> Option<Duration> {
        let kind = failure.kind;
        if kind == FailureKind::MessageIllegal {
            match part.split() {
                Ok(halves) => self.bisection.put_back_both(halves),
                Err(single) => single.end_all(&mut self.ends, &failure.into_end()),
            }
            return None;
        }
        self.progress.set_cause(kind);
        if self.sending.belongs_to_next_holder(self.progress) {
            self.bisection.put_back(part);
            return None;
        }
        if self.is_forbidden_too_long(kind) || self.progress.is_given_up() {
            part.end_all(&mut self.ends, &failure.into_end());
            return None;
        }
        let verdict = part.judge(kind, failure.answer.as_ref(), self.alone);
        let mut pause = self.retry.next_pause_after(kind);
        if verdict == Verdict::Split {
            pause = pause.min(SPLIT_PAUSE);
        }
        self.sending.report(&part, &failure, pause);
        match verdict {
            Verdict::Again => self.bisection.put_back(part),
            Verdict::Split => self.bisection.split(part),
            Verdict::Waits => self.bisection.postpone(part),
            Verdict::StepsAside => self.bisection.step_aside(part, &mut self.ends),
            Verdict::IsDead => part.end_all(&mut self.ends, &failure.into_end()),
        }
        Some(pause)
    }

    fn is_forbidden_too_long(&mut self, kind: FailureKind) -> bool {
        let forbidden = kind == FailureKind::NoPermission;
        self.forbidden_since =
            forbidden.then(|| self.forbidden_since.unwrap_or_else(tokio::time::Instant::now));
        self.forbidden_since.is_some_and(|since| since.elapsed() >= self.sending.give_up_after)
    }

    /// Whether the bridge stops meanwhile with the batch safe in the spool. A batch that is given up waits no longer.
    async fn is_stopped_during(&self, pause: Duration) -> bool {
        tokio::select! {
            biased;
            () = tokio::time::sleep(pause) => false,
            () = self.progress.given_up() => false,
            () = self.sending.stopped_and(self.progress) => true,
        }
    }
}

impl Failure {
    fn of(kind: FailureKind) -> Self {
        Self { kind, answer: None }
    }

    /// It can never be stored.
    fn into_end(self) -> End {
        End::Dead(dead_reason(self.kind), self.answer)
    }
}

#[cfg(test)]
mod tests;
