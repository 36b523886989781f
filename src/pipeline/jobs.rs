//! What the uplink has done beside itself, and the answers that come back.

use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};

use super::attempts::{End, Ends, Sending};
use super::lanes::{InFlightBatch, ReadyBatch};
use super::retry::Retry;
use super::ticket::Ticket;
use crate::binding;
use crate::data_dir::TopicQueues;
use crate::model::{DeadLetter, DeadReason, FailureKind, Kind, Outcome, OutgoingMessage, QueueName, Refusal};
use crate::spool::{Appended, RowKey, SpoolError, Taken};

/// One job has ended.
pub(super) enum Finished {
    Batch {
        topic: Arc<str>,
        queue_index: usize,
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
        queue_index: usize,
        answer: Result<Appended, SpoolError>,
    },
    Read {
        topic: Arc<str>,
        queue_index: usize,
        answer: Result<Taken, SpoolError>,
    },
    Removed,
    /// Whether the spool has room.
    Room(Result<(), SpoolError>),
    DeadLettersStored {
        topic: Arc<str>,
        dying: Vec<PendingDeadLetter>,
    },
}

/// A message on its way to the dead letters.
pub(super) struct PendingDeadLetter {
    pub letter: DeadLetter,
    pub kind: Kind,
    pub ticket: Option<Ticket>,
    pub row: Option<RowKey>,
}

impl PendingDeadLetter {
    pub(crate) fn new(letter: DeadLetter, kind: Kind, ticket: Option<Ticket>, row: Option<RowKey>) -> Self {
        Self { letter, kind, ticket, row }
    }

    /// Of a message that was bound for that topic. `answer`: RocketMQ's, if it said why.
    pub(crate) fn of(
        topic: &str,
        message: &OutgoingMessage,
        (reason, answer): (DeadReason, Option<Refusal>),
        ticket: Option<Ticket>,
        row: Option<RowKey>,
    ) -> Self {
        let detail = match answer {
            Some(answer) => format!("{}: {answer}", detail(reason)),
            None => detail(reason).to_owned(),
        };
        let letter = binding::letter_of_message(topic, message, reason, detail);
        let kind = ticket.as_ref().map_or(Kind::Other, |ticket| ticket.kind);
        Self::new(letter, kind, ticket, row)
    }
}

/// A message that has ended: its ticket if its receipt has not, its row if it is in the spool.
pub(super) type Ended = (Kind, Option<Ticket>, Option<RowKey>, Outcome);

/// What has ended of a batch, and what is to be buried first.
pub(super) fn ended_and_dead(
    topic: &str,
    flight: InFlightBatch,
    ends: Ends,
) -> (Vec<Ended>, Vec<PendingDeadLetter>) {
    let (mut ended, mut dying) = (Vec::new(), Vec::new());
    for ((held, end), message) in flight.messages.into_iter().zip(ends).zip(&flight.batch.messages) {
        match end {
            // They have their end later, in the next process or in another lane.
            End::Kept | End::Aside => {}
            // Dropped when it was to be written: its end was told then.
            End::Reached(_) | End::Dead(..) if held.ticket.is_none() && held.row.is_none() => {}
            End::Dead(reason, answer) => {
                let (ticket, row) = (held.ticket, held.row);
                dying.push(PendingDeadLetter::of(topic, message, (reason, answer), ticket, row));
            }
            End::Reached(outcome) => ended.push((held.kind, held.ticket, held.row, outcome)),
        }
    }
    (ended, dying)
}

fn detail(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::IllegalTopic => "the rule gives no legal RocketMQ topic",
        DeadReason::PropertiesTooLarge => "the properties are too large for RocketMQ",
        DeadReason::TooLarge => "the message is too large for RocketMQ",
        DeadReason::RefusedByRocketmq => "RocketMQ refused the message, alone in its batch",
        DeadReason::NoPermission => {
            "RocketMQ did not permit it for longer than dead_letter.give_up_after_s, or beyond spool.topic_bytes"
        }
        DeadReason::TopicMissing => {
            "the RocketMQ topic does not exist, and its messages filled spool.topic_bytes"
        }
        DeadReason::IllegalMqttTopic => "its MQTT topic cannot be published to",
        DeadReason::RefusedByMqtt => "the MQTT broker refuses it",
        DeadReason::TooLargeForMqtt => "it is over the MQTT broker's limit for packets",
        DeadReason::RefusedByClassroom => "the classroom's rules refuse it",
    }
}

/// Each cause is logged once; the metric counts all.
pub(super) fn report_dead(logged: &mut [bool; DeadReason::ALL.len()], letter: &DeadLetter) {
    let place = DeadReason::ALL.iter().position(|each| *each == letter.reason);
    if let Some(logged) = place.and_then(|place| logged.get_mut(place))
        && !std::mem::replace(logged, true)
    {
        tracing::warn!(
            reason = letter.reason.as_str(),
            id = letter.id,
            mqtt_topic = %beginning(&letter.mqtt_topic).escape_debug(),
            "a message cannot be stored and becomes a dead letter ({}); see `roombridge deadletter list`; this cause is \
             logged once",
            letter.detail
        );
    }
}

/// A topic can have 64 KiB; a log line should not.
fn beginning(mqtt_topic: &str) -> &str {
    const SHOWN_BYTES: usize = 200;
    mqtt_topic.get(..mqtt_topic.floor_char_boundary(SHOWN_BYTES)).unwrap_or(mqtt_topic)
}

/// Sends a batch until it is settled.
pub(super) fn start(
    running: &mut JoinSet<Finished>,
    sending: &Arc<Sending>,
    topic: Arc<str>,
    ready: ReadyBatch,
) {
    sending.metrics.batch_messages(ready.batch.messages.len());
    let sending = sending.clone();
    running.spawn(async move {
        let ends = sending.until_ended(ready.batch, &ready.slots, ready.alone, &ready.progress).await;
        Finished::Batch { topic, queue_index: ready.queue_index, ends }
    });
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
