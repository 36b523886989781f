//! The jobs that the uplink has started: sends, look-ups, reads and writes. The uplink waits for all of them at once, and thus for
//! none of them. They run in the uplink's own task: a task for each would cost more than a small batch does.
//!
//! Bounds: one send, one write and one read for each lane, one look-up for each topic; removals and dead letters of what the intake
//! let in.
//! Must never: wait for a disk or compute for long, because the uplink stands still meanwhile.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::task::JoinError;

use super::attempts::Sending;
use super::batch::Ends;
use super::dead_letters::PendingDeadLetter;
use super::retry::Retry;
use crate::data_dir::TopicQueues;
use crate::model::{FailureKind, QueueName};
use crate::spool::{Appended, SpoolError, Taken};

/// In the words of `roombridge check`: the topic is there, and its own permission or that of its brokers keeps everybody from it.
const CLOSED_FOR_WRITING: &str = "no queue of it can be written to; check brokerPermission of its brokers, and its own permission and \
                                  writeQueueNums (mqadmin updateTopic)";

/// Topics whose queues have become known.
pub(super) type NewTables = Vec<(Arc<str>, TopicQueues)>;

/// One job has ended.
pub(super) enum Finished {
    Batch {
        topic: Arc<str>,
        lane_index: usize,
        ends: Ends,
    },
    Lookup {
        topic: Arc<str>,
        answer: Result<Vec<QueueName>, FailureKind>,
        retry: Retry,
    },
    /// All that were waiting when the write began.
    TablesWritten(NewTables),
    Wrote {
        topic: Arc<str>,
        lane_index: usize,
        answer: Result<Appended, SpoolError>,
    },
    Read {
        topic: Arc<str>,
        lane_index: usize,
        answer: Result<Taken, SpoolError>,
    },
    Removed,
    /// Whether the spool has room.
    Room(Result<(), SpoolError>),
    DeadLettersStored {
        topic: Arc<str>,
        pending_letters: Vec<PendingDeadLetter>,
    },
}

/// A job has panicked, with these words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Died(pub String);

/// See the head of this file.
#[derive(Default)]
pub(super) struct Jobs {
    running: FuturesUnordered<BoxFuture<'static, Result<Finished, Died>>>,
}

impl Jobs {
    /// It begins when the next end is asked for.
    pub(super) fn start(&mut self, job: impl Future<Output = Finished> + Send + 'static) {
        let caught = AssertUnwindSafe(job).catch_unwind();
        let words = |panic: Box<dyn std::any::Any + Send>| {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
        };
        self.running.push(Box::pin(caught.map(move |ended| ended.map_err(|panic| Died(words(panic))))));
    }

    /// The next job that ends; `None` if there is none. No deadline: a job that cannot end yet tries again.
    pub(super) async fn next_end(&mut self) -> Option<Result<Finished, Died>> {
        self.running.next().await
    }

    /// A job that has ended already.
    pub(super) fn take_ended(&mut self) -> Option<Result<Finished, Died>> {
        self.running.next().now_or_never().flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }
}

/// Passes the death of a job on to the task that started it: what the job held would stand still for ever. The panic was
/// logged where it happened.
pub(crate) fn die_with(job: JoinError) {
    if let Ok(panic) = job.try_into_panic() {
        std::panic::resume_unwind(panic);
    }
}

/// Asks once for the topic's queues; after a failure it waits before it answers.
pub(super) async fn look_up(sending: Arc<Sending>, topic: Arc<str>, retry: Option<Retry>) -> Finished {
    let mut retry = retry.unwrap_or_else(Retry::send);
    let answer = match sending.sink.queues(&topic).await {
        Ok(queues) if !queues.is_empty() => {
            sending.readiness.set_rocketmq_reachable(true);
            sending.readiness.set_topic_problem(&topic, None);
            Ok(queues)
        }
        Ok(_) => Err((FailureKind::NoPermission, CLOSED_FOR_WRITING.to_owned())),
        Err(error) => Err((error.kind, error.cause)),
    };
    if let Err((kind, words)) = &answer {
        let pause = retry.next_pause_after(*kind);
        sending.report_lookup(&topic, *kind, words, pause);
        tokio::time::sleep(pause).await;
    }
    Finished::Lookup { topic, answer: answer.map_err(|(kind, _)| kind), retry }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use tokio::sync::Semaphore;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::model::Sent;
    use crate::pipeline::Accepted;
    use crate::pipeline::ports::{Batch, ReadError, Sink};
    use crate::telemetry::{Metrics, Readiness};

    #[tokio::test]
    async fn a_job_that_dies_says_its_words_and_the_others_go_on() {
        let mut jobs = Jobs::default();
        jobs.start(async { panic!("no such lane: {}", 7) });
        jobs.start(async { Finished::Removed });
        assert_eq!(jobs.len(), 2);
        let first = jobs.next_end().await.unwrap();
        let ends = [first, jobs.take_ended().unwrap()];
        assert!(ends.iter().any(|end| matches!(end, Ok(Finished::Removed))));
        assert!(ends.iter().any(|end| matches!(end, Err(Died(words)) if words == "no such lane: 7")));
        assert!(jobs.next_end().await.is_none() && jobs.take_ended().is_none());
    }

    /// Its topics are there, and none of their queues can be written to.
    struct Closed;

    impl Sink for Closed {
        fn queues<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn send(&self, batch: Arc<Batch>) -> BoxFuture<'static, Vec<Sent>> {
            let answers = vec![Sent::Failed(FailureKind::NoPermission); batch.messages.len()];
            Box::pin(std::future::ready(answers))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_is_closed_for_writing_is_not_called_missing() {
        let sending = Arc::new(Sending {
            sink: Arc::new(Closed),
            metrics: Arc::new(Metrics::new(&[]).unwrap()),
            readiness: Arc::new(Readiness::default()),
            throttles: Mutex::default(),
            accept_not_durable: false,
            give_up_after: Duration::from_secs(3600),
            accepted: Accepted::default(),
            drain_permits: Arc::new(Semaphore::new(2)),
            taken_over: AtomicBool::new(false),
            stopping: CancellationToken::new(),
        });
        let Finished::Lookup { answer, .. } = look_up(sending.clone(), "room".into(), None).await else {
            panic!("a look-up ends as one");
        };
        assert_eq!(answer, Err(FailureKind::NoPermission));
        let told = sending.readiness.report().missing.join("; ");
        assert!(told.contains("topic room") && told.contains(CLOSED_FOR_WRITING), "{told}");
        assert!(!told.contains("does not exist") && !told.contains("not reachable"), "{told}");
    }

    /// `roombridge check` and the page have the same words.
    #[test]
    fn what_is_said_of_a_closed_topic_is_explained() {
        assert!(include_str!("../../docs/MESSAGES.md").contains(&format!("| `{CLOSED_FOR_WRITING}` |")));
    }
}
