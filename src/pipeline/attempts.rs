//! Sends one frozen batch until each of its messages has reached its end.
//!
//! Promises: the same messages with the same ids on the same queue at each attempt, in order; a refusal is bisected,
//! so that one illegal message condemns only itself; a message that only it is refused again and again steps aside with its
//! room, and becomes a dead letter if its broker takes others; only SEND_OK counts as stored, unless the user accepts less.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::alarm::Alarm;
use super::batch::{BatchProgress, End, Ends};
use super::bisection::{Bisection, Part, Verdict};
use super::ports::{Batch, Sink};
use super::retry::Retry;
use super::trial::Accepted;
use crate::model::{DeadReason, FailureKind, FilterReason, Outcome, Refusal, Sent};
use crate::telemetry::{Metrics, Readiness};

/// The message that is to blame is looked for at this pace; a broker that refuses everything is asked no faster.
const SPLIT_PAUSE: Duration = Duration::from_millis(100);

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
    /// Which brokers take messages.
    pub accepted: Accepted,
    /// Another client has the session: nothing is tried again, because it gets the same messages.
    pub taken_over: AtomicBool,
    /// The bridge stops: what is safe in the spool is not tried again.
    pub stopping: CancellationToken,
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
        let mut course = Bisection::new(whole, slots);
        let mut retry = Retry::send();
        let mut forbidden_since: Option<tokio::time::Instant> = None;
        // Held until the first failure only: a lane that cannot send must not keep others from draining.
        let mut permit =
            if progress.is_from_spool() { self.drain_permits.acquire().await.ok() } else { None };
        while let Some(mut part) = course.next() {
            let taken_over = || self.taken_over.load(Ordering::Relaxed) && !progress.is_spooled();
            if taken_over() {
                part.end_all(&mut ends, &End::Reached(Outcome::Filtered(FilterReason::SessionTakenOver)));
                continue;
            }
            part.look(&self.accepted);
            let answers = self.attempt(&part.batch).await;
            let Some((mut rest, failure)) = self.collect(part, answers, &mut ends) else {
                continue;
            };
            permit.take();
            let kind = failure.kind;
            if kind == FailureKind::MessageIllegal {
                match rest.split() {
                    Ok(halves) => course.put_back_both(halves),
                    Err(alone) => alone.end_all(&mut ends, &End::Dead(dead_reason(kind), failure.answer)),
                }
                continue;
            }
            progress.set_cause(kind);
            if taken_over() {
                course.put_back(rest);
                continue;
            }
            let forbidden = kind == FailureKind::NoPermission;
            forbidden_since = forbidden.then(|| forbidden_since.unwrap_or_else(tokio::time::Instant::now));
            let over = forbidden_since.is_some_and(|since| since.elapsed() >= self.give_up_after);
            if over || progress.is_given_up() {
                rest.end_all(&mut ends, &End::Dead(dead_reason(kind), failure.answer));
                continue;
            }
            let verdict = rest.judge(kind, failure.answer.as_ref(), alone);
            let mut pause = retry.next_pause_after(kind);
            if verdict == Verdict::Split {
                pause = pause.min(SPLIT_PAUSE);
            }
            self.report(&rest, &failure, pause);
            match verdict {
                Verdict::Again => course.put_back(rest),
                Verdict::Split => course.split(rest),
                Verdict::Waits => course.stick(rest),
                Verdict::StepsAside => course.step_aside(rest, &mut ends),
                Verdict::IsDead => rest.end_all(&mut ends, &End::Dead(dead_reason(kind), failure.answer)),
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                () = progress.given_up() => {}
                () = self.stopped_and(progress) => break,
            }
        }
        ends
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
        if answers.iter().any(|answer| matches!(answer, Sent::Stored(_))) {
            self.accepted.note(&batch.queue.broker);
        }
        answers
    }

    /// Notes what is stored in `ends`; gives back what is not, in order, with the first cause.
    fn collect(&self, part: Part, answers: Vec<Sent>, ends: &mut Ends) -> Option<(Part, Failure)> {
        let mut first: Option<Failure> = None;
        let mut kept = Vec::new();
        let mut answers = answers.into_iter();
        for (index, place) in part.places.iter().copied().enumerate() {
            // A sink that answers for too few messages said nothing of the others.
            let answer = answers.next().unwrap_or(Sent::Failed(FailureKind::Unknown));
            let stored = match answer {
                Sent::Stored(at) => Some(at),
                Sent::NotDurable(at, why) if self.accept_not_durable => {
                    self.metrics.send_failed(FailureKind::NotDurable(why));
                    Some(at)
                }
                Sent::NotDurable(_, why) => {
                    first.get_or_insert(Failure::of(FailureKind::NotDurable(why)));
                    None
                }
                Sent::Failed(kind) => {
                    first.get_or_insert(Failure::of(kind));
                    None
                }
                Sent::Refused(refusal) => {
                    first.get_or_insert(Failure { kind: refusal.kind, answer: Some(refusal) });
                    None
                }
            };
            match (stored, ends.get_mut(place)) {
                (Some(at), Some(end)) => *end = End::Reached(Outcome::Stored(at)),
                (Some(_), None) => {}
                (None, _) => kept.push((index, place)),
            }
        }
        let Some(failure) = first else {
            self.readiness.set_rocketmq_reachable(true);
            return None;
        };
        self.metrics.send_failed(failure.kind);
        if matches!(
            failure.kind,
            FailureKind::Transport | FailureKind::Timeout | FailureKind::UnsupportedServer
        ) {
            self.readiness.set_rocketmq_reachable(false);
        }
        Some((part.keep(kept), failure))
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

    fn report(&self, part: &Part, failure: &Failure, pause: Duration) {
        let kind = failure.kind;
        if self.alarm.is_due(kind) {
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

impl Failure {
    fn of(kind: FailureKind) -> Self {
        Self { kind, answer: None }
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
        | FailureKind::Refused
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
        | FailureKind::Refused
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
        FailureKind::Refused => {
            "if RocketMQ takes other messages and never this one, it becomes a dead letter; see the broker's log"
        }
        FailureKind::UnsupportedServer => {
            "the name server is older than RocketMQ 5; put a 5.x name server in front"
        }
        FailureKind::Unknown => "an error that is not known; please report it with the debug log",
    }
}

#[cfg(test)]
#[path = "attempts_tests.rs"]
mod tests;
