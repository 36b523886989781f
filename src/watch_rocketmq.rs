//! Asks RocketMQ regularly whether it answers, and how far the configured consumer groups are behind.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::config::LagConfig;
use crate::model::KnownBrokers;
use crate::pipeline::ports::Reader;
use crate::rocketmq::{ALWAYS_ASKABLE, Connector, RocketMqReader, is_there};
use crate::telemetry::{Metrics, Readiness};

const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Used until the first answer, so that the bridge is ready early.
const PROBE_AT_START_EVERY: Duration = Duration::from_millis(200);
const LAG_EVERY: Duration = Duration::from_secs(15);

/// Runs until aborted.
pub(crate) async fn watch(
    connector: Connector,
    reader: Arc<dyn Reader>,
    topics: Vec<String>,
    groups: Vec<LagConfig>,
    known_brokers: KnownBrokers,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
) {
    let topics = if topics.is_empty() { vec![ALWAYS_ASKABLE.to_owned()] } else { topics };
    let lags = RocketMqReader::new(&connector);
    tokio::join!(
        probe(&*reader, &topics, &metrics, &readiness),
        lag(&lags, &groups, known_brokers, &metrics)
    );
}

/// Sends a small request to the broker of each topic. Whatever it answers, it is there.
async fn probe(reader: &dyn Reader, topics: &[String], metrics: &Metrics, readiness: &Readiness) {
    let mut reached_once = false;
    loop {
        let mut reachable = true;
        for topic in topics {
            let failed = is_there(reader, topic).await.err();
            reachable = failed.is_none();
            if let Some(error) = failed {
                readiness.set_rocketmq_problem(error.to_string());
                // Reported at once, because each of the others may take as long to fail.
                break;
            }
        }
        readiness.set_rocketmq_reachable(reachable);
        metrics.rocketmq_connected.set(i64::from(reachable));
        reached_once |= reachable;
        tokio::time::sleep(if reached_once { PROBE_EVERY } else { PROBE_AT_START_EVERY }).await;
    }
}

async fn lag(
    reader: &RocketMqReader,
    groups: &[LagConfig],
    mut known_brokers: KnownBrokers,
    metrics: &Metrics,
) {
    let gauge = &metrics.consumer_lag;
    for LagConfig { group, topic } in groups {
        gauge.set(group, topic, None);
    }
    if groups.is_empty() {
        return;
    }
    let mut logged = HashSet::new();
    loop {
        for LagConfig { group, topic } in groups {
            let known = known_brokers.entry(topic.clone()).or_default();
            match reader.lag(group, topic, known).await {
                Ok(lag) => {
                    known.extend(lag.brokers().map(str::to_owned));
                    gauge.set(group, topic, Some(lag.messages));
                    logged.remove(&(group, topic));
                }
                Err(error) => {
                    gauge.set(group, topic, None);
                    if logged.insert((group, topic)) {
                        tracing::warn!(%error, "the lag of a consumer group is not known; asking again");
                    }
                }
            }
        }
        tokio::time::sleep(LAG_EVERY).await;
    }
}
