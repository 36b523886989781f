//! Where messages end that can never be stored where they belong: RocketMQ's dead-letter topic, else the local store.
//!
//! Promises: when [`DeadLetters::put`] returns, each letter is stored with SEND_OK or fsynced here. One attempt goes to
//! RocketMQ; a poison message must not wait for it.
//! Must never: hold a lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::ports::{Batch, Sink};
use super::retry::Retry;
use super::ticket::Ticket;
use crate::binding;
use crate::model::{DeadLetter, DeadReason, Kind, OutgoingMessage, QueueName, Refusal, Sent};
use crate::spool::{DeadLetterStore, RowKey, SpoolError};
use crate::telemetry::Throttle;

/// For the queues of the topic and for the send, each. RocketMQ being slow must not hold the acknowledgements.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(1);

/// A disk that has not answered for so long is asked again behind another attempt at RocketMQ.
const DISK_PATIENCE: Duration = Duration::from_secs(5);

/// Stores messages that can never be stored where they belong.
pub struct DeadLetters {
    pub sink: Arc<dyn Sink>,
    /// `None`: the local store only.
    pub topic: Option<Arc<str>>,
    pub store: Arc<dyn DeadLetterStore>,
    pub max_message_bytes: usize,
    /// Spreads letters over the queues of the topic; they have no order.
    pub next_queue: AtomicUsize,
}

impl DeadLetters {
    /// Returns when all are safe. No deadline: until then nothing of it may be acknowledged.
    pub async fn put(&self, letters: Vec<DeadLetter>) {
        let mut left = self.send_to_rocketmq(letters).await;
        let mut retry = Retry::reconnect();
        let mut throttle = Throttle::default();
        while !left.is_empty() {
            match self.store_locally(left.clone()).await {
                Ok(()) => left.clear(),
                Err(error) => {
                    if throttle.is_due() {
                        tracing::error!(
                            %error,
                            letters = left.len(),
                            "dead letters cannot be kept; they are not acknowledged until they can be: make room, or \
                             let RocketMQ take them (dead_letter.topic)"
                        );
                    }
                    tokio::time::sleep(retry.next_pause()).await;
                    left = self.send_to_rocketmq(left).await;
                }
            }
        }
    }

    /// What the disk writes after it was given up is there twice, under one id.
    async fn store_locally(&self, letters: Vec<DeadLetter>) -> Result<(), SpoolError> {
        let stored = tokio::time::timeout(DISK_PATIENCE, self.store.store(letters)).await;
        stored.unwrap_or_else(|_| {
            let waited_s = DISK_PATIENCE.as_secs();
            Err(SpoolError::Full(format!("its disk has not answered for {waited_s} s")))
        })
    }

    /// Gives back what RocketMQ did not take.
    async fn send_to_rocketmq(&self, letters: Vec<DeadLetter>) -> Vec<DeadLetter> {
        let Some(topic) = &self.topic else {
            return letters;
        };
        let Some(queue) = self.queue(topic).await else {
            return letters;
        };
        let mut left = Vec::new();
        for letter in letters {
            // One by one: a letter that RocketMQ calls illegal must not take others with it.
            let Some(message) = binding::as_message(&letter, self.max_message_bytes) else {
                left.push(letter);
                continue;
            };
            let batch =
                Arc::new(Batch { topic: topic.clone(), queue: queue.clone(), messages: vec![message] });
            let answers = tokio::time::timeout(ATTEMPT_DEADLINE, self.sink.send(batch)).await;
            match answers.unwrap_or_default().first() {
                Some(Sent::Stored) => {}
                Some(Sent::NotDurable(_) | Sent::Failed(_) | Sent::Refused(_)) | None => left.push(letter),
            }
        }
        left
    }

    async fn queue(&self, topic: &str) -> Option<QueueName> {
        let queues = tokio::time::timeout(ATTEMPT_DEADLINE, self.sink.queues(topic)).await;
        let queues = queues.ok()?.ok()?;
        let next = self.next_queue.fetch_add(1, Ordering::Relaxed);
        queues.get(next % queues.len().max(1)).cloned()
    }
}

/// A message on its way to the dead letters.
#[derive(Debug)]
pub(crate) struct PendingDeadLetter {
    /// What is kept.
    pub letter: DeadLetter,
    /// Of the message; a label of metrics.
    pub kind: Kind,
    /// `None`: its receipt has ended.
    pub ticket: Option<Ticket>,
    /// Its place in the spool, if it is there.
    pub row: Option<RowKey>,
}

impl PendingDeadLetter {
    /// For a letter that is made already.
    pub(crate) fn new(letter: DeadLetter, kind: Kind, ticket: Option<Ticket>, row: Option<RowKey>) -> Self {
        Self { letter, kind, ticket, row }
    }

    /// For a message that was bound for that topic. `answer`: RocketMQ's, if it said why.
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
