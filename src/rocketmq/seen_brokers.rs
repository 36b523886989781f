//! Which brokers were seen to have queues of a topic, and which of them are away.
//!
//! The name server forgets a broker that is away, and its topics with it: what is left of a route looks like the whole.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use rocketmq_protocol::protocol::route::topic_route_data::TopicRouteData;

use super::reader::{MASTER, RocketMqReader};
use crate::model::KnownBrokers;
use crate::pipeline::ports::ReadError;

/// Those of earlier processes, and those of each route since.
#[derive(Default)]
pub(super) struct SeenBrokers(Mutex<KnownBrokers>);

impl SeenBrokers {
    pub(super) fn new(known: KnownBrokers) -> Self {
        Self(Mutex::new(known))
    }

    pub(super) fn note(&self, topic: &str, route: &TopicRouteData) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(topic.to_owned()).or_default();
        for queues in &route.queue_datas {
            if !known.contains(queues.broker_name().as_str()) {
                known.insert(queues.broker_name().to_string());
            }
        }
    }

    fn of(&self, topic: &str) -> BTreeSet<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(topic).cloned().unwrap_or_default()
    }
}

impl RocketMqReader {
    /// Brokers of the topic whose master is away.
    pub(super) async fn away_of(&self, topic: &str) -> Result<Vec<String>, ReadError> {
        let mut away = self.seen.of(topic);
        if !away.is_empty() {
            let there = self.masters(topic).await?;
            // One that is there without the topic has lost or deleted it, and has nothing to wait for.
            away.retain(|broker| !there.contains(broker));
        }
        Ok(Vec::from_iter(away))
    }

    /// The brokers whose master the name server knows, whatever topics they have.
    async fn masters(&self, topic: &str) -> Result<HashSet<String>, ReadError> {
        let what = format!("topic {topic}");
        let client = self.client(&what).await?;
        let asking = client.handle.broker_cluster_info(self.timeout_ms());
        let table = self.answer(&what, &client, asking).await?.broker_addr_table;
        let brokers = table.unwrap_or_default().into_iter();
        let with_master = brokers.filter(|(_, broker)| broker.broker_addrs().contains_key(&MASTER));
        Ok(with_master.map(|(name, _)| name.to_string()).collect())
    }
}
