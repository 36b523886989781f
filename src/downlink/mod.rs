//! The downlink: takes the messages that a follower reads from RocketMQ, turns them into MQTT messages, gives them to the
//! publisher, and tells the follower when each has ended.
//!
//! Promises: a message ends with the MQTT broker's PUBACK, as a dead letter, or filtered with a reason; each end is counted
//! once: received = published + filtered + dead-lettered + in flight. The messages of a queue are published in its order.
//! Must never: use a library of MQTT or RocketMQ, or publish a message that came from MQTT.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::binding::{DownOutcome, RuleSet, letter_of_stored};
use crate::consumer::{Item, QueuePosition};
use crate::model::{Clock, DeadReason, FilterReason, StoredMessage};
use crate::pipeline::ports::{Published, Publishing};
use crate::pipeline::{DeadLetters, die_with};
use crate::telemetry::Metrics;

/// The parts of a downlink.
pub(crate) struct DownlinkParts {
    /// Say what a stored message becomes on MQTT.
    pub rules: Arc<RuleSet>,
    /// MQTT parent topic by RocketMQ topic.
    pub parents: HashMap<String, String>,
    /// The messages that the follower reads.
    pub items: mpsc::Receiver<Item>,
    /// Tells the follower which of them have ended.
    pub ended: mpsc::UnboundedSender<QueuePosition>,
    /// Takes the messages to publish; has room for as many as the follower may have open.
    pub publisher: mpsc::Sender<Publishing>,
    /// What became of each published message, by its number.
    pub published: mpsc::UnboundedReceiver<(u64, Published)>,
    /// Takes messages that can never be published.
    pub dead_letters: Arc<DeadLetters>,
    /// Wall time, for message expiry.
    pub clock: Arc<dyn Clock>,
    /// Counts the messages.
    pub metrics: Arc<Metrics>,
}

/// The task of all downlinks, with the messages that have no end yet.
pub(crate) struct Downlink {
    parts: DownlinkParts,
    next: u64,
    open: HashMap<u64, Item>,
    letter_writes: JoinSet<(QueuePosition, DeadReason)>,
    logged: bool,
}

impl Downlink {
    /// Starts with no open message.
    pub(crate) fn new(parts: DownlinkParts) -> Self {
        Self { parts, next: 0, open: HashMap::new(), letter_writes: JoinSet::new(), logged: false }
    }

    /// Runs until the follower is gone and every message has ended, or until `stop_now`. Open messages come again after the
    /// next start.
    pub(crate) async fn run(mut self, stop_now: CancellationToken) {
        let mut following = true;
        while following || !self.open.is_empty() || !self.letter_writes.is_empty() {
            tokio::select! {
                biased;
                () = stop_now.cancelled() => return,
                published = self.parts.published.recv() => match published {
                    Some((number, published)) => self.published(number, published),
                    None => return,
                },
                Some(written) = self.letter_writes.join_next() => match written {
                    Ok((place, reason)) => {
                        self.parts.metrics.downlink.dead_lettered(reason);
                        self.end(place);
                    }
                    Err(died) => die_with(died),
                },
                item = self.parts.items.recv(), if following => match item {
                    Some(item) => self.take(item).await,
                    None => following = false,
                },
            }
        }
    }

    async fn take(&mut self, item: Item) {
        self.parts.metrics.downlink.received(item.message.body.len());
        let down = match self.parts.parents.get(&item.message.topic) {
            Some(parent) => {
                let now_ms = self.parts.clock.wall_ms();
                self.parts.rules.to_mqtt(&item.message, parent, now_ms)
            }
            // The follower reads no other topics.
            None => DownOutcome::Filtered(FilterReason::NoRule),
        };
        match down {
            DownOutcome::Publish(message) => {
                self.next += 1;
                let number = self.next;
                self.open.insert(number, item);
                let publishing = Publishing::new(number, message);
                // The publisher is gone only when the process ends.
                let _ = self.parts.publisher.send(publishing).await;
            }
            DownOutcome::Filtered(reason) => {
                self.parts.metrics.downlink.filtered(reason);
                self.end(item.place);
            }
            DownOutcome::Dead { reason, detail } => self.put_aside(item, reason, detail),
        }
    }

    fn published(&mut self, number: u64, published: Published) {
        let Some(item) = self.open.remove(&number) else {
            return;
        };
        match published {
            Published::Acknowledged => {
                self.parts.metrics.downlink.published();
                self.end(item.place);
            }
            Published::Refused(reason) => {
                let detail = format!("the MQTT broker refuses it: {reason}");
                self.put_aside(item, DeadReason::RefusedByMqtt, detail);
            }
            Published::TooLarge => {
                let detail = "it is larger than the packets that the MQTT broker takes".to_owned();
                self.put_aside(item, DeadReason::TooLargeForMqtt, detail);
            }
            Published::Expired => {
                self.parts.metrics.downlink.filtered(FilterReason::Expired);
                self.end(item.place);
            }
        }
    }

    fn put_aside(&mut self, item: Item, reason: DeadReason, detail: String) {
        self.log_first(&item.message, reason, &detail);
        let letter = letter_of_stored(&item.message, reason, detail);
        let dead_letters = self.parts.dead_letters.clone();
        self.letter_writes.spawn(async move {
            dead_letters.put(vec![letter]).await;
            (item.place, reason)
        });
    }

    fn log_first(&mut self, message: &StoredMessage, reason: DeadReason, detail: &str) {
        if !std::mem::replace(&mut self.logged, true) {
            tracing::warn!(
                topic = message.topic,
                queue = %message.queue,
                offset = message.queue_offset,
                reason = reason.as_str(),
                "a message cannot go down to MQTT and becomes a dead letter ({detail}); see `roombridge deadletter list`; \
                 further ones are only counted"
            );
        }
    }

    fn end(&self, place: QueuePosition) {
        // The follower is gone only when the process ends.
        let _ = self.parts.ended.send(place);
    }
}
