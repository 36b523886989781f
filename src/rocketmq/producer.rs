//! Sends frozen batches to their message queues.
//!
//! Promises: one attempt per call, to the queue that the batch names; after a connection failure the next attempt uses a new
//! client, because an old one finds its broker again only seconds after the broker is back; one client per broker, so that
//! a broker that is away does not disturb the others.
//! Must never: retry by itself, choose a queue, or report a message as stored without SEND_OK.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cheetah_string::CheetahString;
use futures::future::BoxFuture;
use rocketmq_client_rust::{DefaultMQProducer, SendStatus};
use rocketmq_model::common::message::message_queue::MessageQueue;
use rocketmq_model::common::message::message_single::Message;

use super::admin;
use super::client::{Connector, OpenClient};
use super::failure::{kind_of, refusal_or_failure, text_of};
use super::reader::RocketMqReader;
use super::remark::{listening, with_remark};
use crate::config::RocketMqConfig;
use crate::model::{FailureKind, NotDurable, QueueName, Sent};
use crate::pipeline::ports::{Batch, OutgoingMessage, Sink};

/// Fixed by RocketMQ's message format.
const NAME_VALUE_SEPARATOR: char = '\u{1}';
const PROPERTY_SEPARATOR: char = '\u{2}';

/// A send may take so much longer than the client's own timeout, which does not cover connecting to name server and broker.
const BEYOND_SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// While a broker is away, all of its lanes try again and again. Together they build at most one client in this time.
const REBUILD_AT_MOST_EVERY: Duration = Duration::from_millis(100);

/// The [`Sink`] of a bridge: sends to all brokers of the cluster.
pub struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    config: RocketMqConfig,
    connector: Arc<Connector>,
    /// Finds the queues of a topic.
    reader: Arc<RocketMqReader>,
    brokers: Mutex<HashMap<Arc<str>, Arc<BrokerClient>>>,
}

/// The client for one broker.
#[derive(Default)]
struct BrokerClient {
    /// Locked while a client is built, so that all lanes of the broker together build one client.
    current: tokio::sync::Mutex<Current>,
}

#[derive(Default)]
struct Current {
    started: Option<Arc<StartedProducer>>,
    failed_at: Option<Instant>,
}

struct StartedProducer {
    producer: DefaultMQProducer,
    client: OpenClient,
}

impl Producer {
    pub fn new(config: RocketMqConfig, connector: Arc<Connector>, reader: Arc<RocketMqReader>) -> Self {
        Self { inner: Arc::new(Inner { config, connector, reader, brokers: Mutex::default() }) }
    }
}

impl Sink for Producer {
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, FailureKind>> {
        Box::pin(self.inner.queues(topic))
    }

    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'static, Vec<Sent>> {
        let inner = self.inner.clone();
        Box::pin(async move { inner.send(&batch).await })
    }
}

impl Inner {
    async fn queues(&self, topic: &str) -> Result<Vec<QueueName>, FailureKind> {
        match self.find_queues(topic).await {
            Err(FailureKind::TopicMissing) if self.config.create_topics => {
                tracing::info!(
                    topic,
                    queues = self.config.queues_per_new_topic,
                    "creating the RocketMQ topic"
                );
                admin::create_topic(&self.connector, topic, self.config.queues_per_new_topic).await.map_err(
                    |error| {
                        tracing::warn!(topic, %error, "could not create the RocketMQ topic");
                        FailureKind::TopicMissing
                    },
                )?;
                self.find_queues(topic).await
            }
            other => other,
        }
    }

    async fn find_queues(&self, topic: &str) -> Result<Vec<QueueName>, FailureKind> {
        self.reader.writable_queues(topic).await.map_err(|error| {
            tracing::debug!(%error, "no queues of a topic");
            error.kind
        })
    }

    async fn send(&self, batch: &Batch) -> Vec<Sent> {
        let deadline = self.config.send_timeout + BEYOND_SEND_TIMEOUT;
        let sent = tokio::time::timeout(deadline, self.send_once(batch))
            .await
            .unwrap_or(Err(Sent::Failed(FailureKind::Timeout)));
        let answer = match sent {
            Ok(status) => answer_of(status),
            Err(why) => {
                if why.failure() == Some(FailureKind::TopicMissing) && self.config.create_topics {
                    // Somebody deleted the topic. It is created again for the next attempt; this one has failed.
                    let _ = tokio::time::timeout(deadline, self.queues(&batch.topic)).await;
                }
                why
            }
        };
        // RocketMQ answers for the whole batch.
        vec![answer; batch.messages.len()]
    }

    async fn send_once(&self, batch: &Batch) -> Result<SendStatus, Sent> {
        let broker = self.broker(&batch.queue.broker);
        let started = broker.client(self).await.map_err(Sent::Failed)?;
        let topic = CheetahString::from_slice(&batch.topic);
        let messages = batch
            .messages
            .iter()
            .map(|message| to_message(&topic, message))
            .collect::<Result<Vec<_>, _>>()
            .map_err(Sent::Failed)?;
        let queue = MessageQueue::from_parts(&*batch.topic, &*batch.queue.broker, batch.queue.id);
        let (sent, remark) = with_remark(started.producer.send_batch_to_queue(messages, queue)).await;
        match sent {
            Ok(result) => Ok(result.send_status),
            Err(error) => {
                let why = refusal_or_failure(&error, remark.as_deref());
                tracing::debug!(queue = %batch.queue, ?why, error = text_of(&error), "a send failed");
                if matches!(
                    why,
                    Sent::Failed(FailureKind::Transport | FailureKind::Timeout | FailureKind::Unknown)
                ) {
                    broker.replace(&started).await;
                }
                Err(why)
            }
        }
    }

    fn broker(&self, name: &Arc<str>) -> Arc<BrokerClient> {
        let mut brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        brokers.entry(name.clone()).or_default().clone()
    }

    async fn start(&self) -> Result<StartedProducer, FailureKind> {
        let client = self.connector.open().map_err(|error| {
            tracing::error!(%error, "could not make a RocketMQ client");
            FailureKind::Unknown
        })?;
        let send_timeout_ms = u32::try_from(self.config.send_timeout.as_millis()).unwrap_or(u32::MAX);
        let builder = DefaultMQProducer::builder(client.runtime())
            .producer_group(self.config.producer_group.as_str())
            .client_config(client.client_config())
            .send_msg_timeout(send_timeout_ms)
            .retry_times_when_send_failed(0)
            .max_message_size(u32::try_from(self.config.max_message_bytes).unwrap_or(u32::MAX))
            .rpc_hook(listening(self.connector.rpc_hook()));
        let mut producer = builder.build();
        if let Err(error) = producer.start().await {
            client.close();
            return Err(kind_of(&error));
        }
        Ok(StartedProducer { producer, client })
    }
}

impl BrokerClient {
    async fn client(&self, inner: &Inner) -> Result<Arc<StartedProducer>, FailureKind> {
        let mut current = self.current.lock().await;
        if let Some(started) = &current.started {
            return Ok(started.clone());
        }
        if current.failed_at.is_some_and(|failed_at| failed_at.elapsed() < REBUILD_AT_MOST_EVERY) {
            return Err(FailureKind::Transport);
        }
        let started = Arc::new(inner.start().await?);
        current.started = Some(started.clone());
        Ok(started)
    }

    /// Closes a client that failed; the next call of [`Self::client`] builds a new one. If the old one still delivers a batch,
    /// its messages have the same ids as in the retry. Does nothing if another lane has replaced the client already.
    async fn replace(&self, failed: &Arc<StartedProducer>) {
        let mut current = self.current.lock().await;
        if current.started.as_ref().is_some_and(|current| Arc::ptr_eq(current, failed)) {
            *current = Current { started: None, failed_at: Some(Instant::now()) };
            failed.client.close();
        }
    }
}

fn to_message(topic: &CheetahString, outgoing: &OutgoingMessage) -> Result<Message, FailureKind> {
    let mut message =
        Message::builder().topic(topic.clone()).body(outgoing.body.clone()).key(outgoing.keys.as_str());
    if !outgoing.tag.is_empty() {
        message = message.tags(outgoing.tag.as_str());
    }
    if let Some((name, joined)) = joined(&outgoing.properties) {
        message = message.raw_property(name, joined).map_err(|_| FailureKind::MessageIllegal)?;
    }
    message.build().map_err(|_| FailureKind::MessageIllegal)
}

/// Joins all properties into one: its name is the first name, its value everything behind that in RocketMQ's message format
/// (name U+0001 value U+0002 name ...). The client would put them into a hash map, with an allocation for each text, and
/// then join them in the same way; that took a fifth of the bridge's processor time.
fn joined(properties: &[(Cow<'static, str>, String)]) -> Option<(CheetahString, String)> {
    let ((first_name, first_value), rest) = properties.split_first()?;
    let rest_bytes: usize = rest.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let mut joined = String::with_capacity(first_value.len() + rest_bytes);
    joined.push_str(first_value);
    for (name, value) in rest {
        joined.push(PROPERTY_SEPARATOR);
        joined.push_str(name);
        joined.push(NAME_VALUE_SEPARATOR);
        joined.push_str(value);
    }
    let first_name = match first_name {
        Cow::Borrowed(name) => CheetahString::from_static_str(name),
        Cow::Owned(name) => CheetahString::from_slice(name),
    };
    Some((first_name, joined))
}

fn answer_of(status: SendStatus) -> Sent {
    match status {
        SendStatus::SendOk => Sent::Stored,
        SendStatus::FlushDiskTimeout => Sent::NotDurable(NotDurable::FlushDiskTimeout),
        SendStatus::FlushSlaveTimeout => Sent::NotDurable(NotDurable::FlushSlaveTimeout),
        SendStatus::SlaveNotAvailable => Sent::NotDurable(NotDurable::SlaveNotAvailable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    use bytes::Bytes;
    use proptest::prelude::*;
    use rocketmq_model::common::message::message_client_id_setter::MessageClientIDSetter;
    use rocketmq_protocol::common::message::message_decoder::{
        encode_message, message_properties_to_string, str_to_message_properties,
    };

    #[test]
    fn every_property_is_in_the_message_that_the_client_writes() {
        let properties = [("mqttSecondTopic", "/message/1"), ("qoslevel", "1"), ("rbId", "a-1")];
        let outgoing = OutgoingMessage {
            tag: "message/1".to_owned(),
            keys: "1 a-1".to_owned(),
            properties: properties.map(|(name, value)| (name.into(), value.to_owned())).to_vec(),
            body: Bytes::from_static(b"hello"),
        };
        let message = to_message(&CheetahString::from_static_str("room"), &outgoing).unwrap();

        let written = message_properties_to_string(message.properties().as_map());
        let read = str_to_message_properties(Some(&written));
        let value =
            |name: &str| read.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value.as_str());
        for (name, wanted) in properties.into_iter().chain([("TAGS", "message/1"), ("KEYS", "1 a-1")]) {
            assert_eq!(value(name), Some(wanted), "{name}");
        }
    }

    /// The bytes of a message in a batch, with what the client adds on its way.
    fn encoded(outgoing: &OutgoingMessage) -> (Bytes, usize) {
        let mut message = to_message(&CheetahString::from_static_str("room"), outgoing).unwrap();
        MessageClientIDSetter::set_uniq_id(&mut message);
        let properties = message_properties_to_string(message.properties().as_map());
        (encode_message(&message), properties.len())
    }

    proptest! {
        /// A batch that is filled by these figures is refused neither by the client nor by a broker with the same limit, and a
        /// message that was found small enough has room for what they add to its properties.
        #[test]
        fn what_is_counted_is_what_the_client_writes(
            tag in ".{0,40}",
            keys in "[a-z0-9]{1,20}( [a-z0-9-]{1,40})?",
            properties in prop::collection::vec(("[a-zA-Z]{1,20}", "[^\u{1}\u{2}]{1,80}"), 0..30),
            body in prop::collection::vec(any::<u8>(), 1..500),
        ) {
            let mut names = HashSet::new();
            let properties: Vec<_> = properties
                .into_iter()
                .filter(|(name, _)| names.insert(name.clone()))
                .map(|(name, value)| (Cow::Owned(name), value))
                .collect();
            let outgoing = OutgoingMessage { tag, keys, properties, body: body.into() };
            let (bytes, properties_bytes) = encoded(&outgoing);
            let counted = outgoing.encoded_bytes();
            prop_assert!(bytes.len() <= counted, "{} bytes are counted as {counted}", bytes.len());
            prop_assert!(counted <= bytes.len() + 40, "{} bytes are counted as {counted}", bytes.len());
            // A broker adds up to 110 bytes to a message that is sent alone, and the spool 16.
            let headroom = 512 - 110 - 16;
            prop_assert!(properties_bytes <= outgoing.properties_bytes() + headroom);
        }
    }

    #[test]
    fn a_message_without_properties_of_ours_is_a_message() {
        assert_eq!(joined(&[]), None);
    }
}
