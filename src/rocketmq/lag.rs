//! Measures how far a consumer group is behind on a topic.
//!
//! Promises: gives a number only if every broker with queues of the topic has a master that answered for all of them.
//! Must never: find the brokers by the group's `%RETRY%` topic, as RocketMQ's own tools do. A gRPC group has no such topic,
//! and it disappears with a broker that is away; then no broker is asked, and the sum is 0.

use std::collections::BTreeSet;

use super::failure::meaning;
use super::reader::{MASTER, RocketMqReader, offset};
use super::remoting::{Request, Route, StatsOffsets, StatsQueue, queues_of_stats};
use crate::model::FailureKind;
use bytes::Bytes;

const SUCCESS: i32 = 0;
const GET_CONSUME_STATS: i32 = 208;

/// How far one consumer group is behind on one topic.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GroupLag {
    /// Name of the consumer group.
    pub group: String,
    /// RocketMQ topic.
    pub topic: String,
    /// Stored messages that it has not consumed yet.
    pub messages: u64,
    /// All queues of the topic.
    pub queues: Vec<QueueLag>,
}

/// How far it is behind on one queue.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct QueueLag {
    /// Name of the RocketMQ broker that owns the queue.
    pub broker: String,
    /// Number of the queue on that broker.
    pub queue_id: i32,
    /// Offset of the next message that is stored.
    pub stored_offset: u64,
    /// Offset of the next message that the group consumes.
    pub consumed_offset: u64,
}

impl GroupLag {
    /// Whether no master knows of any message that the group consumed.
    pub fn never_consumed(&self) -> bool {
        self.queues.iter().all(|queue| queue.consumed_offset == 0)
    }

    /// The brokers that answered.
    pub fn brokers(&self) -> impl Iterator<Item = &str> {
        self.queues.iter().map(|queue| queue.broker.as_str())
    }
}

/// The lag is not known.
#[derive(Debug, thiserror::Error)]
#[error("the lag of consumer group {group} on topic {topic} is not known: {cause}")]
pub struct LagError {
    /// Name of the consumer group.
    pub group: String,
    /// RocketMQ topic.
    pub topic: String,
    /// Why it is not known, for people.
    pub cause: String,
}

impl RocketMqReader {
    /// Asks all masters. `known_brokers`: the brokers that were seen to have queues of the topic. The name server forgets a
    /// broker that is away, so the present route alone could give too small a number.
    pub async fn lag(
        &self,
        group: &str,
        topic: &str,
        known_brokers: &BTreeSet<String>,
    ) -> Result<GroupLag, LagError> {
        let unknown = |cause| LagError { group: group.to_owned(), topic: topic.to_owned(), cause };
        let route = self.route(topic).await.map_err(|error| unknown(error.cause))?;
        let withheld = match self.withheld_of(topic).await {
            Ok(withheld) => withheld,
            // Who may only see a group's progress may still see it.
            Err(error) if error.kind == FailureKind::NoPermission => Vec::new(),
            Err(error) => return Err(unknown(error.cause)),
        };
        if let Some(first) = withheld.first() {
            let (count, queue) = (withheld.len(), &first.queue);
            return Err(unknown(format!(
                "RocketMQ counts nothing for {count} of its queues that have messages and that nobody may read, such as {queue}; \
                 give the topic its read queues back (mqadmin updateTopic -r)"
            )));
        }
        let mut queues = Vec::new();
        for (broker, queue_count) in brokers_of(&route, known_brokers).map_err(unknown)? {
            let stats = match master_of(&route, broker) {
                Some(master) => self.consume_stats(broker, master, group, topic).await,
                None => Err(format!("the master of broker {broker} is away")),
            };
            let stats = stats.map_err(unknown)?;
            queues.extend(queues_of(&stats, topic, broker, queue_count).map_err(unknown)?);
        }
        let behind = |queue: &QueueLag| queue.stored_offset.saturating_sub(queue.consumed_offset);
        Ok(GroupLag {
            group: group.to_owned(),
            topic: topic.to_owned(),
            messages: queues.iter().map(behind).sum(),
            queues,
        })
    }

    async fn consume_stats(
        &self,
        broker: &str,
        master: &str,
        group: &str,
        topic: &str,
    ) -> Result<Vec<(StatsQueue, StatsOffsets)>, String> {
        let fields = vec![("consumerGroup", group.into()), ("topic", topic.into())];
        let request = Request { code: GET_CONSUME_STATS, fields, body: Bytes::new() };
        let answer = self
            .ask(broker, master, request)
            .await
            .map_err(|error| format!("broker {broker}: {}", error.cause))?;
        if answer.code != SUCCESS {
            let said = meaning(answer.code, &answer.remark, &format!("Get on Group:{group}"));
            return Err(format!("broker {broker}: {said}"));
        }
        queues_of_stats(&answer.body)
            .map_err(|error| format!("the answer of broker {broker} cannot be understood: {error}"))
    }
}

/// Each broker with the topic, and its number of queues; an error if a known broker is missing.
fn brokers_of<'a>(route: &'a Route, known_brokers: &BTreeSet<String>) -> Result<Vec<(&'a str, i32)>, String> {
    let there: Vec<_> =
        route.queue_datas.iter().map(|data| (data.broker_name.as_str(), data.read_queue_nums)).collect();
    let is_there = |broker: &String| there.iter().any(|(name, _)| name == broker);
    if let Some(away) = known_brokers.iter().find(|broker| !is_there(broker)) {
        return Err(format!(
            "broker {away}, which has queues of the topic, is away; if it is gone for good, take it out of queues.json \
             and the positions in data_dir while the bridge is stopped"
        ));
    }
    if there.is_empty() {
        return Err("no broker has queues of the topic at the moment".to_owned());
    }
    Ok(there)
}

fn master_of<'a>(route: &'a Route, broker: &str) -> Option<&'a str> {
    let data = route.broker_datas.iter().find(|data| data.broker_name == broker)?;
    data.broker_addrs.get(&MASTER).map(String::as_str)
}

/// The queues of one broker's answer. An error if some are missing: the broker leaves out a topic to which the connected
/// consumers of the group do not subscribe.
fn queues_of(
    stats: &[(StatsQueue, StatsOffsets)],
    topic: &str,
    broker: &str,
    queue_count: i32,
) -> Result<Vec<QueueLag>, String> {
    let mut queues: Vec<QueueLag> = stats
        .iter()
        .filter(|(queue, _)| queue.topic == topic)
        .map(|(queue, offsets)| QueueLag {
            broker: broker.to_owned(),
            queue_id: queue.queue_id,
            stored_offset: offset(offsets.broker_offset),
            consumed_offset: offset(offsets.consumer_offset),
        })
        .collect();
    if i32::try_from(queues.len()).is_ok_and(|count| count < queue_count) {
        return Err(format!(
            "broker {broker} told of {} of {queue_count} queues; do the group's consumers subscribe to this topic?",
            queues.len()
        ));
    }
    queues.sort_by_key(|queue| queue.queue_id);
    Ok(queues)
}
