//! Asks RocketMQ now and then: whether it is there, and how far the named consumer groups are behind.

use std::sync::Arc;
use std::time::Duration;

use crate::config::LagConfig;
use crate::model::FailureKind;
use crate::pipeline::ports::Reader;
use crate::rocketmq::{Admin, Connector};
use crate::telemetry::{Metrics, Readiness};

const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Until the first answer, so that readiness is not late.
const PROBE_AT_START_EVERY: Duration = Duration::from_millis(200);
const LAG_EVERY: Duration = Duration::from_secs(15);

/// Asked for where no topic stands literally in the configuration; whether it exists does not matter.
const ALWAYS_ASKABLE: &str = "TBW102";

/// Runs until aborted.
pub async fn watch(
    connector: Arc<Connector>,
    reader: Arc<dyn Reader>,
    topics: Vec<String>,
    groups: Vec<LagConfig>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
) {
    let topics = if topics.is_empty() {
        vec![ALWAYS_ASKABLE.to_owned()]
    } else {
        topics
    };
    tokio::join!(
        probe(&*reader, &topics, &metrics, &readiness),
        lag(connector, &groups, &metrics)
    );
}

/// One small request to the broker of each topic; a missing topic is an answer, too.
async fn probe(reader: &dyn Reader, topics: &[String], metrics: &Metrics, readiness: &Readiness) {
    let mut reached_once = false;
    loop {
        let mut reachable = true;
        for topic in topics {
            reachable &= is_reachable(reader, topic).await;
        }
        if !reachable {
            readiness.set_rocketmq_reachable(false);
        } else {
            readiness.set_rocketmq_reachable(true);
        }
        metrics.rocketmq_connected.set(i64::from(reachable));
        reached_once |= reachable;
        tokio::time::sleep(if reached_once {
            PROBE_EVERY
        } else {
            PROBE_AT_START_EVERY
        })
        .await;
    }
}

async fn is_reachable(reader: &dyn Reader, topic: &str) -> bool {
    match reader.queues(topic).await {
        Ok(queues) => match queues.first() {
            Some(queue) => reader.offsets(topic, queue).await.is_ok(),
            None => false,
        },
        Err(error) => error.kind == FailureKind::TopicMissing,
    }
}

async fn lag(connector: Arc<Connector>, groups: &[LagConfig], metrics: &Metrics) {
    if groups.is_empty() {
        return;
    }
    loop {
        match Admin::start(connector.clone()).await {
            Ok(admin) => {
                for LagConfig { group, topic } in groups {
                    match admin.lag(group, topic).await {
                        Ok(lag) => {
                            let messages = i64::try_from(lag.messages).unwrap_or(i64::MAX);
                            metrics
                                .consumer_lag_messages
                                .with_label_values(&[group.as_str(), topic])
                                .set(messages);
                        }
                        Err(error) => tracing::warn!(%error, "the lag of a consumer group is not known"),
                    }
                }
                admin.stop().await;
            }
            Err(error) => tracing::warn!(%error, "the lag of consumer groups is not known"),
        }
        tokio::time::sleep(LAG_EVERY).await;
    }
}
