//! Sends a dead letter again, as the message that it was.
//!
//! Promises: the message keeps its id, so that readers fold it if it is stored twice; the present bindings decide where it
//! goes; each send has one message, so that an illegal one does not affect others.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::ExposeSecret;

use super::letters::RocketMq;
use crate::binding::{BindingSettings, NotStored, RuleSet, envelope_of_letter};
use crate::config::Config;
use crate::data_dir::{DataDirView, QueueTables, TopicQueues};
use crate::model::{DeadLetter, FailureKind, QueueName, Sent};
use crate::pipeline::ports::{Batch, Sink};
use crate::rocketmq::Producer;

const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// What became of one letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resent {
    /// RocketMQ stored it in this topic.
    Stored(Arc<str>),
    /// It still cannot be stored, for this reason.
    StillDead(String),
}

/// Sends letters to RocketMQ as the bridge would.
pub(crate) struct Resender {
    rules: RuleSet,
    tables: QueueTables,
    sink: Producer,
    accept_not_durable: bool,
}

impl Resender {
    pub(crate) fn new(config: &Config, rocketmq: &RocketMq) -> anyhow::Result<Self> {
        let view = DataDirView::open(&config.data_dir)?;
        let origin_key = match &config.origin.key {
            Some(key) => key.expose_secret().as_bytes().to_vec(),
            None => view.origin_key()?.with_context(|| {
                format!(
                    "{} holds no origin key, so the bridge never ran there; set data_dir, or origin.key",
                    config.data_dir.display()
                )
            })?,
        };
        let settings = BindingSettings { origin_key, max_message_bytes: config.rocketmq.max_message_bytes };
        Ok(Self {
            rules: RuleSet::compile(&config.bindings, settings)?,
            tables: view.queue_tables()?,
            sink: Producer::new(config.rocketmq.clone(), &rocketmq.connector, rocketmq.reader.clone()),
            accept_not_durable: config.rocketmq.accept_not_durable,
        })
    }

    /// Returns when RocketMQ has stored the message or can never store it. An error may be gone at the next try.
    pub(crate) async fn resend(&self, letter: &DeadLetter) -> anyhow::Result<Resent> {
        let Some(envelope) = envelope_of_letter(letter) else {
            return Ok(Resent::StillDead(format!("{:?} is no message id of ours", letter.id)));
        };
        let bound = match self.rules.bind(&envelope) {
            Ok(bound) => bound,
            Err(NotStored::Filtered(reason)) => {
                return Ok(Resent::StillDead(format!("no binding takes its topic ({reason})")));
            }
            Err(NotStored::Dead { detail, .. }) => return Ok(Resent::StillDead(detail)),
        };
        let (topic, slot) = (bound.topic.clone(), bound.slot);
        let queue = self.queue(&topic, slot).await?;
        let batch = Arc::new(Batch { topic: topic.clone(), queue, messages: vec![bound.message] });
        match self.send(batch).await {
            Ok(()) => Ok(Resent::Stored(topic)),
            Err((FailureKind::MessageIllegal, words)) => {
                Ok(Resent::StillDead(format!("RocketMQ calls it illegal ({words})")))
            }
            Err((_, words)) => bail!(
                "RocketMQ did not store {} in topic {topic} ({words}); it stays a dead letter, try again when that is over",
                letter.id,
            ),
        }
    }

    /// Tries a few times, because some failures pass. Gives the last failure, with RocketMQ's remark if there was one.
    async fn send(&self, batch: Arc<Batch>) -> Result<(), (FailureKind, String)> {
        let mut failure = Sent::Failed(FailureKind::Unknown);
        for attempt in 1..=ATTEMPTS {
            failure = match self.sink.send(batch.clone()).await.into_iter().next() {
                Some(Sent::Stored) => return Ok(()),
                Some(Sent::NotDurable(_)) if self.accept_not_durable => return Ok(()),
                Some(other) => other,
                None => Sent::Failed(FailureKind::Unknown),
            };
            if failure.failure() == Some(FailureKind::MessageIllegal) {
                break;
            }
            if attempt < ATTEMPTS {
                tokio::time::sleep(PAUSE).await;
            }
        }
        let kind = failure.failure().unwrap_or(FailureKind::Unknown);
        Err(match failure {
            Sent::Refused(refusal) => (kind, refusal.to_string()),
            Sent::Stored | Sent::NotDurable(_) | Sent::Failed(_) => (kind, kind.as_str().to_owned()),
        })
    }

    /// The queue that the bridge would use, so that the room stays in one queue.
    async fn queue(&self, topic: &str, slot: u8) -> anyhow::Result<QueueName> {
        let chosen = |table: &TopicQueues| table.queues().get(table.queue_of_slot(slot)).cloned();
        let found = match self.tables.topics.get(topic) {
            Some(table) => chosen(table),
            None => {
                let queues = self.sink.queues(topic).await.map_err(|error| {
                    anyhow::anyhow!("the queues of topic {topic} are not known: {}", error.cause)
                })?;
                if queues.is_empty() { None } else { chosen(&TopicQueues::first(queues)) }
            }
        };
        found.with_context(|| format!("topic {topic} has no queue that can be written"))
    }
}
