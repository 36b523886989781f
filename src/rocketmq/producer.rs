//! Sends frozen batches to their message queues.
//!
//! Promises: one attempt per call, to the queue that the batch names; after a connection failure the next attempt uses a new
//! connection and asks the name server anew; a broker that is away does not disturb the others.
//! Must never: retry by itself, choose a queue, or report a message as stored without SEND_OK.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;

use super::connector::Connector;
use super::failure::{kind_of_answer, not_durable};
use super::reader::RocketMqReader;
use super::remoting::{Answer, Cluster, UniqKeys, send_request};
use crate::config::RocketMqConfig;
use crate::model::{Clock, FailureKind, QueueName, Refusal, Sent, SystemClock};
use crate::pipeline::ports::{Batch, ReadError, Sink};
use crate::telemetry::Throttle;

const SUCCESS: i32 = 0;
const MESSAGE_ILLEGAL: i32 = 13;
/// How long a send may look for its broker. Connecting and the answer have deadlines of their own.
const FIND_BROKER: Duration = Duration::from_secs(2);

/// The [`Sink`] of a bridge: sends to all brokers of the cluster.
pub struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    config: RocketMqConfig,
    cluster: Arc<Cluster>,
    ids: UniqKeys,
    clock: SystemClock,
    /// Finds the queues of a topic, and the brokers that own them.
    reader: Arc<RocketMqReader>,
    /// For the log: a topic that cannot be created again fails at each attempt.
    failed_creations: Mutex<Throttle>,
}

impl Producer {
    pub fn new(config: RocketMqConfig, connector: &Connector, reader: Arc<RocketMqReader>) -> Self {
        let cluster = connector.cluster();
        Self {
            inner: Arc::new(Inner {
                config,
                cluster,
                ids: UniqKeys::new(),
                clock: SystemClock::default(),
                reader,
                failed_creations: Mutex::default(),
            }),
        }
    }
}

impl Sink for Producer {
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        Box::pin(self.inner.queues(topic))
    }

    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'static, Vec<Sent>> {
        let inner = self.inner.clone();
        Box::pin(async move { inner.send(&batch).await })
    }
}

impl Inner {
    async fn queues(&self, topic: &str) -> Result<Vec<QueueName>, ReadError> {
        match self.find_queues(topic).await {
            Err(error) if error.kind == FailureKind::TopicMissing && self.config.create_topics => {
                tracing::info!(
                    topic,
                    queues = self.config.queues_per_new_topic,
                    "creating the RocketMQ topic"
                );
                let queues = self.config.queues_per_new_topic;
                self.reader.create_topic(topic, queues).await?;
                self.find_queues(topic).await
            }
            other => other,
        }
    }

    async fn find_queues(&self, topic: &str) -> Result<Vec<QueueName>, ReadError> {
        self.reader.writable_queues(topic).await
    }

    async fn send(&self, batch: &Batch) -> Vec<Sent> {
        let answer = self.send_once(batch).await;
        if answer.failure() == Some(FailureKind::TopicMissing) && self.config.create_topics {
            // Somebody deleted the topic. It is created again for the next attempt; this one has failed.
            self.create_again(&batch.topic).await;
        }
        // RocketMQ answers for the whole batch.
        vec![answer; batch.messages.len()]
    }

    async fn create_again(&self, topic: &str) {
        let deadline = self.config.send_timeout + FIND_BROKER;
        let why = match tokio::time::timeout(deadline, self.queues(topic)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", deadline.as_millis()),
        };
        if self.failed_creations.lock().unwrap_or_else(PoisonError::into_inner).is_due() {
            tracing::warn!(
                topic,
                why,
                "a RocketMQ topic that was deleted could not be created again; the next attempt tries it"
            );
        }
    }

    async fn send_once(&self, batch: &Batch) -> Sent {
        // Only this wait is cut short: a request that is given up in flight would leave a silent connection in use.
        let finding = self.reader.address(&batch.topic, &batch.queue);
        let Ok(found) = tokio::time::timeout(FIND_BROKER, finding).await else {
            return Sent::Failed(FailureKind::Timeout);
        };
        let address = match found {
            Ok(address) if address.is_master => address,
            Ok(replica) => {
                self.reader.distrust(&replica.broker);
                return Sent::Failed(FailureKind::Transport);
            }
            Err(error) => {
                tracing::debug!(queue = %batch.queue, %error, "no address to send to");
                return Sent::Failed(error.kind);
            }
        };
        let group = &self.config.producer_group;
        let request = match send_request(batch, group, &self.ids, self.clock.wall_ms()) {
            Ok(request) => request,
            Err(error) => return refused(MESSAGE_ILLEGAL, &error.to_string()),
        };
        let sent = match self.cluster.call(&address.broker, request).await {
            Ok(answer) => sent(&answer),
            Err(error) => {
                tracing::debug!(queue = %batch.queue, %error, "a send got no answer");
                Sent::Failed(error.kind())
            }
        };
        if sent.failure().is_some() {
            // The broker may have another master now.
            self.reader.distrust(&address.broker);
        }
        sent
    }
}

/// What an answer to a send says.
fn sent(answer: &Answer) -> Sent {
    match not_durable(answer.code) {
        Some(why) => Sent::NotDurable(why),
        None if answer.code == SUCCESS => Sent::Stored,
        None => refused(answer.code, &answer.remark),
    }
}

fn refused(code: i32, remark: &str) -> Sent {
    Sent::Refused(Refusal { kind: kind_of_answer(code, remark), code, remark: remark.into() })
}
