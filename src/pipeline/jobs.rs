//! The answers of the jobs that the uplink starts: sends, look-ups, reads and writes run in tasks of their own, so that the uplink
//! waits for none of them.

use std::sync::Arc;

use tokio::task::JoinError;

use super::attempts::Sending;
use super::batch::Ends;
use super::dead_letters::PendingDeadLetter;
use super::retry::Retry;
use crate::data_dir::TopicQueues;
use crate::model::{FailureKind, QueueName};
use crate::spool::{Appended, SpoolError, Taken};

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
    TableWritten {
        topic: Arc<str>,
        table: TopicQueues,
    },
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
            Ok(queues)
        }
        Ok(_) => Err(FailureKind::TopicMissing),
        Err(kind) => Err(kind),
    };
    if let Err(kind) = answer {
        let pause = retry.next_pause_after(kind);
        sending.report_lookup(&topic, kind, pause);
        tokio::time::sleep(pause).await;
    }
    Finished::Lookup { topic, answer, retry }
}
